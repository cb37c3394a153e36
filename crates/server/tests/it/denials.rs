//! What a run was refused, and a person's yes to it: with a gateway and an operator that the tests play.

mod killed;

use crate::stage::{Answer, Gateway, Operator, Stage, agent, sha256};
use api::denials::{Allowed, Blank, ChangeView, DenialView};
use api::grants::{EgressWord, FromGateway, ToGateway};
use api::link::{Down, Launch};
use http::{Method, StatusCode};
use model::event::Verdict;
use model::{Egress, Event, RunId};
use serde_json::{Value, json};

const NONE: &str = "# ours\n[egress]\nreads = \"none\"\n";

async fn running(stage: &Stage, operator: &mut Operator, profile: &str) -> Launch {
    let mut wish = agent("x");
    wish.profile = Some(profile.into());
    stage.create(&wish).await;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    launch
}

fn profile(stage: &Stage, name: &str) -> std::path::PathBuf {
    stage.dir.path().join(format!("profiles/{name}.toml"))
}

async fn refuse(gateway: &mut Gateway, run: &RunId, rule: &str, method: &str, target: &str) {
    let verdict = Verdict {
        allowed: false,
        rule: rule.into(),
        method: method.into(),
        target: target.into(),
        why: "no".into(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    gateway.say(&FromGateway::Refused { run: run.clone(), verdict }).await;
}

async fn table(gateway: &mut Gateway, run: &RunId) -> Egress {
    gateway.say(&FromGateway::AskLaw { id: 1, run: run.clone() }).await;
    loop {
        match gateway.hear().await {
            ToGateway::EgressAnswer { answer: EgressWord::Law { egress, .. }, .. } => return egress,
            // A table that was changed ends what was allowed by the one before.
            ToGateway::EndReads { run: ended } => assert_eq!(ended, *run),
            other => panic!("{other:?}"),
        }
    }
}

async fn get(stage: &Stage, path: &str) -> Answer {
    stage.home(Method::GET, path, None).await
}

/// The refusals of a run, once there are `count` of them in all.
async fn denials(stage: &Stage, run: &RunId, count: u64) -> Vec<DenialView> {
    loop {
        let all: Vec<DenialView> = get(stage, &format!("/api/runs/{run}/denials")).await.json();
        if all.iter().map(|one| one.times).sum::<u64>() >= count {
            return all;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn change(stage: &Stage, run: &RunId, n: u64, terms: &str) -> Answer {
    get(stage, &format!("/api/runs/{run}/denials/{n}/change?{terms}")).await
}

async fn allow(stage: &Stage, run: &RunId, n: u64, seen: &str, terms: Value) -> Answer {
    let wish = json!({ "seen": seen, "terms": terms });
    stage.home(Method::POST, &format!("/api/runs/{run}/denials/{n}/allow"), Some(wish)).await
}

async fn changes(stage: &Stage, run: &RunId) -> Vec<Event> {
    let lines = stage.transcript(run).await;
    lines.into_iter().map(|line| line.event).filter(|it| matches!(it, Event::ProfileChanged { .. })).collect()
}

async fn evidence(stage: &Stage) -> String {
    get(stage, "/api/evidence").await.text()
}

#[tokio::test]
async fn refusals_of_one_request_are_one_and_each_says_its_wall_and_what_would_allow_it() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    for _ in 0..3 {
        refuse(&mut gateway, &run, "read.none", "GET", "https://docs.example.org/guide").await;
    }
    refuse(&mut gateway, &run, "host.metadata", "GET", "http://169.254.169.254/").await;
    refuse(&mut gateway, &run, "write.no-row", "POST", "https://api.example.org/v1").await;
    let all = denials(&stage, &run, 5).await;
    let read = all.iter().find(|one| one.rule == "read.none").unwrap();
    assert_eq!((read.times, read.why.as_str(), read.profile.as_str()), (3, "no", "p"));
    assert!(read.wall.contains("table"), "{}", read.wall);
    let offered = read.proposal.as_ref().unwrap();
    assert!(offered.opens.contains("docs.example.org") && offered.blank.is_none() && !offered.holds);
    let write = all.iter().find(|one| one.rule == "write.no-row").unwrap();
    assert_eq!(write.proposal.as_ref().unwrap().blank, Some(Blank::Capability));
    assert_eq!(all.iter().find(|one| one.rule == "host.metadata").unwrap().proposal, None);
    let one: DenialView = get(&stage, &format!("/api/runs/{run}/denials/{}", read.n)).await.json();
    assert_eq!(&one, read);
    for (path, code) in [("4", "denial.unknown"), ("0", "denial.unknown"), ("x", "denial.unknown")] {
        assert_eq!(get(&stage, &format!("/api/runs/{run}/denials/{path}")).await.code(), code);
    }
}

#[tokio::test]
async fn of_a_run_500_different_refusals_are_listed_and_no_more() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    let target = |n: u32| format!("https://h{n}.example.org/");
    for n in (1..=501).chain([1]) {
        refuse(&mut gateway, &run, "read.none", "GET", &target(n)).await;
    }
    // They are on record in the order they were told, and the last is the first once more: after it, all of them are.
    let all = denials(&stage, &run, 501).await;
    assert_eq!((all.len(), all[0].times), (500, 2));
    for (one, n) in all.iter().zip(1..) {
        assert_eq!(one.target, target(n));
    }
}

#[tokio::test]
async fn a_yes_holds_for_the_live_run_stands_in_the_file_is_recorded_and_a_second_one_changes_nothing() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    std::fs::write(profile(&stage, "q"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let sibling = running(&stage, &mut operator, "p").await.run;
    let other = running(&stage, &mut operator, "q").await.run;
    let mut gateway = stage.gateway().await;
    refuse(&mut gateway, &run, "read.none", "GET", "https://docs.example.org/guide").await;
    denials(&stage, &run, 1).await;

    let view: ChangeView = change(&stage, &run, 1, "").await.json();
    assert!(view.live && !view.makes && !view.done, "{view:?}");
    assert!(view.diff.contains("-reads = \"none\"\n+reads = \"listed\"\n"), "{}", view.diff);
    assert!(view.diff.contains("+host = \"docs.example.org\"\n+path = \"/guide\"\n"), "{}", view.diff);
    assert_eq!(std::fs::read_to_string(profile(&stage, "p")).unwrap(), NONE, "looking changes nothing");

    let said: Allowed = allow(&stage, &run, 1, &view.seen, json!({})).await.json();
    assert!(said.changed && said.live, "{said:?}");
    let now = table(&mut gateway, &run).await;
    assert_eq!((now.reads, now.read.len()), (model::egress::Reads::Listed, 1));
    for untouched in [&sibling, &other] {
        assert_eq!(table(&mut gateway, untouched).await.reads, model::egress::Reads::None, "{untouched}");
    }
    let text = std::fs::read_to_string(profile(&stage, "p")).unwrap();
    assert!(text.starts_with("# ours\n[egress]\nreads = \"listed\"\n") && text.contains("docs.example.org"), "{text}");
    assert_eq!(std::fs::read_to_string(profile(&stage, "q")).unwrap(), NONE);
    let later = running(&stage, &mut operator, "p").await.run;
    assert_eq!(table(&mut gateway, &later).await.read, now.read);

    let [Event::ProfileChanged { denial: 1, person, profile: name, version, toml, .. }] =
        &changes(&stage, &run).await[..]
    else {
        panic!("{:?}", changes(&stage, &run).await)
    };
    assert_eq!((person.as_str(), name.as_str(), version), ("administrator", "p", &said.version));
    assert!(toml.contains("docs.example.org"), "{toml}");
    let record = evidence(&stage).await;
    let line = record.lines().find(|line| line.contains("profile.changed")).expect("it is recorded");
    assert!(line.contains(&said.version) && line.contains(run.as_str()), "{line}");
    assert!(denials(&stage, &run, 1).await[0].proposal.as_ref().unwrap().holds);

    // Again, with what was seen then, and with what is seen now.
    for seen in [view.seen, change(&stage, &run, 1, "").await.json::<ChangeView>().seen] {
        let said: Allowed = allow(&stage, &run, 1, &seen, json!({})).await.json();
        assert!(!said.changed, "{said:?}");
    }
    assert_eq!(std::fs::read_to_string(profile(&stage, "p")).unwrap(), text);
    assert_eq!(changes(&stage, &run).await.len(), 1);
    assert_eq!(evidence(&stage).await.matches("profile.changed").count(), 1);
}

#[tokio::test]
async fn a_yes_to_what_is_not_there_any_more_as_it_was_shown_is_refused_and_changes_nothing() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    refuse(&mut gateway, &run, "read.none", "GET", "https://a.example.org/").await;
    refuse(&mut gateway, &run, "read.none", "GET", "https://b.example.org/").await;
    denials(&stage, &run, 2).await;
    let seen: ChangeView = change(&stage, &run, 1, "").await.json();

    // The file was edited.
    let edited = format!("{NONE}# narrower for a reason\n");
    std::fs::write(profile(&stage, "p"), &edited).unwrap();
    let answer = allow(&stage, &run, 1, &seen.seen, json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "profile.changed"));
    assert_eq!(std::fs::read_to_string(profile(&stage, "p")).unwrap(), edited);
    assert_eq!(table(&mut gateway, &run).await.reads, model::egress::Reads::None);

    // The run's table, and the file with it, were changed by another yes.
    let (one, two): (ChangeView, ChangeView) =
        (change(&stage, &run, 1, "").await.json(), change(&stage, &run, 2, "").await.json());
    assert_eq!(allow(&stage, &run, 1, &one.seen, json!({})).await.status, StatusCode::OK);
    assert_eq!(allow(&stage, &run, 2, &two.seen, json!({})).await.code(), "profile.changed");
    assert_eq!(allow(&stage, &run, 2, "", json!({})).await.code(), "profile.changed");
    // It is for what was shown: other terms are another thing.
    assert_eq!(allow(&stage, &run, 2, &two.seen, json!({ "why": "x" })).await.code(), "change.why");
    assert_eq!(changes(&stage, &run).await.len(), 1);

    // A file that is wrong by now, or none.
    std::fs::write(profile(&stage, "p"), "[egress]\nreads = \"al").unwrap();
    assert_eq!(change(&stage, &run, 2, "").await.code(), "profile.wrong");
    std::fs::remove_file(profile(&stage, "p")).unwrap();
    assert_eq!(change(&stage, &run, 2, "").await.code(), "profile.unknown");
}

#[tokio::test]
async fn what_no_row_may_allow_is_never_allowed_whatever_is_sent() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "default").await.run;
    let mut gateway = stage.gateway().await;
    let own = [
        ("host.metadata", "http://169.254.169.254/latest"),
        ("address.metadata", "http://metadata.example.org/"),
        ("host.private", "http://127.0.0.1:7440/"),
        ("host.internal", "http://localhost/"),
        ("door.closed", "/"),
        ("method.override", "https://a.example.org/"),
    ];
    for (rule, target) in own {
        refuse(&mut gateway, &run, rule, "GET", target).await;
    }
    refuse(&mut gateway, &run, "host.internal", "GET", "http://wiki.corp/").await;
    let all = denials(&stage, &run, 7).await;
    for one in &all {
        let terms = json!({ "capability": "", "addresses": "127.0.0.1", "why": "" });
        let answer = allow(&stage, &run, one.n, "x", terms).await;
        let code = if one.target.contains("wiki.corp") { "change.addresses" } else { "denial.final" };
        assert_eq!(answer.code(), code, "{one:?}");
    }
    assert!(!profile(&stage, "default").exists());
    assert_eq!(table(&mut gateway, &run).await, Egress::default());
}

