//! OAuth connections on a whole platform, before a provider on loopback: the server is killed at each step of a refresh,
//! and a person signs in, looks and ends with a browser.
//!
//! The steps: the refresh is journalled and not sent; it is sent and not answered; it is answered and not kept; it is
//! kept. What must be true afterwards, for a provider whose refresh tokens are good for one use: never two refreshes
//! under way, never more than one try of an old token, and either the newest token is here or the connection says that it is
//! closed.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::Duration;
use testkit::{Browser, Mood, OauthDouble, Platform, Tokens, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// How long the server may send a refresh after it has taken the lock, and a second more: `vault::refresh::SEND_MS`.
const SENT_MS: u64 = 5_000;

fn add(platform: &Platform, name: &str, provider: &OauthDouble) {
    add_ending_at(platform, name, provider, provider.url("/revoke"));
}

/// With its tokens ended at this address.
fn add_ending_at(platform: &Platform, name: &str, provider: &OauthDouble, revoke: String) {
    let [authorize, token, device] = ["/authorize", "/token", "/device"].map(|path| provider.url(path));
    let urls = [authorize, token, device, revoke];
    let [authorize, token, device, revoke] = urls.each_ref().map(String::as_str);
    let args = [
        "connect",
        "add",
        name,
        "--client-id",
        "volary",
        "--internal",
        "--json",
        "--authorize-url",
        authorize,
        "--token-url",
        token,
        "--device-url",
        device,
        "--revoke-url",
        revoke,
        "--scopes",
        "read,write",
    ];
    assert_eq!(platform.json(&args)["state"], "new");
}

/// Signs in with a device's code, which the provider's person has typed in already.
fn sign_in(platform: &Platform, name: &str) {
    let view = platform.json(&["connect", "sign-in", name, "--json"]);
    assert_eq!(view["state"], "live", "{view}");
}

fn view(platform: &Platform, name: &str) -> Option<Value> {
    let out = platform.cli(&["connect", "list", "--json"]);
    // The server may be away.
    let all: Value = serde_json::from_slice(&out.stdout).ok()?;
    all.as_array()?.iter().find(|one| one["name"] == name).cloned()
}

fn process(platform: &Platform, which: &str) -> Pid {
    let pid = eventually("its process", || platform.pid_of(which));
    Pid::from_raw(pid.cast_signed()).expect("a process id")
}

fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("it lives");
}

/// Kills the server and waits until another one answers.
fn kill_server(platform: &Platform) {
    let before = process(platform, "server");
    signal(before, Signal::KILL);
    eventually("another server", || {
        let now = platform.pid_of("server")?;
        (now != before.as_raw_nonzero().get().cast_unsigned() && platform.cli(&["connect", "list"]).status.success())
            .then_some(())
    });
}

#[test]
fn a_server_killed_between_journal_and_request_loses_no_sign_in() {
    let platform = Platform::start(VOLARY);
    // Due after eighteen seconds: the gateway stands still before that.
    let provider = OauthDouble::start(Tokens::Once, Some(24));
    add(&platform, "x", &provider);
    sign_in(&platform, "x");
    provider.lives(Some(3600));
    let gateway = process(&platform, "gateway");
    signal(gateway, Signal::STOP);
    eventually("the lock", || {
        let view = view(&platform, "x")?;
        // On a machine that was slow the refresh may have been made before the gateway stood still.
        let early = view["generation"].as_u64() == Some(2);
        (early || view["said"].as_str()?.contains("being refreshed")).then_some(())
    });
    let seen = api::platform::boot_ms();
    kill_server(&platform);
    // The request waits in the gateway's socket. After its last moment it is not sent.
    while api::platform::boot_ms() <= seen + SENT_MS {
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(gateway, Signal::CONT);
    eventually("the refresh", || (view(&platform, "x")?["generation"] == 2).then_some(()));
    let after = platform.json(&["connect", "test", "x", "--json"]);
    assert_eq!((after["state"].as_str(), after["generation"].as_u64()), (Some("live"), Some(2)));
    assert_eq!((provider.refreshes(), provider.most_at_once(), provider.good()), (1, 1, 2));
    platform.stop();
}

#[test]
fn a_server_killed_while_a_refresh_is_under_way_or_answered_tries_the_old_token_once_and_then_says_that_it_is_closed() {
    let platform = Platform::start(VOLARY);
    let names = ["strict", "answered", "lenient", "lasting"];
    let kinds = [Tokens::Once, Tokens::Once, Tokens::OnceLeniently, Tokens::Lasting];
    let providers = kinds.map(|kind| OauthDouble::start(kind, Some(0)));
    for (name, provider) in names.iter().zip(&providers) {
        provider.moods(&[Mood::Hold]);
        add(&platform, name, provider);
    }
    // Each is due at once; of none is the answer there before all are under way.
    std::thread::scope(|scope| {
        for name in names {
            let platform = &platform;
            scope.spawn(move || sign_in(platform, name));
        }
    });
    providers.iter().for_each(|provider| provider.lives(Some(3600)));
    eventually("the refreshes", || providers.iter().all(|provider| provider.refreshes() >= 1).then_some(()));
    let server = process(&platform, "server");
    signal(server, Signal::STOP);
    // This one's answer lies in the server's socket when it dies; the others' are on their way, or never come.
    providers[1].release();
    kill_server(&platform);
    providers.iter().for_each(OauthDouble::release);
    for (name, provider) in names.iter().zip(&providers) {
        let settled = eventually("what became of it", || {
            let view = view(&platform, name)?;
            (view["state"] == "lapsed" || view["generation"] == 2).then_some(view)
        });
        assert!(provider.refreshes() <= 2, "{name}: {}", provider.refreshes());
        assert_eq!(provider.most_at_once(), 1, "{name}");
        match *name {
            // The provider has changed its tokens, and nobody has the new ones; or it was told in time.
            "strict" | "answered" if settled["state"] == "lapsed" => {
                assert!(settled["said"].as_str().unwrap().contains("sign in again"), "{settled}");
                let out = platform.cli(&["connect", "test", name]);
                assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("sign in again"));
                assert_eq!(provider.good(), 2, "the old token got nothing");
            }
            _ => assert_eq!(settled["state"], "live", "{name}: {settled}"),
        }
    }
    // What is kept is kept: another kill costs nothing.
    let before = providers[2].refreshes();
    kill_server(&platform);
    let after = platform.json(&["connect", "test", "lenient", "--json"]);
    assert_eq!((after["state"].as_str(), after["generation"].as_u64()), (Some("live"), Some(2)));
    assert_eq!(providers[2].refreshes(), before);
    platform.stop();
}

