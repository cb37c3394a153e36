//! Secrets: set, listed by name, replaced, removed. No function of the server's API gives a value back.
//!
//! A key that is set as one of a known provider's is *managed*: it goes into requests to that provider's hosts and
//! nowhere else. Of a key that allows it a person may have a value of their own, which their runs get in place of the workspace's.
//!
//! Read [`set`], [`replace`], [`remove`], then [`belongs`].

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{leases, mint, models, now, record};
use api::http::{SecretRemoved, SecretView, SetSecret};
use model::{Moment, Secret};
use policy::Refusal;
use policy::delivery::{self, Custody, TEXT};
use policy::minters::{MINTERS, Minter};
use policy::providers::{PROVIDERS, Provider};
use serde_json::json;
use store::chain::By;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 16_384;

/// Shortest value, in bytes: the scrubber cannot look for less without mangling everything.
pub const MIN_VALUE: usize = scrub::MIN_BYTES;

/// Whether a text is 1 to 64 characters of `a-z`, `0-9`, `-`.
#[must_use]
pub fn plain_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

/// Whether a text is 1 to 128 characters of a host, its port beside it: `a-z`, `0-9`, `.`, `-`, `:`.
fn host_name(text: &str) -> bool {
    let is_one = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':');
    (1..=128).contains(&text.len()) && text.bytes().all(is_one) && !text.starts_with(['-', '.', ':'])
}

/// Checks a secret's name: `model/<name>` for a model's key, `capability/<name>` for what a profile's egress rows name,
/// `registry/<host[:port]>` for `user:password` at a registry of images.
///
/// # Errors
/// 400.
pub fn check_name(name: &str) -> Result<(), Fault> {
    match name.split_once('/') {
        Some(("model" | "capability", rest)) if plain_name(rest) => Ok(()),
        Some(("registry", host)) if host_name(host) => Ok(()),
        _ => {
            let message = format!(
                "{name:?} is no secret's name: it is `model/` or `capability/` and 1 to 64 characters of a-z, 0-9 and '-', \
                 or `registry/` and a host."
            );
            Err(Fault::bad("secret.name", message))
        }
    }
}

fn check_length(value: &str) -> Result<(), Fault> {
    if !(MIN_VALUE..=MAX_VALUE).contains(&value.len()) {
        let message = format!("A secret takes {MIN_VALUE} to {MAX_VALUE} bytes; this one has {}.", value.len());
        return Err(Fault::bad("secret.length", message));
    }
    Ok(())
}

/// Whether a value can stand in a header.
fn check_value(value: &str) -> Result<(), Fault> {
    check_length(value)?;
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "This secret goes into a header: printable ASCII characters without spaces or line breaks. What a \
                       command reads from a file is a custom secret under `capability/`.";
        return Err(Fault::bad("secret.characters", message));
    }
    Ok(())
}

/// Whether a value can be a file of a command's, or its standard input: printable, with line ends and tabs.
fn check_text(value: &str) -> Result<(), Fault> {
    check_length(value)?;
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        let message = "A secret is printable text; beside that, line ends and tabs may stand in one.";
        return Err(Fault::bad("secret.characters", message));
    }
    Ok(())
}

/// The kind that a secret is stored as, where that is a provider's or a minter's; a text is custom.
fn known(row: &SecretRow) -> &str {
    if row.kind == TEXT { "" } else { &row.kind }
}

/// Whether the value of this secret ends inside no box, by whatever way: a known provider's key, a model's, or a registry's.
#[must_use]
pub fn managed(row: &SecretRow) -> bool {
    delivery::custody(&row.name, &row.kind) != Custody::Custom
}

/// As [`belongs`], as the models stand in this act.
///
/// # Errors
/// The store's.
pub async fn may_go(tx: &mut Tx, row: &SecretRow, host: &str, port: u16) -> Result<Result<(), Refusal>, StoreError> {
    let mut of_models = Vec::new();
    // No other asks whose model it is.
    if row.name.starts_with("model/") && row.kind.is_empty() {
        for model in tx.models().await? {
            let model = models::parse(&model)?;
            if model.secret.as_deref() == Some(row.name.as_str()) {
                of_models.extend(models::host(&model));
            }
        }
    }
    Ok(belongs(row, host, port, &of_models))
}

