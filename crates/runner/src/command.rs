//! One recorded command: said before it starts, its output as it comes, its end.
//!
//! A command is over when its first process is: whatever of it still runs then is killed (what left its session
//! and lost its parent, when no other command runs that it might belong to). Its output and its
//! time are bounded; past either bound it is killed, and its end says why.

use crate::Context;
use crate::bearer::{self, Bearer};
use crate::bound::{self, OUTPUT_PIECE};
use crate::met::{self, Before, Explained};
use crate::process::{self, Start};
use crate::reaper::Role;
use crate::tail::Tail;
use api::delivery::Over;
use api::leases::LeaseEnd;
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
    /// The lease under which it runs, as the agent named it.
    pub lease: Option<String>,
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
    /// The end of its standard error alone: what it says of its end is not driven out by what it gives.
    errors: RefCell<Tail>,
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
        errors: RefCell::new(Tail::new(met::WORDS)),
        why: RefCell::default(),
        killed: Notify::new(),
        over: watch::Sender::new(None),
        beside: RefCell::default(),
        bytes: Cell::new(0),
        most_bytes: limits.output_mib << 20,
    });
    let met = (context.met.before(limits), limits.clone());
    let id = request.id.clone();
    // An exec is a person's.
    let for_an_agent = request.kept_first;
    let life = Life { context: Rc::clone(context), id, for_an_agent, began, met, running: Rc::clone(&running) };
    let bearer = match &request.lease {
        None => None,
        Some(lease) => match bearer::prepare(context, lease, &request.argv, &request.id).await {
            Ok(bearer) => Some(bearer),
            Err(why) => {
                life.never_started(126, format!("the command was not started: {why}\n")).await;
                return Begun { running, stdin: None };
            }
        },
    };
    let start = Start {
        program: OsStr::new(&request.argv[0]),
        args: &request.argv[1..],
        env: &request.env,
        cwd: Path::new(&request.cwd),
        stdin: request.stdin,
        open_files: limits.open_files,
        bearer: bearer.as_ref(),
    };
    match process::start(&start, Role::Command, context) {
        Ok(started) => {
            let process::Started { pid, ended, stdin, stdout, stderr } = started;
            let time = Duration::from_secs(limits.command_seconds);
            tokio::task::spawn_local(life.follow(pid, ended, [stdout, stderr], time, bearer));
            Begun { running, stdin }
        }
        Err(error) => {
            if let Some(bearer) = bearer {
                bearer.end(LeaseEnd::Failed);
            }
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let text = format!("cannot run {} in {}: {error}\n", request.argv[0], request.cwd);
            life.never_started(code, text).await;
            Begun { running, stdin: None }
        }
    }
}

struct Life {
    context: Rc<Context>,
    id: String,
    /// Whether a box's agent reads what it says, and not a person.
    for_an_agent: bool,
    began: Instant,
    /// The limits that it may meet, and what was met of them before.
    met: (Before, Limits),
    running: Rc<Running>,
}

impl Life {
    async fn follow(
        self,
        pid: libc::pid_t,
        mut ended: tokio::sync::oneshot::Receiver<Exit>,
        [stdout, stderr]: [pipe::Receiver; 2],
        time: Duration,
        bearer: Option<Bearer>,
    ) {
        let (over, pumped) = watch::channel(false);
        let of = |scrubber: &scrub::Scrubber| {
            if self.for_an_agent { scrubber.even_stream() } else { scrubber.stream() }
        };
        let scrub = || bearer.as_ref().map(|bearer| of(&bearer.scrubber));
        let one = tokio::task::spawn_local(self.pump(stdout, Stream::Stdout, pumped.clone(), scrub()));
        let two = tokio::task::spawn_local(self.pump(stderr, Stream::Stderr, pumped, scrub()));
        let exit = self.until_ended(pid, &mut ended, time, bearer.as_ref()).await;
        if bearer.is_some() {
            self.context.reaper.group_is_empty(pid).await;
        }
        over.send_replace(true);
        for pump in [one, two] {
            if let Err(error) = pump.await {
                self.context.outbox.note(format!("the output of command {} was lost: {error}", self.id)).await;
            }
        }
        let why = self.running.why.borrow().clone();
        if let Some(bearer) = bearer {
            bearer.end(match (&why, &exit) {
                (Some(_), _) => LeaseEnd::Broken,
                (None, Exit::Code { code: 0 }) => LeaseEnd::Completed,
                (None, _) => LeaseEnd::Failed,
            });
        }
        self.end(why.map_or(exit, |why| Exit::Killed { why })).await;
    }

