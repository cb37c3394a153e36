//! `volary doctor`.

use crate::home::Home;
use crate::keys::Config;
use anyhow::bail;
use sandbox::doctor::{Check, checks, docker, install};
use std::path::Path;

/// Prints every check; status 1 when one fails that every box needs.
pub fn main(home: &Home, json: bool) -> anyhow::Result<i32> {
    let mut all = checks();
    all.push(docker());
    all.push(authorities(gateway::load_roots(None).map_or(0, |roots| roots.len())));
    all.push(name_servers(gateway::system_name_servers().map_or(0, |servers| servers.len())));
    if home.is_there().is_ok() {
        all.push(vault_key(home));
        all.push(disk(home.path(), free(home.path())));
    }
    let missing = all.iter().any(|check| !check.ok && check.only_for.is_none());
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for check in &all {
            let mark = match (check.ok, check.only_for) {
                (true, _) => "ok     ",
                (false, None) => "MISSING",
                (false, Some(_)) => "note   ",
            };
            println!("{mark} {:<14} {}", check.name, check.found);
            if !check.ok {
                println!("        → {}", check.fix);
            }
        }
        println!();
        match missing {
            false => println!("This host can keep boxes."),
            true => println!("This host cannot keep boxes yet: do what the arrows say."),
        }
    }
    Ok(i32::from(missing))
}

/// Whom the system trusts to name hosts: without any, no host outside is reached over TLS.
fn authorities(count: usize) -> Check {
    let found = match count {
        0 => "the system has no certificate authorities, so no host outside is trusted over https".to_owned(),
        count => format!("{count} of the system's"),
    };
    let fix = format!("{}; or give some to `volary up --extra-roots FILE`", install("ca-certificates"));
    Check { name: "authorities", found, ok: count > 0, fix, only_for: Some("hosts outside"), packages: "" }
}

/// Whom the system asks for names. `up` reads that once, when it starts.
fn name_servers(count: usize) -> Check {
    let found = match count {
        0 => "/etc/resolv.conf names none, so no name of a host outside is resolved".to_owned(),
        count => format!("{count} in /etc/resolv.conf"),
    };
    let fix = "put one into /etc/resolv.conf, or give it to `volary up --name-server ADDRESS`; then start `up` again, which \
               reads it once";
    let (only_for, fix) = (Some("hosts outside"), fix.to_owned());
    Check { name: "name servers", found, ok: count > 0, fix, only_for, packages: "" }
}

/// Where the home's vault gets its key, and whether a start would take it from there. The key itself is not looked at.
fn vault_key(home: &Home) -> Check {
    let looked = Config::read(home).and_then(|config| {
        config.key.source.look(home)?;
        Ok(config.key.source.words(home))
    });
    let (ok, found) = match looked {
        Ok(words) => (true, format!("from {words}")),
        Err(e) => (false, format!("{e:#}")),
    };
    let fix = "bring the key back to where vault.toml of the home says, for its owner alone (chmod 600), or put vault.toml right"
        .to_owned();
    Check { name: "vault key", found, ok, fix, only_for: None, packages: "" }
}

/// Bytes of the home's disk below which it is said that there is little room.
const LITTLE: u64 = 1 << 30;

/// Bytes that are free there for who is no administrator of the host; none where that cannot be asked.
fn free(place: &Path) -> Option<u64> {
    rustix::fs::statvfs(place).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Room on the home's disk. Each run asks for its own before it begins, and is refused with words where it is not there; what
/// cannot be recorded for want of it does not happen.
fn disk(place: &Path, free: Option<u64>) -> Check {
    let ok = free.is_some_and(|free| free >= LITTLE);
    let found = match free {
        Some(free) => format!("{} MiB are free at {}", free >> 20, place.display()),
        None => format!("how much is free at {} cannot be asked", place.display()),
    };
    let fix =
        "free some of the home's disk: a run takes room for its worktree-mib and its record, and begins with no less; \
               on a full disk nothing is granted"
            .to_owned();
    Check { name: "disk", found, ok, fix, only_for: Some("runs"), packages: "" }
}

/// Boxes need all of it; without one of them nothing is started, and the one thing to do is said.
///
/// # Errors
/// What is missing, and what to do first.
pub fn refuse_unless_able() -> anyhow::Result<()> {
    refuse("keep boxes", missing(None))
}

/// The same for the demo, which also has a repository to make and a program to compile.
///
/// # Errors
/// What is missing, and what to do first.
pub fn refuse_unless_able_to_demo() -> anyhow::Result<()> {
    refuse("show the demo", missing(Some("demo")))
}

/// What is not there of what every box needs, and of what this command needs.
fn missing(command: Option<&str>) -> Vec<Check> {
    let needed = |check: &Check| check.only_for.is_none_or(|only| Some(only) == command);
    checks().into_iter().filter(|check| !check.ok && needed(check)).collect()
}

/// The first thing to do, as one command; packages come last, and together.
fn refuse(what: &str, missing: Vec<Check>) -> anyhow::Result<()> {
    let packages: Vec<&str> = missing.iter().map(|check| check.packages).filter(|names| !names.is_empty()).collect();
    let (found, fix): (Vec<&Check>, String) = match missing.iter().find(|check| check.packages.is_empty()) {
        _ if missing.is_empty() => return Ok(()),
        Some(check) => (vec![check], check.fix.clone()),
        None => (missing.iter().collect(), install(&packages.join(" "))),
    };
    let found: Vec<String> = found.iter().map(|check| format!("{}: {}", check.name, check.found)).collect();
    bail!("this host cannot {what} yet: {}.\nDo this: {fix}", found.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_authorities_or_name_servers_keeps_boxes_and_is_told_what_they_cannot_reach() {
        for check in [authorities, name_servers] {
            let (none, some) = (check(0), check(3));
            assert!(!none.ok && some.ok && none.only_for.is_some(), "{none:?}");
            assert!(none.fix.contains("volary up --") && some.found.starts_with("3 "), "{none:?} {some:?}");
        }
    }

    #[test]
    fn below_1_gib_it_is_said_that_there_is_little_room_and_at_it_not() {
        let place = Path::new("/srv/home");
        for (free, ok) in [(Some(LITTLE), true), (Some(LITTLE - 1), false), (Some(0), false), (None, false)] {
            let check = disk(place, free);
            assert_eq!((check.ok, check.only_for), (ok, Some("runs")), "{free:?}");
        }
        assert_eq!(disk(place, Some(LITTLE)).found, "1024 MiB are free at /srv/home");
        assert!(free(Path::new("/")).is_some_and(|free| free > 0) && free(Path::new("/no such")).is_none());
    }
}
