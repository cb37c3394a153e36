//! What holds for every table and every request.

use super::stage::{HANDLE, named};
use model::Egress;
use model::egress::{InternalRow, ReadRow, Reads, TunnelRow, WriteRow};
use policy::egress::{Ask, Form, Kind, Law, Name, Signs, Verdict, judge};
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_global_rejects: 1 << 20, ..Default::default() }
}

/// Text as hosts are attacked with: plain, mapped and forbidden characters in every mixture.
fn host_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9-]{1,8}",
        2 => Just(".".to_owned()),
        1 => select(vec!["0x7f", "0177", "127", "1", "xn--", "xn--bcher-kva", "_", "--", "localhost", "。", "．", "｡"]).prop_map(str::to_owned),
        1 => select(vec!['ü', 'ß', 'ς', 'а', 'Ａ', '１', 'ⓐ', '℀', '\u{ad}', '\u{200d}', '\u{301}', '例', 'ı', 'K', 'ſ']).prop_map(String::from),
        1 => "\\PC{1,2}",
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(config(4096))]

    /// The other reader is the `url` crate, as the world's clients read hosts.
    #[test]
    fn no_name_stands_for_two_hosts(text in host_text()) {
        let Ok(name) = Name::parse(&text) else { return Ok(()) };
        prop_assert_eq!(&Name::parse(name.as_str()).unwrap(), &name, "read again it is the same");
        let theirs = url::Host::parse(&text).map_err(|e| TestCaseError::fail(format!("{text:?}, read as {name}: {e}")))?;
        let theirs = theirs.to_string();
        prop_assert_eq!(theirs.strip_suffix('.').unwrap_or(&theirs), name.as_str());
    }

    #[test]
    fn a_name_is_plain_and_bounded(text in host_text()) {
        let Ok(name) = Name::parse(&text) else { return Ok(()) };
        prop_assert!(name.as_str().len() <= 253);
        prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.:[]".contains(&b)));
        prop_assert!(name.as_str().split('.').all(|label| (1..=63).contains(&label.len())));
        // What some programs would read as an address is one.
        if name.as_str().rsplit('.').next().unwrap().bytes().all(|b| b.is_ascii_digit()) {
            prop_assert!(name.address().is_some());
        }
    }
}

const HOSTS: [&str; 9] =
    ["a.example", "b.example", "x.a.example", "artifacts", "git.corp", "10.1.2.3", "8.8.8.8", "$rust", "$python"];
const PATHS: [&str; 9] = ["/", "/v1", "/v1/", "/v1/x", "/v10", "/v1/../x", "/v1/x/y", "//v1", "/v2"];
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "OPTIONS", "UPGRADE"];
const PORTS: [u16; 5] = [80, 443, 8443, 8081, 22];
const ADDRESSES: [&str; 8] =
    ["8.8.8.8", "1.1.1.1", "10.1.2.3", "10.1.2.9", "10.1.9.9", "127.0.0.1", "169.254.169.254", "::ffff:10.1.2.3"];

fn read_row() -> impl Strategy<Value = ReadRow> {
    let host = prop_oneof![select(&HOSTS[..]).prop_map(named), Just("*.a.example".to_owned())];
    (host, select(vec!["/", "/v1", "/v1/", "/v1/x"]), proptest::option::of(select(&PORTS[..])))
        .prop_map(|(host, path, port)| ReadRow { host, path: path.into(), port })
}

fn write_row() -> impl Strategy<Value = WriteRow> {
    let method = select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "UPGRADE"]);
    let path = select(vec!["/", "/v1", "/v1/", "/v1/x"]);
    (select(&HOSTS[..]), method, path, proptest::option::of(select(&PORTS[..])), select(vec!["c", "d"])).prop_map(
        |(host, method, path, port, capability)| WriteRow {
            capability: capability.into(),
            host: named(host),
            method: method.into(),
            path: path.into(),
            port,
        },
    )
}

fn tunnel_row() -> impl Strategy<Value = TunnelRow> {
    (select(vec!["rust", "python"]), any::<bool>(), 1..9u64, 1..9u64).prop_map(|(group, one, mib, seconds)| TunnelRow {
        packages: group.into(),
        host: one.then(|| named(&format!("${group}"))),
        mib,
        seconds,
    })
}

fn internal_row() -> impl Strategy<Value = InternalRow> {
    let ranges = select(vec!["10.1.0.0/16", "10.1.2.0/24", "10.1.2.3"]);
    (select(vec!["artifacts", "git.corp", "10.1.2.3"]), select(&PORTS[..]), ranges).prop_map(|(host, port, range)| {
        InternalRow { host: host.into(), port, addresses: vec![range.into()], why: String::new() }
    })
}

