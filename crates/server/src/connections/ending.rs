//! What of a connection is still to be ended at its provider: sealed, beside its standing, until the provider confirms
//! it. So it is told also after a crash, and after a no; and what comes too late to be kept goes the same way ([`super::late`]).
//!
//! Read [`Ending`], then [`told`].

use super::refresh::tell;
use super::wire::Unkept;
use super::{Kept, late, locked};
use crate::app::App;
use crate::fault::Fault;
use crate::{now, platform, record};
use api::platform::{CallWord, Purpose};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Moment, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::StoreError;
use store::chain::By;
use vault::refresh::{HOLD_MS, Lapse, Life};

/// Waits after a provider that did not confirm, in milliseconds: the first, doubled up to the last.
const AGAIN_MS: (i64, i64) = (10_000, 3_600_000);

/// Most tokens of one connection that are to be ended; the oldest give way.
const MOST: usize = 16;

/// What is still to be ended, and how often the provider was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ending {
    /// In the order in which they are ended.
    tokens: Vec<Left>,
    /// A refresh was under way when the connection was ended: its answer may come yet, with tokens in it.
    pub(super) waits: bool,
    /// How often the provider was told and did not confirm.
    misses: u8,
    /// Not before this moment, unless a person asks for it.
    not_before: Option<Moment>,
    /// It has confirmed something.
    told: bool,
    /// Why it did not confirm, the last time.
    why: String,
}

/// A token that is to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    /// What RFC 7009 calls it.
    hint: Hint,
    /// The version that it is sealed as.
    version: u64,
    /// In base 64.
    sealed: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hint {
    RefreshToken,
    AccessToken,
}

impl Hint {
    fn word(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::AccessToken => "access_token",
        }
    }
}

impl Ending {
    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.tokens.is_empty() && !self.waits
    }

    /// Whether the provider is to be told at `now`, by one who has seen the connection's fence for so long.
    fn due(&self, now: Moment, seen_ms: u64) -> bool {
        // A moment further away than any wait was written by a clock that ran ahead.
        let held = self.not_before.is_some_and(|then| then > now && then.since(now) <= AGAIN_MS.1);
        if self.tokens.is_empty() { !self.waits || seen_ms >= HOLD_MS } else { !held }
    }

    /// How it stands, for people.
    pub(super) fn said(&self, life: Life) -> Option<String> {
        let why = if self.why.is_empty() { "" } else { &self.why };
        let space = if why.is_empty() { "" } else { " " };
        match (life, self.tokens.is_empty()) {
            (Life::Revoking, true) if self.waits => Some(
                "Ended here. A refresh was under way; what comes of it is ended too, in half a minute at the latest."
                    .into(),
            ),
            (Life::Revoking, _) => Some(format!(
                "Ended here; the provider has not confirmed it yet.{space}{why} It is told again by itself; `volary connect remove` \
                 gives that up."
            )),
            (_, false) => Some(format!("Tokens of before are still to be ended at the provider.{space}{why}")),
            _ => None,
        }
    }
}

fn place(name: &str, hint: Hint) -> String {
    format!("connection/{name}/ending/{}", hint.word())
}

impl Kept {
    /// The provider's address for ending tokens, if it has one that they may be sent to.
    pub(super) fn ends_at(&self) -> Option<String> {
        let url = self.settings.revoke_url.clone()?;
        super::hosts::sends(&self.settings, &url).ok().map(|()| url)
    }

    /// Notes tokens as ones that are to be ended, sealed; to be kept with the connection. Without an address nothing is.
    pub(super) fn note_ending(&mut self, app: &App, version: u64, tokens: &Unkept) -> Result<(), Fault> {
        if self.ends_at().is_none() {
            return Ok(());
        }
        // The refresh token first: with it a provider ends what was made of it too (RFC 7009 §2.1).
        for (hint, token) in [(Hint::RefreshToken, &tokens.refresh), (Hint::AccessToken, &tokens.access)] {
            let Some(token) = token else { continue };
            let sealed = app
                .keys
                .seal(&place(&self.row.name, hint), version, token)
                .map_err(|e| Fault::ours("seal a token that is to be ended", &e))?;
            self.ending.tokens.push(Left { hint, version, sealed: STANDARD.encode(sealed) });
        }
        let many = self.ending.tokens.len().saturating_sub(MOST);
        self.ending.tokens.drain(..many);
        self.ending.not_before = None;
        Ok(())
    }

