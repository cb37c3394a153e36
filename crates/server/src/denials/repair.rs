//! What a server that was killed in the middle of an accepted row left behind: a row that was recorded is put into its
//! file, and one that was not is gone.
//!
//! The steps are: the new content is written beside the file (`.NAME.toml.new`) and is on the disk; the record is
//! committed; that content is renamed (`.NAME.toml.put`), exchanged with the file, and what was the file is removed. So
//! what lies beside a file says which step was the last, and the record whether it was accepted. To do it twice changes
//! nothing more. What an administrator wrote in the meantime is never removed: it is the file, or, where they have
//! written the file again since, it is kept under another name.
//!
//! Read `Left`, `decide`, then [`finish`].

use super::file::{self, Beside};
use crate::app::App;
use crate::fault::Fault;
use crate::{now, random, record};
use model::{Event, RunId};
use serde_json::{Value, json};
use std::path::Path;
use store::StoreError;
use store::chain::By;

/// Records that are read at once, from the last one back.
const AT_ONCE: u32 = 500;

/// The last word of the record on a profile's file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepted {
    run: RunId,
    denial: u64,
    /// SHA-256 of the file before, hex; none where there was no file.
    from: Option<String>,
    /// And after.
    to: Option<String>,
    /// It was taken back already.
    back: bool,
}

/// What stands on the disk of one profile, by SHA-256 in hex.
#[derive(Debug, Clone, Copy)]
struct Left<'a> {
    beside: Beside,
    /// Of what lies beside.
    left: &'a str,
    /// Of the file; none where there is none.
    file: Option<&'a str>,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is removed: the row was never accepted, or stands in the file already.
    Remove,
    /// It takes the file's place.
    Put,
    /// Somebody else wrote the file in the meantime, and what they wrote stays in it: what lies beside is removed.
    Theirs,
    /// What lies beside is what somebody else wrote, which the file was exchanged for: it is the file again.
    TheirsBack,
    /// What lies beside is what somebody else wrote, and the file too: it is kept under another name.
    Aside,
}

fn decide(left: Left<'_>, accepted: Option<&Accepted>) -> Step {
    let Some(Accepted { from, to: Some(to), back, .. }) = accepted else {
        // Nothing was put into this file: only what we wrote has the other name.
        return if left.beside == Beside::New { Step::Remove } else { Step::Aside };
    };
    let is_ours = left.left == to;
    match left.beside {
        // Not the content that was accepted last: one that never was.
        Beside::New if !is_ours => Step::Remove,
        _ if is_ours && (*back || left.file == Some(to)) => Step::Remove,
        _ if is_ours && left.file == from.as_deref() => Step::Put,
        _ if is_ours => Step::Theirs,
        _ if Some(left.left) == from.as_deref() => Step::Remove,
        _ if left.file == Some(to) => Step::TheirsBack,
        _ => Step::Aside,
    }
}

/// Finishes what a server before this one began, in every profile of the home.
///
/// # Errors
/// The store's. What cannot be read or written of a profile's file is logged, and tried again at the next start.
pub async fn finish(app: &App) -> Result<(), Fault> {
    for (name, beside) in file::left(&app.profiles) {
        if let Err(fault) = one(app, &name, beside).await {
            tracing::error!(
                "the row that was accepted for the profile {name} is not in its file: {}",
                fault.problem.message
            );
        }
    }
    Ok(())
}

