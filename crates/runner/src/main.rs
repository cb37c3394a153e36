//! Process 1 of a box: takes its walls, says hello, starts the agent or one command, and records what they do.
//!
//! It has no flags: what it does comes as frames on its standard input ([`api::inbox`]), and frames are all it writes to its
//! standard output. It reaches no network but for one connection, made before its walls, to the gateway at its box's
//! door ([`mod@line`]): on it a command that has a lease is given what that is of. When the operator's end of
//! the standard input closes, everything in the box dies.
//!
//! Read [`walls`] (what it takes before anything else), [`process`] and [`reaper`] (how a child is born and
//! dies), [`command`] (one recorded command), [`bearer`] (one under a lease), then [`exec`] and [`agent`] (the two things a box can be for).

mod acp;
mod agent;
mod bearer;
mod bound;
mod boxfile;
mod branch;
mod command;
mod declared;
mod exec;
mod files;
mod line;
mod met;
mod outbox;
mod process;
mod reaper;
mod tail;
mod terminals;
mod trust;
mod walls;

use api::frame::{self, FrameError};
use api::inbox::{Done, Hello, ToRunner};
use outbox::Outbox;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// What every part of the runner shares. One thread: `Rc`, no locks.
pub struct Context {
    /// Where events go.
    pub outbox: Outbox,
    /// Where the ends of processes come from.
    pub reaper: Rc<reaper::Reaper>,
    /// What explains how commands end.
    pub met: Rc<met::Met>,
    /// The walls of children.
    pub walls: &'static walls::Walls,
    /// Env vars that every command gets: the way to the door, and trust in it.
    pub door: trust::EnvVars,
    /// The run's own authority, PEM, if it has one.
    pub authority: Option<String>,
    /// Env vars that every command gets: the literals of its profile.
    pub variables: trust::EnvVars,
    /// The way to the gateway that is this process's alone.
    pub line: Rc<line::Line>,
}

