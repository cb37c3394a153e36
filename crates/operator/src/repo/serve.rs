//! Serving: one request of git's HTTP, answered from a repository on this host by a process that works as its owner.
//!
//! `repo-serve PATH BRANCH ROOM`, a connected socket as standard input. At the other end is the gateway, which lets a run's box read
//! the repository and push to the one branch that is the run's own; it has judged the push and listed what it changes. This
//! process reads one request, and has git's own `upload-pack` or `receive-pack` answer it, with every hook, helper and
//! transport off and nobody's configuration but the repository's, of which what could run a program is overruled.
//!
//! What is not served: a repository that borrows from elsewhere (it would be a way to read there; [`super::whole`]), references that are
//! no branches or tags (a stash is nobody's to see), and any update but one of BRANCH.
//!
//! | module | what |
//! |---|---|
//! | `shown` | what a box may know of the repository |
//! | `asked` | a fetch, before git has it |
//! | `pushed` | a push, before git has it |
//! | `lines` | git's lines |
//!
//! Read [`serve_main`] (the process), [`Request::read`], then [`Served`] (the operator's side).

use super::git::{Git, missing, taken};
use super::owner::become_owner;
use super::rein::{self, Rein};
use super::whole::is_whole;
use super::{Problem, close};
use pushed::{Pushed, has_room, update_of};
use rustix::process::{Resource, Rlimit};
use shown::Shown;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

mod asked;
mod lines;
mod pushed;
mod shown;

/// Longest head of a request, in bytes.
const MAX_HEAD: u64 = 8 * 1024;
/// Longest body, in bytes: what the gateway takes from a box, and its own words around it.
const MAX_BODY: u64 = (64 << 20) + (1 << 20);
/// Longest body of a box's fetch, in bytes: what the gateway takes of one.
const MAX_ASKED: u64 = 8 << 20;
/// Longest file that a push may leave in the repository, in bytes.
const MAX_FILE: u64 = 128 << 20;
/// What a run's box may send in pushes, in bytes; what several send at once may pass it by as much as each is long.
const OF_ITS_PUSHES: u64 = 512 << 20;
/// Seconds of processor time for one request.
const CPU_SECS: u64 = 300;
/// How long the gateway may stand still.
const STILL: Duration = Duration::from_secs(60);
/// How long one request may take in all.
const WHOLE: Duration = Duration::from_secs(600);
/// Requests of one run that are answered at once.
const OF_A_RUN: usize = 4;
/// Requests of all runs that are answered at once, beside one of each: no run waits for what others leave standing.
const BESIDE: usize = 16;
static OF_ALL: Semaphore = Semaphore::const_new(BESIDE);
/// Bytes of git's that go on at once.
const PIECE: usize = 32 * 1024;

/// The serving process. Arguments: the repository's path, the branch that may be pushed, without `refs/heads/`, and how many
/// bytes a push may have. Of a push that begins it says the length, in bytes, on its standard output.
pub fn serve_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    close(match &args[..] {
        [path, branch, room] => stdin().and_then(|socket| {
            let room = room.to_str().and_then(|room| room.parse().ok());
            let room = room.ok_or_else(|| Problem::new("repo.usage", "how long may a push be?"))?;
            served(Path::new(path), &branch.to_string_lossy(), room, socket)
        }),
        _ => Err(Problem::new("repo.usage", "which repository and branch, and how long may a push be?")),
    })
}

fn stdin() -> Result<UnixStream, Problem> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(Problem::io("take the gateway's socket"))?;
    let socket = UnixStream::from(socket);
    let still = socket.set_read_timeout(Some(STILL)).and_then(|()| socket.set_write_timeout(Some(STILL)));
    still.map_err(Problem::io("bound the gateway's socket"))?;
    Ok(socket)
}

/// Answers one request; where nothing is served, with a sentence for the box that names nothing of this host.
fn served(path: &Path, branch: &str, room: u64, socket: UnixStream) -> Result<(), Problem> {
    let mut out = socket.try_clone().map_err(Problem::io("answer the gateway"))?;
    let done = answer(path, branch, room, socket, &mut out);
    if let Err(problem) = &done
        && !matches!(problem.code.as_str(), "repo.cut")
    {
        let why = match problem.code.as_str() {
            "repo.borrows" | "repo.elsewhere" | "repo.branch" | "repo.room" | "repo.form" | "repo.unshown"
            | "repo.unsent" => problem.message.as_str(),
            _ => "The run's repository on its host cannot be served; the log there says why.",
        };
        let head = format!("HTTP/1.1 409 Conflict\r\n{WHY}: {why}\r\nContent-Length: 0\r\n\r\n", WHY = api::git::WHY);
        out.write_all(head.as_bytes()).map_err(Problem::io("answer the gateway"))?;
    }
    done
}

