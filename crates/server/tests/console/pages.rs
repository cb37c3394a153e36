//! Every page is whole without script.

use crate::sign_in;
use crate::stage::{KEY, Operator, Stage, agent, exec};
use api::link::Down;
use http::{Method, StatusCode};
use model::{Event, RunState};
use policy::access::GuardKind;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Waits until the server has taken the operator's event `last`.
async fn taken(operator: &mut Operator, last: u64) {
    while !matches!(operator.hear().await, Down::Ack { seq, .. } if seq >= last) {}
}

#[tokio::test]
async fn who_is_not_signed_in_is_told_how_in_words_a_browser_shows() {
    let stage = Stage::start();
    for path in ["/", "/runs/abc", "/models", "/secrets", "/connections", "/evidence"] {
        let page = stage.tcp(Method::GET, path, &[], "").await;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        assert!(page.text().contains("volary sign-in"), "{path}");
    }
}

#[tokio::test]
async fn no_page_needs_what_the_content_policy_forbids() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let run = stage.create(&agent("do it")).await.run;
    crate::denials::refused(&stage, &run, "port.closed", "GET", "http://docs.example.org:8080/", "no").await;
    crate::connections::added(&stage).await;
    let cookie = sign_in(&stage).await;
    let pages = server::routes::all().list();
    let pages = pages.iter().filter(|r| r.method == Method::GET && !r.path.starts_with("/api/"));
    let mut seen = 0;
    for route in pages.filter(|r| !r.path.starts_with("/assets/") && !r.path.ends_with("live")) {
        let query = match route.path {
            "/connections/revoke" | "/connections/remove" => "?name=x",
            path if path.starts_with("/secrets/") => "?name=model/m",
            _ => "",
        };
        let path = route.path.replace("{run}", run.as_str()).replace("{token}", "t").replace("{n}", "1") + query;
        let accept = ("accept", "text/html");
        let page = stage.tcp(Method::GET, &path, &[("cookie", &cookie), accept], "").await;
        // There is no lease here; that page with one is among the tests of the leases.
        let expected = if path.contains("{lease}") { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(page.status, expected, "{path}");
        let text = page.text();
        assert!(!text.contains(" style=") && !text.contains("<style") && !text.contains("javascript:"), "{path}");
        assert!(!text.contains(" onclick=") && !text.contains(" onload="), "{path}");
        assert_eq!(text.matches("<script").count(), text.matches("<script src=\"/assets/").count(), "{path}");
        assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{path}");
        // Without this a browser says `Origin: null` with our own forms, and they are refused.
        assert!(text.contains("name=\"referrer\" content=\"same-origin\""), "{path}");
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
}

#[tokio::test]
async fn the_pages_parts_are_served_from_the_binary_to_anyone() {
    let stage = Stage::start();
    for (path, kind) in [("console.css", "text/css"), ("console.js", "text/javascript"), ("mark.svg", "image/svg+xml")]
    {
        let part = stage.tcp(Method::GET, &format!("/assets/{path}"), &[], "").await;
        assert_eq!(part.status, StatusCode::OK);
        assert!(part.headers["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        assert!(!part.text().contains("//cdn") && !part.text().contains("@import"), "{path}");
    }
}

#[tokio::test]
async fn a_page_is_a_reader_of_its_scope_like_the_api() {
    let list = server::routes::all().list();
    for (path, scope) in [
        ("/", "runs.read"),
        ("/runs/{run}/cancel", "runs.cancel"),
        ("/secrets", "secrets.list"),
        ("/runs/{run}/denials/{n}/allow", "profiles.edit"),
    ] {
        let route = list.iter().find(|r| r.path == path && r.method == Method::GET).unwrap();
        assert!(matches!(route.guard, GuardKind::Scope(s) if s.id() == scope), "{path}: {}", route.guard);
    }
    let post = list.iter().find(|r| r.path == "/secrets" && r.method == Method::POST).unwrap();
    assert_eq!(post.guard.to_string(), "scope secrets.set");
}

#[tokio::test]
async fn a_run_is_in_the_list_and_its_page_holds_its_whole_transcript() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&agent("mend <b>the</b> roof")).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    operator.event(&run, 2, &Event::Chunk { turn: 1, text: "I look <i>first".into() }).await;
    operator.event(&run, 3, &Event::Chunk { turn: 1, text: "</i> and mend".into() }).await;
    taken(&mut operator, 3).await;
    let cookie = sign_in(&stage).await;
    let signed_in = [("cookie", cookie.as_str())];
    let list = stage.tcp(Method::GET, "/", &signed_in, "").await.text();
    assert!(list.contains(&format!("href=\"/runs/{run}\"")) && list.contains("mend &lt;b&gt;the&lt;/b&gt; roof"));
    let page = stage.tcp(Method::GET, &format!("/runs/{run}"), &signed_in, "").await.text();
    assert!(page.contains("I look &lt;i&gt;first&lt;/i&gt; and mend"), "{page}");
    assert!(page.contains("badge running") && page.contains("Refresh"), "{page}");
}

#[tokio::test]
async fn why_a_run_lost_its_box_stands_in_its_record_its_state_and_its_page_at_once_until_it_has_another() {
    let stage = Stage::start();
    stage.model("m", "m").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&agent("mend it")).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    let reason = "the gateway ended; the box has no network, and was ended too";
    operator.event(&run, 2, &Event::BrokenOff { attempt: 1, reason: reason.into() }).await;
    taken(&mut operator, 2).await;
    assert_eq!(stage.get(&run).await.reason, reason);
    let cookie = sign_in(&stage).await;
    let page = async || stage.tcp(Method::GET, &format!("/runs/{run}"), &[("cookie", &cookie)], "").await.text();
    let shown = page().await;
    assert!(shown.contains("Attempt 1 was broken off") && shown.matches(reason).count() >= 2, "{shown}");
    let record = stage.home(Method::GET, "/api/evidence", None).await.text();
    let told = record.lines().find(|line| line.contains("run.event.broken-off")).expect("evidence of it");
    assert!(told.contains(reason) && told.contains(run.as_str()), "{told}");
    let attempt = Event::Attempt { attempt: 2, box_id: model::BoxId::parse("b2").unwrap(), uid: 7 };
    operator.event(&run, 3, &attempt).await;
    taken(&mut operator, 3).await;
    let now = stage.get(&run).await;
    assert_eq!((now.state, now.attempts, now.reason.as_str()), (RunState::Running, 2, ""));
    assert!(page().await.contains("Attempt 1 was broken off"), "what happened stays told");
}

