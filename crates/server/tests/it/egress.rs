//! The word on each request to the outside, with a gateway that the tests play.

use crate::stage::{Gateway, Stage, agent, exec, handle_sha256};
use api::grants::{EgressAsk, EgressKind, EgressOutcome, EgressWord, FromGateway, READS_AT_ONCE, ToGateway};
use api::link::{Down, Launch};
use http::{Method, StatusCode};
use model::egress::Reads;
use model::event::{OneRead, Verdict};
use model::{Egress, Event, Moment, RunId};
use serde_json::json;
use sqlx::{AnyConnection, Connection as _};

const TOKEN: &str = "tracker-token-0123456789";
const PROFILE: &str = r#"
[[egress.write]]
capability = "tracker"
host = "api.example.org"
method = "POST"
path = "/v1/issues"
"#;

async fn hear(gateway: &mut Gateway, id: u64) -> EgressWord {
    match gateway.hear().await {
        ToGateway::EgressAnswer { id: back, answer } if back == id => answer,
        other => panic!("{other:?}"),
    }
}

async fn law(gateway: &mut Gateway, run: &RunId) -> EgressWord {
    gateway.say(&FromGateway::AskLaw { id: 1, run: run.clone() }).await;
    hear(gateway, 1).await
}

pub async fn table(gateway: &mut Gateway, run: &RunId) -> (u64, Egress) {
    match law(gateway, run).await {
        EgressWord::Law { version, egress } => (version, egress),
        other => panic!("{other:?}"),
    }
}

pub async fn ask(gateway: &mut Gateway, ask: EgressAsk) -> EgressWord {
    gateway.say(&FromGateway::AskEgress { id: 2, ask }).await;
    hear(gateway, 2).await
}

pub fn rule(word: EgressWord) -> String {
    match word {
        EgressWord::Denied { rule, .. } => rule,
        EgressWord::Granted { .. } => "granted".into(),
        EgressWord::Law { .. } => "law".into(),
    }
}

fn read(launch: &Launch, law: u64) -> EgressAsk {
    EgressAsk {
        run: launch.run.clone(),
        law,
        kind: EgressKind::Read,
        rule: "read.any".into(),
        method: "GET".into(),
        target: "https://docs.example.org/guide".into(),
        host: "docs.example.org".into(),
        port: 443,
        capability: None,
        handle_sha256: None,
        delegated: false,
        reads: 0,
    }
}

pub fn write(launch: &Launch, law: u64) -> EgressAsk {
    EgressAsk {
        kind: EgressKind::Write,
        rule: "write.row".into(),
        method: "POST".into(),
        target: "https://api.example.org/v1/issues".into(),
        host: "api.example.org".into(),
        capability: Some("tracker".into()),
        handle_sha256: Some(handle_sha256(launch)),
        ..read(launch, law)
    }
}

pub async fn verdicts(stage: &Stage, run: &RunId) -> Vec<Verdict> {
    let lines = stage.transcript(run).await;
    lines.into_iter().filter_map(|line| if let Event::Verdict(v) = line.event { Some(v) } else { None }).collect()
}

#[tokio::test]
async fn a_run_is_judged_by_the_table_of_its_profile_and_nobody_else_is_by_any() {
    let stage = Stage::start();
    let (_operator, launch) =
        stage.running("[egress]\nreads = \"listed\"\n[[egress.read]]\nhost = \"a.example\"\n").await;
    let mut gateway = stage.gateway().await;
    let (version, egress) = table(&mut gateway, &launch.run).await;
    assert_ne!(version, 0);
    assert_eq!((egress.reads, egress.read[0].host.as_str()), (Reads::Listed, "a.example"));
    assert_eq!(table(&mut gateway, &launch.run).await.0, version, "it is the same as long as the table is");
    assert_eq!(rule(law(&mut gateway, &"nobody".parse().unwrap()).await), "run.unknown");
}

