//! The gateway: the only way out of a box, and the only process that connects out.
//!
//! It holds a provider's credential only while a call is leased, reads no row, opens no vault, executes
//! nothing and touches no file but the system's of names once [`load_roots`] has run. Whatever is no listed model call, and
//! what the run's table does not let out, is refused.
//!
//! Read in the order of a packet's path:
//!
//! | module | step |
//! |---|---|
//! | `cable` | the operator hands over a box's listener: one listener, one run |
//! | `seats` | connections over all runs: who has many waits first |
//! | `door` | that listener: HTTP/1.1, its limits, *identify* |
//! | `private` | the first connection on it: the runner's own, on which a value reaches one command |
//! | `egress` | the forward proxy: requests to hosts outside, a stack of its own |
//! | `call` | the stack of a model call, one expression from request to answer |
//! | `decide` | is this request one of the few that exist? |
//! | `lease` | `POST /lease`: the use of a capability is asked for, and never its value |
//! | `git` | `/git/{repository}`: fetched from and pushed to, each push read and listed before it goes on; `POST /propose` |
//! | `pace` | turns: no connection keeps the thread that serves for long |
//! | `tally` | refusals are recorded, and past a number only counted |
//! | `turns` | what boxes say is scrubbed beside the thread that serves |
//! | `server` | *ask*: the server reserves, records and leases; *settle*: once for each grant |
//! | `connect` | names to addresses, every one public, and a connection to that very address |
//! | `spare` | one connection, one call at a time; kept a while for the same run's next one |
//! | `inject` | the credential goes in, last |
//! | `relay`, `fields` | the answer streams back, scrubbed; its headers |
//! | `meter` | what it used, read beside the stream |
//! | `platform` | the server's own calls, to one named host each |
//! | `images` | a registry's image, part by part, for the operator |
//! | `recent` | credentials of the last hour, for what boxes say |
//! | `script` | the scripted provider: another upstream, in this process |
//! | `walls` | the forbidden calls, made when the server asks |

mod cable;
mod call;
mod connect;
mod decide;
mod door;
mod egress;
mod fields;
mod git;
mod images;
mod inject;
mod lease;
mod meter;
mod pace;
mod pieces;
mod platform;
mod private;
mod probe;
mod recent;
mod refusal;
mod relay;
mod script;
mod seats;
mod server;
mod spare;
mod tally;
mod turns;
mod walls;

pub use egress::{Outward, OutwardProxy, system_name_servers};

use anyhow::Context as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What the gateway is given. It looks for nothing by itself.
pub struct Config {
    /// The server's socket for grants (`run/gateway.sock`), to be dialled.
    pub server_socket: PathBuf,
    /// A listening `SOCK_SEQPACKET` socket (`run/cable.sock`), on which operators dial.
    pub cable: OwnedFd,
    /// The certificate authorities that upstreams are checked against.
    pub roots: rustls::RootCertStore,
    /// How hosts outside are reached.
    pub outward: Outward,
    /// Makes the calls that this process's walls forbid, when the server asks for the proof.
    pub prove: api::walls::Prove,
    /// By what this process's log is scrubbed: by every value that it was given.
    pub log: scrub::Current,
}

/// Loads the machine's certificate authorities, and those of `extra`, a PEM file, when given.
///
/// To be called before the process confines itself: it reads files. A machine without any authority
/// gives an empty store, with which every TLS upstream is refused.
///
/// # Errors
/// When `extra` cannot be read or holds no certificate. What is wrong with the machine's own is only logged.
pub fn load_roots(extra: Option<&Path>) -> anyhow::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate authority of this machine could not be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(extra) = extra {
        let own = rustls_native_certs::load_certs_from_paths(Some(extra), None);
        let (added, _) = roots.add_parsable_certificates(own.certs);
        anyhow::ensure!(
            added > 0,
            "{} holds no certificate in PEM; give one, or leave the option out",
            extra.display()
        );
    }
    Ok(roots)
}

