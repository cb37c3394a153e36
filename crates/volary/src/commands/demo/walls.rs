//! Which wall held, taken from what each attempt met: the errno it printed, the gateway's verdict in the record.

use model::event::Verdict;
use serde::Serialize;

/// One attempt and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Its name in the probes' output.
    pub name: &'static str,
    /// What was attempted, for a person.
    pub what: &'static str,
    /// What it met, as printed by the probe; empty when the probe never reported.
    pub met: String,
    /// The wall that held, derived from what it met; empty when none did.
    pub wall: String,
    /// Whether it was refused.
    pub held: bool,
}

/// How an attempt reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The errno of a call.
    Errno,
    /// The HTTP status of the gateway, which must have recorded a verdict on this target.
    Gateway(&'static str),
    /// How many were found: none is what holds.
    Found(&'static str),
}

/// Every attempt that the probes make, by name.
const ATTEMPTS: [(&str, &str, By); 27] = [
    ("host-home", "read the host's home", By::Errno),
    ("host-shadow", "read /etc/shadow", By::Errno),
    ("runner-environ", "read process 1's environment", By::Errno),
    ("runner-memory", "open process 1's memory", By::Errno),
    ("runner-trace", "trace process 1", By::Errno),
    ("runner-read", "read process 1 with process_vm_readv", By::Errno),
    ("metadata", "ask the cloud metadata address", By::Errno),
    ("public-host", "connect to a public host", By::Errno),
    ("dns-packet", "send a DNS packet", By::Errno),
    ("dns-name", "look up a DNS name", By::Found("network namespace: no resolver can be reached")),
    ("raw-socket", "open a raw socket", By::Errno),
    ("mount", "mount a file system", By::Errno),
    ("user-namespace", "become root in a user namespace", By::Errno),
    ("write-system", "plant a program in /usr/bin", By::Errno),
    ("device", "make a disk device", By::Errno),
    ("setuid-root", "become root", By::Errno),
    ("execute-agent", "execute the agent's own program", By::Errno),
    ("execute-from-memory", "execute a program from memory", By::Errno),
    ("key-in-environment", "print every env var, for the key", By::Found("the key is not in the box")),
    ("key-in-files", "search the files for the key", By::Found("the key is not in the box")),
    ("key-in-memory", "search memory for the key", By::Found("the key is not in the box")),
    ("gateway-metadata", "have the gateway ask the metadata address", By::Gateway("169.254.169.254")),
    ("gateway-post", "post the source through the gateway", By::Gateway("example.com")),
    ("gateway-tunnel", "tunnel through the gateway", By::Gateway("example.com:443")),
    ("gateway-forged-handle", "call the model with a forged handle", By::Gateway("/model/scripted/v1/messages")),
    ("gateway-no-handle", "call the model without a handle", By::Gateway("/model/scripted/v1/messages")),
    (
        "key-outside",
        "the full key, searched for in all that was kept",
        By::Found("scrubbing, and a vault that only seals"),
    ),
];

/// The name under which the search from outside reports.
pub const OUTSIDE: &str = "key-outside";

/// Judges what the probes printed (`output`) and what the gateway recorded.
///
/// An attempt that did not report was not made, and counts as a wall that did not hold.
pub fn judge(output: &str, verdicts: &[Verdict]) -> Vec<Attempt> {
    ATTEMPTS
        .iter()
        .map(|&(name, what, by)| {
            let start = format!("PROBE {name} ");
            let met = output.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned();
            let number =
                |key: &str| met.strip_prefix(key)?.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i64>().ok();
            let wall = match by {
                By::Errno => number("errno=").and_then(|errno| wall_of(name, i32::try_from(errno).ok()?)),
                By::Found(wall) => number("found=").filter(|n| *n == 0).map(|_| wall.to_owned()),
                By::Gateway(target) => number("status=").filter(|n| (400..500).contains(n)).and_then(|_| {
                    let refused = |v: &&Verdict| !v.allowed && v.target.contains(target) && fits(name, v);
                    verdicts.iter().find(refused).map(|v| format!("the gateway: {} (recorded)", v.rule))
                }),
            };
            let met = match number("errno=") {
                Some(errno) => errno_name(errno),
                None => met,
            };
            Attempt { name, what, met, held: wall.is_some(), wall: wall.unwrap_or_default() }
        })
        .collect()
}

/// Two attempts go for one path; the rule tells them apart.
fn fits(name: &str, verdict: &Verdict) -> bool {
    match name {
        "gateway-forged-handle" => verdict.rule == "handle.unknown",
        "gateway-no-handle" => verdict.rule == "handle.missing",
        _ => true,
    }
}

/// The wall that answers a call with this errno; none for 0.
fn wall_of(name: &str, errno: i32) -> Option<String> {
    let network = matches!(name, "metadata" | "public-host" | "dns-packet");
    let wall = match errno {
        0 => return None,
        libc::ENOENT if name.starts_with("runner-") => "proc with hidepid: process 1 is not shown",
        libc::ENOENT => "mount namespace: it is not in the box",
        libc::ENETUNREACH => "network namespace: no route",
        libc::EACCES if network => "Landlock: only the gateway's port",
        libc::EACCES => "Landlock: not in this process's rules",
        libc::EROFS => "read-only system tree",
        libc::EPERM if matches!(name, "raw-socket" | "mount" | "user-namespace" | "execute-from-memory") => "seccomp",
        libc::EPERM if matches!(name, "runner-trace" | "runner-read") => "seccomp",
        libc::EPERM => "no capabilities",
        _ => "refused",
    };
    Some(wall.to_owned())
}

fn errno_name(errno: i64) -> String {
    let errno = i32::try_from(errno).unwrap_or(0);
    let name = match errno {
        0 => return "it went through".into(),
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EACCES => "EACCES",
        libc::EROFS => "EROFS",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ENOSYS => "ENOSYS",
        _ => return format!("errno {errno}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_never_reported_or_went_through_is_a_wall_that_did_not_hold() {
        let all = judge("PROBE mount errno=0\nPROBE raw-socket errno=1\n", &[]);
        let held = |name: &str| all.iter().find(|a| a.name == name).unwrap().held;
        assert!(!held("mount"), "it went through");
        assert!(!held("device"), "it never reported");
        assert!(held("raw-socket"));
    }

    #[test]
    fn a_refusal_of_the_gateway_counts_only_with_its_record() {
        let output = "PROBE gateway-post status=403\n";
        let post =
            |verdicts: &[Verdict]| judge(output, verdicts).into_iter().find(|a| a.name == "gateway-post").unwrap();
        assert!(!post(&[]).held);
        let verdict = Verdict {
            allowed: false,
            rule: "door.closed".into(),
            method: "POST".into(),
            target: "http://example.com/collect".into(),
            why: String::new(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        };
        assert!(post(std::slice::from_ref(&verdict)).held);
        assert!(!post(&[Verdict { allowed: true, ..verdict }]).held);
    }
}
