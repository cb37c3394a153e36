//! What a forger or an accident can do to an exported file, and that each is found.

use evidence::{
    Head, Record, Signer, chain,
    export::Export,
    verify::{Fault, Gap, Report, verify},
};
use model::{Moment, Secret, WorkspaceId};
use proptest::prelude::*;
use serde_json::json;

/// A chain of records with heads at some places, before it is a file.
struct Kept {
    signer: Signer,
    bodies: Vec<Vec<u8>>,
    /// Signed heads, by how many records they cover.
    notes: Vec<(u64, String)>,
}

fn workspace() -> WorkspaceId {
    WorkspaceId::parse("main").unwrap()
}

fn signer(seed: u8) -> Signer {
    Signer::from_seed("volary-main", &Secret::new([seed; 32])).unwrap()
}

fn record(n: u64, source: &str, source_seq: u64) -> Vec<u8> {
    let more = json!({"run": format!("run{n}"), "list": [1, {"b": -n.cast_signed(), "a": "é\n\"\u{1f}"}], "none": {}, "empty": []});
    let serde_json::Value::Object(more) = more else { unreachable!() };
    let (kind, who) = ("model.call".to_owned(), "person/a".to_owned());
    Record { n, at: Moment(1_700_000_000_000), source: source.into(), source_seq, kind, who, more }.body().unwrap()
}

impl Kept {
    fn new(bodies: Vec<Vec<u8>>, heads_after: &[u64]) -> Self {
        let (signer, mut head, mut notes) = (signer(1), Head::ZERO, Vec::new());
        for size in 0..=bodies.len() as u64 {
            if size > 0 {
                head = chain::link(head, &bodies[size as usize - 1]).unwrap();
            }
            if heads_after.contains(&size) {
                notes.push((size, signer.sign(&workspace(), size, head)));
            }
        }
        Self { signer, bodies, notes }
    }

    /// Twelve records of two sources, heads after 4, 8 and 12.
    fn usual() -> Self {
        let bodies = (1..=12).map(|n| {
            record(n, if n % 3 == 0 { "gateway" } else { "server" }, if n % 3 == 0 { n / 3 } else { n - n / 3 })
        });
        Self::new(bodies.collect(), &[4, 8, 12])
    }

    fn file(&self) -> Vec<u8> {
        let mut export = Export::new(&workspace(), &self.signer.verifier_key());
        let mut file = export.take();
        for size in 0..=self.bodies.len() {
            if size > 0 {
                export.record(&self.bodies[size - 1]);
            }
            if let Some((_, note)) = self.notes.iter().find(|(at, _)| *at == size as u64) {
                export.head(note);
            }
            file.extend(export.take());
        }
        file.extend(export.finish());
        file
    }

    fn note(&self, size: u64) -> &str {
        &self.notes.iter().find(|(at, _)| *at == size).unwrap().1
    }
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A forger keeps the last line right, which costs nothing.
fn with_right_end(mut lines: Vec<Vec<u8>>) -> Vec<u8> {
    let count = |lines: &[Vec<u8>], kind: &[u8]| lines.iter().filter(|line| line.starts_with(kind)).count();
    lines.retain(|line| !line.starts_with(b"E "));
    let end = format!("E {} {}\n", count(&lines, b"R "), count(&lines, b"H "));
    lines.push(end.into_bytes());
    lines.concat()
}

#[track_caller]
fn fault_of(file: &[u8], record: u64, says: &str) {
    let fault: Fault = verify(file, &[]).expect_err(says);
    assert!(fault.what.contains(says) && fault.record == record, "{fault}");
}

#[test]
fn a_whole_file_is_consistent_and_says_what_it_holds() {
    let kept = Kept::usual();
    let last = kept.bodies.iter().try_fold(Head::ZERO, |head, body| chain::link(head, body)).unwrap();
    let expected = Report {
        workspace: "main".into(),
        verifier_key: signer(1).verifier_key(),
        records: 12,
        heads: 3,
        signed: 12,
        last_head: last.to_string(),
        witnessed: false,
        witnessed_records: 0,
        sources: [("gateway".to_owned(), 4), ("server".to_owned(), 8)].into(),
        gaps: vec![],
    };
    assert_eq!(verify(&kept.file(), &[]), Ok(expected));
}

#[test]
fn an_empty_file_is_consistent() {
    let report = verify(&Kept::new(vec![], &[]).file(), &[]).unwrap();
    assert_eq!((report.records, report.heads, report.last_head.as_str()), (0, 0, "0".repeat(64).as_str()));
}

#[test]
fn every_flipped_bit_is_found() {
    let kept = Kept::new((1..=3).map(|n| record(n, "server", n)).collect(), &[2, 3]);
    let file = kept.file();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&flipped, &[]).is_err(), "bit {bit}, in {:?}", flipped[bit / 8] as char);
    }
}

