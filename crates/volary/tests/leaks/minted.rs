//! One minted value of each kind, given to a command and put into requests, by hosts and commands that tell it.

use crate::everything::{self, Said};
use crate::search::{Canary, Search};
use crate::{SMALL, TELLS, VOLARY};
use serde_json::json;
use testkit::{
    INSTALLATION, ModelDouble, Outside, Platform, Repo, Temporary, Turn, Vendors, eventually, mirror, shell_capability,
};

/// What the model of these runs is opened with.
pub const MODEL_KEY: &str = "sk-ant-api03-of-the-minted-leak-hunt";

/// Keeps the keys that the vendors mint by, and gives the role's.
pub fn keys(platform: &Platform, vendors: &Vendors) -> String {
    let aws = format!("aws/{}+==", crate::random());
    let (number, base) = (INSTALLATION.to_string(), format!("https://{}/api/v3", mirror::HOST));
    let app = ["--kind", "github-app", "--app", "123", "--installation", &number, "--base", &base];
    let role = ["--access-key", "AKIAIOSFODNN7EXAMPLE", "--role", "arn:aws:iam::123456789012:role/deploy"];
    let role = [&role[..], &["--region", "eu-central-1"]].concat();
    let account = ["--base", "https://k.example", "--namespace", "ci", "--account", "deployer"];
    for (name, more, value) in [
        ("app", &app[..], vendors.key()),
        ("role", &role[..], aws.clone()),
        ("account", &account[..], vendors.bearer()),
    ] {
        let name = format!("capability/{name}");
        let line = [&["secret", "set", name.as_str()], more].concat();
        let done = platform.cli_with_input(&line, value.as_bytes());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    aws
}

fn profile() -> String {
    let ways = [
        ("app", "app", "mirror.example/body/r", "{ variable = \"TOKEN\" }"),
        ("role", "role", "files", "{ file = \"TOKEN_FILE\" }"),
        ("process", "role", "files", "\"stdin\""),
        ("account", "account", "cluster", "\"stdin\""),
    ];
    let mut rows: String = ways
        .iter()
        .map(|(name, secret, destination, delivery)| {
            shell_capability(name, &format!("capability/{secret}"), destination, delivery)
        })
        .collect();
    // What the gateway puts into a request comes back as well.
    let host = mirror::HOST;
    rows += "[[capability]]\nname = \"inject\"\nsecret = \"capability/app\"\nkind = \"tool\"\n";
    rows += &format!("destinations = [\"{host}\"]\nexecutables = [\"/usr/bin/sh\"]\n");
    rows += &format!(
        "[[egress.write]]\ncapability = \"inject\"\nhost = \"{host}\"\nmethod = \"POST\"\npath = \"/api/v3/repos\"\n"
    );
    rows + &format!(
        "[[repository]]\nid = \"r\"\nurl = \"https://{host}/body/r\"\nsecret = \"capability/app\"\nforge = \"github\"\n{SMALL}"
    )
}

#[test]
fn what_vendors_mint_is_told_in_every_form_and_kept_and_shown_nowhere_nor_told_to_the_model() {
    let temporary = Temporary::enter(VOLARY);
    let vendors = Vendors::new("body");
    let outside = Outside::enter_minting(None, &vendors);
    let platform = Platform::start_with(VOLARY, &outside.options());
    let aws = keys(&platform, &vendors);
    std::fs::write(platform.home().join("profiles/mint.toml"), profile()).expect("it is written");
    let wishes = [
        ("app", "mirror.example/body/r"),
        ("role", "files"),
        ("process", "files"),
        ("account", "cluster"),
        ("inject", mirror::HOST),
    ];
    let wish = |(name, destination): (&str, &str)| {
        ("lease".to_owned(), json!({ "capability": name, "destination": destination, "reason": "to deploy" }))
    };
    let tell = |lease: usize| {
        ("shell".to_owned(), json!({ "command": TELLS, "timeout": 500, "lease": format!("{{lease {lease}}}") }))
    };
    let host = mirror::HOST;
    let post = format!(
        "sh -c 'curl -sS -D - -X POST -H \"authorization: Bearer $VOLARY_HANDLE\" https://{host}/api/v3/repos/body/r/issues'"
    );
    let post = json!({ "command": post, "lease": format!("{{lease {}}}", wishes.len()) });
    let fetch = format!("GIT_TRACE_CURL=1 git ls-remote https://{host}/body/r 2>&1 | cat");
    let turns = vec![
        Turn { tools: wishes.map(wish).to_vec(), ..Turn::says("I ask.") },
        Turn { tools: (1..wishes.len()).map(tell).collect(), ..Turn::says("I go.") },
        Turn {
            tools: vec![("shell".to_owned(), post), ("shell".to_owned(), json!({ "command": fetch }))],
            ..Turn::says("And out.")
        },
        Turn::says("Done."),
    ];
    let double = ModelDouble::start(MODEL_KEY, turns);
    platform.secret("model/anthropic", MODEL_KEY);
    let add = ["model", "add", "m", "--provider", "anthropic", "--id", "claude-test", "--base"];
    drop(platform.ok(&[&add[..], &[&double.url(), "--internal", "--price", "3,15"]].concat()));
    let repo = Repo::failing();
    let mut said = Said::default();
    let out = platform.cli(&["run", "--repo", repo.path_str(), "--model", "m", "--profile", "mint", "deploy it"]);
    said.of("run", &out);
    let told: Vec<String> =
        double.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    let last = told.last().expect("the model was asked");
    let last = last.split_once("\"messages\"").map_or(last.as_str(), |(_, messages)| messages);
    // The control: each was minted, given and told, and what was told was taken out.
    for name in ["app", "role", "account"] {
        assert!(last.contains(&format!("[scrubbed:capability/{name}")), "{name}: {last}\n{:?}", out.status);
    }
    assert!(last.matches("given: ").count() >= wishes.len() - 1 && last.contains("you sent ["), "{last}");
    let minted = eventually("those that can be are revoked", || {
        let minted = vendors.minted();
        let open = minted.iter().filter(|one| !one.repository.is_empty() && !one.ended).count();
        (minted.len() >= 6 && open == 0).then_some(minted)
    });
    said.of("lease list", &platform.cli(&["lease", "list", "--all"]));
    let mut canaries =
        vec![Canary::new("the role's key", &aws), Canary::new("the account's bearer", &vendors.bearer())];
    // One line of the app's key stands for all of it.
    let key = vendors.key();
    canaries.push(Canary::new("the app's key", key.lines().nth(7).expect("it has many lines")));
    for (n, value) in minted.iter().flat_map(|one| &one.values).chain(&vendors.shown()).enumerate() {
        canaries.push(Canary::new(&format!("minted value or word {n}"), value));
    }
    let mut search = Search::new(&canaries);
    told.iter().for_each(|body| search.through("a request to the model", body.as_bytes()));
    everything::look(&platform, &temporary, &said, &mut search);
    search.below(repo.path());
    search.verdict();
    platform.stop();
}