#[tokio::test]
async fn a_write_takes_the_name_of_a_secret_that_is_set_and_the_built_in_profile_gets_its_file() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "default").await.run;
    let mut gateway = stage.gateway().await;
    refuse(&mut gateway, &run, "write.no-row", "POST", "https://api.example.org/v1/issues").await;
    denials(&stage, &run, 1).await;
    for terms in ["", "capability=tracker", "capability=Tr%22", "capability=tracker&addresses=10.0.0.1"] {
        let answer = change(&stage, &run, 1, terms).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{terms}: {}", answer.text());
    }
    let set = stage.home(Method::PUT, "/api/secrets/capability/tracker", Some(json!({ "value": "token-0123456789" })));
    assert_eq!(set.await.status, StatusCode::OK);
    let view: ChangeView = change(&stage, &run, 1, "capability=tracker").await.json();
    assert!(view.makes && view.diff.starts_with("--- /dev/null\n"), "{view:?}");
    let said = allow(&stage, &run, 1, &view.seen, json!({ "capability": "tracker" })).await;
    assert_eq!(said.status, StatusCode::OK, "{}", said.text());
    let now = table(&mut gateway, &run).await;
    assert_eq!((now.write[0].capability.as_str(), now.write[0].path.as_str()), ("tracker", "/v1/issues"));
    let later = running(&stage, &mut operator, "default").await.run;
    assert_eq!(table(&mut gateway, &later).await, now);
    // The same request in another's name is not a second row.
    let set = stage.home(Method::PUT, "/api/secrets/capability/other", Some(json!({ "value": "token-0123456789" })));
    assert_eq!(set.await.status, StatusCode::OK);
    assert_eq!(change(&stage, &run, 1, "capability=other").await.code(), "change.other");
}

