//! `exec --lease`: a person's own command with the use of a capability of its profile.

use crate::shared::{all, platform, text};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Stdio};
use testkit::{Platform, eventually};

const VALUE: &str = "canary-of-exec-with-a-lease";

const PROFILE: &str = r#"
[[capability]]
name = "shop"
secret = "capability/shop"
kind = "command"
destinations = ["shop"]
delivery = { variable = "SHOP_TOKEN" }
executables = ["/usr/bin/sh"]
seconds = 600

[[capability]]
name = "two"
secret = "capability/shop"
kind = "command"
destinations = ["here", "there"]
delivery = "stdin"
executables = ["/usr/bin/cat"]

[[capability]]
name = "by-gateway"
secret = "capability/shop"
kind = "tool"
destinations = ["shop.example.org"]
"#;

fn house() -> Platform {
    let platform = platform();
    platform.secret("capability/shop", VALUE);
    std::fs::write(platform.home().join("profiles/shop.toml"), PROFILE).expect("a profile is written");
    platform
}

fn leases(platform: &Platform) -> Vec<Value> {
    platform.json(&["lease", "list", "--all", "--json"]).as_array().expect("a list").clone()
}

#[test]
fn a_persons_command_is_given_the_use_of_a_capability_once_and_nobody_is_shown_its_value() {
    let platform = house();
    let exec = |rest: &[&str]| platform.cli(&[&["exec", "--profile", "shop", "--lease"], rest].concat());
    // What it was given has the length of the value, and is taken out of what it says.
    let line = "echo \"given ${#SHOP_TOKEN} bytes: $SHOP_TOKEN\"; echo handle: ${VOLARY_HANDLE:-none}";
    let out = exec(&["shop", "--", "sh", "-c", line]);
    assert!(out.status.success(), "{}", all(&out));
    let said = text(&out.stdout);
    assert!(said.contains(&format!("given {} bytes: [", VALUE.len())) && said.contains("handle: none"), "{said}");
    assert!(!all(&out).contains(VALUE));
    let first = &leases(&platform)[0];
    assert_eq!(
        (first["state"].as_str(), first["used_by"].as_str()),
        (Some("completed"), Some("the command /usr/bin/sh"))
    );

    // git is shown a directory of the platform's own making for the box's repository (decision 0035), and reads that.
    let out = exec(&["shop", "--", "sh", "-c", "git rev-parse --git-dir --show-toplevel && git symbolic-ref HEAD"]);
    let said = text(&out.stdout);
    let [own, top, head] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{}", all(&out)) };
    assert!(own.starts_with("/run/bearer/") && *top == "/workspace" && head.starts_with("refs/heads/"), "{said}");

    let out = exec(&["two=there", "--", "cat"]);
    assert!(out.status.success() && text(&out.stdout).contains('['), "{}", all(&out));
    assert!(!all(&out).contains(VALUE));

    // One without programs is any command's that the box cannot write: what it is given is a handle of its own.
    let out = exec(&["by-gateway", "--", "sh", "-c", "echo ${#VOLARY_HANDLE} ${SHOP_TOKEN:-none}"]);
    assert!(out.status.success() && text(&out.stdout).contains("55 none"), "{}", all(&out));
    let out = exec(&["by-gateway", "--", "/workspace/mine", "-c", "echo ran"]);
    assert!(out.status.code() == Some(126) && !text(&out.stdout).contains("ran"), "{}", all(&out));

    // Another program, a capability that is not there, one of two destinations.
    let out = exec(&["shop", "--", "cat", "/proc/self/environ"]);
    assert_eq!(out.status.code(), Some(126), "{}", all(&out));
    assert!(text(&out.stderr).contains("lease.executable"), "{}", all(&out));
    let count = leases(&platform).len();
    for (wish, told) in [("none", "it has shop, two, by-gateway"), ("two", "one of here, there: name it")] {
        let out = exec(&[wish, "--", "cat"]);
        assert!(out.status.code() == Some(125) && text(&out.stderr).contains(told), "{}", all(&out));
    }
    assert_eq!(leases(&platform).len(), count, "what cannot be a lease is none");
    let out = exec(&["shop=elsewhere", "--", "sh", "-c", "echo ran"]);
    assert!(out.status.code() == Some(125) && !text(&out.stdout).contains("ran"), "{}", all(&out));
    assert!(text(&out.stderr).contains("not for this destination"), "{}", all(&out));
    assert_eq!(leases(&platform)[0]["state"], "denied");
    platform.stop();
}

/// A command that holds a lease for longer than any test waits, once it says that it is `ready`, and the lease.
fn hold(platform: &Platform, line: &str) -> (Child, String) {
    let mut command = platform.command();
    command.args(["exec", "--profile", "shop", "--lease", "shop", "--", "sh", "-c", line]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts");
    // The lease is in use before the value is on its way.
    let mut said = [0; 6];
    if child.stdout.as_mut().expect("a pipe").read_exact(&mut said).is_err() || said != *b"ready\n" {
        panic!("{}", all(&child.wait_with_output().expect("it ends")));
    }
    let lease = eventually("the lease in use", || {
        let open = platform.json(&["lease", "list", "--json"]);
        let used = open.as_array()?.iter().find(|lease| lease["state"] == "consumed")?;
        Some(used["lease"].as_str()?.to_owned())
    });
    (child, lease)
}

/// What a person's command says when its lease was taken back.
fn was_ended(child: Child) {
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    assert!(text(&out.stderr).contains("its lease was taken back"), "{}", all(&out));
}

#[test]
fn a_command_is_ended_with_all_that_it_started_when_a_person_takes_its_lease_back() {
    let platform = house();
    let (child, lease) = hold(&platform, "(trap '' TERM; sleep 600) & echo ready; sleep 600");
    // Its time, and its command's, are ten minutes: what ends it now is the person's word.
    let said = platform.ok(&["lease", "revoke", &lease]);
    // On a machine that is very busy nobody may have said so within five seconds.
    let known = format!("{lease} is taken back; nothing uses it any more.");
    assert!(said.trim_end() == known || said.contains("nobody has said yet"), "{said}");
    was_ended(child);
    assert_eq!(leases(&platform)[0]["state"], "revoked");
    platform.stop();
}

#[test]
fn a_command_is_ended_when_the_secret_of_its_lease_is_deleted_and_that_says_how_many_were() {
    let platform = house();
    let (child, _) = hold(&platform, "echo ready; sleep 600");
    let said = platform.ok(&["secret", "delete", "capability/shop"]);
    assert!(
        said.contains("is deleted; the lease that was open on it is taken back, and what uses it is told to end"),
        "{said}"
    );
    was_ended(child);
    let last = &leases(&platform)[0];
    assert_eq!((last["state"].as_str(), last["ended_by"].as_str()), (Some("revoked"), Some("secret's end")));
    platform.secret("capability/shop", VALUE);
    let said = platform.ok(&["secret", "delete", "capability/shop"]);
    assert!(said.contains("no lease was open on it"), "{said}");
    platform.stop();
}
