//! What a run's proposals cost the server, however many a box sends at once; and where the server asks its forge.

use crate::stage::{Gateway, Stage, agent, handle_sha256, soon};
use api::git::{GitAct, GitAsk, GitPush, GitWord, Proposal};
use api::grants::{EgressOutcome, FromGateway, ToGateway, WireSecret};
use api::http::CreateRun;
use api::link::Launch;
use api::platform::{CallWord, NamedHost, PlatformCall};
use http::{Method, StatusCode};
use model::{Event, Secret};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};
use std::time::Duration;

const PROFILE: &str = r#"
[[repository]]
id = "app"
url = "https://github.com/acme/app"
secret = "capability/acme"
proposals = "agent"
proposals-as-app = true
"#;

fn question(launch: &Launch, repository: &str, act: GitAct) -> GitAsk {
    let (run, handle_sha256) = (launch.run.clone(), handle_sha256(launch));
    GitAsk { run, handle_sha256, repository: repository.into(), act }
}

fn propose() -> GitAct {
    GitAct::Propose(Proposal { title: "Mend max".into(), body: "It was wrong.".into() })
}

async fn word(gateway: &mut Gateway, ask: GitAsk) -> GitWord {
    gateway.say(&FromGateway::AskGit { id: 1, ask }).await;
    match gateway.hear().await {
        ToGateway::GitAnswer { id: 1, word } => word,
        other => panic!("{other:?}"),
    }
}

