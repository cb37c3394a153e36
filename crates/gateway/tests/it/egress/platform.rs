//! The server's own calls: to one named host, over TLS, at public addresses, once, bounded.

use crate::egress::world::{PUBLIC, World, any};
use crate::house::past;
use api::grants::{FromGateway, ToGateway, WireSecret};
use api::platform::{
    CallCredential, CallLimits, CallWord, CredentialForm, MAX_ANSWER, Method, NamedHost, PlatformCall, Purpose, boot_ms,
};
use model::Secret;

/// What a refresh token looks like here, and an access token.
const REFRESH: &str = "refresh-canary-0b6d1e";
const ACCESS: &str = "access-canary-91c44a";

fn secret(value: &str) -> WireSecret {
    WireSecret(Secret::new(value.to_owned()))
}

pub(super) fn call(url: &str) -> PlatformCall {
    PlatformCall {
        purpose: Purpose::Refresh,
        method: Method::Post,
        url: url.to_owned(),
        named: NamedHost { host: "a.example".into(), port: 443, internal: false, within: Vec::new() },
        headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        body: Some(secret(&format!("refresh_token={REFRESH}"))),
        credential: Some(CallCredential {
            form: CredentialForm::Bearer,
            value: secret(ACCESS),
            secret: "connection/x".into(),
        }),
        limits: CallLimits { seconds: 30, answer_bytes: 64 * 1024, send_before_ms: None },
        lease: None,
    }
}

pub(super) async fn made(world: &mut World, call: PlatformCall) -> CallWord {
    world.house.say.send(ToGateway::Call { id: 5, call: Box::new(call) }).unwrap();
    heard(world).await
}

async fn heard(world: &mut World) -> CallWord {
    match world.house.hear().await {
        FromGateway::Called { id: 5, word } => word,
        other => panic!("not what became of the call: {other:?}"),
    }
}

