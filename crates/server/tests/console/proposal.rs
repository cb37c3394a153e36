//! A run's pull request on its page: the form, with what the agent proposes in it.

use crate::sign_in;
use crate::stage::{Gateway, Stage, agent, handle_sha256, soon};
use api::git::{GitAct, GitAsk, GitPush, GitWord, Proposal};
use api::grants::{EgressOutcome, FromGateway, ToGateway, WireSecret};
use api::platform::{CallWord, Method as Asked, PlatformCall};
use http::{Method, StatusCode};
use model::{RunId, Secret};
use serde_json::{Value, json};

const PROFILE: &str =
    "[[repository]]\nid = \"app\"\nurl = \"https://github.com/acme/app\"\nsecret = \"capability/acme\"\n";

/// A run that pushed, and proposed, as a gateway tells it.
async fn pushed(stage: &Stage, profile: &str, proposal: Proposal) -> (Gateway, RunId) {
    stage.secret("capability/acme", json!({ "value": "acme-token-0123456789" })).await;
    stage.model("m", "model-1").await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), profile).unwrap();
    let mut operator = stage.operator(vec![]).await;
    let mut wish = agent("Mend max");
    wish.profile = Some("p".into());
    stage.create(&wish).await;
    let launch = operator.launch().await;
    let handle_sha256 = handle_sha256(&launch);
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
    let (_gateway, run) = pushed(&stage, PROFILE, Proposal { title: "Mend \"max\"".into(), body }).await;
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

/// Answers the server's next call to the forge, and says what it was.
async fn called(gateway: &mut Gateway, status: u16, answer: Value) -> PlatformCall {
    loop {
        if let ToGateway::Call { id, call } = gateway.hear().await {
            let body = WireSecret(Secret::new(answer.to_string()));
            let word = CallWord::Answered { status, headers: Vec::new(), body };
            gateway.say(&FromGateway::Called { id, word }).await;
            return *call;
        }
    }
}

#[tokio::test]
async fn an_emptied_form_opens_the_task_and_what_is_open_already_is_found_and_linked() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let profile = format!("{PROFILE}proposals-as-app = true\n");
    let words = Proposal { title: "The agent's".into(), body: "Words of the agent's.".into() };
    let (mut gateway, run) = pushed(&stage, &profile, words).await;
    let path = format!("/runs/{run}/propose");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", &*cookie)];
    let forge = async {
        called(&mut gateway, 200, json!({ "default_branch": "main" })).await;
        let opening = called(&mut gateway, 422, json!({ "message": "A pull request already exists" })).await;
        let sent: Value = serde_json::from_str(opening.body.as_ref().unwrap().0.expose()).unwrap();
        let url = "https://github.com/acme/app/pull/7";
        let repo = json!({ "id": 1 });
        let head = json!({ "ref": sent["head"], "repo": repo });
        let list = json!([{ "number": 7, "html_url": url, "head": head, "base": { "ref": "main", "repo": repo } }]);
        let looking = called(&mut gateway, 200, list).await;
        (sent, looking)
    };
    let (opened, (sent, looking)) =
        soon("the opening", async { tokio::join!(stage.tcp(Method::POST, &path, &headers, "title=&body=+"), forge) })
            .await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER, "{}", opened.text());
    assert_eq!(sent["title"], "Mend max", "{sent}");
    assert!(!sent.to_string().contains("agent's"), "{sent}");
    assert!(looking.method == Asked::Get && looking.url.contains("head=acme%3A"), "{}", looking.url);
    let page = stage.tcp(Method::GET, &format!("/runs/{run}"), &headers[1..], "").await.text();
    assert!(page.contains("https://github.com/acme/app/pull/7"), "{page}");
}
