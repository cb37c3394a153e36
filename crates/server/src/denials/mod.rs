//! Refusals, explained; and a person's answer to one: the narrowest row that would have allowed it.
//!
//! A refusal is a verdict in the run's transcript, written by the server. What would allow it is worked out from that
//! verdict by the same tables that refused it. It is offered to nobody but people: no route of a box leads here, and
//! nothing that a box says is a row ([`change`]).
//!
//! Accepting takes the permit to edit that profile ([`EditProfile`]) and what the person saw, told back. It is recorded
//! first; then the run's own table has the row, which the gateway asks for before its next refusal, and the profile's
//! file ([`mod@file`]). Runs of other profiles, and other runs of this one that are under way, keep the tables that they
//! were accepted with.
//!
//! Read [`list`], [`show`], [`allow`].

pub mod change;
pub mod file;
pub mod repair;
mod wall;

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{delivery, leases, now, random, record};
use api::denials::{Allow, Allowed, ChangeView, DenialView, ProposalView, Terms};
use change::{Change, Unfit};
use file::{Seen, Staged};
use model::egress::WriteRow;
use model::event::Verdict;
use model::{Egress, Event, Profile, RunId};
use policy::Refusal;
use policy::access::Scope;
use policy::egress::{Law, Proposal, why_none};
use serde_json::json;
use std::collections::HashMap;
use store::StoreError;
use store::chain::By;
use store::runs::RunRow;

/// Refusals of one run that are looked at, and different ones that are listed; of more the first.
const LOOKED_AT: u32 = 20_000;
const LISTED: usize = 500;

/// The right to change one profile: found and authorised in one step, and used up by the change.
#[derive(Debug)]
pub struct EditProfile {
    profile: String,
    person: String,
}

impl EditProfile {
    /// The caller's right to change `profile`.
    ///
    /// # Errors
    /// 403 for who has none.
    pub fn of(caller: &Caller, profile: &str) -> Result<Self, Fault> {
        if !caller.scopes.holds(Scope::ProfilesEdit) {
            let message = format!("This takes the scope {}, which you do not have.", Scope::ProfilesEdit);
            return Err(Fault::forbidden(&message));
        }
        Ok(Self { profile: profile.to_owned(), person: caller.person.to_string() })
    }
}

/// A refusal with the verdict that it is.
struct Denial {
    view: DenialView,
    verdict: Verdict,
}

/// What a run was refused, in the order in which it first was.
///
/// # Errors
/// 404, and the store's.
pub async fn list(app: &App, run: &RunId) -> Result<Vec<DenialView>, Fault> {
    let row = row(app, run).await?;
    Ok(all(app, &row).await?.into_iter().map(|denial| denial.view).collect())
}

/// Refusal `n` of a run.
///
/// # Errors
/// 404, and the store's.
pub async fn show(app: &App, run: &RunId, n: u64) -> Result<DenialView, Fault> {
    let row = row(app, run).await?;
    Ok(find(app, &row, n).await?.view)
}

async fn row(app: &App, run: &RunId) -> Result<RunRow, Fault> {
    let unknown = || Fault::missing("run.unknown", format!("There is no run {run}; `volary runs` lists them."));
    app.store.run(run).await?.ok_or_else(unknown)
}

async fn find(app: &App, row: &RunRow, n: u64) -> Result<Denial, Fault> {
    all(app, row).await?.into_iter().find(|denial| denial.view.n == n).ok_or_else(|| {
        let run = &row.run;
        Fault::missing(
            "denial.unknown",
            format!("The run {run} has no refusal {n}; `volary explain {run}` lists them."),
        )
    })
}

async fn all(app: &App, row: &RunRow) -> Result<Vec<Denial>, Fault> {
    let egress = table(&row.profile)?;
    let law = Law::of(&egress).ok();
    let mut all: Vec<Denial> = Vec::new();
    let mut known: HashMap<(String, String, String), usize> = HashMap::new();
    for entry in app.store.refusals(&row.run, LOOKED_AT).await? {
        let Event::Verdict(verdict) = entry.event() else { continue };
        if verdict.allowed {
            continue;
        }
        let key = (verdict.rule.clone(), verdict.method.clone(), verdict.target.clone());
        if let Some(at) = known.get(&key) {
            let view: &mut DenialView = &mut all[*at].view;
            view.times += 1;
            view.last = entry.at;
            continue;
        }
        if all.len() >= LISTED {
            continue;
        }
        known.insert(key, all.len());
        let proposal = law.as_ref().and_then(|law| offered(law, &verdict));
        let proposal = proposal.map(|(change, Proposal { toml, opens })| ProposalView {
            blank: change.blank(),
            holds: change.is_in(&egress, &verdict),
            toml,
            opens,
        });
        let view = DenialView {
            n: all.len() as u64 + 1,
            entry: entry.n,
            first: entry.at,
            last: entry.at,
            times: 1,
            rule: verdict.rule.clone(),
            method: verdict.method.clone(),
            target: verdict.target.clone(),
            why: verdict.why.clone(),
            wall: wall::of(&verdict.rule).to_owned(),
            profile: row.profile_name.clone(),
            unoffered: proposal.is_none().then(|| why_none(&verdict.rule, &verdict.target)),
            proposal,
        };
        all.push(Denial { view, verdict });
    }
    Ok(all)
}

