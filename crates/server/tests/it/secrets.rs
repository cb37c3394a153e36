//! Secrets and the vault over the API: kinds, a person's own, uses; another key, and a copy of everything.

use crate::stage::{KEY, Stage, sha256};
use crate::{egress, grants, leases, rows};
use api::grants::{Answer, EgressAsk, EgressWord};
use api::http::SecretView;
use api::leases::{LeaseAsk, ValueWord};
use api::vault::{RotationTicket, VaultView};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const OWN: &str = "a-value-of-my-own-0123456789";

async fn put(stage: &Stage, name: &str, body: Value) -> crate::stage::Answer {
    stage.home(Method::PUT, &format!("/api/secrets/{name}"), Some(body)).await
}

async fn list(stage: &Stage) -> Vec<SecretView> {
    stage.home(Method::GET, "/api/secrets", None).await.json()
}

/// The credential of a call that is granted.
async fn carried(gateway: &mut crate::stage::Gateway, call: api::grants::ModelCall) -> String {
    match grants::ask(gateway, 1, call).await {
        Answer::Granted { upstream, .. } => upstream.credential.0.expose().clone(),
        Answer::Denied { rule, why } => panic!("{rule}: {why}"),
    }
}

#[tokio::test]
async fn a_persons_own_value_is_what_their_runs_get_where_the_key_allows_it_and_each_use_is_noted() {
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let call = || grants::call(&launch);
    assert_eq!(list(&stage).await[0].last_used, None);
    assert_eq!(carried(&mut gateway, call()).await, KEY);
    assert!(list(&stage).await[0].last_used.is_some());

    assert_eq!(put(&stage, "model/m", json!({ "value": OWN, "mine": true })).await.code(), "secret.personal");
    let allowed = put(&stage, "model/m", json!({ "value": KEY, "personal": true })).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text());
    let own: SecretView = put(&stage, "model/m", json!({ "value": OWN, "mine": true })).await.json();
    assert_eq!((own.person.as_deref(), own.version), (Some("administrator"), 1));
    assert_eq!(carried(&mut gateway, call()).await, OWN);
    let rows = list(&stage).await;
    assert_eq!(rows.iter().map(|row| row.person.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(rows.iter().map(|row| row.last_used.is_some()).collect::<Vec<_>>(), [false, true]);

    let gone = stage.home(Method::DELETE, "/api/secrets/model/m?mine=true", None).await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(carried(&mut gateway, call()).await, KEY);
    let again = stage.home(Method::DELETE, "/api/secrets/model/m?mine=true", None).await;
    assert_eq!(again.code(), "secret.unknown");
    assert_eq!(list(&stage).await.len(), 1);
}

#[tokio::test]
async fn a_managed_key_goes_into_no_request_to_another_host_than_its_providers() {
    const PROFILE: &str = "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1/issues\"\n";
    let stage = Stage::start();
    put(&stage, "capability/tracker", json!({ "value": KEY })).await;
    let (_operator, launch) = stage.commanding(PROFILE).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = egress::table(&mut gateway, &launch.run).await;
    let set = put(&stage, "capability/tracker", json!({ "value": OWN, "kind": "github" })).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    let refused = egress::ask(&mut gateway, egress::write(&launch, version)).await;
    assert_eq!(egress::rule(refused), "secret.other-host");
    // Set again it stays what it is, until somebody says that it is another.
    put(&stage, "capability/tracker", json!({ "value": OWN })).await;
    assert_eq!(list(&stage).await[0].kind.as_deref(), Some("github"));
    let refused = egress::ask(&mut gateway, egress::write(&launch, version)).await;
    assert_eq!(egress::rule(refused), "secret.other-host");
    put(&stage, "capability/tracker", json!({ "value": OWN, "kind": "custom" })).await;
    let word = egress::ask(&mut gateway, egress::write(&launch, version)).await;
    assert!(matches!(word, EgressWord::Granted { credential: Some(_), .. }));
}

#[tokio::test]
async fn a_registrys_password_and_a_models_key_go_by_no_row_to_another_host_and_into_no_box() {
    const ROW: &str = "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1/issues\"\n";
    const REPOSITORY: &str = "[[repository]]\nid = \"app\"\nurl = \"https://git.example.org/acme/app\"\nsecret = ";
    let stage = Stage::start();
    let capability = |secret: &str, delivery: &str| {
        format!(
            "[[capability]]\nname = \"tracker\"\nsecret = {secret:?}\nkind = \"command\"\ndestinations = [\"api.example.org\"]\n\
             delivery = {delivery}\nexecutables = [\"/usr/bin/sh\"]\n"
        )
    };
    let asked = async |profile: &str| {
        std::fs::write(stage.dir.path().join("profiles/p.toml"), profile).unwrap();
        let mut wish = crate::stage::agent("x");
        wish.profile = Some("p".into());
        stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await
    };
    stage.model("m", "model-1").await;
    for name in ["registry/r.corp", "model/other"] {
        put(&stage, name, json!({ "value": KEY })).await;
        for profile in [capability(name, "\"proxy\"") + ROW, format!("{REPOSITORY}{name:?}\n")] {
            assert_eq!(asked(&profile).await.code(), "secret.other-host", "{profile}");
        }
        for delivery in ["{ variable = \"T\" }", "{ file = \"T\" }", "\"stdin\"", "\"git-helper\""] {
            assert_eq!(asked(&capability(name, delivery)).await.code(), "delivery.managed", "{name} {delivery}");
        }
    }
    // Where its model lies, a model's key goes; once the model is gone it goes there no more.
    let model = json!({
        "dialect": "openai", "base": "https://api.example.org/v1", "id": "x", "secret": "model/other",
        "price": { "input": 1, "output": 1 },
    });
    let added = stage.home(Method::PUT, "/api/models/other", Some(model)).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
    let (_operator, launch) =
        stage.running(&format!("model = \"m\"\n{}{ROW}", capability("model/other", "\"proxy\""))).await;
    let mut gateway = stage.gateway().await;
    let (version, _) = egress::table(&mut gateway, &launch.run).await;
    let wish = rows::wish(&launch, "tracker", "api.example.org");
    let (_, handle) = rows::handle(&mut gateway, &launch, wish).await;
    let write = || EgressAsk { handle_sha256: Some(sha256(&handle)), ..egress::write(&launch, version) };
    let word = egress::ask(&mut gateway, write()).await;
    assert!(matches!(word, EgressWord::Granted { credential: Some(_), .. }), "{word:?}");
    let gone = stage.home(Method::DELETE, "/api/models/other", None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text());
    assert_eq!(egress::rule(egress::ask(&mut gateway, write()).await), "secret.other-host");
}

#[tokio::test]
async fn a_text_is_custom_alone_goes_into_no_request_and_is_known_as_one_by_its_characters() {
    const TEXT: &str = "apiVersion: v1\nusers:\n\t- token: canary-0123456789\r\n";
    const ROW: &str = "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1/issues\"\n";
    let stage = Stage::start();
    let set: SecretView = put(&stage, "capability/tracker", json!({ "value": TEXT, "personal": true })).await.json();
    assert_eq!((set.kind.as_deref(), set.managed, set.personal), (Some("text"), false, true));
    let own: SecretView = put(&stage, "capability/tracker", json!({ "value": TEXT, "mine": true })).await.json();
    assert_eq!((own.kind.as_deref(), own.managed), (Some("text"), false));
    for (name, body) in [
        ("model/m", json!({ "value": TEXT })),
        ("registry/r.corp", json!({ "value": TEXT })),
        ("capability/x", json!({ "value": TEXT, "kind": "github" })),
        ("capability/x", json!({ "value": "a value with a bell\u{7}" })),
    ] {
        assert_eq!(put(&stage, name, body).await.code(), "secret.characters", "{name}");
    }
    stage.model("m", "model-1").await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), ROW).unwrap();
    let mut wish = crate::stage::agent("x");
    wish.profile = Some("p".into());
    let refused = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await;
    assert_eq!(refused.code(), "secret.other-host", "{}", refused.text());
    assert!(refused.text().contains("spaces or line ends"), "{}", refused.text());
    // Set again as one word, it is custom as any other, and the rest of it stays.
    let set: SecretView = put(&stage, "capability/tracker", json!({ "value": KEY })).await.json();
    assert_eq!((set.kind, set.personal), (None, true));
    let set = stage.home(Method::POST, "/api/secrets/capability/tracker", Some(json!({ "value": TEXT }))).await;
    assert_eq!(set.json::<SecretView>().kind.as_deref(), Some("text"));
}