/// What is wrong, and whether anything may have left.
fn wrong(word: CallWord) -> (String, bool) {
    match word {
        CallWord::Fault { unsent, rule, why } => {
            assert!(!why.contains(PUBLIC) && !why.contains("canary"), "{why}");
            (rule, !unsent)
        }
        CallWord::Answered { status, .. } => panic!("it answered {status}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_reaches_its_host_with_body_and_credential_and_its_answer_comes_back_whole() {
    let mut world = World::with(any()).await;
    let word = made(&mut world, call("https://a.example/echo?x=1")).await;
    let CallWord::Answered { status, body, .. } = word else { panic!("{word:?}") };
    assert_eq!((status, body.0.expose().as_str()), (200, format!("refresh_token={REFRESH}").as_str()));
    let saw = world.saw();
    assert_eq!((saw.tls, saw.method.as_str(), saw.target.as_str()), (true, "POST", "/echo?x=1"));
    assert_eq!(saw.header("authorization"), Some(format!("Bearer {ACCESS}").as_str()));
    assert_eq!((saw.header("host"), saw.header("cookie")), (Some("a.example"), None));
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_to_another_host_than_the_named_one_does_not_leave() {
    let mut world = World::with(any()).await;
    for url in ["https://b.example/", "https://a.example:8443/", "http://a.example/", "https://a.example@b.example/"] {
        let (rule, sent) = wrong(made(&mut world, call(url)).await);
        assert!(rule.starts_with("platform.") && !sent, "{url}: {rule}");
        world.nothing_left(url);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_named_host_at_an_address_that_is_not_public_is_not_reached_unless_it_is_marked() {
    let mut world = World::with(any()).await;
    for addresses in [&["10.0.0.1"][..], &[PUBLIC, "10.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]] {
        world.names.set("a.example", &[addresses]);
        let refused = wrong(made(&mut world, call("https://a.example/")).await);
        assert_eq!(refused, ("platform.address".to_owned(), false), "{addresses:?}");
        world.nothing_left("a private address");
    }
    let mut inside = call("https://10.0.0.1/echo");
    inside.named = NamedHost { host: "10.0.0.1".into(), port: 443, internal: true, within: Vec::new() };
    assert!(matches!(made(&mut world, inside).await, CallWord::Answered { status: 200, .. }));
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_by_a_profiles_exception_reaches_that_host_and_port_in_its_range_and_nothing_else() {
    let mut world = World::with(any()).await;
    let inside = |url: &str| {
        let mut call = call(url);
        call.named =
            NamedHost { host: "git.corp".into(), port: 8443, internal: false, within: vec!["10.2.3.0/24".into()] };
        call
    };
    world.names.set("git.corp", &[&["10.2.3.4"]]);
    let word = made(&mut world, inside("https://git.corp:8443/echo")).await;
    assert!(matches!(word, CallWord::Answered { status: 200, .. }), "{word:?}");
    let saw = world.saw();
    assert_eq!((saw.at.to_string().as_str(), saw.tls), ("10.2.3.4:8443", true));
    assert_eq!(saw.header("authorization"), Some(format!("Bearer {ACCESS}").as_str()));
    drop(world.origin.connected());
    for (addresses, rule) in [
        (&["10.2.4.4"][..], "address.private"),
        (&["10.2.3.4", "10.2.4.4"], "address.private"),
        (&["10.2.3.4", PUBLIC], "address.mixed"),
        (&[PUBLIC], "address.outside"),
        (&["169.254.169.254"], "address.metadata"),
    ] {
        world.names.set("git.corp", &[addresses]);
        let refused = wrong(made(&mut world, inside("https://git.corp:8443/")).await);
        assert_eq!(refused, (rule.to_owned(), false), "{addresses:?}");
        world.nothing_left(rule);
    }
    world.names.set("git.corp", &[&["10.2.3.4"]]);
    world.names.set("b.example", &[&["10.2.3.4"]]);
    for (url, rule) in [
        ("https://git.corp/", "platform.host"),
        ("https://b.example:8443/", "platform.host"),
        ("https://10.2.3.4:8443/", "platform.host"),
        ("http://git.corp:8443/", "platform.plain"),
    ] {
        assert_eq!(wrong(made(&mut world, inside(url)).await), (rule.to_owned(), false), "{url}");
        world.nothing_left(url);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_internal_mark_does_not_send_a_credential_to_a_public_address_in_the_clear() {
    let mut world = World::with(any()).await;
    let mut plain = call(&format!("http://{PUBLIC}/"));
    plain.named = NamedHost { host: PUBLIC.into(), port: 80, internal: true, within: Vec::new() };
    assert_eq!(wrong(made(&mut world, plain).await), ("platform.address".to_owned(), false));
    world.nothing_left("in the clear");
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_without_a_certificate_of_its_name_gets_nothing() {
    let mut world = World::with(any()).await;
    for host in ["untrusted.example", "wrong.example"] {
        let mut call = call(&format!("https://{host}/"));
        call.named.host = host.into();
        assert_eq!(wrong(made(&mut world, call).await), ("platform.unreachable".to_owned(), false));
        assert!(world.origin.seen().is_empty(), "{host}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_redirect_is_told_and_not_followed() {
    let mut world = World::with(any()).await;
    let word = made(&mut world, call("https://a.example/redirect")).await;
    let CallWord::Answered { status: 302, headers, .. } = word else { panic!("{word:?}") };
    assert!(headers.contains(&("location".to_owned(), "http://10.0.0.1/".to_owned())), "{headers:?}");
    assert_eq!(world.saw().target, "/redirect");
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_is_too_long_or_encoded_is_a_fault_after_which_the_host_may_have_acted() {
    let mut world = World::with(any()).await;
    let mut long = call("https://a.example/big");
    long.limits.answer_bytes = MAX_ANSWER * 8;
    assert_eq!(wrong(made(&mut world, long).await), ("platform.cut".to_owned(), true));
    assert_eq!(wrong(made(&mut world, call("https://a.example/gzip")).await), ("platform.encoding".to_owned(), true));
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_does_not_answer_is_given_up_after_the_calls_own_time_and_may_have_acted() {
    let mut world = World::with(any()).await;
    world.house.say.send(ToGateway::Call { id: 5, call: Box::new(call("https://a.example/hang")) }).unwrap();
    crate::house::when("the request", || !world.origin.seen().is_empty()).await;
    let word = past("the end of the call", 30, heard(&mut world)).await;
    assert_eq!(wrong(word), ("platform.slow".to_owned(), true));
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_that_was_held_up_beyond_its_last_moment_is_not_sent() {
    let mut world = World::with(any()).await;
    let mut late = call("https://a.example/");
    late.limits.send_before_ms = Some(boot_ms() - 1);
    assert_eq!(wrong(made(&mut world, late).await), ("platform.late".to_owned(), false));
    assert!(world.origin.seen().is_empty());
    let mut in_time = call("https://a.example/");
    in_time.limits.send_before_ms = Some(boot_ms() + 3_600_000);
    assert!(matches!(made(&mut world, in_time).await, CallWord::Answered { status: 200, .. }));
}
