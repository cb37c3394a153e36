//! A credential that lies in a repository: what of it the model's provider gets, and what becomes of the file.

use crate::shared::{anthropic, platform, run, text};
use serde_json::json;
use testkit::{ModelDouble, Repo, Turn};

const KEY: &str = "sk-ant-api03-right-one";

/// A token of somebody else's, and the file that it lies in.
fn token() -> String {
    format!("ghp_{}", "a1B2".repeat(9))
}

fn repo() -> Repo {
    let repo = Repo::failing();
    repo.write("ci.env", format!("USER=ci\nTOKEN={}\nDEBUG=0\n", token()).as_bytes());
    repo.commit("settings of the pipeline");
    repo
}

#[test]
fn a_token_of_a_repository_reaches_no_provider_and_its_file_keeps_it_whatever_the_model_writes() {
    let (platform, repo) = (platform(), repo());
    let shown = "USER=ci\nTOKEN=[redacted: github-token#0123abcd]\nDEBUG=1\n";
    let double = ModelDouble::start(
        KEY,
        vec![
            Turn::calls("read", json!({"path": "ci.env"})),
            Turn::calls("shell", json!({"command": "cat ci.env"})),
            Turn::calls("write", json!({"path": "ci.env", "content": shown})),
            Turn::calls(
                "edit",
                json!({"path": "ci.env", "old": "TOKEN=[redacted: github-token#0123abcd]\nDEBUG=0", "new": "x"}),
            ),
            Turn::calls("edit", json!({"path": "ci.env", "old": "DEBUG=0", "new": "DEBUG=1"})),
            Turn::says("It debugs now."),
        ],
    );
    anthropic(&platform, "claude", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end().0, "done", "{:?}", ran.end());
    let requests = double.requests();
    assert_eq!(requests.len(), 6);
    for (turn, request) in requests.iter().enumerate() {
        let body = text(&request.body);
        assert!(!body.contains(&token()), "turn {}: {body}", turn + 1);
        assert!(turn == 0 || body.contains("TOKEN=[redacted: github-token#"), "turn {}: {body}", turn + 1);
    }
    let results = ran.of_kind("tool-result");
    for at in [2, 3] {
        let told = results[at]["text"].as_str().expect("a text");
        assert!(results[at]["ok"] == false && told.contains("not shown") && told.contains("edit around it"), "{told}");
    }
    let now = repo.git(&["show", &format!("volary/{}:ci.env", ran.run)]);
    assert_eq!(now.trim_end(), format!("USER=ci\nTOKEN={}\nDEBUG=1", token()));
}

#[test]
fn a_profile_that_lets_formats_to_its_model_says_so_in_reach_and_in_the_run() {
    let (platform, repo) = (platform(), repo());
    let double = ModelDouble::start(KEY, vec![Turn::calls("read", json!({"path": "ci.env"})), Turn::says("Read.")]);
    anthropic(&platform, "claude", &double.url(), KEY);
    std::fs::write(platform.home().join("profiles/open.toml"), "[scrub]\nmodel = \"values\"\n").unwrap();
    assert!(
        text(&platform.cli(&["reach", "open"]).stdout)
            .contains("credentials that lie in files and pages go to the model's vendor")
    );
    let ran = run(&platform, &repo, &["--profile", "open"]);
    assert_eq!(ran.end().0, "done", "{:?}", ran.end());
    assert!(text(&double.requests()[1].body).contains(&token()));
    let kept = text(&platform.cli(&["log", &ran.run, "--json"]).stdout);
    assert!(!kept.contains(&token()) && kept.contains("[redacted: github-token#"), "{kept}");
}
