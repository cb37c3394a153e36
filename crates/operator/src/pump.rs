//! From the runner's standard output into the journal: frames in order, scrubbed by the gateway, durable.
//!
//! The operator does not read what an agent wrote. Of a box's event it makes sure of two things only: that it is
//! JSON (it goes on inside our own), and that its `kind` is one that a box may say. Without the second, whoever took
//! over process 1 of a box could say that the run had ended well.
//!
//! Scrubs are asked for as frames come and answered in order, so many are under way at once; what is ready together
//! is synced together.

use crate::cable::{Attachment, CableError};
use crate::journal::{By, kind_of};
use crate::rate::Rate;
use crate::runs::Run;
use api::frame::{self, FrameError};
use api::inbox::{Done, Hello, Kind};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot, watch};

/// The kinds of events that come from a box; all others are ours or the server's.
pub const BOX_KINDS: [&str; 9] =
    ["chunk", "tool-call", "tool-result", "command", "output", "command-end", "file-edit", "loop", "note"];
/// How long one scrub may take while the gateway's connection lives: one that is busy is waited for, and meanwhile the box's
/// own words wait in its pipe. A gateway that ends is known of at once. One that says nothing for so long is as good as gone:
/// nothing of a box is passed on unscrubbed.
const SCRUB: Duration = Duration::from_secs(600);
/// Events under way at once, and synced together at most.
const WINDOW: usize = 64;
/// Bytes of standard error that are kept: last words.
const WORDS: usize = 2048;

/// Why nothing more comes from a box.
#[derive(Debug)]
pub enum Over {
    /// The runner said how it ended.
    Done(Done),
    /// The runner is gone without a word.
    Gone,
    /// The gateway is gone, so nothing more may be passed on.
    Lost,
    /// The runner said what it may not; one sentence.
    Breach(String),
    /// The journal takes nothing more; one sentence.
    Journal(String),
}

enum Said {
    Event(oneshot::Receiver<Vec<String>>),
    /// What waited when the box said nothing more.
    Rest(oneshot::Receiver<Vec<String>>),
    Over(Over),
}

/// What bounds a box's words.
pub struct Bounds {
    /// Bytes of its run's journal.
    pub most: u64,
    /// How fast they are taken.
    pub rate: Arc<Rate>,
}

/// Moves everything until the end, or until more was said than `bounds` allow. `hello` is answered with the first
/// frame; `kept` counts the events that are durable, `asks` the runner's questions.
pub async fn pump(
    from: impl AsyncRead + Unpin,
    line: Arc<Attachment>,
    run: Arc<Run>,
    hello: oneshot::Sender<Hello>,
    kept: watch::Sender<u64>,
    asks: watch::Sender<u64>,
    bounds: Bounds,
) -> Over {
    let (said, heard) = mpsc::channel(WINDOW);
    let listening = async {
        listen(from, &line, hello, (&asks, &bounds.rate), said).await;
        // What is heard and not yet kept is kept first.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        over = keep(heard, &run, &kept, bounds.most) => over,
        () = listening => Over::Gone,
    }
}