#[test]
fn every_cut_is_found() {
    let file = Kept::usual().file();
    for len in 0..file.len() {
        assert!(verify(&file[..len], &[]).is_err(), "{len} bytes");
    }
}

#[test]
fn every_removed_line_is_found() {
    let lines = lines(&Kept::usual().file());
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        assert!(verify(&fewer.concat(), &[]).is_err(), "line {at}");
    }
}

#[test]
fn every_removed_record_is_found_though_the_last_line_is_made_right() {
    let lines = lines(&Kept::usual().file());
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with(b"R ")) {
        let mut fewer = lines.clone();
        fewer.remove(at);
        assert!(verify(&with_right_end(fewer), &[]).is_err(), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn every_two_swapped_lines_are_found() {
    let lines = lines(&Kept::usual().file());
    for first in 0..lines.len() {
        for second in first + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(first, second);
            assert!(verify(&swapped.concat(), &[]).is_err(), "lines {first} and {second}");
        }
    }
}

#[test]
fn every_doubled_line_is_found() {
    let lines = lines(&Kept::usual().file());
    // But the last one, which is made right once more.
    for at in 0..lines.len() - 1 {
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at].clone());
        assert!(verify(&with_right_end(doubled), &[]).is_err(), "line {at}");
    }
}

#[test]
fn a_record_that_was_rewritten_in_good_form_is_found_by_the_next_head() {
    let file = String::from_utf8(Kept::usual().file()).unwrap();
    fault_of(file.replace("\"run\":\"run6\"", "\"run\":\"run0\"").as_bytes(), 8, "a record from 5 to here was changed");
}

#[test]
fn records_renumbered_to_hide_a_removed_one_are_found_by_the_next_head() {
    let kept = Kept::usual();
    let mut bodies: Vec<_> = kept.bodies[..5].to_vec();
    bodies.extend((6..12).map(|n| record(n, "server", n + 100)));
    let forged = Kept { bodies, signer: signer(1), notes: kept.notes[..2].to_vec() };
    fault_of(&forged.file(), 8, "does not fit");
}

#[test]
fn a_record_written_in_another_way_is_found_even_where_it_is_not_signed() {
    let kept = Kept::new((1..=3).map(|n| record(n, "server", n)).collect(), &[]);
    for (from, to) in [
        ("\"n\":2,", "\"n\": 2,"),
        ("\"n\":2,", "\"n\":2,\"n\":2,"),
        ("\\u001f", "\\u001F"),
        ("é", "\\u00e9"),
        ("\"empty\":[]", "\"empty\":[1.0]"),
    ] {
        let file = String::from_utf8(kept.file()).unwrap();
        let second = file.lines().nth(4).unwrap();
        let changed = file.replace(second, &second.replace(from, to));
        assert_ne!(changed, file);
        fault_of(changed.as_bytes(), 2, "not canonical");
    }
}

