//! A child: started with its own walls, its own session, a clean environment, and pipes that only we hold.

use crate::Context;
use crate::bearer::Bearer;
use crate::reaper::Role;
use crate::walls::ChildWalls;
use crate::walls::calls::Word;
use model::Secret;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// The whole environment of the agent. A command's holds that of [`environment`], and what it asks for.
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
    /// What its lease gives it: then that says what is executed, with which environment, and with which input.
    pub bearer: Option<&'a Bearer>,
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

/// The environment that every command begins with.
#[must_use]
pub fn environment(context: &Context) -> Vec<(String, String)> {
    let usual = ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    usual.chain(context.door.iter().cloned()).chain(context.variables.iter().cloned()).collect()
}

/// Starts a child behind the walls of its role; the reaper watches it from now on.
///
/// # Errors
/// The kernel's own, of whichever step: no walls, no child.
pub fn start(what: &Start<'_>, role: Role, context: &Context) -> io::Result<Started> {
    let of_role: &'static ChildWalls = match role {
        Role::Agent => &context.walls.agent,
        Role::Command => &context.walls.command,
    };
    let own = what.bearer.and_then(|bearer| bearer.walls.clone());
    let mut command = Command::new(what.program);
    command.args(what.args).env_clear().envs(ENVIRONMENT);
    if let Role::Command = role {
        command.envs(environment(context));
    }
    command.envs(what.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(what.cwd);
    let input = what.bearer.and_then(|bearer| bearer.stdin.as_ref()).map(OwnedFd::try_clone).transpose()?;
    command.stdin(match input {
        Some(input) => Stdio::from(input),
        None if what.stdin => Stdio::piped(),
        None => Stdio::null(),
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let files = libc::rlimit { rlim_cur: what.open_files, rlim_max: what.open_files };
    let last = match (of_role.word, what.bearer) {
        (Some(word), _) => Some(Execution::with_word(word, what)?),
        (None, Some(bearer)) => Some(Execution::of_bearer(bearer, what)?),
        (None, None) => None,
    };
    // SAFETY: the closure makes system calls only, on values that were ready before the fork.
    unsafe {
        command.pre_exec(move || {
            last_steps(&files, own.as_ref().map_or(of_role, Arc::as_ref))?;
            // What stands behind such walls is executed here: the standard library knows no word and no descriptor.
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

/// An execution that the standard library cannot make, ready before the fork.
struct Execution {
    how: How,
    program: CString,
    /// Addresses of the strings, and a null: what `execve` takes.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    /// What the addresses are of; never changed, so that they stay.
    _strings: Vec<Secret<Vec<u8>>>,
}

/// Of what, and how.
enum How {
    /// Of a path, with process 1's word.
    Word(Word),
    /// Of an open file, or, where that is a script, of its path, which nobody in the box can make another file's. What is
    /// to stay open beside it, too.
    Opened { file: OwnedFd, by_path: bool, open: Option<RawFd> },
}

/// A string that ends in a zero byte and is overwritten when it is no longer needed.
fn string(text: &[u8]) -> io::Result<Secret<Vec<u8>>> {
    CString::new(text).map(|text| Secret::new(text.into_bytes_with_nul())).map_err(io::Error::from)
}

impl Execution {
    fn with_word(word: Word, what: &Start<'_>) -> io::Result<Self> {
        let usual = ENVIRONMENT.iter().filter(|(name, _)| !what.env.iter().any(|(own, _)| own == name));
        let own = what.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self::new(How::Word(word), what, usual.map(|(name, value)| (*name, *value)).chain(own))
    }

    fn of_bearer(bearer: &Bearer, what: &Start<'_>) -> io::Result<Self> {
        let how = How::Opened {
            file: bearer.executable.file.as_fd().try_clone_to_owned()?,
            by_path: bearer.executable.is_script,
            open: bearer.open.as_ref().map(AsRawFd::as_raw_fd),
        };
        // Of two of one name the later one counts, as everywhere here.
        let environment: BTreeMap<&str, &str> =
            bearer.environment.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        let mut made = Self::new(how, what, environment.into_iter())?;
        made.program = CString::new(bearer.executable.path.as_os_str().as_bytes())?;
        Ok(made)
    }

    fn new<'a>(how: How, what: &Start<'_>, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<Self> {
        let arguments = std::iter::once(what.program.as_bytes()).chain(what.args.iter().map(String::as_bytes));
        let arguments = arguments.map(string).collect::<io::Result<Vec<_>>>()?;
        let pairs = pairs.map(|(name, value)| Secret::new(format!("{name}={value}")));
        let environment = pairs.map(|pair| string(pair.expose().as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let addresses =
            |strings: &[Secret<Vec<u8>>]| strings.iter().map(|s| s.expose().as_ptr().addr()).chain([0]).collect();
        Ok(Self {
            how,
            program: CString::new(what.program.as_bytes())?,
            arguments: addresses(&arguments),
            environment: addresses(&environment),
            _strings: arguments.into_iter().chain(environment).collect(),
        })
    }

    /// Becomes the program; returns only when refused.
    fn go(&self) -> io::Error {
        let (arguments, environment) = (self.arguments.as_ptr().addr(), self.environment.as_ptr().addr());
        match &self.how {
            How::Word(word) => word.execute(self.program.as_ptr(), arguments, environment),
            How::Opened { file, by_path, open } => {
                // SAFETY: plain system calls on descriptors of this process and on lists and strings that live as long
                // as `self`; they return only when refused, but for the first.
                unsafe {
                    if let Some(open) = open
                        && libc::fcntl(*open, libc::F_SETFD, 0) != 0
                    {
                        return io::Error::last_os_error();
                    }
                    if *by_path {
                        libc::syscall(libc::SYS_execve, self.program.as_ptr(), arguments, environment);
                    } else {
                        let (file, empty) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
                        libc::syscall(libc::SYS_execveat, file, c"".as_ptr(), arguments, environment, empty);
                    }
                }
                io::Error::last_os_error()
            }
        }
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
