//! One recorded command: said before it starts, its output as it comes, its end.
//!
//! A command is over when its first process is: whatever of it still runs then is killed (what left its session
//! and lost its parent, when no other command runs that it might belong to). Its output and its
//! time are bounded; past either bound it is killed, and its end says why.

use crate::Context;
use crate::bound::{self, OUTPUT_PIECE};
use crate::met::Explained;
use crate::process::{self, Start};
use crate::reaper::Role;
use crate::tail::Tail;
use api::inbox::Counts;
use base64::Engine;
use model::event::{Exit, Stream};
use model::{Event, Limits};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Most bytes that a command leaves behind in a pipe: Linux' own ceiling. What comes after that was written by a
/// process that outlived its command, and is no output of it.
const MOST_LEFT: usize = 1024 * 1024;

/// What to run.
pub struct Request {
    /// Unique in the attempt.
    pub id: String,
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Env vars beside the usual ones.
    pub env: Vec<(String, String)>,
    /// Directory.
    pub cwd: String,
    /// The tool call that asks.
    pub tool_call: Option<String>,
    /// Whether it waits until the host's journal holds its words. Not for an exec, whose run is never tried again.
    pub kept_first: bool,
    /// Whether it gets a pipe as standard input.
    pub stdin: bool,
    /// Bytes of its output's end that are kept for [`Running::tail`].
    pub keep: usize,
}

/// A command, seen by whoever wants to look at it, wait for it or end it.
pub struct Running {
    /// The end of its output.
    pub tail: RefCell<Tail>,
    why: RefCell<Option<String>>,
    killed: Notify,
    over: watch::Sender<Option<Exit>>,
    /// Limits that it met beside how it ended, as the end of a sentence.
    beside: RefCell<Vec<String>>,
    bytes: Cell<u64>,
    most_bytes: u64,
}

impl Running {
    /// Ends it; the first reason stands. Nothing happens to one that is over.
    pub fn kill(&self, why: &str) {
        self.why.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.killed.notify_one();
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.over.borrow().clone()
    }

    /// The limits that it met and did not end by; known once it is over.
    #[must_use]
    pub fn beside(&self) -> Vec<String> {
        self.beside.borrow().clone()
    }

    /// Waits until it is over and its end is recorded.
    pub async fn wait(&self) -> Exit {
        let mut over = self.over.subscribe();
        loop {
            if let Some(exit) = over.borrow_and_update().clone() {
                return exit;
            }
            if over.changed().await.is_err() {
                return Exit::Unknown;
            }
        }
    }

    /// Of `more` bytes, how many may still be kept; ends the command when that is not all.
    fn admit(&self, more: usize) -> usize {
        let left = self.most_bytes - self.bytes.get();
        let taken = left.min(more as u64);
        self.bytes.set(self.bytes.get() + taken);
        if (more as u64) > left {
            self.kill(&format!("killed: output limit {} MiB", self.most_bytes >> 20));
        }
        usize::try_from(taken).unwrap_or(more)
    }
}

/// A command that has started, and its standard input where it has one.
pub struct Begun {
    /// The command.
    pub running: Rc<Running>,
    /// Our end of its standard input.
    pub stdin: Option<pipe::Sender>,
}

/// Whether the record takes a command's own words; one it does not take must not run.
#[must_use]
pub fn is_recordable(request: &Request) -> bool {
    bound::is_recordable(&said(request))
}

fn said(request: &Request) -> Event {
    Event::Command {
        id: request.id.clone(),
        argv: request.argv.clone(),
        cwd: request.cwd.clone(),
        tool_call: request.tool_call.clone(),
    }
}

/// Says a command for the record, then starts it. One that cannot start ends as a shell would say it: 127 when there is no
/// such program, 126 when it may not be executed, with the reason as its standard error.
pub async fn begin(context: &Rc<Context>, request: Request, limits: &Limits) -> Begun {
    if request.kept_first {
        context.outbox.event_kept(said(&request)).await;
    } else {
        context.outbox.event_first(said(&request)).await;
    }
    let began = Instant::now();
    let running = Rc::new(Running {
        tail: RefCell::new(Tail::new(request.keep)),
        why: RefCell::default(),
        killed: Notify::new(),
        over: watch::Sender::new(None),
        beside: RefCell::default(),
        bytes: Cell::new(0),
        most_bytes: limits.output_mib << 20,
    });
    let start = Start {
        program: OsStr::new(&request.argv[0]),
        args: &request.argv[1..],
        env: &request.env,
        cwd: Path::new(&request.cwd),
        stdin: request.stdin,
        open_files: limits.open_files,
    };
    let met = (context.met.known(), limits.clone());
    // An exec's box ends with its one command.
    let (id, lives_on) = (request.id.clone(), request.kept_first);
    let life = Life { context: Rc::clone(context), id, began, met, lives_on, running: Rc::clone(&running) };
    match process::start(&start, Role::Command, context) {
        Ok(started) => {
            let process::Started { pid, ended, stdin, stdout, stderr } = started;
            let time = Duration::from_secs(limits.command_seconds);
            tokio::task::spawn_local(life.follow(pid, ended, stdout, stderr, time));
            Begun { running, stdin }
        }
        Err(error) => {
            life.never_started(&request, &error).await;
            Begun { running, stdin: None }
        }
    }
}

