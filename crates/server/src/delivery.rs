//! What a run may bring into its box is looked at before there is a box, on whichever engine it would be: the profile that a
//! run asks for, with the secrets that it names as they are stored now.
//!
//! A refusal is recorded by names only: of the profile, of the row, of the secret. No value is repeated to anyone.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{connections, leases, models, now, profiles, record};
use api::http::{CreateRun, ExecLease};
use model::capability::{Capability, Variable, leasable, leasable_as, secret_of};
use model::egress::WriteRow;
use model::run::RunKind;
use model::{Egress, Profile};
use policy::Refusal;
use scrub::Scrubber;
use serde_json::json;
use std::borrow::Cow;
use store::chain::By;
use store::{StoreError, Tx};

/// Most characters of a refused request that its refusal shows, and how many of them come before what was found.
const MOST_SHOWN: usize = 2_000;
const SHOWN_BEFORE: usize = 200;

/// The profile that a run is to have, when nothing of it would bring a key into a box, and each secret that it names (of a
/// capability, of a row to write, of a repository) is set, or signed in to, and may go where it says.
///
/// # Errors
/// Those of [`profiles::load`], and the refusals of the secret policy, which are recorded as that of a wrong profile is; the
/// store's.
pub async fn profile(app: &App, caller: &Caller, name: &str) -> Result<Profile, Fault> {
    let profile = match profiles::load(&app.profiles, name) {
        Ok(profile) => profile,
        Err(fault) => {
            let code = fault.problem.code.as_str();
            if code == "profile.wrong" {
                // What is said of it shows the line, in which a value may stand.
                refused(app, caller, name, code, "The profile, or the list beside it, is wrong.").await?;
            } else if code.starts_with("delivery.") {
                refused(app, caller, name, code, &fault.problem.message).await?;
            }
            return Err(fault);
        }
    };
    let said = match holds_a_value(app, &profile)? {
        Err(no) => Err(no),
        Ok(()) => secrets(app, caller, &profile).await?,
    };
    match said {
        Ok(()) => Ok(profile),
        Err(no) => {
            let message = format!("The profile {name:?} is refused: {}", no.why);
            refused(app, caller, name, no.rule, &message).await?;
            Err(Fault::bad(no.rule, message))
        }
    }
}

/// The capability and the destination of the lease that an exec's command is to have. The word on it is [`leases::ask`]'s.
///
/// # Errors
/// 400 that says which there are.
pub fn exec_lease(profile: &Profile, wish: ExecLease) -> Result<(String, String), Fault> {
    let no = |message: String| Err(Fault::bad("run.lease", message));
    let ExecLease { capability: name, destination } = wish;
    let Some(row) = leasable_as(&name, &profile.capability, &profile.egress) else {
        let names: Vec<String> =
            leasable(&profile.capability, &profile.egress).into_iter().map(|row| row.name).collect();
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return no(format!("The profile has no capability {:?}; it has {has}.", record::short(&name)));
    };
    if connections::named(&row.secret).is_some() {
        return no(format!(
            "The capability {name:?} is of a connection; an agent asks for leases of those. Without one a command shows ${}, \
             which every `volary exec` finds.",
            api::inbox::HANDLE
        ));
    }
    match (destination, &row.destinations[..]) {
        (Some(destination), _) => Ok((name, destination)),
        (None, [only]) => Ok((name, only.clone())),
        (None, several) => no(format!("The capability {name:?} is for one of {}: name it.", several.join(", "))),
    }
}

/// Writes a refusal down. What it says was put together from names.
async fn refused(app: &App, caller: &Caller, profile: &str, rule: &str, why: &str) -> Result<(), Fault> {
    let scrubbed = |text: &str| record::short(&app.scrubber().scrub_str(text));
    let (who, at) = (caller.person.to_string(), now());
    let more = record::fields(json!({ "profile": scrubbed(profile), "rule": rule, "why": scrubbed(why) }));
    app.store
        .write(move |tx| Box::pin(async move { tx.record(By::Server, at, "run.refused", &who, more).await }))
        .await
        .map_err(|e: StoreError| Fault::from(e))
}

/// Whether some text of the profile is, or looks like, a value that is to stay in the vault.
///
/// # Errors
/// A profile that cannot be written down, and so not be looked through.
fn holds_a_value(app: &App, profile: &Profile) -> Result<Result<(), Refusal>, Fault> {
    let scrubber = app.scrubber();
    for (name, variable) in &profile.variables {
        // By itself, and with its name: a value that only looks random is one where its name says so.
        if let Variable::Literal(text) = variable
            && [text, &format!("{name}={text}")].into_iter().any(|text| holds(&scrubber, text))
        {
            let why = format!(
                "The literal of the variable {name} is a stored secret, or has the form of a credential. Store it, name it in a \
                 `[[capability]]`, and write {{ capability = \"…\" }}: the box gets a handle."
            );
            return Ok(Err(Refusal::new("delivery.literal", why)));
        }
    }
    // Everything else of it reaches a box, its agent or its engine, too. There only what is stored is known to be a secret.
    let whole = serde_json::to_string(profile).map_err(|e| Fault::ours("look the profile through", &e))?;
    if holds(&scrubber.values_alone(), &whole) {
        return Ok(Err(Refusal::new("delivery.literal", "The value of a stored secret stands in it. Take it out.")));
    }
    Ok(Ok(()))
}

