//! A secret that is a text (a key file, a file of settings): kept as it is, delivered by a file or standard input alone, and
//! found in whatever is said of it.

use crate::shared::{all, platform, text};
use testkit::shell_capability;

/// Lines as a key file has them, and its end.
const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n\
                   AAAAMwAAAAtzc2gtZWQyNTUxOQAAACDcanary0123\nAAAEDcanaryOfTheLast=\n-----END OPENSSH PRIVATE KEY-----\n";

/// The use of it for a shell, by a lease of this name.
fn row(lease: &str, delivery: &str) -> String {
    shell_capability(lease, "capability/key", "shop", delivery)
}

#[test]
fn a_key_file_is_a_commands_file_or_standard_input_to_the_byte_and_no_line_of_it_is_shown_to_anyone() {
    let platform = platform();
    let set = platform.cli_with_input(&["secret", "set", "capability/key"], KEY.as_bytes());
    assert!(set.status.success(), "{}", all(&set));
    assert!(platform.ok(&["secret", "list"]).contains("custom (text)"));
    let profile = |name: &str, text: &str| {
        std::fs::write(platform.home().join(format!("profiles/{name}.toml")), text).expect("a profile is written");
    };
    profile("keys", &(row("file", "{ file = \"KEY_FILE\" }") + &row("stdin", "\"stdin\"")));
    let lines = KEY.lines().filter(|line| !line.contains("---"));
    for (lease, from) in [("file", "$KEY_FILE"), ("stdin", "/dev/stdin")] {
        // As it is, by its length and end; then line by line, in another order and in JSON.
        let line = format!(
            "k=$(cat {from}; echo .); echo \"$((${{#k}} - 1)) bytes\"; echo \"$k\" | tac; \
             echo \"$k\" | while read -r l; do printf '\"%s\\\\n\" ' \"$l\"; done"
        );
        let out = platform.cli(&["exec", "--profile", "keys", "--lease", lease, "--", "sh", "-c", &line]);
        assert!(out.status.success(), "{}", all(&out));
        let said = text(&out.stdout);
        assert!(said.contains(&format!("{} bytes", KEY.len())), "{lease}: {said}");
        assert!(said.contains("[scrubbed:capability/key"), "{lease}: {said}");
        for line in lines.clone() {
            assert!(!all(&out).contains(line), "{lease}: {said}");
        }
    }
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    let log = platform.ok(&["log", &run, "--json"]);
    assert!(lines.clone().all(|line| !log.contains(line)), "{log}");
    // It stands in no variable, and goes into no request.
    for (name, delivery) in [("variable", "{ variable = \"KEY\" }"), ("proxy", "\"proxy\"")] {
        profile(name, &row("file", delivery));
        let no = platform.cli(&["exec", "--profile", name, "--lease", "file", "--", "true"]);
        assert!(!no.status.success() && all(&no).contains("text of several words or lines"), "{name}: {}", all(&no));
        let check = platform.cli(&["profile", "check", name]);
        assert!(all(&check).contains("text of several words or lines"), "{name}: {}", all(&check));
    }
    // Of one line the end is none of the value's, and a header takes it again.
    let rotated = platform.cli_with_input(&["secret", "rotate", "capability/key"], b"one-line-of-a-value\n");
    assert!(rotated.status.success(), "{}", all(&rotated));
    assert_eq!(platform.cli(&["profile", "check", "proxy"]).status.code(), Some(0));
    let no = platform.cli_with_input(&["secret", "set", "model/m"], KEY.as_bytes());
    assert!(!no.status.success() && all(&no).contains("goes into a header"), "{}", all(&no));
}
