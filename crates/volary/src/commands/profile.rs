//! `volary profile`: the profiles of this home, and all that is wrong with one before a run meets it.
//!
//! Read [`check`], then [`keys`] (how the secrets stand that a profile names; `volary reach` says it too).

use super::{platform, show};
use crate::client::Client;
use crate::home::Home;
use api::connections::ConnectionView;
use api::http::{ModelView, SecretView};
use clap::Subcommand;
use model::{Moment, Profile};
use policy::delivery::{self, TEXT};
use sandbox::harden::{self, HostFacts};
use serde_json::json;
use server::profiles;
use std::time::SystemTime;

/// `volary profile list | check [PROFILE]`
#[derive(Debug, Clone, Subcommand)]
pub enum Act {
    /// List them
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say all that is wrong with a profile, with what it names too: secrets, its model, programs
    Check {
        /// Its name; all of them when absent
        profile: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it; 1 when something is wrong.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    // Profiles may be written, and looked at, before the first `up`.
    if !home.profiles().is_dir() {
        home.is_there()?;
    }
    let names = profiles::names(&home.profiles());
    match act {
        Act::List { json } => {
            if *json {
                println!("{}", serde_json::to_string_pretty(&names)?);
            } else {
                names.iter().for_each(|name| println!("{name}"));
            }
            Ok(0)
        }
        Act::Check { profile, json } => {
            let platform = platform::reach_made(home).await?;
            let names = profile.as_ref().map_or(names, |name| vec![name.clone()]);
            let mut looked = Vec::new();
            for name in &names {
                looked.push(check(home, &platform.client, name).await?);
            }
            if *json {
                println!("{}", serde_json::to_string_pretty(&looked.iter().map(Looked::json).collect::<Vec<_>>())?);
            } else {
                looked.iter().for_each(Looked::tell);
            }
            platform.finish().await;
            Ok(i32::from(looked.iter().any(|one| !one.wrong.is_empty())))
        }
    }
}

/// A profile that was looked at.
struct Looked {
    name: String,
    keys: Vec<Key>,
    wrong: Vec<String>,
}

impl Looked {
    fn json(&self) -> serde_json::Value {
        let keys: Vec<String> = self.keys.iter().map(Key::line).collect();
        json!({ "profile": self.name, "wrong": self.wrong, "keys": keys })
    }

