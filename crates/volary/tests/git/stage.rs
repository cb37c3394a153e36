//! A platform with one repository at a git host.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use testkit::{Forge, Outside, Platform, Repo, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");
/// What opens the host.
pub const SECRET: &str = "canary-git-5f1e0c7a9b";

/// The whole stage. Fields end in this order.
pub struct Stage {
    platform: Platform,
    pub forge: Forge,
    outside: Outside,
    last: Mutex<String>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl Stage {
    /// One with a repository `app` of the failing program, and `more` in its row of the profile.
    pub fn start(more: &str) -> Self {
        Self::start_with(more, |_| {})
    }

    /// As [`Stage::start`]; `before` changes the host's repositories.
    pub fn start_with(more: &str, before: impl FnOnce(&Forge)) -> Self {
        let forge = Forge::new("oauth2", SECRET);
        let repo = Repo::failing();
        forge.mirror("app", repo.path());
        forge.mirror("other", repo.path());
        before(&forge);
        let outside = Outside::enter_with(&forge);
        let platform = Platform::start_with(VOLARY, &outside.options());
        platform.secret("capability/forge", SECRET);
        let profile = format!(
            "[[repository]]\nid = \"app\"\nurl = {:?}\nsecret = \"capability/forge\"\n{more}\n",
            Forge::url("app")
        );
        std::fs::write(platform.home().join("profiles/git.toml"), profile).expect("a profile");
        Self { platform, forge, outside, last: Mutex::default() }
    }

    /// Runs a script in a box of its own.
    pub fn exec(&self, script: &str) -> Done {
        self.cli(&["exec", "--profile", "git", "--", "sh", "-c", script])
    }

    /// A model `worker` whose one tool call is this command.
    pub fn worker(&self, command: &str) {
        let turns = serde_json::json!([
            { "tools": [{ "name": "shell", "input": { "command": command } }] },
            { "text": "It is done." },
        ]);
        self.platform.script("worker", &turns, "canary-model-key");
    }

    /// The model's turns, whatever they are.
    pub fn turns(&self, turns: &Value) {
        self.platform.script("worker", turns, "canary-model-key");
    }

    /// The command line, without a run of it.
    pub fn ask(&self, args: &[&str]) -> Done {
        let done = self.platform.cli(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code: done.status.code(), out: text(&done.stdout), err: text(&done.stderr) }
    }

    /// The leases, newest first.
    pub fn leases(&self) -> Vec<Value> {
        let all = self.platform.json(&["lease", "list", "--all", "--json"]);
        all.as_array().expect("a list").clone()
    }

    /// Runs the command line; what it started is the last run.
    pub fn cli(&self, args: &[&str]) -> Done {
        let done = self.platform.cli(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let runs = self.platform.json(&["runs", "--json"]);
        *self.last.lock().expect("nobody panicked") = runs[0]["run"].as_str().expect("a run").to_owned();
        Done { code: done.status.code(), out: text(&done.stdout), err: text(&done.stderr) }
    }

    /// The modes of the clones that lie on this host.
    pub fn clones(&self) -> Vec<u32> {
        let all = std::fs::read_dir(self.platform.home().join("mirrors")).expect("there are clones");
        let mode = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").metadata().expect("it is there").permissions().mode()
        };
        all.map(mode).collect()
    }

    /// Ends the platform and starts it again on its home.
    pub fn restart(&mut self) {
        self.platform.down();
        self.platform.up(&self.outside.options());
    }

    /// Opens a proposal for what the last run pushed.
    pub fn propose(&self) -> Done {
        let run = self.last.lock().expect("nobody panicked").clone();
        let done = self.platform.cli(&["pr", &run]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code: done.status.code(), out: text(&done.stdout), err: text(&done.stderr) }
    }

    /// The person signs in to the host: the connection `forge`. The profile's repository is opened by that from now on, with `more`
    /// in its row.
    pub fn connected(&self, more: &str) {
        let (token, device) = (Forge::oauth("token"), Forge::oauth("device"));
        let add = [
            "connect",
            "add",
            "forge",
            "--client-id",
            "volary",
            "--token-url",
            &token,
            "--device-url",
            &device,
            "--json",
        ];
        assert_eq!(self.platform.json(&add)["state"], "new");
        assert_eq!(self.platform.json(&["connect", "sign-in", "forge", "--json"])["state"], "live");
        let url = Forge::url("app");
        let profile = format!("[[repository]]\nid = \"app\"\nurl = {url:?}\nsecret = \"connection/forge\"\n{more}\n");
        std::fs::write(self.platform.home().join("profiles/git.toml"), profile).expect("a profile");
    }

    /// The newest run, whatever became of it.
    pub fn newest(&self) -> Option<String> {
        self.platform.json(&["runs", "--json"])[0]["run"].as_str().map(str::to_owned)
    }

    /// The person keeps a secret of their own for the host.
    pub fn own_secret(&self, own: &str) {
        for (more, value) in [(&["--personal", "yes"][..], SECRET), (&["--mine"], own)] {
            let set = [&["secret", "set"], more, &["capability/forge"]].concat();
            let done = self.platform.cli_with_input(&set, value.as_bytes());
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }

    /// The events of the last run.
    pub fn transcript(&self) -> Vec<Value> {
        let run = self.last.lock().expect("nobody panicked").clone();
        let lines = self.platform.json_lines(&["log", &run, "--json"]);
        lines.into_iter().map(|mut line| line["event"].take()).collect()
    }

    /// Waits until the last run was refused by this rule, which may be on the record after the box's end.
    pub fn refused(&self, rule: &str, what: &str) {
        let by_it = || self.rules().iter().any(|r| r == rule);
        eventually(&format!("a refusal by {rule} of {what}"), || by_it().then_some(()));
    }

    /// The rules by which the last run was refused so far.
    pub fn rules(&self) -> Vec<String> {
        let all = self.transcript();
        let refused = all.iter().filter(|event| event["kind"] == "verdict" && event["allowed"] == false);
        refused.map(|event| event["rule"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Who the runs are for.
    pub fn person(&self) -> String {
        let accepted =
            self.transcript().into_iter().find(|event| event["kind"] == "accepted").expect("it was accepted");
        accepted["person"].as_str().expect("a name").to_owned()
    }
}
