//! Where Docker's boxes are on a host whose control groups systemd keeps: a slice for each box, in a slice of their
//! installation's.
//!
//! The daemon is told the name of the box's slice and has systemd make a scope in it. systemd reads a dash in a slice's
//! name as a step down, so `volary-LABEL-BOX.slice` lies in `volary-LABEL.slice`, and that in `volary.slice`; a dash
//! of ours is written `\x2d`. The names alone say whose box a group is: nothing of it is kept anywhere else.
//!
//! A slice stays when it is empty, until systemd is told to stop it. Its groups are never removed before that: systemd
//! would not know, and the next scope in it would have no limits.

use crate::doctor::{Cgroups, cgroups};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The slice of all installations. It belongs to none, and so is never stopped; an administrator may bound it.
const ROOT: &str = "volary";
/// Where `systemctl` is looked for, here and where it is run.
const PATH: &str = "/usr/bin:/bin";
/// How long systemd may take to do what it is asked to.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest name of a unit, in bytes.
const LONGEST: usize = 255;

/// Why systemd cannot be asked to take a slice away again, and what to do.
pub(crate) fn obstacle() -> Option<String> {
    let runs = Path::new("/run/systemd/system").is_dir();
    let tool = PATH.split(':').any(|folder| Path::new(folder).join("systemctl").is_file());
    (!runs || !tool).then(|| {
        "it leaves control groups to systemd, which is not seen here (no /run/systemd/system, or no systemctl in /usr/bin); \
         run volary on the host itself, or set \"exec-opts\": [\"native.cgroupdriver=cgroupfs\"] in \
         /etc/docker/daemon.json and restart it"
            .into()
    })
}

/// The name of an installation's slice, whose own group is `parent`; none where that is no group of the host's root, as
/// without root, where Docker makes no boxes.
fn installation(parent: &str) -> Option<String> {
    let label = parent.strip_prefix('/')?.strip_prefix(ROOT)?.strip_prefix('-')?;
    (!label.is_empty() && !label.contains('/')).then(|| format!("{ROOT}-{}", escaped(label)))
}

/// The slice of the installation, absolute in each hierarchy.
pub(crate) fn group(parent: &str) -> Option<String> {
    installation(parent).map(|own| format!("/{ROOT}.slice/{own}.slice"))
}

/// The name of a box's slice, which the daemon is told.
pub(crate) fn unit(parent: &str, name: &str) -> Option<String> {
    let unit = format!("{}-{}.slice", installation(parent)?, escaped(name));
    (!name.is_empty() && unit.len() <= LONGEST).then_some(unit)
}

/// The slice of a box, absolute in each hierarchy.
pub(crate) fn of_box(parent: &str, name: &str) -> Option<String> {
    Some(format!("{}/{}", group(parent)?, unit(parent, name)?))
}

/// The box whose slice in the installation's has this name; none for a slice that is no box's.
pub(crate) fn box_of(parent: &str, slice: &str) -> Option<String> {
    let own = slice.strip_prefix(&installation(parent)?)?.strip_prefix('-')?;
    let name = unescaped(own.strip_suffix(".slice")?)?;
    // There is one way to write a name; what is written otherwise is not ours.
    (unit(parent, &name)? == slice).then_some(name)
}

/// As systemd writes what a unit's name cannot hold.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("\\x{b:02x}") }).collect()
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?);
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Has systemd end what is left in the box's slice and take it away. One that is not there is no error.
pub(crate) fn stop_box(parent: &str, name: &str) -> io::Result<()> {
    unit(parent, name).map_or(Ok(()), |unit| stop(&unit))
}

/// Has systemd take the installation's slice away, which must hold no box.
pub(crate) fn stop_installation(parent: &str) -> io::Result<()> {
    installation(parent).map_or(Ok(()), |own| stop(&format!("{own}.slice")))
}

/// Tells systemd that there is no swap in the scope at `group`, of which the engine gives it no word: it writes all limits
/// that it knows once more whenever it reads its units again.
pub(crate) fn forbid_swap(group: &str) -> io::Result<()> {
    if cgroups() != Cgroups::V2 {
        // There is no such limit, and systemd would take it for a word on memory.
        return Ok(());
    }
    let scope = group.rsplit('/').next().unwrap_or_default();
    systemctl(&["set-property", "--runtime", "--", scope, "MemorySwapMax=0"])
}

