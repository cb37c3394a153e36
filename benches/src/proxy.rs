//! The way out beside the proxies that are packaged for Debian: squid, tinyproxy, mitmproxy.
//!
//! All of them stand in one network of their own, in which every address is this machine, before the same origin, and
//! are asked by the same client: plainly, through a blind tunnel, through TLS that the proxy opens on a connection that
//! is kept, and on a new one for each request. Ours judges and records every request in its server before it leaves,
//! and in the last row puts a credential in and scrubs the answer; the others write their access log.
//!
//! Read [`measure`], then [`origin`], [`client`], [`rivals`], [`ours`].

mod client;
mod origin;
mod ours;
mod rivals;

use crate::table::{Spread, Table, figure, goal, times};
use anyhow::{Context, Result, ensure};
use client::Way;
use std::path::Path;
use std::time::Duration;

/// How long each way is measured, and warmed up before.
const LENGTH: Duration = Duration::from_millis(1500);
const WARM: Duration = Duration::from_millis(300);
/// Clients at once on kept connections, and on new ones.
const MANY: usize = 32;
const NEW: usize = 8;

/// A proxy that runs, and the ways that it can be asked in.
struct Proxy {
    name: String,
    plain: Option<Way>,
    tunnel: Option<Way>,
    intercepted: Option<Way>,
    /// Intercepted, with a handle that a credential takes the place of.
    injected: Option<Way>,
    /// The same by POST: each is asked for and recorded by itself.
    written: Option<Way>,
    /// Ends with this.
    _runs: Box<dyn std::any::Any>,
}

/// What one proxy came to; none where it cannot do an item.
#[derive(Default)]
struct Measured {
    plain: Option<(Spread, f64)>,
    tunnel: Option<f64>,
    kept: Option<(Spread, f64)>,
    injected: Option<(Spread, f64)>,
    written: Option<(Spread, f64)>,
    new: Option<f64>,
}

