//! A host in a test: the real keeper, journals and cable; a gateway, an engine and runners that the test plays.

use api::cable::{FromCable, MAX_PACKET, ToCable};
use api::changes::{self, Change};
use api::inbox::{Counts, Done, Hello, Kind, ModelRoute, ToRunner};
use api::link::{Down, Launch, LaunchAgent};
use model::event::{Event, Exit, Reading};
use model::run::RunKind;
use model::{BoxId, Profile, RunId};
use operator::cable::Cable;
use operator::checkout::Checkouts;
use operator::disk::Disk;
use operator::engine::{Engine, Gauge, Holds, Live, Made, Trouble, Watch};
use operator::journal::{MAX_JOURNAL, Tail};
use operator::keeper::{Keeper, Means};
use operator::link::Orders;
use operator::repo::RepoProcess;
use operator::runs::{Run, Runs};
use operator::vetting::Vetting;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use sandbox::BoxPlan;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

pub const KEY: &str = "sk-canary";
/// What a box in a storm says at each look: more than the pump's window of 64 and as much on its way to it, and little more, for
/// all of it is kept within the ten seconds that a box's last words have.
pub const OF_A_LOOK: usize = 140;

// ---- the runner ---------------------------------------------------------

/// The test's end of a box's standard input and output.
pub struct Runner {
    stdin: File,
    stdout: Arc<Mutex<Option<File>>>,
}

fn framed(kind: Kind, body: &str) -> Vec<u8> {
    let mut wire = u32::try_from(body.len() + 1).unwrap().to_le_bytes().to_vec();
    wire.push(kind as u8);
    wire.extend_from_slice(body.as_bytes());
    wire
}

impl Runner {
    pub fn frame(&mut self, kind: Kind, body: &str) {
        let wire = framed(kind, body);
        if let Some(stdout) = &mut *self.stdout.lock().unwrap() {
            // A box that is being killed speaks into a closed pipe.
            stdout.write_all(&wire).unwrap_or_default();
        }
    }
    pub fn hello(&mut self) {
        let hello = Hello { landlock_abi: 6, forbidden: vec![] };
        self.frame(Kind::Hello, &serde_json::to_string(&hello).unwrap());
    }
    pub fn chunk(&mut self, text: &str) {
        self.frame(Kind::Event, &serde_json::to_string(&Event::Chunk { turn: 1, text: text.into() }).unwrap());
    }
    pub fn done(&mut self, exit: Exit, task_done: bool, reason: &str) {
        let done = Done { exit, task_done, reason: reason.into() };
        self.frame(Kind::Done, &serde_json::to_string(&done).unwrap());
    }
    /// The next order; none when the operator closed the pipe.
    pub fn order(&mut self) -> Option<ToRunner> {
        let mut length = [0; 4];
        self.stdin.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.stdin.read_exact(&mut body).ok()?;
        serde_json::from_slice(&body).ok()
    }
    /// The box is gone.
    pub fn die(self) {
        self.stdout.lock().unwrap().take();
    }
}

// ---- the engine ---------------------------------------------------------

type Play = Box<dyn FnOnce(Runner) + Send>;

/// Makes one fake box for each play.
#[derive(Default)]
pub struct FakeEngine {
    plays: Mutex<Vec<Play>>,
    pub plans: Mutex<Vec<BoxPlan>>,
    pub doors: Mutex<Vec<SocketAddr>>,
    pub alive: Arc<Mutex<usize>>,
    pub wall_off: Mutex<bool>,
    /// How often process 1 of a box made from now on is looked at before it is gone; none lives on.
    pub dead: Mutex<Option<u32>>,
    pub why: Mutex<Option<String>>,
    pub changes: Mutex<Vec<(Vec<u8>, String)>>,
    /// The next box's changes have no end; this is told once they are being imported.
    pub endless: Mutex<Option<oneshot::Sender<()>>>,
    /// Whether boxes were paused, resumed and killed, in order.
    pub acts: Arc<Mutex<Vec<&'static str>>>,
    /// How often a box does not stand still although it is asked to.
    pub unruly: Arc<Mutex<u32>>,
    /// Whether a box made from now on says something whenever its limits are looked at, and has met that of memory a hundred times
    /// more by then.
    pub storm: Mutex<bool>,
    /// How often one did.
    pub looked_at: Arc<Mutex<u64>>,
    /// Whether the engine panics where it is to make a box.
    pub faulty: Mutex<bool>,
}