/// Tables that are right.
fn table() -> impl Strategy<Value = Egress> {
    let reads = select(vec![Reads::Any, Reads::Listed, Reads::Packages, Reads::None]);
    let rows = |max| 0..=max;
    (
        reads,
        proptest::collection::vec(read_row(), rows(4)),
        proptest::sample::subsequence(vec!["rust", "python"], 0..=2),
        proptest::collection::vec(write_row(), rows(4)),
        proptest::collection::vec(tunnel_row(), rows(2)),
        proptest::collection::vec(internal_row(), rows(3)),
    )
        .prop_map(|(reads, read, packages, write, tunnel, internal)| {
            let packages = packages.into_iter().map(str::to_owned).collect();
            righted(Egress { reads, read, packages, write, tunnel, internal, ..Egress::default() })
        })
}

/// Takes out what makes a table wrong, row by row.
fn righted(mut table: Egress) -> Egress {
    match table.reads {
        Reads::Any => {
            table.packages.clear();
            table.read.retain(|row| row.port.is_some());
        }
        Reads::Listed => {}
        Reads::Packages => {
            table.read.clear();
            if table.packages.is_empty() {
                table.packages.push("rust".into());
            }
        }
        Reads::None => {
            table.read.clear();
            table.packages.clear();
        }
    }
    let mut right = Egress { reads: table.reads, packages: table.packages, ..Egress::default() };
    for row in table.internal {
        right.internal.push(row);
        if Law::of(&right).is_err() {
            right.internal.pop();
        }
    }
    for row in table.read {
        right.read.push(row);
        if Law::of(&right).is_err() {
            right.read.pop();
        }
    }
    for row in table.write {
        right.write.push(row);
        if Law::of(&right).is_err() {
            right.write.pop();
        }
    }
    right.tunnel = table.tunnel;
    assert!(Law::of(&right).is_ok(), "{right:?}");
    right
}

/// One step that takes something away.
fn narrower(table: &Egress, step: usize, at: usize) -> Egress {
    let mut table = table.clone();
    fn drop_one<T>(rows: &mut Vec<T>, at: usize) {
        if !rows.is_empty() {
            rows.remove(at % rows.len());
        }
    }
    fn longer(path: &str) -> String {
        if path.ends_with('/') { format!("{path}x") } else { format!("{path}/x") }
    }
    match step {
        0 => drop_one(&mut table.read, at),
        1 => drop_one(&mut table.write, at),
        2 => drop_one(&mut table.tunnel, at),
        3 => drop_one(&mut table.internal, at),
        4 => drop_one(&mut table.packages, at),
        5 => table.reads = Reads::None,
        6 if table.reads > Reads::Packages => table.reads = Reads::Packages,
        7 if table.reads > Reads::Listed => {
            table.reads = Reads::Listed;
            table.read.push(ReadRow { host: "a.example".into(), path: "/v1".into(), port: None });
        }
        8 => table.read.iter_mut().for_each(|row| row.path = longer(&row.path)),
        9 => table.write.iter_mut().for_each(|row| row.path = longer(&row.path)),
        10 => table.tunnel.iter_mut().for_each(|row| row.mib = 1),
        11 => table.internal.iter_mut().for_each(|row| row.addresses = vec!["10.1.2.3".into()]),
        12 => table.tunnel.iter_mut().for_each(|row| row.host = Some(named(&format!("${}", row.packages)))),
        _ => {}
    }
    // `packages` that has lost its groups would be wrong, and one more group would be wider.
    if table.reads == Reads::Packages && table.packages.is_empty() {
        table.reads = Reads::None;
    }
    righted(table)
}

