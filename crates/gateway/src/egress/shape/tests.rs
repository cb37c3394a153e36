//! Whole shapes are tried over sockets (`tests/it/egress/shapes.rs`); here are their parts, and what is made up.

use super::*;
use proptest::prelude::*;

#[test]
fn every_fault_is_at_its_own_number() {
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        assert_eq!((fault.number(), Fault::at(number)), (number, Some(fault)));
    }
    assert_eq!(Fault::at(Fault::ALL.len()), None);
}

#[test]
fn what_follows_a_head_is_known_from_it() {
    let next = |text: &str| head(text.replace('\n', "\r\n").as_bytes());
    assert_eq!(next("GET / HTTP/1.1\nhost: a\n\n"), Ok(Next::Body(0)));
    assert_eq!(next("GET / HTTP/1.0\n\n"), Ok(Next::Body(0)));
    assert_eq!(next("POST / HTTP/1.1\nhost: a\nContent-Length: 7\n\n"), Ok(Next::Body(7)));
    assert_eq!(next("POST / HTTP/1.1\nhost: a\ntransfer-encoding: Chunked\n\n"), Ok(Next::Chunked));
    assert_eq!(next("CONNECT a:443 HTTP/1.1\nhost: a:443\n\n"), Ok(Next::Other));
    assert_eq!(next("CONNECT a:443 HTTP/1.1\nhost: a:443\ncontent-length: 0\n\n"), Ok(Next::Other));
    assert_eq!(next("GET / HTTP/1.1\nhost: a\nupgrade: x\n\n"), Ok(Next::Other));
    assert_eq!(next("CONNECT a:443 HTTP/1.1\nhost: a:443\ntransfer-encoding: chunked\n\n"), Err(Fault::Upgrade));
}

#[test]
fn a_hundred_headers_are_taken_and_one_more_is_not() {
    let with = |count: usize| {
        let more: String = (1..count).map(|n| format!("x{n}: y\r\n")).collect();
        head(format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n").as_bytes())
    };
    assert_eq!(with(MAX_HEADERS), Ok(Next::Body(0)));
    assert_eq!(with(MAX_HEADERS + 1), Err(Fault::TooMany));
}

#[test]
fn a_chunk_has_eight_digits_at_most() {
    assert_eq!(size(b"ffffffff"), Ok(0xffff_ffff));
    assert_eq!(size(b"000000000"), Err(Fault::Chunk));
}

fn chunked() -> impl Strategy<Value = (Vec<u8>, usize)> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6).prop_map(|pieces| {
        let mut bytes = Vec::new();
        for piece in &pieces {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nx-sum: 1\r\n\r\n");
        let length = bytes.len();
        (bytes, length)
    })
}

proptest! {
    #[test]
    fn a_body_in_chunks_ends_where_it_ends_however_it_comes((mut bytes, length) in chunked(), step in 1_usize..9) {
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let mut chunks = Chunks::default();
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + step).min(bytes.len());
            let read = chunks.read(&bytes[at..end]).expect("it is plain");
            at += read;
            if matches!(chunks, Chunks::Done) {
                break;
            }
            prop_assert_eq!(at, end);
        }
        prop_assert_eq!(at, length);
    }

    #[test]
    fn no_bytes_break_it_and_what_passes_has_one_reading(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Chunks::default().read(&bytes).is_ok_and(|read| read <= bytes.len()) || !bytes.is_empty());
        if head(&bytes).is_ok() {
            prop_assert!(bytes.ends_with(b"\r\n\r\n"));
        }
        if bytes_of_head(&bytes, 0).is_ok() {
            prop_assert!(!bytes.contains(&0));
        }
    }

    #[test]
    fn a_head_that_passes_has_one_length_at_most(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("content-length: 1"), Just("Content-Length: 0"), Just("content-length : 1"),
                Just("transfer-encoding: chunked"), Just("Transfer-Encoding: gzip"), Just("host: a"), Just(" x: y"),
                Just("x: y"), Just("upgrade: z"), Just("expect: 100-continue"), Just("content-length:\t2"),
            ],
            0..6,
        ),
    ) {
        let text = format!("POST / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        if head(text.as_bytes()).is_ok() {
            let many = |name: &str| lines.iter().filter(|l| l.to_ascii_lowercase().starts_with(name)).count();
            prop_assert!(many("content-length") + many("transfer-encoding") <= 1);
            prop_assert_eq!(many("host"), 1);
            prop_assert!(!text.contains(" :") && !text.contains("\r\n "));
        }
    }
}
