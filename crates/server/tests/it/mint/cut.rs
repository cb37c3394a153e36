//! Kills between the steps, leases that are taken back, and vendors that do not end what they made.

use super::pushes::git_denied;
use super::*;
use api::http::SecretRemoved;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_a_lease_is_launched_again_without_the_one_that_its_fetch_was_carried_by() {
    let stage = Stage::start();
    let (operator, _launch, mut gateway) = running(&stage).await;
    drop(operator);
    let mut wish = exec(&["git", "fetch"]);
    wish.profile = Some("p".into());
    let run = stage.create(&wish).await.run;
    let launched = async |stage: &Stage| {
        let mut operator = stage.operator(vec![]).await;
        loop {
            match operator.hear().await {
                Down::Launch(launch) if launch.run == run => return (operator, *launch),
                // Of the agent's run.
                _ => {}
            }
        }
    };
    let (operator, launch) = launched(&stage).await;
    assert_eq!((launch.attempt, &launch.lease), (1, &None));
    let handle_sha256 = sha256(launch.handle.as_ref().unwrap());
    let ask = GitAsk { run: run.clone(), handle_sha256, repository: "shop".into(), act: GitAct::Fetch };
    gateway.say(&FromGateway::AskGit { id: 9, ask }).await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "contents": "read" }))).await;
    assert_eq!(credential(git_word(&mut gateway).await), TOKEN);
    assert_eq!(minted(&stage, "live").await.run, run);
    drop(operator);
    let (_operator, again) = launched(&stage).await;
    assert_eq!((again.run, again.lease), (run.clone(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_taken_back_while_its_vendor_is_asked_gives_nothing_and_what_comes_is_revoked() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let lease = deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (id, _) = heard(&mut gateway).await;
    let taken = stage.home(Method::POST, &format!("/api/leases/{lease}/revoke"), None).await;
    assert_eq!(taken.json::<LeaseView>().minted, "asked");
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease: of } if of == lease));
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "issues": "write" }))).await;
    denied_and_revoked(&mut gateway, "lease.revoked", TOKEN).await;
    assert_eq!(minted(&stage, "revoked").await.lease, lease);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_between_the_question_and_its_answer_it_is_said_that_something_may_have_been_minted() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    git(&mut gateway, &launch, GitAct::Fetch).await;
    let (_, call) = heard(&mut gateway).await;
    assert_eq!(call.purpose, Purpose::Mint);
    // The vendor has made one by now. A kill leaves the row as it is on record; a server that ends in peace says so itself.
    let killed = |lease: &mut LeaseRow| {
        (lease.state, lease.ended, lease.mint.state) = ("consumed".into(), None, "asked".into());
        lease.mint.next = Moment(1);
    };
    changed(&mut stage, killed).await;
    drop((operator, gateway));
    let unknown = minted(&stage, "unknown").await;
    assert!(unknown.minted_until.is_some(), "{unknown:?}");
    let said = evidence(&stage).await;
    assert!(said.contains("mint.unknown") && said.contains("which nobody has"), "{said}");
    assert!(!said.contains("mint.made"), "{said}");
}

/// Has the database refuse every record from now on, as a full disk would, or no longer.
async fn full(stage: &Stage, is_full: bool) {
    let act = if is_full {
        "CREATE TRIGGER full BEFORE INSERT ON evidence BEGIN SELECT RAISE(ABORT, 'full'); END"
    } else {
        "DROP TRIGGER full"
    };
    by_hand(stage, act).await;
}

/// Carries a statement out in the server's database.
pub async fn by_hand(stage: &Stage, act: &'static str) {
    sqlx::any::install_default_drivers();
    let file = format!("sqlite:{}", stage.dir.path().join("server/volary.db").display());
    let mut conn = <sqlx::AnyConnection as sqlx::Connection>::connect(&file).await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut conn).await.unwrap();
    sqlx::query(act).execute(&mut conn).await.unwrap();
}

/// The fetch of a run, of which the vendor was asked for a token: the question's number, and its lease.
async fn asked(gateway: &mut Gateway, launch: &Launch) -> (u64, LeaseId) {
    git(gateway, launch, GitAct::Fetch).await;
    let (id, call) = heard(gateway).await;
    assert_eq!(call.purpose, Purpose::Mint);
    (id, call.lease.expect("whose it is"))
}

