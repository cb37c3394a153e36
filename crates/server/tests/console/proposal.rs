//! A run's pull request on its page: the form, with what the agent proposes in it.

use crate::sign_in;
use crate::stage::{Gateway, Stage, agent, soon};
use api::git::{GitAct, GitAsk, GitPush, GitWord, Proposal};
use api::grants::{EgressOutcome, FromGateway, ToGateway};
use http::{Method, StatusCode};
use model::RunId;
use serde_json::json;

const PROFILE: &str =
    "[[repository]]\nid = \"app\"\nurl = \"https://github.com/acme/app\"\nsecret = \"capability/acme\"\n";

/// A run that pushed, and proposed, as a gateway tells it.
async fn pushed(stage: &Stage, proposal: Proposal) -> (Gateway, RunId) {
    let value = json!({ "value": "acme-token-0123456789" });
    let put = stage.home(Method::PUT, "/api/secrets/capability/acme", Some(value)).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    stage.model("m", "model-1").await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), PROFILE).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let mut wish = agent("Mend max");
    wish.profile = Some("p".into());
    stage.create(&wish).await;
    let launch = operator.launch().await;
    let handle = launch.agent.as_ref().unwrap().handle.clone();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, handle.as_bytes());
    let handle_sha256: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let (_, branch) = launch.variables.iter().find(|(name, _)| name == "VOLARY_BRANCH").unwrap();
    let (reference, old, new) = (format!("refs/heads/{branch}"), "0".repeat(40), "1".repeat(40));
    let mut gateway = stage.gateway().await;
    let run = launch.run.clone();
    let mut ask = async |repository: &str, act: GitAct| {
        let ask = GitAsk { run: run.clone(), handle_sha256: handle_sha256.clone(), repository: repository.into(), act };
        gateway.say(&FromGateway::AskGit { id: 1, ask }).await;
        match gateway.hear().await {
            ToGateway::GitAnswer { word, .. } => word,
            other => panic!("{other:?}"),
        }
    };
    let look = GitAct::Look { reference: reference.clone(), old: old.clone(), new: new.clone() };
    let GitWord::Granted { leased: Some(leased), .. } = ask("app", look).await else { panic!("no lease") };
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
    let GitWord::Granted { grant, .. } = ask("app", GitAct::Push(Box::new(push))).await else { panic!("no push") };
    let GitWord::Denied { rule, .. } = ask("", GitAct::Propose(proposal.clone())).await else { panic!("too early") };
    assert_eq!(rule, "propose.nothing");
    let outcome = EgressOutcome { status: 200, ..EgressOutcome::default() };
    gateway.say(&FromGateway::SettleEgress { grant, outcome }).await;
    let said = soon("the word on a proposal", async {
        loop {
            let act = GitAct::Propose(proposal.clone());
            let repository = String::new();
            let ask = GitAsk { run: launch.run.clone(), handle_sha256: handle_sha256.clone(), repository, act };
            gateway.say(&FromGateway::AskGit { id: 2, ask }).await;
            match gateway.hear().await {
                ToGateway::GitAnswer { word: GitWord::Said { text }, .. } => return text,
                ToGateway::GitAnswer { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(said.contains("opens the pull request"), "{said}");
    (gateway, launch.run)
}

#[tokio::test]
async fn the_page_of_a_run_holds_what_its_agent_proposes_as_text_in_a_form_that_a_person_sends() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let body = "</textarea><script>alert(1)</script>\n/merge".to_owned();
    let (_gateway, run) = pushed(&stage, Proposal { title: "Mend \"max\"".into(), body }).await;
    let page = stage.tcp(Method::GET, &format!("/runs/{run}"), &[("cookie", &cookie)], "").await.text();
    assert!(page.contains(&format!("action=\"/runs/{run}/propose\"")), "{page}");
    assert!(page.contains("value=\"Mend &quot;max&quot;\""), "{page}");
    assert!(page.contains("&lt;/textarea&gt;&lt;script&gt;alert(1)") && !page.contains("<script>alert"), "{page}");
    assert!(page.contains("\\/merge") && page.contains("These are the agent's words"), "{page}");
    let path = format!("/runs/{run}/propose");
    let form = "title=a&body=b";
    let kind = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(stage.tcp(Method::POST, &path, &[kind], form).await.status, StatusCode::UNAUTHORIZED);
    // The workspace's secret is not the person's own: said on a page, and nothing is opened.
    let refused = stage.tcp(Method::POST, &path, &[kind, ("cookie", &cookie)], form).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text().contains("own identity"), "{}", refused.text());
}
