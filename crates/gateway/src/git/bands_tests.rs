use super::super::pkt::Oid;
use super::super::push::{Update, succeeded};
use super::*;
use model::Secret;
use proptest::prelude::*;

const TOKEN: &str = "tok-canary-83b1f5d2c7a9e046";
const PLACED: &str = "[scrubbed:capability/forge]";

fn scrubber() -> Scrubber {
    Scrubber::new([("capability/forge".to_owned(), Secret::new(TOKEN.to_owned()))])
}

fn line(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    pkt::line(&mut out, data);
    out
}

fn packet(band: u8, data: &[u8]) -> Vec<u8> {
    line(&[&[band], data].concat())
}

/// What went on of an answer that came in pieces of so many bytes, and how it ended.
fn through(wire: &[u8], piece: usize) -> (Vec<u8>, Result<(), Wrong>) {
    let (mut bands, mut out) = (Bands::of_fetch(&scrubber()), Vec::new());
    for piece in wire.chunks(piece) {
        match bands.push(piece) {
            Ok(mut said) => out.append(&mut said),
            Err(wrong) => return (out, Err(wrong)),
        }
    }
    let ended = bands.finish().map(|mut rest| out.append(&mut rest));
    (out, ended)
}

fn whole(wire: &[u8], piece: usize) -> Vec<u8> {
    let (out, ended) = through(wire, piece);
    ended.unwrap();
    out
}

/// A packet of another band than the first: which, and its text.
type Said = (u8, Vec<u8>);

/// What lines in no band say, what the first band does, and what the others do, in packets.
fn read(wire: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, Vec<Said>) {
    let (mut lines, mut plain, mut first, mut said) = (Lines::of(wire), Vec::new(), Vec::new(), Vec::new());
    while let Some(line) = lines.next().unwrap() {
        match line {
            Line::Data([1, data @ ..]) => first.extend_from_slice(data),
            Line::Data([band @ 2..=3, data @ ..]) => said.push((*band, data.to_vec())),
            Line::Data(data) => plain.push(data.to_vec()),
            _ => plain.push(Vec::new()),
        }
    }
    (plain, first, said)
}

fn joined(said: &[Said]) -> String {
    String::from_utf8(said.iter().flat_map(|(_, text)| text.clone()).collect()).unwrap()
}

#[test]
fn what_progress_and_errors_say_is_put_together_before_it_is_looked_through() {
    let text = format!("it was {TOKEN}, yes");
    let (acknowledged, packfile) = (line(b"acknowledgments\n"), line(b"packfile\n"));
    for before in [line(b"NAK\n"), [&acknowledged[..], b"0001", &packfile].concat(), packet(1, b"packfile\n")] {
        for (one, two) in [(2, 2), (3, 3), (2, 3)] {
            for cut in 1..text.len() {
                let (begins, ends) = text.as_bytes().split_at(cut);
                let pack = [packet(1, b"PACK\0\x01"), packet(1, b"\x02more")];
                let wire = [
                    &before[..],
                    &packet(2, b"Counting\n"),
                    &pack[0],
                    &packet(one, begins),
                    &pack[1],
                    &packet(two, ends),
                    b"0000",
                ]
                .concat();
                for piece in [1, 7, wire.len()] {
                    let (plain, first, said) = read(&whole(&wire, piece));
                    let (was_plain, was_first, _) = read(&wire);
                    assert_eq!((plain, first), (was_plain, was_first));
                    assert_eq!(
                        joined(&said),
                        format!("Counting\nit was {PLACED}, yes"),
                        "{one}, {two}, {cut}, {piece}"
                    );
                    assert!(said[1..].iter().all(|(band, _)| *band == two), "{said:?}");
                    assert!(two == 2 || said.len() == 2, "git reads one packet of an error: {said:?}");
                }
            }
        }
    }
}

#[test]
fn a_line_in_no_band_goes_on_as_long_as_it_is_without_the_value() {
    let wire = [&line(b"# service=x\n")[..], b"0000", &line(format!("ERR {TOKEN}\n").as_bytes()), b"0000"].concat();
    for piece in [1, wire.len()] {
        let is = [&line(b"# service=x\n")[..], b"0000", &line(format!("ERR {PLACED}\n").as_bytes()), b"0000"].concat();
        assert_eq!(whole(&wire, piece), is);
    }
    let long = [&b"ERR "[..], &TOKEN.as_bytes().repeat(MAX_LINE / TOKEN.len() - 1)].concat();
    assert_eq!(whole(&line(&long), 9000).len(), 4 + long.len(), "the placeholder is as long");
}

#[test]
fn progress_goes_on_line_by_line_in_packets_that_any_client_takes_and_a_sign_of_life_at_once() {
    let mut bands = Bands::of_fetch(&scrubber());
    assert_eq!(bands.push(b"0005\x010005\x02").unwrap(), b"0005\x010005\x02");
    assert_eq!(bands.push(&packet(2, b"Counting\nCompr")).unwrap(), packet(2, b"Counting\n"));
    assert_eq!(bands.push(b"0005\x02").unwrap(), b"0005\x02");
    let long = packet(2, &[b'x'; 5000]);
    let said = read(&bands.push(&long).unwrap()).2;
    assert!(said.len() > 1 && said.iter().all(|(_, text)| text.len() <= 995));
    // Errors go on at their end, and have one.
    let mut bands = Bands::of_fetch(&scrubber());
    assert_eq!(bands.push(&packet(3, &vec![b'x'; MOST - 1])).unwrap(), b"");
    let more = bands.push(&packet(3, b"xx")).and_then(|_| bands.finish());
    assert_eq!(more, wrong("it has no end of errors"));
}