/// What would allow a refused request; none for what no row allows.
fn offered(law: &Law, refused: &Verdict) -> Option<(Change, Proposal)> {
    let proposal = Proposal::of(law, &refused.rule, &refused.method, &refused.target)?;
    Some((Change::of(&proposal.toml)?, proposal))
}

/// The table in a profile as a run keeps it.
fn table(profile: &str) -> Result<Egress, Fault> {
    kept(profile).map(|profile| profile.egress)
}

fn kept(profile: &str) -> Result<Profile, Fault> {
    serde_json::from_str(profile).map_err(|e| Fault::ours("read the run's profile", &e))
}

/// What accepting would do, worked out.
struct Plan {
    row: RunRow,
    view: ChangeView,
    /// The run's profile with the row; none when it stays as it is.
    run: Option<String>,
    /// What the file says now, and what it would say; none when it stays as it is.
    file: Option<(Option<String>, String)>,
    /// SHA-256 of the file, none without one: as it is, and as it would be.
    versions: (Option<String>, Option<String>),
}

/// What accepting the proposal of refusal `n` on these terms would do. Changes nothing.
///
/// # Errors
/// 404; 409 where nothing is offered; 400 for terms that cannot be taken; those of [`mod@file`]; the store's.
pub async fn preview(app: &App, permit: &EditProfile, run: &RunId, n: u64, terms: &Terms) -> Result<ChangeView, Fault> {
    plan(app, permit, run, n, terms).await.map(|plan| plan.view)
}

async fn plan(app: &App, permit: &EditProfile, run: &RunId, n: u64, terms: &Terms) -> Result<Plan, Fault> {
    let row = row(app, run).await?;
    let name = row.profile_name.clone();
    if permit.profile != name {
        return Err(Fault::forbidden("This permit is for another profile."));
    }
    let denial = find(app, &row, n).await?;
    let of_run = kept(&row.profile)?;
    let law = Law::of(&of_run.egress).map_err(|wrong| Fault::conflict("profile.wrong", wrong.to_string()))?;
    let none = || Fault::conflict("denial.final", why_none(&denial.verdict.rule, &denial.verdict.target));
    let (change, Proposal { opens, .. }) = offered(&law, &denial.verdict).ok_or_else(none)?;
    let change = change.filled(terms).map_err(|Unfit { field, why }| Fault::bad(&format!("change.{field}"), why))?;
    if let Change::Write(it) = &change {
        usable(app, &row, &of_run, it).await?;
    }
    let seen = Seen::of(&app.profiles, &name)?;
    let of_file = with(&change, &seen.profile.egress, &denial.verdict)?;
    let of_run_now = if row.state.is_over() { None } else { with(&change, &of_run.egress, &denial.verdict)? };
    let file = match &of_file {
        Some(wider) => Some((seen.text.clone(), file::edited(&name, &seen, &change, wider)?)),
        None => None,
    };
    let run_profile = match of_run_now {
        Some(egress) => {
            let wider = Profile { egress, ..of_run };
            Some(serde_json::to_string(&wider).map_err(|e| Fault::ours("write the profile down", &e))?)
        }
        None => None,
    };
    let hash = |text: &String| random::sha256_hex(text.as_bytes());
    let versions = (seen.text.as_ref().map(hash), file.as_ref().map(|(_, new)| hash(new)));
    let number = format!("{:?}\n{}", seen.text, row.profile);
    let view = ChangeView {
        run: run.clone(),
        n,
        seen: random::sha256_hex(number.as_bytes()),
        toml: change.toml(),
        opens,
        diff: file.as_ref().map_or_else(String::new, |(old, new)| diff(&name, old.as_deref(), new)),
        makes: file.as_ref().is_some_and(|(old, _)| old.is_none()),
        live: run_profile.is_some(),
        done: file.is_none() && run_profile.is_none(),
        profile: name,
    };
    Ok(Plan { row, view, run: run_profile, file, versions })
}

