//! `profile check`: what a run would meet, said before there is one; and what `reach` says of a profile's secrets.

use crate::shared::{all, api, platform, text};

const GOOD: &str = r#"
[[capability]]
name = "shop"
secret = "capability/shop"
kind = "command"
destinations = ["shop.example.org"]
delivery = { variable = "SHOP_TOKEN" }
executables = ["/usr/bin/sh"]

[[egress.write]]
capability = "shop"
host = "shop.example.org"
method = "POST"
path = "/orders"
"#;

const BAD: &str = r#"
model = "nowhere"
tools = ["teleport"]

[[capability]]
name = "absent"
secret = "capability/absent"
kind = "command"
destinations = ["x"]
delivery = { variable = "TOKEN" }
executables = ["/usr/bin/no-such-program"]

[[capability]]
name = "managed"
secret = "capability/managed"
kind = "command"
destinations = ["x"]
delivery = { variable = "OTHER" }
executables = ["/usr/bin/sh"]

[[egress.write]]
capability = "unheard-of"
host = "a.example.org"
method = "POST"
path = "/"

[[repository]]
id = "r"
url = "https://git.example.org/a/b"
secret = "connection/gone"
"#;

#[test]
fn a_profile_that_names_what_is_not_there_is_told_all_of_it_before_a_run() {
    let platform = platform();
    let profiles = platform.home().join("profiles");
    std::fs::write(profiles.join("good.toml"), GOOD).unwrap();
    std::fs::write(profiles.join("bad.toml"), BAD).unwrap();
    std::fs::write(profiles.join("broken.toml"), "[limits]\nmemory-mb = 1\n").unwrap();
    platform.secret("capability/shop", "canary-of-the-shop-0123");
    let managed =
        platform.cli_with_input(&["secret", "set", "capability/managed", "--kind", "github"], b"canary-managed-1234");
    assert!(managed.status.success(), "{}", all(&managed));
    assert_eq!(platform.json(&["profile", "list", "--json"]), serde_json::json!(["default", "bad", "broken", "good"]));

    let good = platform.ok(&["profile", "check", "good"]);
    assert!(good.starts_with("good: a run can begin\n"), "{good}");
    assert_eq!(good.matches("capability/shop: set, custom, version 1 of today, never used").count(), 2, "{good}");

    let bad = platform.cli(&["profile", "check", "bad"]);
    assert_eq!(bad.status.code(), Some(1), "{}", all(&bad));
    let said = text(&bad.stdout);
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("  wrong: ")).collect();
    for told in [
        "no tool \"teleport\"",
        "/usr/bin/no-such-program",
        "the secret capability/absent of the capability \"absent\" is not set",
        "would bring \"capability/managed\", a managed key, into a box",
        "capability/unheard-of of the row POST a.example.org/ is not set",
        "connection/gone of the repository \"r\"",
        "model \"nowhere\"",
    ] {
        assert_eq!(wrong.iter().filter(|line| line.contains(told)).count(), 1, "{told}: {said}");
    }
    assert_eq!(wrong.len(), 7, "{said}");
    assert!(!all(&bad).contains("canary"), "{}", all(&bad));
    // What is said of it is what a run meets.
    let run = platform.cli(&["exec", "--profile", "bad", "--", "true"]);
    assert!(run.status.code() == Some(125) && text(&run.stderr).contains("teleport"), "{}", all(&run));

    let every = platform.cli(&["profile", "check", "--json"]);
    assert_eq!(every.status.code(), Some(1));
    let every: serde_json::Value = serde_json::from_slice(&every.stdout).unwrap();
    let wrong_of = |name: &str| {
        let one = every.as_array().unwrap().iter().find(|one| one["profile"] == name).expect("it is looked at");
        one["wrong"].as_array().unwrap().len()
    };
    assert_eq!(["default", "good", "bad", "broken"].map(wrong_of), [0, 0, 7, 1]);

    let reach = platform.ok(&["reach", "good"]);
    assert!(reach.contains("capability \"shop\": capability/shop: set, custom, version 1 of today"), "{reach}");
    drop(platform.ok(&["secret", "delete", "capability/shop"]));
    let reach = platform.ok(&["reach", "good"]);
    assert!(reach.contains("capability \"shop\": capability/shop: not set"), "{reach}");
    platform.stop();
}

#[test]
fn a_folder_of_keys_is_refused_before_a_box_and_told_by_check_and_reach_and_recorded_by_name_alone() {
    let platform = platform();
    let dir = tempfile::Builder::new().prefix("volary-k-").tempdir_in("/tmp").unwrap();
    let home = dir.path().join("ada");
    std::fs::create_dir_all(home.join(".aws/sso")).unwrap();
    std::fs::create_dir(home.join("toolchain")).unwrap();
    std::fs::write(home.join(".aws/credentials"), "aws_secret_access_key = canary-of-a-folder-0123").unwrap();
    let named = |path: &str| format!("[[folders]]\npath = {:?}\n", home.join(path));
    for (path, why) in [("", "holds .aws"), (".aws", "lies in, .aws"), (".aws/sso", "lies in, .aws")] {
        // Behind another fault, and behind a folder that may be shown.
        let text_of = format!("tools = [\"teleport\"]\n{}{}", named("toolchain"), named(path));
        std::fs::write(platform.home().join("profiles/keys.toml"), &text_of).unwrap();
        let check = platform.cli(&["profile", "check", "keys"]);
        assert!(check.status.code() == Some(1) && text(&check.stdout).contains(why), "{path}: {}", all(&check));
        std::fs::write(platform.home().join("profiles/keys.toml"), named(path)).unwrap();
        let reach = platform.cli(&["reach", "keys"]);
        assert!(reach.status.code() == Some(1) && text(&reach.stderr).contains(why), "{path}: {}", all(&reach));
        let run =
            platform.cli(&["exec", "--profile", "keys", "--", "cat", home.join(".aws/credentials").to_str().unwrap()]);
        assert!(run.status.code() == Some(125) && text(&run.stderr).contains(why), "{path}: {}", all(&run));
        assert!(!all(&run).contains("canary"), "{path}: {}", all(&run));
    }
    let runs = platform.json(&["runs", "--json"]);
    for run in runs.as_array().unwrap() {
        let entries = platform.json_lines(&["log", run["run"].as_str().unwrap(), "--json"]);
        assert!(entries.iter().all(|entry| entry["event"]["kind"] != "walls"), "a box was made: {entries:#?}");
    }
    let evidence = text(&api(&platform, "/api/evidence"));
    assert_eq!(evidence.matches("where keys are kept").count(), 3, "{evidence}");
    assert!(!evidence.contains("canary"), "{evidence}");
    platform.stop();
}
