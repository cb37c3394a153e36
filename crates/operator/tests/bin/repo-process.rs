//! The repository processes alone, for the tests of this crate: `repo-process read …`, `repo-process import …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("read") => operator::repo::read_main(args),
        Some("import") => operator::repo::import_main(args),
        _ => ExitCode::from(2),
    }
}
