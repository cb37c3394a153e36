//! What the processes that work on repositories may use of their host.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

#[test]
fn a_clone_writes_no_file_longer_than_4_gib_and_a_service_none_than_128_mib_in_300_seconds_of_processor() {
    let dir = tempfile::tempdir().unwrap();
    for (who, most, processor) in [("clone", 4_u64 << 30, 0), ("serve", 128 << 20, 300)] {
        let path = dir.path().join(who);
        let mut process = Command::new(env!("CARGO_BIN_EXE_repo-process"));
        let said = process.args(["bounded", who]).arg(&path).arg(most.to_string()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{processor} s, {most} bytes\n"), "{who}: {said:?}");
        assert_eq!(said.status.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{who}: {said:?}");
        // Of holes: the disk has none of it.
        assert_eq!(std::fs::metadata(&path).unwrap().len(), most, "{who}");
    }
}
