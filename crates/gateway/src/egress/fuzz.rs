//! Generators for what a box sends first: requests, CONNECT, the first message of TLS. The same bytes every time;
//! `cargo xtask test` lets each run on for a minute (`fuzz/seeds.rs`), and what must hold of any bytes stands in
//! `fuzz/claims`, for coverage-guided fuzzing too.

#[path = "../../../../fuzz/claims/head.rs"]
mod claims_of_a_head;
#[path = "../../../../fuzz/claims/hello.rs"]
mod claims_of_a_hello;
#[allow(dead_code, reason = "each crate's generators use some of it")]
#[path = "../../../../fuzz/seeds.rs"]
mod seeds;

use super::request::{self, Came};
use super::wire::{REFUSED, Strict};
use super::{hello, shape};
use policy::egress::{Form, target};
use seeds::Random;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

/// Texts of each generator when no time is given.
const TEXTS: u64 = 10_000;

/// Parts of requests, most of them right.
const LINES: [&str; 12] = [
    "GET http://a.example/ HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\n",
    "HEAD / HTTP/1.0\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\n",
    "VOLARY-REFUSED /1 HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET /#x HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n",
    "GET / HTTP/1.1\n",
    "\r\n",
    "G",
];
const HEADERS: [&str; 22] = [
    "host: a.example\r\n",
    "host: a.example\r\n",
    "Host:a.example\r\n",
    "content-length: 5\r\n",
    "content-length: 0\r\n",
    "Content-Length: 005\r\n",
    "content-length: 5, 5\r\n",
    "content-length:\t5 \r\n",
    "content-length : 5\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: CHUNKED\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding:\r\n chunked\r\n",
    "upgrade: websocket\r\n",
    "connection: upgrade\r\n",
    "expect: 100-continue\r\n",
    "x: y\r\n",
    "x:\r\n",
    "x: \u{e4}\r\n",
    "x: y\n",
    ": y\r\n",
    "x\r\n",
];
const BODIES: [&str; 9] = [
    "",
    "hello",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "5;x\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "0\r\ncontent-length: 3\r\n\r\n",
    "000000005\r\nhello\r\n0\r\n\r\n",
];

/// Some requests behind one another, most of them right at first.
fn requests(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        let right = random.below(2) == 0;
        let mut part = |random: &mut Random, all: &[&str], some: usize| {
            bytes.extend_from_slice(random.pick(if right { &all[..some] } else { all }).as_bytes());
        };
        part(random, &LINES, 3);
        part(random, &HEADERS, 2);
        for _ in 0..random.below(3) {
            let at = 3 + random.below(HEADERS.len() - 3);
            part(random, if right { &HEADERS[9..10] } else { &HEADERS[at..] }, 1);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(random.pick(&BODIES).as_bytes());
    }
    for _ in 0..random.below(2) * random.below(3) {
        flip(random, &mut bytes);
    }
    bytes
}

/// Changes, removes or adds a byte, or cuts.
fn flip(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] = random.next() as u8,
        1 => drop(bytes.remove(at)),
        2 => bytes.insert(at, random.pick(b" \t\r\n\0:,;\x7f\xff0a")),
        3 => bytes[at] ^= 1 << random.below(8),
        _ => bytes.truncate(at),
    }
}

#[test]
fn any_bytes_are_a_head_that_others_read_alike_or_refused() {
    seeds::run(TEXTS, |seed| claims_of_a_head::holds(&requests(&mut Random::of(seed))));
}

/// A wire that gives bytes in pieces of random length.
struct Pieces<'b> {
    rest: &'b [u8],
    most: usize,
    random: Random,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let most = self.most;
        let length = (1 + self.random.below(most)).min(self.rest.len()).min(to.remaining());
        let (piece, rest) = self.rest.split_at(length);
        to.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// What is handed on of these bytes, and whether a fault in a body ended it.
