//! A lease from its grant through its use to its end, and what it adds to the command that runs under it.
//!
//! First the platform's own part: real server and gateway, with the benchmark in the place of the boxes. A cycle is a run's
//! question at its door, its process 1's word that the use begins, the value, and its word that it is over; each of the three is
//! recorded in a commit, the first two before they are answered. Then the whole: a command in a box, with a lease and without,
//! and one whose lease a person takes back.

use crate::call::{Door, Running, agent};
use crate::evidence_rate;
use crate::stage::{Home, Up, volary};
use crate::table::{Spread, Table, figure, times};
use anyhow::{Context, Result, bail, ensure};
use api::delivery::{FromRunner, MAX_USES, RUNNER, ToRunner};
use api::leases::{Given, LeaseEnd, LeaseUser};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;

/// Boxes, each of which may use so many leases at a time: together as many as are measured at once.
const BOXES: usize = 2;
/// Cycles at once.
const AT_ONCE: usize = 32;
/// Capabilities of the profile, in turns: a run has so many leases of one in a minute.
const CAPABILITIES: usize = model::capability::MAX_CAPABILITIES;
/// How long each number of cycles at once is measured.
const LENGTH: Duration = Duration::from_millis(2500);
/// How long each is warmed up.
const WARM: Duration = Duration::from_millis(400);
/// Commands of each kind.
const COMMANDS: usize = 30;
/// What the played commands are.
const PROGRAM: &str = "/usr/bin/true";
/// What has a lease until that is taken back.
const HOLDS: &str = "/usr/bin/sleep";

const _: () = assert!(BOXES * MAX_USES >= AT_ONCE);

/// Measures and prints.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (disk, memory) = (std::env::temp_dir(), Path::new("/dev/shm"));
    let mut table = Table::new(&[
        "one lease, granted, used, ended",
        "p50 µs",
        "p99 µs",
        "leases/s",
        "at 32: p50 µs",
        "p99 µs",
        "leases/s",
    ]);
    let mut row = |what: &str, m: &Measured| {
        let Measured { one: (one, rate), many: (many, rate_of_many) } = m;
        table.row([
            what.to_owned(),
            figure(one.p50),
            figure(one.p99),
            figure(*rate),
            figure(many.p50),
            figure(many.p99),
            figure(*rate_of_many),
        ]);
    };
    let on_disk = cycles(&runtime, &disk)?;
    row("record on the disk", &on_disk);
    if memory.is_dir() {
        row("record in memory", &cycles(&runtime, memory)?);
    }
    table.print();
    let commit = evidence_rate::one_commit(&disk)?;
    println!(
        "one commit alone {} µs; a lease waits for two of them, and takes {} of one",
        figure(commit),
        times(on_disk.one.0.p50, commit)
    );
    commands()
}

/// Microseconds of each cycle, and cycles a second: one after the other, and [`AT_ONCE`].
struct Measured {
    one: (Spread, f64),
    many: (Spread, f64),
}

fn cycles(runtime: &tokio::runtime::Runtime, parent: &Path) -> Result<Measured> {
    let home = Home::new(parent)?;
    let rows = (0..CAPABILITIES).map(|n| {
        format!(
            "[[capability]]\nname = \"shop-{n}\"\nsecret = \"capability/shop\"\nkind = \"tool\"\ndestinations = [\"shop\"]\n\
             delivery = {{ variable = \"SHOP_TOKEN\" }}\nexecutables = [\"{PROGRAM}\"]\nper-minute = 600\nper-run = 20000\n"
        )
    });
    let profile: String = rows.collect();
    let secret = ("capability/shop", json!({"value": "canary-credential-0123456789abcdef"}));
    runtime.block_on(async {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let running = Running::start_with(&home, nobody, &profile, &[secret], &vec![agent(); BOXES]).await?;
        let mut boxes = Vec::new();
        for door in &running.doors {
            boxes.push(Arc::new(Played::start(door).await?));
        }
        let mut turn = 0;
        let mut measured = async |clients, length| {
            turn += 1;
            measure(&boxes, clients, length, turn * 17).await.with_context(|| home.log())
        };
        measured(1, WARM).await?;
        let one = measured(1, LENGTH).await?;
        measured(AT_ONCE, WARM).await?;
        let many = measured(AT_ONCE, LENGTH).await?;
        let of = |all: Vec<f64>| {
            let rate = all.len() as f64 / LENGTH.as_secs_f64();
            (Spread::of(all), rate)
        };
        Ok(Measured { one: of(one), many: of(many) })
    })
}

