//! The evidence, as the server exports it.

use crate::stage::{KEY, Stage, agent, soon};
use http::Method;

#[tokio::test]
async fn the_exported_evidence_verifies_and_is_witnessed_by_the_head_that_a_host_kept() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    stage.model("m", "model-1").await;
    stage.create(&agent("x")).await;
    operator.launch().await;
    // One may have been signed before the last of them.
    let of_all = async {
        loop {
            let head = operator.head().await;
            let file = stage.home(Method::GET, "/api/evidence", None).await;
            let report = evidence::verify::verify(&file.body, &[head.as_str()]).unwrap();
            if report.witnessed_records == 4 {
                return (file, head, report);
            }
        }
    };
    let (file, head, report) = soon("a head of all of them", of_all).await;
    // secret set, model set, run accepted, run launched
    assert_eq!((report.records, report.signed), (4, 4));
    assert!(report.witnessed && report.gaps.is_empty());
    assert!(!file.text().contains(KEY));
    for kind in ["secret.set", "model.set", "run.accepted", "run.launched"] {
        assert!(file.text().contains(kind), "{kind}");
    }
    let mut changed = file.body.clone();
    let at = file.text().find("run.accepted").unwrap();
    changed[at] ^= 1;
    assert!(evidence::verify::verify(&changed, &[head.as_str()]).is_err());
}

#[tokio::test]
async fn evidence_goes_on_over_a_restart_and_a_fresh_server_has_an_empty_chain() {
    let mut stage = Stage::start();
    let empty = stage.home(Method::GET, "/api/evidence", None).await;
    assert_eq!(evidence::verify::verify(&empty.body, &[]).unwrap().records, 0);
    stage.model("m", "model-1").await;
    stage.again();
    stage.model("m2", "model-2").await;
    let file = stage.home(Method::GET, "/api/evidence", None).await;
    let report = evidence::verify::verify(&file.body, &[]).unwrap();
    assert_eq!((report.records, report.signed, report.witnessed), (4, 4, false));
}