    /// How many of its tokens nobody has ended at its provider, of those that nobody uses either.
    pub(super) fn left(&self) -> u32 {
        // What the provider refused is over there; of this one nobody knows.
        let lapsed = self.standing.life == Life::Lapsed(Lapse::Unknown) && !self.row.refresh.is_empty();
        u32::try_from(self.ending.tokens.len() + usize::from(lapsed)).unwrap_or(u32::MAX)
    }

    /// Whether there is nothing to tell its provider, nor to keep of having told it.
    fn is_told(&self) -> bool {
        self.ending.is_over() && self.standing.life != Life::Revoking
    }

    fn opened(&self, app: &App, left: &Left) -> Result<Secret<String>, Fault> {
        let ours = |e: &dyn std::fmt::Display| Fault::ours("open a token that is to be ended", &e);
        let sealed = STANDARD.decode(&left.sealed).map_err(|e| ours(&e))?;
        app.keys.open_sealed(&place(&self.row.name, left.hint), left.version, &sealed).map_err(|e| ours(&e))
    }

    /// Every token that is to be ended, for the scrubber.
    pub(super) fn all_left(&self, app: &App) -> Vec<(String, Secret<String>)> {
        let open = |left: &Left| Some((place(&self.row.name, left.hint), self.opened(app, left).ok()?));
        self.ending.tokens.iter().filter_map(open).collect()
    }
}

/// What a provider said about a token that is to be ended: none, it is; else why not.
fn confirmed(word: &CallWord) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        error: String,
    }
    let (status, body) = match word {
        CallWord::Fault { why, .. } => return Some(why.clone()),
        CallWord::Answered { status, body, .. } => (*status, &body.0),
    };
    // RFC 7009 §2.2.1: a kind that it does not end, or (as some have it, against §2.2) a token that is over there.
    let known = |answer: Answer| matches!(answer.error.as_str(), "unsupported_token_type" | "invalid_token");
    match status {
        200..=299 => None,
        400 if serde_json::from_str(body.expose()).is_ok_and(known) => None,
        _ => Some(format!("It answered with status {status}.")),
    }
}

/// Tells the provider of what is to be ended, if that is due; in a task of its own, for a provider may take its time.
pub(super) fn go_on(app: &App, kept: &Kept) {
    let seen = app.connections.seen_ms(&kept.row.name, kept.standing.fence);
    if kept.is_told() || !kept.ending.due(now(), seen) {
        return;
    }
    let (app, name) = (app.clone(), kept.row.name.clone());
    tokio::spawn(async move {
        if let Err(fault) = told(&app, &name).await {
            tracing::warn!("the provider of {name} was not told what has ended: {}", fault.problem.message);
        }
    });
}

/// The one who tells a connection's provider; there is one at a time in this process.
struct Telling<'a>(&'a App, String);

impl<'a> Telling<'a> {
    fn begin(app: &'a App, name: &str) -> Option<Self> {
        locked(&app.connections.telling).insert(name.to_owned()).then(|| Self(app, name.to_owned()))
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        locked(&self.0.connections.telling).remove(&self.1);
    }
}

/// Tells the provider, and forgets what it has confirmed. With nothing left a connection that was ended is.
///
/// # Errors
/// The store's.
pub(super) async fn told(app: &App, name: &str) -> Result<(), Fault> {
    let Some(_telling) = Telling::begin(app, name) else { return Ok(()) };
    let Some(row) = app.store.connection(name).await? else { return Ok(()) };
    let kept = Kept::of(row)?;
    if kept.is_told() {
        // Whoever told it last came in between.
        return Ok(());
    }
    let (mut ended, mut why) = (Vec::new(), String::new());
    if let Some(url) = kept.ends_at() {
        for left in &kept.ending.tokens {
            // One that cannot be told keeps neither the others nor what came of them.
            match tell_of(app, &kept, &url, left).await {
                Ok(None) => ended.push(left.clone()),
                Ok(Some(not)) => why = not,
                Err(fault) => why = fault.problem.message,
            }
        }
    }
    let (ours, tried) = (app.clone(), kept);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let name = &tried.row.name;
                let Some(row) = tx.connection(name).await? else { return Ok(()) };
                let mut kept = Kept::of(row)?;
                if kept.row.set_at != tried.row.set_at || kept.is_told() {
                    return Ok(());
                }
                settle(&ours, tx, &mut kept, (&tried.ending, &ended, why)).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    tell(app).await;
    Ok(())
}

