//! A provider's events, cut and held in every way.

use super::*;
use model::Secret;
use proptest::prelude::*;
use serde_json::json;

const KEY: &str = "sk-4fQz81LmWv0Ty7RkPb3N";

fn scrubber() -> Scrubber {
    Scrubber::new([("model/key".to_owned(), Secret::new(KEY.to_owned()))])
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("x"))
}

fn delta(index: u64, text: &str) -> String {
    event(&json!({"type": "delta", "index": index, "delta": {"type": "text_delta", "text": text}}))
}

/// What comes out of a stream that arrives in pieces of so many bytes, in a box that was told nothing yet.
fn through(stream: &str, piece: usize) -> String {
    through_of(Arc::default(), stream, piece)
}

fn through_of(hints: Arc<Hints>, stream: &str, piece: usize) -> String {
    let mut pieces = Pieces::new(scrubber(), hints);
    let mut out: Vec<u8> =
        stream.as_bytes().chunks(piece).flat_map(|bytes| pieces.push(bytes).expect("not too much")).collect();
    out.extend(pieces.finish());
    String::from_utf8(out).expect("text")
}

/// The text of one index, as a client puts it together.
fn text(stream: &str, index: u64) -> String {
    let datas = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = datas.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    events
        .filter(|event| event["index"] == index)
        .filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_credential_cut_between_events_is_replaced_wherever_it_is_cut() {
    let mark = scrubber().scrub_str(KEY).into_owned();
    for cut in 1..KEY.len() {
        let (left, right) = KEY.split_at(cut);
        let stream =
            [delta(0, "It is "), delta(0, left), event(&json!({"type": "ping"})), delta(0, right), delta(0, ", no?")]
                .concat();
        for piece in [1, 7, stream.len()] {
            let out = through(&stream, piece);
            let told = if cut <= 3 { left } else { "" };
            assert_eq!(text(&out, 0), format!("It is {told}{mark}, no?"), "cut at {cut}");
            assert!(!out.contains(right) || right.len() <= 3, "{out}");
            assert!(out.contains(r#"{"type":"ping"}"#), "{out}");
        }
    }
}

#[test]
fn a_credential_of_which_every_event_brings_one_byte_is_replaced() {
    let stream: String = KEY.chars().map(|char| delta(0, &char.to_string())).collect();
    let said = text(&through(&stream, 9), 0);
    assert_eq!(said, format!("{}{}", &KEY[..3], scrubber().scrub_str(KEY)));
}

#[test]
fn texts_that_run_beside_each_other_are_put_together_each_for_itself() {
    let (left, right) = KEY.split_at(9);
    let stream = [delta(0, left), delta(1, "other"), delta(0, right), delta(1, " words")].concat();
    let out = through(&stream, 5);
    assert_eq!(text(&out, 0), scrubber().scrub_str(KEY));
    assert_eq!(text(&out, 1), "other words");
    let chat = |at: u64, text: &str| {
        event(
            &json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": at, "function": {"arguments": text}}]}}]}),
        )
    };
    let out = through(&[chat(3, left), chat(4, "{}"), chat(3, right)].concat(), 11);
    assert!(!out.contains(left) && !out.contains(right), "{out}");
    // Two texts, of which neither holds it, although their pieces alternate as its halves.
    let stream = [delta(0, left), delta(1, right)].concat();
    assert_eq!(through(&stream, 5), stream);
}

#[test]
fn the_beginning_of_a_credential_waits_and_goes_on_to_the_byte_when_it_becomes_none() {
    let mut pieces = Pieces::new(scrubber(), Arc::default());
    let (held, ping, rest) = (delta(0, &KEY[..10]), event(&json!({"type": "ping"})), delta(0, " only begins so"));
    assert!(pieces.push(held.as_bytes()).unwrap().is_empty());
    assert!(pieces.push(ping.as_bytes()).unwrap().is_empty(), "events keep their order");
    let out = pieces.push(rest.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), [held.clone(), ping, rest].concat());
    assert!(pieces.push(held.as_bytes()).unwrap().is_empty());
    assert_eq!(String::from_utf8(pieces.finish()).unwrap(), held, "the end of the stream decides it too");
}

/// Hints of which none is left.
fn spent() -> Arc<Hints> {
    let hints: Arc<Hints> = Arc::default();
    hints.tell(KEY.len());
    assert!(hints.are_spent());
    hints
}

#[test]
fn a_box_is_told_eight_letters_by_ends_that_wait_one_with_the_other_and_none_after_them() {
    // Ends of so many bytes, and whether the last of them is the last that tells anything.
    for (ends, is_spent) in [
        (&[4, 4, 4, 4, 4, 4, 4][..], false),
        (&[4, 4, 4, 4, 4, 4, 4, 4], true),
        (&[10], false),
        (&[11], true),
        (&[7, 6], false),
        (&[7, 7], true),
        (&[3; 40], false),
    ] {
        let hints: Arc<Hints> = Arc::default();
        for end in ends {
            assert!(!hints.are_spent(), "{ends:?}");
            let mut pieces = Pieces::new(scrubber(), hints.clone());
            let went = pieces.push(delta(0, &KEY[..*end]).as_bytes()).unwrap();
            assert_eq!(went.is_empty(), *end > TELLS_NOTHING);
            // It waits on, and is no further one.
            assert_eq!(pieces.push(delta(1, "other").as_bytes()).unwrap().is_empty(), *end > TELLS_NOTHING);
        }
        assert_eq!(hints.are_spent(), is_spent, "{ends:?}");
    }
}

#[test]
fn what_another_answer_told_the_box_is_not_told_by_one_that_began_before() {
    let hints: Arc<Hints> = Arc::default();
    let [mut told, mut guess, mut other] = [(); 3].map(|()| Pieces::new(scrubber(), hints.clone()));
    // Behind one that waits stand others, which were heard before all was told.
    let waits = delta(0, &KEY[..4]);
    assert!(guess.push(waits.as_bytes()).unwrap().is_empty() && other.push(waits.as_bytes()).unwrap().is_empty());
    assert!(guess.push(delta(1, &KEY[..12]).as_bytes()).unwrap().is_empty());
    assert!(other.push(delta(1, "a sentence, ").as_bytes()).unwrap().is_empty());
    assert!(told.push(delta(0, KEY.get(..20).unwrap()).as_bytes()).unwrap().is_empty());
    assert!(hints.are_spent());
    for more in [delta(0, &"x".repeat(400)), delta(1, &"x".repeat(10)), delta(2, &KEY[..9]), delta(1, &"x".repeat(400))]
    {
        let went = [&mut guess, &mut other].map(|pieces| pieces.push(more.as_bytes()).unwrap().len());
        assert_eq!(went[0], went[1], "{more}");
    }
    assert_eq!(guess.finish().len(), other.finish().len());
}

#[test]
fn of_a_credential_of_which_a_part_went_on_undecided_the_rest_does_not_go_on() {
    let mark = scrubber().scrub_str(KEY).into_owned();
    let pings = event(&json!({"type": "ping"})).repeat(PATIENCE + 1);
    // Taken for the word that each event has, or for whole because nothing more came of it for long.
    for (between, left) in [(delta(0, &KEY[..7]), 7), (pings.clone(), 7), (pings.clone(), 12), (pings.clone(), 22)] {
        let stream = [delta(0, &KEY[..left]), between, delta(0, &KEY[left..]), delta(0, "; and so on\n")].concat();
        for piece in [1, 7, stream.len()] {
            let said = text(&through_of(spent(), &stream, piece), 0);
            assert!(said.ends_with(&format!("{}{mark}; and so on\n", &KEY[..left])), "{left}: {said}");
        }
    }
    // A whole one goes on nowhere, also where it is such a word.
    let stream = [delta(0, KEY), delta(0, KEY), pings, delta(0, "x")].concat();
    assert_eq!(text(&through_of(spent(), &stream, 9), 0), format!("{mark}{mark}x"));
}

#[test]
fn of_a_box_that_was_told_enough_when_an_event_goes_on_says_nothing_of_its_end() {
    let hints = spent();
    let ping = event(&json!({"type": "ping"}));
    let more = [delta(0, " and more"), ping.clone(), delta(0, &"x".repeat(400)), delta(0, "one line\n")].concat();
    let goes = |end: &str, more: &str| -> Vec<usize> {
        let mut pieces = Pieces::new(scrubber(), hints.clone());
        let events = [delta(0, end), more.to_owned()].concat();
        let mut out = Vec::new();
        let goes = events.split_inclusive("\n\n").map(|event| {
            let went = pieces.push(event.as_bytes()).unwrap();
            out.extend_from_slice(&went);
            went.len()
        });
        let mut goes: Vec<usize> = goes.collect();
        let rest = pieces.finish();
        goes.push(rest.len());
        out.extend(rest);
        assert_eq!(String::from_utf8(out).unwrap(), events);
        goes
    };
    let other = goes("a sentence, ", &more);
    for length in [4, 8, 12] {
        let end = format!("{:.<12}", "")[length..].to_owned() + &KEY[..length];
        assert_eq!(goes(&end, &more), other, "{end}");
    }
    assert!(other[..3].iter().all(|went| *went == 0) && other[3] > 0, "{other:?}");
    // Of a text that ends here nobody waits for more.
    let pings = ping.repeat(PATIENCE + 1);
    let (guess, other) = (goes(&KEY[..12], &pings), goes("a sentence, ", &pings));
    assert_eq!(guess, other);
    assert!(guess[..PATIENCE].iter().all(|went| *went == 0) && guess[PATIENCE] > 0, "{guess:?}");
}

#[test]
fn an_event_goes_on_when_it_is_whole_and_not_before_whatever_ends_its_lines() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = format!("event: x{end}data: {{\"a\":1}}{end}{end}: note{end}{end}data: [DONE]{end}{end}");
        for piece in 1..9 {
            assert_eq!(through(&stream, piece), stream, "{end:?}");
        }
        let mut pieces = Pieces::new(scrubber(), Arc::default());
        assert!(pieces.push(format!("data: 1{end}").as_bytes()).unwrap().is_empty());
        assert!(!pieces.push(end.as_bytes()).unwrap().is_empty(), "{end:?}");
    }
}

