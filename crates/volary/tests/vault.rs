//! The vault's key, as a person and an attacker see it: where it is while the platform runs, another in its place while
//! everything goes on and whoever is killed, and a backup that is worth nothing without it.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::{Platform, TlsFront, eventually};

#[path = "vault/backup.rs"]
mod backup;
#[path = "vault/look.rs"]
mod look;

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// A value that is looked for; whether the vault is open shows in whether it is scrubbed.
const VALUE: &str = "a-canary-of-the-vault-0123456789";

fn platform() -> Platform {
    let platform = Platform::start(VOLARY);
    platform.secret("capability/canary", VALUE);
    platform
}

/// That the server opens what was sealed.
fn is_open(platform: &Platform) {
    let out = platform.cli_with_input(&["scrub"], format!("<{VALUE}>").as_bytes());
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.starts_with("<[scrubbed:capability/canary#"), "{said}{:?}", out.stderr);
}

/// The id of the key that is in use.
fn key(platform: &Platform) -> String {
    platform.json(&["vault", "show", "--json"])["key"].as_str().expect("an id").to_owned()
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Whether any of these stands in there.
fn holds(bytes: &[u8], needles: &[Vec<u8>]) -> bool {
    needles.iter().any(|needle| bytes.windows(needle.len()).any(|part| part == needle))
}

/// A key in the forms in which it could lie somewhere.
fn forms(digits: &str) -> Vec<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    let raw = (0..digits.len()).step_by(2).map(byte).collect();
    vec![digits.as_bytes().to_vec(), digits.to_uppercase().into_bytes(), raw]
}

/// The memory of a process, as root sees it, searched piece by piece.
fn memory_holds(pid: u32, needles: &[Vec<u8>]) -> bool {
    const PIECE: usize = 1 << 20;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root reads the maps of any process");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("root reads the memory of any process");
    let mut piece = vec![0; PIECE];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let hex = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (hex(from), hex(to));
        while at < end {
            let wanted = usize::try_from((end - at).min(PIECE as u64)).expect("it fits");
            // Pages that were never touched, and those of devices, are not there to be read.
            let read = memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read(&mut piece[..wanted]));
            let Ok(got @ 1..) = read else { break };
            if holds(&piece[..got], needles) {
                return true;
            }
            // Where two pieces meet nothing is missed.
            at += if at + got as u64 >= end { got as u64 } else { got.saturating_sub(128).max(1) as u64 };
        }
    }
    false
}

/// Every file of a home, with what it holds.
fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the home can be read") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("an entry has a kind").file_type();
        if kind.is_dir() {
            files(&path, all);
        } else if kind.is_file() {
            all.push(path);
        }
    }
}

#[test]
fn the_key_of_the_vault_is_in_no_process_that_runs_and_in_no_file_but_its_own() {
    let platform = platform();
    let own = platform.home().join("keys/kek");
    let digits = fs::read_to_string(&own).unwrap();
    let needles = forms(&digits);
    let looked = |when: &str| {
        // What is searched for would be found: it is in this very test's memory.
        assert!(memory_holds(std::process::id(), &needles), "the search finds nothing at all");
        let state: serde_json::Value =
            serde_json::from_slice(&fs::read(platform.home().join("run/up.json")).unwrap()).unwrap();
        let up = u32::try_from(state["pid"].as_u64().unwrap()).unwrap();
        let parts = ["server", "gateway", "operator"].map(|name| platform.pid_of(name).expect("it runs"));
        for pid in parts.into_iter().chain([up]) {
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
                assert!(!holds(&bytes, &needles), "{when}: the {file} of {pid} holds the key");
            }
            assert!(!memory_holds(pid, &needles), "{when}: the memory of {pid} holds the key");
        }
        let mut all = Vec::new();
        files(platform.home(), &mut all);
        for path in all.iter().filter(|path| **path != own) {
            // The engine takes its side files away as it likes.
            let Ok(bytes) = fs::read(path) else { continue };
            assert!(!holds(&bytes, &needles), "{when}: {} holds the key", path.display());
        }
    };
    is_open(&platform);
    looked("after the start");

    let server = platform.pid_of("server").expect("the server's pid");
    let pid = rustix::process::Pid::from_raw(server.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("another server", || platform.pid_of("server").filter(|pid| *pid != server));
    eventually("its answer", || platform.cli(&["vault", "show"]).status.success().then_some(()));
    is_open(&platform);
    looked("after a restart of the server");
    platform.stop();
}

/// A program that gives a key, writes down that it was asked, and waits while a file says so.
struct Giver(tempfile::TempDir);