async fn one(app: &App, name: &str, beside: Beside) -> Result<(), Fault> {
    let mut accepted = last(app, name).await?;
    let dir = app.profiles.clone();
    let hash = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => Ok(Some(random::sha256_hex(&bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file::unreadable(path, &e)),
    };
    let mut beside = beside;
    // After an exchange it is looked at again: what lies beside then may have been written a moment ago.
    loop {
        let Some(left) = hash(&beside.of(&dir, name))? else { return Ok(()) };
        let there = hash(&file::place(&dir, name))?;
        let step = decide(Left { beside, left: &left, file: there.as_deref() }, accepted.as_ref());
        tracing::info!("a server before this one left a change of the profile {name} unfinished: {step:?}");
        match step {
            Step::Remove => return file::remove_left(&dir, name),
            Step::Aside => return file::set_aside(&dir, name),
            Step::Put | Step::TheirsBack => {
                file::put_left(&dir, name, beside, there.is_some())?;
                beside = Beside::Put;
            }
            Step::Theirs => {}
        }
        // The file first: what lies beside then says that this is still to be recorded.
        if let (Step::Theirs | Step::TheirsBack, Some(accepted)) = (&step, &mut accepted)
            && !accepted.back
        {
            taken_back(app, name, accepted).await?;
            accepted.back = true;
        }
    }
}

/// The last acceptance for this profile.
async fn last(app: &App, name: &str) -> Result<Option<Accepted>, StoreError> {
    let (mut end, mut back) = (app.store.chain().borrow().n, false);
    while end > 0 {
        let from = end.saturating_sub(u64::from(AT_ONCE));
        let rows = app.store.evidence(from, AT_ONCE).await?;
        for row in rows.iter().rev().filter(|row| row.n <= end) {
            let Ok(record) = serde_json::from_slice::<Value>(&row.body) else { continue };
            if record["profile"] != name {
                continue;
            }
            match record["kind"].as_str() {
                Some("profile.changed") => return Ok(accepted(&record, back)),
                Some("profile.unchanged") => back = true,
                _ => {}
            }
        }
        end = from;
    }
    Ok(None)
}

fn accepted(record: &Value, back: bool) -> Option<Accepted> {
    let text = |field: &str| record[field].as_str().map(str::to_owned);
    let run = RunId::parse(record["run"].as_str()?).ok()?;
    Some(Accepted { run, denial: record["denial"].as_u64()?, from: text("from"), to: text("to"), back })
}

/// It was recorded, and somebody else's file stays: that is recorded, and told where the run is.
async fn taken_back(app: &App, name: &str, accepted: &Accepted) -> Result<(), Fault> {
    let (run, denial, at) = (accepted.run.clone(), accepted.denial, now());
    let more = json!({ "run": run, "denial": denial, "profile": name, "why": "profile.changed" });
    let text = format!(
        "What was accepted of refusal {denial} is not in the profile {name:?}: its file was changed by somebody else while \
         the server was restarted. It holds for this run alone."
    );
    let told = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.record(By::Server, at, "profile.unchanged", "server", record::fields(more)).await?;
                let Some(mut row) = tx.run(&run).await?.filter(|row| !row.state.is_over()) else { return Ok(None) };
                Ok::<_, Fault>(Some(tx.append_to(&mut row, at, &Event::Note { text })?.n))
            })
        })
        .await?;
    if let Some(n) = told {
        app.live.tell(&accepted.run, n);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Accepted {
        let (from, to) = (Some("old".into()), Some("ours".into()));
        Accepted { run: "r".parse().unwrap(), denial: 1, from, to, back: false }
    }

    #[test]
    fn of_every_state_of_the_disk_the_record_says_what_is_finished_and_what_is_gone() {
        let new_file = Accepted { from: None, ..accepted() };
        let back = Accepted { back: true, ..accepted() };
        let of_the_run_alone = Accepted { to: None, ..accepted() };
        for (beside, left, file, accepted, step) in [
            // Killed before the record.
            (Beside::New, "ours", Some("old"), None, Step::Remove),
            (Beside::New, "next", Some("ours"), Some(accepted()), Step::Remove),
            (Beside::New, "ours", Some("old"), Some(of_the_run_alone), Step::Remove),
            // After it.
            (Beside::New, "ours", Some("old"), Some(accepted()), Step::Put),
            (Beside::Put, "ours", Some("old"), Some(accepted()), Step::Put),
            (Beside::New, "ours", None, Some(new_file.clone()), Step::Put),
            (Beside::Put, "ours", None, Some(new_file.clone()), Step::Put),
            // After the exchange.
            (Beside::Put, "old", Some("ours"), Some(accepted()), Step::Remove),
            // Somebody wrote the file in between.
            (Beside::New, "ours", Some("theirs"), Some(accepted()), Step::Theirs),
            (Beside::Put, "ours", Some("theirs"), Some(accepted()), Step::Theirs),
            (Beside::Put, "ours", None, Some(accepted()), Step::Theirs),
            (Beside::New, "ours", Some("theirs"), Some(new_file), Step::Theirs),
            (Beside::Put, "theirs", Some("ours"), Some(accepted()), Step::TheirsBack),
            // Taken back already.
            (Beside::Put, "ours", Some("theirs"), Some(back.clone()), Step::Remove),
            (Beside::Put, "ours", Some("old"), Some(back.clone()), Step::Remove),
            (Beside::Put, "theirs", Some("ours"), Some(back.clone()), Step::TheirsBack),
            // They wrote it twice: what was exchanged out of the file, or back into it, is theirs.
            (Beside::Put, "theirs", Some("theirs, later"), Some(accepted()), Step::Aside),
            (Beside::Put, "theirs", Some("theirs, later"), Some(back), Step::Aside),
            (Beside::Put, "theirs", None, Some(accepted()), Step::Aside),
            (Beside::Put, "theirs", Some("old"), None, Step::Aside),
        ] {
            assert_eq!(decide(Left { beside, left, file }, accepted.as_ref()), step, "{beside:?} {left} {file:?}");
        }
    }
}
