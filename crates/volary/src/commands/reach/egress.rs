//! What a run could reach through the forward proxy, in words: from the very table that the gateway judges by.

use crate::home::Home;
use crate::outside::Outside;
use anyhow::ensure;
use model::capability::secret_of;
use model::egress::{Reads, TunnelRow};
use model::{Egress, Profile};
use policy::egress::Law;
use policy::egress::registries::{Registries, Registry};
use serde::Deserialize as _;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// The sections of `reach` that a profile's `[egress]` table fills.
///
/// # Errors
/// When the table is wrong.
pub fn sections(profile: &Profile) -> anyhow::Result<Vec<(&'static str, Vec<String>)>> {
    let egress = &profile.egress;
    let law = Law::of(egress)?;
    let all = law.registries();
    Ok(vec![
        ("can read", reads(egress, all)),
        ("can write", writes(profile, all)),
        ("internal services", internal(egress)),
    ])
}

/// The way outside of the platform that is up on this home, or of one that is started without a word on it.
pub fn way(home: &Home) -> (&'static str, Vec<String>) {
    let file = home.run("up.json");
    let lines = match said(&file) {
        Ok(Some(outside)) => outside.told(),
        Ok(None) => {
            let mut lines = Outside::default().told();
            lines.push("no platform is up on this home: `up` may be told another way".to_owned());
            lines
        }
        Err(error) => vec![format!("NOT KNOWN: what the platform says of it, in {}: {error}", file.display())],
    };
    ("the way outside", lines)
}

/// What the platform says that is up; nothing, when none is.
fn said(file: &Path) -> anyhow::Result<Option<Outside>> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let state: Value = serde_json::from_str(&text)?;
    let outside = Outside::deserialize(&state["outside"])?;
    // One word too many or too few, and the way may be another.
    ensure!(serde_json::to_value(&outside)? == state["outside"], "it is not in the words of this version");
    Ok(Some(outside))
}

fn reads(egress: &Egress, all: &Registries) -> Vec<String> {
    let mut lines = match egress.reads {
        Reads::Any => {
            vec![
                "any public host, by GET and HEAD without body or credential, http on port 80 and https on port 443"
                    .into(),
            ]
        }
        Reads::Listed => vec!["these, by GET and HEAD without body or credential, and nothing else:".into()],
        Reads::Packages => {
            vec!["these package registries, by GET and HEAD without body or credential, and nothing else:".into()]
        }
        Reads::None => vec!["nothing".into()],
    };
    for row in &egress.read {
        let port = row.port.map_or_else(|| "ports 80 and 443".to_owned(), |port| format!("port {port}"));
        let path = if row.path == "/" { "every path".to_owned() } else { format!("{} and what is below it", row.path) };
        lines.push(format!("{}, {port}: {path}", row.host));
    }
    for group in &egress.packages {
        lines.push(format!("{group} packages: {}", hosts(all.group(group))));
    }
    for line in &egress.registries {
        lines.push(match line.strip_prefix('-') {
            Some(name) => format!("not a registry here, by the home's own list: {name} (its labels in reverse order)"),
            None => format!("a registry here, by the home's own list: {line} (its labels in reverse order)"),
        });
    }
    if egress.reads != Reads::None {
        lines.push("data can leave in a URL: whoever runs a host that may be read sees what a run asks it for".into());
        let but = if egress.write.is_empty() { "" } else { "; none to a host that a row to write names" };
        lines.push(format!("cookies go along, for sites set them by themselves{but}"));
    }
    lines
}

fn writes(profile: &Profile, all: &Registries) -> Vec<String> {
    let egress = &profile.egress;
    let mut lines: Vec<String> = egress
        .write
        .iter()
        .map(|row| {
            let what = match row.method.as_str() {
                "UPGRADE" => "WebSocket to",
                method => method,
            };
            format!(
                "{what} https://{}{} and what is below it, in the name of the secret {}: whatever that may change there, a run \
                 can change, an agent by commands under leases of {}; data can leave",
                row.destination(),
                row.path,
                secret_of(&profile.capability, &row.capability),
                row.capability
            )
        })
        .collect();
    lines.extend(egress.tunnel.iter().map(|row| tunnel(row, all)));
    if lines.is_empty() {
        lines.push(
            "nothing: of a box's own requests only reads leave; there is no tunnel that is not opened here".into(),
        );
    }
    lines
}

/// What passes in a blind tunnel is not seen, so all of it counts as a write.
fn tunnel(row: &TunnelRow, all: &Registries) -> String {
    let hosts = match &row.host {
        Some(host) => host.clone(),
        None => hosts(all.group(&row.packages)),
    };
    format!(
        "anything, through a blind tunnel to port 443 of {hosts} ({} packages), up to {} MiB and {} s each: what passes is \
         not seen, and a package can be published",
        row.packages, row.mib, row.seconds
    )
}

fn internal(egress: &Egress) -> Vec<String> {
    if egress.internal.is_empty() {
        return vec!["none: every address of every host must be a public one".into()];
    }
    let line = |row: &model::egress::InternalRow| {
        let why = if row.why.is_empty() { "no reason is given" } else { &row.why };
        format!("{}:{}, where its addresses are in {} ({why})", row.host, row.port, row.addresses.join(", "))
    };
    egress.internal.iter().map(line).collect()
}