impl Giver {
    fn new(digits: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("volary-k-").tempdir_in("/tmp").unwrap();
        let at = dir.path().display();
        let script = format!(
            "#!/bin/sh\necho asked >> {at}/asked\nn=$(wc -l < {at}/asked)\nwhile [ -e {at}/hold$n ]; do sleep 0.05; done\necho {digits}\n"
        );
        fs::write(dir.path().join("give"), script).unwrap();
        fs::set_permissions(dir.path().join("give"), fs::Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }

    fn source(&self) -> String {
        format!("command = [{:?}]", self.0.path().join("give"))
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.0.path().join("asked")).unwrap_or_default().lines().count()
    }

    /// Has it wait when it is asked for the n-th time from now; gives the file that says so.
    fn hold(&self, n: usize) -> PathBuf {
        let hold = self.0.path().join(format!("hold{}", self.asked() + n));
        fs::write(&hold, "").unwrap();
        hold
    }
}

fn spawn(platform: &Platform, args: &[&str]) -> Child {
    platform.command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("volary starts")
}

fn kill(mut child: Child) {
    // It may have ended by itself.
    drop(child.kill());
    child.wait().expect("its status can be read");
}

#[test]
fn a_rotation_that_is_killed_at_any_step_leaves_one_key_that_opens_and_the_platform_starts_with_it() {
    let mut platform = platform();
    let old = key(&platform);
    let giver = Giver::new(&"ab".repeat(32));
    let config = platform.home().join("vault.toml");

    // Before anything was written: the new key is just being obtained.
    let asked = giver.asked();
    let hold = giver.hold(1);
    let rotation = spawn(&platform, &["vault", "rotate", "--to", &giver.source()]);
    eventually("the first question", || (giver.asked() > asked).then_some(()));
    assert!(!config.exists());
    let limits = fs::read_to_string(format!("/proc/{}/limits", rotation.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "a core would hold the key");
    kill(rotation);
    fs::remove_file(hold).unwrap();
    platform.kill();
    platform.up(&[]);
    is_open(&platform);
    assert_eq!(key(&platform), old);

    // Both are offered, and the server has not exchanged them yet.
    let asked = giver.asked();
    let hold = giver.hold(2);
    let rotation = spawn(&platform, &["vault", "rotate", "--to", &giver.source()]);
    eventually("the second question", || (giver.asked() > asked + 1).then_some(()));
    let between = fs::read_to_string(&config).unwrap();
    assert!(between.contains("[next]"), "{between}");
    kill(rotation);
    fs::remove_file(hold).unwrap();
    platform.kill();
    platform.up(&[]);
    is_open(&platform);
    assert_eq!(key(&platform), old);
    assert!(!fs::read_to_string(&config).unwrap().contains("[next]"), "the start brought it to its end");

    // The server has exchanged them, and nothing was written since.
    drop(platform.ok(&["vault", "rotate", "--to", &giver.source()]));
    let new = key(&platform);
    assert_ne!(new, old);
    platform.kill();
    fs::write(&config, &between).unwrap();
    platform.up(&[]);
    is_open(&platform);
    assert_eq!(key(&platform), new);
    let after = fs::read_to_string(&config).unwrap();
    assert!(!after.contains("[next]") && after.contains(&new), "{after}");

    // And that one alone: what the old key opened it opens no more.
    platform.down();
    fs::write(&config, "[key]\nfile = \"keys/kek\"\n").unwrap();
    let refused = platform.cli(&["up", "--port", "0", "--warm", "0"]);
    assert!(!refused.status.success() && said(&refused).contains("does not open"), "{}", said(&refused));
    fs::write(&config, after).unwrap();
    platform.up(&[]);
    is_open(&platform);
    let evidence = platform.ok(&["verify"]);
    assert!(evidence.contains("every link holds"), "{evidence}");
    platform.stop();
}

#[test]
fn rotations_and_servers_that_are_killed_at_random_never_close_the_vault() {
    let mut platform = platform();
    let mut keys = std::collections::BTreeSet::from([key(&platform)]);
    for round in 0..4u64 {
        let rotation = spawn(&platform, &["vault", "rotate"]);
        // Where it falls decides which step is cut, and nothing else.
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        if round % 2 == 1 {
            let server = platform.pid_of("server").and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
            // It may be down between two lives.
            if let Some(server) = server
                && let Err(e) = rustix::process::kill_process(server, rustix::process::Signal::KILL)
            {
                assert_eq!(e, rustix::io::Errno::SRCH);
            }
        }
        kill(rotation);
        eventually("the server's answer", || platform.cli(&["vault", "show"]).status.success().then_some(()));
        is_open(&platform);
        keys.insert(key(&platform));
    }
    drop(platform.ok(&["vault", "rotate"]));
    keys.insert(key(&platform));
    assert!(keys.len() > 1);
    platform.down();
    platform.up(&[]);
    is_open(&platform);
    assert!(keys.contains(&key(&platform)));
    platform.stop();
}

#[test]
fn a_credential_of_systemd_and_a_variable_open_the_vault_at_each_start_and_without_them_it_stays_closed() {
    let mut platform = platform();
    let (own, config) = (platform.home().join("keys/kek"), platform.home().join("vault.toml"));
    let (digits, id) = (fs::read_to_string(&own).unwrap(), key(&platform));
    platform.down();
    fs::remove_file(&own).unwrap();
    // As systemd lays them down for a service: a folder that is its own alone, files that nobody writes.
    let folder = tempfile::tempdir().unwrap();
    let credential = folder.path().join("volary-kek");
    fs::write(&credential, &digits).unwrap();
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o400)).unwrap();
    for (source, name, value) in [
        ("credential = \"volary-kek\"", "CREDENTIALS_DIRECTORY", folder.path()),
        ("env = \"THE_KEY\"", "THE_KEY", Path::new(digits.trim())),
    ] {
        fs::write(&config, format!("[key]\n{source}\n")).unwrap();
        let refused = platform.cli(&["up", "--port", "0", "--warm", "0"]);
        assert!(!refused.status.success() && said(&refused).contains(name), "{}", said(&refused));
        assert!(!said(&refused).contains(digits.trim()));
        platform.up_in(&[(name, value)], &[]);
        is_open(&platform);
        let server = platform.pid_of("server").expect("the server's pid");
        let pid = rustix::process::Pid::from_raw(server.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("another server", || platform.pid_of("server").filter(|pid| *pid != server));
        eventually("its answer", || platform.cli(&["vault", "show"]).status.success().then_some(()));
        is_open(&platform);
        assert_eq!(key(&platform), id);
        assert!(!own.exists(), "no key was made in its place");
        platform.down();
    }
}

