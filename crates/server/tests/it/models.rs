//! Models and secrets, as an administrator sets them.

use crate::stage::{KEY, Stage};
use api::http::{ModelView, SecretView};
use http::{Method, StatusCode};
use model::MicroDollars;
use serde_json::json;
use std::os::unix::fs::MetadataExt;

#[tokio::test]
async fn a_secret_is_listed_without_its_value_and_its_versions_only_grow() {
    let stage = Stage::start();
    let set =
        async |value: &str| stage.home(Method::PUT, "/api/secrets/model/a", Some(json!({ "value": value }))).await;
    assert_eq!(set(KEY).await.json::<SecretView>().version, 1);
    assert_eq!(set(KEY).await.json::<SecretView>().version, 2);
    let list = stage.home(Method::GET, "/api/secrets", None).await;
    assert!(!list.text().contains(KEY));
    assert_eq!(list.json::<Vec<SecretView>>()[0].name, "model/a");
    assert_eq!(stage.home(Method::GET, "/api/secrets/model/a", None).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(stage.home(Method::DELETE, "/api/secrets/model/a", None).await.status, StatusCode::OK);
    assert!(stage.home(Method::GET, "/api/secrets", None).await.json::<Vec<SecretView>>().is_empty());
    assert_eq!(stage.home(Method::DELETE, "/api/secrets/model/a", None).await.code(), "secret.unknown");
    assert_eq!(set(KEY).await.json::<SecretView>().version, 3);
    assert_eq!(set("short").await.code(), "secret.length");
}

#[tokio::test]
async fn no_file_of_the_server_holds_a_secrets_value() {
    let mut stage = Stage::start();
    stage.model("m", "model-1").await;
    stage.stop();
    let mut seen = 0;
    for entry in std::fs::read_dir(stage.dir.path().join("server")).unwrap() {
        let path = entry.unwrap().path();
        // The engine takes its side files away as its last connection closes.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 1, "the database");
    let mode = std::fs::metadata(stage.dir.path().join("server/volary.db")).unwrap().mode();
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn a_wrong_body_of_a_secret_is_not_repeated_to_the_caller() {
    let stage = Stage::start();
    for body in [json!({ "value": [KEY] }), json!(KEY), json!({ "value": KEY, "note": "x" })] {
        let answer = stage.home(Method::PUT, "/api/secrets/model/a", Some(body)).await;
        assert_eq!(answer.code(), "body.wrong");
        assert!(!answer.text().contains(KEY), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_known_model_gets_its_price_from_the_table_and_an_unknown_one_needs_it() {
    let stage = Stage::start();
    let put = async |id: &str, base: &str, internal: bool, price: serde_json::Value| {
        let body = json!({ "dialect": "openai", "base": base, "id": id, "internal": internal, "price": price });
        stage.home(Method::PUT, "/api/models/x", Some(body)).await
    };
    let known = put("gpt-5-mini", "https://api.openai.com", false, json!(null)).await.json::<ModelView>();
    assert_eq!(known.price.unwrap().output, MicroDollars(2_000_000));
    let no_price = put("mine", "https://h.example", false, json!(null)).await;
    assert_eq!(no_price.code(), "model.price");
    // Whoever does not know an id finds those that need no price.
    let said = no_price.text();
    assert!(said.contains("claude-sonnet-4-5, ") && !said.contains("scripted"), "{said}");
    assert_eq!(
        put("mine", "http://127.0.0.1:11434", false, json!({ "input": 0, "output": 0 })).await.code(),
        "model.base"
    );
    let internal = put("mine", "http://127.0.0.1:11434", true, json!({ "input": 0, "output": 0 })).await;
    assert!(internal.json::<ModelView>().internal);
    assert_eq!(stage.home(Method::DELETE, "/api/models/x", None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(stage.home(Method::DELETE, "/api/models/x", None).await.code(), "model.unknown");
}
