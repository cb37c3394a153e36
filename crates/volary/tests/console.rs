//! The console in a real browser, before a whole platform: sign-in, a run that is watched live, a run that is
//! cancelled; the same pages without a script; and by the keyboard alone, on a phone, for every reader (`keyboard`).

#[path = "console/denials.rs"]
mod denials;
#[path = "console/keyboard.rs"]
mod keyboard;
#[path = "console/leases.rs"]
mod leases;
#[path = "console/live.rs"]
mod live;
#[path = "console/proposal.rs"]
mod proposal;
#[path = "console/secrets.rs"]
mod secrets;

use serde_json::{Value, json};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use testkit::{Browser, Platform, Repo, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// The scripted model's key.
const KEY: &str = "canary-console-0123456789";

/// What a hijacked model, and a program in the box, would write to take over the reader's browser.
const HOSTILE: &str = r#""><img src=x onerror="window.taken=1"><script>window.taken=1</script></template>"#;

/// A folder that a run's box can read: what the box waits for is there when a test says so, not when time has passed.
struct Gate(tempfile::TempDir);

impl Gate {
    /// Makes it, and the profile `gated` that mounts it.
    fn new(platform: &Platform) -> Self {
        let folder = tempfile::Builder::new().prefix("volary-g-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let profile = format!("folders = [{{ path = {:?} }}]\n", folder.path());
        std::fs::write(platform.home().join("profiles/gated.toml"), profile).unwrap();
        Self(folder)
    }

    /// A command that ends when the gate is opened.
    fn wait(&self) -> String {
        format!("until [ -e {}/open ]; do sleep 0.1; done", self.0.path().display())
    }

    fn open(&self) {
        let file = File::create(self.0.path().join("open")).unwrap();
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
    }
}

fn shell(command: &str) -> Value {
    json!([{ "name": "shell", "input": { "command": command } }])
}

/// Starts a run in the background and gives its id.
fn start(platform: &Platform, repo: &Repo, task: &str) -> String {
    let args =
        ["run", "--repo", repo.path_str(), "--profile", "gated", "--model", "scripted", "--background", "--json"];
    let view = platform.json(&[&args[..], &[task]].concat());
    view["run"].as_str().unwrap().to_owned()
}

fn sign_in(platform: &Platform, browser: &Browser) -> String {
    let link = platform.ok(&["sign-in"]).trim().to_owned();
    browser.open(&link);
    browser.click("form button");
    browser.wait_for_text("h1", "Runs");
    link
}

fn state(platform: &Platform, run: &str) -> String {
    let runs = platform.json(&["runs", "--json"]);
    let view = runs.as_array().unwrap().iter().find(|view| view["run"] == run).expect("the run is listed");
    view["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_person_signs_in_by_a_link_once_and_watches_a_run_as_it_happens() {
    let platform = Platform::start(VOLARY);
    let gate = Gate::new(&platform);
    let repo = Repo::failing();
    let fix = json!([{ "name": "edit", "input": { "path": "max.c", "old": "a < b", "new": "a > b" } }]);
    let talk = format!("printf '\\033[31mfirst\\033[0m\\n'; echo '{HOSTILE}'; {}; echo second", gate.wait());
    platform.script(
        "scripted",
        &json!([
            { "text": format!("I look at it {HOSTILE} first."), "tools": shell(&talk) },
            { "text": "Now I mend it.", "tools": fix },
            { "text": "All is mended now, and this is said in several pieces.", "pause_ms": 50 },
        ]),
        KEY,
    );

    let browser = Browser::start();
    let link = sign_in(&platform, &browser);
    browser.wait_for_text("tbody", "No run yet");
    let account = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    // In a small window it is not shown.
    let who = browser.script("return document.querySelector('.who').textContent");
    let account = String::from_utf8(account).unwrap();
    assert!(who.as_str().is_some_and(|who| who.split(' ').next() == Some(account.trim())), "{who}");
    // Gone with the page: as long as it is there, nothing was loaded anew.
    let mark = || browser.script("window.marked = true");
    let marked = || browser.script("return window.marked === true") == json!(true);
    drop(mark());
    browser.wait_for_text("#live-state", "live");
    let run = start(&platform, &repo, "Mend <b>max</b>");
    browser.wait_for_text("tbody .badge", "running");
    browser.wait_for_text("tbody .task a", "Mend <b>max</b>");
    assert!(marked(), "the list came by a reload");

    browser.click(&format!("#run-{run}"));
    browser.wait_for_text(".output", "first");
    drop(mark());
    browser.wait_for_text("#live-state", "live");
    let before = browser.text("main").unwrap();
    assert!(before.contains("I look at it") && before.contains("model.call"), "{before}");
    let output = browser.text(".output").unwrap();
    assert!(!output.contains("second") && !output.contains("[31m"), "{output}");
    assert_eq!(browser.text("#state").as_deref(), Some("running"));

    // The server dies while the run goes on: the page comes back by itself, and goes on where it was. What it says meanwhile
    // passes, and is kept.
    drop(browser.script(
        "const state = document.getElementById('live-state'); \
         const look = () => { window.cut ||= state.textContent.includes('reconnecting'); }; \
         new MutationObserver(look).observe(state, { childList: true, characterData: true, subtree: true });",
    ));
    let server = platform.pid_of("server").expect("the server's pid");
    let pid = rustix::process::Pid::from_raw(server.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    browser.wait_until("the page says that it reconnects", |b| b.script("return window.cut === true") == json!(true));
    browser.wait_until("the page is live again", |b| b.text("#live-state").as_deref() == Some("live"));

    gate.open();
    browser.wait_until("the command's last line", |b| b.text(".output").is_some_and(|t| t.contains("second")));
    browser.wait_for_text("#state", "done");
    browser.wait_for_text(".outcome", &format!("volary/{run}"));
    assert!(marked(), "the transcript came by a reload");
    let page = browser.text("main").unwrap();
    assert!(page.contains("All is mended now, and this is said in several pieces."), "{page}");
    assert!(browser.count(".tool .edit .ln.add") == 1 && browser.count(".outcome .ln.del") == 1);
    let totals = browser.text(".totals").unwrap().replace('\n', " ");
    assert!(totals.contains("Model calls 3") && totals.contains("Cost $0."), "{totals}");
    assert_eq!(browser.count("#cancel"), 0);
    assert!(browser.script("return document.title").as_str().unwrap().starts_with("done"));

    // What was written to take the browser over stands there to be read, and is nothing else.
    assert_eq!(browser.script("return window.taken === undefined"), json!(true));
    assert_eq!(browser.count("#log script, #log img, #log template"), 0);
    assert_eq!(browser.text("#log").unwrap().matches("<script>window.taken=1</script>").count(), 3, "{page}");

    // What was watched is what a reload shows.
    let watched = browser.text("#log").unwrap();
    browser.open(&format!("{}/runs/{run}", platform.url()));
    assert_eq!(browser.text("#log").unwrap(), watched);

    browser.open(&link);
    browser.click("form button");
    browser.wait_for_text("main", "was used already");
    drop(browser);
    platform.stop();
}

#[test]
fn a_run_is_cancelled_by_its_button() {
    let platform = Platform::start(VOLARY);
    let gate = Gate::new(&platform);
    let repo = Repo::failing();
    platform.script(
        "scripted",
        &json!([{ "text": "I wait.", "tools": shell(&format!("echo here; {}", gate.wait())) }]),
        KEY,
    );
    let run = start(&platform, &repo, "Wait for ever");

    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.click(&format!("#run-{run}"));
    browser.wait_for_text(".output", "here");
    browser.click("#cancel");
    browser.wait_for_text("h1", "Cancel this run?");
    assert_eq!(state(&platform, &run), "running", "the question alone ends nothing");
    browser.click("main form button");
    browser.wait_for_text("#state", "cancelled");
    browser.wait_for(".entry.end.cancelled");
    assert_eq!(browser.count(".working"), 0, "{:?}", browser.text("main"));
    assert_eq!(state(&platform, &run), "cancelled");
    drop(browser);
    platform.stop();
}

/// A browser without a script, or a person with a terminal: one request, and the whole answer.
fn ask(platform: &Platform, method: &str, path: &str, headers: &str) -> String {
    let host = platform.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}content-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn every_page_is_whole_without_a_script() {
    let platform = Platform::start(VOLARY);
    let gate = Gate::new(&platform);
    let repo = Repo::failing();
    let steps = format!("echo here; {}; echo there", gate.wait());
    platform.script("scripted", &json!([{ "text": "I wait.", "tools": shell(&steps) }, { "text": "I am done." }]), KEY);
    let run = start(&platform, &repo, "Wait");

    let link = platform.ok(&["sign-in"]);
    let path = link.trim().strip_prefix(platform.url()).unwrap();
    let redeemed = ask(&platform, "POST", path, "");
    let cookie = redeemed.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert!(ask(&platform, "POST", path, "").starts_with("HTTP/1.1 403"), "the link worked twice");
    assert!(ask(&platform, "GET", "/", "").starts_with("HTTP/1.1 401"), "the list without a session");

    let page = || ask(&platform, "GET", &format!("/runs/{run}"), &cookie);
    let early = eventually("the command's first line", || Some(page()).filter(|page| page.contains("here\n")));
    assert!(early.contains("badge running") && early.contains("Refresh") && !early.contains("there\n"), "{early}");
    gate.open();
    let late = eventually("the run's end", || Some(page()).filter(|page| page.contains("badge done")));
    for part in ["I wait.", "there\n", "I am done.", "model call", "walls read back as promised"] {
        assert!(late.contains(part), "{part}: {late}");
    }
    assert!(ask(&platform, "GET", "/", &cookie).contains(&format!("/runs/{run}")));
    platform.stop();
}
