//! A run whose profile names a registry's image: it is pulled before there is a box, or there is none.

use crate::{DONE, end, support::*};
use api::images::{Part, PartEnd};
use api::link::Launch;
use model::{Event, Outcome, Profile};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// An image: the digest of its manifest, and its parts.
fn image() -> (String, HashMap<String, Vec<u8>>) {
    let layer = vec![7; 100_000];
    let config = serde_json::json!({ "rootfs": { "diff_ids": [digest(&layer)] } }).to_string().into_bytes();
    let manifest = serde_json::json!({
        "config": { "digest": digest(&config) }, "layers": [{ "digest": digest(&layer), "size": layer.len() }],
    });
    let manifest = manifest.to_string().into_bytes();
    let name = digest(&manifest);
    (name, [layer, config, manifest].into_iter().map(|part| (digest(&part), part)).collect())
}

fn named(digest: &str) -> Launch {
    let image = Some(format!("registry.example/team/tools@{digest}"));
    let launch = exec();
    Launch { profile: Profile { image, ..launch.profile.clone() }, ..launch }
}

fn frame(to: &mut UnixStream, bytes: &[u8]) {
    to.write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes()).unwrap();
    to.write_all(bytes).unwrap();
}

/// The next part that is asked for; none at the end.
fn asked(from: &mut UnixStream) -> Option<Part> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut ask = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut ask).ok()?;
    Some(serde_json::from_slice(&ask).unwrap())
}

/// Gives parts until there are no more, or no more are asked for.
fn give(mut socket: UnixStream, parts: HashMap<String, Vec<u8>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while let Some(part) = asked(&mut socket) {
            for piece in parts[&part.digest].chunks(30_000) {
                frame(&mut socket, piece);
            }
            frame(&mut socket, b"");
            frame(&mut socket, &serde_json::to_vec(&PartEnd::Whole).unwrap());
        }
    })
}

#[tokio::test(flavor = "current_thread")]
async fn an_image_is_pulled_before_there_is_a_box_and_the_transcript_says_so() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, false, "");
    });
    let (digest, parts) = image();
    stage.launch(named(&digest));
    let given = give(gateway.pull().await, parts);
    let events = stage.events().await;
    given.join().unwrap();
    let attempt = events.iter().position(|event| matches!(event, Event::Attempt { .. })).expect("an attempt");
    let before = &events[..attempt];
    assert!(before.iter().all(|event| matches!(event, Event::Note { .. })), "{events:?}");
    let says_so = |event: &Event| matches!(event, Event::Note { text } if text.contains("1 MiB of it are pulled"));
    assert!(before.iter().any(says_so), "{events:?}");
    assert_eq!(end(&events).0, Outcome::Done);
    let told = gateway.kill();
    assert_eq!(told[0], format!("pull r1 registry.example/team/tools@{digest}"));
    assert_eq!(told.iter().filter(|line| line.starts_with("pull")).count(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_whose_image_is_refused_ends_with_the_reason_and_without_a_box() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let (digest, _) = image();
    stage.launch(named(&digest));
    let mut socket = gateway.pull().await;
    let refused = tokio::task::spawn_blocking(move || {
        asked(&mut socket).unwrap();
        frame(&mut socket, b"half of it");
        frame(&mut socket, b"");
        let why = "The registry registry.example says no.".to_owned();
        frame(&mut socket, &serde_json::to_vec(&PartEnd::Refused { rule: "image.unknown".into(), why }).unwrap());
    });
    let events = stage.events().await;
    refused.await.unwrap();
    let (outcome, reason, _) = end(&events);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("registry.example says no. (image.unknown)"), "{reason}");
    assert!(!events.iter().any(|event| matches!(event, Event::Attempt { .. })), "{events:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancel_ends_a_pull_and_a_gateway_that_goes_costs_the_attempt_and_not_the_run() {
    let (digest, _) = image();
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    stage.launch(named(&digest));
    let mut socket = gateway.pull().await;
    stage.keeper_cancel();
    let events = stage.events().await;
    assert_eq!(end(&events).0, Outcome::Cancelled);
    // Nobody waits for a part any more.
    tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
    })
    .await
    .unwrap();

    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(named(&digest));
    drop(gateway.pull().await);
    stale.changed().await.unwrap();
    let events = stage.events().await;
    assert!(
        matches!(events.last(), Some(Event::BrokenOff { reason, .. }) if reason.contains("while it was pulled")),
        "{events:?}"
    );
}
