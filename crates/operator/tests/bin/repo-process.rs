//! The repository processes alone, for the tests of this crate: `repo-process read …`, `repo-process import …`,
//! `repo-process serve …`; and
//! `repo-process leave PATH BASE`, an operator that dies: it starts an import, whose input another process keeps open;
//! `repo-process bounded clone|serve FILE BYTES`, which writes a file so long as one of those may, and a byte more; and
//! `repo-process process repo-clone …`, a clone that never comes to its door.

use operator::repo::RepoProcess;
use std::ffi::OsString;
use std::io::{Seek as _, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("read") => operator::repo::read_main(args),
        Some("import") => operator::repo::import_main(args),
        Some("serve") => operator::repo::serve_main(args),
        Some("leave") => leave(&args.collect::<Vec<_>>()),
        Some("bounded") => bounded(&args.collect::<Vec<_>>()),
        Some("process") => loop {
            std::thread::park();
        },
        _ => ExitCode::from(2),
    }
}

/// Says how many seconds of processor it may use (0 for no limit), and how long its file is, before it is a byte longer.
fn bounded(args: &[OsString]) -> ExitCode {
    let [who, path, bytes] = args else { return ExitCode::from(2) };
    let bound = if who == "clone" { operator::repo::clone::bound() } else { operator::repo::serve::bound() };
    bound.unwrap();
    let processor = rustix::process::getrlimit(rustix::process::Resource::Cpu).current.unwrap_or(0);
    let bytes: u64 = bytes.to_str().unwrap().parse().unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.seek(SeekFrom::Start(bytes - 1)).unwrap();
    file.write_all(b"x").unwrap();
    println!("{processor} s, {} bytes", file.metadata().unwrap().len());
    file.write_all(b"y").unwrap();
    ExitCode::SUCCESS
}

/// Says the process id of whoever keeps the input, once the import is at work; then waits to be killed.
fn leave(args: &[OsString]) -> ExitCode {
    let [path, base] = args else { return ExitCode::from(2) };
    let own = RepoProcess { exe: "/proc/self/exe".into(), read: vec!["read".into()], import: vec!["import".into()] };
    let run = model::RunId::parse("r1").unwrap();
    let mut importing = own.import(path.as_ref(), &run, base.to_str().unwrap(), "m", None).unwrap();
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