async fn measure(boxes: &[Arc<Played>], clients: usize, length: Duration, first: usize) -> Result<Vec<f64>> {
    let end = Instant::now() + length;
    let mut all = Vec::new();
    let mut under_way = Vec::new();
    for client in 0..clients {
        let played = boxes[client % boxes.len()].clone();
        under_way.push(tokio::spawn(async move {
            let mut times = Vec::new();
            let mut asking = Asking::connect(&played).await?;
            let mut n = first + client;
            while Instant::now() < end {
                let begun = Instant::now();
                let given = asking.ask(n % CAPABILITIES).await?;
                played.once(given).await?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                n += clients.max(7);
            }
            Ok::<_, anyhow::Error>(times)
        }));
    }
    for one in under_way {
        all.extend(one.await??);
    }
    Ok(all)
}

/// A box whose process 1 is played.
struct Played {
    door: SocketAddr,
    handle: String,
    to: tokio::sync::Mutex<(OwnedWriteHalf, u64)>,
    asked: Arc<Mutex<HashMap<u64, oneshot::Sender<ToRunner>>>>,
}

impl Played {
    async fn start(door: &Door) -> Result<Self> {
        let mut stream = TcpStream::connect(door.at).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&[RUNNER]).await?;
        let (mut from, to) = stream.into_split();
        let asked = Arc::<Mutex<HashMap<u64, oneshot::Sender<ToRunner>>>>::default();
        let answered = asked.clone();
        tokio::spawn(async move {
            while let Ok(said) = api::frame::read::<ToRunner>(&mut from).await {
                let (ToRunner::Value { id, .. } | ToRunner::Denied { id, .. } | ToRunner::Over { id, .. }) = &said;
                let asker = answered.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                // Of what is over nobody waits for a word.
                if let Some(asker) = asker {
                    drop(asker.send(said));
                }
            }
        });
        Ok(Self { door: door.at, handle: door.handle.clone(), to: tokio::sync::Mutex::new((to, 0)), asked })
    }

    /// The one use of a lease, and its end.
    async fn once(&self, given: Given) -> Result<()> {
        let by = LeaseUser::Command {
            executable: PROGRAM.to_owned(),
            executable_sha256: "0".repeat(64),
            argv_sha256: "0".repeat(64),
        };
        let (tell, told) = oneshot::channel();
        let id = {
            let (to, last) = &mut *self.to.lock().await;
            *last += 1;
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(*last, tell);
            api::frame::write(to, &FromRunner::Use { id: *last, lease: given.lease, by }).await?;
            *last
        };
        match told.await.context("the gateway is gone")? {
            ToRunner::Value { .. } => {}
            ToRunner::Denied { rule, why, .. } => bail!("no use of the lease: {why} ({rule})"),
            ToRunner::Over { .. } => bail!("the use was over before it began"),
        }
        let (to, _) = &mut *self.to.lock().await;
        Ok(api::frame::write(to, &FromRunner::End { id, outcome: LeaseEnd::Completed }).await?)
    }
}

/// A connection of a box's on which leases are asked for.
struct Asking {
    stream: TcpStream,
    handle: String,
    got: Vec<u8>,
}

impl Asking {
    async fn connect(played: &Played) -> Result<Self> {
        let stream = TcpStream::connect(played.door).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, handle: played.handle.clone(), got: Vec::new() })
    }

    async fn ask(&mut self, n: usize) -> Result<Given> {
        let body =
            json!({ "capability": format!("shop-{n}"), "destination": "shop", "reason": "to order paper" }).to_string();
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            api::leases::PATH,
            self.handle,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.got.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.got).await? > 0, "the door closed");
            let Some((head, body)) = crate::double::whole(&self.got) else { continue };
            ensure!(head.starts_with("HTTP/1.1 200"), "{head}\n{}", String::from_utf8_lossy(body));
            return Ok(serde_json::from_slice(body)?);
        }
    }
}

