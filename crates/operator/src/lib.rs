//! The operator: keeps boxes on one host, and dials out to the server and to the gateway.
//!
//! It holds no key, listens nowhere outside a box, and does not read what an agent wrote: events of a box pass
//! as bytes from its runner through the gateway's scrubber into the run's journal and from there to the server.
//! Nothing takes effect before it is durable in the journal.
//!
//! Read [`keeper`] (one run, from launch to end), [`pool`] (boxes that wait for one), [`journal`] and [`runs`] (what is known), [`link`] (to the
//! server), [`cable`] (to the gateway), [`pull`] (a registry's image, through it), [`repo`] and [`checkout`] (the files a run starts from).

pub mod attempt;
pub mod boxed;
pub mod cable;
pub mod checkout;
pub mod disk;
pub mod engine;
mod hoards;
pub mod home;
pub mod input;
pub mod journal;
pub mod keeper;
pub mod link;
pub mod pool;
pub mod pull;
pub mod pump;
pub mod rate;
pub mod repo;
pub mod rescue;
pub mod runs;
pub mod stood;
pub mod tell;
pub mod vetting;
pub mod walls;

use anyhow::Context;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the operator works and whom it dials.
pub struct Config {
    /// Its folder, `operator/` of the home; made if need be.
    pub dir: PathBuf,
    /// The server's socket, `run/operator.sock`.
    pub server: PathBuf,
    /// The gateway's socket, `run/cable.sock`.
    pub cable: PathBuf,
    /// This installation's name in cgroups.
    pub cgroup_parent: String,
    /// The host's name, as the server is told.
    pub host: String,
    /// The executable that is process 1 in boxes.
    pub runner: &'static [u8],
    /// Our agent's executable.
    pub agent: &'static [u8],
}

/// Works until the process is ended. Boxes that an earlier operator left are reaped first, so that none lives that
/// no run owns; their runs are neither live nor ended then, and the first hello says so.
///
/// The binary that calls this must answer `process box-helper`, `process repo-read`, `process repo-import`, `process repo-clone`
/// and `process repo-serve`.
///
/// # Errors
/// When the folder, the engine or a journal cannot be opened. Afterwards it does not return.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { dir, server, cable: gateway, cgroup_parent, host, runner, agent } = config;
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let engine = sandbox::Host::open(&dir, &cgroup_parent, "/proc/self/exe".as_ref(), runner, agent)?;
    for orphan in engine.reap_orphans()? {
        tracing::warn!(orphan, "ended what an earlier operator left");
    }
    let runs = Arc::new(runs::Runs::open(&dir.join("runs"))?);
    let vetting = Arc::new(vetting::Vetting::of(Arc::clone(&runs)));
    let engine = Arc::new(engine.with_judge(Arc::clone(&vetting) as Arc<dyn sandbox::image::said::Judge>));
    sandbox::strays::watch(Arc::clone(&engine)).context("start the thread that looks for stray boxes")?;
    let pool = pool::Pool::open(Arc::new(engine)).context("start the thread of the warm boxes")?;
    let checkouts = checkout::Checkouts::open(&dir.join("checkouts"))
        .with_context(|| format!("open the checkouts in {}", dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let cable = cable::Cable::default();
        let keeper = keeper::Keeper::new(keeper::Means {
            runs: Arc::clone(&runs),
            cable: cable.clone(),
            engine: Arc::new(pool),
            repo: repo::RepoProcess::own(),
            checkouts,
            disk: disk::Disk::of(&dir),
            most_said: journal::MAX_JOURNAL,
            vetting,
        });
        let link = link::keep(server, host, dir.join("heads"), runs, Arc::new(keeper.clone()));
        tokio::join!(link, cable.keep(gateway), keeper.tidy());
    });
    Ok(())
}

/// Runs something that blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