/// Whether a row that a person fills in is one that a run can use: each of its requests would be refused otherwise, and no
/// lease granted for it.
///
/// # Errors
/// 400 at the capability's field, that says what is in the way; the store's.
async fn usable(app: &App, run: &RunRow, profile: &Profile, row: &WriteRow) -> Result<(), Fault> {
    let no = |no: Refusal| Fault::bad("change.capability", no.why);
    if let Some(own) = profile.capability.iter().find(|own| own.name == row.capability) {
        leases::takes(own, row).map_err(no)?;
    }
    let (capabilities, row, person) = (profile.capability.clone(), row.clone(), run.person.clone());
    let look =
        app.store.write(move |tx| Box::pin(async move { delivery::row_fits(tx, &capabilities, &row, &person).await }));
    look.await.map_err(|e: StoreError| Fault::from(e))?.map_err(no)
}

/// A table with the change; none when it allows the refused request already.
fn with(change: &Change, egress: &Egress, refused: &Verdict) -> Result<Option<Egress>, Fault> {
    if let Some(other) = change.other_capability(egress) {
        let message = format!("The profile has this row in the name of the capability {other:?}; change it there.");
        return Err(Fault::conflict("change.other", message));
    }
    if change.is_in(egress, refused) {
        return Ok(None);
    }
    let mut wider = egress.clone();
    change.put_into(&mut wider);
    let field = if matches!(change, Change::Internal(_)) { "change.addresses" } else { "change.row" };
    Law::of(&wider).map_err(|wrong| Fault::bad(field, format!("{wrong}.")))?;
    Ok(Some(wider))
}

fn diff(name: &str, old: Option<&str>, new: &str) -> String {
    let file = format!("profiles/{name}.toml");
    let from = if old.is_some() { file.as_str() } else { "/dev/null" };
    similar::TextDiff::from_lines(old.unwrap_or_default(), new).unified_diff().header(from, &file).to_string()
}

/// Accepts the proposal of refusal `n`, as it was shown.
///
/// # Errors
/// Those of [`preview`]; 409 when the profile's file, or the run's table, is another one than was shown.
pub async fn allow(app: &App, permit: EditProfile, run: &RunId, n: u64, wish: &Allow) -> Result<Allowed, Fault> {
    let (ours, run, wish) = (app.clone(), run.clone(), wish.clone());
    // Its own task: whoever asked may go away, and what was recorded has to be done all the same.
    let done = tokio::spawn(async move { accept(&ours, permit, &run, n, &wish).await }).await;
    done.map_err(|e| Fault::ours("accept a row", &e))?
}

async fn accept(app: &App, permit: EditProfile, run: &RunId, n: u64, wish: &Allow) -> Result<Allowed, Fault> {
    // One at a time: what is worked out below holds until it is done.
    let _editing = app.editing.lock().await;
    let Plan { row, view, run: of_run, file, versions: (from, to) } = plan(app, &permit, run, n, &wish.terms).await?;
    let version = to.clone().or_else(|| from.clone()).unwrap_or_default();
    let answer =
        Allowed { profile: view.profile.clone(), version: version.clone(), changed: !view.done, live: view.live };
    if view.done {
        return Ok(answer);
    }
    if view.seen != wish.seen {
        return Err(file::changed(&view.profile));
    }
    let dir = app.profiles.clone();
    let name = view.profile.clone();
    let staged = match file {
        Some((old, new)) => Some(blocking(move || Staged::new(&dir, &name, old, &new)).await?),
        None => None,
    };
    let event = Event::ProfileChanged {
        denial: n,
        person: permit.person.clone(),
        profile: view.profile.clone(),
        version: version.clone(),
        toml: view.toml.clone(),
        opens: view.opens.clone(),
    };
    let (ours, at, person) = (run.clone(), now(), permit.person.clone());
    let more = json!({
        "run": run, "denial": n, "profile": view.profile, "from": from, "to": to, "live": view.live,
        "table": of_run.as_ref().map(|profile| random::sha256_hex(profile.as_bytes())), "rows": view.toml,
    });
    let (was, stale) = (row.profile.clone(), file::changed(&view.profile));
    let told = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&ours).await?.filter(|row| row.profile == was).ok_or(stale)?;
                tx.record(By::Server, at, "profile.changed", &person, record::fields(more)).await?;
                // A run that is over has said its last word.
                let live = of_run.filter(|_| !row.state.is_over());
                if row.state.is_over() {
                    return Ok(None);
                }
                if let Some(profile) = live {
                    tx.set_profile(&ours, &profile);
                }
                Ok::<_, Fault>(Some(tx.append_to(&mut row, at, &event)?.n))
            })
        })
        .await?;
    if let Some(n) = told {
        if let Some(gateway) = app.gateway() {
            gateway.end_reads(run);
        }
        app.live.tell(run, n);
    }
    let Some(mut staged) = staged else { return Ok(answer) };
    let (staged, put) = blocking(move || {
        let put = staged.put();
        Ok((staged, put))
    })
    .await?;
    if let Err(fault) = put {
        // What lies beside the file stays until this is recorded: a server that is killed before finds it at its start.
        take_back(app, &permit, run, n, &row.profile, &fault).await?;
        blocking(move || staged.remove()).await?;
        return Err(fault);
    }
    Ok(answer)
}

