//! Images of registries: asked for at the host that a profile names, with its addresses wherever they lie, and at whom
//! that sends on to, no further in; nothing believed, and tokens and passwords for the registry alone.

use crate::egress::registry::TOKEN;
use crate::egress::world::{PUBLIC, World, any};
use crate::house::{soon, when};
use api::cable::ToCable;
use api::frame;
use api::grants::FromGateway;
use api::images::{MAX_PART, Part, PartEnd, PartKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::OutwardProxy;
use std::os::fd::AsFd;
use tokio::net::UnixStream;

const PASSWORD: &str = "alice:canary-5f20c1";

fn digest() -> String {
    format!("sha256:{}", "0a".repeat(32))
}

fn blob(most: u64) -> Part {
    Part { digest: digest(), kind: PartKind::Blob, most }
}

/// What came of a part, and how it ended.
type Came = (Vec<u8>, Result<(), (String, String)>);

/// The operator's end of a pull.
struct Pull(UnixStream);

impl Pull {
    fn of(world: &World, image: &str) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket");
        let image = format!("{image}@{}", digest());
        world.house.send(&ToCable::Pull { run: world.house.run.clone(), image }, Some(theirs.as_fd()));
        ours.set_nonblocking(true).expect("a socket");
        Self(UnixStream::from_std(ours).expect("a socket"))
    }

    async fn ask(&mut self, part: &Part) {
        frame::write(&mut self.0, part).await.expect("the gateway reads");
    }

    async fn part(&mut self, part: &Part) -> Came {
        self.ask(part).await;
        self.came().await
    }

    async fn came(&mut self) -> Came {
        soon("a part", async {
            let mut came = Vec::new();
            loop {
                let piece = frame::read_bytes(&mut self.0).await.expect("the gateway says an end");
                if piece.is_empty() {
                    break;
                }
                assert!(piece.len() <= api::images::PIECE);
                came.extend(piece);
            }
            let end = frame::read(&mut self.0).await.expect("an end");
            (
                came,
                match end {
                    PartEnd::Whole => Ok(()),
                    PartEnd::Refused { rule, why } => Err((rule, why)),
                },
            )
        })
        .await
    }
}

/// What comes of one part of an image.
async fn pulled(world: &World, image: &str) -> Came {
    Pull::of(world, image).part(&blob(1000)).await
}

/// Which rule refuses one, and in which words.
async fn refused(world: &World, image: &str) -> (String, String) {
    pulled(world, image).await.1.expect_err("it is refused")
}

/// Lets hosts of these names lie there.
fn inside(world: &World) {
    world.names.set("inside.example", &[&["10.0.0.7"]]);
    world.names.set("registry.corp", &[&["10.0.0.1", "fd12::1"]]);
}

