//! The word on each model call, with a gateway that the tests play.

use crate::stage::{Gateway, KEY, Stage, agent, handle_sha256, sha256};
use api::grants::{Answer, FromGateway, ModelCall, Place, ToGateway};
use api::link::Launch;
use http::Method;
use model::event::Verdict;
use model::profile::Sought;
use model::{Event, GrantId, MicroDollars, Outcome, RunId, Usage};
use serde_json::json;

pub fn call(launch: &Launch) -> ModelCall {
    ModelCall {
        run: launch.run.clone(),
        handle_sha256: handle_sha256(launch),
        provider: "m".into(),
        path: "/v1/messages".into(),
        model: "model-1".into(),
        max_output_tokens: 10,
        input_tokens_at_most: 300,
        body_sha256: sha256("body"),
        long_cache: false,
    }
}

pub async fn ask(gateway: &mut Gateway, id: u64, call: ModelCall) -> Answer {
    gateway.say(&FromGateway::Ask { id, call }).await;
    match gateway.hear().await {
        ToGateway::Answer { id: back, answer } if back == id => answer,
        other => panic!("{other:?}"),
    }
}

fn rule(answer: Answer) -> String {
    match answer {
        Answer::Denied { rule, .. } => rule,
        Answer::Granted { .. } => "granted".into(),
    }
}

fn granted(answer: Answer) -> (GrantId, MicroDollars) {
    match answer {
        Answer::Granted { grant, reserved, .. } => (grant, reserved),
        Answer::Denied { rule, why } => panic!("{rule}: {why}"),
    }
}

async fn verdicts(stage: &Stage, run: &RunId) -> Vec<Verdict> {
    let lines = stage.transcript(run).await;
    lines.into_iter().filter_map(|line| if let Event::Verdict(v) = line.event { Some(v) } else { None }).collect()
}

#[tokio::test]
async fn a_granted_call_carries_the_key_and_is_settled_at_what_it_used() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let Answer::Granted { grant, upstream, reserved, sought } = ask(&mut gateway, 7, call(&launch)).await else {
        panic!("denied")
    };
    assert_eq!(upstream.credential.0.expose(), KEY);
    assert!(matches!(upstream.place, Place::Script { ref turns } if turns[0].text == "hello"));
    assert_eq!((reserved, sought), (MicroDollars(110), Sought::Formats));
    // Before the answer: the verdict is committed.
    let verdict = verdicts(&stage, &launch.run).await.remove(0);
    assert_eq!((verdict.allowed, verdict.grant.as_deref()), (true, Some(grant.as_str())));

    let usage = Usage { input: 20, output: 3, ..Usage::default() };
    gateway.say(&FromGateway::Settle { grant: grant.clone(), usage, status: 200, interrupted: false }).await;
    gateway.say(&FromGateway::Settle { grant, usage, status: 200, interrupted: false }).await;
    ask(&mut gateway, 8, ModelCall { model: "other".into(), ..call(&launch) }).await;
    let mut seen = stage.get(&launch.run).await;
    while seen.calls == 0 {
        seen = stage.get(&launch.run).await;
    }
    assert_eq!((seen.calls, seen.usage, seen.cost), (1, usage, MicroDollars(23)));
}

#[tokio::test]
async fn what_is_replaced_in_a_call_is_what_the_run_s_own_profile_said_when_it_was_accepted() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("[scrub]\nmodel = \"values\"\n").await;
    let mut gateway = stage.gateway().await;
    let Answer::Granted { sought, .. } = ask(&mut gateway, 1, call(&launch)).await else { panic!("denied") };
    assert_eq!(sought, Sought::Values);
}