/// A command in a box, with a lease and without, in turns.
fn commands() -> Result<()> {
    // No box waits: each of both kinds is made anew.
    let up = Up::start(&["--warm", "0"])?;
    up.volary(&["secret", "set", "capability/shop"], "canary-credential-0123456789abcdef")?;
    let profile = format!(
        "[[capability]]\nname = \"shop\"\nsecret = \"capability/shop\"\nkind = \"command\"\ndestinations = [\"shop\"]\n\
         delivery = {{ variable = \"SHOP_TOKEN\" }}\nexecutables = [\"{PROGRAM}\", \"{HOLDS}\"]\n"
    );
    std::fs::write(up.home().join("profiles/bench.toml"), profile)?;
    let ways: [(&str, &[&str]); 2] = [("without a lease", &[]), ("with a lease", &["--lease", "shop"])];
    let mut measured = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for n in 0..=COMMANDS {
        for ((_, option), (own, whole)) in ways.iter().zip(&mut measured) {
            let begun = Instant::now();
            up.volary(&[&["exec", "--profile", "bench"], *option, &["--", PROGRAM]].concat(), "")?;
            let took = crate::table::ms(begun.elapsed());
            // The first of each is to warm up.
            if n > 0 {
                whole.push(took);
                own.push(its_own(&up)?);
            }
        }
    }
    let mut table = Table::new(&["one command", "its own ms, mean", "`volary exec`, whole: p50 ms", "p99 ms"]);
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    for ((what, _), (own, whole)) in ways.iter().zip(&measured) {
        let whole = Spread::of(whole.clone());
        table.row([(*what).to_owned(), figure(mean(own)), figure(whole.p50), figure(whole.p99)]);
    }
    table.print();
    let [(without, whole_without), (with, whole_with)] = &measured;
    let median = |all: &[f64]| Spread::of(all.to_vec()).p50;
    println!(
        "a lease adds {} to its command, and {} to the whole of it",
        added(mean(with) - mean(without)),
        added(median(whole_with) - median(whole_without))
    );
    let ends = Spread::of(taken_back(&up)?);
    let mut table = Table::new(&["a lease in use is taken back", "p50 ms", "p99 ms"]);
    table.row([
        "from `volary lease revoke` to the end of its command's `volary exec`".into(),
        figure(ends.p50),
        figure(ends.p99),
    ]);
    table.print();
    up.end()
}

/// Milliseconds from the start of `volary lease revoke` until the command that has the lease has ended, and its client too.
fn taken_back(up: &Up) -> Result<Vec<f64>> {
    let start = |args: &[&str]| -> Result<Child> {
        let mut command = Command::new(volary()?);
        command.arg("--home").arg(up.home()).args(args);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    };
    let mut all = Vec::new();
    for n in 0..=COMMANDS {
        let mut holds = start(&["exec", "--profile", "bench", "--lease", "shop", "--", HOLDS, "600"])?;
        let lease = loop {
            let open: Value = serde_json::from_str(&up.volary(&["lease", "list", "--json"], "")?)?;
            if open[0]["state"] == "consumed" {
                break open[0]["lease"].as_str().context("no lease")?.to_owned();
            }
            ensure!(holds.try_wait()?.is_none(), "the command ended before its lease was taken back");
            std::thread::sleep(Duration::from_millis(10));
        };
        let begun = Instant::now();
        let mut revoke = start(&["lease", "revoke", &lease])?;
        holds.wait()?;
        let took = crate::table::ms(begun.elapsed());
        ensure!(revoke.wait()?.success(), "`volary lease revoke` failed");
        if n > 0 {
            all.push(took);
        }
    }
    Ok(all)
}

/// Milliseconds that were added, where they can be told from what else the machine did.
fn added(ms: f64) -> String {
    if ms > 0.0 { format!("{} ms", figure(ms)) } else { "nothing that shows".to_owned() }
}

/// How long the newest run's command took, in whole milliseconds, from when it was asked for.
fn its_own(up: &Up) -> Result<f64> {
    let runs: Value = serde_json::from_str(&up.volary(&["runs", "--json"], "")?)?;
    let run = runs[0]["run"].as_str().context("no run")?;
    let log = up.volary(&["log", run, "--json"], "")?;
    let entries = log.lines().map(serde_json::from_str::<Value>);
    for entry in entries {
        let event = &entry?["event"];
        if event["kind"] == "command-end" {
            return event["ms"].as_f64().context("no time");
        }
    }
    bail!("the command of {run} has no end")
}
