//! Where a connection's token may go: to its provider's hosts, and to those that an administrator named with it. A row of a
//! profile that would send it elsewhere is refused, when a run asks for the profile and again at each use.
//!
//! Read [`reaches`], [`sends`], then [`current_at`].

use super::{Kept, closed, current, unknown_here};
use crate::{platform, record};
use api::connections::ConnectionSettings;
use model::Moment;
use policy::Refusal;
use policy::providers::Provider;
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use vault::refresh::Life;

/// Hosts that one connection may name.
pub(super) const MOST: usize = 16;

/// The hosts that a token of this connection is for, as they are written.
fn of(settings: &ConnectionSettings) -> Vec<String> {
    let tokens = platform::named_host(&settings.token_url, settings.internal).map(|named| named.host).ok();
    let known = settings.provider.as_deref().and_then(Provider::of);
    // One that keeps its tokens elsewhere is another: a forge of one's own in the style of a known one.
    let known = known.filter(|known| tokens.as_deref().is_some_and(|host| known.holds(host)));
    let known = known.into_iter().flat_map(|known| known.hosts.iter().map(|host| (*host).to_owned()));
    let mut all: Vec<String> = Vec::new();
    for host in settings.hosts.iter().cloned().chain(tokens).chain(known) {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    all
}

/// Whether what this connection has may go to `host`, a name in lower case without a dot at its end.
fn holds(settings: &ConnectionSettings, host: &str) -> bool {
    of(settings).iter().any(|own| match own.strip_prefix('*') {
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => host == own,
    })
}

/// Whether a token of the connection of this name may go to `host`.
///
/// # Errors
/// `connection.other-host`.
pub(super) fn reaches(name: &str, settings: &ConnectionSettings, host: &str) -> Result<(), Refusal> {
    if holds(settings, host) {
        return Ok(());
    }
    let why = format!(
        "The token of the connection {name:?} is for {}, and not for {:?}. An administrator who sets the connection can name \
         more hosts of its provider: `volary connect add {name} … --host HOST`.",
        of(settings).join(", "),
        record::short(host)
    );
    Err(Refusal::new("connection.other-host", why))
}

/// Whether tokens, and the client's secret, may be sent to this address of the provider's.
///
/// # Errors
/// One sentence that names both.
pub(super) fn sends(settings: &ConnectionSettings, url: &str) -> Result<(), String> {
    let host = platform::named_host(url, settings.internal)?.host;
    if holds(settings, &host) {
        return Ok(());
    }
    Err(format!(
        "{url:?} is at another host than the tokens, which are for {}: it would be sent the client's secret, or a token. If it \
         is the provider's own, name it: `--host {host}`.",
        of(settings).join(", ")
    ))
}

/// Whether a connection's token may go to `host`. One that is not there is not judged: that is said when it is used.
///
/// # Errors
/// The store's.
pub async fn fits(tx: &mut Tx, name: &str, host: &str) -> Result<Result<(), Refusal>, StoreError> {
    match tx.connection(name).await? {
        Some(row) => Ok(reaches(name, &Kept::of(row)?.settings, host)),
        None => Ok(Ok(())),
    }
}

/// Whether somebody is signed in to a connection whose token may go to `host`. That its access token is fresh at this moment
/// is not asked: a new one is fetched when it is used.
///
/// # Errors
/// The store's.
pub async fn stands(tx: &mut Tx, name: &str, host: &str) -> Result<Result<(), Refusal>, StoreError> {
    let Some(row) = tx.connection(name).await? else { return Ok(Err(unknown_here(name))) };
    let kept = Kept::of(row)?;
    Ok(match reaches(name, &kept.settings, host) {
        Ok(()) if kept.standing.life != Life::Live => Err(closed(name, &kept.standing)),
        word => word,
    })
}

/// As [`current`], for a request to `host`.
///
/// # Errors
/// The store's.
pub async fn current_at(
    tx: &mut Tx,
    name: &str,
    host: &str,
    at: Moment,
) -> Result<Result<SecretRow, Refusal>, StoreError> {
    match fits(tx, name, host).await? {
        Ok(()) => current(tx, name, at).await,
        Err(no) => Ok(Err(no)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_providers_hosts_and_those_that_were_named_and_nowhere_else() {
        let settings = |provider: &str, token: &str, hosts: &[&str]| ConnectionSettings {
            provider: Some(provider.to_owned()).filter(|name| !name.is_empty()),
            token_url: token.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..ConnectionSettings::default()
        };
        let may = |settings: &ConnectionSettings, host| reaches("x", settings, host).map_err(|no| no.rule);
        let github = settings("github", "https://github.com/login/oauth/access_token", &[]);
        for host in ["github.com", "api.github.com"] {
            assert_eq!(may(&github, host), Ok(()), "{host}");
        }
        for host in ["gitlab.com", "evil.example", "github.com.evil.example", "notgithub.com"] {
            assert_eq!(may(&github, host), Err("connection.other-host"), "{host}");
        }
        // Each is named once, also where the tokens come from there.
        assert_eq!(of(&settings("gitlab", "https://gitlab.com/oauth/token", &["gitlab.com"])), ["gitlab.com"]);
        // In the style of a known one, elsewhere.
        let own = settings("gitlab", "https://git.corp.example/oauth/token", &[]);
        assert_eq!(may(&own, "git.corp.example"), Ok(()));
        assert_eq!(may(&own, "gitlab.com"), Err("connection.other-host"));
        let named = settings("", "https://auth.example/token", &["api.example"]);
        assert_eq!(may(&named, "auth.example"), Ok(()));
        assert_eq!(may(&named, "api.example"), Ok(()));
        assert_eq!(may(&named, "a.api.example"), Err("connection.other-host"));
        // Nor is a secret sent to an address elsewhere, whichever way it came to stand there.
        for (of, url, may) in [
            (&github, "https://api.github.com/revoke", true),
            (&github, "https://gitlab.com/oauth/revoke", false),
            (&own, "https://git.corp.example/oauth/revoke", true),
            (&own, "https://gitlab.com/oauth/revoke", false),
            (&named, "https://api.example/revoke", true),
            (&named, "https://auth.example.evil.example/revoke", false),
        ] {
            assert_eq!(sends(of, url).is_ok(), may, "{url}");
        }
    }
}
