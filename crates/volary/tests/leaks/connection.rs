//! The tokens of an OAuth connection: put into a run's requests, before hosts that give them back, and shown to a provider
//! whose errors give back what it was shown; and the client's secret, which is shown to the provider too.

use crate::everything::{self, Said};
use crate::search::{Canary, Search};
use crate::{SMALL, VOLARY, ask_the_mirror, random, rows_to_the_mirror, the_mirror_was_asked};
use testkit::{Mood, OauthDouble, Outside, Platform, Temporary, Tokens, mirror};

/// What the provider's errors give back is told by these statuses: one that refuses, one that nobody understands, one that may
/// have acted, one that says nothing went wrong, one that sends elsewhere.
const STATUSES: [u16; 5] = [400, 418, 503, 200, 302];

/// The ways in which a git host gives it back here; all of them are another secret's (`main.rs`).
const GIT: [&str; 4] = ["body", "header", "redirect", "error"];

/// Which providers give back the client's secret, and how it is shown to them.
const CLIENTS: [(u16, &[&str]); 2] = [(400, BASIC), (503, IN_FORM)];

const BASIC: &[&str] = &["--client-secret"];
const IN_FORM: &[&str] = &["--client-secret", "--secret-in-form"];

fn add(platform: &Platform, name: &str, provider: &OauthDouble, (shown, secret): (&[&str], &str), said: &mut Said) {
    let urls = ["/authorize", "/token", "/device", "/revoke"].map(|path| provider.url(path));
    let [authorize, token, device, revoke] = urls.each_ref().map(String::as_str);
    let add = ["connect", "add", name, "--client-id", "volary", "--internal", "--host", mirror::HOST];
    let add = [&add[..], &["--host", mirror::HOST_OF_TWO]].concat();
    let add = [&add[..], &["--authorize-url", authorize, "--token-url", token]].concat();
    let add = [&add[..], &["--device-url", device, "--revoke-url", revoke, "--scopes", "read"], shown].concat();
    let sign_in = ["connect", "sign-in", name];
    let added = platform.cli_with_input(&add, secret.as_bytes());
    for (line, out) in [(&add[..], added), (&sign_in, platform.cli(&sign_in))] {
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        said.of(&line.join(" "), &out);
    }
}

/// A profile by which the connection's token is put into requests to the mirror, and opens repositories there.
fn profile() -> String {
    let host = mirror::HOST;
    let repositories = GIT.map(|way| {
        format!("[[repository]]\nid = \"{way}\"\nurl = \"https://{host}/{way}/r\"\nsecret = \"connection/x\"\n")
    });
    rows_to_the_mirror("connection/x") + &repositories.concat() + SMALL
}

#[test]
fn a_connections_tokens_that_hosts_and_its_provider_give_back_in_every_way_are_kept_and_shown_nowhere() {
    let temporary = Temporary::enter(VOLARY);
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let mut said = Said::default();
    // Due at once: its first token is exchanged before any is used.
    let provider = OauthDouble::start(Tokens::Once, Some(0));
    // Of what real ones are made of, and what each form writes in its own way; a name of a header is one as well.
    provider.tail(&format!(".{}~{}", random(), random()));
    // As odd as a form, and a basic sign-in, can write it.
    let secret = format!("client{}/+~={}", random(), random());
    add(&platform, "x", &provider, (BASIC, &secret), &mut said);
    provider.lives(Some(3600));
    let out = platform.cli(&["connect", "test", "x"]);
    // The server's own look may have exchanged it before.
    assert!(out.status.success() && provider.refreshes() >= 1, "{}", String::from_utf8_lossy(&out.stderr));
    said.of("connect test", &out);

    std::fs::write(platform.home().join("profiles/x.toml"), profile()).expect("the profile is written");
    let out = platform.cli(&["exec", "--profile", "x", "--", "sh", "-c", &ask_the_mirror()]);
    the_mirror_was_asked(&platform, &out, "[scrubbed:connection/x");
    said.of("exec", &out);

    // Providers that give back the refresh token, or the client's secret, that they are shown, each in an error of its own.
    let tokens = STATUSES.map(|status| (format!("of-{status}"), Mood::Echo(status), IN_FORM));
    let clients = CLIENTS.map(|(status, shown)| (format!("client-{status}"), Mood::EchoClient(status), shown));
    let providers: Vec<OauthDouble> = tokens
        .into_iter()
        .chain(clients)
        .map(|(name, mood, shown)| {
            let provider = OauthDouble::start(Tokens::Once, Some(0));
            provider.tail(&format!(".{}~{}", random(), random()));
            provider.moods(&[mood, mood]);
            add(&platform, &name, &provider, (shown, &secret), &mut said);
            let out = platform.cli(&["connect", "test", &name]);
            assert!(
                !out.status.success() && provider.refreshes() >= 1,
                "{name}: {}",
                String::from_utf8_lossy(&out.stdout)
            );
            said.of(&format!("connect test {name}"), &out);
            provider
        })
        .collect();
    // The control: each was shown it, in the way that its connection says.
    let in_form =
        |provider: &&OauthDouble| provider.requests().iter().any(|one| one.field("client_secret") == Some(&secret));
    let basic = |provider: &&OauthDouble| provider.requests().iter().any(|one| one.authorization.is_some());
    let shown = providers.iter().chain([&provider]);
    assert_eq!((shown.clone().filter(in_form).count(), shown.filter(basic).count()), (STATUSES.len() + 1, 2));
    for line in [&["connect", "list"][..], &["connect", "list", "--json"], &["connect", "revoke", "x"]] {
        said.of(&line.join(" "), &platform.cli(line));
    }
    let given: Vec<String> = providers.iter().chain([&provider]).flat_map(OauthDouble::given).collect();
    assert!(given.len() >= 2 * (STATUSES.len() + CLIENTS.len() + 2), "{given:?}");
    // Also without its marks: what shows some characters of a text alone, shows all of a token but those.
    let plain = |token: &str| token.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let canaries = given.iter().flat_map(|token| {
        let named = format!("the token {token:.16}");
        [Canary::new(&named, token), Canary::new(&format!("{named} without its marks"), &plain(token))]
    });
    let dashed = given.iter().map(|token| Canary::new("a token of words", &token.replace(['.', '~'], "")));
    let secrets = [secret.clone(), plain(&secret)].map(|value| Canary::new("the client's secret", &value));
    let session = Canary::new("what the mirror signed in by", mirror::SESSION);
    let mut search = Search::new(&canaries.chain(dashed).chain(secrets).chain([session]).collect::<Vec<_>>());
    everything::look(&platform, &temporary, &said, &mut search);
    search.verdict();
    platform.stop();
}