fn answer(path: &Path, branch: &str, room: u64, socket: UnixStream, out: &mut UnixStream) -> Result<(), Problem> {
    let path = become_owner(path)?;
    bound()?;
    let mut from = BufReader::new(socket);
    let request = Request::read(&mut from)?;
    let git = Git::open(&path)?;
    is_whole(&git, &path)?;
    let shown =
        || Shown::of(command(&git, &Request { service: Service::Upload, is_post: false, two: false, length: 0 })?);
    let (mut head, mut rest): (Vec<u8>, Box<dyn Read + Send>) = (Vec::new(), Box::new(io::empty()));
    // Held until the answer is given.
    let mut _apart = None;
    if request.is_post && request.service == Service::Receive {
        let (updates, new) = update_of(&mut from, branch)?;
        if git.run(&["symbolic-ref", "--quiet", &format!("refs/heads/{branch}")])?.status.success() {
            return Err(Problem::new("repo.branch", "The branch stands for another one here, and is not pushed to."));
        }
        has_room(&git, request.length, room)?;
        // Also of what is refused later: what it leaves behind then is not looked for.
        writeln!(io::stdout(), "{}", request.length).map_err(Problem::io("say how long the push is"))?;
        let length = request.length.saturating_sub(updates.len() as u64);
        let pushed = Pushed::set_apart(&git, &shown()?, &new, from.take(length))?;
        (head, rest) = (updates, Box::new(pushed.read()?));
        _apart = Some(pushed);
    } else if request.is_post && request.two {
        // The gateway's own question: whether a push stands on what is shown is looked at when it comes.
        rest = Box::new(from.take(request.length));
    } else if request.is_post {
        if request.length > MAX_ASKED {
            return Err(Problem::new("repo.form", "This is more than git asks for at once."));
        }
        let mut body = Vec::new();
        from.take(request.length)
            .read_to_end(&mut body)
            .map_err(|_| Problem::new("repo.form", "The fetch broke off."))?;
        head = asked::judged(&git, shown, &body)?;
    }
    let mut command = command(&git, &request)?;
    command.stdin(if request.is_post { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(missing)?;
    let feeder = child.stdin.take().map(|mut stdin| {
        std::thread::spawn(move || {
            // A git that ended meanwhile reads no more, and its end says enough.
            drop(stdin.write_all(&head).and_then(|()| io::copy(&mut rest, &mut stdin)));
        })
    });
    let mut said = taken(child.stdout.take())?;
    let mut words = taken(child.stderr.take())?;
    let listener = std::thread::spawn(move || super::git::bounded(&mut words, 16 * 1024).unwrap_or_default());
    let begun = pass_on(&mut said, &request, out);
    drop(said);
    let status = child.wait().map_err(Problem::io("wait for git"))?;
    let words = listener.join().unwrap_or_default();
    if begun? {
        // Whoever feeds it waits for the gateway, which has its answer.
        drop(feeder);
        return Ok(());
    }
    Err(Problem::new(
        "git.failed",
        format!("git said nothing, and ended with {status}: {}", super::git::last_words(&words)),
    ))
}

/// What this process, and what it starts, may use. Below everything that a person does on this host.
///
/// # Errors
/// The system's own.
pub fn bound() -> Result<(), Problem> {
    let limit = |resource, most| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).map_err(|e| Problem::io("bound the service")(e.into()))
    };
    limit(Resource::Fsize, MAX_FILE)?;
    limit(Resource::Cpu, CPU_SECS)?;
    rustix::process::nice(10).map(drop).map_err(|e| Problem::io("give way to others")(e.into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Upload,
    Receive,
}

impl Service {
    fn word(self) -> &'static str {
        match self {
            Self::Upload => "upload-pack",
            Self::Receive => "receive-pack",
        }
    }
}

/// One request, as the gateway writes them.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    service: Service,
    is_post: bool,
    /// Version 2 of the protocol.
    two: bool,
    /// Bytes of the body.
    length: u64,
}

