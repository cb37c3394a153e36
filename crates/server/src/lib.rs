//! The server: rows, keys, law. It takes runs on, says yes or no to every model call, and records.
//!
//! It starts no container, connects to nothing (every socket of its is one it was given to accept on), and
//! gives no secret out but to the gateway, for one granted call.
//!
//! Read [`run`], then [`routes`] and [`guard`] (who may call what), [`runs`] (a run's life), [`link`] and
//! [`reconcile`] (what the host says), [`gateway`] and [`grants`] (what a model call takes), [`heads`], [`walls`].

pub mod accounts;
pub mod app;
pub mod connections;
pub mod console;
pub mod delivery;
pub mod denials;
pub mod desk;
pub mod doors;
pub mod egress;
pub mod fault;
pub mod forge;
pub mod gateway;
pub mod git;
pub mod grants;
pub mod guard;
pub mod heads;
pub mod http_api;
pub mod images;
pub mod kept;
pub mod keys;
pub mod leases;
pub mod link;
pub mod live;
pub mod mint;
pub mod models;
pub mod offline;
pub mod openapi;
pub mod pause;
pub mod platform;
pub mod port;
pub mod prices;
pub mod profiles;
pub mod proposals;
mod random;
pub mod reconcile;
mod record;
pub mod routes;
pub mod runs;
pub mod secrets;
pub mod session;
pub mod sign_in;
pub mod vault;
pub mod walls;
pub mod warm;

pub use offline::export;
pub use routes::inventory;

use anyhow::Context;
use app::App;
use guard::Door;
use keys::Keys;
use model::{Moment, WorkspaceId};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use store::Store;
use tokio::signal::unix::{SignalKind, signal};

/// What the server is given: sockets that are bound already, and its folders.
#[derive(Debug)]
pub struct Config {
    /// Console and API, on loopback.
    pub tcp: std::net::TcpListener,
    /// The API for the home's owner.
    pub api: UnixListener,
    /// The link.
    pub operator: UnixListener,
    /// The grants.
    pub gateway: UnixListener,
    /// The server's own folder: `volary.db`.
    pub dir: PathBuf,
    /// What its vault may be opened with.
    pub keys: api::vault::KeyOffer,
    /// The folder of the profiles' files.
    pub profiles: PathBuf,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The enrolled administrator's name, for people.
    pub administrator: String,
    /// Which account a connection on loopback comes from.
    pub accounts: accounts::Accounts,
    /// Makes the calls that this process's walls forbid, when someone asks for the proof.
    pub prove: api::walls::Prove,
    /// Most boxes that wait for runs; 0 for none.
    pub warm: usize,
    /// By what this process's log is scrubbed: by every secret that is set, once the vault is open.
    pub log: scrub::Current,
}

/// Threads that serve.
const WORKERS: usize = 2;

/// Now, by the system's clock.
fn now() -> Moment {
    Moment::from(SystemTime::now())
}

/// How often the handles of live runs are renewed.
const RENEW: Duration = Duration::from_secs(60);

/// How often leases are looked through for those that are over. They are dead at their deadline all the same.
const SWEEP: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, on a runtime of its own.
///
/// # Errors
/// A database or a key that cannot be used, and a socket that cannot be served; the message says what to do.
pub fn run(config: Config) -> anyhow::Result<()> {
    run_until(config, async {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Signals then do what they do by default, which ends the process too.
            _ => std::future::pending().await,
        }
    })
}

/// Serves until `stop` is done, on a runtime of its own.
///
/// # Errors
/// Those of [`run`].
pub fn run_until(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("server")
        .enable_all()
        .build()
        .context("starting the server's runtime")?;
    // On a worker, so that the workers alone serve.
    let result = runtime.block_on(runtime.spawn(serve(config, stop))).unwrap_or_else(|e| Err(e.into()));
    // Followers of live runs would hold it for as long as their runs last.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(config: Config, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    vault::sweep(&config.dir).context("clean up the server's folder")?;
    let store = Store::open(&config.dir.join("volary.db")).await?;
    let keys = Keys::open(config.keys, &config.workspace, &store).await?;
    let port = config.tcp.local_addr()?.port();
    let house = app::House { administrator: config.administrator, port, prove: config.prove, warm: config.warm };
    let app = App::new(store, keys, config.dir, config.profiles, config.workspace, house)?;
    config.log.is(app.scrubbers());
    app.renew_scrubber().await.map_err(|fault| anyhow::anyhow!(fault.problem.message))?;
    denials::repair::finish(&app).await.map_err(|fault| anyhow::anyhow!(fault.problem.message))?;

    config.tcp.set_nonblocking(true)?;
    let tcp = tokio::net::TcpListener::from_std(config.tcp)?;
    let (api, operator, gateway) = (unix(config.api)?, unix(config.operator)?, unix(config.gateway)?);
    let router = routes::all().into_router();
    let console = doors::at(Door::Tcp, router.clone(), &app);
    let home = axum::serve(api, doors::at(Door::Home, router, &app));
    // Everything else goes on until the last head is signed and kept.
    let parting = async {
        stop.await;
        tracing::info!("the server ends");
        heads::part(&app).await;
    };
    tracing::info!("the server is ready at http://127.0.0.1:{port}");
    let serving = async {
        tokio::select! {
            () = port::serve(tcp, config.accounts, port::Limits::default(), console) => {}
            result = home => result.context("serving the home's socket")?,
            () = link::serve(app.clone(), operator) => {}
            () = gateway::serve(app.clone(), gateway) => {}
            () = heads::serve(app.clone()) => anyhow::bail!("the database's writer ended"),
            () = renew(&app) => {}
            () = sweep(&app) => {}
            () = connections::refresh::keep(&app) => {}
            () = mint::ends::keep(&app) => {}
            () = warm::keep(&app) => {}
        }
        Ok(())
    };
    tokio::select! {
        // The first to be begun: who has an answer may end the server.
        biased;
        () = parting => Ok(()),
        served = serving => served,
    }
}

fn unix(listener: UnixListener) -> std::io::Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Keeps as expired the leases whose time is over, for as long as the server lives.
async fn sweep(app: &App) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        if let Err(fault) = leases::sweep(app).await {
            tracing::error!("the leases were not looked through: {}", fault.problem.message);
        }
    }
}

/// Renews the handles of the runs that are not over, for as long as the server lives.
async fn renew(app: &App) {
    let mut every = tokio::time::interval(RENEW);
    loop {
        every.tick().await;
        if let Err(e) = app.store.renew_handles(now().plus_ms(runs::HANDLE_MS)).await {
            tracing::error!("the handles were not renewed: {e}");
        }
    }
}