#[tokio::test]
async fn a_read_is_recorded_before_it_leaves_and_its_outcome_once_after() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let EgressWord::Granted { grant, credential } = ask(&mut gateway, read(&launch, version)).await else {
        panic!("denied")
    };
    assert!(credential.is_none());
    let verdict = verdicts(&stage, &launch.run).await.remove(0);
    assert_eq!((verdict.allowed, verdict.rule.as_str()), (true, "read.any"));
    assert_eq!(
        (verdict.target.as_str(), verdict.grant.as_deref()),
        ("https://docs.example.org/guide", Some(grant.as_str()))
    );

    let outcome = EgressOutcome { status: 200, received: 1234, ..EgressOutcome::default() };
    for _ in 0..2 {
        gateway.say(&FromGateway::SettleEgress { grant: grant.clone(), outcome }).await;
    }
    // Another word of the same gateway: the two before it were taken.
    ask(&mut gateway, read(&launch, version)).await;
    let passed = async || {
        let lines = stage.transcript(&launch.run).await;
        lines.into_iter().filter(|line| matches!(&line.event, Event::Passed { .. })).collect::<Vec<_>>()
    };
    while passed().await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let lines = passed().await;
    let grant = grant.to_string();
    let expected = Event::Passed { grant, status: 200, sent: 0, received: 1234, interrupted: false, fault: None };
    assert_eq!(lines.iter().map(|line| &line.event).collect::<Vec<_>>(), [&expected]);
    let seen = stage.get(&launch.run).await;
    assert_eq!((seen.calls, seen.cost.0), (0, 0), "a read is no model call");
}

#[tokio::test]
async fn an_exception_and_a_delegation_stand_in_the_record_of_what_passed_by_them() {
    let stage = Stage::start();
    let profile = "[[egress.internal]]\nhost = \"wiki\"\nport = 8081\naddresses = [\"10.2.3.0/24\"]\n";
    let (_operator, launch) = stage.running(profile).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let to = |host: &str, port| EgressAsk {
        host: host.into(),
        port,
        target: format!("http://{host}:{port}/"),
        ..read(&launch, version)
    };
    for (ask_for, inside, delegated) in [
        (to("wiki", 8081), true, false),
        (to("wiki", 8082), false, false),
        (EgressAsk { delegated: true, ..to("docs.example.org", 443) }, false, true),
    ] {
        let word = ask(&mut gateway, ask_for).await;
        assert!(matches!(word, EgressWord::Granted { .. }), "the table's word is the gateway's");
        let why = verdicts(&stage, &launch.run).await.pop().expect("a verdict").why;
        assert_eq!(
            (why.contains("by an exception of the profile"), why.contains("checked by the proxy that leads outside")),
            (inside, delegated),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_request_judged_by_another_table_is_neither_granted_nor_recorded() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    for wrong in [0, version ^ 1] {
        let EgressWord::Law { version: now, .. } = ask(&mut gateway, read(&launch, wrong)).await else {
            panic!("no law")
        };
        assert_eq!(now, version);
    }
    assert!(verdicts(&stage, &launch.run).await.is_empty());
}

#[tokio::test]
async fn no_run_begins_whose_profile_names_a_secret_in_a_row_that_is_not_set() {
    const REPOSITORY: &str =
        "[[repository]]\nid = \"app\"\nurl = \"https://git.example.org/acme/app\"\nsecret = \"capability/forge\"\n";
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let asked = async |profile: &str| {
        std::fs::write(stage.dir.path().join("profiles/p.toml"), profile).unwrap();
        let mut wish = agent("x");
        wish.profile = Some("p".into());
        stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await
    };
    for (profile, code, secret) in
        [(PROFILE, "capability.missing", "capability/tracker"), (REPOSITORY, "secret.missing", "capability/forge")]
    {
        let refused = asked(profile).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, code), "{}", refused.text());
        assert!(refused.text().contains(&format!("volary secret set {secret}")), "{}", refused.text());
        let record = stage.home(Method::GET, "/api/evidence", None).await.text();
        let line = record.lines().find(|line| line.contains("run.refused") && line.contains(code)).expect("a record");
        assert!(line.contains(secret), "{line}");
        stage.secret(secret, json!({ "value": TOKEN })).await;
        assert_eq!(asked(profile).await.status, StatusCode::CREATED, "{profile}");
    }
    let runs: Vec<serde_json::Value> = stage.home(Method::GET, "/api/runs", None).await.json();
    assert_eq!(runs.len(), 2, "only what could be used was begun");
}