/// Whether a secret may go into a request to this port of `host`: a known provider's key goes to its provider's hosts alone, a
/// registry's to that registry, a model's without a provider to where one of the models lies that it is for (`of_models`), and
/// what is minted of a key to the port that its settings name, too.
///
/// # Errors
/// `secret.other-host`.
pub fn belongs(row: &SecretRow, host: &str, port: u16, of_models: &[(String, u16)]) -> Result<(), Refusal> {
    let no = |whose: String| {
        let why = format!("{whose} and not for {:?}.", record::short(&mint::at(host, port)));
        Err(Refusal::new("secret.other-host", why))
    };
    if let Some(registry) = row.name.strip_prefix("registry/")
        && registry != mint::at(host, port)
    {
        return no(format!("The secret {:?} is for that registry", row.name));
    }
    if row.name.starts_with("model/")
        && row.kind.is_empty()
        && !of_models.iter().any(|(own, at)| own == host && *at == port)
    {
        return no(format!("The secret {:?} is a model's key, which is for that model's own host", row.name));
    }
    if mint::mints(row) {
        return if mint::belongs(row, host, port) {
            Ok(())
        } else {
            no(format!("What is minted of {:?} is for its vendor's own address", row.name))
        };
    }
    if row.kind == TEXT {
        return no(format!(
            "The secret {:?} has spaces or line ends: it is for a command's file or standard input",
            row.name
        ));
    }
    if row.kind.is_empty() || Provider::of(&row.kind).is_some_and(|provider| provider.holds(host)) {
        return Ok(());
    }
    let hosts = Provider::of(&row.kind).map_or_else(|| "no host".to_owned(), |known| known.hosts.join(", "));
    no(format!("The secret {:?} is a key of {}, which is for {hosts}", row.name, row.kind))
}

fn view(row: SecretRow) -> SecretView {
    SecretView {
        managed: managed(&row),
        minter: serde_json::from_str(&row.minter).ok(),
        name: row.name,
        person: Some(row.person).filter(|person| !person.is_empty()),
        kind: Some(row.kind).filter(|kind| !kind.is_empty()),
        personal: row.personal,
        set_by: row.set_by,
        set_at: row.set_at,
        last_used: row.last_used,
        version: row.version,
    }
}

/// Every value that is set, by name, without the values.
///
/// # Errors
/// The store's.
pub async fn list(app: &App) -> Result<Vec<SecretView>, Fault> {
    // A connection's token is nobody's to set; it is seen with its connection.
    let set = app.store.secrets().await?.into_iter().filter(|row| !row.name.starts_with("connection/"));
    Ok(set.map(view).collect())
}

/// What a secret is, beside its value.
struct Nature {
    kind: String,
    personal: bool,
    /// Of a key of which others are minted: what its vendor is told.
    minter: String,
}

/// What a key of which others are minted is to be: its settings as they were said, or as they are.
fn minting(wish: &SetSecret, now: Option<&SecretRow>) -> Result<Option<Nature>, Fault> {
    let bad = |message: String| Fault::bad("secret.minter", message);
    let kind = match (wish.kind.as_deref(), &wish.minter) {
        (None, Some(minter)) => minter.id(),
        (None, None) => now.map_or("", known),
        (Some(kind), Some(minter)) if minter.id() != kind => {
            return Err(bad(format!("These are the settings of a {}, and not of a {kind:?}.", minter.id())));
        }
        (Some(kind), _) => kind,
    };
    if Minter::of(kind).is_none() {
        return Ok(None);
    }
    if wish.personal == Some(true) || wish.mine {
        let message = format!("A key of the kind {kind} is the workspace's alone; nobody has their own in its place.");
        return Err(Fault::bad("secret.personal", message));
    }
    let minter = match &wish.minter {
        Some(minter) => serde_json::to_string(minter).map_err(|e| Fault::ours("write the settings down", &e))?,
        None => now.filter(|row| row.kind == kind).map(|row| row.minter.clone()).ok_or_else(|| {
            bad(format!("A key of the kind {kind} takes settings: what its vendor is told. See docs/keys.md."))
        })?,
    };
    Ok(Some(Nature { kind: kind.to_owned(), personal: false, minter }))
}

