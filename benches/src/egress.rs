//! One word on a request, by a table of 1,000 rules, beside asking the rules one after the other.

use crate::table::{Table, figure, times};
use anyhow::{Result, ensure};
use model::Egress;
use model::egress::{ReadRow, Reads, WriteRow};
use policy::egress::{Ask, Form, Law, Name, Signs, Verdict, judge};
use std::hint::black_box;
use std::time::Instant;

/// Rules of the table: nine of ten to read, the rest to write.
const RULES: usize = 1000;
/// Requests that are timed together.
const REQUESTS: u32 = 200_000;
/// A handle as it is minted.
const HANDLE: &str = "vh_abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// Measures and prints.
pub fn run() -> Result<()> {
    let egress = rules();
    let begun = Instant::now();
    let law = Law::of(&egress)?;
    let made = begun.elapsed();
    let (none, handle) = (Signs::default(), Signs::of([("x-api-key", HANDLE.as_bytes())]));
    let mut table = Table::new(&["one word, 1,000 rules", "ns", "of the first"]);
    let mut first = None;
    for (what, host, method, path, signs, allowed) in [
        ("a read of a listed host", "h700.docs.example", "GET", "/guide/700/page", &none, true),
        ("a read below a listed name", "a.b.w451.example.org", "GET", "/x", &none, true),
        ("a write by a row", "api950.example", "POST", "/v1/950/issues", &handle, true),
        ("a read that no rule allows", "a.b.c.nobody.example", "GET", "/", &none, false),
        ("a write that no rule allows", "api950.example", "PUT", "/v1/950/issues", &handle, false),
    ] {
        let host = Name::parse(host)?;
        let ask = Ask { form: Form::Intercepted, method, host: &host, port: 443, path, signs };
        ensure!(matches!(judge(&law, &ask), Verdict::Allow(_)) == allowed, "{what}: the other word");
        let ns = each(|| matches!(judge(black_box(&law), black_box(&ask)), Verdict::Allow(_)));
        let ours = *first.get_or_insert(ns);
        table.row([what.into(), figure(ns), times(ns, ours)]);
    }
    let ours = first.unwrap_or(0.0);
    let one_by_one = each(|| in_turn(black_box(&egress), black_box("h700.docs.example"), black_box("/guide/700/page")));
    table.row(["the first, rules asked one after the other".into(), figure(one_by_one), times(one_by_one, ours)]);
    let parsed = each(|| Name::parse(black_box("H700.Docs.Example.")).is_ok());
    table.row(["a host's one spelling, plain".into(), figure(parsed), times(parsed, ours)]);
    let mapped = each(|| Name::parse(black_box("Bücher.Example.")).is_ok());
    table.row(["a host's one spelling, international".into(), figure(mapped), times(mapped, ours)]);
    table.print();
    println!("the table was checked and made ready in {} ms", figure(made.as_secs_f64() * 1e3));
    Ok(())
}

fn rules() -> Egress {
    let read = |n: usize| match n % 10 {
        1 => ReadRow { host: format!("*.w{n}.example.org"), path: "/".into(), port: None },
        _ => ReadRow { host: format!("h{n}.docs.example"), path: format!("/guide/{n}"), port: None },
    };
    let write = |n: usize| WriteRow {
        capability: format!("capability-{n}"),
        host: format!("api{n}.example"),
        method: "POST".into(),
        path: format!("/v1/{n}"),
        port: None,
    };
    Egress {
        reads: Reads::Listed,
        read: (0..RULES - RULES / 10).map(read).collect(),
        write: (RULES - RULES / 10..RULES).map(write).collect(),
        ..Egress::default()
    }
}

/// The usual way: each rule in turn, until one fits.
fn in_turn(egress: &Egress, host: &str, path: &str) -> bool {
    egress.read.iter().any(|row| match row.host.strip_prefix("*.") {
        Some(parent) => host.ends_with(parent) && host.len() > parent.len() && path.starts_with(&row.path),
        None => host == row.host && path.starts_with(&row.path),
    })
}

/// Nanoseconds of one.
fn each(mut word: impl FnMut() -> bool) -> f64 {
    let begun = Instant::now();
    let mut yes = 0u32;
    for _ in 0..REQUESTS {
        yes += u32::from(black_box(word()));
    }
    black_box(yes);
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
}