#[tokio::test]
async fn an_agents_own_handle_is_for_its_model_and_goes_into_no_request_whatever_the_profile_has() {
    let declared = "[[capability]]\nname = \"tracker\"\nsecret = \"capability/tracker\"\nkind = \"command\"\n\
        destinations = [\"api.example.org\"]\n";
    let rows = [PROFILE.to_owned(), PROFILE.replace("POST", "GET"), format!("{declared}{PROFILE}")];
    let house = async || {
        let stage = Stage::start();
        stage.secret("capability/tracker", json!({ "value": TOKEN })).await;
        stage
    };
    for profile in &rows {
        let stage = house().await;
        let (_operator, launch) = stage.running(profile).await;
        let mut gateway = stage.gateway().await;
        let (version, _) = table(&mut gateway, &launch.run).await;
        let method = if profile.contains("\"GET\"") { "GET" } else { "POST" };
        for reads in [0, 4] {
            let asked = EgressAsk { method: method.into(), reads, ..write(&launch, version) };
            let EgressWord::Denied { rule, why, .. } = ask(&mut gateway, asked).await else { panic!("{profile}") };
            assert_eq!(
                rule,
                if reads > 0 && method == "POST" { "reads.no-allowance" } else { "handle.lease" },
                "{profile}"
            );
            assert!(reads > 0 || why.contains("`lease`"), "{why}");
        }
    }
    // Nor a person's own command's, where the profile says by what program and for which terms it is used.
    let stage = house().await;
    let (_operator, launch) = stage.commanding(&rows[2]).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let EgressWord::Denied { rule, why, .. } = ask(&mut gateway, write(&launch, version)).await else {
        panic!("given")
    };
    assert!(rule == "handle.lease" && why.contains("`volary exec --lease tracker`"), "{why}");
}