fn stop(unit: &str) -> io::Result<()> {
    systemctl(&["stop", "--", unit])
}

fn systemctl(words: &[&str]) -> io::Result<()> {
    let mut command = Command::new("systemctl");
    command.args(["--quiet", "--no-ask-password"]).args(words).env("PATH", PATH);
    carried_out(&mut command, ANSWER)
        .map_err(|e| io::Error::new(e.kind(), format!("systemctl {} in {PATH}: {e}", words.join(" "))))
}

/// Runs a program that says little, and for no longer than this.
fn carried_out(command: &mut Command, within: Duration) -> io::Result<()> {
    let end = Instant::now() + within;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill()?;
                child.wait()?;
                let why = format!("it did not end within {} s and was killed", within.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut why = String::new();
    if let Some(said) = child.stderr.take() {
        said.take(4096).read_to_string(&mut why)?;
    }
    Err(io::Error::other(format!("it ended with {status}: {}", why.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_has_a_slice_in_that_of_its_installation_whatever_dashes_are_in_their_names() {
        assert_eq!(unit("/volary-abcd2345", "b1").as_deref(), Some("volary-abcd2345-b1.slice"));
        assert_eq!(
            of_box("/volary-abcd2345", "b1").as_deref(),
            Some("/volary.slice/volary-abcd2345.slice/volary-abcd2345-b1.slice")
        );
        assert_eq!(
            of_box("/volary-bench-x", "warm-1").as_deref(),
            Some(r"/volary.slice/volary-bench\x2dx.slice/volary-bench\x2dx-warm\x2d1.slice")
        );
        // systemd steps down at each dash and nowhere else: as many slices as the path has.
        let (unit, path) = (unit("/volary-bench-x", "warm-1").unwrap(), of_box("/volary-bench-x", "warm-1").unwrap());
        let name = unit.strip_suffix(".slice").unwrap();
        let steps = name.match_indices('-').map(|(at, _)| &name[..at]).chain([name]);
        assert_eq!(steps.map(|step| format!("/{step}.slice")).collect::<String>(), path);
    }

    #[test]
    fn a_slice_names_its_box_and_nothing_else_is_taken_for_one() {
        let parent = "/volary-a-b";
        for name in ["b1", "warm-1", "a--b-", "x".repeat(64).as_str()] {
            assert_eq!(box_of(parent, &unit(parent, name).unwrap()).as_deref(), Some(name));
        }
        let strange = [
            "docker-0123.scope",
            r"volary-a\x2db.slice",
            r"volary-a\x2db-.slice",
            r"volary-a\x2db-c-d.slice",
            r"volary-a\x2db-\x62.slice",
            r"volary-a\x2db-\x2.slice",
            r"volary-a\x2db-\xé.slice",
            r"volary-a\x2db-\xff.slice",
            r"volary-a\x2db-b1.scope",
            "volary-a-b-b1.slice",
            r"volary-a\x2dbc-b1.slice",
            "cgroup.procs",
        ];
        for other in strange {
            assert_eq!(box_of(parent, other), None, "{other}");
        }
        // Of another installation's, whose name begins with this one's.
        assert_eq!(box_of("/volary-a", &unit("/volary-a-b", "b1").unwrap()), None);
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_and_one_that_fails_says_why() {
        let begun = |script: &str, within| carried_out(Command::new("sh").args(["-c", script]), within);
        let stuck = begun("exec sleep 600", Duration::ZERO).unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut, "{stuck}");
        let failed = begun("echo no such unit >&2; exit 5", ANSWER).unwrap_err().to_string();
        assert!(failed.contains("exit status: 5") && failed.contains("no such unit"), "{failed}");
        begun("exit 0", ANSWER).unwrap();
    }

    #[test]
    fn what_is_no_group_of_the_hosts_root_has_no_slice() {
        let session = "/user.slice/user-1000.slice/session-1.scope/volary-abcd";
        for parent in ["", "/", "/volary", "/volary-", "/volary-a/b", "/system.slice", "volary-a", session] {
            assert_eq!((group(parent), of_box(parent, "b1")), (None, None), "{parent:?}");
        }
        assert_eq!(unit("/volary-a", ""), None);
        assert_eq!(unit("/volary-a", &"-".repeat(64)), None, "longer than a unit's name may be");
    }
}
