//! Everything that a platform keeps or shows.

use crate::search::Search;
use crate::{SMALL, plain, routes};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use testkit::{Platform, Temporary, eventually, shell_capability};

/// What the hunt's own profile, capability and connection are called.
pub const NAME: &str = "of-the-hunt";

/// What commands said.
#[derive(Default)]
pub struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    /// Keeps a command's output.
    pub fn of(&mut self, command: &str, out: &Output) {
        self.0.push((format!("the output of {command}"), [&out.stdout[..], b"\n", &out.stderr].concat()));
    }
}

/// Looks through all of it: what was said, what the commands of people print, every route that can be read, pages and
/// exports among them, every file of the home and of the temporary folders (`/tmp`, `/var/tmp` and `/dev/shm`, which are the
/// hunt's own), and cores. In a temporary folder nothing may ever have been made, not for a moment.
pub fn look(platform: &Platform, temporary: &Temporary, said: &Said, search: &mut Search) {
    for (place, bytes) in &said.0 {
        search.through(place, bytes);
    }
    let live = begin(platform);
    let runs = rows(platform, &["runs", "--json"]);
    commands(platform, &runs, search);
    backup(platform, search);
    let runs: Vec<String> = runs.iter().map(|run| text(&run["run"])).collect();
    routes::look(platform, &runs, search);
    end(live, search);
    // With the server's last words written; the home lies in one of them.
    assert!(platform.home().starts_with("/tmp"), "the home is looked through");
    temporary.folders().iter().for_each(|folder| search.below(folder));
    let made = temporary.made();
    assert!(made.is_empty(), "{} names were made in a temporary folder: {:?}", made.len(), made.iter().take(9));
    core_files(search);
}

/// Something of every kind that commands and routes are about: a connection, a refusal that a row would allow, and a run that
/// uses a lease meanwhile.
fn begin(platform: &Platform) -> Child {
    platform.secret(&format!("capability/{NAME}"), &plain());
    let row = shell_capability(NAME, &format!("capability/{NAME}"), "files", "\"stdin\"");
    let profile = format!("{row}[egress]\nreads = \"none\"\n{SMALL}");
    std::fs::write(platform.home().join(format!("profiles/{NAME}.toml")), profile).expect("the profile is written");
    let [token, device] = ["http://127.0.0.1:9/token", "http://127.0.0.1:9/device"];
    let add = ["connect", "add", NAME, "--client-id", "volary", "--internal"];
    drop(platform.ok(&[&add[..], &["--token-url", token, "--device-url", device]].concat()));
    let exec = ["exec", "--profile", NAME];
    let refused = platform.cli(&[&exec[..], &["--", "curl", "-sS", "https://docs.example.org/"]].concat());
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    let line = [&exec[..], &["--lease", NAME, "--", "sh", "-c", "sleep 600"]].concat();
    let mut live = platform.command();
    let live = live.args(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts");
    eventually("a lease in use", || {
        let open = rows(platform, &["lease", "list", "--json"]);
        open.iter().any(|lease| lease["capability"] == NAME && lease["state"] == "consumed").then_some(())
    });
    live
}

fn end(live: Child, search: &mut Search) {
    let client = rustix::process::Pid::from_child(&live);
    rustix::process::kill_process(client, rustix::process::Signal::INT).expect("it lives");
    let out = live.wait_with_output().expect("it ends");
    search.through("a run that was live", &[&out.stdout[..], &out.stderr].concat());
}

fn rows(platform: &Platform, line: &[&str]) -> Vec<Value> {
    platform.json(line).as_array().expect("a list").clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Every command that says something of what there is; none of them fails.
fn commands(platform: &Platform, runs: &[Value], search: &mut Search) {
    let mut lines: Vec<Vec<&str>> = vec![
        vec!["runs"],
        vec!["runs", "--json"],
        vec!["kept"],
        vec!["kept", "--json"],
        vec!["status"],
        vec!["status", "--json"],
        vec!["doctor"],
        vec!["secret", "list"],
        vec!["secret", "list", "--json"],
        vec!["lease", "list", "--all"],
        vec!["lease", "list", "--all", "--json"],
        vec!["connect", "list"],
        vec!["connect", "list", "--json"],
        vec!["model", "list"],
        vec!["profile", "list"],
        vec!["vault", "show"],
        vec!["verify"],
    ];
    let profiles = profiles(platform);
    for profile in &profiles {
        lines.extend([vec!["reach", profile], vec!["reach", profile, "--json"], vec!["profile", "check", profile]]);
    }
    for run in runs {
        let id = run["run"].as_str().expect("an id");
        for line in [&["log"][..], &["log", "--json"], &["explain"], &["explain", "--json"]] {
            lines.push([line, &[id]].concat());
        }
        // What no model works on has no turn.
        if run["model"].is_string() {
            lines.push(vec!["replay", id, "--turn", "1"]);
        }
    }
    for line in lines {
        let out = platform.cli(&line);
        // A profile is wrong that names what the hunt has ended.
        // A box that is just ending does not have all its walls any more.
        let may_find = line.starts_with(&["profile", "check"]) || line[0] == "status";
        let fits = out.status.success() || may_find && out.status.code() == Some(1);
        assert!(fits, "volary {}: {}", line.join(" "), String::from_utf8_lossy(&out.stderr));
        search.through(&format!("volary {}", line.join(" ")), &[&out.stdout[..], &out.stderr].concat());
    }
}

/// What a backup holds. It stays where it is, in the home: folders are looked through at the verdict.
fn backup(platform: &Platform, search: &mut Search) {
    let folder = platform.home().join("run/backup-of-the-hunt");
    let named = folder.to_str().expect("a plain path");
    let out = platform.cli(&["backup", named]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    search.through("volary backup", &[&out.stdout[..], &out.stderr].concat());
    search.below(&folder);
}

/// The profiles that a home has, by name.
fn profiles(platform: &Platform) -> Vec<String> {
    let folder = std::fs::read_dir(platform.home().join("profiles")).expect("a home has profiles");
    let files = folder.map(|file| file.expect("it is listed").path());
    let names = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// Where programs keep the cores that a kernel tells them (`core_pattern` begins with `|`): systemd's, and Ubuntu's.
const TOLD: [&str; 2] = ["/var/lib/systemd/coredump", "/var/crash"];

/// No process left its memory behind. That those of the hunt could is shown by `main.rs`; what lies in a box's own folders is
/// gone with it, so a command of the hunt looks there itself.
fn core_files(search: &mut Search) {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let folder = Path::new(pattern.trim()).parent().filter(|folder| folder.is_absolute()).map(Path::to_path_buf);
    // Where this is by name may be covered; what it is stays.
    for folder in [PathBuf::from(".")].into_iter().chain(folder).chain(TOLD.map(PathBuf::from)) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if (name.starts_with("core") || name.ends_with(".crash"))
                && entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                search.through(&name, &std::fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
}
