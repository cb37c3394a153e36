//! Who gets in, and by which door.

use crate::stage::{Stage, exec};
use api::http::SignInLink;
use http::{Method, StatusCode};
use model::Moment;
use policy::access::GuardKind;
use std::time::SystemTime;

fn path(pattern: &str) -> String {
    pattern.replace("{*name}", "model/x").replace("{name}", "x").replace("{run}", "abc").replace("{token}", "t")
}

#[tokio::test]
async fn every_route_but_the_public_ones_is_closed_to_who_is_not_signed_in() {
    let stage = Stage::start();
    let list = server::routes::all().list();
    assert!(list.len() > 15);
    for route in list {
        let answer = stage.tcp(route.method.clone(), &path(route.path), &[], "").await;
        let what = format!("{} {} ({})", route.method, route.path, route.guard);
        match route.guard {
            GuardKind::Public => assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{what}"),
            GuardKind::Internal => assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}"),
            GuardKind::Scope(_) | GuardKind::SelfOnly => assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}"),
        }
    }
}

#[tokio::test]
async fn a_sign_in_link_works_once_and_looking_at_it_does_not_use_it() {
    let stage = Stage::start();
    let link: SignInLink = stage.home(Method::POST, "/api/sign-in", None).await.json();
    let path = link.url.strip_prefix(&format!("http://127.0.0.1:{}", stage.port)).unwrap().to_owned();
    for _ in 0..2 {
        let page = stage.tcp(Method::GET, &path, &[], "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.headers.get("set-cookie").is_none());
    }
    let redeemed = stage.tcp(Method::POST, &path, &[], "").await;
    assert_eq!(redeemed.status, StatusCode::SEE_OTHER);
    let cookie = redeemed.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(stage.tcp(Method::POST, &path, &[], "").await.status, StatusCode::FORBIDDEN);

    let cookie = cookie.split(';').next().unwrap();
    let signed_in = [("cookie", cookie)];
    assert_eq!(stage.tcp(Method::GET, "/api/runs", &signed_in, "").await.status, StatusCode::OK);
    let forged = format!("volary={}", "a".repeat(52));
    let answer = stage.tcp(Method::GET, "/api/runs", &[("cookie", forged.as_str())], "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stage.tcp(Method::POST, "/sign-out", &signed_in, "").await.status, StatusCode::OK);
    assert_eq!(stage.tcp(Method::GET, "/api/runs", &signed_in, "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browsers_session_is_kept_for_twelve_hours_and_opens_nothing_after_them() {
    const TWELVE_HOURS: i64 = 12 * 60 * 60 * 1000;
    let now = || Moment::from(SystemTime::now());
    let stage = Stage::start();
    let before = now();
    let cookie = stage.signed_in().await;
    let after = now();
    let token = cookie.split_once('=').unwrap().1;
    let account = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let hash = server::session::hash(token, server::port::Account(Some(account))).unwrap();
    let store = store::Store::open(&stage.dir.path().join("server/volary.db")).await.unwrap();
    let kept = store.session(&hash).await.unwrap().unwrap();
    assert!(
        before.plus_ms(TWELVE_HOURS) <= kept.expires && kept.expires <= after.plus_ms(TWELVE_HOURS),
        "{before:?} {kept:?} {after:?}"
    );
    let runs = async || stage.tcp(Method::GET, "/api/runs", &[("cookie", &cookie)], "").await.status;
    assert_eq!(runs().await, StatusCode::OK);
    // The same session, as it is when its time is over.
    let over = store::keep::TokenRow { expires: now(), ..kept };
    let end = store.write(move |tx| {
        Box::pin(async move {
            tx.end_session(&hash).await?;
            tx.add_session(&hash, &over, before).await
        })
    });
    end.await.unwrap();
    assert_eq!(runs().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_sites_page_gets_nothing_changed_and_a_rebound_name_gets_nothing() {
    let stage = Stage::start();
    let link: SignInLink = stage.home(Method::POST, "/api/sign-in", None).await.json();
    let path = link.url.split_once(&format!(":{}", stage.port)).unwrap().1.to_owned();
    let evil = stage.tcp(Method::POST, &path, &[("origin", "https://evil.example")], "").await;
    assert_eq!((evil.status, evil.code()), (StatusCode::FORBIDDEN, "origin.other".into()));
    let site = stage.tcp(Method::POST, &path, &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(site.status, StatusCode::FORBIDDEN);
    let rebound = stage.tcp(Method::GET, &path, &[("host", "evil.example")], "").await;
    assert_eq!((rebound.status, rebound.code()), (StatusCode::MISDIRECTED_REQUEST, "host.other".into()));
    assert_eq!(stage.tcp(Method::POST, &path, &[], "").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn no_page_but_our_own_holds_a_run_which_would_end_with_it() {
    let stage = Stage::start();
    let cookie = stage.signed_in().await;
    let run = stage.create(&exec(&["true"])).await.run;
    let path = format!("/api/runs/{run}/events?follow=true&hold=true");
    for site in [None, Some("same-site"), Some("cross-site"), Some("none")] {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(site.map(|site| ("sec-fetch-site", site)));
        let answer = stage.tcp(Method::GET, &path, &headers, "").await;
        assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "origin.other".into()), "{site:?}");
    }
    // Of one that is over the stream ends.
    let ended = stage.home(Method::POST, &format!("/api/runs/{run}/cancel"), None).await;
    assert!(ended.status.is_success(), "{}", ended.text());
    let ours = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(stage.tcp(Method::GET, &path, &ours, "").await.status, StatusCode::OK);
    assert_eq!(stage.home(Method::GET, &path, None).await.status, StatusCode::OK);
    let read = path.replace("&hold=true", "");
    assert_eq!(stage.tcp(Method::GET, &read, &ours[..1], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_forbids_what_a_page_of_ours_never_needs() {
    let stage = Stage::start();
    for answer in [
        stage.tcp(Method::GET, "/sign-in/x", &[], "").await,
        stage.tcp(Method::GET, "/api/runs", &[], "").await,
        stage.tcp(Method::GET, "/nowhere", &[], "").await,
        stage.tcp(Method::GET, "/", &[("host", "evil.example")], "").await,
        stage.home(Method::GET, "/api/runs", None).await,
    ] {
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn the_document_names_the_guard_of_every_route_and_every_schema_it_points_to() {
    let stage = Stage::start();
    let document: serde_json::Value = stage.tcp(Method::GET, "/api/openapi.json", &[], "").await.json();
    assert_eq!(document["paths"]["/api/runs"]["post"]["x-guard"], "scope runs.create");
    assert_eq!(document["paths"]["/api/secrets/{name}"]["put"]["x-guard"], "scope secrets.set");
    for route in server::routes::all().list().iter().filter(|route| route.path.starts_with("/api/")) {
        let path = route.path.replace("{*", "{");
        let method = route.method.as_str().to_lowercase();
        assert!(document["paths"][&path][&method]["x-guard"].is_string(), "{method} {path}");
    }
    let mut texts = document.to_string();
    while let Some(at) = texts.find("#/components/schemas/") {
        texts = texts.split_off(at + "#/components/schemas/".len());
        let name = texts.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "the schema {name} is missing");
    }
}

#[tokio::test]
async fn a_run_that_is_not_there_is_said_to_be_so() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["true"])).await.run;
    for bad in ["/api/runs/nothere", "/api/runs/NOT%20AN%20ID", "/api/runs/nothere/events"] {
        assert_eq!(stage.home(Method::GET, bad, None).await.code(), "run.unknown", "{bad}");
    }
    assert_eq!(stage.home(Method::GET, &format!("/api/runs/{run}/events?after=x"), None).await.code(), "query.wrong");
}