#[tokio::test]
async fn a_write_gets_its_secret_for_this_commands_handle_and_this_runs_row_and_for_nothing_else() {
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": TOKEN })).await;
    let (mut operator, launch) = stage.commanding(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let good = || write(&launch, version);
    // One that is removed while the run lives is nobody's.
    let gone = stage.home(Method::DELETE, "/api/secrets/capability/tracker", None).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    assert_eq!(rule(ask(&mut gateway, good()).await), "capability.missing");
    stage.secret("capability/tracker", json!({ "value": TOKEN })).await;

    let EgressWord::Granted { credential: Some(credential), .. } = ask(&mut gateway, good()).await else {
        panic!("denied")
    };
    assert_eq!(credential.value.0.expose(), TOKEN);
    assert_eq!((credential.host.as_str(), credential.port), ("api.example.org", 443));

    let mut wish = exec(&["true"]);
    wish.profile = Some("p".into());
    stage.create(&wish).await;
    let other = operator.launch().await;
    let to = |target: &str| EgressAsk { target: target.into(), ..good() };
    let wrong = [
        ("write.handle", EgressAsk { handle_sha256: None, ..good() }),
        ("write.handle", EgressAsk { capability: None, ..good() }),
        ("write.handle", EgressAsk { kind: EgressKind::Read, ..good() }),
        ("write.handle", EgressAsk { kind: EgressKind::Tunnel, ..good() }),
        ("write.no-row", EgressAsk { kind: EgressKind::Upgrade, ..good() }),
        ("write.no-row", EgressAsk { capability: Some("other".into()), ..good() }),
        ("write.no-row", EgressAsk { capability: Some("model/m".into()), ..good() }),
        ("write.no-row", EgressAsk { method: "PUT".into(), ..good() }),
        ("write.no-row", EgressAsk { port: 8443, ..good() }),
        ("write.no-row", EgressAsk { host: "evil.example".into(), ..good() }),
        ("write.no-row", EgressAsk { host: "evil.example".into(), ..to("https://evil.example/v1/issues") }),
        ("write.no-row", to("https://evil.example/v1/issues")),
        ("write.no-row", to("http://api.example.org/v1/issues")),
        ("write.no-row", to("https://api.example.org:8443/v1/issues")),
        ("write.no-row", to("https://api.example.org/v1/users")),
        ("write.no-row", to("https://api.example.org/v1/issues/../users")),
        ("write.no-row", to("nothing")),
        (
            "write.no-row",
            EgressAsk { host: "evil.example".into(), ..to(&format!("https://api.example.org/{}", "a".repeat(300))) },
        ),
        ("handle.other-run", EgressAsk { handle_sha256: Some(handle_sha256(&other)), ..good() }),
        ("handle.unknown", EgressAsk { handle_sha256: Some("0".repeat(64)), ..good() }),
        ("run.unknown", EgressAsk { run: "nobody".parse().unwrap(), ..good() }),
    ];
    for (expected, wrong) in wrong {
        let said = format!("{wrong:?}");
        assert_eq!(rule(ask(&mut gateway, wrong).await), expected, "{said}");
    }
    let transcript = serde_json::to_string(&stage.transcript(&launch.run).await).unwrap();
    assert!(!transcript.contains(TOKEN));
}

#[tokio::test]
async fn a_gateway_that_died_leaves_its_passages_interrupted() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    assert_eq!(rule(ask(&mut gateway, read(&launch, version)).await), "granted");
    drop(gateway);
    let _next = stage.gateway().await;
    loop {
        let lines = stage.transcript(&launch.run).await;
        let passed = lines.into_iter().find_map(|line| match line.event {
            Event::Passed { status, interrupted, .. } => Some((status, interrupted)),
            _ => None,
        });
        if let Some(passed) = passed {
            assert_eq!(passed, (0, true));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_refusal_that_a_row_would_lift_is_followed_by_that_row_once() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("[egress]\nreads = \"none\"\n").await;
    let mut gateway = stage.gateway().await;
    let refused = |rule: &str, method: &str, target: &str| FromGateway::Refused {
        run: launch.run.clone(),
        verdict: Verdict {
            allowed: false,
            rule: rule.into(),
            method: method.into(),
            target: target.into(),
            why: "no".into(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        },
    };
    for _ in 0..2 {
        gateway.say(&refused("read.none", "GET", "https://docs.example.org/guide")).await;
    }
    gateway.say(&refused("host.metadata", "GET", "http://169.254.169.254/")).await;
    gateway.say(&refused("write.no-row", "POST", "https://api.example.org/v1")).await;
    // As the gateway cuts it: the last segment is not known, and a row for what stands before it would allow more.
    let long: String = format!("https://cut.example.org/one/{}", "x".repeat(300)).chars().take(256).collect();
    gateway.say(&refused("write.no-row", "PUT", &long)).await;
    let proposed = loop {
        let lines = stage.transcript(&launch.run).await;
        let refusals = lines.iter().filter(|line| matches!(line.event, Event::Verdict(_))).count();
        let proposed: Vec<_> = lines.into_iter().filter(|line| matches!(line.event, Event::Proposed { .. })).collect();
        if refusals == 5 {
            break proposed;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let mut rows: Vec<(String, String)> = proposed
        .into_iter()
        .filter_map(|line| match line.event {
            Event::Proposed { rule, profile, toml, .. } => {
                assert_eq!(profile, "p");
                Some((rule, toml))
            }
            _ => None,
        })
        .collect();
    rows.sort();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0].0, "read.none");
    assert!(rows[0].1.contains("host = \"docs.example.org\"\npath = \"/guide\""), "{rows:?}");
    assert!(rows[1].1.contains("method = \"POST\""), "{rows:?}");
}

#[tokio::test]
async fn a_profile_with_a_wrong_table_starts_no_run() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), "[egress]\nread = [{ host = \"a.example\" }]\n").unwrap();
    let mut wish = agent("x");
    wish.profile = Some("p".into());
    let answer = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "profile.wrong"));
    assert!(answer.text().contains("egress.read row 1"), "{}", answer.text());
}

