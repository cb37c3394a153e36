//! Rows on a real disk.

use evidence::export::Export;
use model::event::Source;
use model::run::RunKind;
use model::{Event, MicroDollars, Moment, RunId, Usage};
use serde_json::value::RawValue;
use serde_json::{Map, json};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use store::chain::By;
use store::grants::{GrantRow, HandleRow};
use store::keep::TokenRow;
use store::runs::{RunRow, Taken};
use store::secrets::SecretRow;
use store::{SCHEMA, Store, StoreError, Tx};

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a ?#% ü.db");
    (dir, path)
}

fn run_id(text: &str) -> RunId {
    RunId::parse(text).unwrap()
}

async fn add_run(store: &Store, run: &str) -> RunId {
    let row = RunRow::new(run_id(run), RunKind::Agent, Moment(1));
    let id = row.run.clone();
    store.write(move |tx| Box::pin(async move { tx.add_run(&row).await })).await.unwrap();
    id
}

fn note(text: &str) -> Event {
    Event::Note { text: text.into() }
}

async fn take(store: &Store, run: &RunId, seq: u64) -> Taken {
    let run = run.clone();
    let take = store.write(move |tx| {
        Box::pin(async move {
            let event = note(&seq.to_string());
            let raw: Box<RawValue> = serde_json::value::to_raw_value(&event).unwrap();
            tx.take(&run, seq, Moment(5), raw, &event).await
        })
    });
    take.await.unwrap()
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_is_found_whatever_its_name() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    add_run(&store, "r").await;
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    drop(store);
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.run(&run).await.unwrap().unwrap().run, run);
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_with_both_versions_and_left_as_it_was() {
    let (_dir, path) = place();
    Store::open(&path).await.unwrap();
    let url =
        format!("sqlite://{}", path.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23"));
    let mut conn = <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let later = "INSERT INTO schema_versions (version, written_by) VALUES (7000, '9.9.9')";
    sqlx::query(later).execute(&mut conn).await.unwrap();
    let said = Store::open(&path).await.unwrap_err();
    assert!(matches!(said, StoreError::Newer { found: 7000, known: SCHEMA, .. }));
    let said = said.to_string();
    for part in ["9.9.9", "7000", env!("CARGO_PKG_VERSION"), "move the home folder aside"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn an_operators_event_is_taken_once_and_in_order() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    assert!(
        matches!(take(&store, &run, 1).await, Taken::New(entry) if entry.n == 1 && entry.source == Source::Operator)
    );
    assert!(matches!(take(&store, &run, 1).await, Taken::Known));
    assert!(matches!(take(&store, &run, 3).await, Taken::Gap { have: 1 }));
    assert!(matches!(take(&store, &run, 0).await, Taken::Known));
    assert!(matches!(take(&store, &run_id("other"), 1).await, Taken::NoRun));
    assert!(matches!(take(&store, &run, 2).await, Taken::New(entry) if entry.n == 2));
    assert_eq!(store.events(&run, 0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn places_in_a_transcript_have_no_gap_whoever_writes() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (store, run) = (store.clone(), run.clone());
        writers.spawn(async move {
            let act = store.write(move |tx| Box::pin(async move { tx.append(&run, Moment(2), &note("x")).await }));
            act.await.unwrap()
        });
    }
    for seq in 1..=16 {
        take(&store, &run, seq).await;
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let lines = store.events(&run, 0, 1000).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.n).collect::<Vec<_>>(), (1..=80).collect::<Vec<_>>());
    let mut server: Vec<u64> =
        lines.iter().filter(|line| line.source == Source::Server).map(|line| line.source_seq).collect();
    server.sort_unstable();
    assert_eq!(server, (1..=64).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_act_that_fails_leaves_nothing_of_itself_and_spares_its_neighbours() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let mut acts = tokio::task::JoinSet::new();
    for n in 0..64u32 {
        let (store, run) = (store.clone(), run.clone());
        acts.spawn(async move {
            let act = store.write(move |tx| {
                Box::pin(async move {
                    tx.append(&run, Moment(2), &note(&n.to_string())).await?;
                    tx.record(By::Server, Moment(2), "test", "me", Map::new()).await?;
                    if n % 2 == 1 { Err(StoreError::Closed) } else { Ok(()) }
                })
            });
            (n, act.await)
        });
    }
    while let Some(done) = acts.join_next().await {
        let (n, result) = done.unwrap();
        assert_eq!(result.is_ok(), n % 2 == 0, "{n}");
    }
    assert_eq!(store.events(&run, 0, 1000).await.unwrap().len(), 32);
    assert_eq!(store.chain().borrow().n, 32);
    assert_eq!(store.evidence(0, 1000).await.unwrap().len(), 32);
}

#[tokio::test]
async fn sixty_four_writers_make_one_chain_that_verifies_and_goes_on_after_a_restart() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let workspace = "main".parse().unwrap();
    let (signer, _) = evidence::Signer::generate("volary/main").unwrap();
    for half in 0..2 {
        let store = Store::open(&path).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..64u32 {
            let store = store.clone();
            writers.spawn(async move {
                let by = [By::Server, By::Gateway, By::Operator][n as usize % 3];
                let more = json!({ "half": half, "writer": n }).as_object().unwrap().clone();
                let act =
                    store.write(move |tx| Box::pin(async move { tx.record(by, Moment(2), "test", "me", more).await }));
                act.await.unwrap();
            });
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        drop(store);
    }
    let rows = store.evidence(0, 1000).await.unwrap();
    assert_eq!(rows.len(), 128);
    let mut file = Export::new(&workspace, &signer.verifier_key());
    for row in &rows {
        file.record(&row.body);
    }
    let note = signer.sign(&workspace, 128, rows[127].head);
    file.head(&note);
    let report = evidence::verify::verify(&file.finish(), &[note.as_str()]).unwrap();
    assert_eq!((report.records, report.signed, report.witnessed), (128, 128, true));
    assert!(report.gaps.is_empty());
}

#[tokio::test]
async fn evidence_that_is_too_long_takes_its_act_down_with_it() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let long = json!({ "text": "x".repeat(70_000) }).as_object().unwrap().clone();
    let ours = run.clone();
    let act = store.write(move |tx| {
        Box::pin(async move {
            tx.append(&ours, Moment(2), &note("x")).await?;
            tx.record(By::Server, Moment(2), "test", "me", long).await
        })
    });
    assert!(matches!(act.await, Err(StoreError::Corrupt { .. })));
    assert!(store.events(&run, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_new_handle_ends_the_runs_earlier_ones_and_renewal_does_not_wake_the_dead() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let row = move || HandleRow { run: run.clone(), model: "m".into(), expires: Moment(10), dead: false };
    let (one, two) = (row(), row());
    let act = store.write(move |tx| {
        Box::pin(async move {
            tx.add_handle("one", &one).await?;
            tx.add_handle("two", &two).await
        })
    });
    act.await.unwrap();
    store.renew_handles(Moment(99)).await.unwrap();
    let read = store.write(|tx| {
        Box::pin(async move {
            tx.renew_handle("one", Moment(100)).await?;
            Ok::<_, StoreError>((tx.handle("one").await?, tx.handle("two").await?, tx.handle("three").await?))
        })
    });
    let (one, two, three) = read.await.unwrap();
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.dead, one.expires, two.dead, two.expires), (true, Moment(10), false, Moment(99)));
    assert_eq!(three, None);
}

#[tokio::test]
async fn a_reservation_is_replaced_by_what_was_used_once() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let mut grant = GrantRow {
        reads: 0,
        told: 0,
        id: "g".parse().unwrap(),
        run: run.clone(),
        model: "m".into(),
        settled: false,
        reserved_tokens: 50,
        reserved_cost: MicroDollars(70),
        price: model::provider::Price::default(),
    };
    let act = store.write(move |tx| {
        Box::pin(async move {
            tx.reserve(&grant, Moment(1)).await?;
            let mut old = grant.clone();
            let before = tx.standing(&grant.run, "", "", "").await?.spent;
            let usage = Usage { input: 5, output: u64::MAX, ..Usage::default() };
            let first = tx.settle_grant(&mut grant, Moment(2), usage, MicroDollars(9), 200, false).await?;
            let again = tx.settle_grant(&mut grant, Moment(3), usage, MicroDollars(9), 200, false).await?;
            // A row that was read before does not pay twice either.
            tx.settle_grant(&mut old, Moment(3), usage, MicroDollars(9), 200, false).await?;
            let after = tx.standing(&grant.run, "", "", "").await?.spent;
            Ok::<_, StoreError>((before, first, again, after, tx.open_grants().await?))
        })
    });
    let (before, first, again, after, open) = act.await.unwrap();
    assert_eq!((before.reserved_tokens, before.reserved_cost, before.tokens), (50, MicroDollars(70), 0));
    assert_eq!((first, again), (true, false));
    assert_eq!((after.reserved_tokens, after.cost), (0, MicroDollars(9)));
    assert_eq!(after.tokens, 5 + (1 << 50), "a provider's mad count is bounded");
    assert!(open.is_empty());
    assert_eq!(store.run(&run).await.unwrap().unwrap().calls, 1);
}

fn secret(person: &str, sealed: &[u8], version: u64) -> SecretRow {
    SecretRow {
        name: "model/a".into(),
        person: person.into(),
        kind: "anthropic".into(),
        personal: true,
        sealed: sealed.to_vec(),
        set_by: "me".into(),
        set_at: Moment(1),
        last_used: None,
        version,
        minter: String::new(),
    }
}

#[tokio::test]
async fn a_removed_secret_is_gone_with_its_bytes_and_its_versions_go_on() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let act = store.write(|tx| {
        Box::pin(async move {
            assert_eq!(tx.next_secret_version("model/a", "").await?, 1);
            tx.set_secret(&secret("", b"sealed", 1)).await?;
            assert_eq!(tx.secret_of("model/a", "").await?, Some(secret("", b"sealed", 1)));
            assert!(tx.remove_secret("model/a", "").await?);
            assert!(!tx.remove_secret("model/a", "").await?);
            assert_eq!(tx.secret_of("model/a", "").await?, None);
            tx.next_secret_version("model/a", "").await
        })
    });
    assert_eq!(act.await.unwrap(), 2);
    assert!(store.secrets().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_persons_value_and_the_workspaces_are_set_used_and_removed_each_for_itself() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let act = store.write(|tx| {
        Box::pin(async move {
            tx.set_secret(&secret("", b"shared", 1)).await?;
            tx.set_secret(&secret("ada", b"of ada", 1)).await?;
            let taken = async |tx: &mut Tx, person: &str| {
                tx.secret_for("model/a", person).await.unwrap().unwrap().map(|row| row.sealed)
            };
            assert_eq!(taken(tx, "ada").await, Some(b"of ada".to_vec()));
            assert_eq!(taken(tx, "bob").await, Some(b"shared".to_vec()));
            assert_eq!(tx.next_secret_version("model/a", "bob").await?, 1);

            // Within a minute of the last use another is not noted.
            for (at, noted) in [(100, 100), (60_099, 100), (60_100, 60_100)] {
                let row = tx.secret_of("model/a", "ada").await?.unwrap();
                tx.secret_used(&row, Moment(at));
                assert_eq!(tx.secret_of("model/a", "ada").await?.unwrap().last_used, Some(Moment(noted)), "{at}");
            }
            assert_eq!(tx.secret_of("model/a", "").await?.unwrap().last_used, None);
            // A value that was just set was never used, and a use of the one before it is not its own.
            let before = tx.secret_of("model/a", "ada").await?.unwrap();
            tx.set_secret(&secret("ada", b"new", 2)).await?;
            tx.secret_used(&SecretRow { last_used: None, ..before }, Moment(200_000));
            assert_eq!(tx.secret_of("model/a", "ada").await?, Some(secret("ada", b"new", 2)));

            assert!(tx.remove_secret("model/a", "ada").await?);
            assert_eq!(taken(tx, "ada").await, Some(b"shared".to_vec()));
            Ok::<_, StoreError>(())
        })
    });
    act.await.unwrap();
    assert_eq!(store.secrets().await.unwrap(), [secret("", b"shared", 1)]);
}

#[tokio::test]
async fn a_workspaces_key_is_exchanged_for_the_very_one_that_was_there() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let act = store.write(|tx| {
        Box::pin(async move {
            assert!(!tx.exchange_workspace_key("k", b"", b"new").await?);
            assert!(tx.keep_workspace_key("k", b"old").await?);
            assert!(!tx.exchange_workspace_key("k", b"other", b"new").await?);
            tx.exchange_workspace_key("k", b"old", b"new").await
        })
    });
    let exchanged: Result<bool, StoreError> = act.await;
    assert!(exchanged.unwrap());
    assert_eq!(store.workspace_key("k").await.unwrap(), Some(b"new".to_vec()));
}