fn holds(scrubber: &Scrubber, text: &str) -> bool {
    matches!(scrubber.scrub_str(text), Cow::Owned(_))
}

/// A text without the handles of runs (`vh_` and 52 letters and digits).
fn without_handles(text: &str) -> String {
    const LETTERS: usize = 52;
    let mut parts = text.split("vh_");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_letter = |byte: &u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(byte);
        let letters = part.bytes().take(LETTERS).take_while(is_letter).count();
        rest += "vh_";
        rest += if letters == LETTERS { &part[LETTERS..] } else { part };
    }
    rest
}

/// The model of a person's run, which is to have its key for them.
///
/// # Errors
/// Those of [`models::choose`], of which that its key is for nobody to choose is recorded; the store's.
pub async fn model(
    app: &App,
    caller: &Caller,
    name: &str,
    wished: Option<String>,
    profile: &Profile,
) -> Result<String, Fault> {
    let chosen = models::choose(app, caller.person.as_str(), wished, profile).await;
    if let Err(fault) = &chosen
        && fault.problem.code == "secret.kinds"
    {
        refused(app, caller, name, &fault.problem.code, &fault.problem.message).await?;
    }
    chosen
}

/// Looks a person's wish for a run through: no word of a command, all of which would be in its box, and none of a task, which
/// its agent and model would read, holds a stored secret or has the form of a credential.
///
/// # Errors
/// 400 `run.secret`, which is recorded by names; the store's.
pub async fn request(app: &App, caller: &Caller, profile: &str, wish: &CreateRun) -> Result<(), Fault> {
    match wish.kind {
        RunKind::Agent => task(app, caller, profile, &wish.task).await,
        RunKind::Exec => command(app, caller, profile, &wish.argv).await,
    }
}

/// As [`request`]. The handle of a run is refused here, too: no task has a use for one.
async fn task(app: &App, caller: &Caller, profile: &str, task: &str) -> Result<(), Fault> {
    let scrubber = app.scrubber();
    let Cow::Owned(shown) = scrubber.scrub_str(task) else { return Ok(()) };
    // What it quotes of a transcript, placeholders among it, was found before.
    let (mut quoted, mut what) = (scrub::Shown::default(), scrub::Shown::default());
    quoted.take(task.as_bytes());
    what.take(shown.as_bytes());
    let why = format!(
        "This task holds {}, which its agent and its model would read. Leave the value out. Store the key (`volary secret set`), \
         name it in a `[[capability]]` of the profile, and have the task name that capability.",
        kinds(&what, &quoted)
    );
    no_box(app, caller, profile, why, (task, &shown)).await
}

/// What was found in a request, and is more than `before`: by kind and name.
fn kinds(what: &scrub::Shown, before: &scrub::Shown) -> String {
    let kinds = what.beyond(before).into_keys().map(|found| match found.of_format {
        true => format!("what has the form of a credential ({})", found.kind),
        false => format!("the value of the secret {}", found.kind),
    });
    let mut kinds: Vec<String> = kinds.collect();
    kinds.dedup();
    kinds.join(", ")
}

/// Refuses a request for what it holds, and shows whoever made it where: `shown` is that text scrubbed, nothing where no part
/// of it is to be shown. The record has the names alone.
async fn no_box(
    app: &App,
    caller: &Caller,
    profile: &str,
    why: String,
    (text, shown): (&str, &str),
) -> Result<(), Fault> {
    refused(app, caller, profile, "run.secret", &why).await?;
    let shown = if shown.is_empty() { String::new() } else { format!(" It is: {}", around(text, shown)) };
    Err(Fault::bad("run.secret", why + &shown))
}

/// What of a scrubbed text is shown: all, or a part that begins shortly before the first that was found.
fn around(text: &str, shown: &str) -> String {
    let same = text.chars().zip(shown.chars()).take_while(|(one, other)| one == other).count();
    let (before, all) = (same.saturating_sub(SHOWN_BEFORE), shown.chars().count());
    if all <= MOST_SHOWN {
        return shown.to_owned();
    }
    let part: String = shown.chars().skip(before).take(MOST_SHOWN).collect();
    let (begins, ends) = (if before > 0 { "…" } else { "" }, if all > before + MOST_SHOWN { "…" } else { "" });
    format!("{begins}{part}{ends}")
}