fn handed_on(bytes: &[u8], most: usize, random: Random) -> (Vec<u8>, bool) {
    let mut strict = Strict::new(Pieces { rest: bytes, most, random });
    let mut all = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut space = [0; 4096];
        let mut piece = ReadBuf::new(&mut space);
        match Pin::new(&mut strict).poll_read(&mut cx, &mut piece) {
            Poll::Ready(Ok(())) if piece.filled().is_empty() => return (all, false),
            Poll::Ready(Ok(())) => all.extend_from_slice(piece.filled()),
            Poll::Ready(Err(_)) => return (all, true),
            // The stand-in is out: nothing more is read.
            Poll::Pending => return (all, false),
        }
    }
}

/// Where the second reader finds requests to begin, up to one that is not whole or is followed by another protocol;
/// an error when it finds something in the middle that it reads in another way.
fn walk(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while let Some((end, next)) = claims_of_a_head::second_reading(&bytes[at..]) {
        at += end;
        match next {
            shape::Next::Other => return starts,
            shape::Next::Body(length) => at += usize::try_from(length).expect("small"),
            shape::Next::Chunked => match chunked(&bytes[at..]) {
                Some(length) => at += length,
                None => return starts,
            },
        }
        if at >= bytes.len() {
            break;
        }
        starts.push(at);
    }
    starts
}