#[test]
fn an_answer_ends_before_a_value_in_its_pack() {
    let pack = [&[b'x'; 1000][..], TOKEN.as_bytes(), &[b'y'; 1000]].concat();
    let before = line(b"packfile\n");
    for cut in 1000..=1000 + TOKEN.len() {
        let (begins, ends) = pack.split_at(cut);
        let packets: Vec<u8> = begins.chunks(100).chain(ends.chunks(100)).flat_map(|part| packet(1, part)).collect();
        let banded = [&before[..], &packets, b"0000"].concat();
        let bare = [&line(b"NAK\n")[..], b"PACK", &pack].concat();
        for wire in [&banded, &bare] {
            for piece in [1, 97, wire.len()] {
                let (out, ended) = through(wire, piece);
                assert_eq!(ended, wrong("a value that the host was given stands in its pack"));
                assert!(wire.starts_with(&out) && !out.contains(&b't'), "{}", String::from_utf8_lossy(&out));
            }
            assert!(through(wire, 1).0.len() > 400, "what stands long before it goes on");
        }
    }
}

#[test]
fn what_waits_of_a_pack_or_a_text_is_no_more_than_a_value_is_long() {
    for (band, most) in [(1, 6 * 1024), (2, 1024)] {
        let mut bands = Bands::of_fetch(&scrubber());
        let (mut came, mut went) = (0, 0);
        for _ in 0..50_000 {
            let one = packet(band, b"t");
            came += one.len();
            let out = bands.push(&one).unwrap();
            went += if band == 1 { out.len() } else { joined(&read(&out).2).len() * 6 };
            assert!(came - went <= most * 6, "{came} came, {went} went on");
        }
    }
}

#[test]
fn what_is_no_answer_of_gits_ends_it() {
    let banded = packet(1, b"PACK");
    for (what, wire) in [
        ("no length", b"zzzz".to_vec()),
        ("a length that is none", b"0003".to_vec()),
        ("half a length", b"00".to_vec()),
        ("half a line", b"0008ab".to_vec()),
        ("half a pack's head", b"0008NAK\nPAC".to_vec()),
        ("a line among packets", [&banded[..], &line(b"NAK\n")].concat()),
        ("a line of nothing among packets", [&banded[..], b"0004"].concat()),
        ("a bare pack among packets", [&banded[..], b"PACK"].concat()),
    ] {
        for piece in [1, wire.len()] {
            assert!(through(&wire, piece).1.is_err(), "{what}");
        }
    }
    for wire in [&b"PACK"[..], b"zzzz", &packet(1, b"0008ab"), &packet(1, b"zzzz")] {
        assert!(Bands::report(&scrubber(), wire).is_err(), "{wire:?}");
    }
}

#[test]
fn a_report_goes_on_without_the_value_wherever_its_packets_cut_it() {
    let update = Update { old: Oid::ZERO, new: Oid([1; 20]), reference: b"refs/heads/x".to_vec() };
    let ok = [&line(b"unpack ok\n")[..], &line(b"ok refs/heads/x\n"), b"0000"].concat();
    let no = format!("ng refs/heads/x {TOKEN} is no more\n");
    let no = [&line(b"unpack ok\n")[..], &line(no.as_bytes()), b"0000"].concat();
    let is = format!("ng refs/heads/x {PLACED} is no more\n");
    let is = [&line(b"unpack ok\n")[..], &line(is.as_bytes()), b"0000"].concat();
    let report = |wire: &[u8]| Bands::report(&scrubber(), wire).unwrap();
    assert_eq!(report(&no), is);
    assert_eq!(report(&ok), ok);
    for cut in 0..=no.len() {
        let (begins, ends) = no.split_at(cut);
        let wire = [&packet(1, begins)[..], &packet(2, b"words\n"), &packet(1, ends), b"0000"].concat();
        let (plain, first, said) = read(&report(&wire));
        assert_eq!((plain, first, joined(&said)), (vec![Vec::new()], is.clone(), "words\n".to_owned()), "{cut}");
    }
    let text = format!("remote: {TOKEN}");
    for cut in 1..text.len() {
        let (begins, ends) = text.as_bytes().split_at(cut);
        let wire = [packet(2, begins), packet(1, &ok), packet(2, ends), b"0000".to_vec()].concat();
        let out = report(&wire);
        assert_eq!(joined(&read(&out).2), format!("remote: {PLACED}"), "{cut}");
        assert!(succeeded(&out, true, &update));
    }
}

proptest! {
    #[test]
    fn an_answer_without_a_value_goes_on_to_the_byte(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..9),
        piece in 1_usize..500,
        bare in any::<bool>(),
    ) {
        let mut wire = line(b"NAK\n");
        if bare {
            wire.extend_from_slice(b"PACK");
            parts.iter().for_each(|part| wire.extend_from_slice(part));
        } else {
            parts.iter().filter(|part| !part.is_empty()).for_each(|part| wire.extend(packet(1, part)));
            wire.extend_from_slice(b"0000");
        }
        prop_assert_eq!(whole(&wire, piece), wire);
    }

    #[test]
    fn of_any_bytes_no_value_goes_on(
        parts in prop::collection::vec((0_u8..5, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..9),
        piece in 1_usize..90,
    ) {
        let mut wire = Vec::new();
        for (band, part, is_token) in &parts {
            let part = if *is_token { TOKEN.as_bytes() } else { part };
            match band {
                0 => wire.extend(line(part)),
                4 => wire.extend_from_slice(part),
                band => wire.extend(packet(*band, part)),
            }
        }
        let (out, _) = through(&wire, piece);
        prop_assert!(!String::from_utf8_lossy(&out).contains(TOKEN));
        drop(Bands::report(&scrubber(), &wire));
    }
}