#[tokio::test(flavor = "current_thread")]
async fn an_image_is_asked_for_as_the_distribution_says_once_it_is_granted_and_settled_at_its_end() {
    let mut world = World::with(any()).await;
    let mut pull = Pull::of(&world, "a.example/plain");
    let manifest = Part { digest: digest(), kind: PartKind::Manifest, most: 1000 };
    assert_eq!(pull.part(&manifest).await, (b"a part".to_vec(), Ok(())));
    assert_eq!(pull.part(&blob(6)).await, (b"a part".to_vec(), Ok(())));
    drop(pull);
    let seen = world.origin.seen();
    let targets: Vec<_> = seen.iter().map(|seen| (seen.method.as_str(), seen.target.clone(), seen.tls)).collect();
    let (first, second) = (format!("/v2/plain/manifests/{}", digest()), format!("/v2/plain/blobs/{}", digest()));
    assert_eq!(targets, [("GET", first, true), ("GET", second, true)]);
    assert!(seen[0].header("accept").is_some_and(|accept| accept.contains("image.index.v1+json")));
    assert_eq!((seen[0].header("accept-encoding"), seen[0].header("authorization")), (Some("identity"), None));
    let asked = world.desk(|desk| std::mem::take(&mut desk.images));
    assert_eq!((asked.len(), asked[0].run.as_str()), (1, "run1"));
    assert_eq!(asked[0].image, format!("a.example/plain@{}", digest()));
    match world.house.hear().await {
        FromGateway::SettleEgress { grant, outcome } => {
            assert_eq!((grant.as_str(), outcome.status, outcome.received), ("image1", 200, 12));
            assert!(!outcome.interrupted);
        }
        other => panic!("not a settlement: {other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_the_server_does_not_grant_is_asked_of_nobody() {
    let mut world = World::with(any()).await;
    world.desk(|desk| desk.deny = true);
    assert_eq!(refused(&world, "a.example/plain").await.0, "test.denied");
    world.desk(|desk| desk.deny = false);
    for (image, rule) in [("a.example/UP", "image.name"), ("a b.example/x", "image.name")] {
        assert_eq!(refused(&world, image).await.0, rule, "{image}");
    }
    let beyond = Part { most: MAX_PART + 1, ..blob(1) };
    let strange = Part { digest: "sha256:../../etc".into(), ..blob(1) };
    for part in [beyond, strange] {
        let end = Pull::of(&world, "a.example/plain").part(&part).await.1.expect_err("refused");
        assert_eq!(end.0, "image.part");
    }
    world.house.kill_server().await;
    assert_eq!(refused(&world, "a.example/plain").await.0, "record.lost");
    world.nothing_left("nothing was granted");
}

#[tokio::test(flavor = "current_thread")]
async fn a_registry_that_a_profile_names_may_lie_in_the_own_network_and_nowhere_that_no_service_is() {
    let world = World::with(any()).await;
    inside(&world);
    assert_eq!(pulled(&world, "registry.corp/plain").await, (b"a part".to_vec(), Ok(())));
    assert_eq!(world.saw().header("host"), Some("registry.corp"));
    assert_eq!(pulled(&world, "10.0.0.1/plain").await.1, Ok(()));
    assert_eq!(pulled(&world, "127.0.0.1:8080/plain").await.1, Ok(()), "in plain HTTP on this very host");
    assert_eq!(world.origin.seen().iter().map(|seen| seen.tls).collect::<Vec<_>>(), [true, false]);
    drop(world.origin.connected());
    world.names.set("localhost", &[&["10.0.0.1"]]);
    for (name, addresses, rule) in [
        ("mixed.example", &[PUBLIC, "10.0.0.1"][..], "ground.mixed"),
        ("cloud.example", &["169.254.169.254"], "ground.nobodys"),
        ("both.example", &["10.0.0.1", "169.254.169.254"], "ground.nobodys"),
    ] {
        world.names.set(name, &[addresses]);
        let (is, why) = refused(&world, &format!("{name}/plain")).await;
        assert_eq!(is, rule, "{name}");
        assert!(why.contains(name) && addresses.iter().all(|address| !why.contains(address)), "{why}");
    }
    for name in ["untrusted.example", "wrong.example"] {
        assert_eq!(refused(&world, &format!("{name}/plain")).await.0, "egress.tls");
    }
    assert_eq!(refused(&world, "absent.example/plain").await.0, "egress.name");
    assert!(world.origin.seen().is_empty(), "nobody of these was asked anything");
}

#[tokio::test(flavor = "current_thread")]
async fn whom_a_registry_sends_on_to_lies_no_further_in_than_itself_and_is_asked_over_tls() {
    let world = World::with(any()).await;
    inside(&world);
    assert_eq!(pulled(&world, "a.example/elsewhere").await, (b"a part from there".to_vec(), Ok(())));
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[1].header("host"), seen[1].target.as_str()), (Some("b.example"), "/there?signed=1"));
    // From the own network both out and along.
    assert_eq!(pulled(&world, "registry.corp/elsewhere").await.1, Ok(()));
    assert_eq!(pulled(&world, "registry.corp/inward").await.1, Ok(()));
    drop(world.origin.seen());
    for (image, rule) in [
        ("a.example/inward", "ground.inward"),
        ("a.example/loopback", "ground.inward"),
        ("registry.corp/loopback", "ground.inward"),
        ("127.0.0.1:8080/inward", "ground.inward"),
        ("a.example/metadata", "ground.nobodys"),
        ("registry.corp/metadata", "ground.nobodys"),
        ("a.example/clear", "ground.plain"),
        ("registry.corp/clear", "ground.plain"),
        ("a.example/file", "image.redirect"),
        ("a.example/named", "image.redirect"),
        ("a.example/nowhere", "image.redirect"),
        ("a.example/circle", "image.redirect"),
    ] {
        let (is, why) = refused(&world, image).await;
        assert_eq!(is, rule, "{image}: {why}");
        let seen = world.origin.seen();
        assert!(seen.iter().all(|seen| seen.target.starts_with("/v2/")), "{image}: {seen:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_token_is_got_for_pulling_this_one_repository_shown_to_the_registry_and_to_nobody_it_sends_on_to() {
    let world = World::with(any()).await;
    let mut pull = Pull::of(&world, "a.example/token-elsewhere");
    assert_eq!(pull.part(&blob(1000)).await, (b"a part from there".to_vec(), Ok(())));
    let seen = world.origin.seen();
    let asked: Vec<_> = seen.iter().map(|seen| (seen.target.as_str(), seen.header("authorization"))).collect();
    let (own, bearer) = (format!("/v2/token-elsewhere/blobs/{}", digest()), format!("Bearer {TOKEN}"));
    let token = "/token?service=the+registry&scope=repository%3Atoken-elsewhere%3Apull";
    assert_eq!(
        asked,
        [(own.as_str(), None), (token, None), (own.as_str(), Some(bearer.as_str())), ("/there?signed=1", None)]
    );
    // Known by now.
    assert_eq!(pull.part(&blob(1000)).await.1, Ok(()));
    assert_eq!(world.origin.seen().len(), 2);
    for (image, why) in [
        ("a.example/never-enough", "does not let this be read without a sign-in"),
        ("a.example/token-none", "volary secret set registry/a.example"),
        ("a.example/strange", "of a kind that is not spoken here"),
        ("a.example/basic", "set the secret \"registry/a.example\" to user:password"),
    ] {
        let (rule, said) = refused(&world, image).await;
        assert!(rule == "image.sign-in" && said.contains(why), "{image}: {rule}: {said}");
    }
    inside(&world);
    drop(world.origin.seen());
    for (image, rule) in [("a.example/token-inward", "ground.inward"), ("a.example/token-clear", "ground.plain")] {
        assert_eq!(refused(&world, image).await.0, rule, "{image}");
        assert_eq!(world.origin.seen().len(), 1, "{image}: nobody else was asked");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_password_goes_to_its_registry_and_to_no_token_service_elsewhere() {
    let world = World::with(any()).await;
    world.desk(|desk| desk.credential = Some((PASSWORD.into(), "a.example".into(), 0)));
    let basic = format!("Basic {}", STANDARD.encode(PASSWORD));
    let shown = |world: &World| -> Vec<(String, String)> {
        let seen = world.origin.seen();
        let of = |name| seen.iter().map(move |seen| seen.header(name).unwrap_or_default().to_owned());
        of("host").zip(of("authorization")).collect()
    };
    let at = |host: &str, value: &str| (host.to_owned(), value.to_owned());
    assert_eq!(pulled(&world, "a.example/basic").await, (b"a part by password".to_vec(), Ok(())));
    assert_eq!(shown(&world), [at("a.example", ""), at("a.example", &basic)], "only when it is asked for");
    assert_eq!(pulled(&world, "a.example/token").await.1, Ok(()));
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(shown(&world), [at("a.example", ""), at("a.example", &basic), at("a.example", &bearer)]);
    // Another host gives tokens, and is not told the password.
    assert_eq!(pulled(&world, "a.example/token-at-b").await.1, Ok(()));
    assert_eq!(shown(&world), [at("a.example", ""), at("b.example", ""), at("a.example", &bearer)]);
    let (rule, why) = refused(&world, "a.example/never-enough").await;
    assert!(rule == "image.sign-in" && why.contains("set it anew") && !why.contains("canary"), "{why}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_registry_was_shown_and_tells_by_the_name_of_a_host_or_as_an_errors_code_is_not_told_to_people() {
    let world = World::with(any()).await;
    world.desk(|desk| desk.credential = Some((PASSWORD.into(), "a.example".into(), 0)));
    for image in ["told-password", "told-token", "token-at-password"] {
        let (rule, said) = refused(&world, &format!("a.example/{image}")).await;
        assert!(rule == "image.redirect" && said.contains("is not asked"), "{image}: {rule}: {said}");
        assert!(!said.to_lowercase().contains("canary") && !said.contains(TOKEN), "{image}: {said}");
        // Nobody else is asked, by that name or for it.
        let seen = world.origin.seen();
        assert!(seen.iter().all(|seen| seen.header("host") == Some("a.example")), "{image}: {seen:?}");
    }
    world.desk(|desk| desk.credential = Some(("alice:CANARY_OF_CAPITALS".into(), "a.example".into(), 0)));
    let (rule, said) = refused(&world, "a.example/told-code").await;
    assert!(rule == "image.sign-in" && !said.contains("CANARY"), "{rule}: {said}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_registry_that_lies_or_breaks_off_is_cut_and_people_are_told_what_to_do() {
    let world = World::with(any()).await;
    for (image, rule, why) in [
        ("a.example/long", "image.long", "more than the 1000 bytes"),
        ("a.example/cut", "image.cut", "broke off"),
        ("a.example/packed", "image.encoding", "in an encoding"),
        ("a.example/gone", "image.unknown", "has no sha256:0a"),
        ("a.example/busy", "image.busy", "asks to wait: too much"),
        ("a.example/broken", "image.answer", "answers 500; run it again later"),
    ] {
        let (is, said) = refused(&world, image).await;
        assert!(is == rule && said.contains(why) && said.contains("a.example"), "{image}: {is}: {said}");
        assert!(!said.contains("evil") && said.len() < 400, "{said}");
    }
    assert!(refused(&world, "a.example/gone").await.1.contains("(MANIFEST_UNKNOWN)"));
    // Without a length, as much as was asked for comes, and not one byte more.
    let (came, end) = Pull::of(&world, "a.example/endless").part(&blob(100_000)).await;
    assert_eq!(end.expect_err("it is endless").0, "image.long");
    assert!(came.len() <= 100_000);
}

#[tokio::test(flavor = "current_thread")]
async fn a_registry_that_falls_silent_is_given_up_and_an_operator_that_leaves_ends_the_pull() {
    let mut world = World::with(any()).await;
    let mut pull = Pull::of(&world, "a.example/hang");
    pull.ask(&blob(1000)).await;
    when("the request", || !world.origin.seen().is_empty()).await;
    let (_, end) = crate::house::past("the end of the part", 60, pull.came()).await;
    assert_eq!(end.expect_err("it is silent").0, "image.slow");
    assert!(world.settled().await.interrupted);
    let mut pull = Pull::of(&world, "a.example/endless");
    pull.ask(&blob(MAX_PART)).await;
    when("some of it", || world.origin.flow.poured.load(std::sync::atomic::Ordering::Relaxed) > 0).await;
    drop(pull);
    let outcome = world.settled().await;
    assert!(outcome.interrupted && outcome.received > 0);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_outside_is_asked_through_the_proxy_that_leads_there_and_the_own_network_is_not() {
    let sign_in = None;
    let proxy = OutwardProxy { host: "proxy.corp".to_owned(), port: 3128, resolves: false, sign_in };
    let world = World::of(any(), true, |outward| outward.proxy = Some(proxy)).await;
    world.names.set("proxy.corp", &[&["10.9.9.9"]]);
    inside(&world);
    assert_eq!(pulled(&world, "registry.corp/plain").await.1, Ok(()));
    // No proxy listens.
    let (rule, why) = refused(&world, "a.example/plain").await;
    assert!(rule == "egress.proxy" && why.contains("a.example was not reached"), "{rule}: {why}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_proxy_that_resolves_by_itself_gets_no_password() {
    let proxy = OutwardProxy { host: "proxy.corp".to_owned(), port: 3128, resolves: true, sign_in: None };
    let world = World::of(any(), true, |outward| outward.proxy = Some(proxy)).await;
    world.names.set("proxy.corp", &[&["10.9.9.9"]]);
    inside(&world);
    crate::egress::outward::Proxy::default().serve("200 OK").await;
    world.desk(|desk| desk.credential = Some((PASSWORD.into(), "far.example".into(), 0)));
    assert_eq!(pulled(&world, "far.example/plain").await.1, Ok(()), "its name is known to the proxy alone");
    let (_, why) = refused(&world, "far.example/basic").await;
    assert!(why.contains("no credential goes that way"), "{why}");
    assert!(world.origin.seen().iter().all(|seen| seen.header("authorization").is_none()));
    // What this host resolves to the own network is asked straight, and signed in to.
    world.desk(|desk| desk.credential = Some((PASSWORD.into(), "registry.corp".into(), 0)));
    assert_eq!(pulled(&world, "registry.corp/basic").await.1, Ok(()));
}
