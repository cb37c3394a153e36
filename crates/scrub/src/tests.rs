//! What the scrubber promises, on planted values and on any cut of a stream.

use crate::{Formats, Key, MAX_PLACEHOLDER, MIN_BYTES, Scrubber};
use base64::{Engine, engine::general_purpose as b64};
use model::Secret;
use proptest::prelude::*;
use sha2::Digest;
use std::borrow::Cow;

fn scrubber(values: &[(&str, &str)]) -> Scrubber {
    Scrubber::new(values.iter().map(|(kind, value)| ((*kind).to_owned(), Secret::new((*value).to_owned()))))
}

const KEY: &str = "sk-ant-api03-Zq9_w/4+x\"7é";

fn scrubbed(text: &str) -> String {
    scrubber(&[("model/anthropic", KEY)]).scrub_str(text).into_owned()
}

#[test]
fn a_value_is_replaced_by_its_kind_and_nothing_else_changes() {
    assert_eq!(scrubbed(&format!("key={KEY}; ok")), "key=[scrubbed:model/anthropic]; ok");
    assert_eq!(scrubbed(&KEY.repeat(2)), "[scrubbed:model/anthropic]".repeat(2));
}

#[test]
fn clean_text_is_not_copied() {
    let scrubber = scrubber(&[("k", KEY)]);
    assert!(matches!(scrubber.scrub(b"nothing here, not even sk-ant-api03-"), Cow::Borrowed(_)));
    assert!(matches!(Scrubber::new([]).scrub(KEY.as_bytes()), Cow::Borrowed(_)));
    assert!(Scrubber::new([]).is_empty());
}

#[test]
fn a_value_of_8_bytes_is_looked_for_and_one_of_7_is_not() {
    assert_eq!(MIN_BYTES, 8);
    assert_eq!(scrubber(&[("k", "12345678")]).scrub_str("a12345678b"), "a[scrubbed:k]b");
    assert_eq!(scrubber(&[("k", "1234567")]).scrub_str("a1234567b"), "a1234567b");
}

#[test]
fn a_value_with_a_newline_at_its_end_is_found_without_it() {
    assert_eq!(scrubber(&[("k", "0123456789abcdef\n")]).scrub_str("(0123456789abcdef)"), "([scrubbed:k])");
}

#[test]
fn every_encoding_in_the_list_is_found() {
    let url = |hex: fn(u8) -> String, safe: &str| {
        KEY.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || safe.contains(char::from(b)) {
                    char::from(b).to_string()
                } else {
                    hex(b)
                }
            })
            .collect::<String>()
    };
    let upper = |b: u8| format!("%{b:02X}");
    let lower = |b: u8| format!("%{b:02x}");
    let json = |value: &str| serde_json_string(value);
    for encoded in [
        KEY.bytes().map(|b| format!("{b:02x}")).collect(),
        KEY.bytes().map(|b| format!("{b:02X}")).collect(),
        url(upper, "-._~"),
        url(lower, "-._~"),
        url(upper, "-._~/"),
        url(upper, ""),
        url(upper, "*-._"),
        KEY.bytes().map(upper).collect(),
        KEY.bytes().map(lower).collect(),
        json(KEY),
        json(&json(KEY)),
        json(KEY).replace('/', "\\/"),
        json(KEY).replace('é', "\\u00e9"),
        json(KEY).replace('é', "\\u00E9"),
        KEY.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
        KEY.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect(),
        KEY.chars().map(|char| format!("&#{};", u32::from(char))).collect(),
        KEY.chars().rev().collect::<String>(),
    ] {
        assert_eq!(scrubbed(&format!("<{encoded}>")), "<[scrubbed:model/anthropic]>", "{encoded}");
    }
    let backwards: Vec<u8> = KEY.bytes().rev().collect();
    assert_eq!(scrubber(&[("k", KEY)]).scrub(&backwards)[..], b"[scrubbed:k]"[..]);
}