/// The profile of a command that is given the secret `capability/tracker` by `delivery`.
fn commands(delivery: &str) -> String {
    format!(
        "[[capability]]\nname = \"tracker\"\nsecret = \"capability/tracker\"\nkind = \"command\"\n\
         destinations = [\"api.example.org\"]\ndelivery = {delivery}\nexecutables = [\"/usr/bin/curl\"]\n"
    )
}

/// Asks for an agent's run by a profile of this text.
async fn begun(stage: &Stage, profile: &str) -> crate::stage::Answer {
    std::fs::write(stage.dir.path().join("profiles/p.toml"), profile).unwrap();
    let mut wish = crate::stage::agent("x");
    wish.profile = Some("p".into());
    stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await
}

/// What a command of a run is given of `capability/tracker`.
async fn given(stage: &Stage, delivery: &str) -> String {
    let (_operator, launch) = stage.running(&commands(delivery)).await;
    let mut gateway = stage.gateway().await;
    let wish =
        LeaseAsk { capability: "tracker".into(), destination: "api.example.org".into(), ..leases::wish(&launch) };
    let lease = leases::granted(&mut gateway, wish).await.lease;
    match leases::take(&mut gateway, &launch, &lease, leases::curl()).await {
        ValueWord::Value { value, .. } => value.0.expose().clone(),
        ValueWord::Denied { rule, why } => panic!("{rule}: {why}"),
    }
}