impl Request {
    fn read(from: &mut impl BufRead) -> Result<Self, Problem> {
        let form = || Problem::new("repo.form", "This is no request that a repository is served by.");
        let mut from = from.take(MAX_HEAD);
        let mut line = || {
            let mut line = String::new();
            from.read_line(&mut line).map_err(|_| form())?;
            line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(form)
        };
        let first = line()?;
        let (service, is_post) = match first.strip_suffix(" HTTP/1.1").ok_or_else(form)? {
            "GET /info/refs?service=git-upload-pack" => (Service::Upload, false),
            "GET /info/refs?service=git-receive-pack" => (Service::Receive, false),
            "POST /git-upload-pack" => (Service::Upload, true),
            "POST /git-receive-pack" => (Service::Receive, true),
            _ => return Err(form()),
        };
        let (mut two, mut length) = (false, 0);
        loop {
            let line = line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or_else(form)?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_err(|_| form())?,
                "git-protocol" => two = value == "version=2",
                "transfer-encoding" | "content-encoding" | "expect" => return Err(form()),
                _ => {}
            }
        }
        if length > MAX_BODY || (length > 0) != is_post {
            return Err(form());
        }
        Ok(Self { service, is_post, two, length })
    }

    fn kind(&self) -> String {
        let end = if self.is_post { "result" } else { "advertisement" };
        format!("application/x-git-{}-{end}", self.service.word())
    }
}

/// git, with what could run a program, reach elsewhere, or touch what is checked out overruled.
fn command(git: &Git, request: &Request) -> Result<Command, Problem> {
    let mut settings: Vec<String> = [
        // The owner is asked for no alternates' references; there are none.
        "core.alternateRefsCommand=true",
        "transfer.advertiseSID=false",
        "transfer.unpackLimit=1",
        // A filter may be an expression that git looks up in all the repository, and what a filter leaves out is asked for by names
        // of files, which no box is given. The gateway's own questions leave files out, and use no other filter.
        if request.two { "uploadpack.allowFilter=true" } else { "uploadpack.allowFilter=false" },
        "uploadpackfilter.allow=false",
        "uploadpackfilter.sparse:oid.allow=false",
        "uploadpackfilter.combine.allow=false",
        "uploadpackfilter.blob:none.allow=true",
        // Commits that a branch or tag leads to, and none else whose name a box knows ([`shown`], which git is asked beside: of files and
        // folders it does not look). Version 2 of the protocol asks none of these: the gateway alone is answered in it.
        "uploadpack.allowAnySHA1InWant=false",
        "uploadpack.allowTipSHA1InWant=false",
        // A client asks only for what it is told that it may. Where it asks, this would count hidden references too, and what
        // the shown ones lead to is given without it.
        if request.is_post {
            "uploadpack.allowReachableSHA1InWant=false"
        } else {
            "uploadpack.allowReachableSHA1InWant=true"
        },
        "uploadpack.advertiseBundleURIs=false",
        "receive.denyCurrentBranch=refuse",
        "receive.denyDeletes=true",
        "receive.fsckObjects=true",
        "receive.unpackLimit=1",
        "receive.maxInputSize=67108864",
        "receive.advertisePushOptions=false",
        "receive.autogc=false",
        "receive.updateServerInfo=false",
        "pack.threads=1",
        "pack.windowMemory=64m",
        "pack.deltaCacheSize=32m",
        // Branches and tags: a stash, notes, what other tools keep is nobody's to see.
        "transfer.hideRefs=refs",
        "transfer.hideRefs=!refs/heads",
        "transfer.hideRefs=!refs/tags",
    ]
    .map(str::to_owned)
    .into();
    // What the owner hides stays hidden: of several the last one counts. There may be none.
    let hidden = git.run(&["config", "-z", "--get-regexp", r"^(transfer|uploadpack|receive)\.hiderefs$"])?;
    let pairs = hidden.stdout.split(|b| *b == 0).filter(|pair| !pair.is_empty());
    settings.extend(pairs.map(|pair| String::from_utf8_lossy(pair).replacen('\n', "=", 1)));
    let mut args: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
    args.extend([request.service.word(), "--stateless-rpc"]);
    args.extend((!request.is_post).then_some("--advertise-refs"));
    args.push(".");
    let mut command = git.command(&args);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_COMMITTER_NAME", "volary").env("GIT_COMMITTER_EMAIL", "volary@localhost");
    if request.two && request.service == Service::Upload {
        command.env("GIT_PROTOCOL", "version=2");
    }
    Ok(command)
}

/// Passes on what git says, in chunks. False when it said nothing at all: then nothing was answered.
fn pass_on(said: &mut impl Read, request: &Request, out: &mut impl Write) -> Result<bool, Problem> {
    let cut = |_| Problem::new("repo.cut", "the gateway took no more");
    let mut piece = vec![0; PIECE];
    let mut begun = false;
    loop {
        let got = said.read(&mut piece).map_err(Problem::io("read from git"))?;
        if got == 0 {
            break;
        }
        if !begun {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
                request.kind()
            );
            out.write_all(head.as_bytes()).map_err(cut)?;
            let in_two = request.two && request.service == Service::Upload;
            if !request.is_post && !in_two {
                let line = format!("# service=git-{}\n", request.service.word());
                let line = format!("{:04x}{line}0000", line.len() + 4);
                write!(out, "{:x}\r\n{line}\r\n", line.len()).map_err(cut)?;
            }
            begun = true;
        }
        write!(out, "{got:x}\r\n").map_err(cut)?;
        out.write_all(&piece[..got]).and_then(|()| out.write_all(b"\r\n")).map_err(cut)?;
    }
    if begun {
        out.write_all(b"0\r\n\r\n").map_err(cut)?;
    }
    Ok(begun)
}

