//! What the gateway adds to a model call: the same call directly and through the real processes, policy and record on.
//!
//! Server and gateway run as `volary up` starts them, confined, under uids of their own; the benchmark plays the
//! operator, which is no part of a call. A call through the gateway is judged, reserved, recorded and committed
//! before it leaves, and settled, recorded and committed after. It is measured twice: with the home on the disk,
//! where a commit waits for the disk, and in memory, where what is left is our own work.

use crate::double;
use crate::evidence_rate;
use crate::stage::{Home, Process, seqpacket};
use crate::table::{Spread, Table, figure, goal, times};
use anyhow::{Context, Result, bail, ensure};
use api::cable::{FromCable, ToCable};
use api::link::{Down, Launch, Up};
use model::{Event, Moment};
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use rustix::net::{SocketFlags, SocketType};
use serde_json::{Value, json, value::RawValue};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long each way is measured at each number of clients.
const LENGTH: Duration = Duration::from_millis(2500);
/// How long each way is warmed up.
const WARM: Duration = Duration::from_millis(400);

/// Latency at one client, and calls a second at 32.
struct Measured {
    one: Spread,
    one_rate: f64,
    many: Spread,
    many_rate: f64,
}

/// Measures and prints.
pub fn run() -> Result<()> {
    let double = double::serve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let memory = Path::new("/dev/shm");
    let disk = std::env::temp_dir();

    let direct = runtime.block_on(measure(double, &double::request("/v1/messages", "none")))?;
    let on_disk = through(&runtime, double, &disk)?;
    let (sync, commit) = (evidence_rate::one_sync(&disk)?, evidence_rate::one_commit(&disk)?);
    let in_memory = if memory.is_dir() { Some(through(&runtime, double, memory)?) } else { None };

    let mut table = Table::new(&[
        "one model call",
        "p50 µs",
        "p99 µs",
        "calls/s",
        "at 32: p50 µs",
        "p99 µs",
        "calls/s",
        "of direct",
    ]);
    let mut row = |what: &str, m: &Measured| {
        table.row([
            what.to_owned(),
            figure(m.one.p50),
            figure(m.one.p99),
            figure(m.one_rate),
            figure(m.many.p50),
            figure(m.many.p99),
            figure(m.many_rate),
            times(m.many_rate, direct.many_rate),
        ]);
    };
    row("direct", &direct);
    row("through the gateway, record on the disk", &on_disk);
    if let Some(in_memory) = &in_memory {
        row("through the gateway, record in memory", in_memory);
    }
    table.print();
    let added = |m: &Measured| (m.one.p50 - direct.one.p50, m.one.p99 - direct.one.p99);
    let (p50, p99) = added(&on_disk);
    println!(
        "added, record on the disk: p50 {} µs, p99 {} µs; one commit alone {} µs, so {} of it; one sync of the disk {} µs",
        figure(p50),
        figure(p99),
        figure(commit),
        times(p50, commit),
        figure(sync)
    );
    goal("added to a call, durable record, p50", "≤ 100 µs", &format!("{} µs", figure(p50)), p50 <= 100.0);
    if let Some(in_memory) = &in_memory {
        let (p50, p99) = added(in_memory);
        println!("added, record in memory: p50 {} µs, p99 {} µs", figure(p50), figure(p99));
        goal("added to a call without the disk's share, p50", "≤ 100 µs", &format!("{} µs", figure(p50)), p50 <= 100.0);
    }
    Ok(())
}

fn through(runtime: &tokio::runtime::Runtime, double: SocketAddr, parent: &Path) -> Result<Measured> {
    let home = Home::new(parent)?;
    runtime.block_on(async {
        let running = Running::start(&home, double).await?;
        let (door, path) = (&running.doors[0], "/model/m/v1/messages");
        let measured = measure(door.at, &double::request(path, &door.handle)).await;
        measured.with_context(|| format!("through the gateway; {}", home.log()))
    })
}

async fn measure(to: SocketAddr, request: &str) -> Result<Measured> {
    double::ask(to, request, 1, WARM).await?;
    let one = double::ask(to, request, 1, LENGTH).await?;
    double::ask(to, request, 32, WARM).await?;
    let many = double::ask(to, request, 32, LENGTH).await?;
    let rate = |calls: &Vec<f64>| calls.len() as f64 / LENGTH.as_secs_f64();
    Ok(Measured { one_rate: rate(&one), many_rate: rate(&many), one: Spread::of(one), many: Spread::of(many) })
}

/// A platform with runs under way, whose boxes and operator are played.
pub struct Running {
    /// One for each run.
    pub doors: Vec<Door>,
    _gateway: Process,
    _server: Process,
    _link: tokio::task::JoinHandle<()>,
}

/// A run's door, as its box sees it.
pub struct Door {
    /// Where it is.
    pub at: SocketAddr,
    /// What the run shows in a credential's place.
    pub handle: String,
    /// Whom the run's box trusts, in PEM.
    pub authority: String,
    _cable: OwnedFd,
    _listener: OwnedFd,
}