#[test]
fn a_record_that_lacks_what_every_record_has_is_a_fault() {
    let whole = r#"{"at":0,"kind":"k","n":1,"source":"s","source_seq":1,"who":"w"}"#;
    assert!(verify(&Kept::new(vec![whole.into()], &[1]).file(), &[]).is_ok());
    for (from, to, says) in [
        (r#""at":0,"#, "", "lacks one"),
        (r#""at":0"#, r#""at":"0""#, "lacks one"),
        (r#""kind":"k""#, r#""kind":"""#, "lacks one"),
        (r#","who":"w""#, "", "lacks one"),
        (r#""n":1,"#, "", "no number"),
        (r#""n":1"#, r#""n":-1"#, "no number"),
        (r#""source":"s","#, "", "no source"),
        (r#""source_seq":1,"#, "", "gave it no number"),
        (r#""source_seq":1"#, r#""source_seq":0"#, "gave it no number"),
        (whole, "[]", "no object"),
        (whole, "", "no JSON"),
    ] {
        fault_of(&Kept::new(vec![whole.replace(from, to).into_bytes()], &[1]).file(), 1, says);
    }
}

#[test]
fn a_record_of_64_kib_is_read_and_one_byte_more_is_not() {
    let sized = |len: usize| {
        let around = r#"{"at":0,"kind":"k","n":1,"source":"s","source_seq":1,"who":""}"#;
        around.replace(r#""who":""#, &format!(r#""who":"{}"#, "w".repeat(len - around.len()))).into_bytes()
    };
    let file = |body: &[u8]| {
        let mut export = Export::new(&workspace(), &signer(1).verifier_key());
        export.record(body);
        export.finish()
    };
    assert_eq!(verify(&file(&sized(chain::MAX_BODY)), &[]).map(|report| report.records), Ok(1));
    fault_of(&file(&sized(chain::MAX_BODY + 1)), 1, "65537 bytes");
}

#[test]
fn a_cut_that_ends_on_an_older_head_is_consistent_and_not_witnessed() {
    let older = with_right_end(lines(&Kept::usual().file())[..3 + 8 + 2].to_vec());
    let report = verify(&older, &[]).unwrap();
    assert_eq!((report.records, report.signed, report.witnessed), (8, 8, false));
}

#[test]
fn a_cut_that_ends_on_an_older_head_is_found_by_a_newer_one_kept_elsewhere() {
    let kept = Kept::usual();
    let older = with_right_end(lines(&kept.file())[..3 + 8 + 2].to_vec());
    let fault = verify(&older, &[kept.note(12)]).unwrap_err();
    assert_eq!((fault.record, fault.what.contains("covers 12 records")), (8, true), "{fault}");
    let report = verify(&older, &[kept.note(4)]).unwrap();
    assert_eq!((report.witnessed, report.witnessed_records), (true, 4));
}

#[test]
fn the_farthest_of_several_witnessed_heads_counts() {
    let kept = Kept::usual();
    let report = verify(&kept.file(), &[kept.note(12), kept.note(4)]).unwrap();
    assert_eq!((report.witnessed, report.witnessed_records), (true, 12));
}

#[test]
fn a_history_rewritten_with_the_key_itself_is_found_by_a_head_kept_elsewhere() {
    let kept = Kept::usual();
    let mut bodies = kept.bodies.clone();
    bodies[5] = record(6, "other", 1);
    let rewritten = Kept::new(bodies, &[4, 8, 12]);
    assert!(verify(&rewritten.file(), &[]).is_ok(), "whoever holds the key can do this");
    assert!(verify(&rewritten.file(), &[kept.note(4)]).is_ok(), "nothing before 4 was changed");
    let fault = verify(&rewritten.file(), &[kept.note(8)]).unwrap_err();
    assert_eq!((fault.record, fault.what.contains("changed after it was seen")), (8, true), "{fault}");
}

#[test]
fn a_history_signed_anew_with_another_key_shows_that_key_and_meets_no_witness() {
    let kept = Kept::usual();
    let mut forged = Kept::usual();
    forged.signer = signer(2);
    forged.notes.clear();
    assert_ne!(verify(&forged.file(), &[]).unwrap().verifier_key, kept.signer.verifier_key());
    let fault = verify(&forged.file(), &[kept.note(4)]).unwrap_err();
    assert!(fault.what.contains("another key"), "{fault}");
}

#[test]
fn a_head_of_another_workspace_is_no_witness_and_no_head() {
    let kept = Kept::usual();
    let foreign = kept.signer.sign(&WorkspaceId::parse("other").unwrap(), 0, Head::ZERO);
    assert!(verify(&kept.file(), &[&foreign]).unwrap_err().what.contains("another workspace"));
    let inside = Kept { notes: vec![(0, foreign)], ..Kept::usual() };
    fault_of(&inside.file(), 0, "another workspace");
}

#[test]
fn records_after_the_last_head_are_not_yet_signed() {
    let report = verify(&Kept::new((1..=5).map(|n| record(n, "server", n)).collect(), &[3]).file(), &[]).unwrap();
    assert_eq!((report.records, report.signed), (5, 3));
}

#[test]
fn a_gap_in_the_numbers_of_a_source_shows() {
    let bodies = vec![record(1, "server", 1), record(2, "gateway", 2), record(3, "server", 2), record(4, "server", 6)];
    let report = verify(&Kept::new(bodies, &[4]).file(), &[]).unwrap();
    let gap = |source: &str, from, to, before_record| Gap { source: source.into(), from, to, before_record };
    assert_eq!(report.gaps, [gap("gateway", 1, 1, 2), gap("server", 3, 5, 4)]);
}

#[test]
fn a_source_that_repeats_a_number_or_goes_back_is_a_fault() {
    for second in [5, 4] {
        let bodies = vec![record(1, "server", 5), record(2, "server", second)];
        fault_of(&Kept::new(bodies, &[2]).file(), 2, "numbered it");
    }
}

#[test]
fn the_checker_shares_no_code_with_the_writer() {
    let source = include_str!("../src/verify.rs");
    for way in ["crate::", "super::", "model::"] {
        assert!(!source.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(way)), "{way}");
    }
}

proptest! {
    #[test]
    fn any_bytes_get_a_word(bytes: Vec<u8>, lines in prop::collection::vec("[RHE] [ -~]{0,20}\n", 0..5)) {
        prop_assert!(verify(&bytes, &[]).is_err());
        let file = format!("volary-evidence 1\nworkspace main\nverifier {}\n{}", signer(1).verifier_key(), lines.concat());
        prop_assert!(verify(file.as_bytes(), &[]).is_err() || lines == ["E 0 0\n"]);
    }

    #[test]
    fn any_bit_flipped_in_a_longer_file_is_found(at: prop::sample::Index, bit in 0..8u8) {
        let mut file = Kept::usual().file();
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        prop_assert!(verify(&file, &[]).is_err());
    }

    #[test]
    fn any_piece_taken_out_is_found(from: prop::sample::Index, len in 1usize..2000) {
        let mut file = Kept::usual().file();
        let from = from.index(file.len());
        let to = (from + len).min(file.len());
        file.drain(from..to);
        prop_assert!(verify(&file, &[]).is_err());
    }

    #[test]
    fn any_record_the_writer_makes_is_canonical_to_the_checker(
        fields in prop::collection::hash_map("[^a]\\PC{0,5}", any::<(String, i64, u64, bool)>(), 0..5), at: i64
    ) {
        let more = fields.into_iter().map(|(name, value)| (format!("x{name}"), json!([value, {"\n": null}]))).collect();
        let record = Record { n: 1, at: Moment(at), source: "s".into(), source_seq: 1, kind: "k".into(), who: "w".into(), more };
        prop_assert!(verify(&Kept::new(vec![record.body().unwrap()], &[1]).file(), &[]).is_ok());
    }
}