/// It was recorded, and then the file could not be put in its place: the run has its table back, and that is recorded.
async fn take_back(
    app: &App,
    permit: &EditProfile,
    run: &RunId,
    denial: u64,
    profile: &str,
    fault: &Fault,
) -> Result<(), Fault> {
    let (ours, at, person, was) = (run.clone(), now(), permit.person.clone(), profile.to_owned());
    let text = format!("What refusal {denial} was about is not allowed after all: {}", fault.problem.message);
    let more = json!({ "run": run, "denial": denial, "profile": permit.profile, "why": fault.problem.code });
    let told = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(mut row) = tx.run(&ours).await? else { return Ok(None) };
                tx.record(By::Server, at, "profile.unchanged", &person, record::fields(more)).await?;
                tx.set_profile(&ours, &was);
                if row.state.is_over() {
                    return Ok(None);
                }
                Ok::<_, Fault>(Some(tx.append_to(&mut row, at, &Event::Note { text })?.n))
            })
        })
        .await?;
    if let Some(n) = told {
        if let Some(gateway) = app.gateway() {
            gateway.end_reads(run);
        }
        app.live.tell(run, n);
    }
    Ok(())
}

/// What waits for the disk does not hold up what else is served.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act).await.map_err(|e| Fault::ours("write the profile", &e))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Door;
    use model::PersonId;
    use policy::access::Scopes;

    #[test]
    fn what_is_offered_allows_the_very_target_and_of_one_that_was_cut_nothing_is() {
        let long: String = format!("https://a.example.org/one/{}", "x".repeat(300)).chars().take(256).collect();
        for (target, path) in [(long.as_str(), None), ("https://a.example.org/one/xx", Some("/one/xx"))] {
            let refused = Verdict {
                allowed: false,
                rule: "write.no-row".into(),
                method: "POST".into(),
                target: target.into(),
                why: String::new(),
                body_sha256: None,
                grant: None,
                model: None,
                reserved: None,
            };
            let egress = Egress::default();
            let change = offered(&Law::of(&egress).unwrap(), &refused).map(|(change, _)| change);
            let Some(path) = path else {
                assert_eq!(change, None);
                continue;
            };
            let change = change.unwrap();
            let Change::Write(row) = change.filled(&Terms { capability: "a".into(), ..Terms::default() }).unwrap()
            else {
                panic!("no write")
            };
            assert_eq!(row.path, path);
            let law = Law::of(&Egress { write: vec![row], ..egress }).unwrap();
            let host = policy::egress::Name::parse("a.example.org").unwrap();
            let asked = target.strip_prefix("https://a.example.org").unwrap();
            assert!(law.writes(&host, 443, "POST", asked).is_some(), "{asked}");
        }
    }

    #[test]
    fn who_may_do_everything_but_edit_profiles_has_no_permit() {
        let caller = |scopes| Caller {
            person: PersonId::parse("eve").unwrap(),
            name: "Eve".into(),
            scopes,
            door: Door::Tcp,
            session: None,
        };
        let others = Scopes::administrator().iter().filter(|scope| *scope != Scope::ProfilesEdit).collect();
        let fault = EditProfile::of(&caller(others), "default").unwrap_err();
        assert_eq!(fault.status, http::StatusCode::FORBIDDEN);
        assert!(fault.problem.message.contains("profiles.edit"), "{fault}");
        EditProfile::of(&caller(Scopes::NONE.with(Scope::ProfilesEdit)), "default").unwrap();
    }
}
