//! What a call meets.

use crate::host_sockets::HostSockets;
use crate::musts::{self, THROUGH};
use crate::support::{Must, all, attempts, built, compiled, judge, landlock, platform, shell, text};
use libc::{EACCES, ENOENT, EPERM};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use testkit::Repo;

#[test]
fn the_hosts_files_and_process_1_cannot_be_read_and_nothing_but_the_places_of_work_written() {
    let platform = platform();
    let repo = Repo::failing();
    // Readable by all on the host, so that nothing but the box stands before it.
    let secret = repo.path().join("of-the-host");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let home = platform.home().to_str().unwrap();
    let met = attempts(&platform, include_str!("files.c"), &[home, repo.path_str(), secret.to_str().unwrap()]);
    judge(&met, &musts::of_files());
}

#[test]
fn there_is_no_network_but_the_door() {
    let platform = platform();
    let sockets = HostSockets::open(&platform);
    judge(&attempts(&platform, include_str!("network.c"), &sockets.args()), &musts::of_the_network());
}

#[test]
fn an_attempt_that_hangs_is_no_refusal_and_is_named() {
    let platform = platform();
    for kind in ["TRY", "CHILD"] {
        let attempt = format!("{kind}(\"{kind}-waits\", pause())");
        let program = format!("int main(void) {{ TRY(\"control\", getpid()); answer_secs = 1; {attempt}; return 0; }}");
        let out = compiled(platform.command(), &program, &[]);
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(70), "control 0\n"), "{}", all(&out));
        assert!(text(&out.stderr).contains(&format!("{kind}-waits: no answer in 1 s\n")), "{}", all(&out));
    }
}

#[test]
fn a_refusal_that_takes_more_processor_time_than_it_has_is_none_and_is_named() {
    let platform = platform();
    // What goes through may work for as long as it needs.
    let works = "long end = worked() + 200; while (worked() < end) {}";
    for kind in ["TRY", "CHILD"] {
        let attempts = format!(
            "TRY(\"control\", ({{ {works} 0; }})); {kind}(\"{kind}-works\", ({{ {works} errno = EPERM; -1; }}))"
        );
        let program = format!("int main(void) {{ refusal_ms = 100; {attempts}; return 0; }}");
        let out = compiled(platform.command(), &program, &[]);
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(71), "control 0\n"), "{}", all(&out));
        let said = text(&out.stderr);
        let took = said.split_once(&format!("{kind}-works: refused with 1 after ")).map(|(_, rest)| rest);
        let took = took.and_then(|rest| rest.split_once(" ms of processor time, of which it has 100\n"));
        assert!(took.is_some_and(|(ms, _)| ms.parse::<u32>().is_ok_and(|ms| ms > 100)), "{}", all(&out));
    }
}

#[test]
fn the_kernel_refuses_what_nothing_in_a_box_needs() {
    let platform = platform();
    judge(&attempts(&platform, include_str!("kernel.c"), &[]), &musts::of_the_kernel());
}

#[test]
fn a_process_reaches_into_no_other() {
    let platform = platform();
    let met = attempts(&platform, include_str!("processes.c"), &[]);
    judge(&met, &musts::of_processes(landlock(&platform)));
}

#[test]
fn only_what_stands_in_the_system_or_was_made_at_work_is_executed() {
    let platform = platform();
    judge(
        &attempts(&platform, include_str!("execute.c"), &[]),
        &[
            Must("nothing", THROUGH, "control-workspace control-tmp control-usr control-loader"),
            Must("Landlock", &[EACCES], "runner agent shared-memory unnamed-file"),
            Must("proc with hidepid", &[ENOENT], "proc-exe"),
            Must("seccomp", &[EPERM], "memfd"),
            // The loader's own status for a file that it could not open or map.
            Must("Landlock, no-exec mount", &[127], "loader-runner loader-shared-memory"),
            Must("no-exec mount", &[EPERM, EACCES], "map-shared-memory"),
        ],
    );
}