/// Length of a body in chunks, as the second reader reads its sizes.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(bytes.get(at..)?) else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).ok()? + 2;
    }
    loop {
        let line = bytes.get(at..)?.windows(2).position(|w| w == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

#[test]
fn requests_behind_one_another_are_handed_on_alike_however_they_come_and_none_begins_where_others_see_none() {
    let mut second = 0;
    seeds::run(TEXTS, |seed| {
        let mut random = Random::of(seed);
        let bytes = requests(&mut random);
        let at_once = handed_on(&bytes, bytes.len().max(1), Random::of(seed));
        let (passed, broken) = &at_once;
        let most = 1 + random.below(7);
        let in_pieces = handed_on(&bytes, most, random);
        if *broken {
            // How much of a broken body is handed on before depends on how it comes.
            let (shorter, longer) =
                if in_pieces.0.len() < passed.len() { (&in_pieces.0, passed) } else { (passed, &in_pieces.0) };
            assert!(
                in_pieces.1 && longer.starts_with(shorter) && bytes.starts_with(longer),
                "{}",
                bytes.escape_ascii()
            );
            return;
        }
        assert_eq!(in_pieces.0.escape_ascii().to_string(), passed.escape_ascii().to_string());
        // A refused one is replaced, at a place where a request begins for everybody.
        let stand_in = format!("{REFUSED} /");
        let own = (0..passed.len()).rev().find(|at| passed[*at..].starts_with(stand_in.as_bytes()));
        let refused = own.filter(|at| !bytes.starts_with(&passed[..]) || bytes[*at..] != passed[*at..]);
        let good = &passed[..refused.unwrap_or(passed.len())];
        assert!(bytes.starts_with(good), "{}", bytes.escape_ascii());
        if let Some(at) = refused {
            assert!(walk(good).last().is_some_and(|_| ends_whole(good)), "at {at} of {}", bytes.escape_ascii());
        }
        second += u64::from(walk(good).len() > 1);
    });
    assert!(second > 0 || seeds::alone(), "no request followed another: the generator has lost its way");
}

/// Whether these bytes are whole requests for the second reader.
fn ends_whole(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        let Some((end, next)) = claims_of_a_head::second_reading(&bytes[at..]) else { return false };
        at += end;
        at += match next {
            shape::Next::Other => return false,
            shape::Next::Body(length) => usize::try_from(length).expect("small"),
            shape::Next::Chunked => match chunked(&bytes[at..]) {
                Some(length) => length,
                None => return false,
            },
        };
    }
    at == bytes.len()
}

#[test]
fn any_connect_names_one_host_in_both_places_or_is_refused() {
    let pieces = [
        "a.example",
        "b.example",
        "a.example:443",
        "a.example:443",
        ":443",
        ":80",
        ":0443",
        "93.184.216.34",
        "[::1]",
        "[2606:2800::1]",
        "127.1",
        "0x7f.1",
        "@",
        "user@",
        "/",
        "..",
        ".",
        "%2e",
        "xn--",
        "A.Example",
        " ",
    ];
    let mut taken = 0;
    seeds::run(TEXTS, |seed| {
        let mut random = Random::of(seed);
        let line = random.text(&pieces, 3);
        let hosts: Vec<String> = (0..random.below(3))
            .map(|_| if random.below(2) == 0 { line.clone() } else { random.text(&pieces, 2) })
            .collect();
        let mut request = http::Request::builder().method("CONNECT").uri(&line);
        for host in &hosts {
            request = request.header("host", host);
        }
        let Ok(request) = request.body(http_body_util::Empty::<bytes::Bytes>::new()) else { return };
        let Ok(asked) = request::read(&Came::Plain, &request) else { return };
        taken += 1;
        assert_eq!(asked.form, Form::Connect);
        assert_eq!(target::authority(&line).ok(), Some((asked.host.clone(), asked.port)), "{line:?}");
        assert!(hosts.len() < 2, "{line:?} {hosts:?}");
        for host in hosts {
            let (named, _) = target::host_header(&host, target::Scheme::Https).expect("it was read");
            assert_eq!(named, asked.host, "{line:?} {host:?}");
        }
    });
    assert!(taken > 0 || seeds::alone(), "every CONNECT was refused: the generator has lost its way");
}

/// A first message of TLS with a random list of extensions, in random records, now and then broken.
fn first_message(random: &mut Random) -> Vec<u8> {
    let mut list = Vec::new();
    for _ in 0..random.below(5) {
        let kind: u16 = random.pick(&[0, 0, 0, 10, 13, 16, 43, 51, 0xfe0d, 0xffce, 0xffff]);
        let value = if kind == 0 { server_names(random) } else { vec![random.next() as u8; random.below(6)] };
        list.extend_from_slice(&kind.to_be_bytes());
        put_long(&mut list, &value, random);
    }
    // What rustls asks for before it looks at names: versions, groups, schemes, a key.
    if random.below(4) > 0 {
        for (kind, value) in
            [(43_u16, &[2, 3, 4][..]), (10, &[0, 2, 0, 29]), (13, &[0, 2, 8, 4]), (51, &[0, 5, 0, 29, 0, 1, 7])]
        {
            list.extend_from_slice(&kind.to_be_bytes());
            list.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
            list.extend_from_slice(value);
        }
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    if random.below(8) > 0 {
        put_long(&mut body, &list, random);
    }
    let mut message = vec![1, 0];
    put_long(&mut message, &body, random);
    let mut bytes = Vec::new();
    let most = random.pick(&[1, 7, 40, 16_000]);
    for part in message.chunks(most) {
        bytes.extend_from_slice(&[22, 3, random.pick(&[1, 1, 1, 3])]);
        put_long(&mut bytes, part, random);
    }
    for _ in 0..random.below(2) * random.below(4) {
        flip(random, &mut bytes);
    }
    if random.below(8) == 0 {
        bytes.extend_from_slice(&[22, 3, 3, 0, 1, 9]);
    }
    bytes
}

/// A list of server names.
fn server_names(random: &mut Random) -> Vec<u8> {
    let mut names = Vec::new();
    for _ in 0..random.pick(&[1, 1, 1, 1, 0, 2]) {
        names.push(random.pick(&[0, 0, 0, 0, 1]));
        let name = random.text(&["a", "example", ".", ".org", "-", "xn--", "93.184.216.34", "A", "é"], 4);
        put_long(&mut names, name.as_bytes(), random);
    }
    let mut value = Vec::new();
    put_long(&mut value, &names, random);
    value
}

/// Bytes behind their length, which is now and then a wrong one.
fn put_long(to: &mut Vec<u8>, bytes: &[u8], random: &mut Random) {
    let wrong = if random.below(60) == 0 { random.below(9).wrapping_sub(4) as u16 } else { 0 };
    let length = u16::try_from(bytes.len()).expect("short").wrapping_add(wrong);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
}

#[test]
fn any_bytes_are_a_first_message_whose_name_others_read_alike_or_none() {
    let mut named = 0;
    seeds::run(TEXTS, |seed| {
        let bytes = first_message(&mut Random::of(seed));
        claims_of_a_hello::holds(&bytes);
        named += u64::from(matches!(hello::look(&bytes), hello::Look::Name(_)));
    });
    assert!(named > 0 || seeds::alone(), "no name was found: the generator has lost its way");
}
