//! What of a connection is still to be ended at its provider: sealed, beside its standing, until the provider confirms
//! it. So it is told also after a crash, and after a no; and what comes too late to be kept goes the same way ([`super::late`]).
//!
//! Many a provider ends a person's whole grant with any token of it. What a person ended is told at once all the same; what
//! nobody keeps waits until nobody is signed in with its client, for it would end that sign-in ([`When`]).
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
use std::pin::pin;
use std::time::Duration;
use store::StoreError;
use store::chain::By;
use vault::refresh::{HOLD_MS, Lapse, Life};

/// Waits after a provider that did not confirm, in milliseconds: the first, doubled up to the last.
const AGAIN_MS: (i64, i64) = (10_000, 3_600_000);

/// Most tokens of one connection that are to be ended; the oldest give way, which is recorded.
const MOST: usize = 16;

/// How often in a row a provider says no, as one that has read the question, until what is left of a connection that is no more
/// is given up, which is recorded: nobody can set anything about it right.
const NOES: u8 = 16;

/// How long a person's wish waits for whoever tells a provider of the same connection.
const TURN: Duration = Duration::from_secs(20);

/// What is still to be ended, and how often the provider was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ending {
    /// In the order in which they are ended.
    tokens: Vec<Left>,
    /// The fences of refreshes that were under way when the connection was ended: their answers may come yet, with tokens in
    /// them.
    waits_for: Vec<u64>,
    /// How often the provider was told and did not confirm.
    misses: u8,
    /// How often in a row it said no.
    noes: u8,
    /// Not before this moment, unless a person asks for it.
    not_before: Option<Moment>,
    /// It has confirmed something.
    told: bool,
    /// Why it did not confirm, the last time.
    why: String,
    /// Tokens that gave way in this act, to be recorded with it.
    #[serde(skip)]
    pub(super) gave_way: usize,
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
    #[serde(default)]
    when: When,
}

