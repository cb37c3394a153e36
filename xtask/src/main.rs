//! The house's own chores: `cargo xtask check`, `test`, `bench`, `layers`, `goldens`, `docs`.
//!
//! Nothing here is part of the product, and nothing of the product is linked into it: it calls cargo,
//! reads what cargo says, and compares. A chore ends with an error that says what to do.
//!
//! Read [`layers`] (which crate may know which), [`goldens`] (what a reviewer must see change),
//! [`docs`], then [`mod@test`] with [`suites`], [`machine`], [`fuzz`] and [`qemu`].

mod bench;
mod cargo;
mod cpio;
mod docs;
mod fuzz;
mod goldens;
mod guest;
mod layers;
mod machine;
mod qemu;
mod suites;
mod test;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask CHORE

  test               installs what the tests need (as root), then runs all of them
    --no-qemu        leaves out the boots of Debian's kernel
    --only-qemu      only the boots; the workspace must be built
  qemu               boots Debian's kernel; volary must be built
    --docker         the same with systemd and Docker's engine
  check              fmt, clippy, the fuzz targets, layers, goldens, docs
  layers             which crate may depend on which
  goldens [--bless]  compares docs/generated with what the code prints; --bless writes it
  docs               rustdoc without a warning, and no dead link in a page
  bench [NAME ...]   builds in release, then measures
";

fn main() {
    if let Err(error) = chore() {
        eprintln!("xtask: {error:#}");
        std::process::exit(1);
    }
}

fn chore() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let chore = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (chore.as_str(), rest.as_slice()) {
        ("test", []) => test::run(test::Part::All),
        ("test", ["--no-qemu"]) => test::run(test::Part::NoQemu),
        ("test", ["--only-qemu"]) => test::run(test::Part::OnlyQemu),
        ("qemu", []) => boot(guest::Guest::Bare),
        ("qemu", ["--docker"]) => boot(guest::Guest::Docker { whole: true }),
        ("check", []) => check(),
        ("layers", []) => layers::check(),
        ("goldens", []) => goldens::run(goldens::Mode::Compare),
        ("goldens", ["--bless"]) => goldens::run(goldens::Mode::Bless),
        ("docs", []) => docs::check(),
        ("bench", names) => bench::run(names),
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no such chore\n\n{HELP}"),
    }
}

/// One guest by itself.
fn boot(guest: guest::Guest) -> Result<()> {
    machine::prepare(true)?;
    suites::run(vec![suites::Suite::new("the guest", move |said| qemu::run(guest, said))])
}

/// Everything that needs no box and no root. All parts run; the failures are told together.
fn check() -> Result<()> {
    type Part = (&'static str, fn() -> Result<()>);
    let parts: [Part; 6] = [
        ("fmt", || cargo::run(&["fmt", "--all", "--check"])),
        ("clippy", || cargo::run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("fuzz", fuzz::check),
        ("layers", layers::check),
        ("goldens", || goldens::run(goldens::Mode::Compare)),
        ("docs", docs::check),
    ];
    let mut failed = Vec::new();
    for (name, part) in parts {
        eprintln!("== {name}");
        if let Err(error) = part() {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
