//! Answers to requests with a credential that come encoded although none was asked for: decoded so that they can be
//! scrubbed, or refused.

use crate::egress::world::{TOKEN, World, writes};
use crate::house::{Got, HANDLE};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write as _;

const HOST: &str = "api.example";

/// What a host says at `path`, where that is one of these: the words, and the names of their encodings.
pub fn said(path: &str, shown: &str) -> Option<(Vec<u8>, &'static str, &'static str)> {
    let words = format!("you are {shown}, yes, {shown}");
    let long = format!("{words}{}{words}", "x".repeat(3 << 20));
    Some(match path.strip_prefix("/encoded/")? {
        "gzip" => (gzip(words.as_bytes()), "gzip", ""),
        "x-gzip" => (gzip(words.as_bytes()), "X-GZip", ""),
        "deflate" => (zlib(words.as_bytes()), "deflate", ""),
        "identity" => (words.into_bytes(), "identity", ""),
        "long" => (gzip(long.as_bytes()), "gzip", ""),
        "empty" => (gzip(b""), "gzip", ""),
        "twice" => (gzip(&gzip(words.as_bytes())), "gzip, gzip", ""),
        "brotli" => (words.into_bytes(), "br", ""),
        "unknown" => (words.into_bytes(), "x-rot13", ""),
        "plain" => (words.into_bytes(), "gzip", ""),
        "raw-deflate" => (zlib(words.as_bytes())[2..].to_vec(), "deflate", ""),
        "cut" => (gzip(words.as_bytes())[..30].to_vec(), "gzip", ""),
        "two" => ([gzip(b"one"), gzip(words.as_bytes())].concat(), "gzip", ""),
        "late" => {
            let mut cut = gzip(long.as_bytes());
            cut.truncate(cut.len() - 9);
            (cut, "gzip", "")
        }
        "transfer" => (gzip(words.as_bytes()), "", "gzip, chunked"),
        // 256 MiB of nothing, and some: a gateway that believed it would pass all of it.
        "bomb" => (bomb(), "gzip", ""),
        _ => return None,
    })
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("encoded")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("encoded")
}

/// A block that repeats one of 64 KiB 5000 times needs no encoder that looks at 320 MiB.
fn bomb() -> Vec<u8> {
    let mut block = GzEncoder::new(Vec::new(), Compression::best());
    block.write_all(&[0; 1 << 16]).expect("written");
    block.flush().expect("flushed");
    let whole = block.get_ref().clone();
    let head = &whole[..10];
    // A second block of the same after a flush refers to nothing before it.
    let mut body = Vec::new();
    for _ in 0..5000 {
        body.extend_from_slice(&whole[10..]);
    }
    [head, &body].concat()
}

async fn ask(world: &World, path: &str) -> Got {
    world
        .https(HOST, &format!("GET /encoded/{path}\r\nauthorization: Bearer {HANDLE}\r\naccept-encoding: br\r\n"), b"")
        .await
}

async fn world(two: bool) -> World {
    let world = World::of(writes(HOST, "GET", "/encoded"), two, |_| {}).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

#[tokio::test(flavor = "current_thread")]
async fn a_credential_inside_an_encoded_answer_is_scrubbed_and_the_answer_goes_on_plainly() {
    for two in [true, false] {
        let world = world(two).await;
        // A host that was given no credential is passed as it is, and is the box's to read.
        let got = world.https(HOST, "GET /encoded/gzip", b"").await;
        assert_eq!((got.status, got.head.contains("content-encoding: gzip")), (200, true));
        world.saw();
        assert_eq!(got.body, gzip(b"you are , yes, "));
        for path in ["gzip", "x-gzip", "deflate", "identity"] {
            let got = ask(&world, path).await;
            assert_eq!((got.status, got.whole), (200, true), "{path}: {got:?}");
            assert_eq!(world.saw().header("accept-encoding"), Some("identity"));
            assert!(got.text().starts_with("you are ") && got.text().contains(", yes, "), "{path}: {got:?}");
            assert!(!got.text().contains(TOKEN), "{path}: {got:?}");
            assert!(path == "identity" || !got.head.contains("content-encoding"), "{path}: {}", got.head);
        }
        let got = ask(&world, "long").await;
        assert_eq!((got.status, got.whole), (200, true));
        let placeholders = got.text().matches("[").count();
        assert!(got.body.len() > 3 << 20 && placeholders == 4 && !got.text().contains(TOKEN));
        assert!(got.text().ends_with(']'));
        let got = ask(&world, "empty").await;
        assert_eq!((got.status, got.body.len(), got.whole), (200, 0, true));
        // Now that it was given one, what it says to who shows none is looked through as well.
        let got = world.https(HOST, "GET /encoded/gzip", b"").await;
        assert_eq!((got.status, got.text()), (200, "you are , yes, "));
        assert!(!got.head.contains("content-encoding"), "{}", got.head);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_cannot_be_decoded_is_refused_and_recorded_and_none_of_it_passes() {
    let mut world = world(false).await;
    for path in ["twice", "brotli", "unknown", "plain", "raw-deflate", "cut", "transfer"] {
        let got = ask(&world, path).await;
        assert_eq!((got.status, got.rule().as_str()), (502, "write.encoding"), "{path}: {got:?}");
        assert_eq!(world.refusal().await.rule, "write.encoding", "{path}");
        assert!(!got.text().contains("you are"), "{path}: {got:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_proves_undecodable_later_or_grows_without_bound_is_broken_off() {
    let mut world = world(true).await;
    // So little was decoded that none of it went on.
    assert_eq!((ask(&world, "two").await.status, world.refusal().await.rule.as_str()), (502, "write.encoding"));
    for (path, most) in [("late", 4 << 20), ("bomb", 256 << 20)] {
        let got = ask(&world, path).await;
        assert_eq!((got.status, got.whole), (200, false), "{path}");
        assert!(!got.body.is_empty() && got.body.len() <= most, "{path}: {}", got.body.len());
        let begins = &got.body[..got.body.len().min(1 << 10)];
        assert!(!String::from_utf8_lossy(begins).contains(TOKEN), "{path}");
        let settled = world.settled().await;
        assert_eq!((settled.status, settled.interrupted), (200, true), "{path}");
    }
}
