//! Images of registries: whether one may be pulled for a run, recorded before the answer.
//!
//! Only the image that the run's own profile names is granted, and only where the platform pulls it itself. A registry is
//! signed in to with the secret `registry/HOST` of the run's person, or of the workspace, which goes to the gateway with
//! the grant and to nobody else.
//!
//! And images of any kind: whether what one says of itself ([`unfit`]) holds a key, before a box is made of it.

use crate::app::App;
use crate::fault::Fault;
use crate::{egress, grants, now, random, secrets};
use api::grants::{EgressCredential, EgressOutcome, EgressWord, ImageAsk, WireSecret};
use api::images::Word;
use model::event::Verdict;
use model::image::Reference;
use model::profile::Engine;
use model::{Moment, Profile};
use policy::Refusal;
use scrub::Scrubber;
use serde_json::Map;
use std::borrow::Cow;
use store::grants::GrantRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};

/// The rule by which an image is let through.
const RULE: &str = "image.pull";

struct Granted {
    grant: GrantRow,
    /// What the registry is signed in to with.
    secret: Option<SecretRow>,
}

/// What a registry's secret is called.
#[must_use]
pub fn secret_of(reference: &Reference) -> String {
    format!("registry/{}", reference.host.to_ascii_lowercase())
}

/// Judges one pull, records the word and keeps the grant: all in one act.
///
/// # Errors
/// When it could not be recorded; then it is not granted.
pub async fn ask(app: &App, ask: ImageAsk) -> Result<EgressWord, Fault> {
    let (run, at) = (ask.run.clone(), now());
    let Ok(reference) = Reference::parse(&ask.image) else {
        return Ok(EgressWord::Denied { rule: "image.name".into(), why: "That names no image of a registry.".into() });
    };
    let (host, known) = (reference.host.clone(), reference);
    let (word, last) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut row = tx.run(&ask.run).await?;
                let word = judge(tx, &ask, &known, row.as_ref()).await?;
                if let Ok(granted) = &word {
                    tx.reserve(&granted.grant, at).await?;
                    if let Some(secret) = &granted.secret {
                        tx.secret_used(secret, at);
                    }
                }
                let last = record(tx, &ask, &known, row.as_mut(), at, &word).await?;
                Ok::<_, StoreError>((word, last))
            })
        })
        .await?;
    if let Some(n) = last {
        app.live.tell(&run, n);
    }
    let Granted { grant, secret } = match word {
        Ok(granted) => granted,
        Err(no) => return Ok(EgressWord::Denied { rule: no.rule.to_owned(), why: no.why }),
    };
    let Some(secret) = secret else { return Ok(EgressWord::Granted { grant: grant.id, credential: None }) };
    match app.keys.open_secret(&secret) {
        Ok(value) => {
            // The gateway asks the very registry of the grant; it needs neither.
            let credential = EgressCredential {
                value: WireSecret(value),
                secret: secret.name,
                host,
                port: 0,
                until: None,
                lease: None,
                carried: None,
                stored: None,
            };
            Ok(EgressWord::Granted { grant: grant.id, credential: Some(credential) })
        }
        Err(e) => {
            // The word was yes and recorded; nothing will leave.
            egress::settle(app, &grant.id, EgressOutcome { interrupted: true, ..EgressOutcome::default() }).await?;
            Err(Fault::ours("open the registry's secret", &e))
        }
    }
}