#[test]
fn what_is_no_json_or_stands_beside_the_data_and_completes_a_credential_stays_here() {
    let (left, right) = KEY.split_at(10);
    let out = through(&format!("data: {left}\n\ndata: {right}\n\n: {left}\n\n:{right}\n\ndata: ok\n\n"), 6);
    assert!(!out.contains(left) && !out.contains(right), "{out}");
    assert!(out.ends_with("data: ok\n\n"), "{out}");
}

#[test]
fn a_stream_that_never_decides_is_cut_at_what_may_wait_and_one_of_many_texts_is_not() {
    let mut pieces = Pieces::new(scrubber(), Arc::default());
    assert!(pieces.push(delta(0, &KEY[..12]).as_bytes()).unwrap().is_empty());
    let other = delta(1, &"x".repeat(1 << 20));
    let fits = LONGEST / other.len();
    (0..fits).for_each(|_| assert!(pieces.push(other.as_bytes()).unwrap().is_empty()));
    assert!(pieces.push(other.as_bytes()).is_err());
    let many: String = (0..2000).map(|index| delta(index, "words")).collect();
    assert_eq!(through(&many, 4096), many);
    let mut pieces = Pieces::new(scrubber(), Arc::default());
    pieces.push(many.as_bytes()).unwrap();
    assert!(pieces.texts.len() <= MOST_TEXTS);
}