struct FakeBox {
    storm: bool,
    looked_at: Arc<Mutex<u64>>,
    acts: Arc<Mutex<Vec<&'static str>>>,
    unruly: Arc<Mutex<u32>>,
    stdout: Arc<Mutex<Option<File>>>,
    alive: Arc<Mutex<usize>>,
    wall_off: bool,
    dead: Mutex<Option<u32>>,
    why: Option<String>,
    changes: Vec<(Vec<u8>, String)>,
    endless: Option<oneshot::Sender<()>>,
}

impl Drop for FakeBox {
    fn drop(&mut self) {
        self.stdout.lock().unwrap().take();
        *self.alive.lock().unwrap() -= 1;
    }
}

impl Engine for FakeEngine {
    fn create(&self, plan: &BoxPlan) -> Result<Made, Trouble> {
        assert!(!*self.faulty.lock().unwrap(), "a fault of ours");
        let play = self.plays.lock().unwrap().pop().ok_or("no play for this box")?;
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        self.doors.lock().unwrap().push(door.local_addr().unwrap());
        self.plans.lock().unwrap().push(plan.clone());
        std::fs::write(&plan.upper_image, "an image").unwrap();
        std::fs::write(plan.upper_image.with_extension("uid"), "7").unwrap();
        let (stdin, ours_in) = std::io::pipe().unwrap();
        let (ours_out, stdout) = std::io::pipe().unwrap();
        let (stderr, words) = std::io::pipe().unwrap();
        let stdout = Arc::new(Mutex::new(Some(File::from(OwnedFd::from(stdout)))));
        let runner = Runner { stdin: File::from(OwnedFd::from(stdin)), stdout: Arc::clone(&stdout) };
        std::thread::spawn(move || {
            let mut words = words;
            writeln!(words, "last words with {KEY}").unwrap_or_default();
            drop(words);
            play(runner);
        });
        let mut alive = self.alive.lock().unwrap();
        *alive += 1;
        assert_eq!(*alive, 1, "two boxes at once");
        let live = FakeBox {
            storm: *self.storm.lock().unwrap(),
            looked_at: Arc::clone(&self.looked_at),
            acts: Arc::clone(&self.acts),
            unruly: Arc::clone(&self.unruly),
            stdout,
            alive: Arc::clone(&self.alive),
            wall_off: *self.wall_off.lock().unwrap(),
            dead: Mutex::new(*self.dead.lock().unwrap()),
            why: self.why.lock().unwrap().clone(),
            changes: self.changes.lock().unwrap().clone(),
            endless: self.endless.lock().unwrap().take(),
        };
        Ok(Made {
            live: Box::new(live),
            box_id: plan.box_id.clone(),
            uid: 7,
            listener: door.into(),
            stdin: ours_in.into(),
            stdout: ours_out.into(),
            stderr: stderr.into(),
        })
    }
    fn drop_worktree(&self, image: &Path) -> Result<(), String> {
        std::fs::remove_file(image).or(Ok(()))
    }
}

/// What is read of the walls of a box that is not one.
fn read(wall_off: bool) -> Vec<Reading> {
    ["seccomp", "landlock"]
        .map(|wall| Reading {
            wall: wall.into(),
            promised: "2".into(),
            read: "2".into(),
            holds: !(wall_off && wall == "landlock"),
            by: "test".into(),
        })
        .to_vec()
}