#[tokio::test]
async fn a_host_cannot_say_what_left_or_what_would_allow_it() {
    let stage = Stage::start();
    let (mut operator, launch) = stage.running("").await;
    let grant = "g".to_owned();
    let passed = Event::Passed { grant, status: 200, sent: 1, received: 1, interrupted: false, fault: None };
    let reads = Event::Reads { grant: "g".into(), before: 0, reads: vec![], over: true, unheard: 0 };
    let proposed = Event::Proposed { rule: "r".into(), profile: "p".into(), toml: "t".into(), opens: "o".into() };
    for (seq, forged) in [(2, passed), (3, proposed), (4, reads)] {
        operator.event(&launch.run, seq, &forged).await;
        assert_eq!(operator.hear().await, Down::Ack { run: launch.run.clone(), seq });
    }
    let lines = stage.transcript(&launch.run).await;
    assert_eq!(lines.iter().filter(|line| line.event == Event::Unknown).count(), 3);
    let of_the_servers_own =
        |event: &Event| matches!(event, Event::Passed { .. } | Event::Proposed { .. } | Event::Reads { .. });
    assert!(!lines.iter().any(|line| of_the_servers_own(&line.event)));
}

/// What was told of allowances, in the order of the transcript: before, targets, over, unheard.
async fn told(stage: &Stage, run: &RunId) -> Vec<(u32, Vec<String>, bool, u32)> {
    let lines = stage.transcript(run).await;
    let told = lines.into_iter().filter_map(|line| match line.event {
        Event::Reads { before, reads, over, unheard, .. } => {
            Some((before, reads.into_iter().map(|read| read.target).collect(), over, unheard))
        }
        _ => None,
    });
    told.collect()
}

fn one(target: &str) -> OneRead {
    OneRead {
        at: Moment(1_700_000_000_000),
        method: "GET".into(),
        target: target.into(),
        status: 200,
        received: 7,
        interrupted: false,
        fault: None,
    }
}