#[tokio::test]
async fn each_wrong_call_is_refused_by_its_own_rule_and_recorded() {
    let stage = Stage::start();
    let (mut operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    stage.create(&agent("another")).await;
    let other = operator.launch().await;
    stage.model("m2", "model-2").await;
    let good = || call(&launch);
    let wrong = [
        ("handle.unknown", ModelCall { handle_sha256: sha256("vh_guess"), ..good() }),
        ("handle.other-run", ModelCall { handle_sha256: call(&other).handle_sha256, ..good() }),
        ("handle.other-model", ModelCall { provider: "m2".into(), ..good() }),
        ("model.id", ModelCall { model: "model-1-large".into(), ..good() }),
        ("run.unknown", ModelCall { run: "nobody".parse().unwrap(), ..good() }),
    ];
    let mut id = 0;
    for (expected, call) in wrong {
        id += 1;
        assert_eq!(rule(ask(&mut gateway, id, call).await), expected);
    }
    let rules: Vec<_> = verdicts(&stage, &launch.run).await.into_iter().map(|v| (v.allowed, v.rule)).collect();
    let expected = ["handle.unknown", "handle.other-run", "handle.other-model", "model.id"];
    assert_eq!(rules, expected.map(|rule| (false, rule.to_owned())));

    stage.home(Method::DELETE, "/api/secrets/model/m", None).await;
    assert_eq!(rule(ask(&mut gateway, 90, good()).await), "secret.missing");
    operator.event(&launch.run, 2, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    operator.hear().await;
    assert!(matches!(gateway.hear().await, ToGateway::Close { run } if run == launch.run));
    assert_eq!(rule(ask(&mut gateway, 91, good()).await), "run.over");
}

#[tokio::test]
async fn the_handle_of_an_earlier_attempt_is_dead() {
    let stage = Stage::start();
    let (operator, first) = stage.running("").await;
    drop(operator);
    let known = api::link::Known { run: first.run.clone(), last_seq: 1, live: false, ended: false, still: false };
    let mut operator = stage.operator(vec![known]).await;
    let second = operator.launch().await;
    let mut gateway = stage.gateway().await;
    assert_eq!(rule(ask(&mut gateway, 1, call(&first)).await), "handle.expired");
    assert_eq!(rule(ask(&mut gateway, 2, call(&second)).await), "granted");
}

#[tokio::test]
async fn sixty_four_calls_at_once_cannot_reserve_more_than_the_budget() {
    let stage = Stage::start();
    // Each call sets 110 micro-dollars aside; 1,000 are nine of them.
    let (_operator, launch) = stage.running("[limits]\ncost-micro-dollars = 1000\n").await;
    let mut gateway = stage.gateway().await;
    for id in 0..64 {
        gateway.say(&FromGateway::Ask { id, call: call(&launch) }).await;
    }
    let mut rules = Vec::new();
    for _ in 0..64 {
        match gateway.hear().await {
            ToGateway::Answer { answer, .. } => rules.push(rule(answer)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rules.iter().filter(|rule| *rule == "granted").count(), 9);
    assert_eq!(rules.iter().filter(|rule| *rule == "budget.cost").count(), 55);
}

#[tokio::test]
async fn counting_tokens_sets_nothing_aside() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("[limits]\ntokens = 150\n").await;
    let mut gateway = stage.gateway().await;
    let count = || ModelCall { path: "/v1/messages/count_tokens".into(), max_output_tokens: 0, ..call(&launch) };
    for id in 0..3 {
        assert_eq!(granted(ask(&mut gateway, id, count()).await).1, MicroDollars(0));
    }
    granted(ask(&mut gateway, 3, call(&launch)).await);
    granted(ask(&mut gateway, 4, count()).await);
    assert_eq!(rule(ask(&mut gateway, 5, call(&launch)).await), "budget.tokens");
}

#[tokio::test]
async fn a_settled_call_gives_back_what_it_did_not_use() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("[limits]\ntokens = 150\n").await;
    let mut gateway = stage.gateway().await;
    let (grant, _) = granted(ask(&mut gateway, 1, call(&launch)).await);
    assert_eq!(rule(ask(&mut gateway, 2, call(&launch)).await), "budget.tokens");
    let usage = Usage { input: 30, output: 5, ..Usage::default() };
    gateway.say(&FromGateway::Settle { grant, usage, status: 200, interrupted: false }).await;
    while stage.get(&launch.run).await.calls == 0 {}
    granted(ask(&mut gateway, 3, call(&launch)).await);
}

#[tokio::test]
async fn what_a_lost_gateway_left_open_is_settled_at_its_reservation() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    granted(ask(&mut gateway, 1, call(&launch)).await);
    drop(gateway);
    let _next = stage.gateway().await;
    let mut seen = stage.get(&launch.run).await;
    while seen.calls == 0 {
        seen = stage.get(&launch.run).await;
    }
    assert_eq!((seen.cost, seen.usage.total()), (MicroDollars(110), 110));
    let lines = stage.transcript(&launch.run).await;
    assert!(matches!(lines.last().unwrap().event, Event::Settled { interrupted: true, .. }));
}

#[tokio::test]
async fn what_a_gateway_has_under_way_when_the_connection_is_cut_is_settled_at_what_it_used() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let (grant, _) = granted(ask(&mut gateway, 1, call(&launch)).await);
    drop(gateway);
    let mut again = stage.gateway_with(vec![grant.clone()]).await;
    let usage = Usage { input: 3, output: 4, ..Usage::default() };
    again.say(&FromGateway::Settle { grant, usage, status: 200, interrupted: false }).await;
    let mut seen = stage.get(&launch.run).await;
    while seen.calls == 0 {
        seen = stage.get(&launch.run).await;
    }
    assert_eq!((seen.calls, seen.usage.total()), (1, 7));
}

#[tokio::test]
async fn what_the_gateway_refuses_by_itself_is_in_the_transcript() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let verdict = Verdict {
        allowed: false,
        rule: "door.closed".into(),
        method: "GET".into(),
        target: format!("/?{KEY}"),
        why: "closed".into(),
        body_sha256: None,
        grant: None,
        model: None,
        reserved: None,
    };
    gateway.say(&FromGateway::Refused { run: launch.run.clone(), verdict }).await;
    let mut seen = verdicts(&stage, &launch.run).await;
    while seen.is_empty() {
        seen = verdicts(&stage, &launch.run).await;
    }
    assert_eq!(seen[0].rule, "door.closed");
    assert!(!seen[0].target.contains(KEY));
}

#[tokio::test]
async fn a_model_is_tested_by_the_gateway() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    assert_eq!(stage.home(Method::POST, "/api/models/m/test", None).await.code(), "gateway.away");
    let mut gateway = stage.gateway().await;
    let test = stage.home(Method::POST, "/api/models/m/test", None);
    let play = async {
        let ToGateway::Probe { id, route, model } = gateway.hear().await else { panic!("no probe") };
        assert_eq!((route.credential.0.expose().as_str(), model.as_str()), (KEY, "model-1"));
        gateway.say(&FromGateway::Probed { id, status: 401, said: format!("bad key {KEY}") }).await;
    };
    let (answer, ()) = tokio::join!(test, play);
    let tested: serde_json::Value = answer.json();
    assert_eq!(tested["ok"], json!(false));
    assert_eq!(tested["status"], json!(401));
    assert!(!answer.text().contains(KEY));
}