async fn judge(
    tx: &mut Tx,
    ask: &ImageAsk,
    reference: &Reference,
    row: Option<&RunRow>,
) -> Result<Result<Granted, Refusal>, StoreError> {
    let row = match grants::standing_run(row) {
        Ok(row) => row,
        Err(no) => return Ok(Err(no)),
    };
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "profile", why: e.to_string() };
    let profile: Profile = serde_json::from_str(&row.profile).map_err(corrupt)?;
    if profile.image.as_deref() != Some(&*ask.image) || profile.engine != Engine::Embedded {
        let why = "The run's profile does not name this image, or has Docker's engine pull it.";
        return Ok(Err(Refusal::new("image.not-named", why)));
    }
    let secret = match secrets::of_person(tx, &secret_of(reference), &row.person).await? {
        Ok(secret) => secret,
        Err(no) => return Ok(Err(no)),
    };
    // Of a registry at another port, the port stands in the host: no known provider's is, and nothing is minted for one.
    if let Some(no) = secret
        .as_ref()
        .and_then(|secret| secrets::belongs(secret, &reference.host.to_ascii_lowercase(), 443, &[]).err())
    {
        return Ok(Err(no));
    }
    Ok(Ok(Granted { grant: GrantRow::allowance(random::grant_id(), ask.run.clone(), 0), secret }))
}

async fn record(
    tx: &mut Tx,
    ask: &ImageAsk,
    reference: &Reference,
    row: Option<&mut RunRow>,
    at: Moment,
    word: &Result<Granted, Refusal>,
) -> Result<Option<u64>, StoreError> {
    let scheme = if reference.is_plain() { "http" } else { "https" };
    let target = format!("{scheme}://{}/v2/{}/manifests/{}", reference.host, reference.repository, reference.digest);
    let (rule, why, grant) = match word {
        Ok(Granted { grant, secret: None }) => {
            (RULE, "The image that the run's profile names, with all its parts.".to_owned(), Some(grant))
        }
        Ok(Granted { grant, secret: Some(secret) }) => {
            let name = &secret.name;
            (
                RULE,
                format!("The image that the run's profile names, with all its parts; signed in to with {name}."),
                Some(grant),
            )
        }
        Err(no) => (no.rule, no.why.clone(), None),
    };
    let verdict = Verdict {
        allowed: grant.is_some(),
        rule: rule.to_owned(),
        method: "GET".to_owned(),
        target: target.chars().take(egress::TARGET_CHARS).collect(),
        why,
        body_sha256: None,
        grant: grant.map(|grant| grant.id.to_string()),
        model: None,
        reserved: None,
    };
    grants::note_with(tx, row, &ask.run, at, verdict, Map::new()).await
}

/// Places that a refusal names; of further ones it says how many.
const NAMED: usize = 8;

/// Why no box is made of an image that says this of itself: a stored secret stands in it, or what has the form of a
/// credential. By names and places alone; none where nothing is in the way.
#[must_use]
pub fn unfit(scrubber: &Scrubber, words: &[Word]) -> Option<String> {
    let holds = |text: &str| matches!(scrubber.scrub_str(text), Cow::Owned(_));
    let found = words.iter().filter(|word| holds(word.text.0.expose()));
    let mut places: Vec<String> = found.map(|word| place(word, &holds)).collect();
    places.dedup();
    let (all, more) = (places.len(), places.len().saturating_sub(NAMED));
    places.truncate(NAMED);
    let mut places = places.join("; ");
    if more > 0 {
        places += &format!("; and {more} more places");
    }
    let why = format!(
        "it holds a stored secret, or what has the form of a credential: {places}. No key is part of an image: build it without, \
         store the key, and name it in a `[[capability]]`."
    );
    // A name can be what was found.
    (all > 0).then(|| scrubber.scrub_str(&why).into_owned())
}

/// Where in the word it was found: the variables that hold it, as far as they can be told apart.
fn place(word: &Word, holds: &dyn Fn(&str) -> bool) -> String {
    let text = word.text.0.expose();
    let parts = text.split_whitespace().filter(|part| holds(part));
    let mut names: Vec<&str> = parts.filter_map(variable).collect();
    if names.is_empty() {
        // A value of several words stands in no part of its own.
        names.extend(variable(text));
    }
    names.dedup();
    if names.is_empty() { word.of.clone() } else { format!("{} ({})", names.join(", "), word.of) }
}

/// The name of a variable that stands before an `=`.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('=')?;
    let is_name =
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(name)
}