/// The value as it is kept, if it can be one of this nature. Whether a custom one is a text its characters say.
fn fit(name: &str, nature: &mut Nature, value: &Secret<String>) -> Result<Secret<String>, Fault> {
    if nature.minter.is_empty() {
        let is_custom = delivery::custody(name, &nature.kind) == Custody::Custom;
        let is_text = is_custom && !value.expose().bytes().all(|b| b.is_ascii_graphic());
        if is_custom {
            nature.kind = if is_text { TEXT } else { "" }.to_owned();
        }
        if is_text { check_text(value.expose()) } else { check_value(value.expose()) }?;
        return Ok(value.share());
    }
    let minter = serde_json::from_str(&nature.minter).map_err(|e| Fault::ours("read the settings", &e))?;
    let value = mint::check(&minter, value).map_err(|why| Fault::bad("secret.minter", why))?;
    if !matches!(minter, model::mint::Minter::GithubApp(_)) {
        check_value(value.expose())?;
    }
    Ok(value)
}

/// What the workspace's value of this name is to be: what was said, else what it is.
fn shared(wish: &SetSecret, now: Option<&SecretRow>) -> Result<Nature, Fault> {
    if let Some(nature) = minting(wish, now)? {
        return Ok(nature);
    }
    let kind = match wish.kind.as_deref() {
        None => now.map_or("", known),
        Some("custom" | TEXT) => "",
        Some(id) => id,
    };
    if kind.is_empty() {
        let personal = wish.personal.unwrap_or_else(|| now.is_some_and(|row| row.personal && known(row).is_empty()));
        return Ok(Nature { kind: String::new(), personal, minter: String::new() });
    }
    let Some(provider) = Provider::of(kind) else {
        let minters = MINTERS.iter().map(|minter| minter.id);
        let known: Vec<&str> = PROVIDERS.iter().map(|provider| provider.id).chain(minters).collect();
        let message =
            format!("{:?} is no provider that is known: it is `custom`, or one of {}.", kind, known.join(", "));
        return Err(Fault::bad("secret.kind", message));
    };
    if wish.personal == Some(true) && !provider.personal {
        let message = format!("A key of {kind} is the workspace's alone; nobody has their own in its place.");
        return Err(Fault::bad("secret.personal", message));
    }
    let personal = wish.personal.unwrap_or(provider.personal);
    Ok(Nature { kind: provider.id.to_owned(), personal, minter: String::new() })
}

/// What a person's own value of this name is to be: of the workspace's kind, where that allows it.
fn own(wish: &SetSecret, name: &str, shared: Option<&SecretRow>, now: Option<&SecretRow>) -> Result<Nature, Fault> {
    if wish.personal.is_some() {
        let message = "Whether people have values of their own is said of the workspace's value, not of one of these.";
        return Err(Fault::bad("secret.personal", message));
    }
    let kind = match (shared, wish.kind.as_deref()) {
        (Some(shared), said) => {
            let is = if known(shared).is_empty() { "custom" } else { &shared.kind };
            if said.is_some_and(|said| said != is && said != shared.kind) {
                let message = format!("The workspace's {name} is a key of kind {is}; your own is of the same kind.");
                return Err(Fault::bad("secret.kind", message));
            }
            if !shared.personal {
                let message = format!("The workspace's {name} does not allow a person's own value in its place.");
                return Err(Fault::bad("secret.personal", message));
            }
            known(shared).to_owned()
        }
        (None, said) => said.map_or_else(|| now.map_or_else(String::new, |row| known(row).to_owned()), str::to_owned),
    };
    match Provider::of(&kind) {
        Some(provider) if provider.personal => Ok(Nature { kind, personal: true, minter: String::new() }),
        None if shared.is_some() && kind.is_empty() => Ok(Nature { kind, personal: false, minter: String::new() }),
        _ => {
            let message = format!(
                "The workspace has no {name} that allows a person's own value; say which provider's key it is, one of {}.",
                PROVIDERS.iter().filter(|known| known.personal).map(|known| known.id).collect::<Vec<_>>().join(", ")
            );
            Err(Fault::bad("secret.personal", message))
        }
    }
}