    /// Ends it when it is to be ended; gives how its first process ended.
    async fn until_ended(
        &self,
        pid: libc::pid_t,
        ended: &mut tokio::sync::oneshot::Receiver<Exit>,
        time: Duration,
        bearer: Option<&Bearer>,
    ) -> Exit {
        let met = Rc::clone(&self.context.met);
        let late = met.passed(time);
        tokio::pin!(late);
        let lease_over = async {
            match bearer {
                Some(bearer) => bearer.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(lease_over);
        let (mut warned, mut is_held) = (false, true);
        loop {
            tokio::select! {
                exit = &mut *ended => break exit.unwrap_or(Exit::Unknown),
                () = self.running.killed.notified() => self.context.reaper.kill(pid),
                over = &mut lease_over, if is_held => {
                    is_held = false;
                    self.running.kill(match over {
                        Some(Over::TakenBack) => "killed: its lease was taken back",
                        Some(Over::Expired) => "killed: the time of its lease is over",
                        None => "killed: the gateway, through which it held its lease, is gone",
                    });
                }
                () = &mut late, if !warned => {
                    warned = true;
                    self.running.kill(&format!("killed: time limit {} s", time.as_secs()));
                }
            }
        }
    }

    /// Moves one stream until its end, or, once the command is over, until what it left in the pipe is read; scrubbed of
    /// what the command was given, before anybody is shown it.
    fn pump(
        &self,
        from: pipe::Receiver,
        stream: Stream,
        mut over: watch::Receiver<bool>,
        mut scrub: Option<scrub::Stream>,
    ) -> impl Future<Output = ()> + 'static {
        let (context, running, id) = (Rc::clone(&self.context), Rc::clone(&self.running), self.id.clone());
        async move {
            let mut piece = Vec::new();
            let mut left = MOST_LEFT;
            while left > 0 {
                let ended = *over.borrow_and_update();
                match read_some(&from, &mut piece, ended) {
                    Ok(0) => break,
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
                        match &mut scrub {
                            Some(scrub) => show(&context, &running, &id, stream, &scrub.push(&piece)).await,
                            None => show(&context, &running, &id, stream, &piece).await,
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if ended {
                            break;
                        }
                        tokio::select! {
                            ready = from.readable() => if ready.is_err() { break },
                            changed = over.changed() => if changed.is_err() { break },
                        }
                    }
                    Err(_) => break,
                }
            }
            if let Some(scrub) = scrub {
                show(&context, &running, &id, stream, &scrub.finish()).await;
            }
        }
    }

    async fn never_started(self, code: i32, text: String) {
        show(&self.context, &self.running, &self.id, Stream::Stderr, text.as_bytes()).await;
        self.end(Exit::Code { code }).await;
    }

    async fn end(self, exit: Exit) {
        let took = self.began.elapsed();
        let (before, limits) = &self.met;
        let words = || self.running.tail.borrow().text().0 + "\n" + &self.running.errors.borrow().text().0;
        let Explained { exit, beside, took } = self.context.met.explain(exit, took, before, limits, words).await;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if !beside.is_empty() {
            self.context.outbox.note(format!("command {}: {}", self.id, beside.join("; "))).await;
        }
        self.running.beside.replace(beside);
        self.context.outbox.event(Event::CommandEnd { id: self.id, exit: exit.clone(), ms }).await;
        self.running.over.send_replace(Some(exit));
    }
}

/// Keeps output for the agent and says it for the record.
async fn show(context: &Context, running: &Running, id: &str, stream: Stream, output: &[u8]) {
    // What replaces a value may be longer than it was.
    for piece in output.chunks(OUTPUT_PIECE) {
        running.tail.borrow_mut().push(piece);
        if stream == Stream::Stderr {
            running.errors.borrow_mut().push(piece);
        }
        let data_b64 = base64::engine::general_purpose::STANDARD.encode(piece);
        context.outbox.event(Event::Output { id: id.to_owned(), stream, data_b64 }).await;
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
