//! What speaks for or against a lease: the run, its profile, the secret, and how many it had already.

use crate::{connections, git, grants, mint, now, record, secrets};
use api::grants::EgressAsk;
use api::leases::{LeaseAsk, LeaseUser};
use model::capability::{Capability, Delivery, Kind, Variable, declared, leasable, leasable_as, secret_of};
use model::egress::WriteRow;
use model::run::RunKind;
use model::{Egress, LeaseId, Moment, RunId};
use policy::egress::{Name, target};
use policy::lease::Term;
use policy::{Refusal, delivery};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use store::leases::LeaseRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// What a question for a lease is granted.
pub(super) struct Granted {
    pub(super) kind: Kind,
    pub(super) delivery: Delivery,
    pub(super) secret: String,
    pub(super) seconds: u32,
    pub(super) executables: Vec<String>,
}

/// What the use of a lease is given, if it may begin.
pub(super) struct Fit {
    pub(super) secret: SecretRow,
    /// Variables of the profile that hold the capability's handle.
    pub(super) variables: Vec<String>,
}

/// What of a run's profile is asked here, as it is at this moment: a row that a person allowed is in it. A run that was
/// accepted before there were capabilities has none.
#[derive(Deserialize)]
struct Bound {
    #[serde(default)]
    capability: Vec<Capability>,
    #[serde(default)]
    egress: Egress,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
}

impl Bound {
    fn of(row: &RunRow) -> Result<Self, StoreError> {
        Self::read(&row.profile)
    }

    fn read(profile: &str) -> Result<Self, StoreError> {
        serde_json::from_str(profile).map_err(|e| StoreError::Corrupt { what: "profile", why: e.to_string() })
    }

    /// The capability of this name: the profile's own row, or the one that its rows to write make.
    fn find(&self, name: &str) -> Result<Capability, Refusal> {
        leasable_as(name, &self.capability, &self.egress).ok_or_else(|| {
            let names: Vec<String> = leasable(&self.capability, &self.egress).into_iter().map(|row| row.name).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("This run's profile has no capability {:?}; it has {has}.", record::short(name));
            Refusal::new("lease.capability", why)
        })
    }
}

/// Whether a run may have the lease that it asks for.
pub(super) async fn ask(
    tx: &mut Tx,
    ask: &LeaseAsk,
    row: Option<&RunRow>,
    at: Moment,
) -> Result<Result<Granted, Refusal>, StoreError> {
    let row = match grants::standing_run(row) {
        Ok(row) => row,
        Err(no) => return Ok(Err(no)),
    };
    // A command's own handle is not among these: who has that has its lease already.
    let handle = tx.handle(&ask.handle_sha256).await?;
    if let Err(no) = grants::own_handle(handle.as_ref(), &ask.run, at) {
        return Ok(Err(no));
    }
    if handle.is_some_and(|handle| handle.model == git::HANDLE) {
        let why = "This handle is for the run's repositories; a lease is asked for with the run's own.";
        return Ok(Err(Refusal::new("handle.other-capability", why)));
    }
    let bound = Bound::of(row)?;
    let capability = match bound.find(&ask.capability) {
        Ok(capability) => capability,
        Err(no) => return Ok(Err(no)),
    };
    if !capability.destinations.iter().any(|one| is_same(one, &ask.destination)) {
        let why = format!(
            "The capability {:?} is not for this destination; it is for {}.",
            capability.name,
            capability.destinations.join(", ")
        );
        return Ok(Err(Refusal::new("lease.destination", why)));
    }
    let term = match Term::of(&capability) {
        Ok(term) => term,
        Err(why) => return Ok(Err(Refusal::new("lease.term", format!("{why}.")))),
    };
    match secret(tx, &capability, &row.person).await? {
        Ok(secret) if mint::mints(&secret) && capability.delivery != Delivery::Proxy => {
            // What no value can be made for is no lease either.
            if let Err(no) = mint::Plan::of(secret, &ask.destination, mint::Access::of(capability.kind)) {
                return Ok(Err(no));
            }
        }
        Ok(_) => {}
        Err(no) => return Ok(Err(no)),
    }
    let (minute, ever) = tx.leases_granted(&ask.run, &capability.name, at.plus_ms(-60_000)).await?;
    Ok(within(&term, minute, ever, &ask.run).map(|()| Granted {
        kind: capability.kind,
        delivery: capability.delivery.clone(),
        secret: capability.secret.clone(),
        seconds: term.seconds,
        executables: capability.executables.iter().filter_map(|path| path.to_str()).map(str::to_owned).collect(),
    }))
}

pub(super) fn within(term: &Term, minute: u64, ever: u64, run: &RunId) -> Result<(), Refusal> {
    if ever >= u64::from(term.per_run) {
        let why = format!("The run {run} has had all {} leases of this capability.", term.per_run);
        return Err(Refusal::new("lease.per-run", why));
    }
    if minute >= u64::from(term.per_minute) {
        let why = format!("There are {} leases of this capability in a minute, and they are gone.", term.per_minute);
        return Err(Refusal::new("lease.per-minute", why));
    }
    Ok(())
}