proptest! {
    #[test]
    fn a_stream_without_a_credential_goes_on_to_the_byte(
        texts in prop::collection::vec((0u64..3, "[sk4-]{0,3}[a-z\\\\\"\n\u{e9}]{0,6}[sk4-]{0,5}"), 0..20), piece in 1usize..60
    ) {
        let stream: String = texts.iter().map(|(index, text)| delta(*index, text)).collect();
        for hints in [Arc::default(), spent()] {
            prop_assert_eq!(&through_of(hints, &stream, piece), &stream);
        }
    }

    #[test]
    fn no_cut_into_events_and_no_words_around_bring_a_credential_through(
        before in "[sk4-]{0,6}", after in "[sk4-]{0,6}", cuts in prop::collection::vec(1usize..6, 1..30), piece in 1usize..60
    ) {
        let whole = format!("{before}{KEY}{after}");
        let (mut rest, mut stream) = (whole.as_str(), String::new());
        for cut in cuts {
            let (now, then) = rest.split_at(cut.min(rest.len()));
            stream.push_str(&delta(0, now));
            rest = then;
        }
        stream.push_str(&delta(0, rest));
        for hints in [Arc::default(), spent()] {
            let said = text(&through_of(hints, &stream, piece), 0);
            prop_assert!(!said.contains(&KEY[..8]) && !said.contains(&KEY[8..16]) && !said.contains(&KEY[16..]), "{}", said);
            prop_assert!(said.starts_with(&before) && said.ends_with(&after), "{}", said);
        }
    }
}

#[test]
fn an_event_that_is_written_anew_ends_its_lines_as_it_came() {
    let (left, right) = KEY.split_at(KEY.len() / 2);
    for end in ["\n", "\r\n", "\r"] {
        let said = |text: &str| {
            let data = json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]});
            format!("event: part{end}data: {data}{end}{end}")
        };
        let out = through(&[said("It is "), said(left), said(right), said(".")].concat(), 7);
        let mark = scrubber().scrub_str(KEY).into_owned();
        assert_eq!(out, [said("It is "), said(&mark), said(""), said(".")].concat(), "{end:?}");
    }
}
