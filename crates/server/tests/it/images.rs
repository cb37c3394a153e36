//! The word on pulling a registry's image, with a gateway that the tests play.

use crate::egress::{rule, verdicts};
use crate::stage::{Gateway, Stage};
use api::grants::{EgressWord, FromGateway, ImageAsk, ToGateway, WireSecret};
use api::images::Word;
use api::link::{Down, Up};
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

/// What the server answers an operator that asks about an image which says this, each in its place.
async fn unfit(stage: &Stage, said: &[(&str, &str)]) -> Option<String> {
    let mut operator = stage.operator(vec![]).await;
    let word = |(of, text): &(&str, &str)| Word {
        of: (*of).to_owned(),
        text: WireSecret(model::Secret::new((*text).to_owned())),
    };
    operator.say(Up::Image { id: 7, words: said.iter().map(word).collect() }).await;
    loop {
        if let Down::Image { id: 7, refused } = operator.hear().await {
            return refused;
        }
    }
}

#[tokio::test]
async fn an_image_that_holds_a_stored_secret_or_a_credentials_form_is_refused_by_names_and_places_alone() {
    let stage = Stage::start();
    let (value, token) = ("canary/in+an image", format!("ghp_{}", "a1B2c3D4e5".repeat(4).get(..36).unwrap()));
    stage.secret("capability/kept", json!({ "value": value, "kind": "text" })).await;
    let in_base_64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, value);
    let step = format!("created_by=|2 REGION=eu DEPLOY={token} /bin/sh -c make # buildkit comment=x");
    for (of, text, told) in [
        ("a variable of it", format!("DEPLOY={value}"), "DEPLOY (a variable of it)"),
        ("a variable of it", format!("SETTINGS={{\"auth\": \"{in_base_64}\"}}"), "SETTINGS (a variable of it)"),
        ("a variable of it", format!("DEPLOY={token}"), "DEPLOY (a variable of it)"),
        ("a variable of it", "APP_SECRET=k3Jd92hGq8Lz1mX0pR5v".to_owned(), "APP_SECRET (a variable of it)"),
        ("step 3 of its history", step, "DEPLOY (step 3 of its history)"),
        ("its label note", format!("note=say {token} now"), "note (its label note)"),
        ("its Cmd", format!("serve --with {token}"), "its Cmd"),
        // The name itself: it is left out too.
        ("a variable of it", token.clone(), "a variable of it"),
        (&format!("its label {token}"), format!("{token}=1"), "its label [redacted: github-token#"),
    ] {
        let why = unfit(&stage, &[("a variable of it", "PATH=/usr/bin"), (of, &text)]).await.expect(&text);
        assert!(why.contains(told) && why.contains("No key is part of an image"), "{told}: {why}");
        assert!(![value, &in_base_64, &token, "k3Jd92"].iter().any(|hidden| why.contains(hidden)), "{why}");
        assert!(!why.contains("PATH") && !why.contains("REGION"), "{why}");
    }
    let many: Vec<(String, String)> = (1..=20).map(|n| (format!("step {n}"), token.clone())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(of, text)| (of.as_str(), text.as_str())).collect();
    let why = unfit(&stage, &many).await.expect("twenty places");
    assert!(why.contains("step 8; and 12 more places."), "{why}");
}

#[tokio::test]
async fn an_image_as_those_that_everybody_starts_from_are_holds_nothing() {
    let stage = Stage::start();
    stage.secret("capability/kept", json!({ "value": "canary-of-a-vault" })).await;
    let said = [
        ("a variable of it", "GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305"),
        ("a variable of it", "PYTHON_SHA256=5ae03e308260164baba39921fdb4dbf8e6d03d8235a939d4582b33f0b5e46a83"),
        ("a variable of it", "NODE_VERSION=22.11.0"),
        ("its label org.opencontainers.image.revision", "org.opencontainers.image.revision=9f2c0a1d4be8"),
        (
            "step 1 of its history",
            "created_by=RUN /bin/sh -c set -ex; for key in C0D6248439F1D5604AAFFB4021D900FFDB233756; \
          do gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys \"$key\"; done # buildkit",
        ),
        ("step 2 of its history", "created_by=ARG NPM_TOKEN"),
        ("step 3 of its history", "created_by=RUN |1 TOKEN= /bin/sh -c echo \"$TOKEN\" # buildkit"),
        ("step 4 of its history", "created_by=RUN /bin/sh -c --mount=type=secret,id=npm_token npm ci # buildkit"),
        ("step 5 of its history", "created_by=ENV SECRET_KEY_BASE=dummy"),
    ];
    assert_eq!(unfit(&stage, &said).await, None);
    assert_eq!(unfit(&stage, &[]).await, None);
}
