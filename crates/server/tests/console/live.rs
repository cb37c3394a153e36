//! The stream that makes a page live.

use crate::sign_in;
use crate::stage::{Operator, Stage, exec, soon};
use http::Method;
use model::{Event, Outcome, RunId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

/// A browser's side of a stream of events.
struct Listener(Lines<BufReader<TcpStream>>);

#[derive(Debug, Default)]
struct Heard {
    name: String,
    id: Option<u64>,
    data: String,
}

impl Listener {
    async fn open(stage: &Stage, cookie: &str, path: &str, seen: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
        let seen = seen.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let port = stage.port;
        let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncookie: {cookie}\r\n{seen}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let status = soon("a status", lines.next_line()).await.unwrap().unwrap();
        assert_eq!(status, "HTTP/1.1 200 OK");
        let mut kind = String::new();
        loop {
            let line = soon("a header", lines.next_line()).await.unwrap().unwrap();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-type: ") {
                kind = value.to_owned();
            }
        }
        assert_eq!(kind, "text/event-stream");
        Self(lines)
    }

    /// The next event. Chunk lengths stand between the lines, and are none of its fields.
    async fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        loop {
            let line = soon("an event", self.0.next_line()).await.unwrap().expect("the stream goes on");
            match line.split_once(": ") {
                Some(("event", name)) => heard.name = name.to_owned(),
                Some(("id", id)) => heard.id = id.parse().ok(),
                Some(("data", data)) => {
                    heard.data += data;
                    heard.data.push('\n');
                }
                _ if line.is_empty() && !heard.data.is_empty() => return heard,
                _ => {}
            }
        }
    }

    /// All events up to one that holds `text`.
    async fn until(&mut self, text: &str) -> (String, Option<u64>) {
        let (mut all, mut last) = (String::new(), None);
        loop {
            let heard = self.hear().await;
            all += &heard.data;
            last = heard.id.or(last);
            if all.contains(text) {
                return (all, last);
            }
            assert_ne!(heard.name, "end", "ended before {text:?}: {all}");
        }
    }
}

async fn running(stage: &Stage) -> (Operator, RunId) {
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    (operator, run)
}

fn chunk(text: &str) -> Event {
    Event::Chunk { turn: 1, text: text.into() }
}

#[tokio::test]
async fn a_lost_connection_goes_on_where_it_was() {
    let stage = Stage::start();
    let (mut operator, run) = running(&stage).await;
    let cookie = sign_in(&stage).await;
    let path = format!("/runs/{run}/live?from=1&after=2");
    let mut first = Listener::open(&stage, &cookie, &path, None).await;
    operator.event(&run, 2, &chunk("alpha ")).await;
    operator.event(&run, 3, &chunk("beta ")).await;
    let (heard, seen) = first.until("beta ").await;
    assert_eq!((heard.matches("alpha ").count(), seen), (1, Some(4)));
    drop(first);
    operator.event(&run, 4, &chunk("<gamma>")).await;
    let mut second = Listener::open(&stage, &cookie, &path, seen).await;
    let (heard, seen) = second.until("&lt;gamma&gt;").await;
    assert!(!heard.contains("beta") && !heard.contains("<gamma>"), "{heard}");
    // It belongs to the block that was opened before the connection was lost.
    assert!(heard.contains("data-to=\"e3-text\" data-how=\"append\""), "{heard}");
    assert_eq!(seen, Some(5));
}

#[tokio::test]
async fn a_stream_ends_with_its_run_and_says_so() {
    let stage = Stage::start();
    let (mut operator, run) = running(&stage).await;
    let cookie = sign_in(&stage).await;
    let mut listener = Listener::open(&stage, &cookie, &format!("/runs/{run}/live?from=1&after=2"), None).await;
    operator.event(&run, 2, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    let (heard, _) = listener.until("badge done").await;
    assert!(heard.contains("data-to=\"state\" data-how=\"set\""), "{heard}");
    assert_eq!(listener.hear().await.name, "end");
    // Who comes late is told the same at once.
    let mut late = Listener::open(&stage, &cookie, &format!("/runs/{run}/live?from=1&after=3"), None).await;
    let heard = late.hear().await;
    assert!(heard.name == "end" && heard.data.contains("badge done"), "{heard:?}");
}

#[tokio::test]
async fn a_browser_that_signed_out_hears_nothing_more() {
    let stage = Stage::start();
    let (mut operator, run) = running(&stage).await;
    let cookie = sign_in(&stage).await;
    let mut listener = Listener::open(&stage, &cookie, &format!("/runs/{run}/live?from=1&after=2"), None).await;
    operator.event(&run, 2, &chunk("before")).await;
    listener.until("before").await;
    stage.tcp(Method::POST, "/sign-out", &[("cookie", &cookie)], "").await;
    operator.event(&run, 3, &chunk("after")).await;
    let heard = listener.hear().await;
    assert!(heard.name == "end" && !heard.data.contains("after"), "{heard:?}");
}

#[tokio::test]
async fn the_list_follows_what_happens() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let mut listener = Listener::open(&stage, &cookie, "/live", None).await;
    listener.until("No run yet").await;
    let (_operator, run) = running(&stage).await;
    let (heard, _) = listener.until("badge running").await;
    assert!(heard.contains(run.as_str()) && heard.contains("data-to=\"rows\" data-how=\"set\""), "{heard}");
}
