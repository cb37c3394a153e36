//! What happens when descriptors run short: a process of its own, because the limit is the whole process's.

#[allow(dead_code, unused_imports, reason = "the house is built for many more tests than this one")]
#[path = "it/house/mod.rs"]
mod house;

use api::cable::{FromCable, ToCable};
use house::{House, ask, box_listener, soon, url};
use model::{Dialect, RunId};
use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::{AsFd, AsRawFd as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Descriptors of this process when the gateway begins; a quarter of them are seats.
const DESCRIPTORS: u64 = 160;
const SEATS: usize = 40;
const CLOSE: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const KEEP: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn limit(current: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..getrlimit(Resource::Nofile) }).expect("a limit");
}

/// The next packet, without a further descriptor.
async fn packet(house: &House) -> FromCable {
    let mut buffer = vec![0; 4096];
    let reading = async {
        loop {
            match rustix::net::recv(&house.cable, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((got, _)) => break got,
                Err(error) => assert_eq!(error, rustix::io::Errno::AGAIN),
            }
            tokio::task::yield_now().await;
        }
    };
    let got = soon("a packet", reading).await;
    serde_json::from_slice(&buffer[..got]).expect("a message: the cable is open")
}

#[tokio::test(flavor = "current_thread")]
async fn when_descriptors_run_short_one_attach_fails_and_one_run_waits_and_the_others_go_on() {
    limit(DESCRIPTORS);
    let mut house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:9")).await;

    for spare in [0, 1] {
        let listener = box_listener();
        let run = RunId::parse("run3").expect("an id");
        let free = rustix::io::dup(&listener).expect("a descriptor").as_raw_fd();
        limit(u64::try_from(free).expect("a number") + spare);
        house.send(&ToCable::Attach { run: run.clone() }, Some(listener.as_fd()));
        match packet(&house).await {
            FromCable::Refused { run: of, why } => {
                assert_eq!(of, run);
                assert!(why.contains("descriptors"), "{why}");
            }
            other => panic!("attached with {spare} descriptors: {other:?}"),
        }
        limit(DESCRIPTORS);
        assert_eq!(ask(house.door, CLOSE, b"").await.status, 403, "the first run is served as before");
    }

    let other = house.second_run().await;
    let mut answer = vec![0; 4096];
    let mut seated = Vec::new();
    for _ in 0..SEATS {
        let mut one = TcpStream::connect(house.door).await.expect("the door is open");
        one.write_all(KEEP).await.expect("sent");
        assert_ne!(soon("an answer", one.read(&mut answer)).await.expect("read"), 0);
        seated.push(one);
    }
    let mut last = TcpStream::connect(house.door).await.expect("the kernel's queue takes it");
    last.write_all(KEEP).await.expect("sent");
    assert_eq!(ask(other, CLOSE, b"").await.status, 403, "another run is served, after the last one has asked");
    assert_eq!(last.try_read(&mut answer).expect_err("no seat").kind(), std::io::ErrorKind::WouldBlock);
    seated.truncate(SEATS - 1);
    assert_ne!(soon("an answer", last.read(&mut answer)).await.expect("read"), 0);
}
