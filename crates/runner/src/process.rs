//! A child: started with its own walls, its own session, a clean environment, and pipes that only we hold.

use crate::Context;
use crate::reaper::Role;
use crate::walls::ChildWalls;
use crate::walls::calls::Word;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// The whole environment of the agent. A command's holds [`Context::door`] too, and what it asks for.
pub const ENVIRONMENT: [(&str, &str); 5] =
    [("PATH", "/usr/bin:/bin"), ("HOME", HOME), ("LANG", "C.UTF-8"), ("TMPDIR", "/tmp"), ("USER", "agent")];
const HOME: &str = "/tmp/home";

/// What to start.
pub struct Start<'a> {
    /// Program; without a slash it is looked up in the child's `PATH`.
    pub program: &'a OsStr,
    /// Its arguments.
    pub args: &'a [String],
    /// Env vars beside [`ENVIRONMENT`]; they win over it.
    pub env: &'a [(String, String)],
    /// Its directory.
    pub cwd: &'a Path,
    /// Whether it gets a pipe as standard input; `/dev/null` if not.
    pub stdin: bool,
    /// Its ceiling of open files.
    pub open_files: u64,
}

/// A child that runs.
pub struct Started {
    /// Its process id, which is its session's too.
    pub pid: libc::pid_t,
    /// Says how it ended, once.
    pub ended: oneshot::Receiver<model::event::Exit>,
    /// Our end of its standard input.
    pub stdin: Option<pipe::Sender>,
    /// Our end of its standard output.
    pub stdout: pipe::Receiver,
    /// Our end of its standard error.
    pub stderr: pipe::Receiver,
}

/// Starts a child behind the walls of its role; the reaper watches it from now on.
///
/// # Errors
/// The kernel's own, of whichever step: no walls, no child.
pub fn start(what: &Start<'_>, role: Role, context: &Context) -> io::Result<Started> {
    let walls: &'static ChildWalls = match role {
        Role::Agent => &context.walls.agent,
        Role::Command => &context.walls.command,
    };
    let mut command = Command::new(what.program);
    command.args(what.args).env_clear().envs(ENVIRONMENT);
    if let Role::Command = role {
        command.envs(context.door.iter().map(|(name, value)| (name, value)));
    }
    command.envs(what.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(what.cwd);
    command.stdin(if what.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let files = libc::rlimit { rlim_cur: what.open_files, rlim_max: what.open_files };
    let last = walls.word.map(|word| Execution::new(word, what)).transpose()?;
    // SAFETY: the closure makes system calls only, on values that were ready before the fork.
    unsafe {
        command.pre_exec(move || {
            last_steps(&files, walls)?;
            // What stands behind such walls is executed here: the standard library knows no word.
            last.as_ref().map_or(Ok(()), |last| Err(last.go()))
        });
    }
    let mut child = command.spawn()?;
    let pid = child.id().cast_signed();
    // In the same breath as the spawn: no await lies between, so the reaper cannot have seen it yet.
    let ended = context.reaper.watch(pid, role);
    let stdin = child.stdin.take().map(|pipe| pipe::Sender::from_owned_fd(OwnedFd::from(pipe))).transpose()?;
    let output = |pipe: Option<OwnedFd>| pipe::Receiver::from_owned_fd(pipe.ok_or(io::ErrorKind::BrokenPipe)?);
    let stdout = output(child.stdout.take().map(OwnedFd::from))?;
    let stderr = output(child.stderr.take().map(OwnedFd::from))?;
    // `child` is dropped unwaited: the reaper alone waits.
    Ok(Started { pid, ended, stdin, stdout, stderr })
}

/// An execution that says process 1's word, ready before the fork. The program is a path.
struct Execution {
    word: Word,
    program: CString,
    /// Addresses of the strings, and a null: what `execve` takes.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    /// What the addresses are of; never changed, so that they stay.
    _strings: Vec<CString>,
}

impl Execution {
    fn new(word: Word, what: &Start<'_>) -> io::Result<Self> {
        let program = CString::new(what.program.as_bytes())?;
        let arguments = std::iter::once(what.program.as_bytes()).chain(what.args.iter().map(String::as_bytes));
        let arguments = arguments.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let usual = ENVIRONMENT.iter().filter(|(name, _)| !what.env.iter().any(|(own, _)| own == name));
        let own = what.env.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs = usual.map(|(name, value)| format!("{name}={value}")).chain(own);
        let environment = pairs.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let addresses = |strings: &[CString]| strings.iter().map(|s| s.as_ptr().addr()).chain([0]).collect();
        Ok(Self {
            word,
            program,
            arguments: addresses(&arguments),
            environment: addresses(&environment),
            _strings: arguments.into_iter().chain(environment).collect(),
        })
    }

    /// Becomes the program; returns only when refused.
    fn go(&self) -> io::Error {
        self.word.execute(self.program.as_ptr(), self.arguments.as_ptr().addr(), self.environment.as_ptr().addr())
    }
}

/// Between fork and exec: no allocation, no lock.
fn last_steps(files: &libc::rlimit, walls: &ChildWalls) -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: plain system calls on values; the set is initialised before it is used.
    unsafe {
        // We block SIGCHLD to read it from a descriptor, and std hands the mask on: a shell that inherits it waits
        // for its children for ever.
        libc::sigemptyset(none.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) != 0
            || libc::setsid() < 0
            || libc::setrlimit(libc::RLIMIT_NOFILE, files) != 0
            || libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    walls.take()
}

/// Makes the children's home, for the box's user alone. A box without a writable `/tmp` has none.
pub fn make_home() {
    use std::os::unix::fs::DirBuilderExt;
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(HOME)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        eprintln!("runner: {HOME}: {error}");
    }
}