/// Whose value is meant: the caller's own, or the workspace's.
fn whose(caller: &Caller, mine: bool) -> String {
    if mine { caller.person.to_string() } else { String::new() }
}

/// Sets a secret, or replaces it. What is not said of it stays as it is.
///
/// # Errors
/// 400 for a name, a kind or a value that cannot be one, and for a value of one's own where the key allows none; the store's.
pub async fn set(app: &App, caller: &Caller, name: &str, wish: SetSecret) -> Result<SecretView, Fault> {
    check_name(name)?;
    let (person, who, at, name) = (whose(caller, wish.mine), caller.person.to_string(), now(), name.to_owned());
    let ours = app.clone();
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let workspaces = tx.secret_of(&name, "").await?;
                let mut nature = if person.is_empty() {
                    shared(&wish, workspaces.as_ref())?
                } else {
                    let before = tx.secret_of(&name, &person).await?;
                    own(&wish, &name, workspaces.as_ref(), before.as_ref())?
                };
                let value = fit(&name, &mut nature, &wish.value.0)?;
                put(tx, &ours, name, person, nature, &value, &who, at, "secret.set").await
            })
        })
        .await?;
    changed(app).await?;
    Ok(view(row))
}

/// Puts a new value in the place of one that is set; everything else of it stays as it is. Leases that are in use go on with
/// what they were given, until their end; one that is used from now on has the new value.
///
/// # Errors
/// 404; 400 for a value that cannot be one; the store's.
pub async fn replace(
    app: &App,
    caller: &Caller,
    name: &str,
    mine: bool,
    value: Secret<String>,
) -> Result<SecretView, Fault> {
    check_name(name)?;
    let (person, who, at, name) = (whose(caller, mine), caller.person.to_string(), now(), name.to_owned());
    let ours = app.clone();
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let before = tx.secret_of(&name, &person).await?.ok_or_else(|| unknown(&name, mine))?;
                let mut nature = Nature { kind: before.kind, personal: before.personal, minter: before.minter };
                let value = fit(&name, &mut nature, &value)?;
                put(tx, &ours, name, person, nature, &value, &who, at, "secret.rotated").await
            })
        })
        .await?;
    changed(app).await?;
    Ok(view(row))
}

#[allow(clippy::too_many_arguments, reason = "the row's own columns, told apart by their types and names")]
async fn put(
    tx: &mut Tx,
    app: &App,
    name: String,
    person: String,
    nature: Nature,
    value: &Secret<String>,
    who: &str,
    at: Moment,
    act: &str,
) -> Result<SecretRow, Fault> {
    let version = tx.next_secret_version(&name, &person).await?;
    let sealed = app.keys.seal_for(&person, &name, version, value).map_err(|e| Fault::ours("seal the secret", &e))?;
    let Nature { kind, personal, minter } = nature;
    let set_by = who.to_owned();
    let row = SecretRow { name, person, kind, personal, sealed, set_by, set_at: at, last_used: None, version, minter };
    tx.set_secret(&row).await?;
    let kind = if row.kind.is_empty() { "custom" } else { &row.kind };
    let more = json!({ "secret": row.name, "person": row.person, "provider": kind, "version": version });
    let mut more = record::fields(more);
    if !row.minter.is_empty() {
        more.insert("minter".into(), row.minter.clone().into());
    }
    tx.record(By::Server, at, act, who, more).await?;
    Ok(row)
}

fn unknown(name: &str, mine: bool) -> Fault {
    let whose = if mine { "You have no value of your own for" } else { "There is no secret" };
    Fault::missing("secret.unknown", format!("{whose} {name:?}; `volary secret list` lists them."))
}

/// The scrubber knows the new values, and the old ones stand in no file any more, sealed or not.
async fn changed(app: &App) -> Result<(), Fault> {
    app.renew_scrubber().await?;
    if !app.store.forget().await? {
        tracing::warn!("what was replaced or deleted stands, sealed, in the database's log until its next checkpoint");
    }
    Ok(())
}

