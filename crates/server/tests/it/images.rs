//! The word on pulling a registry's image, with a gateway that the tests play.

use crate::egress::{rule, verdicts};
use crate::stage::{Gateway, Stage};
use api::grants::{EgressWord, FromGateway, ImageAsk, ToGateway};
use http::{Method, StatusCode};
use model::RunId;
use serde_json::json;

const PASSWORD: &str = "alice:canary-5f20c1";

fn image(host: &str) -> String {
    format!("{host}/team/tools@sha256:{}", "0a".repeat(32))
}

async fn ask(gateway: &mut Gateway, run: &RunId, image: &str) -> EgressWord {
    let ask = ImageAsk { run: run.clone(), image: image.to_owned() };
    gateway.say(&FromGateway::AskImage { id: 3, ask }).await;
    match gateway.hear().await {
        ToGateway::EgressAnswer { id: 3, answer } => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_image_of_a_runs_own_profile_is_granted_and_recorded_before_it_is_pulled_and_no_other_is() {
    let stage = Stage::start();
    let own = image("registry.corp:5000");
    let (_operator, launch) = stage.running(&format!("image = \"{own}\"\n")).await;
    let mut gateway = stage.gateway().await;
    let EgressWord::Granted { grant, credential: None } = ask(&mut gateway, &launch.run, &own).await else {
        panic!("denied")
    };
    let verdict = verdicts(&stage, &launch.run).await.remove(0);
    assert_eq!((verdict.allowed, verdict.rule.as_str(), verdict.method.as_str()), (true, "image.pull", "GET"));
    let target = format!("https://registry.corp:5000/v2/team/tools/manifests/sha256:{}", "0a".repeat(32));
    assert_eq!((verdict.target, verdict.grant), (target, Some(grant.to_string())));
    let other_digest = own.replace("0a", "0b");
    for (expected, name) in [
        ("image.not-named", image("evil.example")),
        ("image.not-named", other_digest),
        ("image.not-named", own.replace("tools", "other")),
        ("image.name", "registry.corp:5000/team/tools:latest".to_owned()),
        ("image.name", String::new()),
    ] {
        assert_eq!(rule(ask(&mut gateway, &launch.run, &name).await), expected, "{name}");
    }
    assert_eq!(rule(ask(&mut gateway, &"nobody".parse().unwrap(), &own).await), "run.unknown");
    let refused = verdicts(&stage, &launch.run).await.into_iter().filter(|verdict| !verdict.allowed).count();
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn an_image_that_dockers_engine_pulls_is_not_pulled_by_the_gateway() {
    let stage = Stage::start();
    let own = image("registry.corp");
    let (_operator, launch) = stage.running(&format!("engine = \"docker\"\nimage = \"{own}\"\n")).await;
    let mut gateway = stage.gateway().await;
    assert_eq!(rule(ask(&mut gateway, &launch.run, &own).await), "image.not-named");
}

#[tokio::test]
async fn a_registrys_password_comes_with_the_grant_for_its_own_images_and_stands_in_no_record() {
    let stage = Stage::start();
    let own = image("registry.corp:5000");
    let (_operator, launch) = stage.running(&format!("image = \"{own}\"\n")).await;
    let mut gateway = stage.gateway().await;
    for host in ["other.corp", "registry.corp", "registry.corp:5000"] {
        let path = format!("/api/secrets/registry/{host}");
        let value = if host == "registry.corp:5000" { PASSWORD } else { "bob:of-another-registry" };
        let put = stage.home(Method::PUT, &path, Some(json!({ "value": value }))).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    }
    let EgressWord::Granted { credential: Some(credential), .. } = ask(&mut gateway, &launch.run, &own).await else {
        panic!("denied, or without a password")
    };
    assert_eq!(
        (credential.value.0.expose().as_str(), credential.secret.as_str()),
        (PASSWORD, "registry/registry.corp:5000")
    );
    assert_eq!(credential.host, "registry.corp:5000");
    let transcript = serde_json::to_string(&stage.transcript(&launch.run).await).unwrap();
    assert!(transcript.contains("signed in to with registry/registry.corp:5000") && !transcript.contains("canary"));
}