fn main() {
    // Ending a box kills every process in sight: outside a namespace of our own that would be the host's.
    if std::process::id() != 1 {
        give_up("this is process 1 of a box, started by the operator; it does nothing elsewhere");
    }
    // One thread exists. Nothing may run before the walls stand, and nobody may connect before this process.
    if let Err(why) = walls::quiet().and_then(|()| await_run()) {
        give_up(&format!("the walls cannot be taken: {why}"));
    }
    let line = line::connect().unwrap_or_else(|error| give_up(&format!("the gateway cannot be reached: {error}")));
    let walls: &'static walls::Walls = match walls::take() {
        Ok(walls) => Box::leak(Box::new(walls)),
        Err(why) => give_up(&format!("the walls cannot be taken: {why}")),
    };
    let forbidden = walls::proof::attempts();
    let hello = Hello { landlock_abi: walls.abi, forbidden };
    process::make_home();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => give_up(&format!("no runtime: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, serve(walls, line, hello));
    if let Err(why) = ended {
        give_up(&why);
    }
    std::process::exit(0);
}

/// Waits until the box has a run, and so its worktree: a rule of the walls holds for what is mounted when it is made.
fn await_run() -> Result<(), String> {
    let mut word = [0];
    // Of this one byte nothing is read ahead: what follows it is frames.
    match File::from(own(std::io::stdin().as_fd())?).read(&mut word) {
        Ok(1) if word == [api::inbox::GO] => Ok(()),
        // Nobody will ever claim this box.
        Ok(0) => std::process::exit(0),
        Ok(_) => Err("the operator's first byte is not the one that is agreed".into()),
        Err(error) => Err(format!("standard input: {error}")),
    }
}

/// Ends the box with a sentence on standard error, which the operator keeps for the record.
fn give_up(why: &str) -> ! {
    eprintln!("runner: {why}");
    std::process::exit(70)
}

async fn serve(walls: &'static walls::Walls, line: std::net::TcpStream, hello: Hello) -> Result<(), String> {
    let stdin = own(std::io::stdin().as_fd())?;
    let stdout = own(std::io::stdout().as_fd())?;
    let stdin = pipe::Receiver::from_owned_fd(stdin).map_err(|e| format!("standard input: {e}"))?;
    let stdout = pipe::Sender::from_owned_fd(stdout).map_err(|e| format!("standard output: {e}"))?;
    die_with_the_operator(own(std::io::stdin().as_fd())?)?;
    let reaper = reaper::Reaper::start().map_err(|e| format!("the reaper cannot start: {e}"))?;
    let line = line::Line::start(line).map_err(|e| format!("the connection to the gateway: {e}"))?;
    let outbox = Outbox::start(stdout);
    outbox.hello(&hello).await;
    let met = Rc::new(met::Met::new(outbox.clone()));
    let mut inbox = listen(stdin, outbox.clone(), Rc::clone(&met));
    let mut first = inbox.recv().await;
    let (mut door, mut trusted, mut variables) = (trust::EnvVars::new(), None, trust::EnvVars::new());
    if let Some(ToRunner::Trust { authority }) = first {
        door = trust::place(&authority).map_err(|e| format!("the run's authority: {e}"))?;
        trusted = Some(authority);
        first = inbox.recv().await;
    }
    if let Some(ToRunner::Variables { variables: given }) = first {
        variables = given;
        let git = std::path::Path::new(api::inbox::WORKSPACE).join(".git");
        // Whatever it is: git says it too, to whoever asks it.
        branch::name(&git, &variables).unwrap_or_else(|why| eprintln!("runner: the branch was not named: {why}"));
        first = inbox.recv().await;
    }
    let mut handle = None;
    if let Some(ToRunner::Handle { handle: given }) = first {
        handle = Some(given);
        first = inbox.recv().await;
    }
    let context = Rc::new(Context { outbox, reaper, met, walls, door, authority: trusted, variables, line });
    let done = match first {
        Some(ToRunner::Agent(task)) => agent::run(&context, task, inbox).await,
        Some(ToRunner::Exec { argv, cwd, limits, lease }) => {
            exec::run(&context, exec::Task { argv, cwd, handle, lease }, limits, inbox).await
        }
        Some(ToRunner::Cancel) => cancelled_before_start(),
        Some(
            ToRunner::Trust { .. }
            | ToRunner::Variables { .. }
            | ToRunner::Handle { .. }
            | ToRunner::Input { .. }
            | ToRunner::InputEnd
            | ToRunner::Kept { .. }
            | ToRunner::Met { .. },
        )
        | None => {
            return Err("no task and no command came first".into());
        }
    };
    context.reaper.kill_everyone().await;
    context.outbox.done(&done).await;
    Ok(())
}

fn cancelled_before_start() -> Done {
    let why = "killed: cancelled".to_owned();
    Done { exit: model::event::Exit::Killed { why }, task_done: false, reason: "cancelled".into() }
}

fn own(fd: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd, String> {
    fd.try_clone_to_owned().map_err(|e| format!("a standard descriptor cannot be duplicated: {e}"))
}

/// Ends the box when the operator's end of the input closes, also while frames before that wait to be taken.
fn die_with_the_operator(stdin: OwnedFd) -> Result<(), String> {
    // Nothing is ever urgent on a pipe: only the hang-up, which is always told, comes here.
    // SAFETY: the descriptor is owned by the registration, and stays open as long as it.
    let end = unsafe { AsyncFd::register_with_interest(stdin, Interest::PRIORITY) }
        .map_err(|e| format!("standard input: {e}"))?;
    tokio::task::spawn_local(async move {
        loop {
            match end.ready(Interest::PRIORITY).await {
                // Process 1 ends, and the kernel kills all others with it.
                Ok(ready) if ready.ready().is_read_closed() => std::process::exit(0),
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => give_up(&format!("standard input: {error}")),
            }
        }
    });
    Ok(())
}

/// Reads frames in a task of its own. What is kept is heard at once, whoever else does not take his frames.
fn listen(mut stdin: pipe::Receiver, outbox: Outbox, met: Rc<met::Met>) -> mpsc::Receiver<ToRunner> {
    let (to, from) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        loop {
            match frame::read::<ToRunner>(&mut stdin).await {
                Ok(ToRunner::Kept { events }) => outbox.are_kept(events),
                Ok(ToRunner::Met { asked, counts }) => met.hear(asked, counts),
                // A mode that no longer listens has its end under way.
                Ok(message) => drop(to.send(message).await),
                Err(FrameError::Closed) => std::process::exit(0),
                Err(error) => give_up(&format!("the operator's frames: {error}")),
            }
        }
    });
    from
}
