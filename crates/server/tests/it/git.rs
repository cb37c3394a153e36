//! What opens a repository for a run, and how a person ends that: what the gateway does by a key that is stored has no lease of
//! its own, and each request is asked for.

use crate::stage::{Gateway, Stage};
use crate::{egress, leases};
use api::git::{GitAct, GitAsk, GitWord};
use api::grants::{FromGateway, ToGateway};
use api::link::Launch;
use http::{Method, StatusCode};
use serde_json::json;

const PROFILE: &str = r#"
[[repository]]
id = "shop"
url = "https://git.example.org/acme/shop.git"
secret = "capability/acme"

[[egress.write]]
capability = "tracker"
host = "api.example.org"
method = "POST"
path = "/v1/issues"
"#;

/// The word on a fetch: what opens the repository, or the rule that refused it.
async fn fetch(gateway: &mut Gateway, launch: &Launch) -> Result<String, String> {
    let handle_sha256 = leases::wish(launch).handle_sha256;
    let ask = GitAsk { run: launch.run.clone(), handle_sha256, repository: "shop".into(), act: GitAct::Fetch };
    gateway.say(&FromGateway::AskGit { id: 7, ask }).await;
    loop {
        match gateway.hear().await {
            ToGateway::GitAnswer { id: 7, word: GitWord::Denied { rule, .. } } => return Err(rule),
            ToGateway::GitAnswer { id: 7, word: GitWord::Granted { credential, .. } } => {
                return Ok(credential.expect("what opens it").value.0.expose().clone());
            }
            // The gateway is told at once when a lease is over, or what it scrubs changes.
            ToGateway::RevokeLease { .. } | ToGateway::Close { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_deleted_opens_no_further_request_of_a_live_run() {
    let stage = Stage::start();
    for name in ["acme", "tracker"] {
        let body = json!({ "value": format!("canary-of-{name}") });
        let put = stage.home(Method::PUT, &format!("/api/secrets/capability/{name}"), Some(body)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    }
    let (_operator, launch) = stage.commanding(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = egress::table(&mut gateway, &launch.run).await;
    let write = || egress::write(&launch, version);
    assert_eq!(fetch(&mut gateway, &launch).await, Ok("canary-of-acme".into()));
    assert_eq!(egress::rule(egress::ask(&mut gateway, write()).await), "granted");
    // Each of these is a grant on record, and no lease: there is nothing to take back but what it was granted by.
    let leases: Vec<serde_json::Value> = stage.home(Method::GET, "/api/leases?all=true", None).await.json();
    assert!(leases.is_empty(), "{leases:?}");
    for name in ["acme", "tracker"] {
        let gone = stage.home(Method::DELETE, &format!("/api/secrets/capability/{name}"), None).await;
        assert!(gone.status.is_success(), "{}", gone.text());
    }
    assert_eq!(fetch(&mut gateway, &launch).await, Err("secret.missing".into()));
    assert_eq!(egress::rule(egress::ask(&mut gateway, write()).await), "capability.missing");
    let verdicts = egress::verdicts(&stage, &launch.run).await;
    let said: Vec<_> = verdicts.iter().map(|verdict| (verdict.allowed, verdict.rule.as_str())).collect();
    assert_eq!(
        said,
        [(true, "git.fetch"), (true, "write.row"), (false, "secret.missing"), (false, "capability.missing")]
    );
}
