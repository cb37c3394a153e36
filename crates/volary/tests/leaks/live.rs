//! A box while it runs, with a command under a lease of each way at once: memory, environment, command line, open files and
//! file system of every process in it, searched by the host's root for every secret of the run in every form.
//!
//! Only the tree of the command that was given a value may hold it, and process 1, which gave it and looks for it in what the
//! command says; neither may hold another one. What the gateway puts in is in no process of the box.

#[path = "../shared/boxes.rs"]
mod boxes;

use crate::everything::{self, Said};
use crate::minted::{MODEL_KEY, keys};
use crate::search::{Canary, Forms, Search};
use crate::{SMALL, VOLARY, random};
use boxes::{memory_of, processes_of_boxes, words};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use testkit::{
    ModelDouble, OauthDouble, Outside, Platform, Repo, Temporary, Tokens, Turn, Vendors, eventually, mirror,
    shell_capability,
};

/// What opens the door of each command to its value: name, secret, destination, delivery, and how it reads what it was given.
const GIVEN: [(&str, &str, &str, &str, &str); 6] = [
    ("in-variable", "one", "shop", "{ variable = \"TOKEN\" }", "v=\"$TOKEN\""),
    ("in-file", "two", "shop", "{ file = \"TOKEN_FILE\" }", "v=$(cat $TOKEN_FILE)"),
    ("on-input", "three", "shop", "\"stdin\"", "read -r v"),
    (
        "by-git",
        "four",
        "git.example/shop",
        "\"git-helper\"",
        "v=$(printf \"protocol=https\\nhost=git.example\\n\\n\" | git credential fill | sed -n s/password=//p)",
    ),
    ("role", "role", "files", "{ file = \"TOKEN_FILE\" }", "v=$(cat $TOKEN_FILE)"),
    ("account", "account", "cluster", "\"stdin\"", "read -r v"),
];

/// Stays, with a word in its command line by which its tree is known.
fn stays(number: usize, first: &str) -> String {
    format!("sh -c '{first}; sleep {number}00100 & wait'")
}

/// Which command's tree a process is of.
fn tree(pid: u32) -> Option<usize> {
    let line = words(pid);
    (0..GIVEN.len() + 3).find(|number| line.contains(&format!("sleep {number}00100")))
}

fn profile() -> String {
    let rows = GIVEN.map(|(name, secret, destination, delivery, _)| {
        shell_capability(name, &format!("capability/{secret}"), destination, delivery)
    });
    let host = mirror::HOST;
    let proxies = [("inject", "capability/app"), ("signed-in", "connection/x")].map(|(name, secret)| {
        format!(
            "[[capability]]\nname = \"{name}\"\nsecret = \"{secret}\"\nkind = \"command\"\ndestinations = [\"{host}\"]\n\
             executables = [\"/usr/bin/sh\"]\nseconds = 600\n[[egress.write]]\ncapability = \"{name}\"\nhost = \"{host}\"\n\
             method = \"POST\"\npath = \"/api/v3/repos/body/{name}\"\n"
        )
    });
    let repository = format!(
        "[[repository]]\nid = \"r\"\nurl = \"https://{host}/body/r\"\nsecret = \"capability/app\"\nforge = \"github\"\n"
    );
    format!("{}{}{repository}{SMALL}", rows.concat(), proxies.concat())
}

/// A connection that was signed in, exchanged its first token, and may be used at the mirror.
fn connection(platform: &Platform) -> OauthDouble {
    let provider = OauthDouble::start(Tokens::Once, Some(0));
    provider.tail(&format!(".{}~{}", random(), random()));
    let urls = ["/token", "/device"].map(|path| provider.url(path));
    let add =
        ["connect", "add", "x", "--client-id", "volary", "--internal", "--scopes", "read", "--host", mirror::HOST];
    drop(platform.ok(&[&add[..], &["--token-url", &urls[0], "--device-url", &urls[1]]].concat()));
    drop(platform.ok(&["connect", "sign-in", "x"]));
    provider.lives(Some(3600));
    drop(platform.ok(&["connect", "test", "x"]));
    provider
}

