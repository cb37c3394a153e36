//! The processes that `volary` starts of itself: `volary process NAME CONFIG`. Not for people.

use crate::confine::{self, Files, Row, STARTS_NOTHING, call};
use crate::home::Home;
use crate::outside::Outside;
use anyhow::{Context, bail};
use api::walls::Forbidden;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

/// Process 1 of a box, static, built by `build.rs`.
pub const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner"));
/// Our agent, static, built by `build.rs`.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// What `up` tells a process that it starts; no secrets, it stands on the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The home.
    pub home: PathBuf,
    /// The control group that holds the boxes.
    pub cgroup_parent: String,
    /// The server's uid, when root.
    pub server_uid: u32,
    /// The gateway's uid, when root.
    pub gateway_uid: u32,
    /// The process id of `up`; a process that it no longer is the parent of does not begin.
    pub up: u32,
    /// How the gateway reaches the outside.
    pub outside: Outside,
    /// The name of the account that the home belongs to: the administrator's, for people.
    pub administrator: String,
    /// Most boxes that wait for runs.
    #[serde(default)]
    pub warm: usize,
}

/// Takes the descriptor that `up` left at `number`.
fn inherited(number: i32) -> OwnedFd {
    // SAFETY: `up` places exactly these descriptors before it starts this process, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Runs one of them.
pub fn main(args: &[OsString]) -> ExitCode {
    match args.first().and_then(|name| name.to_str()) {
        Some("box-helper") => ExitCode::from(u8::try_from(sandbox::helper::main()).unwrap_or(1)),
        Some("repo-read") => operator::repo::read_main(args[1..].iter().cloned()),
        Some("repo-import") => operator::repo::import_main(args[1..].iter().cloned()),
        Some("repo-clone") => operator::repo::clone_main(args[1..].iter().cloned()),
        Some("repo-serve") => operator::repo::serve_main(args[1..].iter().cloned()),
        name => match served(name.unwrap_or_default(), args.get(1)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("volary {}: {e:#}", name.unwrap_or_default());
                ExitCode::FAILURE
            }
        },
    }
}

fn served(name: &str, config: Option<&OsString>) -> anyhow::Result<()> {
    let config = config.and_then(|text| text.to_str()).context("a process needs its configuration")?;
    let config: Config = serde_json::from_str(config)?;
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != config.up {
        bail!("`volary up`, which started this process, is gone");
    }
    if name == "key" {
        // It logs nothing: what goes wrong is told through its pipe.
        return crate::keys::give(&Home::resolve(Some(&config.home))?, config.up);
    }
    let log = scrub::Current::default();
    crate::logs::begin(&log)?;
    let ended = match name {
        "server" => server(&config, log.clone()),
        "gateway" => gateway(&config, log.clone()),
        "operator" => operator(&config),
        other => bail!("there is no process {other:?}"),
    };
    // Its last word stands in its log, too.
    ended.map_err(|e| match log.get() {
        scrub::Now::Scrubber(scrubber) => anyhow::anyhow!(scrubber.scrub_str(&format!("{e:#}")).into_owned()),
        scrub::Now::NoValues => e,
        scrub::Now::Locked => anyhow::anyhow!("{}", crate::logs::WITHHELD),
    })
}

/// What the server may reach, beside its folders.
pub fn server_row() -> Row {
    Row { files: Some(Files::default()), refused: STARTS_NOTHING.to_vec(), no_ip_sockets: true, uid: lowered() }
}

/// What the gateway may reach, beside its folders.
pub fn gateway_row() -> Row {
    let mut refused = STARTS_NOTHING.to_vec();
    refused.push(call!(SYS_listen, "opens no listener; it serves what it is handed"));
    Row { files: Some(Files::default()), refused, no_ip_sockets: false, uid: lowered() }
}

/// Stands for the uid of a process that has one of its own: what is forbidden to it is the same for all of them.
fn lowered() -> Option<u32> {
    Some(u32::MAX)
}

/// The calls that are forbidden to the server, made here.
fn prove_server() -> Vec<Forbidden> {
    confine::prove(&server_row())
}

/// The calls that are forbidden to the gateway, made here.
fn prove_gateway() -> Vec<Forbidden> {
    confine::prove(&gateway_row())
}

fn server(config: &Config, log: scrub::Current) -> anyhow::Result<()> {
    let dir = config.home.join("server");
    let profiles = config.home.join("profiles");
    // Outside of what it may open; what is open stays so.
    let accounts = server::accounts::Accounts::open().context("open the kernel's table of connections")?;
    let files = Some(Files { own: vec![dir.clone()], replace: vec![profiles.clone()], read: Vec::new() });
    confine::take(&Row { uid: Some(config.server_uid), files, ..server_row() }, config.up)?;
    // Only now: what opens everything is in no process that is not confined yet.
    let keys = crate::keys::take(inherited(7))?;
    server::run(server::Config {
        keys,
        tcp: TcpListener::from(inherited(3)),
        api: UnixListener::from(inherited(4)),
        operator: UnixListener::from(inherited(5)),
        gateway: UnixListener::from(inherited(6)),
        dir,
        profiles,
        workspace: model::WorkspaceId::parse("main")?,
        administrator: config.administrator.clone(),
        accounts,
        prove: prove_server,
        warm: config.warm,
        log,
    })
}

fn gateway(config: &Config, log: scrub::Current) -> anyhow::Result<()> {
    let roots = gateway::load_roots(config.outside.extra_roots.as_deref())?;
    // Its files are closed soon.
    let outward = config.outside.outward()?;
    let names =
        ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/services"];
    let mut read: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    // resolv.conf is often a link into /run.
    read.extend(names.iter().filter_map(|name| std::fs::canonicalize(name).ok()));
    let files = Some(Files { read, ..Files::default() });
    confine::take(&Row { uid: Some(config.gateway_uid), files, ..gateway_row() }, config.up)?;
    gateway::run(gateway::Config {
        server_socket: config.home.join("run/gateway.sock"),
        cable: inherited(3),
        roots,
        outward,
        prove: prove_gateway,
        log,
    })
}

fn operator(config: &Config) -> anyhow::Result<()> {
    // It keeps mounts, namespaces and root, which boxes are made with; what it loses is what it never does.
    confine::take(&Row::default(), config.up)?;
    operator::run(operator::Config {
        dir: config.home.join("operator"),
        server: config.home.join("run/operator.sock"),
        cable: config.home.join("run/cable.sock"),
        cgroup_parent: config.cgroup_parent.clone(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        runner: RUNNER,
        agent: AGENT,
    })
}