impl Live for FakeBox {
    fn start(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
    fn read_back(&self, _: &Hello) -> Vec<Reading> {
        read(self.wall_off)
    }
    fn watch(&self, _: &Hello) -> Watch {
        let wall_off = self.wall_off;
        Arc::new(move || Some(read(wall_off)))
    }
    fn holds(&self) -> Holds {
        Arc::new(|_| sandbox::Held::default())
    }
    fn gauge(&self) -> Gauge {
        if !self.storm {
            // A runner that speaks has its pipe to itself, for as long as it is not read.
            return Box::new(Counts::default);
        }
        let (looked_at, stdout) = (Arc::clone(&self.looked_at), Arc::clone(&self.stdout));
        Box::new(move || {
            let mut looked_at = looked_at.lock().unwrap();
            if let Some(stdout) = stdout.lock().unwrap().as_mut() {
                *looked_at += 1;
                for n in 0..OF_A_LOOK {
                    let text = format!("{looked_at} {n}");
                    let body = serde_json::to_string(&Event::Chunk { turn: 1, text }).unwrap();
                    stdout.write_all(&framed(Kind::Event, &body)).unwrap();
                }
            }
            Counts { memory_kills: 100 * *looked_at, ..Counts::default() }
        })
    }
    fn is_dead(&self) -> bool {
        match self.dead.lock().unwrap().as_mut() {
            Some(0) => true,
            Some(more) => {
                *more -= 1;
                false
            }
            None => false,
        }
    }
    fn pause(&mut self) -> Result<(), String> {
        let mut unruly = self.unruly.lock().unwrap();
        if let Some(less) = unruly.checked_sub(1) {
            *unruly = less;
            return Err("a process of it sleeps in the kernel".into());
        }
        self.acts.lock().unwrap().push("pause");
        Ok(())
    }
    fn resume(&mut self) -> Result<(), String> {
        self.acts.lock().unwrap().push("resume");
        Ok(())
    }
    fn kill(&mut self) -> Result<(), String> {
        self.acts.lock().unwrap().push("kill");
        self.stdout.lock().unwrap().take();
        Ok(())
    }
    fn write_changes(&mut self, out: OwnedFd) -> Result<Vec<String>, String> {
        let mut out = File::from(out);
        if let Some(told) = self.endless.take() {
            let change = Change::File { path: b"a".to_vec(), executable: false, len: u64::MAX >> 2 };
            changes::write(&mut out, &change).map_err(|e| e.to_string())?;
            // More than every buffer on the way holds.
            out.write_all(&vec![0; 4 << 20]).map_err(|e| e.to_string())?;
            told.send(()).unwrap();
            return std::io::copy(&mut std::io::repeat(0), &mut out).map(|_| vec![]).map_err(|e| e.to_string());
        }
        for (path, text) in &self.changes {
            let change = Change::File { path: path.clone(), executable: false, len: text.len() as u64 };
            changes::write(&mut out, &change).map_err(|e| e.to_string())?;
            out.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
        }
        let end = Change::End { count: self.changes.len() as u64 };
        changes::write(&mut out, &end).map_err(|e| e.to_string())?;
        Ok(vec![])
    }
    fn end(self: Box<Self>) -> Result<Option<String>, String> {
        Ok(self.why.clone())
    }
}

// ---- the gateway --------------------------------------------------------

/// Answers one operator on a thread, until killed.
pub struct Gateway {
    connection: OwnedFd,
    served: std::thread::JoinHandle<Vec<String>>,
    pulls: Arc<Mutex<std::sync::mpsc::Receiver<UnixStream>>>,
}

impl Gateway {
    fn serve(connection: OwnedFd) -> Self {
        let fd = connection.try_clone().unwrap();
        let (pulled, pulls) = std::sync::mpsc::channel();
        let served = std::thread::spawn(move || answer(&fd, &pulled));
        Self { connection, served, pulls: Arc::new(Mutex::new(pulls)) }
    }
    /// The socket of the next image that is to be pulled.
    pub async fn pull(&self) -> UnixStream {
        let pulls = Arc::clone(&self.pulls);
        tokio::task::spawn_blocking(move || pulls.lock().unwrap().recv().unwrap()).await.unwrap()
    }
    /// As by `kill -9`; gives what it was told.
    pub fn kill(self) -> Vec<String> {
        rustix::net::shutdown(&self.connection, rustix::net::Shutdown::Both).unwrap();
        drop(self.connection);
        self.served.join().unwrap()
    }
}

fn answer(fd: &OwnedFd, pulled: &std::sync::mpsc::Sender<UnixStream>) -> Vec<String> {
    let (mut body, mut doors, mut log) = (vec![0; MAX_PACKET], Vec::<OwnedFd>::new(), Vec::new());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut body)];
        let got = rustix::net::recvmsg(fd, &mut into, &mut ancillary, RecvFlags::empty()).map_or(0, |got| got.bytes);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                doors.extend(fds);
            }
        }
        if got == 0 {
            return log;
        }
        let answer = match serde_json::from_slice(&body[..got]).unwrap() {
            ToCable::Attach { run } => {
                log.push(format!("attach {run} {}", doors.len()));
                FromCable::Attached { run, authority: None }
            }
            ToCable::Pull { run, image } => {
                log.push(format!("pull {run} {image}"));
                pulled.send(doors.pop().unwrap().into()).unwrap();
                continue;
            }
            ToCable::Detach { run } => {
                log.push(format!("detach {run}"));
                continue;
            }
            ToCable::Scrub { id, text, .. } => {
                FromCable::Scrubbed { id, text: text.replace(KEY, "[scrubbed]"), more: false }
            }
            ToCable::Hear { id, event, .. } => {
                let events = event.into_iter().map(|event| event.replace(KEY, "[scrubbed]")).collect();
                FromCable::Heard { id, events, more: false, cut: false }
            }
        };
        if rustix::net::send(fd, &serde_json::to_vec(&answer).unwrap(), SendFlags::NOSIGNAL).is_err() {
            return log;
        }
    }
}

