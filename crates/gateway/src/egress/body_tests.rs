//! Bodies on their way, and what is looked for in them.

use super::*;
use crate::egress::given::Given;
use crate::recent::Recent;
use model::Secret;
use policy::egress::Name;

#[tokio::test]
async fn what_a_host_is_given_while_it_answers_is_looked_for_in_the_rest_of_the_answer() {
    let (given, recent, host) = (Arc::new(Given::default()), Recent::new().unwrap(), Name::parse("a.example").unwrap());
    let note = |value: &str| drop(given.note(&host, ("capability/a", &Secret::new(value.to_owned())), &recent));
    note("tok-0-0123456789");
    let mut looked = Looked::new(given.sought(&host).unwrap(), Arc::default());
    assert_eq!(looked.push(b"tok-0-0123456789 tok-1-0123456789\n"), "[scrubbed:capability/a] tok-1-0123456789\n");
    note("tok-1-0123456789");
    let twice = "[scrubbed:capability/a] [scrubbed:capability/a]\n";
    assert_eq!(looked.push(b"tok-0-0123456789 tok-1-0123456789\n"), twice);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_tells_nothing_goes_on_in_a_pause_and_is_looked_for_with_what_comes_after_it() {
    let (given, recent, host) = (Arc::new(Given::default()), Recent::new().unwrap(), Name::parse("a.example").unwrap());
    let value = "tok-0-0123456789";
    given.note(&host, ("capability/a", &Secret::new(value.to_owned())), &recent);
    // More would be told by the end than may be.
    for cut in 0..TELLS_NOTHING + 8 {
        for (after, becomes) in [(&value[cut..], None), ("?", Some("?")), ("tok-0-0123456789", None)] {
            let mut looked = Looked::new(given.sought(&host).unwrap(), Arc::default());
            let mut out = looked.push(format!("is {}", &value[..cut]).as_bytes()).to_vec();
            // Twice: what went on once does not go on again.
            for _ in 0..2 {
                tokio::time::advance(PAUSE).await;
                let eased = std::future::poll_fn(|cx| Poll::Ready(looked.in_a_pause(cx))).await;
                out.extend(eased.unwrap_or_default());
                looked.pause.as_mut().reset(Instant::now() + PAUSE);
            }
            let told = if cut <= TELLS_NOTHING { &value[..cut] } else { "" };
            assert_eq!(out, format!("is {told}").as_bytes(), "{cut}");
            out.extend(looked.push(format!("{after}, no").as_bytes()));
            out.extend(looked.finish());
            let left = if after.len() == value.len() || becomes.is_some() { &value[..cut] } else { told };
            let becomes = becomes.unwrap_or("[scrubbed:capability/a]");
            assert_eq!(String::from_utf8(out).unwrap(), format!("is {left}{becomes}, no"), "{cut}");
        }
    }
}

#[test]
fn a_body_in_chunks_is_cut_at_1_gib_to_the_byte() {
    let mut length = Length::default();
    assert!((0..1024).all(|_| length.takes(1 << 20)));
    assert!(length.takes(0) && !length.takes(1) && !length.takes(0), "and stays cut");
}