fn made() -> String {
    token(TOKEN, "acme/shop", &json!({ "contents": "read" }))
}

/// The vendor is told by the token itself that it is over, and that is on record.
async fn is_revoked(stage: &Stage, gateway: &mut Gateway, launch: &Launch, lease: &LeaseId) {
    let (id, call) = heard(gateway).await;
    assert_eq!((call.purpose, call.url.as_str()), (Purpose::Revoke, "https://api.github.com/installation/token"));
    assert_eq!(call.credential.unwrap().value.0.expose(), TOKEN);
    answer(gateway, id, 204, String::new()).await;
    assert_eq!(minted(stage, "revoked").await.lease, *lease);
    let said = evidence(stage).await;
    assert_eq!([said.matches("mint.made").count(), said.matches("mint.revoked").count()], [1, 1], "{said}");
    nothing_leaked(stage, launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_tokens_time_takes_back_nothing_that_a_fetch_has_begun_with_it() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (id, lease) = asked(&mut gateway, &launch).await;
    answer(&mut gateway, id, 201, made()).await;
    let given = soon("the word", async {
        loop {
            if let ToGateway::GitAnswer { word: GitWord::Granted { credential, .. }, .. } = gateway.hear().await {
                return credential.expect("what opens it");
            }
        }
    });
    assert_eq!(given.await.carried, Some(lease.clone()));
    by_hand(&stage, "UPDATE leases SET expires = made").await;
    let swept = async {
        while all(&stage).await.iter().any(|one| one.lease == lease && one.state != "expired") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("its end", swept).await;
    // What it hears up to the next answer: of its vendor, perhaps, and not that it is over.
    gateway.say(&FromGateway::AskLaw { id: 99, run: launch.run.clone() }).await;
    loop {
        match gateway.hear().await {
            ToGateway::EgressAnswer { id: 99, .. } => return,
            ToGateway::RevokeLease { lease } => panic!("{lease} is cut"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_kept_is_given_to_nobody_and_is_revoked_once_that_can_be_recorded() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let (id, lease) = asked(&mut gateway, &launch).await;
    full(&stage, true).await;
    answer(&mut gateway, id, 201, made()).await;
    assert_eq!(git_denied(&mut gateway).await, "server.failed");
    assert_eq!(minted(&stage, "asked").await.lease, lease);
    full(&stage, false).await;
    assert_eq!(gateway.kept().await, lease, "the gateway need not hold it any more");
    is_revoked(&stage, &mut gateway, &launch, &lease).await;
    let over = async {
        while all(&stage).await[0].state != "completed" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of its lease", over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vendor_answered_to_a_server_that_was_killed_comes_from_the_gateway_and_is_revoked() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    let (id, lease) = asked(&mut gateway, &launch).await;
    full(&stage, true).await;
    answer(&mut gateway, id, 201, made()).await;
    assert_eq!(git_denied(&mut gateway).await, "server.failed");
    drop((operator, gateway));
    // Killed with the answer in its hands: all that is on record is that the vendor was asked.
    stage.stop();
    full(&stage, false).await;
    // What its key is by now plays no part: it is deleted before the gateway is back.
    stage.again();
    let gone = stage.home(Method::DELETE, "/api/secrets/capability/acme", None).await;
    assert!(gone.status.is_success(), "{}", gone.text());
    let mut gateway = stage.gateway().await;
    let body = || WireSecret(Secret::new(made()));
    let word = || CallWord::Answered { status: 201, headers: Vec::new(), body: body() };
    gateway.say(&FromGateway::Held { lease: lease.clone(), word: word() }).await;
    assert_eq!(gateway.kept().await, lease);
    is_revoked(&stage, &mut gateway, &launch, &lease).await;
    // Said again because that was not heard, it changes nothing.
    gateway.say(&FromGateway::Held { lease: lease.clone(), word: word() }).await;
    assert_eq!(gateway.kept().await, lease);
    assert_eq!(minted(&stage, "revoked").await.lease, lease);
    // Of no lease that there is: it is not held for ever either.
    let nobodys = LeaseId::parse("nobodys").unwrap();
    gateway.say(&FromGateway::Held { lease: nobodys.clone(), word: word() }).await;
    assert_eq!(gateway.kept().await, nobodys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_gateway_goes_away_with_the_question_it_is_said_at_once_and_the_next_fetch_has_a_token_of_its_own() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    git(&mut gateway, &launch, GitAct::Fetch).await;
    heard(&mut gateway).await;
    drop(gateway);
    // What is known of the value is kept first, and then that its lease is over.
    let over = async {
        while minted(&stage, "unknown").await.state != "completed" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of its lease", over).await;
    let mut gateway = stage.gateway().await;
    fetched(&mut gateway, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_between_value_use_and_end_a_value_is_revoked_all_the_same() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    fetched(&mut gateway, &launch).await;
    // Killed with a value that is live: whoever connects next has it no more.
    drop((operator, gateway));
    stage.again();
    let mut gateway = stage.gateway().await;
    let (_, call) = heard(&mut gateway).await;
    assert_eq!((call.purpose, call.credential.unwrap().value.0.expose().as_str()), (Purpose::Revoke, TOKEN));
    // Killed again, before the vendor's answer is heard.
    drop(gateway);
    changed(&mut stage, due).await;
    let mut gateway = stage.gateway().await;
    let (id, call) = heard(&mut gateway).await;
    assert_eq!(call.credential.unwrap().value.0.expose(), TOKEN);
    // The vendor is out of order once more, and asked again; it has ended it at the first question.
    answer(&mut gateway, id, 503, String::new()).await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 401, String::new()).await;
    minted(&stage, "revoked").await;
    let said = evidence(&stage).await;
    assert!(said.matches("mint.ending").count() >= 3 && said.matches("mint.revoked").count() == 1, "{said}");
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_revoked_is_given_up_after_bounded_tries_and_its_end_is_on_record() {
    let mut stage = Stage::start();
    let (operator, launch, mut gateway) = running(&stage).await;
    fetched(&mut gateway, &launch).await;
    drop((operator, gateway));
    let tried = |lease: &mut LeaseRow| {
        (lease.state, lease.mint.state) = ("completed".into(), "ending".into());
        (lease.mint.tries, lease.mint.next) = (vault::mint::TRIES, Moment(1));
    };
    changed(&mut stage, tried).await;
    let _gateway = stage.gateway().await;
    let left = minted(&stage, "left").await;
    let said: jiff::Timestamp = END.parse().unwrap();
    assert_eq!(left.minted_until, Some(Moment(said.as_millisecond())), "the vendor's own word");
    assert!(evidence(&stage).await.contains("It could not be revoked."));
}

async fn deleted(stage: &Stage, name: &str) -> SecretRemoved {
    stage.home(Method::DELETE, &format!("/api/secrets/capability/{name}"), None).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_minted_of_a_key_is_ended_when_the_key_is_deleted_and_where_nobody_can_it_is_said_until_when() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let lease = deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "issues": "write" }))).await;
    assert_eq!(rule(used(&mut gateway).await), "value");
    // Another one is being made.
    let late = deploy(&mut gateway, &launch, "issues", "github.com/acme/shop").await;
    let (asked, _) = heard(&mut gateway).await;
    assert_eq!(deleted(&stage, "acme").await, SecretRemoved { leases: 2, revoking: 1, left_until: None });
    let (id, call) = heard(&mut gateway).await;
    assert_eq!((call.purpose, call.credential.unwrap().value.0.expose().as_str()), (Purpose::Revoke, TOKEN));
    answer(&mut gateway, id, 204, String::new()).await;
    assert_eq!(minted(&stage, "revoked").await.lease, lease);
    answer(&mut gateway, asked, 201, token("ghs_canary-that-comes-late", "acme/shop", &json!({ "issues": "write" })))
        .await;
    denied_and_revoked(&mut gateway, "lease.revoked", "ghs_canary-that-comes-late").await;
    let both = async {
        while all(&stage).await.iter().any(|lease| lease.minted != "revoked") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of both", both).await;
    assert!(all(&stage).await.iter().any(|lease| lease.lease == late && lease.state == "revoked"));

    deploy(&mut gateway, &launch, "deploy", "shop-files").await;
    let (id, _) = heard(&mut gateway).await;
    answer(&mut gateway, id, 200, session()).await;
    assert_eq!(rule(used(&mut gateway).await), "value");
    let gone = deleted(&stage, "aws").await;
    assert_eq!((gone.leases, gone.revoking), (1, 0));
    assert_eq!(minted(&stage, "left").await.minted_until, gone.left_until);
    assert!(gone.left_until.is_some());
    nothing_leaked(&stage, &launch).await;
}