struct Life {
    context: Rc<Context>,
    id: String,
    began: Instant,
    /// The limits that it may meet, and how often they were met before.
    met: (Counts, Limits),
    /// Whether more may come after it in its box.
    lives_on: bool,
    running: Rc<Running>,
}

impl Life {
    async fn follow(
        self,
        pid: libc::pid_t,
        mut ended: tokio::sync::oneshot::Receiver<Exit>,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
        time: Duration,
    ) {
        let (over, pumped) = watch::channel(false);
        let one = tokio::task::spawn_local(self.pump(stdout, Stream::Stdout, pumped.clone()));
        let two = tokio::task::spawn_local(self.pump(stderr, Stream::Stderr, pumped));
        let late = tokio::time::sleep(time);
        tokio::pin!(late);
        let mut warned = false;
        let exit = loop {
            tokio::select! {
                exit = &mut ended => break exit.unwrap_or(Exit::Unknown),
                () = self.running.killed.notified() => self.context.reaper.kill(pid),
                () = &mut late, if !warned => {
                    warned = true;
                    self.running.kill(&format!("killed: time limit {} s", time.as_secs()));
                }
            }
        };
        over.send_replace(true);
        for pump in [one, two] {
            if let Err(error) = pump.await {
                self.context.outbox.note(format!("the output of command {} was lost: {error}", self.id)).await;
            }
        }
        let why = self.running.why.borrow().clone();
        self.end(why.map_or(exit, |why| Exit::Killed { why })).await;
    }

    /// Moves one stream until its end, or, once the command is over, until what it left in the pipe is read.
    fn pump(
        &self,
        from: pipe::Receiver,
        stream: Stream,
        mut over: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + 'static {
        let (context, running, id) = (Rc::clone(&self.context), Rc::clone(&self.running), self.id.clone());
        async move {
            let mut piece = Vec::new();
            let mut left = MOST_LEFT;
            while left > 0 {
                let ended = *over.borrow_and_update();
                match read_some(&from, &mut piece, ended) {
                    Ok(0) => return,
                    Ok(read) => {
                        if ended {
                            left = left.saturating_sub(read);
                        }
                        piece.truncate(running.admit(piece.len()));
                        if piece.is_empty() {
                            // Past the limit: read on, so that the kill is not held up by a full pipe; keep nothing.
                            tokio::task::yield_now().await;
                            continue;
                        }
                        running.tail.borrow_mut().push(&piece);
                        let data_b64 = base64::engine::general_purpose::STANDARD.encode(&piece);
                        context.outbox.event(Event::Output { id: id.clone(), stream, data_b64 }).await;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if ended {
                            return;
                        }
                        tokio::select! {
                            ready = from.readable() => if ready.is_err() { return },
                            changed = over.changed() => if changed.is_err() { return },
                        }
                    }
                    Err(_) => return,
                }
            }
        }
    }

    async fn never_started(self, request: &Request, error: &io::Error) {
        let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        let text = format!("cannot run {} in {}: {error}\n", request.argv[0], request.cwd);
        self.running.tail.borrow_mut().push(text.as_bytes());
        let data_b64 = base64::engine::general_purpose::STANDARD.encode(&text);
        self.context.outbox.event(Event::Output { id: self.id.clone(), stream: Stream::Stderr, data_b64 }).await;
        self.end(Exit::Code { code }).await;
    }

    async fn end(self, exit: Exit) {
        let took = self.began.elapsed();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (before, limits) = &self.met;
        let words = || self.running.tail.borrow().text().0;
        let Explained { exit, beside } =
            self.context.met.explain(exit, took, *before, limits, self.lives_on, words).await;
        if !beside.is_empty() {
            self.context.outbox.note(format!("command {}: {}", self.id, beside.join("; "))).await;
        }
        self.running.beside.replace(beside);
        self.context.outbox.event(Event::CommandEnd { id: self.id, exit: exit.clone(), ms }).await;
        self.running.over.send_replace(Some(exit));
    }
}

/// Reads what is there, at most one piece. When nothing more comes, the kernel itself is asked: the runtime says that a pipe
/// is empty when it has not yet heard of what is in it, and the end of a command may be heard first.
fn read_some(from: &pipe::Receiver, piece: &mut Vec<u8>, last: bool) -> io::Result<usize> {
    piece.resize(OUTPUT_PIECE, 0);
    let read = match from.try_read(piece) {
        Err(error) if last && error.kind() == io::ErrorKind::WouldBlock => {
            rustix::io::read(from.as_fd(), &mut piece[..]).map_err(io::Error::from)
        }
        read => read,
    };
    piece.truncate(*read.as_ref().unwrap_or(&0));
    read
}
