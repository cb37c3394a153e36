//! Which crate may know which: a crate is a right, not a topic.
//!
//! Two tables say everything. [`ARROWS`] holds each crate's allowed dependencies inside the workspace;
//! [`RIGHTS`] names the outside crates that are a power (rows, containers, the network) and who may hold them.
//! What is not listed is refused. Adding a line here is a change of the architecture, and is reviewed as one.

use crate::cargo;
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Each crate and the workspace crates it may depend on, from the nouns down to the binary.
const ARROWS: [(&str, &[&str]); 17] = [
    ("model", &[]),
    ("policy", &["model"]),
    ("scrub", &["model"]),
    ("evidence", &["model"]),
    ("vault", &["model"]),
    ("api", &["model"]),
    ("store", &["model", "evidence", "vault"]),
    ("sandbox", &["model", "api"]),
    // In the box: nothing of the host's law, keys or rows is even compiled in.
    ("agent", &["model", "api"]),
    ("runner", &["model", "scrub", "api"]),
    // The processes: they meet only through `api`.
    ("gateway", &["model", "policy", "scrub", "api"]),
    ("operator", &["model", "sandbox", "api"]),
    ("server", &["model", "policy", "scrub", "evidence", "vault", "store", "api"]),
    // The only crate that sees all processes.
    (
        "volary",
        &["model", "policy", "scrub", "evidence", "store", "sandbox", "api", "agent", "gateway", "operator", "server"],
    ),
    // A whole platform in a test, started as a child: it links none of it.
    ("testkit", &["model", "api"]),
    // Measures the parts by themselves, and the processes as children of its own.
    ("benches", &["model", "policy", "scrub", "vault", "store", "sandbox", "api"]),
    ("xtask", &[]),
];

/// Arrows that tests alone may draw, beside [`ARROWS`] and the test kit.
const TEST_ARROWS: [(&str, &str); 1] = [
    // What the agent sends is put before the gateway's own judge, so that the two cannot drift apart.
    ("agent", "policy"),
];

/// One power, the outside crates that give it, and who may hold it.
struct Right {
    /// What the crates let their holder do.
    power: &'static str,
    /// The outside crates.
    crates: &'static [&'static str],
    /// The workspace crates that may name them, each with its reason in the comment beside it.
    holders: &'static [&'static str],
}

const RIGHTS: [Right; 5] = [
    Right {
        power: "read and write rows",
        crates: &["sqlx", "rusqlite", "libsqlite3-sys", "tokio-postgres"],
        holders: &["store"],
    },
    Right {
        power: "drive a container engine",
        crates: &["libcontainer", "oci-spec", "bollard", "kube"],
        holders: &["sandbox"],
    },
    Right {
        power: "open a TLS connection",
        crates: &["tokio-rustls", "rustls-native-certs", "hyper-rustls", "native-tls", "openssl", "reqwest", "ureq"],
        // testkit: hosts of a test's own network, which accept and never connect. benches: the client that asks every
        // proxy alike, in a network of its own, and the host behind them.
        holders: &["gateway", "testkit", "benches"],
    },
    Right {
        power: "configure TLS",
        crates: &["rustls"],
        // volary installs the process-wide crypto provider first thing in `main`; and the process
        // that obtains the vault's key asks the one KMS that an administrator wrote down, before the server starts. benches: see above.
        holders: &["gateway", "volary", "benches"],
    },
    Right {
        power: "speak HTTP as a client",
        crates: &["hyper", "hyper-util"],
        // agent: plain HTTP to the one listener of its box, where no other network is.
        // server: hyper serves what axum routes; it has no connector.
        // volary: the CLI, over the home's own Unix socket.
        // testkit: doubles on loopback; never linked into anything that ships.
        holders: &["gateway", "agent", "server", "volary", "testkit"],
    },
];

/// Crates that stand in the box, and what may be nowhere below them.
const IN_THE_BOX: [&str; 2] = ["runner", "agent"];
const NO_TLS: [&str; 7] = ["rustls", "tokio-rustls", "native-tls", "openssl", "openssl-sys", "ring", "aws-lc-rs"];