#[tokio::test]
async fn a_sign_in_link_is_redeemed_once_and_not_at_its_deadline() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let act = store.write(|tx| {
        Box::pin(async move {
            let link = TokenRow { person: "administrator".parse().unwrap(), expires: Moment(100) };
            for hash in ["a", "b"] {
                tx.add_link(hash, &link, Moment(0)).await?;
            }
            Ok::<_, StoreError>((
                tx.redeem_link("a", Moment(99)).await?,
                tx.redeem_link("a", Moment(99)).await?,
                tx.redeem_link("b", Moment(100)).await?,
            ))
        })
    });
    let (first, again, late) = act.await.unwrap();
    assert_eq!((first.map(|p| p.to_string()), again, late), (Some("administrator".into()), None, None));
}

/// Adds a run, reads it back in the same act, adds a line to it, and fails if told so.
async fn act(store: &Store, run: &str, fail: bool) -> Result<(), StoreError> {
    let row = RunRow::new(run_id(run), RunKind::Agent, Moment(1));
    let act = store.write(move |tx| {
        Box::pin(async move {
            tx.add_run(&row).await?;
            let mut read = tx.run(&row.run).await?.unwrap();
            tx.append_to(&mut read, Moment(2), &note("x"))?;
            tx.record(By::Server, Moment(2), "test", "me", Map::new()).await?;
            if fail { Err(StoreError::Closed) } else { Ok(()) }
        })
    });
    act.await
}