fn hosts<'r>(group: impl Iterator<Item = &'r Registry>) -> String {
    let host =
        |registry: &Registry| format!("{}{}", registry.host, if registry.below { " and what is below it" } else { "" });
    group.map(host).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(toml: &str, section: &str) -> String {
        let egress: Egress = toml::from_str(toml).unwrap();
        told_by(&egress, section)
    }

    fn told_by(egress: &Egress, section: &str) -> String {
        let profile = Profile { egress: egress.clone(), ..Profile::default() };
        sections(&profile).unwrap().into_iter().find(|(name, _)| *name == section).unwrap().1.join("\n")
    }

    #[test]
    fn the_built_in_profile_says_that_data_can_leave_in_a_url_and_that_nothing_can_be_written() {
        let reads = told("", "can read");
        assert!(reads.contains("any public host") && reads.contains("data can leave in a URL"), "{reads}");
        assert!(told("", "can write").starts_with("nothing"));
        assert!(told("", "internal services").starts_with("none"));
    }

    #[test]
    fn every_row_and_every_host_of_a_group_is_told() {
        let toml = r#"
            reads = "listed"
            packages = ["ubuntu"]
            read = [{ host = "*.docs.example.org", path = "/guide", port = 8443 }]
            write = [
                { capability = "tracker", host = "api.example.org", method = "POST", path = "/v1/issues" },
                { capability = "live", host = "live.example.org", method = "UPGRADE", path = "/", port = 8443 },
            ]
            tunnel = [{ packages = "rust", mib = 64, seconds = 300 }]
            internal = [{ host = "artifacts", port = 8081, addresses = ["10.2.3.0/24"], why = "the mirror" }]
        "#;
        let (reads, writes) = (told(toml, "can read"), told(toml, "can write"));
        assert!(reads.contains("*.docs.example.org, port 8443: /guide and what is below it"), "{reads}");
        for registry in Registries::built_in().group("ubuntu") {
            assert!(reads.contains(registry.host.as_str()), "{reads}");
        }
        assert!(
            writes.contains("POST https://api.example.org/v1/issues")
                && writes.contains("the secret capability/tracker: ")
                && writes.contains("under leases of tracker;"),
            "{writes}"
        );
        assert!(writes.contains("WebSocket to https://live.example.org:8443/"), "{writes}");
        for registry in Registries::built_in().group("rust") {
            assert!(writes.contains(registry.host.as_str()), "{writes}");
        }
        assert!(writes.contains("blind tunnel") && writes.contains("64 MiB and 300 s"), "{writes}");
        assert_eq!(
            told(toml, "internal services"),
            "artifacts:8081, where its addresses are in 10.2.3.0/24 (the mirror)"
        );
    }

    #[test]
    fn the_homes_own_registries_are_told_in_their_groups_and_as_what_they_change() {
        let mut egress: Egress = toml::from_str(
            "reads = \"packages\"\npackages = [\"rust\"]\ntunnel = [{ packages = \"rust\", mib = 1, seconds = 1 }]",
        )
        .unwrap();
        egress.registries = vec!["-io.crates".into(), "org.example.mirror rust ours".into()];
        let reads = told_by(&egress, "can read");
        assert!(reads.contains("rust packages: ") && reads.contains("mirror.example.org"), "{reads}");
        assert!(reads.contains("not a registry here, by the home's own list: io.crates ("), "{reads}");
        let gone = ["crates", "io"].join(".");
        let named = |text: &str| text.split([' ', ',']).any(|word| word == gone);
        assert!(!named(&reads), "{reads}");
        let writes = told_by(&egress, "can write");
        assert!(writes.contains("mirror.example.org") && !named(&writes), "{writes}");
    }

    /// What is told of the way outside where `up.json` holds this; nothing stands for no such file.
    fn way_by(state: Option<&[u8]>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        if let Some(state) = state {
            std::fs::write(dir.path().join("run/up.json"), state).unwrap();
        }
        way(&Home::resolve(Some(dir.path())).unwrap()).1
    }

    #[test]
    fn a_way_outside_that_cannot_be_read_is_told_as_not_known_and_never_as_straight() {
        let own = serde_json::to_value(Outside::default()).unwrap();
        let up =
            |outside: &Value| way_by(Some(serde_json::json!({ "pid": 1, "outside": outside }).to_string().as_bytes()));
        // The controls: of a platform that is up, and of none.
        assert_eq!(up(&own), Outside::default().told());
        assert!(way_by(None)[1].starts_with("no platform is up"), "{:?}", way_by(None));

        let (mut more, mut less) = (own.clone(), own);
        more["another_way"] = true.into();
        less.as_object_mut().unwrap().remove("upstream_proxy").unwrap();
        let unknown = [&more, &less, &Value::Null, &"straight".into()].map(up);
        let unreadable = [&b""[..], b"{", b"{}", b"[]", b"\xff"].map(|state| way_by(Some(state)));
        for told in unknown.iter().chain(&unreadable) {
            assert!(told.len() == 1 && told[0].starts_with("NOT KNOWN"), "{told:?}");
            assert!(!told[0].contains("straight to each host"), "{told:?}");
        }
    }

    #[test]
    fn no_reads_are_told_as_none_and_promise_nothing_of_urls() {
        assert_eq!(told("reads = \"none\"", "can read"), "nothing");
    }
}