// ---- the host -----------------------------------------------------------

pub struct Stage {
    /// The operator's own folder.
    pub dir: tempfile::TempDir,
    /// What it lies in, with the clones.
    _home: tempfile::TempDir,
    pub runs: Arc<Runs>,
    pub engine: Arc<FakeEngine>,
    pub keeper: Keeper,
    socket: OwnedFd,
}

impl Stage {
    pub fn new() -> Self {
        Self::whose_box_says(MAX_JOURNAL)
    }

    /// With a journal of which a box may fill so many bytes.
    pub fn whose_box_says(most_said: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir_in(home.path()).unwrap();
        let path = dir.path().join("cable");
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 8).unwrap();
        let cable = Cable::default();
        tokio::spawn(cable.clone().keep(path));
        let runs = Arc::new(Runs::open(&dir.path().join("runs")).unwrap());
        let engine = Arc::new(FakeEngine::default());
        let keeper = Keeper::new(Means {
            runs: Arc::clone(&runs),
            cable,
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            repo: RepoProcess {
                exe: env!("CARGO_BIN_EXE_repo-process").into(),
                read: vec!["read".into()],
                import: vec!["import".into()],
            },
            checkouts: Checkouts::open(&dir.path().join("checkouts")).unwrap(),
            disk: Disk::of(dir.path()),
            most_said,
            vetting: Arc::new(Vetting::of(Arc::clone(&runs))),
        });
        Self { dir, _home: home, runs, engine, keeper, socket }
    }

    /// Lets the operator's dial through to a gateway.
    pub async fn gateway(&self) -> Gateway {
        let socket = self.socket.try_clone().unwrap();
        let accepted =
            tokio::task::spawn_blocking(move || rustix::net::accept_with(&socket, SocketFlags::CLOEXEC).unwrap());
        Gateway::serve(accepted.await.unwrap())
    }

    /// What the next box's runner will do. The last one given plays first.
    pub fn play(&self, play: impl FnOnce(Runner) + Send + 'static) {
        self.engine.plays.lock().unwrap().push(Box::new(play));
    }

    pub fn launch(&self, launch: Launch) {
        self.keeper.obey(Down::Launch(Box::new(launch)));
    }

    /// The run, once its attempt is over.
    pub async fn over(&self) -> Arc<Run> {
        loop {
            if let Some(run) = self.runs.get(&id())
                && !run.is_live()
                && run.known().last_seq > 0
            {
                return run;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    pub async fn events(&self) -> Vec<Event> {
        events(&*self.over().await)
    }
}

/// As when so much time goes by for everyone.
pub async fn pass(time: std::time::Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub fn id() -> RunId {
    RunId::parse("r1").unwrap()
}

pub fn events(run: &Run) -> Vec<Event> {
    let mut tail = Tail::open(&run.journal_path(), &run.id, 0).unwrap();
    let durable = run.durable();
    let all = std::iter::from_fn(|| tail.next(durable).unwrap());
    all.map(|record| serde_json::from_str(record.event.get()).unwrap()).collect()
}

pub fn exec() -> Launch {
    let mut profile = Profile::default();
    profile.limits.worktree_mib = 1;
    Launch {
        run: id(),
        box_id: BoxId::parse("b1").unwrap(),
        attempt: 1,
        kind: RunKind::Exec,
        repo: None,
        base: None,
        profile,
        import: false,
        author: None,
        agent: None,
        argv: vec!["true".into()],
        lease: None,
        handle: None,
        history: vec![],
        answered: vec![],
        variables: vec![],
        clone: None,
    }
}

pub fn agent(repo: Option<PathBuf>) -> Launch {
    let model = ModelRoute {
        name: "scripted".into(),
        dialect: model::Dialect::Anthropic,
        id: "m".into(),
        max_output_tokens: 100,
        context_tokens: 1000,
    };
    let agent = LaunchAgent { task: "fix it".into(), handle: "handle-of-r1".into(), model };
    Launch { kind: RunKind::Agent, import: repo.is_some(), repo, agent: Some(agent), argv: vec![], ..exec() }
}