#[tokio::test]
async fn an_allowance_is_recorded_before_it_is_used_and_what_was_made_by_it_once_and_in_order() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let many = EgressAsk { target: "https://docs.example.org/".into(), reads: 3, ..read(&launch, version) };
    let EgressWord::Granted { grant, credential: None } = ask(&mut gateway, many).await else { panic!("denied") };
    let verdict = verdicts(&stage, &launch.run).await.remove(0);
    assert!(verdict.why.contains("up to 3 requests of this host") && verdict.why.contains("1000 ms"), "{verdict:?}");
    assert_eq!(verdict.grant.as_deref(), Some(grant.as_str()));

    let say = async |gateway: &mut Gateway, before, reads: &[&str], over| {
        let reads = reads.iter().map(|target| one(target)).collect();
        gateway.say(&FromGateway::Reads { grant: grant.clone(), before, reads, over }).await;
    };
    let secret = format!("https://docs.example.org/ghp_{}", "a1B2".repeat(9));
    say(&mut gateway, 0, &["https://docs.example.org/a", &secret], false).await;
    // Said again after a cut, with one more that was not heard.
    say(&mut gateway, 0, &["https://docs.example.org/a", &secret, "https://docs.example.org/c"], false).await;
    // More than it is for, and what would leave a gap, are no record of this allowance.
    say(&mut gateway, 3, &["https://docs.example.org/d"], false).await;
    say(&mut gateway, 4, &[], false).await;
    say(&mut gateway, 3, &[], true).await;
    say(&mut gateway, 3, &[], true).await;
    let told = loop {
        let told = told(&stage, &launch.run).await;
        if told.iter().any(|told| told.2) {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let [first, second, last] = &told[..] else { panic!("{told:?}") };
    assert_eq!((first.0, first.1.len(), second.0, second.1.len()), (0, 2, 2, 1));
    assert!(first.1[1].starts_with("https://docs.example.org/") && !first.1[1].contains("ghp_"), "{told:?}");
    assert_eq!(second.1, ["https://docs.example.org/c"]);
    assert_eq!(*last, (3, vec![], true, 0));
    assert_eq!(stage.get(&launch.run).await.calls, 0, "reads are no model calls");
}

#[tokio::test]
async fn what_was_told_before_a_question_is_on_record_with_its_answer_and_no_word_waits_for_the_one_before() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let many = EgressAsk { target: "https://docs.example.org/".into(), reads: 64, ..read(&launch, version) };
    let EgressWord::Granted { grant, .. } = ask(&mut gateway, many.clone()).await else { panic!("denied") };
    // Nothing can be kept meanwhile.
    let file = format!("sqlite://{}", stage.dir.path().join("server/volary.db").display());
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(&file).await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut other).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    for before in 0..16 {
        let reads = vec![one(&format!("https://docs.example.org/{before}"))];
        gateway.say(&FromGateway::Reads { grant: grant.clone(), before, reads, over: false }).await;
    }
    // What is answered by reading alone is answered: each word before it has been heard, and none of them is kept.
    table(&mut gateway, &launch.run).await;
    assert_eq!(told(&stage, &launch.run).await.len(), 0, "the control: nothing is kept");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    // Its answer is kept in their order, and they before it.
    assert_eq!(rule(ask(&mut gateway, many).await), "granted");
    let told = told(&stage, &launch.run).await;
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gateway_that_died_leaves_how_many_reads_may_have_been_made_unheard() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let many = EgressAsk { target: "https://docs.example.org/".into(), reads: 5, ..read(&launch, version) };
    let EgressWord::Granted { grant, .. } = ask(&mut gateway, many).await else { panic!("denied") };
    gateway
        .say(&FromGateway::Reads { grant, before: 0, reads: vec![one("https://docs.example.org/a")], over: false })
        .await;
    while told(&stage, &launch.run).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(gateway);
    let _next = stage.gateway().await;
    let told = loop {
        let told = told(&stage, &launch.run).await;
        if told.len() > 1 {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(told[1], (1, vec![], true, 4));
}

#[tokio::test]
async fn an_allowance_is_for_reads_alone_and_for_no_more_than_so_many_and_its_denial_is_nobodys() {
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": TOKEN })).await;
    let (_operator, launch) = stage.commanding(&PROFILE.replace("POST", "GET")).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = table(&mut gateway, &launch.run).await;
    let reads = |reads| EgressAsk { reads, ..read(&launch, version) };
    let row = || EgressAsk { method: "GET".into(), reads: 4, ..write(&launch, version) };
    for (expected, asked) in [
        ("reads.no-allowance", reads(READS_AT_ONCE + 1)),
        ("reads.no-allowance", EgressAsk { kind: EgressKind::Tunnel, method: "CONNECT".into(), ..reads(2) }),
        ("reads.no-allowance", EgressAsk { kind: EgressKind::Upgrade, ..row() }),
        ("reads.no-allowance", EgressAsk { method: "POST".into(), ..row() }),
        ("write.no-row", EgressAsk { target: "https://api.example.org/".into(), ..row() }),
        ("handle.unknown", EgressAsk { handle_sha256: Some("0".repeat(64)), ..row() }),
        ("law", EgressAsk { law: version ^ 1, ..reads(2) }),
    ] {
        let said = format!("{asked:?}");
        assert_eq!(rule(ask(&mut gateway, asked).await), expected, "{said}");
    }
    assert!(verdicts(&stage, &launch.run).await.is_empty(), "no request was refused");
    let word = ask(&mut gateway, row()).await;
    let EgressWord::Granted { credential: Some(credential), .. } = word else { panic!("denied") };
    assert_eq!((credential.value.0.expose().as_str(), credential.host.as_str()), (TOKEN, "api.example.org"));
    let why = verdicts(&stage, &launch.run).await.remove(0).why;
    assert!(why.contains("the capability tracker") && why.contains("up to 4 requests below this path"), "{why}");
    assert_eq!(rule(ask(&mut gateway, reads(READS_AT_ONCE)).await), "granted");
}