/// The secret of a capability for a person's run, when it is there and may travel as the profile says.
async fn secret(tx: &mut Tx, capability: &Capability, person: &str) -> Result<Result<SecretRow, Refusal>, StoreError> {
    if let Some(connection) = connections::named(&capability.secret) {
        let current = connections::current(tx, connection, now()).await?;
        return Ok(current.and_then(|row| delivery::stored(capability, &row.name, &row.kind).map(|()| row)));
    }
    Ok(match secrets::of_person(tx, &capability.secret, person).await? {
        Err(no) => Err(no),
        Ok(Some(row)) => delivery::stored(capability, &row.name, &row.kind).map(|()| row),
        Ok(None) => {
            let Capability { name, secret, .. } = capability;
            let why = format!(
                "The secret {secret:?} of the capability {name:?} is not set; `volary secret set {secret}` sets it."
            );
            Err(Refusal::new("capability.missing", why))
        }
    })
}

/// Whether this is who may use this lease, and what it is given then. Whether it is still open is not asked here.
pub(super) async fn fits(
    tx: &mut Tx,
    row: Option<&RunRow>,
    lease: &LeaseRow,
    by: &LeaseUser,
) -> Result<Result<Fit, Refusal>, StoreError> {
    let row = match grants::standing_run(row) {
        Ok(row) => row,
        Err(no) => return Ok(Err(no)),
    };
    let bound = Bound::of(row)?;
    let capability = match bound.find(&lease.capability) {
        Ok(capability) => capability,
        Err(no) => return Ok(Err(no)),
    };
    if let Err(no) = may(&capability, &lease.destination, by) {
        return Ok(Err(no));
    }
    let variables = bound
        .variables
        .iter()
        .filter(|(_, variable)| matches!(variable, Variable::Handle { capability: of } if *of == capability.name));
    let variables = variables.map(|(name, _)| name.clone()).collect();
    Ok(secret(tx, &capability, &row.person).await?.map(|secret| Fit { secret, variables }))
}

/// Whether leases of a capability that a profile has are for requests of this row.
///
/// # Errors
/// `delivery.channel`, `lease.destination`.
pub fn takes(capability: &Capability, row: &WriteRow) -> Result<(), Refusal> {
    let Capability { name, delivery, destinations, .. } = capability;
    if *delivery != Delivery::Proxy {
        let why = format!("The capability {name:?} travels by {} and goes into no request.", delivery.word());
        return Err(Refusal::new("delivery.channel", why));
    }
    if destinations.iter().any(|one| place(one).is_some_and(|place| Some(place) == self::place(&row.destination()))) {
        return Ok(());
    }
    let why = format!(
        "The profile's own capability {name:?} is for {}, and not for {}: add it to its `destinations`, or name another one.",
        destinations.join(", "),
        row.destination()
    );
    Err(Refusal::new("lease.destination", why))
}

/// Whether a lease of this capability, for this destination, is for this user.
fn may(capability: &Capability, destination: &str, by: &LeaseUser) -> Result<(), Refusal> {
    match by {
        LeaseUser::Command { executable, .. } => {
            let listed: Vec<_> = capability.executables.iter().map(|path| path.display().to_string()).collect();
            // What is given is a handle then, and opens the run's own rows: process 1 has seen that the box cannot write the program.
            let is_any = listed.is_empty() && capability.delivery == Delivery::Proxy && declared(Path::new(executable));
            if is_any || listed.iter().any(|path| path == executable) {
                return Ok(());
            }
            let which = if listed.is_empty() { "any outside the worktree".to_owned() } else { listed.join(", ") };
            let why = format!(
                "{:?} is no program that may use the capability {:?}; declared: {which}.",
                record::short(executable),
                capability.name,
            );
            Err(Refusal::new("lease.executable", why))
        }
        LeaseUser::GitPush { repository, .. } => {
            if capability.kind == Kind::GitPush && capability.delivery == Delivery::Proxy && repository == destination {
                return Ok(());
            }
            let why = "This lease is not for a push to this repository through the git gateway.";
            Err(Refusal::new("lease.destination", why))
        }
    }
}

/// The host and the port of a destination: what stands before its first slash; the port of https where it names none.
fn place(destination: &str) -> Option<(Name, u16)> {
    let text = destination.split('/').next().unwrap_or_default();
    let port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = port.unwrap_or((text, 443));
    Some((Name::parse(host).ok()?, port))
}

