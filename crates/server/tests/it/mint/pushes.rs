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

/// The leases of pushes.
async fn pushes(stage: &Stage) -> Vec<LeaseView> {
    all(stage).await.into_iter().filter(|lease| lease.capability == "push/shop").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_lease_is_refused_has_no_vendor_asked_and_no_lease_of_a_refused_one_is_left_open() {
    let stage = Stage::start();
    let (_operator, launch, mut gateway) = running(&stage).await;
    let GitAct::Look { reference, old, new } = look(&launch) else { panic!("a look") };
    let push = GitPush {
        lease: LeaseId::parse("nobodys").unwrap(),
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
    };
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
