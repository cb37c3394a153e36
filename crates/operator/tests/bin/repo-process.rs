//! The repository processes alone, for the tests of this crate: `repo-process read …`, `repo-process import …`; and
//! `repo-process leave PATH BASE`, an operator that dies: it starts an import, whose input another process keeps open.

use operator::repo::RepoProcess;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("read") => operator::repo::read_main(args),
        Some("import") => operator::repo::import_main(args),
        Some("leave") => leave(&args.collect::<Vec<_>>()),
        _ => ExitCode::from(2),
    }
}

/// Says the process id of whoever keeps the input, once the import is at work; then waits to be killed.
fn leave(args: &[OsString]) -> ExitCode {
    let [path, base] = args else { return ExitCode::from(2) };
    let own = RepoProcess { exe: "/proc/self/exe".into(), read: vec!["read".into()], import: vec!["import".into()] };
    let run = model::RunId::parse("r1").unwrap();
    let mut importing = own.import(path.as_ref(), &run, base.to_str().unwrap(), "m").unwrap();
    let mut stdin = importing.stdin().unwrap();
    let len = 8 << 20;
    let change = api::changes::Change::File { path: b"a".to_vec(), executable: false, len };
    api::changes::write(&mut stdin, &change).unwrap();
    // More than every buffer on the way holds: once it is through, git is at work.
    stdin.write_all(&vec![b'x'; 4 << 20]).unwrap();
    let mut keeper = Command::new("sleep").arg("600").stdout(OwnedFd::from(stdin)).spawn().unwrap();
    println!("{}", keeper.id());
    keeper.wait().unwrap();
    ExitCode::FAILURE
}