/// Whether the path of this request is what a destination says behind its host, or below it, by whole segments. That a path
/// has one reading is judged before.
fn is_below(target: &str, most: &str) -> bool {
    let path = target::absolute(target).ok().and_then(|url| url.path.strip_prefix('/'));
    let rest = path.and_then(|path| path.strip_prefix(most.trim_end_matches('/')));
    most.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// Whether two destinations are one: the same text, or two spellings of one host and port.
fn is_same(one: &str, other: &str) -> bool {
    let host = |text: &str| place(text).filter(|_| !text.contains('/'));
    one == other || host(one).is_some_and(|place| Some(place) == host(other))
}

/// Who uses it, for people and for evidence.
pub(super) fn user(by: &LeaseUser) -> String {
    let text = match by {
        LeaseUser::Command { executable, .. } => format!("the command {executable}"),
        LeaseUser::GitPush { repository, reference } => format!("a push to {repository}, {reference}"),
    };
    text.chars().take(500).collect()
}

/// The connection whose access token a capability of this profile is, so that it can be fresh before the word on it.
#[must_use]
pub fn connection_of(profile: &str, capability: &str) -> Option<String> {
    let bound = Bound::read(profile).ok()?;
    connections::named(&secret_of(&bound.capability, capability)).map(str::to_owned)
}

/// As [`connection_of`], for a lease: there is none of what the profile does not name, and so nothing is refreshed for it.
pub(super) fn connection_of_row(profile: &str, capability: &str) -> Option<String> {
    let bound = Bound::read(profile).ok()?;
    connections::named(&bound.find(capability).ok()?.secret).map(str::to_owned)
}

/// The secret that a request to the outside is given, when it shows a handle that may have it: that of a command which uses
/// a lease of this very capability, which is given then; or a person's command's own. An agent's own is for its model.
///
/// # Errors
/// The store's.
pub async fn shown(
    tx: &mut Tx,
    ask: &EgressAsk,
    run: &RunRow,
    capability: &str,
    handle_sha256: &str,
    at: Moment,
) -> Result<Result<(String, Option<LeaseId>), Refusal>, StoreError> {
    let no = |rule, why: String| Ok(Err(Refusal::new(rule, why)));
    let handle = tx.handle(handle_sha256).await?;
    let lease = if handle.is_none() { tx.lease_of_handle(handle_sha256).await? } else { None };
    let word = match &lease {
        Some(lease) => commands_own(lease, ask, capability, at),
        None => grants::own_handle(handle.as_ref(), &ask.run, at).map(drop),
    };
    if let Err(no) = word {
        return Ok(Err(no));
    }
    let bound = Bound::read(&run.profile)?;
    let declared = bound.capability.iter().find(|row| row.name == capability);
    if let Some(row) = declared.filter(|row| row.delivery != Delivery::Proxy) {
        let why = format!("The capability {capability:?} travels by {} and goes into no request.", row.delivery.word());
        return no("delivery.channel", why);
    }
    match run.kind {
        _ if lease.is_some() => {}
        RunKind::Agent => {
            let why = format!(
                "An agent's own handle is for its model; a request of the capability {capability:?} carries the handle that one \
                 command has under a lease. Ask the tool `lease` for it, and give `shell` the id of that lease."
            );
            return no("handle.lease", why);
        }
        // Its programs, destinations and terms are a lease's.
        RunKind::Exec if declared.is_some() => {
            let why = format!(
                "The profile has a [[capability]] {capability:?}: its use is leased to one command. Start the command with \
                 `volary exec --lease {capability}`."
            );
            return no("handle.lease", why);
        }
        RunKind::Exec => {}
    }
    Ok(Ok((secret_of(&bound.capability, capability), lease.map(|lease| lease.id))))
}

/// Whether the handle of a command, which this lease is for, may go out with this request.
fn commands_own(lease: &LeaseRow, ask: &EgressAsk, capability: &str, at: Moment) -> Result<(), Refusal> {
    let no = |rule, why: &str| Err(Refusal::new(rule, why));
    if lease.run != ask.run {
        return no("handle.other-run", "This handle belongs to another run; use the one this command was given.");
    }
    if at >= lease.expires {
        return no("handle.expired", "This handle is over; a command's handle ends with its lease.");
    }
    if lease.capability != capability {
        return no("handle.other-capability", "This command's handle is for another capability.");
    }
    if place(&lease.destination).is_none_or(|(host, port)| (host.as_str(), port) != (&ask.host, ask.port)) {
        return no(
            "lease.destination",
            "This command's lease is not for a request to this host and port; ask for one that is.",
        );
    }
    if let Some((_, most)) = lease.destination.split_once('/')
        && !is_below(&ask.target, most)
    {
        return no(
            "lease.destination",
            "This command's lease is for another path of this host; ask for one that is for it.",
        );
    }
    Ok(())
}

/// Whether the secrets of a profile's capabilities are set, and may travel as it says, for a person's runs.
///
/// # Errors
/// The first that is not, by name; the store's.
pub async fn stored(tx: &mut Tx, capabilities: &[Capability], person: &str) -> Result<Result<(), Refusal>, StoreError> {
    for capability in capabilities {
        if let Err(no) = secret(tx, capability, person).await? {
            return Ok(Err(no));
        }
        if connections::named(&capability.secret).is_none()
            && let Err(no) = secrets::check_name(&capability.secret)
        {
            return Ok(Err(Refusal::new("capability.secret", no.problem.message)));
        }
    }
    Ok(Ok(()))
}
