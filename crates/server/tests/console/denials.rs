//! A refusal on its pages: whole without script, nothing of it anything but text, accepted after a question.

use crate::sign_in;
use crate::stage::{Answer, Stage, exec};
use api::grants::FromGateway;
use http::{Method, StatusCode};
use model::RunId;
use model::event::Verdict;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>\u{202e}";

/// Lets a gateway refuse this to a run, and waits until it is listed.
pub async fn refused(stage: &Stage, run: &RunId, rule: &str, method: &str, target: &str, why: &str) {
    let mut gateway = stage.gateway().await;
    let verdict = Verdict {
        allowed: false,
        rule: rule.into(),
        method: method.into(),
        target: target.into(),
        why: why.into(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    let path = format!("/api/runs/{run}/denials");
    let before = stage.home(Method::GET, &path, None).await.text();
    gateway.say(&FromGateway::Refused { run: run.clone(), verdict }).await;
    while stage.home(Method::GET, &path, None).await.text() == before {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn get(stage: &Stage, cookie: &str, path: &str) -> Answer {
    stage.tcp(Method::GET, path, &[("cookie", cookie)], "").await
}

async fn post(stage: &Stage, cookie: &str, path: &str, body: &str) -> Answer {
    stage.tcp(Method::POST, path, &[("cookie", cookie), FORM], body).await
}

/// What a hidden field of a page holds.
fn field(page: &str, name: &str) -> String {
    let after = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {page}")).1;
    after.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_refusal_is_accepted_from_its_page_after_a_question_that_shows_the_change() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["true"])).await.run;
    let cookie = sign_in(&stage).await;
    assert!(!get(&stage, &cookie, &format!("/runs/{run}")).await.text().contains("<h2>Refused"));
    refused(&stage, &run, "write.no-row", "POST", "https://api.example.org/v1", "no").await;
    let page = get(&stage, &cookie, &format!("/runs/{run}")).await.text();
    let at = format!("/runs/{run}/denials/1");
    assert!(page.contains(&format!("href=\"{at}\"")) && page.contains("a row would allow it"), "{page}");
    let page = get(&stage, &cookie, &at).await.text();
    assert!(page.contains("It would newly open") && page.contains("name=\"capability\""), "{page}");
    assert!(page.contains("once, at ") && !page.contains("first at"), "what came once has one moment: {page}");

    // A blank that is left, and a secret that is not set, are told at their field.
    for (terms, says) in [("capability=", "takes the name"), ("capability=tracker", "is not set")] {
        let answer = get(&stage, &cookie, &format!("{at}/allow?{terms}")).await;
        let text = answer.text();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("id=\"capability-wrong\"") && text.contains(says), "{text}");
    }
    let set = serde_json::json!({ "value": "token-0123456789" });
    let set = stage.home(Method::PUT, "/api/secrets/capability/tracker", Some(set)).await;
    assert_eq!(set.status, StatusCode::OK);
    let question = get(&stage, &cookie, &format!("{at}/allow?capability=tracker")).await.text();
    assert!(question.contains("Allow this?") && question.contains("+capability = &quot;tracker&quot;"), "{question}");
    assert!(question.contains("a file is made that takes the built-in profile"), "{question}");
    let seen = field(&question, "seen");
    let file = stage.dir.path().join("profiles/default.toml");
    assert!(!file.exists(), "a question changes nothing");

    // What was shown and what is sent have to be of one thing.
    let stale = post(&stage, &cookie, &format!("{at}/allow"), "seen=0&capability=tracker").await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{}", stale.text());
    assert!(!file.exists());
    let body = format!("seen={seen}&capability=tracker&addresses=&why=");
    let done = post(&stage, &cookie, &format!("{at}/allow"), &body).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
    assert_eq!(done.headers["location"], format!("{at}?allowed=1"));
    let page = get(&stage, &cookie, &format!("{at}?allowed=1")).await.text();
    assert!(page.contains("✓ Allowed") && !page.contains("id=\"accept\""), "{page}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("api.example.org"));
    let page = get(&stage, &cookie, &format!("/runs/{run}")).await.text();
    assert!(page.contains("allowed by now") && page.contains("allowed what refusal 1 was about"), "{page}");
    // Again: as it is.
    assert_eq!(post(&stage, &cookie, &format!("{at}/allow"), &body).await.status, StatusCode::SEE_OTHER);
    assert_eq!(get(&stage, &cookie, &format!("{at}/allow?capability=tracker")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn nothing_of_a_refusal_is_anything_but_text_on_its_pages() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["true"])).await.run;
    let cookie = sign_in(&stage).await;
    let target = format!("https://api.example.org/{HOSTILE}");
    refused(&stage, &run, HOSTILE, HOSTILE, &target, HOSTILE).await;
    refused(&stage, &run, "write.no-row", "POST", "https://api.example.org/<script>/\"'&", HOSTILE).await;
    for path in ["", "/denials/1", "/denials/2"] {
        let page = get(&stage, &cookie, &format!("/runs/{run}{path}")).await.text();
        assert!(!page.contains("<img") && !page.contains("<script>") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }
    // What a person types is text too.
    let terms = "capability=%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E";
    let page = get(&stage, &cookie, &format!("/runs/{run}/denials/2/allow?{terms}")).await.text();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>"), "{page}");
}