/// What stands in a process: its memory, environment, command line, and the regular files that it has open. Nothing in one that has
/// ended since it was listed: of git's, some end after the command that started them.
fn within(forms: &Forms, pid: u32) -> BTreeSet<String> {
    forms.among(|to| {
        let memory = memory_of(pid, 1024, |piece| to.write_all(&split(piece)).expect("the search reads"));
        let Some(mut bytes) = memory.filter(|bytes| *bytes > 0) else { return };
        for file in ["environ", "cmdline"] {
            to.write_all(&split(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()))
                .expect("the search reads");
        }
        for open in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            // What it closed meanwhile it cannot read either.
            let Ok(about) = fs::metadata(open.path()) else { continue };
            if about.is_file()
                && let Ok(mut file) = File::open(open.path())
            {
                bytes += std::io::copy(&mut file, to).expect("the search reads");
                to.write_all(b"\n").expect("the search reads");
            }
        }
        assert!(bytes > 50_000, "only {bytes} bytes of {} were read", words(pid));
    })
}

/// With line ends for zeros: memory is mostly these, and a search goes by lines.
fn split(piece: &[u8]) -> Vec<u8> {
    piece.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).chain([b'\n']).collect()
}

/// Every secret there is by now, by the names that the search says.
fn canaries(values: &[String], aws: &str, vendors: &Vendors, provider: &OauthDouble) -> Vec<Canary> {
    let mut all: Vec<Canary> =
        values.iter().zip(GIVEN).map(|(value, (name, ..))| Canary::new(&format!("<{name}>"), value)).collect();
    all.push(Canary::new("the model's key", MODEL_KEY));
    all.push(Canary::new("the role's key", aws));
    all.push(Canary::new("the account's bearer", &vendors.bearer()));
    all.push(Canary::new("the app's key", vendors.key().lines().nth(7).expect("it has many lines")));
    all.extend(provider.given().iter().map(|token| Canary::new("a token of the connection", token)));
    for minted in vendors.minted() {
        let of = if !minted.repository.is_empty() {
            "a token of the app"
        } else if minted.values.len() == 1 {
            "<account>"
        } else {
            "<role>"
        };
        all.extend(minted.values.iter().map(|value| Canary::new(of, value)));
    }
    // What is signed for a vendor opens what it opens for as long as it lives.
    all.extend(vendors.shown().iter().map(|shown| Canary::new("what was shown to a vendor", shown)));
    all
}