/// Measures and prints.
pub fn run() -> Result<()> {
    ensure!(crate::stage::root(), "a network of its own is made as root only");
    // A thread of its own: what is measured next stays in the machine's network.
    let measured = std::thread::spawn(|| -> Result<()> {
        let dir = crate::stage::folder(&std::env::temp_dir())?;
        let world = origin::World::enter(dir.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(all(dir.path(), &world))
    });
    measured.join().ok().context("it panicked")?
}

async fn all(dir: &Path, world: &origin::World) -> Result<()> {
    let direct = measure(&client::direct(world)?).await?;
    let mut found = Vec::new();
    let memory = Path::new("/dev/shm");
    for (name, parent) in [("ours, record in memory", memory), ("ours, record on the disk", &*std::env::temp_dir())] {
        let proxy = ours::start(name, parent, world).await?;
        let measured = measure(&proxy).await.with_context(|| name.to_owned())?;
        found.push((proxy.name, measured));
    }
    let mut absent = Vec::new();
    for (name, start) in rivals::ALL {
        match start(dir, world) {
            Ok(proxy) => match measure(&proxy).await {
                Ok(measured) => found.push((proxy.name, measured)),
                Err(error) => absent.push((name, format!("not measured: {error:#}"))),
            },
            Err(error) => absent.push((name, format!("not here: {error:#}"))),
        }
    }
    print(&direct, &found, &absent);
    Ok(())
}

async fn measure(proxy: &Proxy) -> Result<Measured> {
    let mut measured = Measured::default();
    if let Some(way) = &proxy.plain {
        measured.plain = Some(one_and_many(way).await.context("plain")?);
    }
    if let Some(way) = &proxy.tunnel {
        measured.tunnel = Some(many(way).await.context("a tunnel")?.1);
    }
    if let Some(way) = &proxy.intercepted {
        let (all, rate) = many(way).await.context("intercepted")?;
        measured.kept = Some((all, rate));
        client::fresh(way, NEW, WARM).await.context("new connections")?;
        let new = client::fresh(way, NEW, LENGTH).await.context("new connections")?;
        measured.new = Some(new.len() as f64 / LENGTH.as_secs_f64());
    }
    if let Some(way) = &proxy.injected {
        measured.injected = Some(many(way).await.context("injected")?);
    }
    if let Some(way) = &proxy.written {
        measured.written = Some(many(way).await.context("written")?);
    }
    Ok(measured)
}

/// Times at one client, and requests a second at many.
async fn one_and_many(way: &Way) -> Result<(Spread, f64)> {
    client::kept(way, 1, WARM).await?;
    let one = Spread::of(client::kept(way, 1, LENGTH).await?);
    Ok((one, many(way).await?.1))
}

/// Times and requests a second at many.
async fn many(way: &Way) -> Result<(Spread, f64)> {
    client::kept(way, MANY, WARM).await?;
    let all = client::kept(way, MANY, LENGTH).await?;
    ensure!(!all.is_empty(), "nothing was answered");
    let rate = all.len() as f64 / LENGTH.as_secs_f64();
    Ok((Spread::of(all), rate))
}

fn print(direct: &Measured, found: &[(String, Measured)], absent: &[(&str, String)]) {
    let mut table = Table::new(&[
        "requests a second (32 clients; new: 8)",
        "plain, p50 µs at 1",
        "plain",
        "tunnel",
        "intercepted, kept",
        "p99 ms",
        "with a credential",
        "p99 ms",
        "writes",
        "p99 ms",
        "intercepted, new",
    ]);
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), figure);
    let rows = std::iter::once(("direct", direct)).chain(found.iter().map(|(name, m)| (name.as_str(), m)));
    for (name, m) in rows {
        table.row([
            name.to_owned(),
            cell(m.plain.map(|(one, _)| one.p50)),
            cell(m.plain.map(|(_, rate)| rate)),
            cell(m.tunnel),
            cell(m.kept.map(|(_, rate)| rate)),
            cell(m.kept.map(|(all, _)| all.p99 / 1e3)),
            cell(m.injected.map(|(_, rate)| rate)),
            cell(m.injected.map(|(all, _)| all.p99 / 1e3)),
            cell(m.written.map(|(_, rate)| rate)),
            cell(m.written.map(|(all, _)| all.p99 / 1e3)),
            cell(m.new),
        ]);
    }
    for (name, why) in absent {
        table.absent(name, why);
    }
    table.print();
    let Some((_, ours)) = found.first() else { return };
    for (name, theirs) in found.iter().skip(1) {
        let of = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => times(ours, theirs),
            _ => "–".to_owned(),
        };
        println!(
            "ours in memory beside {name}: plain {}, tunnel {}, intercepted {}, new {}",
            of(ours.plain.map(|p| p.1), theirs.plain.map(|p| p.1)),
            of(ours.tunnel, theirs.tunnel),
            of(ours.kept.map(|k| k.1), theirs.kept.map(|k| k.1)),
            of(ours.new, theirs.new),
        );
    }
    goals(direct, found);
}

fn goals(direct: &Measured, found: &[(String, Measured)]) {
    let Some((_, ours)) = found.first() else { return };
    if let (Some((ours, _)), Some((direct, _))) = (ours.plain, direct.plain) {
        let added = ours.p50 - direct.p50;
        goal(
            "added to a plain request, record in memory, p50",
            "≤ 100 µs",
            &format!("{} µs", figure(added)),
            added <= 100.0,
        );
    }
    let squid = found.iter().find(|(name, _)| name.starts_with("squid"));
    if let (Some((_, ours)), Some((_, squid))) = (ours.plain, squid.and_then(|(_, m)| m.plain)) {
        goal("plain requests a second beside squid's", "≥ 2×", &times(ours, squid), ours >= 2.0 * squid);
    }
    if let Some((all, rate)) = ours.injected {
        let p99 = all.p99 / 1e3;
        let here = format!("{}/s, {} ms", figure(rate), figure(p99));
        goal(
            "intercepted, with a credential, 32 clients",
            "≥ 10 000/s, p99 ≤ 10 ms",
            &here,
            rate >= 10_000.0 && p99 <= 10.0,
        );
    }
}