#[tokio::test]
async fn of_a_run_that_is_over_the_profile_alone_is_changed() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    refuse(&mut gateway, &run, "read.none", "GET", "https://a.example.org/").await;
    denials(&stage, &run, 1).await;
    let ended = Event::Ended { outcome: model::Outcome::Done, reason: String::new(), exit: None };
    operator.event(&run, 2, &ended).await;
    while stage.get(&run).await.ended.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let entries = stage.transcript(&run).await.len();
    let view: ChangeView = change(&stage, &run, 1, "").await.json();
    assert!(!view.live && !view.diff.is_empty(), "{view:?}");
    let said: Allowed = allow(&stage, &run, 1, &view.seen, json!({})).await.json();
    assert!(said.changed && !said.live, "{said:?}");
    assert_eq!(stage.transcript(&run).await.len(), entries, "nothing follows an end");
    assert!(std::fs::read_to_string(profile(&stage, "p")).unwrap().contains("a.example.org"));
    assert_eq!(evidence(&stage).await.matches("profile.changed").count(), 1);
    let again: Allowed = allow(&stage, &run, 1, &view.seen, json!({})).await.json();
    assert!(!again.changed);
}

#[tokio::test]
async fn where_the_file_cannot_be_written_nothing_is_allowed_and_nothing_recorded() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    refuse(&mut gateway, &run, "read.none", "GET", "https://a.example.org/").await;
    denials(&stage, &run, 1).await;
    let view: ChangeView = change(&stage, &run, 1, "").await.json();
    // What would lie beside the file is in the way.
    std::fs::create_dir(stage.dir.path().join("profiles/.p.toml.new")).unwrap();
    let answer = allow(&stage, &run, 1, &view.seen, json!({})).await;
    assert_eq!(answer.code(), "profile.unwritable", "{}", answer.text());
    assert_eq!(std::fs::read_to_string(profile(&stage, "p")).unwrap(), NONE);
    assert_eq!(table(&mut gateway, &run).await.reads, model::egress::Reads::None);
    assert_eq!(changes(&stage, &run).await, []);
    assert!(!evidence(&stage).await.contains("profile.changed"));
}