/// A repository that is served to one run. Dropping it ends every process that serves it.
pub struct Served {
    exe: PathBuf,
    path: PathBuf,
    branch: String,
    seats: Arc<Semaphore>,
    /// The run's own among those of all.
    own: Arc<Semaphore>,
    /// Bytes that it may still push.
    room: Arc<Mutex<u64>>,
    reins: Arc<Mutex<Reins>>,
}

#[derive(Default)]
struct Reins {
    last: u64,
    held: HashMap<u64, Rein>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.reins.lock().unwrap_or_else(PoisonError::into_inner).held.values().for_each(Rein::pull);
    }
}

impl Served {
    /// The repository at `path`, by `exe`; `branch`, without `refs/heads/`, may be pushed.
    #[must_use]
    pub fn new(exe: &Path, path: &Path, branch: &str) -> Self {
        Self {
            exe: exe.to_owned(),
            path: path.to_owned(),
            branch: branch.to_owned(),
            seats: Arc::new(Semaphore::new(OF_A_RUN)),
            own: Arc::new(Semaphore::new(1)),
            room: Arc::new(Mutex::new(OF_ITS_PUSHES)),
            reins: Arc::default(),
        }
    }

    /// Has one request on `socket` answered, in time. Where too many are, it is closed.
    pub fn serve(&self, socket: OwnedFd) {
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else { return };
        let (rein, reins, own) = (Rein::default(), Arc::clone(&self.reins), Arc::clone(&self.own));
        let number = {
            let mut reins = reins.lock().unwrap_or_else(PoisonError::into_inner);
            reins.last += 1;
            let number = reins.last;
            reins.held.insert(number, rein.clone());
            number
        };
        let mut command = Command::new(&self.exe);
        command.args(["process", "repo-serve"]).arg(&self.path).arg(&self.branch).env_clear().current_dir("/");
        command.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        let room = Arc::clone(&self.room);
        tokio::spawn(async move {
            let held = rein.clone();
            let whole = async {
                let _place = tokio::select! {
                    biased;
                    place = own.acquire() => place,
                    place = OF_ALL.acquire() => place,
                };
                command.arg(room.lock().unwrap_or_else(PoisonError::into_inner).to_string());
                // One thread for all of it: the process ends with the thread that started it.
                crate::blocking(move || run(command, &held, &room)).await
            };
            match tokio::time::timeout(WHOLE, whole).await {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => tracing::info!(code = problem.code, "a repository was not served: {problem}"),
                Err(_) => tracing::warn!("a repository was served for {} s, and no longer", WHOLE.as_secs()),
            }
            rein.pull();
            reins.lock().unwrap_or_else(PoisonError::into_inner).held.remove(&number);
            drop(seat);
        });
    }
}

/// One process from its start to its end, also where nobody waits for it any more: what it began to push is taken off `room`.
/// Blocks.
fn run(mut command: Command, rein: &Rein, room: &Mutex<u64>) -> Result<(), Problem> {
    let child = rein::tie(&mut command).process_group(0).spawn();
    // It holds the socket until it is dropped.
    drop(command);
    let mut child = child.map_err(Problem::io("start the serving process"))?;
    rein.hold(&child);
    let mut said = Vec::new();
    let heard = match child.stderr.take() {
        Some(stderr) => stderr.take(64 * 1024).read_to_end(&mut said).map(drop),
        None => Ok(()),
    };
    let mut pushed = String::new();
    let counted = child.stdout.take().map_or(Ok(0), |stdout| stdout.take(64).read_to_string(&mut pushed));
    let pushed: u64 = pushed.trim().parse().unwrap_or_default();
    {
        let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
        *room = room.saturating_sub(pushed);
    }
    let status = rein.wait(&mut child).map_err(Problem::io("wait for the serving process"))?;
    counted.map_err(Problem::io("read what the serving process took"))?;
    heard.map_err(Problem::io("read from the serving process"))?;
    if status.success() {
        return Ok(());
    }
    let reported = said.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice::<Problem>(line).ok());
    Err(reported.unwrap_or_else(|| Problem::new("repo.serve", super::git::last_words(&said))))
}

#[cfg(test)]
mod tests;