/// As [`request`]; nor has a command a value for a variable in which programs look for a key.
async fn command(app: &App, caller: &Caller, profile: &str, argv: &[String]) -> Result<(), Fault> {
    let scrubber = app.scrubber();
    // What a shell puts there is no value of the request: `$VOLARY_HANDLE` is how a command shows its handle.
    let literal = |value: &str| !matches!(value.trim_start_matches(['"', '\'']).chars().next(), None | Some('$'));
    let given = argv.iter().filter_map(|arg| arg.split_once('=')).filter(|(_, value)| literal(value));
    let names = model::managed::keys_among(given.map(|(name, _)| name));
    let (what, shown) = if names.is_empty() {
        let mut what = scrub::Shown::default();
        for arg in argv {
            // A stored value wherever it stands; a form beside the handles, which are no credential outside their run.
            let rest = without_handles(arg);
            let text = if holds(&scrubber.values_alone(), arg) { arg } else { &rest };
            if let Cow::Owned(shown) = scrubber.scrub_str(text) {
                what.take(format!("{shown}\n").as_bytes());
            }
        }
        (kinds(&what, &scrub::Shown::default()), scrubber.scrub_str(&argv.join(" ")).into_owned())
    } else {
        (format!("a value for {}, where programs look for a key", names.join(", ")), String::new())
    };
    if what.is_empty() {
        return Ok(());
    }
    let why = format!(
        "This command holds {what}, and no box is given one. Store the key (`volary secret set`), name it in a `[[capability]]` of \
         the profile, and have the command use that: `volary exec --lease NAME`, or a variable of the profile with a handle."
    );
    no_box(app, caller, profile, why, (&argv.join(" "), &shown)).await
}

async fn secrets(app: &App, caller: &Caller, profile: &Profile) -> Result<Result<(), Refusal>, Fault> {
    let (capabilities, rows, person) = (profile.capability.clone(), sent(profile), caller.person.to_string());
    if capabilities.is_empty() && rows.is_empty() {
        return Ok(Ok(()));
    }
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if let Err(no) = leases::stored(tx, &capabilities, &person).await? {
                    return Ok(Err(no));
                }
                for sent in &rows {
                    if let Err(no) = fits(tx, sent, &person).await? {
                        return Ok(Err(no));
                    }
                }
                Ok(Ok(()))
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))
}

/// A secret that a profile's row sends somewhere.
struct Sent {
    /// The row, as people read it.
    row: String,
    /// The rule by which a run is refused that would have none.
    missing: &'static str,
    secret: String,
    host: String,
    port: u16,
}

/// The secrets that a profile's rows send somewhere, and the hosts and ports that they are sent to.
fn sent(profile: &Profile) -> Vec<Sent> {
    let repositories = profile.repository.iter().filter_map(|row| {
        let place = policy::git::Place::of(&row.url).ok()?;
        let (secret, host, port) = (row.secret.clone()?, place.host, place.port);
        Some(Sent { row: format!("the repository {:?}", row.id), missing: "secret.missing", secret, host, port })
    });
    let writes = profile.egress.write.iter().filter_map(|row| {
        let host = policy::egress::Name::parse(&row.host).ok()?.as_str().to_owned();
        let secret = secret_of(&profile.capability, &row.capability);
        let named = format!("the row {} {}{}", row.method, row.destination(), row.path);
        Some(Sent { row: named, missing: "capability.missing", secret, host, port: row.port.unwrap_or(443) })
    });
    repositories.chain(writes).collect()
}

/// Whether the secret of a row to write, as it is stored now for a person's runs, is there and may go where the row says.
///
/// # Errors
/// What is in the way, with what to do; the store's.
pub async fn row_fits(
    tx: &mut Tx,
    capabilities: &[Capability],
    row: &WriteRow,
    person: &str,
) -> Result<Result<(), Refusal>, StoreError> {
    let table = Egress { write: vec![row.clone()], ..Egress::default() };
    let profile = Profile { capability: capabilities.to_vec(), egress: table, ..Profile::default() };
    for sent in sent(&profile) {
        if let Err(no) = fits(tx, &sent, person).await? {
            return Ok(Err(no));
        }
    }
    Ok(Ok(()))
}

/// Whether a secret, as it is stored now for a person's runs, is there and may go to this port of its host.
async fn fits(tx: &mut Tx, sent: &Sent, person: &str) -> Result<Result<(), Refusal>, StoreError> {
    let Sent { row, missing, secret: name, host, port } = sent;
    if let Some(connection) = connections::named(name) {
        return connections::stands(tx, connection, host).await;
    }
    Ok(match crate::secrets::of_person(tx, name, person).await? {
        Err(no) => Err(no),
        Ok(Some(secret)) => crate::secrets::may_go(tx, &secret, host, *port).await?,
        Ok(None) => {
            let why = format!("The secret {name:?} of {row} is not set; `volary secret set {name}` sets it.");
            Err(Refusal::new(missing, why))
        }
    })
}