/// Serves until the process is killed, on one thread of its own runtime (names are looked up, bodies judged, pushes
/// read and what boxes say is scrubbed beside it).
///
/// # Errors
/// When the runtime cannot start or `cable` is no listening socket. Nothing that a box, an upstream or a
/// lost server does ends it.
pub fn run(config: Config) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Sockets and clocks are looked at after every few turns, however many connections have something to do.
        .event_interval(8)
        .max_blocking_threads(LOOKUPS_AT_ONCE + decide::JUDGES + turns::SCRUBBERS + git::READING)
        .build()
        .context("the gateway's runtime could not start")?
        .block_on(serve(config))
}

/// Threads that look up names; more lookups wait.
const LOOKUPS_AT_ONCE: usize = 4;

/// [`run`] on the caller's runtime.
///
/// # Errors
/// When `cable` is no listening socket.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let (said, hears) = tokio::sync::mpsc::unbounded_channel();
    let recent = Arc::new(recent::Recent::new()?);
    let values = recent.clone();
    config.log.is(move || values.of_the_log(Instant::now()));
    let server = server::Server::dial(config.server_socket, said, recent.clone());
    let roots = Arc::new(config.roots);
    let gate = Arc::new(Gate {
        server,
        outlet: connect::Outlet::new(roots.clone())?,
        reach: egress::reach::Reach::new(roots, &config.outward)?,
        recent,
        doors: door::Doors::default(),
        court: decide::Court::default(),
        scrubbers: Arc::new(tokio::sync::Semaphore::new(turns::SCRUBBERS)),
        seats: seats::Seats::of_this_process(),
        platform: tokio::sync::Semaphore::new(platform::AT_ONCE),
        locals: git::local::Lines::default(),
    });
    tokio::spawn(obey(gate.clone(), hears, config.prove));
    cable::accept(gate, config.cable).await
}

/// What every call shares.
struct Gate {
    server: Arc<server::Server>,
    outlet: connect::Outlet,
    reach: egress::reach::Reach,
    recent: Arc<recent::Recent>,
    doors: door::Doors,
    court: decide::Court,
    scrubbers: Arc<tokio::sync::Semaphore>,
    seats: Arc<seats::Seats>,
    platform: tokio::sync::Semaphore,
    locals: git::local::Lines,
}

/// Carries out what the server says by itself.
async fn obey(
    gate: Arc<Gate>,
    mut hears: tokio::sync::mpsc::UnboundedReceiver<server::Order>,
    prove: api::walls::Prove,
) {
    while let Some(order) = hears.recv().await {
        match order {
            server::Order::Close(run) => {
                gate.server.revoke_all(&run);
                gate.doors.cut_calls(&run);
            }
            server::Order::EndReads(run) => gate.doors.end_allowances(&run),
            server::Order::Probe { id, route, model } => {
                let gate = gate.clone();
                tokio::spawn(async move { probe::probe(&gate, id, route, &model).await });
            }
            server::Order::Call { id, dial, call } => {
                let gate = gate.clone();
                tokio::spawn(async move { platform::call(&gate, (id, dial), *call).await });
            }
            server::Order::Walls { id } => walls::report(&gate.server, id, prove),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_authorities_are_added_and_a_file_without_any_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.pem");
        assert!(load_roots(Some(&file)).is_err(), "it is not there");
        std::fs::write(&file, "no certificate").unwrap();
        assert!(load_roots(Some(&file)).is_err());
        let own = rcgen::generate_simple_self_signed(vec!["own.example".to_owned()]).unwrap();
        std::fs::write(&file, own.cert.pem()).unwrap();
        assert_eq!(load_roots(Some(&file)).unwrap().len(), load_roots(None).unwrap().len() + 1);
    }

    #[test]
    fn a_cable_that_does_not_listen_is_an_error_and_not_a_gateway() {
        // Another test may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (cable, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let config = Config {
            server_socket: "/nonexistent".into(),
            cable: cable.into(),
            roots: rustls::RootCertStore::empty(),
            outward: Outward::default(),
            prove: Vec::new,
            log: scrub::Current::default(),
        };
        assert!(run(config).unwrap_err().to_string().contains("no listening socket"));
    }
}