/// Refuses a wrong arrow.
///
/// # Errors
/// Every fault found, one a line.
pub fn check() -> Result<()> {
    let faults = faults(&Graph::of(&cargo::metadata()?));
    if !faults.is_empty() {
        bail!("{} wrong arrow(s):\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("layers: every arrow points down");
    Ok(())
}

/// The crate graph as a page of `docs/generated`.
///
/// # Errors
/// When cargo refuses the manifests.
pub fn page() -> Result<String> {
    let graph = Graph::of(&cargo::metadata()?);
    let mut page = String::from(
        "# The crates and their arrows\n\nPrinted by `cargo xtask goldens --bless` from the manifests; `cargo xtask layers` refuses any other.\n\n| crate | depends on | in tests also |\n|---|---|---|\n",
    );
    for (name, _) in ARROWS {
        if let Some(member) = graph.members.get(name) {
            let inside = |names: &BTreeSet<String>| {
                let own: Vec<String> =
                    names.iter().filter(|n| graph.members.contains_key(*n)).map(|n| format!("`{n}`")).collect();
                if own.is_empty() { "–".to_owned() } else { own.join(", ") }
            };
            page.push_str(&format!("| `{name}` | {} | {} |\n", inside(&member.normal), inside(&member.dev)));
        }
    }
    page.push_str("\n## Rights that come from outside crates\n\n| power | crates | held by |\n|---|---|---|\n");
    for right in &RIGHTS {
        let holders: Vec<String> = graph
            .members
            .iter()
            .filter(|(_, member)| right.crates.iter().any(|c| member.normal.contains(*c)))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let used: Vec<String> = right
            .crates
            .iter()
            .filter(|c| graph.members.values().any(|m| m.normal.contains(**c)))
            .map(|c| format!("`{c}`"))
            .collect();
        page.push_str(&format!("| {} | {} | {} |\n", right.power, used.join(", "), holders.join(", ")));
    }
    Ok(page)
}

/// What one crate of the workspace names in its manifest.
#[derive(Default)]
struct Member {
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
    /// Every crate that its normal dependencies bring, itself left out.
    below: BTreeSet<String>,
}

/// The workspace as cargo sees it.
struct Graph {
    members: BTreeMap<String, Member>,
}

impl Graph {
    fn of(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let packages = list(&metadata["packages"]);
        let name_of: BTreeMap<String, String> = packages.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let to = list(&node["deps"])
                .iter()
                .filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()))
                .map(|dep| text(&dep["pkg"]))
                .collect();
            edges.insert(text(&node["id"]), to);
        }
        let inside: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
        let mut members = BTreeMap::new();
        for package in packages.iter().filter(|p| inside.contains(&text(&p["id"]))) {
            let mut member = Member::default();
            for dependency in list(&package["dependencies"]) {
                match dependency["kind"].as_str() {
                    None => member.normal.insert(text(&dependency["name"])),
                    Some("dev") => member.dev.insert(text(&dependency["name"])),
                    Some(_) => false,
                };
            }
            let mut queue = vec![text(&package["id"])];
            let mut seen = BTreeSet::new();
            while let Some(id) = queue.pop() {
                for to in edges.get(&id).into_iter().flatten() {
                    if seen.insert(to.clone()) {
                        queue.push(to.clone());
                    }
                }
            }
            member.below = seen.iter().filter_map(|id| name_of.get(id)).cloned().collect();
            members.insert(text(&package["name"]), member);
        }
        Self { members }
    }
}

fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for (name, member) in &graph.members {
        let Some(allowed) = allowed.get(name.as_str()) else {
            faults
                .push(format!("{name} is not listed: add it to ARROWS in xtask/src/layers.rs, with what it may know"));
            continue;
        };
        let inside = |n: &&String| graph.members.contains_key(*n);
        for to in member.normal.iter().filter(inside) {
            if to == "testkit" {
                faults.push(format!("{name} -> testkit: the test kit is nobody's normal dependency"));
            } else if !allowed.contains(&to.as_str()) {
                faults.push(format!("{name} -> {to}: not an arrow of ARROWS"));
            }
        }
        for to in member.dev.iter().filter(inside) {
            let named = TEST_ARROWS.contains(&(name.as_str(), to.as_str()));
            if to != "testkit" && !named && !allowed.contains(&to.as_str()) {
                faults.push(format!("{name} -> {to} (in tests): not an arrow of ARROWS"));
            }
        }
        for right in &RIGHTS {
            for outside in right.crates.iter().filter(|c| member.normal.contains(**c)) {
                if !right.holders.contains(&name.as_str()) {
                    faults.push(format!(
                        "{name} -> {outside}: the right to {} is held by {} only",
                        right.power,
                        right.holders.join(", ")
                    ));
                }
            }
        }
        if IN_THE_BOX.contains(&name.as_str()) {
            for tls in NO_TLS.iter().filter(|c| member.below.contains(**c)) {
                faults.push(format!("{name} brings {tls}: what stands in the box has no TLS and no keys"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, normal and dev dependencies, and everything below.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

    fn graph(members: &[Row]) -> Graph {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let members = members
            .iter()
            .map(|(name, normal, dev, below)| {
                ((*name).to_owned(), Member { normal: set(normal), dev: set(dev), below: set(below) })
            })
            .collect();
        Graph { members }
    }

    #[test]
    fn the_workspace_as_it_stands_has_no_wrong_arrow() {
        assert_eq!(faults(&Graph::of(&cargo::metadata().unwrap())), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_is_not_listed_is_refused() {
        let found = faults(&graph(&[("model", &["store"], &[], &[]), ("store", &["model"], &[], &[])]));
        assert_eq!(found, ["model -> store: not an arrow of ARROWS"]);
    }

    #[test]
    fn a_crate_that_is_not_listed_is_refused() {
        assert_eq!(faults(&graph(&[("helpers", &[], &[], &[])])).len(), 1);
    }

    #[test]
    fn the_test_kit_may_be_used_by_tests_only() {
        assert!(faults(&graph(&[("server", &[], &["testkit"], &[]), ("testkit", &[], &[], &[])])).is_empty());
        assert_eq!(faults(&graph(&[("server", &["testkit"], &[], &[]), ("testkit", &[], &[], &[])])).len(), 1);
    }

    #[test]
    fn a_right_from_an_outside_crate_has_named_holders() {
        assert!(faults(&graph(&[("store", &["sqlx"], &[], &[])])).is_empty());
        for (name, power) in [
            ("server", "sqlx"),
            ("operator", "libcontainer"),
            ("server", "tokio-rustls"),
            ("operator", "hyper"),
            ("runner", "hyper-util"),
        ] {
            assert_eq!(faults(&graph(&[(name, &[power], &[], &[])])).len(), 1, "{name} -> {power}");
        }
    }

    #[test]
    fn tls_is_refused_in_the_box_however_deep_it_lies() {
        assert_eq!(faults(&graph(&[("agent", &[], &[], &["rustls"])])).len(), 1);
        assert_eq!(faults(&graph(&[("runner", &[], &[], &["ring"])])).len(), 1);
        assert!(faults(&graph(&[("gateway", &[], &[], &["rustls", "ring"])])).is_empty());
    }
}