#[test]
fn what_cannot_be_the_next_key_changes_nothing_and_is_told() {
    let platform = platform();
    let before = key(&platform);
    let digits = fs::read_to_string(platform.home().join("keys/kek")).unwrap();
    let in_use = format!("file = {:?}", platform.home().join("keys/kek"));
    let count = platform.home().join("run/count");
    let each_time = format!(
        "command = [\"/bin/sh\", \"-c\", \"echo x >> {0}; wc -l < {0} | md5sum | cut -c1-32 | sed 's/.*/&&/'\"]",
        count.display()
    );
    for (to, why) in [
        ("nothing", "--to takes"),
        ("env = \"VOLARY_NO_SUCH_VARIABLE\"", "is not set where `volary up` runs"),
        ("file = \"/nonexistent/key\"", "is missing"),
        ("file = \"keys/kek\"", "a key of the home's own is made, not named"),
        (&in_use, "is the one in use"),
        ("command = [\"/bin/false\"]", "ended with"),
        (&each_time, "does not give the same key again"),
    ] {
        let refused = platform.cli(&["vault", "rotate", "--to", to]);
        assert!(!refused.status.success() && said(&refused).contains(why), "{to}: {}", said(&refused));
        assert!(!said(&refused).contains(&digits));
        assert_eq!(key(&platform), before, "{to}");
    }
    is_open(&platform);
    // Which key it is, and where from, is told to whoever looks at the platform; the key is not.
    let out = platform.cli(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(status["vault"]["key"], before.as_str(), "{status}");
    for told in [said(&platform.cli(&["status"])), said(&platform.cli(&["doctor"]))] {
        assert!(told.contains("keys/kek") && !told.contains(&digits), "{told}");
    }
    let config = fs::read_to_string(platform.home().join("vault.toml")).unwrap();
    assert!(!config.contains("[next]") && config.contains("keys/kek"), "{config}");
    platform.stop();
}

#[test]
fn a_key_of_before_is_named_by_its_absolute_path_and_never_deleted() {
    let platform = platform();
    let before = key(&platform);
    let old = platform.home().join("keys/kek");
    let digits = fs::read_to_string(&old).unwrap();
    drop(platform.ok(&["vault", "rotate"]));
    let made = format!("keys/kek-{}", key(&platform));
    drop(platform.ok(&["vault", "rotate"]));
    for name in ["keys/kek", made.as_str()] {
        let refused = platform.cli(&["vault", "rotate", "--to", &format!("file = {name:?}")]);
        assert!(!refused.status.success() && said(&refused).contains("absolute path"), "{}", said(&refused));
        assert!(platform.home().join(name).exists(), "{name} was deleted");
    }
    drop(platform.ok(&["vault", "rotate", "--to", &format!("file = {old:?}")]));
    assert_eq!((key(&platform), fs::read_to_string(&old).unwrap()), (before, digits));
    is_open(&platform);
    platform.stop();
}

/// A KMS on loopback: what it encrypts is turned around, and it answers to one token.
fn kms(token: &'static str, asked: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            // One request is all in a few pieces; its body is whole when it ends in a brace.
            while !request.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(got) => request.extend_from_slice(&piece[..got]),
                }
            }
            let request = String::from_utf8(request).expect("a request in UTF-8");
            let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let turned = |text: &str| text.chars().rev().collect::<String>();
            let answer = match request.split(' ').nth(1) {
                _ if !request.to_lowercase().contains(&format!("x-vault-token: {token}\r\n")) => None,
                Some("/v1/transit/encrypt/volary") => body["plaintext"]
                    .as_str()
                    .map(|text| serde_json::json!({ "data": { "ciphertext": format!("vault:v1:{}", turned(text)) } })),
                Some("/v1/transit/decrypt/volary") => body["ciphertext"]
                    .as_str()
                    .and_then(|text| text.strip_prefix("vault:v1:"))
                    .map(|text| serde_json::json!({ "data": { "plaintext": turned(text) } })),
                _ => None,
            };
            asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = match answer {
                Some(answer) => ("200 OK", answer.to_string()),
                None => ("403 Forbidden", "{\"errors\":[\"permission denied\"]}".to_owned()),
            };
            let head = format!(
                "HTTP/1.0 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            // Who asked may be gone.
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    address
}

