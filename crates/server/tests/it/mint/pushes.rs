//! A push with a minted token: its lease, and the token's.

use super::*;

/// The word on a question about the repository, whatever else is said meanwhile.
pub async fn git_denied(gateway: &mut Gateway) -> String {
    loop {
        match gateway.hear().await {
            ToGateway::GitAnswer { word: GitWord::Denied { rule, .. }, .. } => return rule,
            ToGateway::RevokeLease { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn look(launch: &Launch) -> GitAct {
    let branch = launch.variables.iter().find(|(name, _)| name == "VOLARY_BRANCH").map(|(_, branch)| branch);
    let reference = format!("refs/heads/{}", branch.unwrap());
    GitAct::Look { reference, old: "0".repeat(40), new: "1".repeat(40) }
}

/// What a push is told to be.
fn pushed(lease: LeaseId, reference: String, old: String, new: String) -> GitPush {
    GitPush {
        lease,
        reference,
        old,
        new,
        bytes: 1,
        objects: 1,
        paths: vec!["a".into()],
        paths_count: 1,
        paths_sha256: "0".repeat(64),
        pipelines: Vec::new(),
        there: None,
        fresh: true,
        commits: 1,
        others: Vec::new(),
        others_count: 0,
        onto: None,
    }
}

/// The leases of pushes.
async fn pushes(stage: &Stage) -> Vec<LeaseView> {
    all(stage).await.into_iter().filter(|lease| lease.capability == "push/shop").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_lease_is_refused_has_no_vendor_asked_and_no_lease_of_a_refused_one_is_left_open() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let GitAct::Look { reference, old, new } = look(&launch) else { panic!("a look") };
    let push = pushed(LeaseId::parse("nobodys").unwrap(), reference, old, new);
    git(&mut gateway, &launch, GitAct::Push(push.into())).await;
    assert_eq!(git_denied(&mut gateway).await, "lease.unknown");
    let said = evidence(&stage).await;
    assert!(!said.contains("lease.carried") && !said.contains("mint.asked"), "{said}");
    assert_eq!(all(&stage).await, []);

    // The vendor makes none, as often as it may be asked in a minute; of each push that began with that none is open.
    let most = 6;
    for n in 1..=most {
        git(&mut gateway, &launch, if n == 1 { look(&launch) } else { GitAct::Fetch }).await;
        let (id, _) = heard(&mut gateway).await;
        answer(&mut gateway, id, 500, String::new()).await;
        assert_eq!(git_denied(&mut gateway).await, "mint.unknown");
    }
    let [first] = &pushes(&stage).await[..] else { panic!("one push began") };
    assert_eq!((first.state.as_str(), first.ended_by.as_str()), ("revoked", "given up"));
    git(&mut gateway, &launch, look(&launch)).await;
    assert_eq!(git_denied(&mut gateway).await, "lease.per-minute");
    let ended: Vec<String> = pushes(&stage).await.into_iter().map(|lease| lease.state).collect();
    assert_eq!(ended, ["revoked", "revoked"]);
    assert_eq!(evidence(&stage).await.matches("lease.carried").count(), most);
}

/// A push that began, with a token to write and one to read: its lease, and the act by which it goes on.
async fn begun(gateway: &mut Gateway, launch: &Launch, write: &str) -> (LeaseId, GitAct) {
    git(gateway, launch, GitAct::Offer).await;
    let (id, call) = heard(gateway).await;
    assert_eq!(body(&call)["permissions"], json!({ "contents": "write" }), "each push has a token of its own");
    answer(gateway, id, 201, token(write, "acme/shop", &json!({ "contents": "write" }))).await;
    assert_eq!(credential(git_word(gateway).await), write);
    let GitAct::Look { reference, old, new } = look(launch) else { panic!("a look") };
    git(gateway, launch, look(launch)).await;
    let lease = match gateway.hear().await {
        // The first look of a run has a token to read minted, which further ones have too.
        ToGateway::Call { id, .. } => {
            answer(gateway, id, 201, token(TOKEN, "acme/shop", &json!({ "contents": "read" }))).await;
            leased(git_word(gateway).await)
        }
        ToGateway::GitAnswer { word, .. } => leased(word),
        other => panic!("{other:?}"),
    };
    (lease.clone(), GitAct::Push(pushed(lease, reference, old, new).into()))
}

fn leased(word: GitWord) -> LeaseId {
    match word {
        GitWord::Granted { leased: Some(leased), .. } => leased.lease,
        other => panic!("{other:?}"),
    }
}

/// The vendor is told that this very token is over.
async fn is_ended(gateway: &mut Gateway, of: &str) {
    let (id, call) = heard(gateway).await;
    assert_eq!((call.purpose, call.method), (Purpose::Revoke, Asked::Delete));
    assert_eq!(call.credential.unwrap().value.0.expose(), of);
    answer(gateway, id, 204, String::new()).await;
}

/// What is minted to write, once it is revoked; oldest first.
async fn revoked(stage: &Stage, many: usize) -> Vec<LeaseView> {
    let look = async {
        loop {
            let mut writing: Vec<LeaseView> = all(stage).await;
            writing.retain(|lease| lease.capability == "git/shop:write" && lease.minted == "revoked");
            if writing.len() == many {
                writing.reverse();
                return writing;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the end of the tokens", look).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_push_ends_with_the_lease_of_the_push_whatever_ended_that() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    // A person takes it back while the pack goes on: the gateway cuts it, and its token opens nothing any more.
    let (lease, push) = begun(&mut gateway, &launch, "ghs_canary-of-the-first").await;
    git(&mut gateway, &launch, push.clone()).await;
    assert_eq!(credential(git_word(&mut gateway).await), "ghs_canary-of-the-first");
    let taken = stage.home(Method::POST, &format!("/api/leases/{lease}/revoke"), None).await;
    assert_eq!(taken.status, StatusCode::OK, "{}", taken.text());
    is_ended(&mut gateway, "ghs_canary-of-the-first").await;
    let [first] = &revoked(&stage, 1).await[..] else { panic!("one") };
    assert_eq!((first.state.as_str(), first.ended_by.as_str()), ("revoked", "push's end"));
    git(&mut gateway, &launch, push).await;
    assert_eq!(git_denied(&mut gateway).await, "lease.revoked");
    // The one to read goes on with the run.
    git(&mut gateway, &launch, GitAct::Fetch).await;
    assert_eq!(credential(git_word(&mut gateway).await), TOKEN);
    // One that was made ends its token too.
    let (lease, push) = begun(&mut gateway, &launch, "ghs_canary-of-the-second").await;
    git(&mut gateway, &launch, push).await;
    assert_eq!(credential(git_word(&mut gateway).await), "ghs_canary-of-the-second");
    gateway.say(&FromGateway::EndLease { lease, outcome: LeaseEnd::Completed }).await;
    is_ended(&mut gateway, "ghs_canary-of-the-second").await;
    let [_, second] = &revoked(&stage, 2).await[..] else { panic!("two") };
    assert_eq!((second.state.as_str(), second.ended_by.as_str()), ("completed", "push's end"));
    nothing_leaked(&stage, &launch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_push_ends_once_though_its_own_lease_is_ended_after_the_pushs() {
    let stage = Stage::start();
    let (mut operator, launch, mut gateway) = running(&stage).await;
    let (_, push) = begun(&mut gateway, &launch, "ghs_canary-of-the-first").await;
    git(&mut gateway, &launch, push).await;
    assert_eq!(credential(git_word(&mut gateway).await), "ghs_canary-of-the-first");
    // As one that was minted anew for the push itself: its lease is younger than the push's.
    cut::by_hand(&stage, "UPDATE leases SET made = made + 1000 WHERE capability = 'git/shop:write'").await;
    let token = all(&stage).await.into_iter().find(|lease| lease.capability == "git/shop:write").unwrap().lease;
    operator.event(&launch.run, 2, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    is_ended(&mut gateway, "ghs_canary-of-the-first").await;
    let said = evidence(&stage).await;
    let ends = said.lines().filter(|line| line.contains("lease.ended") && line.contains(token.as_str())).count();
    assert_eq!(ends, 1, "{said}");
}
