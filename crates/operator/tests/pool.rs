//! The warm pool over an engine that the test plays. Real boxes are in `crates/volary/tests/warm.rs`.

use model::{BoxId, Profile, RunId};
use operator::engine::{Engine, Holds, Live, Made, Trouble, Waits, Watch};
use operator::pool::{MOST, Pool, SPARE_MIB};
use sandbox::BoxPlan;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes.
const HANG: Duration = Duration::from_secs(60);

/// What the engine did.
#[derive(Default)]
struct Told {
    /// Names of the boxes that were made ahead.
    prepared: Mutex<Vec<String>>,
    /// Names of the boxes that runs got, `cold` for one that was made for its run.
    given: Mutex<Vec<String>>,
    /// Boxes that wait and were neither claimed nor ended.
    alive: AtomicUsize,
    /// Whether boxes that wait cannot be claimed.
    stuck: AtomicBool,
    /// Whether boxes that wait are dead.
    dead: AtomicBool,
    /// Whether no box can be made ahead.
    broken: AtomicBool,
    /// How often one was asked for that can never be made.
    refused: AtomicUsize,
}

struct Played(Arc<Told>);

struct Waiting(Arc<Told>, String);

struct Nothing;

impl Live for Nothing {
    fn start(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
    fn read_back(&self, _: &api::inbox::Hello) -> Vec<model::event::Reading> {
        Vec::new()
    }
    fn watch(&self, _: &api::inbox::Hello) -> Watch {
        Arc::new(|| None)
    }
    fn holds(&self) -> Holds {
        Arc::new(|_| sandbox::Held::default())
    }
    fn kill(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn write_changes(&mut self, _: OwnedFd) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    fn end(self: Box<Self>) -> Result<Option<String>, String> {
        Ok(None)
    }
}

fn made(name: &str) -> Made {
    let (stdin, _) = std::io::pipe().unwrap();
    let (stdout, _) = std::io::pipe().unwrap();
    let (stderr, _) = std::io::pipe().unwrap();
    Made {
        live: Box::new(Nothing),
        box_id: BoxId::parse(name).unwrap(),
        uid: 7,
        listener: TcpListener::bind("127.0.0.1:0").unwrap().into(),
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
    }
}

impl Engine for Played {
    fn create(&self, _: &BoxPlan) -> Result<Made, Trouble> {
        self.0.given.lock().unwrap().push("cold".into());
        Ok(made("cold"))
    }
    fn prepare(&self, box_id: &BoxId, profile: &Profile) -> Result<Box<dyn Waits>, Trouble> {
        if profile.image.is_some() {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
            return Err("its image is not on this host yet".into());
        }
        if self.0.broken.load(Ordering::SeqCst) {
            return Err("no room".into());
        }
        self.0.prepared.lock().unwrap().push(box_id.to_string());
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Waiting(Arc::clone(&self.0), box_id.to_string())))
    }
    fn drop_worktree(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }
}

impl Waits for Waiting {
    fn is_alive(&self) -> bool {
        !self.0.dead.load(Ordering::SeqCst)
    }
    fn claim(self: Box<Self>, _: &BoxPlan) -> Result<Made, String> {
        if self.0.stuck.load(Ordering::SeqCst) {
            return Err("its process 1 is gone".into());
        }
        self.0.given.lock().unwrap().push(self.1.clone());
        Ok(made(&self.1))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Stage {
    pool: Pool,
    told: Arc<Told>,
    memory: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn set() -> Self {
        let (told, memory) = (Arc::new(Told::default()), Arc::new(AtomicU64::new(u64::MAX)));
        let left = Arc::clone(&memory);
        let left = Box::new(move || left.load(Ordering::SeqCst));
        let pool = Pool::with_memory(Arc::new(Played(Arc::clone(&told))), left).unwrap();
        Self { pool, told, memory, dir: tempfile::tempdir().unwrap() }
    }
    fn eventually(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = Instant::now() + HANG;
        while !is(self) {
            assert!(Instant::now() < end, "{what} did not come about");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    fn waits(&self, count: usize) {
        self.eventually(&format!("{count} boxes that wait"), |stage| {
            stage.pool.waiting() == count && stage.told.alive.load(Ordering::SeqCst) == count
        });
    }
    fn run(&self, name: &str, profile: &Profile) -> String {
        let plan = BoxPlan {
            run: RunId::parse(name).unwrap(),
            box_id: BoxId::parse("of-the-plan").unwrap(),
            profile: profile.clone(),
            lower: None,
            upper_image: self.dir.path().join(name),
        };
        self.pool.create(&plan).map_err(|trouble| trouble.what).unwrap().box_id.to_string()
    }
}

fn profile(description: &str) -> Profile {
    Profile { description: description.into(), ..Profile::default() }
}

#[test]
fn a_box_that_waits_is_given_to_one_run_and_another_is_made() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    let mut given = Vec::new();
    for n in 0..4 {
        stage.waits(1);
        given.push(stage.run(&format!("r{n}"), &profile("a")));
    }
    stage.waits(1);
    let prepared = stage.told.prepared.lock().unwrap().clone();
    assert_eq!(given, prepared[..4], "each run got the box that was made last");
    let all: std::collections::BTreeSet<&String> = prepared.iter().collect();
    assert_eq!((all.len(), prepared.len()), (5, 5), "a box was given twice, or a name");
}

#[test]
fn runs_that_come_at_once_share_no_box() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let stage = &stage;
            scope.spawn(move || stage.run(&format!("r{n}"), &profile("a")));
        }
    });
    let given = stage.told.given.lock().unwrap().clone();
    let warm: Vec<&String> = given.iter().filter(|name| *name != "cold").collect();
    let distinct: std::collections::BTreeSet<&&String> = warm.iter().collect();
    assert_eq!((given.len(), warm.len()), (8, distinct.len()));
    assert!(!warm.is_empty(), "none was claimed");
}