    fn tell(&self) {
        match self.wrong.len() {
            0 => println!("{}: a run can begin", self.name),
            1 => println!("{}: one thing is wrong", self.name),
            more => println!("{}: {more} things are wrong", self.name),
        }
        self.wrong.iter().for_each(|why| println!("  wrong: {}", show::plain(why)));
        self.keys.iter().for_each(|key| println!("  {}", key.line()));
    }
}

async fn check(home: &Home, client: &Client, name: &str) -> anyhow::Result<Looked> {
    let (profile, mut wrong) = profiles::looked_through(&home.profiles(), name);
    let Some(profile) = profile else { return Ok(Looked { name: name.to_owned(), keys: Vec::new(), wrong }) };
    let root = rustix::process::geteuid().is_root();
    let host = HostFacts { dir: home.operator(), cgroup_parent: String::new(), root, docker: String::new() };
    // What the engine says first is often what was said already, or of a folder; of each folder it alone can say it.
    let mut engines: Vec<String> = harden::refused(&profile, &host).map(|e| e.to_string()).collect();
    let first = harden::check(&profile, &host).err().map(|e| e.to_string());
    engines.extend(first.filter(|why| wrong.is_empty() && !engines.contains(why)));
    wrong.extend(engines);
    // A box has the host's programs where it has no image.
    let programs = profile.capability.iter().flat_map(|row| row.executables.iter().map(move |path| (row, path)));
    for (row, path) in programs.filter(|(_, path)| profile.image.is_none() && !path.is_file()) {
        wrong.push(format!("the program {} of the capability {:?} is not here", path.display(), row.name));
    }
    let keys = keys(client, &profile).await?;
    wrong.extend(keys.iter().filter_map(|key| key.wrong.clone()));
    if let Some(model) = &profile.model {
        let models: Vec<ModelView> = client.get("/api/models").await?;
        if models.iter().all(|one| one.name != *model) {
            wrong.push(format!("its model {model:?} is not among `volary model list`"));
        }
    }
    Ok(Looked { name: name.to_owned(), keys, wrong })
}

/// A key that a profile names.
pub struct Key {
    /// By what: `capability "shop"`.
    of: String,
    secret: String,
    /// How it stands.
    said: String,
    /// Why no run may have the use of it, if so.
    wrong: Option<String>,
}

impl Key {
    /// As a line for people.
    pub fn line(&self) -> String {
        format!("{}: {}: {}", show::plain(&self.of), show::plain(&self.secret), show::plain(&self.said))
    }
}

/// How each secret stands that a profile names: its capabilities, the rows of its table, its repositories.
///
/// # Errors
/// The server's.
pub async fn keys(client: &Client, profile: &Profile) -> anyhow::Result<Vec<Key>> {
    let secrets: Vec<SecretView> = client.get("/api/secrets").await?;
    let connections: Vec<ConnectionView> = client.get("/api/connections").await?;
    let now = Moment::from(SystemTime::now());
    let mut all = Vec::new();
    let mut add = |of: String, secret: &str, row: Option<&model::capability::Capability>| {
        let (said, no) = stands(secret, &secrets, &connections, now);
        let kept = secrets.iter().find(|one| one.name == secret);
        let kind = |one: &SecretView| one.kind.clone().unwrap_or_default();
        let refused = row.and_then(|row| {
            let kind = kept.map(kind).unwrap_or_default();
            delivery::stored(row, secret, &kind).err().map(|no| no.why)
        });
        let wrong = if no { Some(format!("the secret {secret} of the {of} is {said}")) } else { refused };
        all.push(Key { of, secret: secret.to_owned(), said, wrong });
    };
    for row in &profile.capability {
        add(format!("capability {:?}", row.name), &row.secret, Some(row));
    }
    for row in &profile.egress.write {
        let secret = model::capability::secret_of(&profile.capability, &row.capability);
        add(format!("row {} {}{}", row.method, row.host, row.path), &secret, None);
    }
    for row in &profile.repository {
        if let Some(secret) = &row.secret {
            add(format!("repository {:?}", row.id), secret, None);
        }
    }
    Ok(all)
}

/// How a secret stands, and whether that keeps runs from it.
fn stands(name: &str, secrets: &[SecretView], connections: &[ConnectionView], now: Moment) -> (String, bool) {
    if let Some(connection) = server::connections::named(name) {
        return match connections.iter().find(|one| one.name == connection) {
            Some(one) => (format!("a connection, {}: {}", one.state, one.said), one.state != "live"),
            None => ("no connection that is here; `volary connect add` adds one".to_owned(), true),
        };
    }
    let of_name: Vec<&SecretView> = secrets.iter().filter(|one| one.name == name).collect();
    let Some(one) = of_name.iter().find(|one| one.person.is_none()) else {
        let people: Vec<&str> = of_name.iter().filter_map(|one| one.person.as_deref()).collect();
        return match people.is_empty() {
            true => (format!("not set; `volary secret set {name}` sets it"), true),
            false => (format!("not set, but for the runs of {}", people.join(", ")), true),
        };
    };
    let kind = match (&one.kind, one.managed) {
        (Some(kind), true) => format!("managed ({kind})"),
        (Some(kind), false) => format!("custom ({kind})"),
        (None, true) => "managed".to_owned(),
        (None, false) => "custom".to_owned(),
    };
    let used = one.last_used.map_or_else(|| "never used".to_owned(), |at| format!("last used {}", ago(at, now)));
    let known = |one: &SecretView| one.kind.clone().filter(|kind| kind != TEXT);
    let apart = of_name.iter().filter(|own| known(own) != known(one)).filter_map(|own| own.person.as_deref());
    let apart: Vec<&str> = apart.collect();
    let but = match apart.is_empty() {
        true => String::new(),
        false => format!("; but not for the runs of {}, whose own value is of another kind", apart.join(", ")),
    };
    (format!("set, {kind}, version {} of {}, {used}{but}", one.version, ago(one.set_at, now)), false)
}

/// How long ago a moment was, by whole days.
fn ago(at: Moment, now: Moment) -> String {
    match now.since(at) / 86_400_000 {
        ..=0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(person: Option<&str>, set_at: Moment) -> SecretView {
        serde_json::from_value(json!({
            "name": "capability/shop", "person": person, "set_by": "a", "set_at": set_at, "version": 3,
        }))
        .expect("a secret")
    }

    #[test]
    fn a_secret_that_is_not_set_is_wrong_and_one_that_is_says_its_age() {
        let day = 86_400_000;
        let now = Moment(100 * day);
        let of = |secrets: &[SecretView]| stands("capability/shop", secrets, &[], now);
        assert_eq!(
            of(&[secret(None, Moment(96 * day))]),
            ("set, custom, version 3 of 4 days ago, never used".into(), false)
        );
        let (said, wrong) = of(&[]);
        assert!(wrong && said.contains("volary secret set capability/shop"), "{said}");
        // One person's own is nobody else's.
        let (said, wrong) = of(&[secret(Some("eve"), now)]);
        assert!(wrong && said.contains("but for the runs of eve"), "{said}");
        // Nor is one of another kind taken for it.
        let text = SecretView { kind: Some(TEXT.into()), ..secret(Some("eve"), now) };
        let github = SecretView { kind: Some("github".into()), ..secret(Some("ada"), now) };
        let (said, _) = of(&[secret(None, now), text, github]);
        assert!(said.ends_with("; but not for the runs of ada, whose own value is of another kind"), "{said}");
        assert!(stands("connection/forge", &[], &[], now).1);
    }

    #[test]
    fn a_moment_is_told_by_whole_days() {
        let day = 86_400_000;
        let now = Moment(10 * day);
        for (at, told) in
            [(10 * day + 5, "today"), (9 * day + 1, "today"), (9 * day, "yesterday"), (7 * day, "3 days ago")]
        {
            assert_eq!(ago(Moment(at), now), told);
        }
    }
}