/// Says whose rights it has, and goes for root's.
const WHOSE: &str = "int main(void) {
    printf(\"begun %d\\n\", geteuid() == 0);
    printf(\"became %d\\n\", setuid(0) == 0 || seteuid(0) == 0 || setresuid(0, 0, 0) == 0);
    printf(\"group %d\\n\", getegid() == 0);
    printf(\"shadow %d\\n\", open(\"/etc/shadow\", O_RDONLY) >= 0);
    return 0;
}";

#[test]
fn a_setuid_program_gains_nothing() {
    let platform = platform();
    // Root's own, as an image or a folder of the host may have it; nothing but the box stands before it.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let program = dir.path().join("setuid");
    built(WHOSE, &program);
    for (path, mode) in [(dir.path(), 0o755), (&program, 0o6755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let gained = "begun 1\nbecame 1\ngroup 1\nshadow 1\n";
    let control = std::process::Command::new(&program).uid(60_001).gid(60_001).output().unwrap();
    assert_eq!(
        text(&control.stdout),
        gained,
        "the control: on the host whoever executes it is root: {}",
        all(&control)
    );

    let profile = format!("{}folders = [{{ path = {:?} }}]\n", platform.engine(), dir.path());
    std::fs::write(platform.home().join("profiles/setuid.toml"), profile).unwrap();
    let path = program.to_str().unwrap();
    let line = format!(
        "test -u {path} && test -g {path} && echo there; {path}; \
         cp {path} /workspace/own && chmod 6755 /workspace/own && test -u /workspace/own && echo own; /workspace/own; \
         test -u /usr/bin/su && echo system; su root -c 'echo as-root' </dev/null; echo \"su $?\""
    );
    let out = shell(&platform, "setuid", &line);
    let said = text(&out.stdout);
    let nothing = "begun 0\nbecame 0\ngroup 0\nshadow 0\n";
    let expected = format!("there\n{nothing}own\n{nothing}system\nsu ");
    let status = said.strip_prefix(&expected).map(str::trim).and_then(|status| status.parse::<i32>().ok());
    assert!(status.is_some_and(|status| status != 0), "{}", all(&out));
}

#[test]
fn a_command_starts_with_three_descriptors_and_a_clean_environment() {
    let platform = platform();
    let program = "int main(void) {
        for (int n = 0; n < 4096; n++) if (fcntl(n, F_GETFD) >= 0) printf(\"descriptor %d\\n\", n);
        for (char **v = environ; *v; v++) puts(*v);
        return 0;
    }";
    let mut command = platform.command();
    command.env("HOST_SECRET_OF_THE_TEST", "do-not-carry-along");
    let out = compiled(command, program, &[]);
    let said = text(&out.stdout);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    // A command that a person starts has its run's handle, which no text shows.
    let handles: Vec<&str> = lines.extract_if(.., |line| line.starts_with("VOLARY_HANDLE=")).collect();
    assert!(matches!(handles[..], [one] if one.starts_with("VOLARY_HANDLE=[redacted: volary-handle")), "{handles:?}");
    // The way out and trust in it: each names a file of the box's own or the door, and holds nothing.
    let door = |line: &&str| line.contains("=/tmp/trust/") || line.contains("=http://127.0.0.1:8080");
    let named: Vec<&str> = lines.extract_if(.., |line| door(line)).filter_map(|line| line.split('=').next()).collect();
    assert_eq!(
        named,
        [
            "AWS_CA_BUNDLE",
            "CARGO_HTTP_CAINFO",
            "CURL_CA_BUNDLE",
            "DENO_CERT",
            "GIT_SSL_CAINFO",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "JAVA_TOOL_OPTIONS",
            "NODE_EXTRA_CA_CERTS",
            "PIP_CERT",
            "REQUESTS_CA_BUNDLE",
            "SSL_CERT_FILE",
            "WGETRC",
            "http_proxy",
            "https_proxy"
        ]
    );
    assert_eq!(
        lines,
        [
            "HOME=/tmp/home",
            "LANG=C.UTF-8",
            "NODE_USE_ENV_PROXY=1",
            "NO_PROXY=localhost,127.0.0.1,::1",
            "PATH=/usr/bin:/bin",
            "PWD=/workspace",
            "TMPDIR=/tmp",
            "USER=agent",
            "descriptor 0",
            "descriptor 1",
            "descriptor 2",
            "no_proxy=localhost,127.0.0.1,::1"
        ],
        "{}",
        all(&out)
    );
}