#[test]
fn a_kms_encrypts_the_key_gives_it_back_at_each_start_and_without_it_the_vault_stays_closed() {
    let mut platform = platform();
    let asked = Arc::new(AtomicU64::new(0));
    let address = kms("the-token-of-the-kms", asked.clone());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "the-token-of-the-kms\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let to = format!("transit = {{ address = {address:?}, key = \"volary\", token-file = {token:?} }}");
    let rotated = platform.ok(&["vault", "rotate", "--to", &to]);
    assert!(rotated.contains("the KMS at http://127.0.0.1"), "{rotated}");
    let config = fs::read_to_string(platform.home().join("vault.toml")).unwrap();
    assert!(config.contains("vault:v1:") && !config.contains("the-token-of"), "{config}");
    let (first, before) = (key(&platform), asked.load(Ordering::SeqCst));
    // Another key under the same KMS.
    drop(platform.ok(&["vault", "rotate"]));
    assert_ne!(key(&platform), first);
    platform.down();
    platform.up(&[]);
    is_open(&platform);
    assert!(asked.load(Ordering::SeqCst) > before + 2);

    platform.down();
    fs::write(&token, "another-token").unwrap();
    let refused = platform.cli(&["up", "--port", "0", "--warm", "0"]);
    let words = said(&refused);
    assert!(!refused.status.success() && words.contains("refused the token (403)"), "{words}");
    assert!(!words.contains("another-token"), "{words}");
    fs::write(&token, "the-token-of-the-kms").unwrap();
    platform.up(&[]);
    is_open(&platform);
    platform.stop();
}

#[test]
fn a_kms_is_told_the_token_and_the_key_under_tls_by_its_name_and_its_authority_alone() {
    let mut platform = platform();
    let asked = Arc::new(AtomicU64::new(0));
    let plain = kms("the-token-of-the-kms", asked.clone());
    let plain = plain.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address");
    let (kms, another) = (TlsFront::start(plain, "127.0.0.1"), TlsFront::start(plain, "kms.example.org"));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "the-token-of-the-kms\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let to = |front: &TlsFront, ca: Option<&Path>| {
        let ca = ca.map_or_else(String::new, |ca| format!(", ca = {ca:?}"));
        format!("transit = {{ address = {:?}, key = \"volary\", token-file = {token:?}{ca} }}", front.url())
    };
    let before = key(&platform);
    for (wrong, to) in [
        ("an authority that nobody vouches for", to(&kms, None)),
        ("another's authority", to(&kms, Some(another.authority()))),
        ("another name", to(&another, Some(another.authority()))),
    ] {
        let refused = platform.cli(&["vault", "rotate", "--to", &to]);
        assert!(
            !refused.status.success() && said(&refused).contains("the KMS at https://"),
            "{wrong}: {}",
            said(&refused)
        );
        assert_eq!((key(&platform), asked.load(Ordering::SeqCst)), (before.clone(), 0), "{wrong}");
    }
    drop(platform.ok(&["vault", "rotate", "--to", &to(&kms, Some(kms.authority()))]));
    assert_ne!(key(&platform), before);
    platform.down();
    platform.up(&[]);
    is_open(&platform);
    assert!(asked.load(Ordering::SeqCst) >= 3, "it was not asked");
    platform.stop();
}