/// When a provider is told of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    /// At once: a person ended what it is of.
    #[default]
    Now,
    /// Once nobody is signed in with its client: nobody has it, and telling could end a sign-in that somebody uses.
    SignedOut,
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
        self.tokens.is_empty() && self.waits_for.is_empty()
    }

    /// The answer to the refresh under this fence may come yet.
    pub(super) fn waits_for(&mut self, fence: u64) {
        self.waits_for.push(fence);
    }

    /// That answer came.
    pub(super) fn came(&mut self, fence: u64) {
        self.waits_for.retain(|of| *of != fence);
    }

    /// A person wants all of it ended, whoever is signed in.
    pub(super) fn all_now(&mut self) {
        self.tokens.iter_mut().for_each(|left| left.when = When::Now);
    }

    /// The tokens of which the provider is told while somebody is signed in with their client, or nobody is.
    fn to_tell(&self, signed_in: bool) -> impl Iterator<Item = &Left> {
        self.tokens.iter().filter(move |left| left.when == When::Now || !signed_in)
    }

    /// Whether the provider is to be told at `now`, by one who has seen the connection's fence for so long.
    fn due(&self, now: Moment, seen_ms: u64, signed_in: bool) -> bool {
        // A moment further away than any wait was written by a clock that ran ahead.
        let held = self.not_before.is_some_and(|then| then > now && then.since(now) <= AGAIN_MS.1);
        if self.tokens.is_empty() {
            self.waits_for.is_empty() || seen_ms >= HOLD_MS
        } else {
            !held && self.to_tell(signed_in).next().is_some()
        }
    }

    /// Whether all that is left is what the provider was told of just now, and has said no of often enough. What came meanwhile, or
    /// was passed over, it has said nothing of.
    fn is_refused(&self, told: &[Left]) -> bool {
        self.noes >= NOES && self.tokens.iter().all(|left| told.contains(left))
    }

    /// How it stands, for people.
    pub(super) fn said(&self, life: Life) -> Option<String> {
        let why = if self.why.is_empty() { "" } else { &self.why };
        let space = if why.is_empty() { "" } else { " " };
        let wait = self.tokens.iter().all(|left| left.when == When::SignedOut);
        match (life, self.tokens.is_empty()) {
            (Life::Revoking, true) if !self.waits_for.is_empty() => Some(
                "Ended here. A refresh was under way; what comes of it is ended too, in half a minute at the latest."
                    .into(),
            ),
            (Life::Revoking, _) => {
                let once = if wait { ", once nobody is signed in with the same client" } else { "" };
                Some(format!(
                    "Ended here; the provider has not confirmed it yet.{space}{why} It is told again by itself{once}; `volary \
                     connect remove` gives that up."
                ))
            }
            (Life::Live, false) if wait => Some(
                "Tokens of before, which nobody uses, are ended at the provider when this sign-in is, and any other with the \
                 same client: some providers end all of a person's with one."
                    .into(),
            ),
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
    pub(super) fn note_ending(&mut self, app: &App, version: u64, tokens: &Unkept, when: When) -> Result<(), Fault> {
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
            self.ending.tokens.push(Left { hint, version, sealed: STANDARD.encode(sealed), when });
        }
        let many = self.ending.tokens.len().saturating_sub(MOST);
        self.ending.tokens.drain(..many);
        self.ending.gave_way += many;
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

/// What a provider said about a token that is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Ended,
    /// It was not reached, or may say something else another time; why.
    NotYet(String),
    /// It has read the question, and will say the same of the same question; why.
    No(String),
}

fn heard(word: &CallWord) -> Heard {
    #[derive(Deserialize)]
    struct Answer {
        error: String,
    }
    let (status, body) = match word {
        CallWord::Fault { why, .. } => return Heard::NotYet(why.clone()),
        CallWord::Answered { status, body, .. } => (*status, &body.0),
    };
    // RFC 7009 §2.2.1: a kind that it does not end, or (as some have it, against §2.2) a token that is over there.
    let known = |answer: Answer| matches!(answer.error.as_str(), "unsupported_token_type" | "invalid_token");
    let why = || format!("It answered with status {status}.");
    match status {
        200..=299 => Heard::Ended,
        400 if serde_json::from_str(body.expose()).is_ok_and(known) => Heard::Ended,
        408 | 425 | 429 => Heard::NotYet(why()),
        400..=499 => Heard::No(why()),
        _ => Heard::NotYet(why()),
    }
}

/// Tells the provider of what is to be ended, if that is due; in a task of its own, for a provider may take its time.
pub(super) fn go_on(app: &App, kept: &Kept) {
    let seen = app.connections.seen_ms(&kept.row.name, kept.standing.fence);
    // Others may be signed in with its client, too: whoever tells looks at those.
    let signed_in = kept.standing.life == Life::Live;
    if kept.is_told() || !kept.ending.due(now(), seen, signed_in) {
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

    /// As [`Telling::begin`], once nobody else tells it.
    async fn in_turn(app: &'a App, name: &str) -> Self {
        loop {
            let mut told = pin!(app.connections.told.notified());
            told.as_mut().enable();
            if let Some(telling) = Self::begin(app, name) {
                return telling;
            }
            told.await;
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        locked(&self.0.connections.telling).remove(&self.1);
        self.0.connections.told.notify_waiters();
    }
}

/// Whether somebody is signed in with the client that these tokens are of, by this connection or by any other.
async fn is_signed_in(app: &App, kept: &Kept) -> Result<bool, Fault> {
    let client = |of: &Kept| (of.settings.client_id.clone(), of.settings.token_url.clone());
    // One that cannot be read gives nobody a token either.
    let all = app.store.connections().await?.into_iter().filter_map(|row| Kept::of(row).ok());
    Ok(all.filter(|of| client(of) == client(kept)).any(|of| of.standing.life == Life::Live))
}

/// What came of telling a provider.
struct Told {
    /// The tokens that it was told of, and of them those that it ended.
    all: Vec<Left>,
    ended: Vec<Left>,
    /// Why not the others, if so.
    why: String,
    /// It said no of every one of these.
    is_no: bool,
    signed_in: bool,
}

/// Tells the provider, and forgets what it has confirmed. With nothing left a connection that was ended is. Nothing while
/// somebody else tells it.
///
/// # Errors
/// The store's.
pub(super) async fn told(app: &App, name: &str) -> Result<(), Fault> {
    match Telling::begin(app, name) {
        Some(telling) => tells(telling).await,
        None => Ok(()),
    }
}

/// As [`told`], for a person, who waits for whoever tells it just now, some seconds at most.
///
/// # Errors
/// The store's.
pub(super) async fn told_in_turn(app: &App, name: &str) -> Result<(), Fault> {
    match tokio::time::timeout(TURN, Telling::in_turn(app, name)).await {
        Ok(telling) => tells(telling).await,
        Err(_) => Ok(()),
    }
}

async fn tells(telling: Telling<'_>) -> Result<(), Fault> {
    let (app, name) = (telling.0, telling.1.as_str());
    let Some(row) = app.store.connection(name).await? else { return Ok(()) };
    let kept = Kept::of(row)?;
    if kept.is_told() {
        // Whoever told it last came in between.
        return Ok(());
    }
    let signed_in = is_signed_in(app, &kept).await?;
    let all: Vec<Left> = kept.ending.to_tell(signed_in).cloned().collect();
    if all.is_empty() && !kept.ending.tokens.is_empty() {
        return Ok(());
    }
    let mut told = Told { all, ended: Vec::new(), why: String::new(), is_no: true, signed_in };
    if let Some(url) = kept.ends_at() {
        for left in &told.all {
            // One that cannot be told keeps neither the others nor what came of them.
            let heard = tell_of(app, &kept, &url, left).await;
            match heard.unwrap_or_else(|fault| Heard::NotYet(fault.problem.message)) {
                Heard::Ended => told.ended.push(left.clone()),
                Heard::No(why) => told.why = why,
                Heard::NotYet(why) => (told.why, told.is_no) = (why, false),
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
                settle(&ours, tx, &mut kept, told).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    tell(app).await;
    Ok(())
}

/// Has the provider end one token.
async fn tell_of(app: &App, kept: &Kept, url: &str, left: &Left) -> Result<Heard, Fault> {
    let secret = kept.client_secret(app)?;
    let token = kept.opened(app, left)?;
    let fields = [("token", token.expose().as_str()), ("token_type_hint", left.hint.word())];
    let call =
        kept.form(secret.as_ref(), Purpose::Revoke, url, &fields).map_err(|why| Fault::ours("end a token", &why))?;
    Ok(heard(&platform::call(app, "server", call).await?))
}

/// Keeps what came of telling the provider.
async fn settle(app: &App, tx: &mut store::Tx, kept: &mut Kept, told: Told) -> Result<(), StoreError> {
    let (at, has_url) = (now(), kept.ends_at().is_some());
    let seen = app.connections.seen_ms(&kept.row.name, kept.standing.fence);
    let mut ending = std::mem::take(&mut kept.ending);
    ending.tokens.retain(|left| has_url && !told.ended.contains(left));
    ending.told |= !told.ended.is_empty();
    if !has_url || kept.standing.life != Life::Revoking || seen >= HOLD_MS {
        ending.waits_for.clear();
    }
    // What came while the provider was told waits for nothing.
    let missed = ending.tokens.iter().any(|left| told.all.contains(left));
    let new = ending.to_tell(told.signed_in).any(|left| !told.all.contains(left));
    ending.noes = if missed && told.is_no { ending.noes.saturating_add(1) } else { 0 };
    if missed {
        let wait = AGAIN_MS.0.saturating_mul(1 << i64::from(ending.misses.min(20))).min(AGAIN_MS.1);
        ending.misses = ending.misses.saturating_add(1);
        ending.not_before = Some(at.plus_ms(wait)).filter(|_| !new);
    }
    ending.why = told.why;
    let over = ending.is_over();
    let is_apart = late::of(&kept.row.name).is_some();
    let given_up = is_apart && ending.is_refused(&told.all);
    let more = json!({
        "connection": kept.row.name, "told": over && ending.told, "address": has_url, "left": ending.tokens.len(),
        "given_up": given_up, "why": ending.why,
    });
    let mut standing = kept.standing.clone();
    if !over {
        kept.ending = ending;
    } else if standing.life == Life::Revoking {
        standing = standing.revoked();
    }
    if is_apart && (over || given_up) {
        tx.remove_connection(&kept.row.name).await?;
    } else {
        kept.keep(tx, standing).await?;
    }
    tx.record(By::Server, at, "connection.ended", "server", record::fields(more)).await
}

#[cfg(test)]
mod tests;