#[test]
fn an_edit_of_the_profile_empties_the_pool_and_no_run_of_another_version_gets_what_was_in_it() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("before")]);
    stage.waits(1);
    assert_eq!(stage.run("r1", &profile("after")), "cold");
    stage.waits(1);
    let old = stage.told.prepared.lock().unwrap()[0].clone();
    stage.pool.keep_warm(vec![profile("after")]);
    stage.eventually("a box for the new version", |stage| stage.told.prepared.lock().unwrap().len() == 2);
    stage.waits(1);
    assert_eq!(stage.run("r2", &profile("before")), "cold");
    let got = stage.run("r3", &profile("after"));
    assert!(got != old && got != "cold", "{got}");
    stage.pool.keep_warm(Vec::new());
    stage.waits(0);
}

#[test]
fn a_run_that_has_a_worktree_gets_a_box_that_is_made_for_it() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    std::fs::write(stage.dir.path().join("r1"), "its image").unwrap();
    assert_eq!(stage.run("r1", &profile("a")), "cold");
    assert_eq!(stage.pool.waiting(), 1);
}

#[test]
fn a_box_that_cannot_be_claimed_costs_the_run_nothing() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    stage.told.stuck.store(true, Ordering::SeqCst);
    assert_eq!(stage.run("r1", &profile("a")), "cold");
}

#[test]
fn a_box_that_died_is_taken_out_and_one_that_cannot_be_made_is_not_missed() {
    let stage = Stage::set();
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    stage.told.broken.store(true, Ordering::SeqCst);
    stage.told.dead.store(true, Ordering::SeqCst);
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(0);
    assert_eq!(stage.run("r1", &profile("a")), "cold");
}

#[test]
fn a_profile_whose_image_is_not_here_keeps_no_box_of_another_from_waiting() {
    let stage = Stage::set();
    let absent = Profile { image: Some("registry.example/tools".into()), ..profile("absent") };
    stage.pool.keep_warm(vec![absent.clone(), profile("a"), absent, profile("b")]);
    stage.waits(2);
    assert_eq!(stage.run("r1", &profile("b")), stage.told.prepared.lock().unwrap()[1]);
    stage.waits(2);
    assert!(stage.told.refused.load(Ordering::SeqCst) > 0, "it was never tried");
}

#[test]
fn no_box_waits_on_a_host_whose_memory_is_short() {
    let stage = Stage::set();
    stage.memory.store(SPARE_MIB, Ordering::SeqCst);
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(1);
    stage.memory.store(SPARE_MIB - 1, Ordering::SeqCst);
    stage.pool.keep_warm(vec![profile("a")]);
    stage.waits(0);
}

#[test]
fn no_more_boxes_wait_than_may() {
    let stage = Stage::set();
    stage.pool.keep_warm((0..=MOST).map(|n| profile(&n.to_string())).collect());
    stage.waits(MOST);
}

#[test]
fn the_end_of_the_pool_is_the_end_of_what_waits() {
    let Stage { pool, told, .. } = {
        let stage = Stage::set();
        stage.pool.keep_warm(vec![profile("a")]);
        stage.waits(1);
        stage
    };
    drop(pool);
    let end = Instant::now() + HANG;
    while told.alive.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < end, "it still waits");
        std::thread::sleep(Duration::from_millis(5));
    }
}
