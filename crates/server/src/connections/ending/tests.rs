//! What is a provider's word, when it is told, and what is waited for.

use super::*;
use api::grants::WireSecret;
use std::collections::BTreeSet;

#[test]
fn a_token_is_ended_when_its_provider_says_so_and_by_no_other_answer() {
    let answered = |status, body: &str| {
        heard(&CallWord::Answered { status, headers: Vec::new(), body: WireSecret(Secret::new(body.to_owned())) })
    };
    for (status, body) in [
        (200, ""),
        (204, ""),
        (400, r#"{"error":"unsupported_token_type"}"#),
        (400, r#"{"error":"invalid_token","error_description":"x"}"#),
    ] {
        assert_eq!(answered(status, body), Heard::Ended, "{status} {body}");
    }
    // Whether it is a no for good, or for now.
    for (status, body, is_no) in [
        (302, "", false),
        (400, "", true),
        (400, r#"{"error":"invalid_request"}"#, true),
        (400, r#"{"error":"invalid_client"}"#, true),
        (401, r#"{"error":"invalid_client"}"#, true),
        (401, r#"{"error":"invalid_token"}"#, true),
        (403, "", true),
        (404, "", true),
        (408, "", false),
        (425, "", false),
        (429, "", false),
        (500, "", false),
        (503, r#"{"error":"unsupported_token_type"}"#, false),
    ] {
        let why = format!("It answered with status {status}.");
        let heard = if is_no { Heard::No(why) } else { Heard::NotYet(why) };
        assert_eq!(answered(status, body), heard, "{status} {body}");
    }
    let fault = CallWord::Fault { unsent: true, rule: "x".into(), why: "It was not reached.".into() };
    assert_eq!(heard(&fault), Heard::NotYet("It was not reached.".into()));
}

#[test]
fn a_provider_is_told_again_after_its_wait_and_no_clock_puts_it_off_for_ever() {
    let left = |when| Left { hint: Hint::AccessToken, version: 1, sealed: String::new(), when };
    let ending = |not_before| Ending { tokens: vec![left(When::Now)], not_before, ..Ending::default() };
    for signed_in in [false, true] {
        assert!(ending(None).due(Moment(5), 0, signed_in));
        assert!(!ending(Some(Moment(6))).due(Moment(5), HOLD_MS, signed_in));
        assert!(ending(Some(Moment(5))).due(Moment(5), 0, signed_in));
        assert!(ending(Some(Moment(6 + AGAIN_MS.1))).due(Moment(5), 0, signed_in));
    }
    // An answer that may come is waited for as long as a request may be under way.
    let waits = Ending { waits_for: vec![7], ..Ending::default() };
    assert!(!waits.due(Moment(5), HOLD_MS - 1, false) && waits.due(Moment(5), HOLD_MS, false));
    // What nobody keeps waits for the end of the sign-in, and keeps nothing else waiting.
    let late = Ending { tokens: vec![left(When::SignedOut)], ..Ending::default() };
    assert!(late.due(Moment(5), 0, false) && !late.due(Moment(5), i64::MAX.cast_unsigned(), true));
    let both = Ending { tokens: vec![left(When::SignedOut), left(When::Now)], ..Ending::default() };
    assert!(both.due(Moment(5), 0, true) && both.to_tell(true).count() == 1 && both.to_tell(false).count() == 2);
}

#[test]
fn sixteen_noes_give_up_what_the_provider_was_told_of_and_nothing_else() {
    let left = |version, when| Left { hint: Hint::AccessToken, version, sealed: String::new(), when };
    let ending = |tokens: &[Left], noes| Ending { tokens: tokens.to_vec(), noes, ..Ending::default() };
    let (one, other) = (left(1, When::Now), left(2, When::Now));
    let told = [one.clone(), other.clone()];
    for tokens in [&told[..], &told[..1]] {
        assert!(ending(tokens, NOES).is_refused(&told) && !ending(tokens, NOES - 1).is_refused(&told));
    }
    // One that came while it was told, and one that waits for the end of a sign-in.
    for passed_over in [left(3, When::Now), left(4, When::SignedOut)] {
        assert!(!ending(&[one.clone(), passed_over], NOES).is_refused(&told));
    }
}

#[test]
fn an_answer_ends_the_wait_for_itself_and_for_no_other() {
    // Of every set of three, in every order, among answers that nobody waits for and that come again.
    for order in [[3, 5, 9], [3, 9, 5], [5, 3, 9], [5, 9, 3], [9, 3, 5], [9, 5, 3]] {
        for set in 0..8u8 {
            let mut ending = Ending::default();
            let mut open: BTreeSet<u64> = (0..3).filter(|n| set & (1 << n) != 0).map(|n| order[n]).collect();
            open.iter().for_each(|fence| ending.waits_for(*fence));
            for fence in order {
                for came in [fence - 1, fence, fence + 1, fence] {
                    ending.came(came);
                    open.remove(&came);
                    assert_eq!(ending.waits_for.iter().copied().collect::<BTreeSet<_>>(), open, "{order:?} {came}");
                    assert_eq!(ending.is_over(), open.is_empty());
                }
            }
        }
    }
}

#[test]
fn what_was_written_down_before_is_read_as_it_was_meant() {
    let before = r#"{"tokens":[{"hint":"access_token","version":1,"sealed":""}],"waits":true,"misses":1,"not_before":null,"told":false,"why":""}"#;
    let ending: Ending = serde_json::from_str(before).unwrap();
    assert_eq!(ending.to_tell(true).count(), 1);
}
