//! What a thousand connections cost whose clients take next to nothing of answers that never end.

use crate::egress::world::{World, any};
use crate::house::{soon, when};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Set in the process that is measured, which runs this one test.
const ALONE: &str = "VOLARY_TEST_ALONE";
const NAME: &str = "egress::memory::a_thousand_connections_that_take_nothing_cost_little_each";
/// Runs, connections of each, and those of them that are inside TLS.
const RUNS: usize = 16;
const EACH: usize = 64;
const INSIDE: usize = 16;
/// What one more connection may cost this process, in KiB: gateway, client and host together. What is measured is 300 to
/// 480, most of it three buffers of 64: one that came, one that waits to go, and TLS.
const KIB_EACH: u64 = 640;
/// What is on the way of one answer at most, in KiB, the kernel's buffers on both sides of the gateway included.
const KIB_ON_THE_WAY: u64 = 1024;

/// Memory of this process that is in use, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// A connection that has asked for an answer without an end, and has read a little of it.
async fn opened(world: &World, inside: bool) -> Box<dyn Wire> {
    let (mut wire, request): (Box<dyn Wire>, _) = if inside {
        let tls = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.expect("TLS with the gateway");
        (Box::new(tls), "GET /endless HTTP/1.1\r\nhost: a.example\r\n\r\n")
    } else {
        // A client with little room, as one that means harm has: what it does not take, somebody else must hold.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        let stream: TcpStream = socket.connect(world.house.door).await.expect("the door is open");
        (Box::new(stream), "GET http://a.example/endless HTTP/1.1\r\nhost: a.example\r\n\r\n")
    };
    wire.write_all(request.as_bytes()).await.expect("sent");
    wire.flush().await.expect("sent");
    let mut piece = [0; 1024];
    assert_ne!(soon("an answer", wire.read(&mut piece)).await.expect("an answer"), 0);
    assert!(piece.starts_with(b"HTTP/1.1 200"), "{}", piece.escape_ascii());
    wire
}

async fn of_one_run(world: &World) -> Vec<Box<dyn Wire>> {
    let mut all = Vec::new();
    for nth in 0..EACH {
        all.push(opened(world, nth < INSIDE).await);
    }
    all
}

/// Waits until the host can say no more: nobody holds what nobody takes.
async fn still(world: &World) {
    let mut before = u64::MAX;
    let poured = &world.origin.flow.poured;
    soon("the host to be stopped", async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = poured.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_thousand_connections_that_take_nothing_cost_little_each() {
    if std::env::var_os(ALONE).is_none() {
        let alone = tokio::task::spawn_blocking(|| {
            let this = std::env::current_exe().expect("a program");
            Command::new(this).args(["--exact", NAME, "--nocapture"]).env(ALONE, "1").output().expect("it runs")
        });
        let out = alone.await.expect("it ended");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let files = getrlimit(Resource::Nofile);
    let most = files.maximum.unwrap_or(u64::MAX).max(16_384);
    setrlimit(Resource::Nofile, Rlimit { current: Some(16_384), maximum: Some(most) }).expect("as root");

    let mut world = World::of(any(), false, |_| {}).await;
    // The hosts are in this process too, and hold little.
    world.origin.flow.held.store(16 * 1024, Ordering::Relaxed);
    world.origin.flow.sends.store(16 * 1024, Ordering::Relaxed);
    // The first run's are what the others are measured against: its certificates, tables and stacks are there then.
    let mut all = vec![of_one_run(&world).await];
    still(&world).await;
    let before = resident();
    for run in 2..=RUNS {
        (world.house.door, world.house.authority) = world.house.another_run(&format!("run{run}")).await;
        all.push(of_one_run(&world).await);
    }
    still(&world).await;
    let after = resident();
    when("every request", || world.origin.flow.begun.load(Ordering::Relaxed) == RUNS * EACH).await;
    let more = ((RUNS - 1) * EACH) as u64;
    let each = after.saturating_sub(before) / more;
    println!("{each} KiB for each of {more} connections more: {before} KiB became {after} KiB");
    assert!(each < KIB_EACH, "{each} KiB for each of {more} connections: {before} KiB became {after} KiB");
    let poured = world.origin.flow.poured.load(Ordering::Relaxed) / 1024 / (RUNS * EACH) as u64;
    println!("{poured} KiB of each answer are on the way");
    assert!(poured < KIB_ON_THE_WAY, "{poured} KiB of each answer are on the way");
    drop(all);
}