const FILE: &str = "-----BEGIN KEY-----\nmy-own-0123456789\n-----END KEY-----\n";

#[tokio::test]
async fn a_persons_text_and_the_workspaces_token_stand_in_each_others_place_and_each_travels_as_it_is_itself() {
    const SHARED: &str = "the-workspaces-0123456789";
    const SHARED_FILE: &str = "the workspace's\nkey-0123456789\n";
    for (shared, own) in [(SHARED, FILE), (SHARED_FILE, OWN)] {
        let stage = Stage::start();
        stage.secret("capability/tracker", json!({ "value": shared, "personal": true })).await;
        stage.secret("capability/tracker", json!({ "value": own, "mine": true })).await;
        assert_eq!(given(&stage, "{ file = \"TRACKER\" }").await, own);
        let in_a_variable = begun(&stage, &commands("{ variable = \"TRACKER\" }")).await;
        match own {
            FILE => assert_eq!(in_a_variable.code(), "delivery.channel"),
            _ => assert_eq!(in_a_variable.status, StatusCode::CREATED, "{}", in_a_variable.text()),
        }
    }
}

#[tokio::test]
async fn a_workspaces_token_that_is_rotated_to_a_text_leaves_a_persons_own_in_its_place() {
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": "the-workspaces-0123456789", "personal": true })).await;
    stage.secret("capability/tracker", json!({ "value": OWN, "mine": true })).await;
    let body = json!({ "value": "the workspace's\nkey-0123456789\n" });
    let rotated = stage.home(Method::POST, "/api/secrets/capability/tracker", Some(body)).await;
    assert_eq!(rotated.json::<SecretView>().kind.as_deref(), Some("text"));
    assert_eq!(given(&stage, "{ variable = \"TRACKER\" }").await, OWN);
}