#[tokio::test]
async fn an_act_that_fails_after_the_engine_has_some_of_it_leaves_nothing_either() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let all = (0..32).map(|n| {
        let store = &store;
        async move { act(store, &format!("r{n}"), n % 2 == 1).await.is_ok() }
    });
    let kept = futures_util::future::join_all(all).await;
    assert_eq!(kept, (0..32).map(|n| n % 2 == 0).collect::<Vec<_>>());
    assert_eq!(store.runs(100).await.unwrap().len(), 16);
    assert_eq!(store.chain().borrow().n, 16);
    assert_eq!(store.evidence(0, 100).await.unwrap().len(), 16);
    for n in 0..32 {
        assert_eq!(store.events(&run_id(&format!("r{n}")), 0, 10).await.unwrap().len(), 1 - n % 2);
    }
}

#[tokio::test]
async fn what_the_engine_refuses_is_told_and_nothing_beside_it_is_kept_by_halves() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    act(&store, "taken", false).await.unwrap();
    let names: Vec<String> = (0..32).map(|n| if n == 20 { "taken".into() } else { format!("r{n}") }).collect();
    let told = futures_util::future::join_all(names.iter().map(|name| act(&store, name, false))).await;
    assert!(matches!(told[20], Err(StoreError::Sql { act: "add a run", .. })), "{:?}", told[20]);
    let mut kept = 1;
    for (name, told) in names.iter().zip(&told).filter(|(name, _)| *name != "taken") {
        let lines = store.events(&run_id(name), 0, 10).await.unwrap().len();
        assert_eq!(
            (store.run(&run_id(name)).await.unwrap().is_some(), lines),
            (told.is_ok(), usize::from(told.is_ok()))
        );
        kept += u64::from(told.is_ok());
    }
    assert_eq!((store.chain().borrow().n, store.evidence(0, 100).await.unwrap().len() as u64), (kept, kept));
    act(&store, "after", false).await.unwrap();
    assert_eq!(store.chain().borrow().n, kept + 1);
}

#[tokio::test]
async fn an_act_that_nobody_waits_for_is_kept_by_itself_and_seen_by_the_act_behind_it() {
    let (_dir, path) = place();
    let store = Store::open(&path).await.unwrap();
    let run = add_run(&store, "r").await;
    let add = |text: &'static str| {
        let (store, run) = (store.clone(), run.clone());
        async move {
            let act =
                store.write_soon(move |tx| Box::pin(async move { tx.append(&run, Moment(2), &note(text)).await }));
            act.await.map(|entry| entry.n)
        }
    };
    assert_eq!(add("alone").await.unwrap(), 1);
    assert_eq!(store.events(&run, 0, 10).await.unwrap().len(), 1, "it is kept when its caller is told");
    let behind = store.write({
        let run = run.clone();
        move |tx| Box::pin(async move { Ok::<_, StoreError>(tx.run(&run).await?.unwrap().entries) })
    });
    let (first, seen) = tokio::join!(biased; add("with the next"), behind);
    assert_eq!((first.unwrap(), seen.unwrap()), (2, 2));
}
