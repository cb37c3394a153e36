//! What a secret is to be beside its value: its kind, whether people have their own in its place, and of a key that others are
//! minted from what its vendor is told. What is not said of one stays as it is.
//!
//! Read [`shared`] and [`own`], then [`fit`].

use super::check::{check_text, check_value};
use crate::fault::Fault;
use crate::mint;
use api::http::SetSecret;
use model::Secret;
use policy::delivery::{self, Custody, TEXT};
use policy::minters::{MINTERS, Minter};
use policy::providers::{PROVIDERS, Provider};
use store::secrets::SecretRow;

/// What a secret is, beside its value.
pub(super) struct Nature {
    pub(super) kind: String,
    pub(super) personal: bool,
    /// Of a key of which others are minted: what its vendor is told.
    pub(super) minter: String,
}

/// What a key of which others are minted is to be: its settings as they were said, or as they are.
fn minting(wish: &SetSecret, now: Option<&SecretRow>) -> Result<Option<Nature>, Fault> {
    let bad = |message: String| Fault::bad("secret.minter", message);
    let kind = match (wish.kind.as_deref(), &wish.minter) {
        (None, Some(minter)) => minter.id(),
        (None, None) => now.map_or("", SecretRow::known),
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
pub(super) fn fit(name: &str, nature: &mut Nature, value: &Secret<String>) -> Result<Secret<String>, Fault> {
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
pub(super) fn shared(wish: &SetSecret, now: Option<&SecretRow>) -> Result<Nature, Fault> {
    if let Some(nature) = minting(wish, now)? {
        return Ok(nature);
    }
    let kind = match wish.kind.as_deref() {
        None => now.map_or("", SecretRow::known),
        Some("custom" | TEXT) => "",
        Some(id) => id,
    };
    if kind.is_empty() {
        let personal = wish.personal.unwrap_or_else(|| now.is_some_and(|row| row.personal && row.known().is_empty()));
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
pub(super) fn own(
    wish: &SetSecret,
    name: &str,
    shared: Option<&SecretRow>,
    now: Option<&SecretRow>,
) -> Result<Nature, Fault> {
    if wish.personal.is_some() {
        let message = "Whether people have values of their own is said of the workspace's value, not of one of these.";
        return Err(Fault::bad("secret.personal", message));
    }
    let kind = match (shared, wish.kind.as_deref()) {
        (Some(shared), said) => {
            let is = if shared.known().is_empty() { "custom" } else { &shared.kind };
            if said.is_some_and(|said| said != is && said != shared.kind) {
                let message = format!("The workspace's {name} is a key of kind {is}; your own is of the same kind.");
                return Err(Fault::bad("secret.kind", message));
            }
            if !shared.personal {
                let message = format!("The workspace's {name} does not allow a person's own value in its place.");
                return Err(Fault::bad("secret.personal", message));
            }
            shared.known().to_owned()
        }
        (None, said) => said.map_or_else(|| now.map_or_else(String::new, |row| row.known().to_owned()), str::to_owned),
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

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    fn wish(kind: Option<&str>, mine: bool, personal: Option<bool>) -> SetSecret {
        let value = api::grants::WireSecret(Secret::new(String::new()));
        SetSecret { value, kind: kind.map(str::to_owned), mine, personal, minter: None }
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
}