/// An agent's run by the benchmark's profile, as the API takes it.
pub fn agent() -> Value {
    json!({"kind": "agent", "task": "x", "model": "m", "profile": "bench"})
}

impl Running {
    async fn start(home: &Home, double: SocketAddr) -> Result<Self> {
        Self::start_with(home, double, "", &[], &[agent()]).await
    }

    /// These runs by a profile with these further lines, in a workspace with these secrets.
    pub async fn start_with(
        home: &Home,
        double: SocketAddr,
        profile: &str,
        secrets: &[(&str, Value)],
        runs: &[Value],
    ) -> Result<Self> {
        let server = home.server()?;
        home.api("GET", "/api/health", None)?;
        let gateway = home.gateway()?;
        home.api("PUT", "/api/secrets/model/m", Some(&json!({"value": "canary-key-0123456789abcdef"})))?;
        let model = json!({
            "dialect": "anthropic", "base": format!("http://{double}"), "id": double::MODEL, "internal": true,
            "secret": "model/m", "price": {"input": 1, "output": 1}, "max_output_tokens": 100,
        });
        home.api("PUT", "/api/models/m", Some(&model))?;
        for (name, value) in secrets {
            home.api("PUT", &format!("/api/secrets/{name}"), Some(value))?;
        }
        let profile = format!("[limits]\ntokens = 100000000000\ncost-micro-dollars = 100000000000\n{profile}");
        std::fs::write(home.at("profiles/bench.toml"), profile)?;
        let mut link = UnixStream::connect(home.at("run/operator.sock")).await?;
        api::frame::write(&mut link, &Up::Hello { host: "bench".into(), runs: Vec::new() }).await?;
        until_linked(home, "operator").await?;
        let mut launches = Vec::new();
        for wish in runs {
            home.api("POST", "/api/runs", Some(wish))?;
            let launch = launched(&mut link).await?;
            begin(&mut link, &launch).await?;
            launches.push(launch);
        }
        // Heads of the evidence keep coming and must be read.
        let reading = tokio::spawn(async move { while api::frame::read::<Down>(&mut link).await.is_ok() {} });
        until_linked(home, "gateway").await?;
        let doors = launches.into_iter().map(|launch| Door::open(home, launch)).collect::<Result<_>>()?;
        Ok(Self { doors, _gateway: gateway, _server: server, _link: reading })
    }
}

impl Door {
    fn open(home: &Home, launch: Launch) -> Result<Self> {
        let (cable, listener, at, authority) = attach(home, &launch)?;
        let handle = launch.agent.map(|agent| agent.handle).or(launch.handle).context("a launch without a handle")?;
        Ok(Self { at, handle, authority, _cable: cable, _listener: listener })
    }
}

async fn until_linked(home: &Home, who: &str) -> Result<()> {
    for _ in 0..2000 {
        if home.api("GET", "/api/health", None)?[who] == Value::Bool(true) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("the {who} is not connected: {}", home.log())
}

async fn launched(link: &mut UnixStream) -> Result<Launch> {
    loop {
        if let Down::Launch(launch) = api::frame::read(link).await? {
            return Ok(*launch);
        }
    }
}

async fn begin(link: &mut UnixStream, launch: &Launch) -> Result<()> {
    let event = Event::Attempt { attempt: launch.attempt, box_id: launch.box_id.clone(), uid: 7 };
    let event = RawValue::from_string(serde_json::to_string(&event)?)?;
    api::frame::write(link, &Up::Event { run: launch.run.clone(), seq: 1, at: Moment(1), event }).await?;
    while !matches!(api::frame::read::<Down>(link).await?, Down::Ack { .. }) {}
    Ok(())
}

/// Hands the gateway the run's listener, as an operator does.
fn attach(home: &Home, launch: &Launch) -> Result<(OwnedFd, OwnedFd, SocketAddr, String)> {
    let listener = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
    rustix::net::listen(&listener, 128)?;
    let door = TcpListener::from(listener.try_clone()?).local_addr()?;
    let cable = seqpacket()?;
    rustix::net::connect(&cable, &SocketAddrUnix::new(home.at("run/cable.sock"))?)?;
    let packet = serde_json::to_vec(&ToCable::Attach { run: launch.run.clone() })?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let brought = [listener.as_fd()];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&brought)), "no room for a descriptor");
    rustix::net::sendmsg(&cable, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?;
    let mut answer = vec![0; api::cable::MAX_PACKET];
    let (length, _) = rustix::net::recv(&cable, &mut answer[..], RecvFlags::empty())?;
    match serde_json::from_slice(&answer[..length])? {
        FromCable::Attached { authority, .. } => {
            Ok((cable, listener, door, authority.context("a door without an authority")?))
        }
        FromCable::Refused { why, .. } => bail!("the gateway refused the run's door: {why}"),
        FromCable::Scrubbed { .. } | FromCable::Heard { .. } | FromCable::Repository { .. } => {
            bail!("the gateway answered another question")
        }
    }
}