/// Removes a secret: the workspace's value, or with `mine` the caller's own. With it end the leases that are open on it, and what
/// was minted of it where its vendor ends that, which takes the value that was minted and not this one.
///
/// # Errors
/// 404, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str, mine: bool) -> Result<SecretRemoved, Fault> {
    check_name(name)?;
    let (person, who, at, of) = (whose(caller, mine), caller.person.to_string(), now(), name.to_owned());
    let ended = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                // While it is known whose runs have it.
                let ended = leases::value_over(tx, (&of, &person), &who, at).await?;
                if !tx.remove_secret(&of, &person).await? {
                    return Err(unknown(&of, mine));
                }
                let more = json!({ "secret": of, "person": person, "leases": ended.leases.len() });
                tx.record(By::Server, at, "secret.removed", &who, record::fields(more)).await?;
                Ok(ended)
            })
        })
        .await?;
    leases::withdraw(app, &ended.leases);
    changed(app).await?;
    // Also of leases that were over before.
    let minted = app.store.minted(at, false).await?;
    let left = minted.iter().filter(|lease| !mine && lease.secret == name && lease.mint.state == "left");
    Ok(SecretRemoved {
        leases: u32::try_from(ended.leases.len()).unwrap_or(u32::MAX),
        revoking: ended.revoking,
        left_until: left.map(|lease| lease.mint.until).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_split_a_header_or_is_too_short_to_be_found_is_refused() {
        assert!(check_value("sk-1234567").is_ok());
        assert!(check_value("sk-12345\r\nx: y").is_err());
        assert!(check_value(&"k".repeat(MIN_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MIN_VALUE - 1)).is_err());
        assert!(check_value(&"k".repeat(MAX_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MAX_VALUE + 1)).is_err());
    }

    fn wish(kind: Option<&str>, mine: bool, personal: Option<bool>) -> SetSecret {
        let value = api::grants::WireSecret(Secret::new(String::new()));
        SetSecret { value, kind: kind.map(str::to_owned), mine, personal, minter: None }
    }

    fn row(kind: &str, personal: bool) -> SecretRow {
        SecretRow {
            name: "capability/forge".into(),
            person: String::new(),
            kind: kind.into(),
            personal,
            sealed: Vec::new(),
            set_by: String::new(),
            set_at: Moment(1),
            last_used: None,
            version: 1,
            minter: String::new(),
        }
    }

    #[test]
    fn what_is_not_said_of_a_secret_stays_and_a_managed_key_turns_custom_only_when_that_is_said() {
        let said = |wish: &SetSecret, now: Option<&SecretRow>| {
            shared(wish, now).map(|nature| (nature.kind, nature.personal)).map_err(|fault| fault.problem.code)
        };
        let kept = |kind: &str, personal| Ok((kind.to_owned(), personal));
        assert_eq!(said(&wish(None, false, None), None), kept("", false));
        assert_eq!(said(&wish(Some("github"), false, None), None), kept("github", true));
        assert_eq!(said(&wish(Some("github"), false, Some(false)), None), kept("github", false));
        assert_eq!(said(&wish(None, false, None), Some(&row("github", true))), kept("github", true));
        assert_eq!(said(&wish(None, false, None), Some(&row("", true))), kept("", true));
        assert_eq!(said(&wish(Some("custom"), false, None), Some(&row("github", true))), kept("", false));
        assert_eq!(said(&wish(Some("nobody"), false, None), None), Err("secret.kind".into()));
        assert_eq!(said(&wish(Some("aws"), false, Some(true)), None), Err("secret.personal".into()));
        assert_eq!(said(&wish(Some("aws"), false, None), Some(&row("", true))), kept("aws", false));
    }

    #[test]
    fn a_person_has_a_value_of_their_own_where_the_key_allows_it_and_of_the_same_kind() {
        let said = |kind: Option<&str>, shared: Option<&SecretRow>| {
            own(&wish(kind, true, None), "capability/forge", shared, None)
                .map(|nature| (nature.kind, nature.personal))
                .map_err(|fault| fault.problem.code)
        };
        let (personal, kind) = (Err("secret.personal".to_owned()), Err("secret.kind".to_owned()));
        assert_eq!(said(None, Some(&row("", true))), Ok((String::new(), false)));
        assert_eq!(said(None, Some(&row("", false))), personal);
        assert_eq!(said(None, Some(&row("github", true))), Ok(("github".into(), true)));
        assert_eq!(said(Some("gitlab"), Some(&row("github", true))), kind);
        assert_eq!(said(Some("custom"), Some(&row("github", true))), kind);
        assert_eq!(said(None, None), personal);
        assert_eq!(said(Some("github"), None), Ok(("github".into(), true)));
        assert_eq!(said(Some("aws"), None), personal);
        assert_eq!(said(Some("nobody"), None), personal);
        let both = own(&wish(None, true, Some(true)), "capability/forge", Some(&row("", true)), None);
        assert_eq!(both.err().map(|fault| fault.problem.code).as_deref(), Some("secret.personal"));
    }

    #[test]
    fn a_managed_key_goes_to_its_providers_hosts_and_a_custom_one_where_its_row_says() {
        let rule = |kind: &str, host: &str| belongs(&row(kind, false), host, 443, &[]).map_err(|no| no.rule);
        assert_eq!(rule("", "anywhere.example"), Ok(()));
        assert_eq!(rule("github", "api.github.com"), Ok(()));
        assert_eq!(rule("github", "api.github.com.example"), Err("secret.other-host"));
        // A list that lost a line makes nobody's key everybody's.
        assert_eq!(rule("nobody", "api.github.com"), Err("secret.other-host"));
        assert!(managed(&row("github", false)) && !managed(&row("", false)));
        assert!(managed(&SecretRow { name: "model/m".into(), ..row("", false) }));
    }

    #[test]
    fn a_registrys_password_goes_to_that_registry_and_a_models_key_to_that_model_and_both_to_nobody_else() {
        let other = Err("secret.other-host");
        let of = |name: &str, kind: &str| SecretRow { name: name.into(), ..row(kind, false) };
        let rule = |row: &SecretRow, host: &str, port| {
            belongs(row, host, port, &[("m.corp".into(), 8443)]).map_err(|no| no.rule)
        };
        let at_a_port = of("registry/r.corp:5000", "");
        assert_eq!(rule(&at_a_port, "r.corp", 5000), Ok(()));
        // As a profile's name of an image says it.
        assert_eq!(rule(&at_a_port, "r.corp:5000", 443), Ok(()));
        for (host, port) in [("r.corp", 443), ("r.corp", 5001), ("evil.example", 443), ("r.corp.example", 5000)] {
            assert_eq!(rule(&at_a_port, host, port), other, "{host}:{port}");
        }
        assert_eq!(rule(&of("registry/r.corp", ""), "r.corp", 443), Ok(()));
        assert_eq!(rule(&of("registry/api.github.com", "github"), "api.github.com", 443), Ok(()));
        assert_eq!(rule(&of("registry/r.corp", "github"), "api.github.com", 443), other);
        assert_eq!(rule(&of("registry/r.corp", "github"), "r.corp", 443), other);
        let model = of("model/m", "");
        assert_eq!(rule(&model, "m.corp", 8443), Ok(()));
        for (host, port) in [("m.corp", 443), ("evil.example", 8443), ("", 0)] {
            assert_eq!(rule(&model, host, port), other, "{host}:{port}");
        }
        assert_eq!(rule(&of("model/m", "openai"), "api.openai.com", 443), Ok(()));
        assert_eq!(rule(&of("model/m", "openai"), "m.corp", 8443), other);
        for name in ["registry/r.corp", "model/m", "connection/c"] {
            assert!(managed(&of(name, "")), "{name}");
        }
    }

    #[test]
    fn a_name_is_of_a_model_a_capability_or_a_registry_and_nothing_else() {
        for good in ["model/anthropic", "registry/registry.corp:5000", "registry/localhost"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "registry/",
            "registry/a/b",
            "registry/A",
            "registry/../x",
            "registry/a@b",
            "model/",
            "anthropic",
            "model/a/b",
            "git/x",
            "model/../x",
            "model/A",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