#[test]
fn a_person_signs_in_with_a_browser_sees_how_it_stands_and_ends_it() {
    let platform = Platform::start(VOLARY);
    let provider = OauthDouble::start(Tokens::Once, Some(3600));
    add(&platform, "forge", &provider);
    let browser = Browser::start();
    let link = platform.ok(&["sign-in"]).trim().to_owned();
    browser.open(&link);
    browser.click("form button");
    browser.wait_for_text("h1", "Runs");
    browser.open(&format!("{}/connections", platform.url()));
    browser.wait_for_text("tbody", "Nobody has signed in yet");
    browser.click("button[aria-label='Sign in to forge']");
    browser.wait_for_text("h1", "Sign in to forge");
    // The provider sends the browser back at once.
    browser.click("main a.primary");
    browser.wait_for_text("h1", "Finish the sign-in");
    assert_eq!(view(&platform, "forge").unwrap()["state"], "new", "the callback's page alone changes nothing");
    browser.click("form button.primary");
    browser.wait_for_text(".said", "Signed in to forge");
    browser.wait_for_text("tbody", "live");
    let page = browser.text("main").unwrap();
    assert!(!page.contains("canary"), "{page}");
    browser.click("a[aria-label='End forge']");
    browser.wait_for_text("h1", "End this connection?");
    browser.click("button.danger");
    browser.wait_for_text("tbody", "revoked");
    assert_eq!(provider.ended().len(), 2, "both tokens were ended at the provider");
    assert_eq!(view(&platform, "forge").unwrap()["state"], "revoked");
    assert!(browser.text(".said").unwrap().contains("✓ forge is ended."));

    // One whose provider does not confirm it.
    add_ending_at(&platform, "deaf", &provider, provider.url("/nothing"));
    sign_in(&platform, "deaf");
    browser.open(&format!("{}/connections", platform.url()));
    browser.click("a[aria-label='End deaf']");
    browser.wait_for_text("h1", "End this connection?");
    browser.click("button.danger");
    browser.wait_for_text("tbody", "revoking");
    let said = browser.text(".said").unwrap();
    assert!(
        said.contains("deaf is ended here.") && said.contains("has not confirmed it") && !said.contains('✓'),
        "{said}"
    );
    let told = platform.ok(&["connect", "revoke", "deaf"]);
    assert!(told.contains("revoking") && told.contains("deaf is ended here") && told.contains("status 404"), "{told}");
    let removed = platform.ok(&["connect", "remove", "deaf"]);
    assert!(removed.contains("has not confirmed") && removed.contains("in your account"), "{removed}");
    assert!(removed.contains("2 tokens"), "{removed}");

    // On the page, too; there is nothing left of this one.
    browser.open(&format!("{}/connections", platform.url()));
    browser.click("a[aria-label='Remove forge']");
    browser.wait_for_text("h1", "Remove this connection?");
    browser.click("button.danger");
    browser.wait_for_text("tbody", "There is no connection.");
    assert!(browser.text(".said").unwrap().contains("✓ forge is removed."));
    add(&platform, "again", &provider);
    assert_eq!(platform.json(&["connect", "remove", "again", "--json"])["left"], 0);
    drop(browser);
    platform.stop();
}
