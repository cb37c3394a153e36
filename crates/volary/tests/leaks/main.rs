//! The leak hunt: each kind of secret is used in each way, by tools and hosts that echo, log, mis-report and reflect it;
//! afterwards everything that the platform keeps or shows is searched for every secret in every form, and so is a box while it
//! runs ([`live`]). Of tool servers (MCP) there is no way yet: decision 0034.

mod connection;
mod everything;
mod forge;
mod live;
mod minted;
mod registry;
mod routes;
mod search;

use everything::Said;
use search::{Canary, Search};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::Output;
use testkit::{ModelDouble, Outside, Platform, Repo, Temporary, Turn, eventually, mirror, shell_capability};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// The end of every profile here. A worktree's image is among the files that are searched, whatever stands in it, so it is
/// small.
const SMALL: &str = "[limits]\nworktree-mib = 16\n";

/// A value that nobody else's search meets: random, of characters that each form writes in its own way. What no file's name
/// may hold stands in its middle: a name in which that is another character is no form of it.
fn odd() -> String {
    format!("k{}/+~\"q\\{}==", random(), random())
}

/// One that may stand in a name of a header too.
fn plain() -> String {
    format!("canary{}{}", random(), random())
}

fn random() -> String {
    let mut bytes = [0; 8];
    let mut source = std::fs::File::open("/dev/urandom").expect("the kernel has random bytes");
    source.read_exact(&mut bytes).expect("the kernel has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows by which what `capability` names is put into every request to the mirror, in either version of HTTP, and into what asks
/// for a WebSocket there.
fn rows_to_the_mirror(capability: &str) -> String {
    let hosts = [mirror::HOST, mirror::HOST_OF_TWO];
    let rows = hosts.iter().flat_map(|host| ["GET", "POST"].map(|method| (*host, method, "/")));
    rows.chain([(mirror::HOST, "UPGRADE", "/socket")]).fold(String::new(), |mut rows, (host, method, path)| {
        write!(
            rows,
            "[[egress.write]]\ncapability = \"{capability}\"\nhost = \"{host}\"\nmethod = \"{method}\"\npath = \"{path}\"\n"
        )
        .expect("memory takes it");
        rows
    })
}

/// A shell's line that has the mirror give back the handle in each of its ways: to the terminal, to a file named by the host,
/// and once by basic sign-in; over HTTP/2; over a WebSocket; and that shows the files.
fn ask_the_mirror() -> String {
    const BEARER: &str = "-H \"authorization: Bearer $VOLARY_HANDLE\"";
    const SOCKET: &str = "-H 'connection: upgrade' -H 'upgrade: websocket' -H 'sec-websocket-version: 13' \
                          -H 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=='";
    let mut ask = mirror::WAYS.iter().fold(String::new(), |mut ask, way| {
        let url = format!("https://{}/{way}", mirror::HOST);
        write!(
            ask,
            "echo '== {way}'; curl -sS -D - {BEARER} {url}; \
             curl -sSOJ -X POST -d a=b -H \"x-api-key: $VOLARY_HANDLE\" {url}?1; \
             curl -sSvL -u \"$VOLARY_HANDLE:\" {url} 2>&1; "
        )
        .expect("memory takes it");
        ask
    });
    // The box's own side is of either version, whatever the host's is.
    for way in mirror::WAYS_OF_TWO {
        let url = format!("https://{}/{way}", mirror::HOST_OF_TWO);
        ask += &format!("echo '== two {way}'; curl -sS -D - {BEARER} {url}; ");
        ask += &format!("curl -sSv --http1.1 -X POST -d a=b -u \"$VOLARY_HANDLE:\" {url} 2>&1; ");
    }
    for way in mirror::FRAMES {
        let url = format!("https://{}/socket/{way}", mirror::HOST);
        ask += &format!("echo '== socket {way}'; curl -sS -N --http1.1 -D - {SOCKET} {BEARER} {url} 2>&1; echo; ");
    }
    format!("cd /workspace; {ask} ls -l; cat *")
}

/// The controls of a command that asked the mirror, the last that ran: it was reached with the credential in every way, and what it
/// gave back was taken out, by `placeholder`; a WebSocket was cut before it said it; and no cookie came.
fn the_mirror_was_asked(platform: &Platform, out: &Output, placeholder: &str) {
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    let all = || format!("{shown}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(shown.matches(placeholder).count() >= mirror::WAYS.len(), "{}", all());
    assert!(!shown.contains("you sent nothing") && !shown.contains("handle.misplaced"), "{}", all());
    let (_, two) = shown.split_once("== two ").expect("it asked over HTTP/2");
    let (two, sockets) = two.split_once("== socket ").expect("it asked for WebSockets");
    assert!(two.matches("HTTP/").count() >= 2 * mirror::WAYS_OF_TWO.len(), "{two}");
    assert!(two.contains("see below") && two.matches(placeholder).count() >= mirror::WAYS_OF_TWO.len(), "{two}");
    assert_eq!(sockets.matches("HTTP/1.1 101 ").count(), mirror::FRAMES.len(), "{sockets}");
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("an id").to_owned();
    // The last may be on the record after the box's end.
    eventually("a record of each", || {
        let log = platform.ok(&["log", &run, "--json"]);
        let recorded = log.matches("\"websocket.credential\"").count();
        assert!(recorded <= mirror::FRAMES.len(), "{log}");
        (recorded == mirror::FRAMES.len()).then_some(())
    });
    assert!(!shown.to_ascii_lowercase().contains("set-cookie"), "{}", all());
}

#[test]
fn a_credential_that_its_host_gives_back_in_every_way_is_kept_and_shown_nowhere() {
    let temporary = Temporary::enter(VOLARY);
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let (odd, plain) = (odd(), plain());
    platform.secret("capability/odd", &odd);
    platform.secret("capability/plain", &plain);
    let mut said = Said::default();
    for name in ["odd", "plain"] {
        let profile = rows_to_the_mirror(name) + SMALL;
        std::fs::write(platform.home().join(format!("profiles/{name}.toml")), profile).expect("the profile is written");
        let out = platform.cli(&["exec", "--profile", name, "--", "sh", "-c", &ask_the_mirror()]);
        the_mirror_was_asked(&platform, &out, &format!("[scrubbed:capability/{name}"));
        said.of(&format!("exec --profile {name}"), &out);
    }
    let session = Canary::new("what the mirror signed in by", mirror::SESSION);
    let mut search =
        Search::new(&[Canary::new("the odd secret", &odd), Canary::new("the plain secret", &plain), session]);
    everything::look(&platform, &temporary, &said, &mut search);
    search.verdict();
    platform.stop();
}

#[test]
fn what_opens_a_repository_or_a_registry_that_gives_it_back_in_every_way_is_kept_and_shown_nowhere() {
    let temporary = Temporary::enter(VOLARY);
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let (odd, plain) = (odd(), plain());
    let mut said = Said::default();
    for (name, value) in [("odd", &odd), ("plain", &plain)] {
        platform.secret(&format!("capability/{name}"), value);
        let rows = mirror::WAYS.map(|way| {
            let url = format!("https://{}/{way}/r", mirror::HOST);
            format!("[[repository]]\nid = \"{way}\"\nurl = \"{url}\"\nsecret = \"capability/{name}\"\n")
        });
        let profile = rows.concat() + SMALL;
        std::fs::write(platform.home().join(format!("profiles/{name}.toml")), profile).expect("it is written");
        let ask = mirror::WAYS
            .map(|way| format!("GIT_TRACE_CURL=1 git ls-remote https://{}/{way}/r 2>&1 | cat; ", mirror::HOST))
            .concat();
        let out = platform.cli(&["exec", "--profile", name, "--", "sh", "-c", &ask]);
        // The control: the gateway refused what is no answer of a git host; it had asked.
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(shown.contains("/git/") && !shown.contains("you sent nothing"), "{shown}");
        said.of(&format!("git by {name}"), &out);
    }
    let granted = platform.json(&["runs", "--json"]);
    let runs = granted.as_array().expect("a list");
    let log = |run: &Value| platform.ok(&["log", run["run"].as_str().expect("an id"), "--json"]);
    assert!(runs.iter().all(|run| log(run).contains(mirror::HOST)), "the host was not asked");
    let mut canaries = registry::pull(&platform, &mut said);
    canaries.extend([Canary::new("the odd secret", &odd), Canary::new("the plain secret", &plain)]);
    let mut search = Search::new(&canaries);
    everything::look(&platform, &temporary, &said, &mut search);
    search.verdict();
    platform.stop();
}

/// A command's ways to tell what it was given: to the terminal in each form, as an error, in names, in files; and in the memory
/// of a process of it that dies, which would lie where the command stands.
const TELLS: &str = r#"sh -c 'v="$TOKEN"; [ -z "$TOKEN_FILE" ] || v=$(cat $TOKEN_FILE); [ -n "$v" ] || read -r v; echo "given: $v"; echo "error: bad token $v" >&2; printf %s "$v" | base64 -w 0; echo; printf "x%s" "$v" | base64 -w 0; echo; printf "xx%s" "$v" | base64 -w 0; echo; printf %s "$v" | od -An -v -tx1 | tr -d " \n"; echo; printf %s "$v" | rev; echo; cd $HOME; : > "named-$(printf %s "$v" | tr / _)"; echo "$v" > log; ls -l; cat log; (echo "$v" > /workspace/left) 2>&1; export v; sh -c "ulimit -c unlimited; kill -ABRT \$\$"; echo "died: $?, left: $(echo core*)"; exit 3'"#;

/// The control of that: outside a box the same leaves a core, and the search finds the value in it.
#[test]
fn a_process_that_dies_outside_a_box_leaves_what_it_was_given_in_a_core() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("the kernel has a pattern");
    // Elsewhere, or told to a program: nothing lies where the command stood, in a box or outside.
    if pattern.starts_with(['/', '|']) {
        return;
    }
    let value = plain();
    let home = tempfile::tempdir().expect("a folder");
    let tells = TELLS.strip_prefix("sh -c '").and_then(|tell| tell.strip_suffix('\'')).expect("a shell's line");
    let mut shell = std::process::Command::new("sh");
    let out = shell.args(["-c", tells]).env("TOKEN", &value).env("HOME", home.path()).output().expect("sh starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("died: 134, left: core") && !said.contains("left: core*"), "{said}");
    let mut search = Search::new(&[Canary::new("it", &value)]);
    search.below(home.path());
    let leaks = search.leaks();
    assert!(leaks.iter().any(|leak| leak.contains("(as it is)") && leak.contains("/core")), "{leaks:?}");
}

#[test]
fn what_a_command_is_given_and_tells_in_every_form_is_kept_and_shown_nowhere_nor_told_to_the_model() {
    const MODEL_KEY: &str = "sk-ant-api03-of-the-leak-hunt-itself";
    let temporary = Temporary::enter(VOLARY);
    let platform = Platform::start(VOLARY);
    let value = odd().replace('"', "'").replace('\\', "_");
    platform.secret("capability/shop", &value);
    // A person's own value, which takes the place of the workspace's; and one of several lines.
    let (own, shadowed, words) = (plain(), plain(), [plain(), plain()]);
    for (more, value) in [(&["--personal", "yes"][..], &shadowed), (&["--mine"], &own)] {
        let set = platform.cli_with_input(&[&["secret", "set", "capability/own"], more].concat(), value.as_bytes());
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    }
    platform.secret("capability/text", &format!("user = shop\ntoken = {}\n{}\n", words[0], words[1]));
    let ways = [
        ("in-variable", "shop", "{ variable = \"TOKEN\" }"),
        ("in-file", "shop", "{ file = \"TOKEN_FILE\" }"),
        ("on-input", "shop", "\"stdin\""),
        ("of-ones-own", "own", "{ variable = \"TOKEN\" }"),
        ("of-lines", "text", "{ file = \"TOKEN_FILE\" }"),
    ];
    let rows =
        ways.map(|(name, secret, delivery)| shell_capability(name, &format!("capability/{secret}"), "shop", delivery));
    std::fs::write(platform.home().join("profiles/shop.toml"), rows.concat() + SMALL).expect("it is written");
    let wish =
        |name: &str| ("lease".to_owned(), json!({ "capability": name, "destination": "shop", "reason": "to publish" }));
    let tell = |lease: usize| {
        ("shell".to_owned(), json!({ "command": TELLS, "timeout": 500, "lease": format!("{{lease {lease}}}") }))
    };
    // And the model's own host gives its key back: in words, and as errors, of which a call is made anew.
    const KEY: &str = "your key is {key}, invalid";
    let turns = vec![
        Turn { fail: Some(529), ..Turn::says(KEY) },
        Turn { tools: ways.map(|(name, ..)| wish(name)).to_vec(), ..Turn::says("I ask.") },
        Turn { tools: (1..=ways.len()).map(tell).collect(), ..Turn::says("I go.") },
        Turn::says(KEY),
    ];
    let double = ModelDouble::start(MODEL_KEY, turns);
    platform.secret("model/anthropic", MODEL_KEY);
    let add = ["model", "add", "m", "--provider", "anthropic", "--id", "claude-test", "--base"];
    drop(platform.ok(&[&add[..], &[&double.url(), "--internal", "--price", "3,15"]].concat()));
    let repo = Repo::failing();
    let mut said = Said::default();
    let out = platform.cli(&["run", "--repo", repo.path_str(), "--model", "m", "--profile", "shop", "publish it"]);
    said.of("run", &out);
    // The control: its host gave the key back. Letters that tell nothing may go before what is taken out (decision 0057).
    let shown = String::from_utf8_lossy(&out.stdout);
    let taken = |rest: &str| rest.find("[scrubbed:model/anthropic").is_some_and(|at| at <= 3);
    assert!(shown.split("your key is ").skip(1).any(taken), "{shown}");
    let canaries = [("the command's secret", &*value), ("the model's key", MODEL_KEY), ("a person's own", &own)];
    let of_text = [("the shadowed one", &*shadowed), ("a word", &words[0]), ("a line", &words[1])];
    let canaries: Vec<Canary> = canaries.iter().chain(&of_text).map(|(what, value)| Canary::new(what, value)).collect();
    let mut search = Search::new(&canaries);
    let told: Vec<String> =
        double.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    let last = told.last().expect("the model was asked");
    // The control: each told, and what it told was taken out; what died of it left nothing.
    for (secret, least) in [("shop", 3), ("own", 1), ("text", 1)] {
        let told = last.matches(&format!("given: [scrubbed:capability/{secret}")).count();
        assert!(told >= least, "{secret}: {last}\n{:?}", out.status);
    }
    assert!(last.matches("died: 134, left: core*").count() >= ways.len(), "{last}");
    told.iter().for_each(|body| search.through("a request to the model", body.as_bytes()));
    everything::look(&platform, &temporary, &said, &mut search);
    search.below(repo.path());
    search.verdict();
    platform.stop();
}
