//! What holds of the readers whatever a provider sends, and wherever the network cuts it.

use super::tests::{ALL, expected, read};
use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// A stream in pieces, cut where `cuts` say (each a fraction of what is left, in 256ths).
fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = stream.split_at(stream.len() * usize::from(*cut) / 256);
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

/// An event that often has a shape which one of the dialects knows, with anything in its places.
fn any_event() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "type",
        "index",
        "output_index",
        "delta",
        "content_block",
        "message",
        "usage",
        "item",
        "response",
        "output",
        "content",
        "choices",
        "tool_calls",
        "function",
        "arguments",
        "call_id",
        "id",
        "name",
        "text",
        "partial_json",
        "finish_reason",
        "stop_reason",
        "status",
        "error",
        "code",
        "encrypted_content",
        "summary",
        "candidates",
        "parts",
        "thought",
        "thoughtSignature",
        "functionCall",
        "args",
        "finishReason",
        "usageMetadata",
        "promptFeedback",
        "blockReason",
    ]);
    let word = prop::sample::select(vec![
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "text_delta",
        "input_json_delta",
        "tool_use",
        "text",
        "thinking",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "function_call",
        "reasoning",
        "message",
        "output_text",
        "error",
        "stop",
        "length",
        "STOP",
        "SAFETY",
        "MALFORMED_FUNCTION_CALL",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0u64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop_oneof![4 => value.prop_map(|value| value.to_string()), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recorded_stream_cut_into_any_pieces_reads_the_same(
        which in 0..ALL.len(), cuts in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let (dialect, stream) = ALL[which];
        let (answer, words) = read(dialect, &pieces(stream.as_bytes(), &cuts)).unwrap();
        prop_assert_eq!(answer, expected(dialect));
        prop_assert_eq!(words, "Héllo wörld 漢");
    }

    #[test]
    fn a_recorded_stream_with_any_bytes_in_it_is_read_or_refused_and_cut_anywhere_says_the_same(
        which in 0..ALL.len(), at in any::<u8>(), out in 0usize..40, garbage in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let (dialect, stream) = ALL[which];
        let at = stream.len() * usize::from(at) / 256;
        let mut bytes = stream.as_bytes().to_vec();
        bytes.splice(at..(at + out).min(stream.len()), garbage);
        let one = read(dialect, &[&bytes]).map_err(|error| error.kind);
        let other = read(dialect, &pieces(&bytes, &cuts)).map_err(|error| error.kind);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn any_events_are_read_or_refused_and_what_was_said_is_in_the_answer(
        which in 0..ALL.len(), events in prop::collection::vec(any_event(), 0..12)
    ) {
        let mut reader = Reader::new(ALL[which].0);
        let (mut bytes, mut said) = (0, 0);
        for event in &events {
            let Ok(words) = reader.event(event) else { return Ok(()) };
            said += words.len();
            prop_assert!(reader.bytes() >= bytes, "what is counted never shrinks");
            prop_assert!(reader.bytes() >= said, "and counts all that was said");
            bytes = reader.bytes();
        }
        let whole = reader.is_whole();
        let ended = reader.end();
        prop_assert!(!whole || ended.is_ok());
        // An answer can be sent back, whatever stands in it.
        if let Ok(answer) = ended {
            let (started, _) = super::tests::conversation(ALL[which].0);
            let body = request(&started, &[crate::turns::Message::Model(answer.content)], true);
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
        }
    }

    #[test]
    fn any_whole_body_is_read_or_refused(which in 0..ALL.len(), body in any_event(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let dialect = ALL[which].0;
        for body in [body.as_bytes(), &bytes] {
            if let Err(error) = whole(dialect, body) {
                prop_assert!(!error.text.is_empty());
            }
        }
        prop_assert_eq!(whole(dialect, b"{}").unwrap_err().kind, FailureKind::Garbage);
        let error = br#"{"error":{"message":"no"}}"#;
        prop_assert!(whole(dialect, error).is_err());
    }
}
