//! A host's frames, cut and held in every way.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use proptest::prelude::*;
use std::time::Duration;

const KEY: &str = "tok-canary-83b1f5d2c7a9e046";

fn heard() -> Heard {
    Heard::new(&Scrubber::new([("capability/api".to_owned(), Secret::new(KEY.to_owned()))]))
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// What of these bytes is passed on, cut into pieces so long, and how it ends.
fn passed(bytes: &[u8], piece: usize) -> (Vec<u8>, Result<(), Fault>) {
    let (mut heard, mut passed) = (heard(), Vec::new());
    for piece in bytes.chunks(piece) {
        match heard.push(piece, Instant::now()) {
            Ok(more) => passed.extend(more),
            Err(fault) => return (passed, Err(fault)),
        }
    }
    match heard.finish() {
        Ok(more) => {
            passed.extend(more);
            (passed, Ok(()))
        }
        Err(fault) => (passed, Err(fault)),
    }
}

#[test]
fn a_credential_is_not_said_however_frames_messages_and_pieces_cut_it() {
    let (one, two) = KEY.as_bytes().split_at(12);
    let encoded = STANDARD.encode(format!("you are {KEY}, yes"));
    let bytewise = |first: u8| -> Vec<u8> { KEY.bytes().flat_map(|byte| frame(first, &[byte])).collect() };
    for (what, bytes) in [
        ("one frame", frame(0x81, format!("you are {KEY}").as_bytes())),
        ("its end", frame(0x81, KEY.as_bytes())),
        ("two frames of a message", [frame(0x01, one), frame(0x80, two)].concat()),
        ("a ping between", [frame(0x02, one), frame(0x89, b"there?"), frame(0x80, two)].concat()),
        ("an empty frame between", [frame(0x02, one), frame(0x00, b""), frame(0x80, two)].concat()),
        ("two messages", [frame(0x81, one), frame(0x81, two)].concat()),
        ("a message a byte", bytewise(0x81)),
        ("a ping a byte", bytewise(0x89)),
        ("a close", frame(0x88, &[&[3, 232][..], KEY.as_bytes()].concat())),
        ("encoded", frame(0x81, encoded.as_bytes())),
        ("encoded, in two", [frame(0x01, &encoded.as_bytes()[..20]), frame(0x80, &encoded.as_bytes()[20..])].concat()),
    ] {
        for piece in [1, 2, 3, 7, 16, 4096] {
            let bytes = [frame(0x81, b"hello"), bytes.clone()].concat();
            let (passed, end) = passed(&bytes, piece);
            assert_eq!(end, Err(Fault::Credential), "{what}, by {piece}");
            assert!(bytes.starts_with(&passed), "{what}, by {piece}");
            let text: Vec<u8> = passed.into_iter().filter(|byte| byte.is_ascii_graphic()).collect();
            let shown =
                (TELLS_NOTHING + 1..KEY.len()).any(|end| text.windows(end).any(|part| part == &KEY.as_bytes()[..end]));
            assert!(!shown, "{what}, by {piece}: {}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn a_message_that_ends_as_the_credential_begins_arrives_at_once_and_a_longer_beginning_with_the_next() {
    let (mut heard, now) = (heard(), Instant::now());
    let short = frame(0x81, b"it is a tok");
    assert_eq!(heard.push(&short, now).unwrap(), short);
    let ping = frame(0x89, b"");
    assert_eq!(heard.push(&ping, now).unwrap(), ping);
    let next = frame(0x81, b"en, and to");
    assert_eq!(heard.push(&next, now).unwrap(), next);
    let long = frame(0x81, b"it is tok-can");
    let begun = heard.push(&long, now).unwrap();
    assert_eq!(begun, long[..long.len() - 7]);
    assert_eq!(heard.push(&ping, now).unwrap(), b"", "nothing overtakes it");
    let next = frame(0x81, b"celled");
    assert_eq!(heard.push(&next, now).unwrap(), [&long[long.len() - 7..], &ping, &next].concat());
}

#[test]
fn a_message_or_a_ping_that_is_held_is_said_to_be_so_until_all_of_it_is_decided() {
    for first in [0x81, 0x89, 0x8a] {
        let mut heard = heard();
        let mut push = |bytes: &[u8]| {
            heard.push(bytes, Instant::now()).unwrap();
            heard.held_since().is_some()
        };
        assert!(!push(&frame(first, b"it is a tok")), "{TELLS_NOTHING} bytes go on");
        assert!(!push(&frame(first, b"en")));
        // In the middle of one nobody waits for its end yet.
        let held = frame(first, b"it is tok-can");
        assert!(!push(&held[..held.len() - 1]));
        assert!(push(&held[held.len() - 1..]));
        // Neither another kind of frame nor more of what may be the credential sets it free.
        assert!(push(&frame(if first == 0x81 { 0x89 } else { 0x81 }, b"there?")));
        assert!(push(&frame(first, b"ary-")));
        assert!(!push(&frame(first, b", no")));
    }
}

#[test]
fn each_message_and_each_ping_that_is_held_is_so_since_its_own_end_and_since_no_earlier_ones() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for (first, other) in [(0x81, 0x89), (0x89, 0x81)] {
        let mut heard = heard();
        let mut push = |bytes: &[u8], seconds| {
            heard.push(bytes, at(seconds)).unwrap();
            heard.held_since()
        };
        assert_eq!(push(&frame(first, b"it is tok-can"), 0), Some(at(0)));
        assert_eq!(push(&frame(first, b"ary-"), 3), Some(at(0)), "the first of them waits still");
        // What shows that the first ones are other words ends so itself.
        assert_eq!(push(&frame(first, b"?, no, tok-can"), 9), Some(at(9)));
        assert_eq!(push(&frame(other, b"tok-can"), 12), Some(at(9)));
        assert_eq!(push(&frame(first, b", no"), 18), Some(at(12)));
        assert_eq!(push(&frame(other, b", no"), 20), None);
    }
    // Of a text that begins twice over as the credential does, the end of the later message is known as well.
    let twice = Secret::new("tok-tok-tok-canary".to_owned());
    let mut heard = Heard::new(&Scrubber::new([("capability/api".to_owned(), twice)]));
    for (seconds, since) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)] {
        heard.push(&frame(0x81, b"tok-"), at(seconds)).unwrap();
        assert_eq!(heard.held_since(), Some(at(since)), "at {seconds}");
    }
    // Less than what is held of a message may stand before the end of the next: then neither is.
    heard.push(&frame(0x81, b" and to"), at(5)).unwrap();
    assert_eq!(heard.held_since(), None);
}

#[test]
fn what_is_no_hosts_frame_is_not_passed_and_what_waits_is_bounded() {
    let masked = [0x81, 0x85, 1, 2, 3, 4, 0, 0, 0, 0, 0];
    for bad in [&masked[..], b"HTTP/1.1 200 OK\r\n", &frame(0xc1, b"x"), &frame(0x83, b"x"), &frame(0x89, &[0; 126])] {
        assert_eq!(passed(bad, 1).1, Err(Fault::Host), "{bad:?}");
    }
    let (mut heard, now) = (heard(), Instant::now());
    heard.push(&frame(0x81, b"tok-can"), now).unwrap();
    let pings = frame(0x89, &[b'.'; 125]).repeat(100);
    let ended = (0..WAITS / pings.len() + 2).find_map(|_| heard.push(&pings, now).err());
    assert_eq!(ended, Some(Fault::Host));
}

/// The lengths that go on, and the ends that were held, of messages whose frames arrive in pieces so long.
fn goes(bytes: &[u8], piece: usize) -> (Vec<usize>, Vec<usize>) {
    let mut heard = heard();
    let went = bytes.chunks(piece).map(|piece| heard.push(piece, Instant::now()).unwrap().len()).collect();
    (went, heard.newly_held())
}

#[test]
fn what_of_an_open_message_goes_on_says_nothing_of_what_it_ends_in_and_an_end_that_is_held_is_counted() {
    // A host that says again what it is told, by fragments, or one long message in pieces.
    for (fragments, length) in [(true, 30), (true, 3000), (false, 20_000)] {
        let said = |end: &str| {
            let text = format!("{}{end}", "x".repeat(length));
            if fragments {
                return [frame(0x01, text.as_bytes()), frame(0x00, end.as_bytes())].concat();
            }
            let whole = frame(0x81, text.repeat(2).as_bytes());
            whole[..whole.len() - text.len() / 2].to_vec()
        };
        let wrong = said("zzzzzzzzz");
        for known in 1..=9 {
            let guess = said(&format!("{}{}", &"zzzzzzzzz"[known..], &KEY[..known]));
            for piece in [1, 7, length + 9 + 4, 16_384] {
                assert_eq!(goes(&guess, piece), goes(&wrong, piece), "{known} of {length} by {piece}");
            }
        }
        assert_eq!(goes(&wrong, 7).1, [0; 0]);
    }
    assert_eq!(goes(&frame(0x81, b"it is tok-can"), 7).1, [7]);
    assert_eq!(goes(&frame(0x8a, b"it is tok-can"), 7).1, [7]);
}

#[test]
fn what_its_host_was_given_meanwhile_is_looked_for_too() {
    let mut heard = heard();
    let (other, now) = ("tok-other-19ab3c5d7e8f0246", Instant::now());
    let said = frame(0x81, other.as_bytes());
    assert_eq!(heard.push(&said, now).unwrap(), said);
    let both = [KEY, other].map(|value| ("capability/api".to_owned(), Secret::new(value.to_owned())));
    heard.renew(&Scrubber::new(both));
    assert_eq!(heard.push(&said, now), Err(Fault::Credential));
}

#[test]
fn in_a_pause_what_came_of_a_message_goes_on_and_the_ping_behind_it() {
    let (ping, now) = (frame(0x89, b"there?"), Instant::now());
    for (text, held) in [(&b"one, two"[..], 0), (b"it is tok", 0), (b"it is tok-can", 7)] {
        let mut heard = heard();
        let begun = [frame(0x01, text), ping.clone()].concat();
        let mut came = heard.push(&begun, now).unwrap();
        assert!(came.len() < 9 && heard.waits() && heard.held_since().is_none());
        came.extend(heard.pause().unwrap());
        let told = if held == 0 { &begun[..] } else { &begun[..2 + text.len() - held] };
        assert_eq!(came, told);
        assert_eq!(heard.newly_held(), if held == 0 { vec![] } else { vec![held] });
        // What went on is looked for with what comes after it.
        let rest = &KEY.as_bytes()[text.len().saturating_sub(6).min(KEY.len())..];
        let rest = if text.starts_with(b"it is") { rest } else { KEY.as_bytes() };
        assert_eq!(heard.push(&frame(0x80, rest), now), Err(Fault::Credential));
    }
}

proptest! {
    #[test]
    fn what_holds_no_credential_passes_to_the_byte_and_leaves_nothing_behind(
        payloads in prop::collection::vec(("[a-z-]{0,40}", any::<bool>(), any::<bool>()), 1..20), piece in 1..50usize,
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|(text, control, last)| {
            frame(if *control { 0x8a } else if *last { 0x81 } else { 0x01 }, text.as_bytes())
        }).collect();
        prop_assert_eq!(passed(&bytes, piece), (bytes, Ok(())));
    }
}