async fn listen(
    mut from: impl AsyncRead + Unpin,
    line: &Attachment,
    hello: oneshot::Sender<Hello>,
    (asks, rate): (&watch::Sender<u64>, &Rate),
    said: mpsc::Sender<Said>,
) {
    let mut hello = Some(hello);
    loop {
        let next = match frame::read_bytes(&mut from).await {
            Ok(frame) if hello.is_none() && frame == [Kind::Ask as u8] => {
                asks.send_modify(|asked| *asked += 1);
                continue;
            }
            Ok(frame) => {
                rate.take(frame.len()).await;
                understand(&frame, line, &mut hello).await
            }
            Err(FrameError::TooLong(n)) => Err(Over::Breach(format!("the runner began a frame of {n} bytes"))),
            Err(_) => Err(Over::Gone),
        };
        let (message, last) = match next {
            Ok(None) => continue,
            Ok(Some(answer)) => (Said::Event(answer), false),
            Err(over) => (Said::Over(over), true),
        };
        // What waited for more of its text is kept before the end, unless there is no gateway to give it out.
        let rest = if last { line.hear(None).await.ok() } else { None };
        if let Some(rest) = rest
            && said.send(Said::Rest(rest)).await.is_err()
        {
            return;
        }
        // The keeper's end is closed only after an end of its own.
        if said.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn understand(
    frame: &[u8],
    line: &Attachment,
    hello: &mut Option<oneshot::Sender<Hello>>,
) -> Result<Option<oneshot::Receiver<Vec<String>>>, Over> {
    let breach = |what: &str| Over::Breach(format!("the runner {what}"));
    let (kind, body) = frame.split_first().ok_or_else(|| breach("sent an empty frame"))?;
    match (Kind::of(*kind), hello.is_some()) {
        (Some(Kind::Hello), true) => {
            let said = serde_json::from_slice(body).map_err(|_| breach("said a hello that is none"))?;
            // The attempt may have given up waiting; then the box is being killed.
            drop(hello.take().map(|waiting| waiting.send(said)));
            Ok(None)
        }
        (Some(Kind::Event), false) => {
            let text = String::from_utf8(body.to_vec()).map_err(|_| breach("sent an event that is no text"))?;
            match line.hear(Some(text)).await {
                Ok(answer) => Ok(Some(answer)),
                Err(CableError::TooLong(n)) => Err(breach(&format!("sent an event of {n} bytes, over the limit"))),
                Err(_) => Err(Over::Lost),
            }
        }
        (Some(Kind::Done), false) => {
            Err(serde_json::from_slice(body).map_or_else(|_| breach("said an end that is none"), Over::Done))
        }
        _ => Err(breach("spoke out of turn")),
    }
}

async fn keep(mut heard: mpsc::Receiver<Said>, run: &Arc<Run>, kept: &watch::Sender<u64>, most: u64) -> Over {
    let mut some = Vec::new();
    loop {
        some.clear();
        if heard.recv_many(&mut some, WINDOW).await == 0 {
            return Over::Gone;
        }
        let (mut events, mut count, mut over) = (Vec::with_capacity(some.len()), 0, None);
        for said in some.drain(..) {
            match take(said).await {
                Ok((some, of_one)) => {
                    events.extend(some);
                    count += u64::from(of_one);
                }
                Err(end) => {
                    over = Some(end);
                    break;
                }
            }
        }
        // What came whole before the end is kept also when the end is a bad one.
        if !events.is_empty() {
            if run.durable() > most {
                return Over::Breach(format!("the box said more than {} MiB", most >> 20));
            }
            if let Err(e) = run.record(By::Box, events).await {
                return Over::Journal(e.to_string());
            }
        }
        // An event whose words wait for more is as good as kept: they come before whatever the next event says.
        kept.send_modify(|kept| *kept += count);
        if let Some(over) = over {
            return over;
        }
    }
}

/// The events to be kept, and whether they are for one that the box said.
async fn take(said: Said) -> Result<(Vec<Box<RawValue>>, bool), Over> {
    let (answer, of_one) = match said {
        Said::Over(over) => return Err(over),
        Said::Event(answer) => (answer, true),
        Said::Rest(answer) => (answer, false),
    };
    match tokio::time::timeout(SCRUB, answer).await {
        // It is the end anyway, and the gateway's is not the reason.
        Ok(Err(_)) | Err(_) if !of_one => Ok((Vec::new(), false)),
        Ok(Ok(events)) => events.into_iter().map(admit).collect::<Result<_, _>>().map(|events| (events, of_one)),
        _ => Err(Over::Lost),
    }
}

/// Takes a scrubbed event in, if a box may say it.
fn admit(text: String) -> Result<Box<RawValue>, Over> {
    let event = RawValue::from_string(text).map_err(|_| Over::Breach("an event of the box is not JSON".into()))?;
    match kind_of(&event) {
        Some(kind) if BOX_KINDS.contains(&kind.as_str()) => Ok(event),
        Some(kind) => {
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(40).collect();
            Err(Over::Breach(format!("the box said {kind:?}, which is not for a box to say")))
        }
        None => Err(Over::Breach("an event of the box has no kind, or two".into())),
    }
}

/// Reads standard error to its end and keeps the last of it.
pub async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&kept).trim().to_owned(),
            Ok(n) => {
                kept.extend_from_slice(&piece[..n]);
                kept.drain(..kept.len().saturating_sub(WORDS));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_gateway_is_waited_for_and_one_that_ended_or_never_answers_passes_nothing() {
        let scrub = || oneshot::channel::<Vec<String>>();
        let (answer, answered) = scrub();
        let busy = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(500)).await;
            answer.send(vec![r#"{"kind":"chunk","turn":1,"text":"hi"}"#.to_owned()])
        });
        let (events, of_one) = take(Said::Event(answered)).await.unwrap();
        assert!(busy.await.unwrap().is_ok() && of_one && events.len() == 1 && events[0].get().contains("hi"));
        // Its end clears what waits, and is not waited out.
        let (answer, answered) = scrub();
        let before = tokio::time::Instant::now();
        drop(answer);
        assert!(matches!(take(Said::Event(answered)).await, Err(Over::Lost)));
        assert_eq!(before.elapsed(), Duration::ZERO);
        let (_silent, answered) = scrub();
        assert!(matches!(take(Said::Event(answered)).await, Err(Over::Lost)));
        assert!(before.elapsed() >= SCRUB);
    }

    #[test]
    fn a_box_cannot_say_how_its_run_ended_not_even_beside_a_kind_of_its_own() {
        for text in [
            r#"{"kind":"ended","outcome":"done"}"#,
            r#"{"kind":"result","files":0,"diff":""}"#,
            r#"{"kind":"chunk","kind":"ended","outcome":"done"}"#,
            r#"{"kind":"\u0065nded","outcome":"done"}"#,
            r#"{"outcome":"done"}"#,
            r#"[]"#,
            "nonsense",
        ] {
            assert!(matches!(admit(text.into()), Err(Over::Breach(_))), "{text}");
        }
        assert!(admit(r#"{"kind":"chunk","turn":1,"text":"hi"}"#.into()).is_ok());
    }
}
