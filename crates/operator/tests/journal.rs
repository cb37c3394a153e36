//! The journal after a crash: at each byte, and with any events.

use model::{Event, Moment, RunId};
use operator::journal::{By, Journal, Tail};
use operator::runs::raw;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::fs;
use std::path::{Path, PathBuf};

fn run() -> RunId {
    RunId::parse("r1").unwrap()
}

fn note(text: &str) -> Box<RawValue> {
    raw(&Event::Note { text: text.into() })
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    (dir, path)
}

fn events(path: &Path, after: u64) -> Vec<(u64, String)> {
    let durable = Journal::open(path, &run()).unwrap().len();
    let mut tail = Tail::open(path, &run(), after).unwrap();
    std::iter::from_fn(|| tail.next(durable).unwrap()).map(|r| (r.seq, r.event.get().to_owned())).collect()
}

/// The events of a journal with these bytes, and how many of those bytes it keeps.
fn reopened(bytes: &[u8]) -> (Vec<(u64, String)>, usize) {
    let (_dir, path) = file();
    fs::write(&path, bytes).unwrap();
    let events = events(&path, 0);
    (events, usize::try_from(fs::metadata(&path).unwrap().len()).unwrap())
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record_wherever_it_was_torn() {
    let (_dir, path) = file();
    let mut journal = Journal::open(&path, &run()).unwrap();
    let mut ends = vec![0];
    for text in ["one", "two", "three"] {
        journal.append(Moment(7), By::Box, &[note(text)]).unwrap();
        ends.push(usize::try_from(journal.len()).unwrap());
    }
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        let (events, kept) = reopened(&whole[..cut]);
        let records = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!((events.len(), kept), (records, ends[records]), "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_ends_the_journal_before_its_record() {
    let (_dir, path) = file();
    let mut journal = Journal::open(&path, &run()).unwrap();
    journal.append(Moment(7), By::Box, &[note("one")]).unwrap();
    let first = usize::try_from(journal.len()).unwrap();
    journal.append(Moment(8), By::Box, &[note("two")]).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert_eq!(reopened(&changed).0.len(), usize::from(at >= first), "byte {at}");
    }
}

#[test]
fn a_journal_of_another_run_is_not_taken_for_ours() {
    let (_dir, path) = file();
    let other = RunId::parse("r2").unwrap();
    Journal::open(&path, &other).unwrap().append(Moment(1), By::Operator, &[note("x")]).unwrap();
    assert!(events(&path, 0).is_empty());
}

#[test]
fn the_end_counts_only_from_the_operator() {
    let (_dir, path) = file();
    let mut journal = Journal::open(&path, &run()).unwrap();
    let end = raw(&operator::runs::interrupted("its operator ended"));
    journal.append(Moment(1), By::Box, std::slice::from_ref(&end)).unwrap();
    assert!(!journal.ended() && !Journal::open(&path, &run()).unwrap().ended());
    journal.append(Moment(1), By::Operator, &[end]).unwrap();
    assert!(journal.ended() && Journal::open(&path, &run()).unwrap().ended());
}

#[test]
fn an_event_too_long_for_the_link_is_refused_and_the_journal_goes_on() {
    let (_dir, path) = file();
    let mut journal = Journal::open(&path, &run()).unwrap();
    let long = note(&"x".repeat(operator::journal::MAX_BODY));
    assert!(journal.append(Moment(1), By::Operator, &[note("a"), long]).is_err());
    assert_eq!(journal.append(Moment(1), By::Operator, &[note("b")]).unwrap(), 1);
    assert_eq!(events(&path, 0).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_appended_in_any_batches_is_read_back_from_any_number(
        batches in prop::collection::vec(prop::collection::vec(".*", 0..5), 0..6),
        after in 0u64..20,
        torn in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (_dir, path) = file();
        let mut journal = Journal::open(&path, &run()).unwrap();
        for batch in &batches {
            let events: Vec<_> = batch.iter().map(|text| note(text)).collect();
            journal.append(Moment(1), By::Box, &events).unwrap();
        }
        drop(journal);
        // A crash left some bytes behind the last whole record.
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&torn);
        fs::write(&path, bytes).unwrap();
        let all: Vec<(u64, String)> =
            batches.concat().iter().zip(1..).map(|(text, seq)| (seq, note(text).get().to_owned())).collect();
        let expected: Vec<_> = all.iter().filter(|(seq, _)| *seq > after).cloned().collect();
        prop_assert_eq!(events(&path, after), expected);
        // And it is appended to as if nothing had happened.
        let mut journal = Journal::open(&path, &run()).unwrap();
        prop_assert_eq!(journal.append(Moment(1), By::Box, &[note("on")]).unwrap(), all.len() as u64 + 1);
    }
}