#[tokio::test]
async fn a_long_transcript_comes_in_pages_the_last_first() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    for seq in 2..=1_100 {
        operator.event(&run, seq, &Event::Note { text: format!("note-{seq}-") }).await;
    }
    taken(&mut operator, 1_100).await;
    let cookie = sign_in(&stage).await;
    let get = async |path: String| stage.tcp(Method::GET, &path, &[("cookie", &cookie)], "").await.text();
    let entries = stage.get(&run).await.entries;
    assert_eq!(entries, 1_101);
    // An operator's event n is entry n + 1, because the first entry is the server's.
    let last = get(format!("/runs/{run}")).await;
    assert!(last.contains("note-1100-") && last.contains("note-601-") && !last.contains("note-600-"));
    assert!(last.contains("?from=102\"") && last.contains("data-live="));
    let middle = get(format!("/runs/{run}?from=102")).await;
    assert!(middle.contains("note-101-") && middle.contains("note-600-") && !middle.contains("note-601-"));
    assert!(middle.contains("?from=1\"") && middle.contains("?from=602\"") && !middle.contains("data-live="));
    let beyond = get(format!("/runs/{run}?from=999999")).await;
    assert!(beyond.contains("note-1100-"));
}

#[tokio::test]
async fn a_run_is_paused_and_resumed_by_the_buttons_of_its_page() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["sleep", "9"])).await.run;
    let cookie = sign_in(&stage).await;
    let signed_in = [("cookie", cookie.as_str())];
    let page = async || stage.tcp(Method::GET, &format!("/runs/{run}"), &signed_in, "").await.text();
    for (act, other, state) in [("pause", "resume", RunState::Paused), ("resume", "pause", RunState::Queued)] {
        let path = format!("/runs/{run}/{act}");
        let before = page().await;
        assert!(before.contains(&path) && !before.contains(&format!("/runs/{run}/{other}")), "{before}");
        // Nothing changes by looking, nor from elsewhere.
        assert_eq!(stage.tcp(Method::GET, &path, &signed_in, "").await.status, StatusCode::METHOD_NOT_ALLOWED);
        let evil = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
        assert_eq!(stage.tcp(Method::POST, &path, &evil, "").await.status, StatusCode::FORBIDDEN);
        let done = stage.tcp(Method::POST, &path, &signed_in, "").await;
        assert_eq!(done.status, StatusCode::SEE_OTHER);
        assert_eq!(done.headers["location"], format!("/runs/{run}#end"));
        assert_eq!(stage.get(&run).await.state, state);
    }
    assert!(page().await.contains("paused the run") && page().await.contains("let the run go on"));
    stage.tcp(Method::POST, &format!("/runs/{run}/cancel"), &signed_in, "").await;
    let over = page().await;
    assert!(!over.contains(&format!("/runs/{run}/pause")) && !over.contains(&format!("/runs/{run}/resume")), "{over}");
    // A press that comes too late finds the page as it is.
    let late = stage.tcp(Method::POST, &format!("/runs/{run}/pause"), &signed_in, "").await;
    assert_eq!(late.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_run_is_cancelled_by_its_form_and_not_by_looking_at_the_question() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["sleep", "9"])).await.run;
    let cookie = sign_in(&stage).await;
    let signed_in = [("cookie", cookie.as_str())];
    let path = format!("/runs/{run}/cancel");
    let question = stage.tcp(Method::GET, &path, &signed_in, "").await;
    assert!(question.text().contains("<form") && question.text().contains("sleep 9"));
    assert_eq!(stage.get(&run).await.state, RunState::Queued);
    let evil = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(stage.tcp(Method::POST, &path, &evil, "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(stage.get(&run).await.state, RunState::Queued);
    let done = stage.tcp(Method::POST, &path, &signed_in, "").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(done.headers["location"], format!("/runs/{run}#end"));
    assert_eq!(stage.get(&run).await.state, RunState::Cancelled);
    // A second press finds nothing left to do.
    assert_eq!(stage.tcp(Method::POST, &path, &signed_in, "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(stage.tcp(Method::GET, &path, &signed_in, "").await.status, StatusCode::SEE_OTHER);
    let page = stage.tcp(Method::GET, &format!("/runs/{run}"), &signed_in, "").await.text();
    assert!(page.contains("badge cancelled") && !page.contains("Cancel run") && !page.contains("data-live="), "{page}");
}

#[tokio::test]
async fn a_secret_goes_in_by_its_form_and_its_value_is_on_no_page() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let signed_in = [("cookie", cookie.as_str()), FORM];
    let post = async |body: String| stage.tcp(Method::POST, "/secrets", &signed_in, &body).await;
    let done = post(format!("name=model%2Fx&value={KEY}")).await;
    assert_eq!(
        (done.status, done.headers["location"].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/secrets?set=model/x")
    );
    let page = stage.tcp(Method::GET, "/secrets?set=model/x", &signed_in, "").await.text();
    assert!(page.contains("model/x") && !page.contains(KEY));
    for (body, at, says) in [
        (format!("name=nowhere%2Fx&value={KEY}"), "id=\"name-wrong\"", "is no secret"),
        (format!("name=model%2Fx&value={KEY}%0Ax"), "id=\"value-wrong\"", "is set from its file"),
        (format!("name=model%2Fx&value={KEY}&more=1"), "<h1>", "The form takes"),
        (format!("nonsense {KEY}"), "<h1>", "The form takes"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{says}");
        let text = answer.text();
        assert!(text.contains(says) && text.contains(at) && !text.contains(KEY), "{says}: {text}");
    }
}

#[tokio::test]
async fn a_link_that_was_used_says_so_as_a_page() {
    let stage = Stage::start();
    let used = stage.tcp(Method::POST, "/sign-in/nonsense", &[], "").await;
    assert_eq!(used.status, StatusCode::FORBIDDEN);
    assert!(used.headers.get("set-cookie").is_none());
    assert!(used.text().contains("<h1>") && used.text().contains("was used already"));
}

#[tokio::test]
async fn the_evidence_page_says_how_far_the_chain_goes_and_offers_it() {
    let stage = Stage::start();
    stage.create(&exec(&["true"])).await;
    let cookie = sign_in(&stage).await;
    let page = stage.tcp(Method::GET, "/evidence", &[("cookie", &cookie)], "").await.text();
    // The run, the link, and its use.
    assert!(page.contains("<dd>3</dd>") && page.contains("href=\"/api/evidence\""), "{page}");
}