/// The string as JSON writes it, without the quotes around it; apart from the scrubber's own writer.
#[test]
fn what_shells_languages_and_pages_write_of_a_value_is_found() {
    const ODD: &str = "it's-$a\"b\\c&<d>=e+f/é9";
    let scrubber = scrubber(&[("odd", ODD)]);
    // As these programs printed it.
    for (program, said) in [
        ("bash -x, ls", r#"'it'\''s-$a"b\c&<d>=e+f/é9'"#),
        ("bash, export -p", r#"V="it's-\$a\"b\\c&<d>=e+f/é9""#),
        ("dash, export -p", r#"V='it'"'"'s-$a"b\c&<d>=e+f/é9'"#),
        ("printf %q", r#"it\'s-\$a\"b\\c\&\<d\>=e+f/é9"#),
        ("Python, repr", r#"'it\'s-$a"b\\c&<d>=e+f/é9'"#),
        ("Python, ascii", r#"'it\'s-$a"b\\c&<d>=e+f/\xe99'"#),
        ("Python, bytes", r#"b'it\'s-$a"b\\c&<d>=e+f/\xc3\xa99'"#),
        ("Node, an array", r#"[ `it's-$a"b\\c&<d>=e+f/é9` ]"#),
        ("Python, html.escape", r#"it&#x27;s-$a&quot;b\c&amp;&lt;d&gt;=e+f/é9"#),
        ("Python, XML", r#"it's-$a"b\c&amp;&lt;d&gt;=e+f/é9 "it's-$a&quot;b\c&amp;&lt;d&gt;=e+f/é9""#),
        ("jq, @html", r#"it&apos;s-$a&quot;b\c&amp;&lt;d&gt;=e+f/é9"#),
        ("Go, html.EscapeString", r#"it&#39;s-$a&#34;b\c&amp;&lt;d&gt;=e+f/é9"#),
        ("Gson", r#""it\u0027s-$a\"b\\c\u0026\u003cd\u003e\u003de+f/é9""#),
        (".NET", r#""it\u0027s-$a\u0022b\\c\u0026\u003Cd\u003E=e\u002Bf/\u00E99""#),
        ("PHP, then plainly", r#""it's-$a\\\"b\\\\c&<d>=e+f\\/é9""#),
        ("od", "69 74 27 73 2d 24 61 22 62 5c 63 26 3c 64 3e 3d 65 2b 66 2f c3 a9 39"),
        ("C", r"\x69\x74\x27\x73\x2d\x24\x61\x22\x62\x5c\x63\x26\x3c\x64\x3e\x3d\x65\x2b\x66\x2f\xc3\xa9\x39"),
    ] {
        let out = scrubber.scrub_str(said);
        assert!(
            out.contains("[scrubbed:odd]") && !out.contains("d&gt;") && !out.contains("c&"),
            "{program}: {said}: {out}"
        );
    }
}

fn serde_json_string(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[test]
fn html_safe_json_is_found() {
    let scrubber = scrubber(&[("k", "a<b>c&d-long")]);
    assert_eq!(scrubber.scrub_str("a\\u003cb\\u003ec\\u0026d-long"), "[scrubbed:k]");
}

#[test]
fn a_form_encoded_space_is_found() {
    let scrubber = scrubber(&[("k", "correct horse battery")]);
    assert_eq!(scrubber.scrub_str("p=correct+horse+battery&x=1"), "p=[scrubbed:k]&x=1");
    assert_eq!(scrubber.scrub_str("p=correct%20horse%20battery"), "p=[scrubbed:k]");
}

#[test]
fn basic_authentication_and_a_base64_file_do_not_carry_it_out() {
    // At each alignment a few bits of the first and last byte may stay; never eight of them together.
    for before in ["", "u", "us", "user:"] {
        for engine in [&b64::STANDARD, &b64::URL_SAFE] {
            let core = engine.encode(KEY);
            let out = scrubbed(&engine.encode(format!("{before}{KEY}{before}")));
            assert!(out.contains("[scrubbed:model/anthropic]"), "{before:?}: {out}");
            assert!(out.len() < core.len() + 2 * before.len() + 8, "{before:?}: {out}");
        }
    }
}

#[test]
fn the_longer_of_two_values_that_start_together_is_replaced_whole() {
    let scrubber = scrubber(&[("short", "token-12"), ("long", "token-12-and-more")]);
    assert_eq!(scrubber.scrub_str("token-12-and-more token-12-and"), "[scrubbed:long] [scrubbed:short]-and");
}

/// A scrubber whose placeholders carry fingerprints under a key of this byte.
fn keyed(byte: u8, values: &[(&str, &str)]) -> Scrubber {
    let key = Key::new(Secret::new([byte; 32]));
    Scrubber::keyed(&key, values.iter().map(|(kind, value)| ((*kind).to_owned(), Secret::new((*value).to_owned()))))
}

#[test]
fn a_placeholder_keeps_json_json_and_is_at_most_48_bytes() {
    let scrubber = keyed(1, &[("a\"b\\c\n{}é/model._-and-very-long-indeed", "0123456789")]);
    let out = scrubber.scrub_str("{\"k\":\"0123456789\"}").into_owned();
    assert_eq!(out, "{\"k\":\"[scrubbed:a-b-c----/model._-and-very-l#bfaaadc6]\"}");
    assert_eq!(out.len() - "{\"k\":\"\"}".len(), MAX_PLACEHOLDER);
    assert_eq!(MAX_PLACEHOLDER, 6 * MIN_BYTES);
}

#[test]
fn a_value_has_one_fingerprint_in_every_encoding_every_process_and_under_every_name() {
    let of = |scrubber: &Scrubber, text: &str| scrubber.scrub_str(text).into_owned();
    let (one, again) = (keyed(1, &[("model/a", KEY)]), keyed(1, &[("other", &format!("{KEY}\n"))]));
    let marked = of(&one, KEY);
    let print = marked.strip_prefix("[scrubbed:model/a#").and_then(|rest| rest.strip_suffix(']')).unwrap();
    assert_eq!(print.len(), Key::DIGITS);
    let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
    let backwards: String = KEY.chars().rev().collect();
    for form in [KEY, &hex, &backwards, &serde_json_string(KEY)] {
        assert_eq!(of(&one, form), marked, "{form}");
        assert_eq!(of(&again, form), format!("[scrubbed:other#{print}]"), "{form}");
    }
    assert!(!of(&keyed(2, &[("model/a", KEY)]), KEY).contains(print), "another key gives another one");
    assert!(!of(&keyed(1, &[("model/a", "another-value")]), "another-value").contains(print));
}

#[test]
fn what_a_format_finds_has_the_fingerprint_that_its_exact_value_has() {
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let formats = Formats::load().unwrap();
    let by_value = keyed(1, &[("forge", &token)]).scrub_str(&token).into_owned();
    let by_format = keyed(1, &[]).with_formats(formats).scrub_str(&token).into_owned();
    let print = |text: &str| text.trim_end_matches(']').rsplit_once('#').map(|(_, print)| print.to_owned());
    assert_eq!(by_format, format!("[redacted: github-token#{}]", print(&by_value).unwrap()));
    assert_eq!(Scrubber::new([]).with_formats(formats).scrub_str(&token), "[redacted: github-token]");
}

#[test]
fn a_guess_shows_nothing_without_the_key() {
    // All that is seen is the placeholder; a hash without the key would tell which guess is right.
    let seen = keyed(1, &[("k", "password-17")]).scrub_str("password-17").into_owned();
    let plain = |guess: &str| sha2::Sha256::digest(guess).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let right = (0..100).map(|n| format!("password-{n}")).filter(|guess| {
        let print = &plain(guess)[..Key::DIGITS];
        seen.contains(print) || keyed(2, &[("k", guess)]).scrub_str(guess) == seen
    });
    assert_eq!(right.count(), 0);
}

#[test]
fn a_placeholder_does_not_name_the_value() {
    assert_eq!(scrubber(&[("model/hunter22", "hunter22")]).scrub_str("is hunter22"), "is [scrubbed:secret]");
    assert_eq!(scrubber(&[("", "hunter22")]).scrub_str("is hunter22"), "is [scrubbed:secret]");
    let keyed = keyed(1, &[("model/hunter22", "hunter22")]).scrub_str("is hunter22").into_owned();
    assert!(keyed.starts_with("is [scrubbed:secret#") && !keyed.contains("hunter22"), "{keyed}");
}

#[test]
fn nothing_of_a_value_is_printed() {
    let scrubber = scrubber(&[("k", "hunter2-hunter2")]);
    let mut stream = scrubber.stream();
    stream.push(b"hunter2-hunt");
    assert_eq!(
        format!("{scrubber:?} {stream:?}"),
        "Scrubber Stream { scrubber: Scrubber, even: false, values: [12 bytes held], formats: [0 bytes held] }"
    );
}

#[test]
fn a_stream_lets_text_through_as_it_arrives() {
    let mut stream = scrubber(&[("k", "hunter2-hunter2")]).stream();
    assert_eq!(stream.push(b"data: hello\n\n"), b"data: hello\n\n");
    assert_eq!(stream.push(b"so hunt"), b"so ", "only what could become the value is held");
    assert_eq!(stream.push(b"ing"), b"hunting");
    assert_eq!(stream.push(b"hunter2-hunter"), b"");
    assert_eq!(stream.push(b"2"), b"[scrubbed:k]", "a whole value is not waited on");
    assert_eq!(stream.push(b"hunter2"), b"");
    assert_eq!(stream.finish(), b"hunter2");
}

#[test]
fn a_text_for_a_box_goes_on_by_whole_lines_and_a_guess_waits_as_any_end_does() {
    let mut stream = scrubber(&[("k", "hunter2-hunter2")]).even_stream();
    assert_eq!(stream.push(b"one\ntwo"), b"one\n");
    assert_eq!(stream.push(b" three hunter2-"), b"");
    assert_eq!(stream.push(b"\nfour"), b"two three hunter2-\n");
    assert_eq!(stream.push(b" hunter2-hunter2 \n"), b"four [scrubbed:k] \n");
    assert_eq!(stream.finish(), b"");
    // Lines of a value of several are no places to cut at.
    let mut stream = scrubber(&[("k", "first line of it\nsecond line of it")]).even_stream();
    assert_eq!(stream.push(b"a line\n"), b"");
    assert_eq!(stream.push(b"first line of it\nsecond line of it\n"), b"");
    assert_eq!(stream.finish(), b"a line\n[scrubbed:k]\n");
}

#[test]
fn a_text_for_a_box_that_pauses_goes_on_as_one_for_people_does_if_that_may_be_told() {
    let mut stream = scrubber(&[("k", "hunter2-hunter2")]).even_stream();
    assert_eq!(stream.push(b"Password: "), b"");
    assert_eq!(stream.ease(|end| end == 0), b"Password: ");
    assert_eq!(stream.push(b"so hunter2-"), b"");
    assert_eq!(stream.ease(|end| end != 8), b"", "it may not");
    assert_eq!(stream.ease(|end| end == 8), b"so ");
    assert_eq!(stream.ease(|end| end == 8), b"", "and once more");
    // What went on is no beginning that is forgotten.
    assert_eq!(stream.push(b"hunter2\n"), b"[scrubbed:k]\n");
    assert_eq!(stream.finish(), b"");
}

#[test]
fn where_values_stand_so_far_is_known_without_an_end_of_the_text() {
    let mut spans = scrubber(&[("k", "hunter2-hunter2"), ("l", "hunter2-hunter2-and-more")]).spans();
    let seen = |found: Vec<crate::Span>| found.iter().map(|span| (span.start, span.end)).collect::<Vec<_>>();
    assert_eq!(seen(spans.push(b"is hunter2-hunter2")), [], "it may go on");
    assert_eq!((spans.decided(), seen(spans.so_far())), (3, vec![(3, 18)]));
    assert_eq!(seen(spans.push(b"-and-more")), [(3, 27)]);
    assert!(spans.even() < 27);
    spans.push(b"\n");
    assert_eq!((spans.even(), spans.decided()), (28, 28));
}

#[test]
fn a_value_of_16_kib_is_found_whole_in_pieces_and_encoded() {
    let value: String = (0..16 * 1024).map(|at| char::from(b'!' + (at * at % 89) as u8)).collect();
    let scrubber = scrubber(&[("big", &value)]);
    assert_eq!(scrubber.scrub_str(&format!("<{value}>")), "<[scrubbed:big]>");
    assert_eq!(scrubber.scrub_str(&b64::STANDARD_NO_PAD.encode(&value)[..21845]), "[scrubbed:big]");
    let mut stream = scrubber.stream();
    let out: Vec<u8> = value.as_bytes().chunks(1000).flat_map(|piece| stream.push(piece)).collect();
    assert_eq!(out, b"[scrubbed:big]");
}

#[test]
fn a_stream_waits_for_the_longer_of_two_values() {
    let both = scrubber(&[("short", "token-12"), ("long", "token-12-and-more")]);
    let mut stream = both.stream();
    assert_eq!(stream.push(b"token-12-an"), b"");
    assert_eq!(stream.push(b"y"), b"[scrubbed:short]-any");
    assert_eq!(stream.push(b"token-12-and-mor"), b"");
    assert_eq!(stream.finish(), b"[scrubbed:short]-and-mor");
}

/// Values of few letters, so that they overlap, repeat and start one another.
fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop_oneof!["[ab]{8,12}", "[ -~]{8,40}", "\\PC{8,20}"], 1..4)
}

fn kinds(values: &[String]) -> Vec<(&str, &str)> {
    values.iter().enumerate().map(|(at, value)| (["one", "two", "three"][at], value.as_str())).collect()
}

/// Text with values, parts of values and other things in it.
fn text(values: Vec<String>) -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    let piece = prop_oneof![
        (prop::sample::select(values.clone()), 0usize..60).prop_map(|(value, cut)| {
            let bytes = value.into_bytes();
            bytes[..bytes.len().min(cut)].to_vec()
        }),
        prop::sample::select(values.clone()).prop_map(String::into_bytes),
        prop::sample::select(values.clone()).prop_map(|value| b64::STANDARD.encode(value).into_bytes()),
        prop::collection::vec(any::<u8>(), 0..8),
        "[ab]{0,12}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..10).prop_map(move |pieces| (values.clone(), pieces.concat()))
}

/// What the scrubber gives, found form by form at every place.
fn by_looking_everywhere(values: &[(&str, &str)], text: &[u8]) -> Vec<u8> {
    let mut forms = std::collections::BTreeMap::new();
    for (kind, value) in values {
        for value in [*value, value.trim()].into_iter().filter(|value| value.len() >= MIN_BYTES) {
            for form in crate::encodings::of(value) {
                forms.entry(form.to_vec()).or_insert_with(|| scrubber(&[(*kind, value)]).scrub_str(value).into_owned());
            }
        }
    }
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(byte) = rest.first() {
        match forms.iter().filter(|(form, _)| rest.starts_with(form)).max_by_key(|(form, _)| form.len()) {
            Some((form, placeholder)) => {
                out.extend_from_slice(placeholder.as_bytes());
                rest = &rest[form.len()..];
            }
            None => {
                out.push(*byte);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// Whether a value could be made up of text that was left and of a placeholder beside it.
fn meets_a_placeholder(value: &str) -> bool {
    let placeholders = ["[scrubbed:one]", "[scrubbed:two]", "[scrubbed:three]", "[scrubbed:secret]"];
    let cuts = |placeholder: &str| {
        (1..placeholder.len()).any(|at| value.ends_with(&placeholder[..at]) || value.starts_with(&placeholder[at..]))
    };
    placeholders
        .iter()
        .any(|placeholder| cuts(placeholder) || placeholder.contains(value) || value.contains(placeholder))
}

fn plants() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    values().prop_flat_map(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_stream_cut_anywhere_is_the_whole((values, text) in plants(), cuts in prop::collection::vec(1usize..30, 1..40)) {
        let scrubber = scrubber(&kinds(&values));
        let whole = scrubber.scrub(&text).into_owned();
        for mut stream in [scrubber.stream(), scrubber.even_stream()] {
            let (mut out, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                out.extend(stream.push(piece));
                rest = after;
                if rest.is_empty() { break; }
            }
            out.extend(stream.finish());
            prop_assert_eq!(&out, &whole);
        }
        let (mut spans, mut found) = (scrubber.spans(), Vec::new());
        for piece in text.chunks(cuts[0]) {
            found.extend(spans.push(piece));
            prop_assert!(spans.even() <= spans.decided());
        }
        found.extend(spans.finish());
        let (mut out, mut at) = (Vec::new(), 0);
        for span in found {
            out.extend_from_slice(&text[at..usize::try_from(span.start).unwrap()]);
            out.extend_from_slice(span.placeholder.as_bytes());
            at = usize::try_from(span.end).unwrap();
        }
        out.extend_from_slice(&text[at..]);
        prop_assert_eq!(&out, &whole);
        prop_assert_eq!(spans.decided(), text.len() as u64);
    }

    #[test]
    fn how_a_text_for_a_box_is_cut_says_nothing_of_a_value_that_is_not_whole_in_it(
        parts in prop::collection::vec(("[a-z\n ]{0,12}", 0usize..23, any::<bool>(), any::<bool>()), 1..12), piece in 1usize..40
    ) {
        let value = "tok-4fQz81LmWv0Ty7RkPb3N";
        let scrubber = scrubber(&[("k", value)]);
        let mut text = String::new();
        for (before, length, encoded, line) in parts {
            let guess = if encoded { b64::STANDARD.encode(value) } else { value.to_owned() };
            text += &before;
            text += &guess[..length];
            text += if line { "\n" } else { "." };
        }
        prop_assume!(*scrubber.scrub(text.as_bytes()) == *text.as_bytes());
        let other: Vec<u8> = text.bytes().map(|byte| if byte == b'\n' { byte } else { b'.' }).collect();
        let cuts = |text: &[u8]| -> Vec<usize> {
            let mut stream = scrubber.even_stream();
            let mut cuts: Vec<usize> = text.chunks(piece).map(|piece| stream.push(piece).len()).collect();
            cuts.push(stream.finish().len());
            cuts
        };
        prop_assert_eq!(cuts(text.as_bytes()), cuts(&other));
        let marks = |text: &[u8]| -> Vec<u64> {
            let mut spans = scrubber.spans();
            text.chunks(piece).map(|piece| { spans.push(piece); spans.even() }).collect()
        };
        prop_assert_eq!(marks(text.as_bytes()), marks(&other));
    }

    #[test]
    fn the_skipping_search_finds_what_a_look_at_every_place_finds((values, text) in plants()) {
        let found = scrubber(&kinds(&values)).scrub(&text).into_owned();
        prop_assert_eq!(found, by_looking_everywhere(&kinds(&values), &text));
    }

    #[test]
    fn no_value_survives_and_the_output_is_bounded((values, text) in plants()) {
        prop_assume!(!values.iter().any(|value| meets_a_placeholder(value)));
        let out = scrubber(&kinds(&values)).scrub(&text).into_owned();
        prop_assert!(out.len() <= 4 * text.len());
        for value in &values {
            let value = value.as_bytes();
            prop_assert!(!out.windows(value.len()).any(|window| window == value));
        }
    }

    #[test]
    fn a_planted_value_survives_in_no_encoding(value in "[!-~]{16,64}", before: Vec<u8>, after: Vec<u8>) {
        let scrubber = scrubber(&[("k", &value)]);
        let clean = |text: &[u8]| scrubber.scrub(text).into_owned();
        let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
        let planted = [&before[..], value.as_bytes(), &after[..]].concat();

        prop_assert!(!holds(&clean(&planted), value.as_bytes()));

        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        prop_assert!(!holds(&clean(hex(&planted).as_bytes()), hex(value.as_bytes()).as_bytes()));

        // The middle of the value as it stands in base 64 at this alignment, away from its neighbours.
        for engine in [&b64::STANDARD, &b64::URL_SAFE, &b64::STANDARD_NO_PAD] {
            let encoded = engine.encode(&planted);
            let (first, last) = ((before.len() * 8).div_ceil(6), (before.len() + value.len()) * 8 / 6);
            prop_assert!(!holds(&clean(encoded.as_bytes()), &encoded.as_bytes()[first..last]));
        }

        let mut backwards = planted.clone();
        backwards.reverse();
        prop_assert!(!holds(&clean(&backwards), &value.bytes().rev().collect::<Vec<_>>()));
    }
}

#[test]
fn of_a_user_and_a_password_the_password_is_a_value_of_the_same_name_and_an_address_has_none() {
    let of = |value: &str| -> Vec<String> {
        let all = crate::with_parts([("forge".to_owned(), Secret::new(value.to_owned()))]);
        all.map(|(name, value)| format!("{name} {}", value.expose())).collect()
    };
    assert_eq!(of("me:tok:en\n"), ["forge me:tok:en\n", "forge tok:en"]);
    assert_eq!(of("token"), ["forge token"]);
    assert_eq!(of("https://me:token@host"), ["forge https://me:token@host"]);
}

#[test]
fn a_name_that_lost_its_case_on_the_way_is_known_by_every_form_of_a_value_and_no_other_name_is() {
    let value = "Tok-AbCd0123~Efgh";
    let scrubber = scrubber(&[("k", value)]);
    let hex: String = value.bytes().map(|byte| format!("{byte:02X}")).collect();
    let forms = [value.to_owned(), hex, b64::URL_SAFE_NO_PAD.encode(value), value.chars().rev().collect()];
    for form in forms {
        for name in [form.to_ascii_lowercase(), format!("x-{}-1", form.to_ascii_lowercase()), form.to_ascii_uppercase()]
        {
            assert!(scrubber.is_in_name(&name), "{name}");
        }
    }
    for name in ["x-tok", "tok-abcd0123", "anthropic-ratelimit-tokens-remaining", ""] {
        assert!(!scrubber.is_in_name(name), "{name}");
    }
    assert!(!Scrubber::new([]).is_in_name("x-tok"));
}