#[tokio::test]
async fn where_a_persons_value_and_the_workspaces_are_of_two_kinds_neither_is_used_and_that_is_on_record_by_name() {
    const ROW: &str = "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.github.com\"\nmethod = \"POST\"\npath = \"/v1/issues\"\n";
    const REPOSITORY: &str =
        "[[repository]]\nid = \"app\"\nurl = \"https://github.com/acme/app\"\nsecret = \"capability/tracker\"\n";
    let stage = Stage::start();
    stage.secret("capability/tracker", json!({ "value": KEY, "personal": true })).await;
    stage.secret("capability/tracker", json!({ "value": OWN, "mine": true })).await;
    stage.secret("model/m", json!({ "value": KEY, "personal": true })).await;
    let (_operator, launch) = stage.running(ROW).await;
    stage.secret("model/m", json!({ "value": KEY, "personal": true })).await;
    stage.secret("model/m", json!({ "value": OWN, "mine": true })).await;
    // The workspace's become managed, one of which allows nobody's own; the person's stay what they were.
    stage.secret("capability/tracker", json!({ "value": KEY, "kind": "github", "personal": false })).await;
    stage.secret("model/m", json!({ "value": KEY, "kind": "openai" })).await;

    // What began before.
    let mut gateway = stage.gateway().await;
    match grants::ask(&mut gateway, 1, grants::call(&launch)).await {
        Answer::Denied { rule, why } => {
            assert_eq!(rule, "secret.kinds");
            assert!(why.contains("administrator's own value of the secret \"model/m\" is custom"), "{why}");
            assert!(why.contains("the workspace's is a key of openai") && why.contains("--mine"), "{why}");
        }
        granted @ Answer::Granted { .. } => panic!("{granted:?}"),
    }
    // And what would begin.
    for profile in [ROW.to_owned(), REPOSITORY.to_owned(), commands("\"proxy\""), String::new()] {
        let refused = begun(&stage, &profile).await;
        assert_eq!(refused.code(), "secret.kinds", "{profile}: {}", refused.text());
        assert!(refused.text().contains("neither is used in the other's place"), "{}", refused.text());
    }
    let rotate = json!({ "value": "another-of-my-own-0123", "mine": true });
    let rotated = stage.home(Method::POST, "/api/secrets/capability/tracker", Some(rotate)).await;
    assert_eq!(rotated.code(), "secret.kinds");
    let tested = stage.home(Method::POST, "/api/models/m/test", None).await;
    assert_eq!(tested.code(), "secret.kinds", "{}", tested.text());
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert_eq!(evidence.matches("run.refused").count(), 4, "{evidence}");
    assert!(!evidence.contains(OWN) && !evidence.contains(KEY));

    // The ways out that it names.
    assert_eq!(
        put(&stage, "capability/tracker", json!({ "value": OWN, "mine": true })).await.code(),
        "secret.personal"
    );
    let gone = stage.home(Method::DELETE, "/api/secrets/capability/tracker?mine=true", None).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    stage.secret("model/m", json!({ "value": OWN, "mine": true })).await;
    assert_eq!(begun(&stage, ROW).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_value_is_replaced_where_one_is_set_and_all_else_of_it_stays() {
    let stage = Stage::start();
    let replace = async |body: Value| stage.home(Method::POST, "/api/secrets/capability/forge", Some(body)).await;
    assert_eq!(replace(json!({ "value": OWN })).await.code(), "secret.unknown");
    put(&stage, "capability/forge", json!({ "value": KEY, "kind": "gitlab", "personal": false })).await;
    let after: SecretView = replace(json!({ "value": OWN })).await.json();
    assert_eq!((after.kind.as_deref(), after.personal, after.managed, after.version), (Some("gitlab"), false, true, 2));
    assert_eq!(replace(json!({ "value": OWN, "mine": true })).await.code(), "secret.unknown");
    assert_eq!(replace(json!({ "value": "short" })).await.code(), "secret.length");
    assert_eq!(replace(json!({ "value": OWN, "kind": "custom" })).await.code(), "body.wrong");
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert!(evidence.contains("secret.rotated") && evidence.contains("gitlab"), "{evidence}");
    assert!(!evidence.contains(OWN) && !evidence.contains(KEY));
}

#[tokio::test]
async fn what_is_shown_of_a_secret_says_who_set_it_when_and_nothing_of_its_value_or_length() {
    let stage = Stage::start();
    let long = "v".repeat(4_000);
    let from = model::Moment::from(std::time::SystemTime::now());
    for (name, value) in [("capability/a", "12345678"), ("capability/b", &long)] {
        assert_eq!(put(&stage, name, json!({ "value": value })).await.status, StatusCode::OK);
        let set = stage.home(Method::POST, &format!("/api/secrets/{name}"), Some(json!({ "value": value }))).await;
        assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    }
    let until = model::Moment::from(std::time::SystemTime::now());
    let [a, b] = <[SecretView; 2]>::try_from(list(&stage).await).unwrap();
    for view in [&a, &b] {
        assert_eq!((view.set_by.as_str(), view.version, view.last_used), ("administrator", 2, None));
        assert!(from <= view.set_at && view.set_at <= until, "{view:?}");
    }
    assert_eq!(SecretView { name: b.name.clone(), set_at: b.set_at, ..a }, b);
    // Nor does the record of one say more than that of the other.
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    let records = |name: &str| -> Vec<Value> {
        let of = evidence.lines().filter(|line| line.contains(name));
        of.map(|line| {
            let mut record: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
            record.as_object_mut().unwrap().retain(|key, _| !["at", "n", "source_seq"].contains(&key.as_str()));
            serde_json::from_str(&record.to_string().replace(name, "capability/x")).unwrap()
        })
        .collect()
    };
    assert_eq!(records("capability/a").len(), 2, "{evidence}");
    assert_eq!(records("capability/a"), records("capability/b"));
    // There is no way to ask for the value.
    for path in ["", "/value", "?value=true", "?mine=true"] {
        for method in [Method::GET, Method::HEAD, Method::PATCH] {
            let answer = stage.home(method.clone(), &format!("/api/secrets/capability/a{path}"), None).await;
            assert!(answer.status.is_client_error(), "{method} {path}: {}", answer.status);
            assert!(!answer.text().contains("12345678"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_vaults_key_is_exchanged_every_call_is_granted_and_every_secret_is_set() {
    const TIMES: usize = 8;
    let stage = Stage::start();
    let (_operator, launch) = stage.running("").await;
    let mut gateway = stage.gateway().await;
    let exchanges = async {
        for n in 1..=TIMES {
            let ticket: RotationTicket = stage.home(Method::POST, "/api/vault/rotation", Some(json!({}))).await.json();
            let body = json!({ "ticket": ticket.ticket, "source": "a test", "key": format!("{n:064x}") });
            let answer = stage.home(Method::PUT, "/api/vault/rotation", Some(body)).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
    };
    let calls = async {
        for _ in 0..4 * TIMES {
            assert_eq!(carried(&mut gateway, grants::call(&launch)).await, KEY);
        }
    };
    let sets = async {
        for n in 0..4 * TIMES {
            let name = format!("capability/n{n}");
            assert_eq!(put(&stage, &name, json!({ "value": OWN })).await.status, StatusCode::OK);
        }
    };
    tokio::join!(exchanges, calls, sets);
    // What was set before, meanwhile and after opens.
    let said = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert_eq!(said.matches("vault.rotated").count(), TIMES);
    assert_eq!(carried(&mut gateway, grants::call(&launch)).await, KEY);
}

#[tokio::test]
async fn the_key_is_exchanged_once_by_the_last_who_asked_for_a_ticket_and_over_the_homes_socket_alone() {
    let stage = Stage::start();
    let view = async || stage.home(Method::GET, "/api/vault", None).await.json::<VaultView>();
    let ticket =
        async || stage.home(Method::POST, "/api/vault/rotation", Some(json!({}))).await.json::<RotationTicket>();
    let exchange = async |ticket: &str, key: &str| {
        let body = json!({ "ticket": ticket, "source": "a test", "key": key });
        stage.home(Method::PUT, "/api/vault/rotation", Some(body)).await
    };
    let before = view().await;
    assert_eq!(before.source, "the test");
    let (first, second) = (ticket().await, ticket().await);
    assert_eq!(second.key, before.key);
    let new = "6".repeat(64);
    assert_eq!(exchange(&first.ticket, &new).await.code(), "vault.ticket");
    let wrong = exchange(&second.ticket, &new[1..]).await;
    assert_eq!(wrong.code(), "vault.key");
    assert!(!wrong.text().contains("666"), "{}", wrong.text());
    assert_eq!(exchange(&second.ticket, &new).await.code(), "vault.ticket", "a ticket is for one exchange");
    assert_eq!(view().await, before);

    let after: VaultView = exchange(&ticket().await.ticket, &new).await.json();
    assert_ne!(after.key, before.key);
    assert_eq!((view().await, ticket().await.key), (after.clone(), after.key.clone()));
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    for told in ["vault.rotated", &before.key, &after.key] {
        assert!(evidence.contains(told), "{told}: {evidence}");
    }
    assert!(!evidence.contains("6666"));
}

#[tokio::test]
async fn a_copy_holds_every_secret_sealed_shows_no_length_and_goes_over_the_homes_socket_alone() {
    let stage = Stage::start();
    let long = "v".repeat(900);
    for (name, value) in [("model/short", "12345678"), ("model/usual", KEY), ("model/long", &long)] {
        assert_eq!(put(&stage, name, json!({ "value": value })).await.status, StatusCode::OK);
    }
    let copy = stage.home(Method::GET, "/api/backup", None).await;
    assert!(copy.body.starts_with(b"SQLite format 3\0"));
    for value in ["12345678", KEY, &long] {
        assert!(!copy.body.windows(value.len()).any(|part| part == value.as_bytes()), "{value}");
    }
    let left: Vec<_> = std::fs::read_dir(stage.dir.path().join("server")).unwrap().collect();
    assert!(left.iter().all(|e| !e.as_ref().unwrap().file_name().to_string_lossy().starts_with("copy-")), "{left:?}");

    let place = stage.dir.path().join("copied.db");
    std::fs::write(&place, &copy.body).unwrap();
    let rows = store::Store::open(&place).await.unwrap().secrets().await.unwrap();
    let lengths: Vec<usize> = rows.iter().map(|row| row.sealed.len()).collect();
    assert_eq!(lengths, [1024 + 4 + 29; 3]);
    let evidence = stage.home(Method::GET, "/api/evidence", None).await.text();
    assert!(evidence.contains("vault.copied"), "{evidence}");
}

#[tokio::test]
async fn what_a_key_or_a_copy_goes_over_is_not_the_consoles_port() {
    let stage = Stage::start();
    let cookie = stage.signed_in().await;
    let own = format!("http://127.0.0.1:{}", stage.port);
    let headers = [("cookie", cookie.as_str()), ("origin", own.as_str()), ("content-type", "application/json")];
    let body = json!({ "ticket": "t", "source": "s", "key": "6".repeat(64) }).to_string();
    for (method, path, body) in [
        (Method::GET, "/api/backup", ""),
        (Method::POST, "/api/vault/rotation", "{}"),
        (Method::PUT, "/api/vault/rotation", body.as_str()),
    ] {
        let answer = stage.tcp(method, path, &headers, body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    // The same person sees there which key it is.
    assert_eq!(stage.tcp(Method::GET, "/api/vault", &headers, "").await.status, StatusCode::OK);
}