/// Has the provider end one token; why it did not say that it is ended, if so.
async fn tell_of(app: &App, kept: &Kept, url: &str, left: &Left) -> Result<Option<String>, Fault> {
    let secret = kept.client_secret(app)?;
    let token = kept.opened(app, left)?;
    let fields = [("token", token.expose().as_str()), ("token_type_hint", left.hint.word())];
    let call =
        kept.form(secret.as_ref(), Purpose::Revoke, url, &fields).map_err(|why| Fault::ours("end a token", &why))?;
    Ok(confirmed(&platform::call(app, "server", call).await?))
}

/// Keeps what came of telling the provider: of `tried`, these were `ended`.
async fn settle(
    app: &App,
    tx: &mut store::Tx,
    kept: &mut Kept,
    (tried, ended, why): (&Ending, &[Left], String),
) -> Result<(), StoreError> {
    let (at, has_url) = (now(), kept.ends_at().is_some());
    let seen = app.connections.seen_ms(&kept.row.name, kept.standing.fence);
    let mut ending = std::mem::take(&mut kept.ending);
    ending.tokens.retain(|left| has_url && !ended.contains(left));
    ending.told |= !ended.is_empty();
    ending.waits &= has_url && kept.standing.life == Life::Revoking && seen < HOLD_MS;
    // What came while the provider was told waits for nothing.
    let missed = ending.tokens.iter().any(|left| tried.tokens.contains(left));
    let new = ending.tokens.iter().any(|left| !tried.tokens.contains(left));
    if missed {
        let wait = AGAIN_MS.0.saturating_mul(1 << i64::from(ending.misses.min(20))).min(AGAIN_MS.1);
        ending.misses = ending.misses.saturating_add(1);
        ending.not_before = Some(at.plus_ms(wait)).filter(|_| !new);
    }
    ending.why = why;
    let over = ending.is_over();
    let more = json!({
        "connection": kept.row.name, "told": over && ending.told, "address": has_url, "left": ending.tokens.len(),
        "why": ending.why,
    });
    let mut standing = kept.standing.clone();
    if !over {
        kept.ending = ending;
    } else if standing.life == Life::Revoking {
        standing = standing.revoked();
    }
    if over && late::of(&kept.row.name).is_some() {
        tx.remove_connection(&kept.row.name).await?;
    } else {
        kept.keep(tx, standing).await?;
    }
    tx.record(By::Server, at, "connection.ended", "server", record::fields(more)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::grants::WireSecret;

    #[test]
    fn a_token_is_ended_when_its_provider_says_so_and_by_no_other_answer() {
        let answered = |status, body: &str| {
            confirmed(&CallWord::Answered {
                status,
                headers: Vec::new(),
                body: WireSecret(Secret::new(body.to_owned())),
            })
            .is_none()
        };
        for (status, body) in [
            (200, ""),
            (204, ""),
            (400, r#"{"error":"unsupported_token_type"}"#),
            (400, r#"{"error":"invalid_token","error_description":"x"}"#),
        ] {
            assert!(answered(status, body), "{status} {body}");
        }
        for (status, body) in [
            (302, ""),
            (400, ""),
            (400, r#"{"error":"invalid_request"}"#),
            (400, r#"{"error":"invalid_client"}"#),
            (401, r#"{"error":"invalid_client"}"#),
            (401, r#"{"error":"invalid_token"}"#),
            (403, ""),
            (404, ""),
            (408, ""),
            (429, ""),
            (500, ""),
            (503, r#"{"error":"unsupported_token_type"}"#),
        ] {
            assert!(!answered(status, body), "{status} {body}");
        }
        let fault = CallWord::Fault { unsent: true, rule: "x".into(), why: "It was not reached.".into() };
        assert_eq!(confirmed(&fault).as_deref(), Some("It was not reached."));
    }

    #[test]
    fn a_provider_is_told_again_after_its_wait_and_no_clock_puts_it_off_for_ever() {
        let left = Left { hint: Hint::AccessToken, version: 1, sealed: String::new() };
        let ending = |not_before| Ending { tokens: vec![left.clone()], not_before, ..Ending::default() };
        assert!(ending(None).due(Moment(5), 0));
        assert!(!ending(Some(Moment(6))).due(Moment(5), HOLD_MS));
        assert!(ending(Some(Moment(5))).due(Moment(5), 0));
        assert!(ending(Some(Moment(6 + AGAIN_MS.1))).due(Moment(5), 0));
        // An answer that may come is waited for as long as a request may be under way.
        let waits = Ending { waits: true, ..Ending::default() };
        assert!(!waits.due(Moment(5), HOLD_MS - 1) && waits.due(Moment(5), HOLD_MS));
    }
}