/// A request, as the gateway would bring it.
#[derive(Debug, Clone)]
struct Request {
    form: Form,
    method: &'static str,
    host: Name,
    port: u16,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

fn request() -> impl Strategy<Value = Request> {
    let headers = vec![
        ("x-api-key", HANDLE),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("upgrade", "websocket"),
        ("content-length", "3"),
        ("x-http-method", "PUT"),
        ("x-note", HANDLE),
    ];
    (
        select(vec![Form::Plain, Form::Intercepted, Form::Intercepted, Form::Connect]),
        select(&METHODS[..]),
        select(&HOSTS[..]),
        select(&PORTS[..]),
        select(&PATHS[..]),
        proptest::sample::subsequence(headers, 0..=2),
    )
        .prop_map(|(form, method, host, port, path, headers)| Request {
            form,
            method: if form == Form::Connect { "CONNECT" } else { method },
            host: Name::parse(&named(host)).unwrap(),
            port,
            path: if form == Form::Connect { "" } else { path },
            headers,
        })
}

fn word(law: &Law, request: &Request) -> Verdict {
    let signs = Signs::of(request.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
    let Request { form, method, ref host, port, path, .. } = *request;
    judge(law, &Ask { form, method, host, port, path, signs: &signs })
}

/// Whether `kind` is at most what `other` is.
fn at_most(kind: Kind, other: Kind) -> bool {
    match (kind, other) {
        (Kind::Read | Kind::Package, Kind::Read | Kind::Package) | (Kind::Write { .. }, Kind::Write { .. }) => true,
        (Kind::Intercept, Kind::Intercept | Kind::Tunnel(_)) => true,
        (Kind::Tunnel(less), Kind::Tunnel(more)) => less <= more,
        _ => false,
    }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn a_narrower_table_never_allows_more(
        wide in table(),
        steps in proptest::collection::vec((0..13usize, 0..8usize), 1..4),
        requests in proptest::collection::vec(request(), 24),
        addresses in proptest::sample::subsequence(&ADDRESSES[..], 1..=3),
    ) {
        let narrow = steps.iter().fold(wide.clone(), |table, (step, at)| narrower(&table, *step, *at));
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (wide_law, narrow_law) = (Law::of(&wide).unwrap(), Law::of(&narrow).unwrap());
        for request in requests {
            let Verdict::Allow(less) = word(&narrow_law, &request) else { continue };
            let mut more = word(&wide_law, &request);
            if matches!(&more, Verdict::Deny(no) if no.rule == "read.cookie") {
                // A host that no row is left for is any host, which may be sent a cookie, and nothing else that it was not.
                prop_assert!(narrow.write.iter().all(|row| Name::parse(&row.host).unwrap() != request.host));
                let mut bare = request.clone();
                bare.headers.retain(|(name, _)| *name != "cookie");
                more = word(&wide_law, &bare);
            }
            let Verdict::Allow(more) = more else {
                return Err(TestCaseError::fail(format!("{request:?}\n{narrow:?}\nallows what\n{wide:?}\ndoes not")));
            };
            prop_assert!(at_most(less.kind, more.kind), "{:?} is more than {:?}", less.kind, more.kind);
            if narrow_law.check_addresses(&addresses, less.internal).is_ok() {
                prop_assert!(wide_law.check_addresses(&addresses, more.internal).is_ok(), "{request:?} to {addresses:?}");
            }
        }
    }

    #[test]
    fn whatever_is_allowed_is_allowed_for_a_reason_that_can_be_pointed_at(table in table(), request in request()) {
        let law = Law::of(&table).unwrap();
        let Verdict::Allow(allowed) = word(&law, &request) else { return Ok(()) };
        let has = |name: &str| request.headers.iter().any(|(header, _)| *header == name);
        prop_assert!(!has("x-note"));
        // The headers of a CONNECT end here.
        prop_assert!(request.form == Form::Connect || !has("x-http-method"));
        if request.host.private().is_some() {
            let row = &table.internal[allowed.internal.expect("a private host takes an exception")];
            prop_assert_eq!(row.port, request.port);
            prop_assert_eq!(Name::parse(&row.host).unwrap(), request.host.clone());
        }
        match allowed.kind {
            Kind::Read | Kind::Package => {
                prop_assert!(matches!(request.method, "GET" | "HEAD") && table.reads != Reads::None);
                prop_assert!(!has("upgrade") && !has("content-length") && !has("x-api-key") && !has("authorization"));
            }
            Kind::Write { row } => {
                let row = &table.write[row];
                prop_assert_eq!(request.form, Form::Intercepted);
                prop_assert_eq!(Name::parse(&row.host).unwrap(), request.host.clone());
                prop_assert_eq!(row.port.unwrap_or(443), request.port);
                prop_assert!(request.path.starts_with(&row.path) && !request.path.contains("..") && !request.path.contains("//"));
                prop_assert_eq!(row.method == "UPGRADE", has("upgrade"));
                prop_assert!(has("upgrade") || row.method == request.method);
                prop_assert!(has("x-api-key") && !has("authorization") && !has("cookie"));
            }
            Kind::Intercept => prop_assert_eq!(request.form, Form::Connect),
            Kind::Tunnel(_) => {
                prop_assert_eq!(request.form, Form::Connect);
                prop_assert_eq!(request.port, 443);
                prop_assert!(!table.tunnel.is_empty());
            }
        }
    }

    #[test]
    fn a_method_that_no_table_knows_is_refused(table in table(), request in request(), method in "[A-Za-z]{1,12}") {
        prop_assume!(!METHODS.contains(&method.as_str()));
        let signs = Signs::of(request.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let Request { form, ref host, port, path, .. } = request;
        let said = judge(&Law::of(&table).unwrap(), &Ask { form, method: &method, host, port, path, signs: &signs });
        prop_assert!(matches!(said, Verdict::Deny(_)));
    }
}