/// Pushes to the run's own branch, and comes when it is on record that the upstream took it.
async fn pushed(stage: &Stage, gateway: &mut Gateway, launch: &Launch) {
    let (_, branch) = launch.variables.iter().find(|(name, _)| name == "VOLARY_BRANCH").unwrap();
    let (reference, old, new) = (format!("refs/heads/{branch}"), "0".repeat(40), "1".repeat(40));
    let look = GitAct::Look { reference: reference.clone(), old: old.clone(), new: new.clone() };
    let GitWord::Granted { leased: Some(leased), .. } = word(gateway, question(launch, "app", look)).await else {
        panic!("no lease")
    };
    let push = GitPush {
        lease: leased.lease,
        reference,
        old,
        new,
        bytes: 1,
        objects: 1,
        paths: vec!["max.c".into()],
        paths_count: 1,
        paths_sha256: String::new(),
        pipelines: Vec::new(),
        there: None,
        fresh: true,
        commits: 1,
        others: Vec::new(),
        others_count: 0,
        onto: None,
    };
    let ask = question(launch, "app", GitAct::Push(Box::new(push)));
    let GitWord::Granted { grant, .. } = word(gateway, ask).await else { panic!("no push") };
    let outcome = EgressOutcome { status: 200, ..EgressOutcome::default() };
    gateway.say(&FromGateway::SettleEgress { grant, outcome }).await;
    soon("the push's end", async {
        while !stage.transcript(&launch.run).await.iter().any(|line| matches!(line.event, Event::Passed { .. })) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_run_that_floods_with_proposals_one_is_worked_on_and_another_runs_question_is_answered() {
    /// More than the server works on at the same time.
    const FLOOD: u64 = 300;
    let stage = Stage::start();
    stage.secret("capability/acme", json!({ "value": "acme-token-0123456789" })).await;
    let (mut operator, flooding) = stage.running(PROFILE).await;
    stage.create(&CreateRun { profile: Some("p".into()), ..agent("y") }).await;
    let other = operator.launch().await;
    operator.begin(&other, 1).await;
    let mut gateway = stage.gateway().await;
    pushed(&stage, &mut gateway, &flooding).await;
    for id in 1..=FLOOD {
        gateway.say(&FromGateway::AskGit { id, ask: question(&flooding, "", propose()) }).await;
    }
    gateway.say(&FromGateway::AskGit { id: 0, ask: question(&other, "app", GitAct::Fetch) }).await;
    let (mut others, mut kept, mut busy, mut opened) = (None, 0, 0, 0);
    // The one that is worked on is being opened, at a forge that says nothing.
    while others.is_none() || opened == 0 || kept + busy < FLOOD - 1 {
        match gateway.hear().await {
            ToGateway::GitAnswer { id: 0, word } => others = Some(word),
            ToGateway::GitAnswer { word: GitWord::Denied { rule, .. }, .. } if rule == "propose.busy" => busy += 1,
            ToGateway::GitAnswer { word: GitWord::Said { .. }, .. } => kept += 1,
            // A second one only if all this took longer than the first was waited for, which is answered then.
            ToGateway::Call { .. } => {
                opened += 1;
                assert!(opened <= kept + 1, "{opened} are worked on at once");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(others, Some(GitWord::Granted { .. })), "{others:?}");
}

#[tokio::test]
async fn a_handle_that_is_none_and_a_proposal_too_many_are_refused_before_the_transcript_is_read() {
    let stage = Stage::start();
    stage.secret("capability/acme", json!({ "value": "acme-token-0123456789" })).await;
    let (_operator, launch) = stage.running(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let file = format!("sqlite://{}", stage.dir.path().join("server/volary.db").display());
    sqlx::any::install_default_drivers();
    let mut conn = AnyConnection::connect(&file).await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut conn).await.unwrap();
    // What cannot be read shows who reads it.
    let add = async |conn: &mut AnyConnection, n: i64, kind: &str| {
        let line = "INSERT INTO events (run, n, at, source, source_seq, kind, event) VALUES ($1, $2, 0, 'server', $2, $3, 'nonsense')";
        sqlx::query(line).bind(launch.run.as_str()).bind(n).bind(kind).execute(conn).await.unwrap();
    };
    let mut rule = async |ask| match word(&mut gateway, ask).await {
        GitWord::Denied { rule, .. } => rule,
        other => panic!("{other:?}"),
    };
    assert_eq!(rule(question(&launch, "", propose())).await, "propose.nothing");
    add(&mut conn, 1_000_000, "push").await;
    assert_eq!(rule(question(&launch, "", propose())).await, "server.failed");
    let unknown = GitAsk { handle_sha256: "0".repeat(64), ..question(&launch, "", propose()) };
    assert_eq!(rule(unknown).await, "handle.unknown");
    for n in 0..20 {
        add(&mut conn, 2_000_000 + n, "pull-request-wanted").await;
    }
    assert_eq!(rule(question(&launch, "", propose())).await, "propose.many");
}

/// Answers the server's next call to the forge, and says what it was.
async fn called(gateway: &mut Gateway, status: u16, answer: Value) -> PlatformCall {
    loop {
        if let ToGateway::Call { id, call } = gateway.hear().await {
            let body = WireSecret(Secret::new(answer.to_string()));
            gateway.say(&FromGateway::Called { id, word: CallWord::Answered { status, headers: vec![], body } }).await;
            return *call;
        }
    }
}

#[tokio::test]
async fn a_forge_inside_is_asked_by_the_profiles_exception_for_its_very_host_and_port() {
    let exception = |port: u16| {
        format!(
            "[[egress.internal]]\nhost = \"git.corp\"\nport = {port}\naddresses = [\"10.2.3.0/24\", \"fd12:3456::/64\"]\n"
        )
    };
    let profile = |port: u16| {
        PROFILE.replace("github.com", "git.corp:8443").replace("secret", "forge = \"gitlab\"\nsecret")
            + &exception(port)
    };
    let range = || vec!["10.2.3.0/24".to_owned(), "fd12:3456::/64".to_owned()];
    for (port, within) in [(8443, range()), (443, Vec::new())] {
        let stage = Stage::start();
        stage.secret("capability/acme", json!({ "value": "acme-token-0123456789" })).await;
        let (_operator, launch) = stage.running(&profile(port)).await;
        let mut gateway = stage.gateway().await;
        pushed(&stage, &mut gateway, &launch).await;
        let forge = async {
            let known = called(&mut gateway, 200, json!({ "default_branch": "main" })).await;
            let opening = called(&mut gateway, 409, json!({ "message": ["Another one is open: !5"] })).await;
            [known, opening, called(&mut gateway, 200, json!([])).await]
        };
        let path = format!("/api/runs/{}/propose", launch.run);
        let opened = stage.home(Method::POST, &path, Some(json!({})));
        let (opened, calls) = soon("the opening", async { tokio::join!(opened, forge) }).await;
        assert_eq!(opened.status, StatusCode::BAD_GATEWAY);
        assert!(opened.text().contains("The forge answered 409. Another one is open: !5"), "{}", opened.text());
        let named = NamedHost { host: "git.corp".into(), port: 8443, internal: false, within };
        assert!(calls.iter().all(|call| call.named == named), "{port}: {calls:?}");
    }
}