#[test]
fn while_a_command_with_each_way_runs_no_secret_is_in_its_box_but_what_it_was_given_itself() {
    let temporary = Temporary::enter(VOLARY);
    let vendors = Vendors::new("body");
    let outside = Outside::enter_minting(None, &vendors);
    let platform = Platform::start_with(VOLARY, &outside.options());
    let aws = keys(&platform, &vendors);
    let values = [(); 4].map(|()| format!("tok{}/+{}==", random(), random()));
    for (value, (_, secret, ..)) in values.iter().zip(GIVEN) {
        platform.secret(&format!("capability/{secret}"), value);
    }
    let provider = connection(&platform);
    fs::write(platform.home().join("profiles/live.toml"), profile()).expect("it is written");

    let host = mirror::HOST;
    let proxies = ["inject", "signed-in"];
    let wishes =
        GIVEN.iter().map(|(name, _, destination, ..)| (*name, *destination)).chain(proxies.map(|name| (name, host)));
    let wish = |(name, destination): (&str, &str)| {
        ("lease".to_owned(), json!({ "capability": name, "destination": destination, "reason": "to hold it" }))
    };
    let post = |name: &str| {
        format!(
            "curl -sS -X POST -H \"authorization: Bearer $VOLARY_HANDLE\" https://{host}/api/v3/repos/body/{name}/issues"
        )
    };
    let firsts = GIVEN.iter().map(|(.., reads)| (*reads).to_owned()).chain(proxies.map(post));
    let mut tools: Vec<_> = firsts
        .enumerate()
        .map(|(n, first)| {
            let lease = format!("{{lease {}}}", n + 1);
            ("shell".to_owned(), json!({ "command": stays(n, &first), "timeout": 500, "lease": lease }))
        })
        .collect();
    let fetch = stays(tools.len(), &format!("git ls-remote https://{host}/body/r >/dev/null 2>&1"));
    tools.push(("shell".to_owned(), json!({ "command": fetch, "timeout": 500 })));
    let all = tools.len();
    let turns = vec![
        Turn { tools: wishes.map(wish).collect(), ..Turn::says("I ask.") },
        Turn { tools, ..Turn::says("All at once.") },
        Turn::says("Done."),
    ];
    let double = ModelDouble::start(MODEL_KEY, turns);
    platform.secret("model/anthropic", MODEL_KEY);
    let add = ["model", "add", "m", "--provider", "anthropic", "--id", "claude-test", "--base"];
    drop(platform.ok(&[&add[..], &[&double.url(), "--internal", "--price", "3,15"]].concat()));
    let repo = Repo::failing();
    let mut run = platform
        .command()
        .args(["run", "--repo", repo.path_str(), "--model", "m", "--profile", "live", "hold it"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("volary starts");

    // Each holds what it was given, and what the gateway puts in was used.
    let pids = eventually("all commands", || {
        let pids = processes_of_boxes(platform.label());
        let sleeps = pids.iter().filter(|pid| words(**pid).starts_with("sleep ")).count();
        (sleeps == all).then_some(pids)
    });
    let canaries = canaries(&values, &aws, &vendors, &provider);
    let forms = Forms::of(&canaries);
    let process = |start: &str| pids.iter().copied().find(|pid| words(*pid).starts_with(start)).expect("it lives");
    let (runner, agent) = (process("/run/volary/runner"), process("/run/volary/agent"));
    let mut held = BTreeSet::new();
    for pid in &pids {
        let found = within(&forms, *pid);
        for what in &found {
            let may = match tree(*pid) {
                _ if *pid == runner => what.starts_with('<'),
                Some(n) => GIVEN.get(n).is_some_and(|(name, ..)| what.starts_with(&format!("<{name}>"))),
                None => false,
            };
            assert!(may, "{what} is in {}", words(*pid));
        }
        held.extend(tree(*pid).filter(|_| !found.is_empty()));
    }
    // The control: the search sees what each was given.
    assert_eq!(held, (0..GIVEN.len()).collect(), "what a command was given was not found in it");
    assert!(double.requests().len() == 2 && vendors.minted().len() >= 4, "{:?}", vendors.minted());

    // Its files, by its own mounts. /usr is the host's system; /proc is what was read above.
    let skip = ["usr", "proc", "sys"].map(OsStr::new);
    let root = PathBuf::from(format!("/proc/{agent}/root/."));
    assert_eq!(forms.below(std::slice::from_ref(&root), &skip), BTreeSet::new());
    let control = Forms::of(&[Canary::new("the control", "return a < b ? a : b;")]);
    let control = control.below(&[root], &skip);
    assert!(control.iter().any(|(_, file)| file.ends_with("workspace/max.c")), "{control:?}");

    // Everything that the host keeps meanwhile; who began the run, and the platform's own processes, as far as others see them.
    assert_eq!(forms.below(&temporary.folders(), &[]), BTreeSet::new());
    let own = ["server", "gateway", "operator"].map(|name| platform.pid_of(name).expect("it lives"));
    for pid in own.into_iter().chain([run.id()]) {
        let shown = ["environ", "cmdline"].map(|file| fs::read(Path::new("/proc").join(pid.to_string()).join(file)));
        let found =
            forms.among(|to| shown.iter().flatten().for_each(|text| to.write_all(&split(text)).expect("it reads")));
        assert_eq!(found, BTreeSet::new(), "{}", words(pid));
    }
    assert_eq!(within(&forms, own[2]), BTreeSet::new(), "the operator");

    let client = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(client, rustix::process::Signal::INT).expect("it lives");
    run.wait().expect("it ends");
    let mut search = Search::new(&canaries);
    everything::look(&platform, &temporary, &Said::default(), &mut search);
    search.verdict();
    platform.stop();
}
