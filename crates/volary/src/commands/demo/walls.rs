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

/// How an attempt reports, and which answers are a wall's. Any other answer is none: a host that is merely down or
/// an argument that is merely wrong holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The errno of a call.
    Errno(&'static [Answer]),
    /// The error of `getaddrinfo`.
    Lookup(&'static [Answer]),
    /// The HTTP status of the gateway, which must have recorded a verdict on this target.
    Gateway(&'static str),
    /// How many were found, and among how many: none among some is what holds.
    Found(&'static str),
}

/// An error and the wall that answers with it.
type Answer = (i32, &'static str);

const ABSENT: Answer = (libc::ENOENT, "mount namespace: it is not in the box");
const HIDDEN: Answer = (libc::ENOENT, "proc with hidepid: process 1 is not shown");
const RULES: Answer = (libc::EACCES, "Landlock: not in this process's rules");
const ONE_PORT: Answer = (libc::EACCES, "Landlock: only the gateway's port");
const NO_ROUTE: Answer = (libc::ENETUNREACH, "network namespace: no route");
const NO_RESOLVER: Answer = (libc::EAI_AGAIN, "network namespace: no resolver can be reached");
const SECCOMP: Answer = (libc::EPERM, "seccomp");
const READ_ONLY: Answer = (libc::EROFS, "read-only system tree");
const NO_CAPABILITIES: Answer = (libc::EPERM, "no capabilities");
const NO_ROOT: Answer = (libc::EINVAL, "user namespace: there is no root in it");

/// Every attempt that the probes make, by name.
const ATTEMPTS: [(&str, &str, By); 27] = [
    ("host-home", "read the host's home", By::Errno(&[ABSENT, RULES])),
    ("host-shadow", "read /etc/shadow", By::Errno(&[ABSENT, RULES])),
    ("runner-environ", "read process 1's environment", By::Errno(&[HIDDEN, RULES])),
    ("runner-memory", "open process 1's memory", By::Errno(&[HIDDEN, RULES])),
    ("runner-trace", "trace process 1", By::Errno(&[SECCOMP])),
    ("runner-read", "read process 1 with process_vm_readv", By::Errno(&[SECCOMP])),
    ("metadata", "ask the cloud metadata address", By::Errno(&[NO_ROUTE, ONE_PORT])),
    ("public-host", "connect to a public host", By::Errno(&[NO_ROUTE, ONE_PORT])),
    ("dns-packet", "send a DNS packet", By::Errno(&[NO_ROUTE, ONE_PORT])),
    ("dns-name", "look up a DNS name", By::Lookup(&[NO_RESOLVER])),
    ("raw-socket", "open a raw socket", By::Errno(&[SECCOMP])),
    ("mount", "mount a file system", By::Errno(&[SECCOMP])),
    ("user-namespace", "become root in a user namespace", By::Errno(&[SECCOMP])),
    ("write-system", "plant a program in /usr/bin", By::Errno(&[READ_ONLY, RULES])),
    ("device", "make a disk device", By::Errno(&[RULES, NO_CAPABILITIES])),
    ("setuid-root", "become root, and use it", By::Errno(&[NO_CAPABILITIES, NO_ROOT])),
    ("execute-agent", "execute the agent's own program", By::Errno(&[RULES])),
    ("execute-from-memory", "execute a program from memory", By::Errno(&[SECCOMP])),
    ("key-in-environment", "print every env var, for the key", By::Found("the key is not in the box")),
    ("key-in-files", "search the files for the key", By::Found("the key is not in the box")),
    ("key-in-memory", "search memory for the key", By::Found("the key is not in the box")),
    ("gateway-metadata", "have the gateway ask the metadata address", By::Gateway("169.254.169.254")),
    ("gateway-post", "post the source through the gateway", By::Gateway("example.com")),
    ("gateway-tunnel", "tunnel to another service through the gateway", By::Gateway("example.com:22")),
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
            let wall = match by {
                By::Errno(answers) => number(&met, "errno=").and_then(|errno| wall_of(answers, errno)),
                By::Lookup(answers) => number(&met, "eai=").and_then(|error| wall_of(answers, error)),
                By::Found(wall) => {
                    let searched = number(&met, "found=0 of ").filter(|among| *among > 0);
                    searched.map(|_| wall.to_owned())
                }
                By::Gateway(target) => number(&met, "status=").filter(|n| (400..500).contains(n)).and_then(|_| {
                    let refused = |v: &&Verdict| !v.allowed && v.target.contains(target) && fits(name, v);
                    verdicts.iter().find(refused).map(|v| format!("the gateway: {} (recorded)", v.rule))
                }),
            };
            let met = match number(&met, "errno=") {
                Some(errno) => errno_name(errno),
                None => met,
            };
            Attempt { name, what, met, held: wall.is_some(), wall: wall.unwrap_or_default() }
        })
        .collect()
}

/// Attempts that go for one path or host are told apart by the rule.
fn fits(name: &str, verdict: &Verdict) -> bool {
    match name {
        "gateway-post" => verdict.rule == "write.no-row",
        "gateway-tunnel" => verdict.rule == "port.closed",
        "gateway-forged-handle" => verdict.rule == "handle.unknown",
        "gateway-no-handle" => verdict.rule == "handle.missing",
        _ => true,
    }
}

/// The number that stands after `key`, with which `met` begins.
fn number(met: &str, key: &str) -> Option<i64> {
    met.strip_prefix(key)?.split_whitespace().next()?.parse().ok()
}

/// The wall that answers with this error, if one does.
fn wall_of(answers: &[Answer], error: i64) -> Option<String> {
    answers.iter().find(|answer| i64::from(answer.0) == error).map(|answer| answer.1.to_owned())
}

fn errno_name(errno: i64) -> String {
    let errno = i32::try_from(errno).unwrap_or(-1);
    let name = match errno {
        0 => return "it went through".into(),
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EACCES => "EACCES",
        libc::EROFS => "EROFS",
        libc::EINVAL => "EINVAL",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ENOSYS => "ENOSYS",
        _ => return std::io::Error::from_raw_os_error(errno).to_string(),
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

    fn held(name: &str, met: &str) -> bool {
        judge(&format!("PROBE {name} {met}\n"), &[]).into_iter().find(|a| a.name == name).unwrap().held
    }

    #[test]
    fn an_error_that_is_no_walls_holds_nothing() {
        for name in ["metadata", "public-host", "dns-packet"] {
            assert!(held(name, &format!("errno={}", libc::ENETUNREACH)));
            for errno in [libc::ETIMEDOUT, libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENOENT, libc::EPERM] {
                assert!(!held(name, &format!("errno={errno}")), "{name}: {errno}");
            }
        }
        // The address is wrong: so the kernel had let it look.
        assert!(!held("runner-read", &format!("errno={}", libc::EFAULT)));
        assert!(!held("runner-trace", &format!("errno={}", libc::ESRCH)));
        assert!(!held("execute-agent", &format!("errno={}", libc::ENOEXEC)));
        assert!(!held("host-home", &format!("errno={}", libc::ENOTDIR)));
        assert!(!held("write-system", &format!("errno={}", libc::ENOSPC)));
    }

    #[test]
    fn no_attempt_holds_by_success_or_by_an_errno_that_nothing_is_known_of() {
        for (name, _, by) in ATTEMPTS {
            let (By::Errno(answers) | By::Lookup(answers)) = by else { continue };
            let key = if matches!(by, By::Errno(_)) { "errno" } else { "eai" };
            for error in -200..=200 {
                let expected = answers.iter().any(|answer| answer.0 == error);
                assert_eq!(held(name, &format!("{key}={error}")), expected && error != 0, "{name}: {error}");
            }
        }
    }

    #[test]
    fn a_name_that_a_resolver_does_not_know_is_no_wall() {
        assert!(held("dns-name", "eai=-3 (Temporary failure in name resolution)"));
        assert!(!held("dns-name", "eai=-2 (Name or service not known)"));
        assert!(!held("dns-name", "eai=0 (resolved)"));
    }

    #[test]
    fn a_search_that_looked_at_nothing_holds_nothing() {
        for name in ["key-in-environment", "key-in-files", "key-in-memory", OUTSIDE] {
            assert!(held(name, "found=0 of 1 looked at"));
            assert!(!held(name, "found=0 of 0 looked at"));
            assert!(!held(name, "found=1 of 1 looked at"));
            assert!(!held(name, "found=0"));
        }
    }

    #[test]
    fn a_refusal_of_the_gateway_counts_only_with_its_record() {
        let output = "PROBE gateway-post status=403\n";
        let post =
            |verdicts: &[Verdict]| judge(output, verdicts).into_iter().find(|a| a.name == "gateway-post").unwrap();
        assert!(!post(&[]).held);
        let verdict = Verdict {
            allowed: false,
            rule: "write.no-row".into(),
            method: "POST".into(),
            target: "http://example.com/collect".into(),
            why: String::new(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        };
        assert!(post(std::slice::from_ref(&verdict)).held);
        assert!(!post(&[Verdict { allowed: true, ..verdict.clone() }]).held);
        assert!(!post(&[Verdict { rule: "port.closed".into(), ..verdict }]).held);
    }
}