#[tokio::test]
async fn a_host_can_neither_refuse_nor_allow_in_the_gateways_or_a_persons_name() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let mut operator = stage.operator(vec![]).await;
    let launch = running(&stage, &mut operator, "default").await;
    let forged = [
        r#"{"kind":"verdict","allowed":false,"rule":"write.no-row","method":"POST","target":"https://a.example.org/","why":"x"}"#,
        r#"{"kind":"profile-changed","denial":1,"person":"administrator","profile":"default","version":"v","toml":"t","opens":"o"}"#,
    ];
    for (seq, event) in (2..).zip(forged) {
        operator.raw(&launch.run, seq, event).await;
        assert_eq!(operator.hear().await, Down::Ack { run: launch.run.clone(), seq });
    }
    let all: Vec<DenialView> = get(&stage, &format!("/api/runs/{}/denials", launch.run)).await.json();
    assert_eq!(all, []);
    assert_eq!(changes(&stage, &launch.run).await, []);
}

#[tokio::test]
async fn nobody_but_a_person_who_is_signed_in_here_says_yes() {
    let stage = Stage::start();
    let path = "/api/runs/r1/denials/1/allow";
    let body = r#"{"seen":"x"}"#;
    let json = ("content-type", "application/json");
    let answer = stage.tcp(Method::POST, path, &[json], body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = stage.tcp(Method::POST, path, &[json, ("origin", "http://evil.example")], body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // Nor over the sockets of the other processes: they speak frames, and no frame says it.
    for frame in ["allow", "profile-changed"] {
        let word = format!(r#"{{"say":"{frame}"}}"#);
        assert!(serde_json::from_str::<FromGateway>(&word).is_err());
        assert!(serde_json::from_str::<api::link::Up>(&word).is_err());
    }
}

#[tokio::test]
async fn a_command_has_a_handle_of_its_own_which_is_for_the_rows_of_its_profile_and_for_no_model() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let row =
        "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1\"\n";
    std::fs::write(profile(&stage, "p"), row).unwrap();
    let set = stage.home(Method::PUT, "/api/secrets/capability/tracker", Some(json!({ "value": "token-0123456789" })));
    assert_eq!(set.await.status, StatusCode::OK);
    let mut operator = stage.operator(vec![]).await;
    let mut wish = crate::stage::exec(&["true"]);
    wish.profile = Some("p".into());
    let mut handles = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..2 {
        stage.create(&wish).await;
        let launch = operator.launch().await;
        operator.begin(&launch, 1).await;
        assert_eq!(launch.agent, None);
        handles.push(launch.handle.expect("a handle"));
        runs.push(launch.run);
    }
    assert_ne!(handles[0], handles[1]);
    let mut gateway = stage.gateway().await;
    gateway.say(&FromGateway::AskLaw { id: 1, run: runs[0].clone() }).await;
    let ToGateway::EgressAnswer { answer: EgressWord::Law { version, .. }, .. } = gateway.hear().await else {
        panic!("no table")
    };
    for (handle, granted) in [(&handles[0], true), (&handles[1], false)] {
        let ask = api::grants::EgressAsk {
            run: runs[0].clone(),
            law: version,
            kind: api::grants::EgressKind::Write,
            rule: "write.row".into(),
            method: "POST".into(),
            target: "https://api.example.org/v1/x".into(),
            host: "api.example.org".into(),
            port: 443,
            capability: Some("tracker".into()),
            handle_sha256: Some(sha256(handle)),
            delegated: false,
            reads: 0,
        };
        gateway.say(&FromGateway::AskEgress { id: 2, ask }).await;
        match gateway.hear().await {
            ToGateway::EgressAnswer { answer: EgressWord::Granted { credential, .. }, .. } if granted => {
                assert!(credential.is_some());
            }
            ToGateway::EgressAnswer { answer: EgressWord::Denied { rule, .. }, .. } if !granted => {
                assert_eq!(rule, "handle.other-run");
            }
            other => panic!("{other:?}"),
        }
    }
    for provider in ["m", ""] {
        let call = api::grants::ModelCall {
            run: runs[0].clone(),
            handle_sha256: sha256(&handles[0]),
            provider: provider.into(),
            path: "/v1/messages".into(),
            model: "id".into(),
            max_output_tokens: 1,
            input_tokens_at_most: 1,
            body_sha256: String::new(),
            long_cache: false,
        };
        gateway.say(&FromGateway::Ask { id: 3, call }).await;
        match gateway.hear().await {
            ToGateway::Answer { answer: api::grants::Answer::Denied { .. }, .. } => {}
            other => panic!("{provider:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_administrator_who_writes_the_file_in_that_very_moment_is_the_one_who_counts_and_the_run_gets_nothing() {
    use std::sync::atomic::{AtomicBool, Ordering};
    const THEIRS: &str = "# theirs\n[egress]\nreads = \"none\"\n";
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let run = running(&stage, &mut operator, "p").await.run;
    let mut gateway = stage.gateway().await;
    // The moment lies between the record and the exchange; whoever misses it tries again.
    for n in 1..=400 {
        let host = format!("h{n}.example.org");
        refuse(&mut gateway, &run, "read.none", "GET", &format!("https://{host}/")).await;
        denials(&stage, &run, n).await;
        std::fs::write(profile(&stage, "p"), NONE).unwrap();
        let view: ChangeView = change(&stage, &run, n, "").await.json();
        let (file, beside) = (profile(&stage, "p"), stage.dir.path().join("profiles/.p.toml.new"));
        let theirs = stage.dir.path().join("theirs");
        std::fs::write(&theirs, THEIRS).unwrap();
        let over: &'static AtomicBool = Box::leak(Box::default());
        let writer = std::thread::spawn(move || {
            while !beside.exists() && !over.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            std::fs::rename(theirs, file).unwrap();
        });
        let answer = allow(&stage, &run, n, &view.seen, json!({})).await;
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        let holds = table(&mut gateway, &run).await.read.iter().any(|row| row.host == host);
        assert_eq!(holds, answer.status == StatusCode::OK, "{}", answer.text());
        if answer.status == StatusCode::OK {
            continue;
        }
        assert_eq!(answer.code(), "profile.changed");
        assert_eq!(std::fs::read_to_string(profile(&stage, "p")).unwrap(), THEIRS);
        let record = evidence(&stage).await;
        assert_eq!(record.matches("profile.unchanged").count(), 1, "what was recorded is taken back by a record");
        let said = stage.transcript(&run).await;
        let last = said.iter().rev().find(|line| matches!(line.event, Event::Note { .. })).unwrap();
        assert!(matches!(&last.event, Event::Note { text } if text.contains("not allowed after all")), "{last:?}");
        return;
    }
    panic!("the moment was never met");
}
