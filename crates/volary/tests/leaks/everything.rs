//! Everything that a platform keeps or shows.

use crate::search::Search;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use testkit::{Platform, Temporary};

/// The golden that names every route: a new one is looked at without a line here.
const ROUTES: &str = include_str!("../../../../docs/generated/routes.md");
/// Seconds after which a route that goes on by itself (`/live`) has shown what it has.
const LIVE_SECS: &str = "3";
/// Seconds that any other route may take, far above what one ever needs.
const SECS: &str = "60";

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
    let runs: Vec<String> = platform
        .json(&["runs", "--json"])
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|run| run["run"].as_str().map(str::to_owned))
        .collect();
    assert!(!runs.is_empty(), "no run to look at");
    commands(platform, &runs, search);
    backup(platform, search);
    routes(platform, &runs, search);
    // With the server's last words written; the home lies in one of them.
    assert!(platform.home().starts_with("/tmp"), "the home is looked through");
    temporary.folders().iter().for_each(|folder| search.below(folder));
    let made = temporary.made();
    assert!(made.is_empty(), "{} names were made in a temporary folder: {:?}", made.len(), made.iter().take(9));
    core_files(search);
}

fn commands(platform: &Platform, runs: &[String], search: &mut Search) {
    let mut lines: Vec<Vec<&str>> = vec![
        vec!["runs"],
        vec!["runs", "--json"],
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
        for line in [&["log"][..], &["log", "--json"], &["explain"], &["explain", "--json"], &["replay"]] {
            lines.push([line, &[run.as_str()]].concat());
        }
    }
    for line in lines {
        let out = platform.cli(&line);
        search.through(&format!("volary {}", line.join(" ")), &[&out.stdout[..], &out.stderr].concat());
    }
}

/// What a backup holds. It lies where nobody looks for what a temporary folder holds, and goes again.
fn backup(platform: &Platform, search: &mut Search) {
    let folder = platform.home().join("run/backup-of-the-hunt");
    let named = folder.to_str().expect("a plain path");
    let out = platform.cli(&["backup", named]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    search.through("volary backup", &[&out.stdout[..], &out.stderr].concat());
    search.below(&folder);
    std::fs::remove_dir_all(&folder).expect("a folder of ours is removed");
}

/// The profiles that a home has, by name.
fn profiles(platform: &Platform) -> Vec<String> {
    let folder = std::fs::read_dir(platform.home().join("profiles")).expect("a home has profiles");
    let files = folder.map(|file| file.expect("it is listed").path());
    let names = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

fn routes(platform: &Platform, runs: &[String], search: &mut Search) {
    let link = platform.json(&["sign-in", "--json"]);
    let link = link["url"].as_str().unwrap_or_else(|| panic!("no link in {link}"));
    // In a folder of its own: curl writes it anew beside itself.
    let jar = tempfile::tempdir().expect("a folder");
    let jar = jar.path().join("jar");
    let jar = jar.to_str().expect("a plain path");
    let origin = platform.url();
    let curl = |secs: &str, args: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--max-time", secs, "-b", jar])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("curl starts")
    };
    let told = |curl: Child| curl.wait_with_output().expect("curl's output").stdout;
    let signed_in = told(curl(SECS, &["-c", jar, "-X", "POST", "-H", &format!("origin: {origin}"), link]));
    search.through("the sign-in", &signed_in);
    let read = ROUTES.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| GET | `")?.split('`');
        cells.next()
    });
    let paths = read.flat_map(|route| filled(route, runs));
    let (live, others): (Vec<String>, Vec<String>) = paths.partition(|path| path.ends_with("/live"));
    // Those that go on by themselves all at once, while the others are read one after the other.
    let live: Vec<_> = live.into_iter().map(|path| (curl(LIVE_SECS, &[&format!("{origin}{path}")]), path)).collect();
    let others = others.into_iter().map(|path| (curl(SECS, &[&format!("{origin}{path}")]), path));
    let mut shown = 0;
    let mut look = |(curl, path): (Child, String)| {
        let out = told(curl);
        shown += usize::from(out.starts_with(b"HTTP/1.1 200"));
        search.through(&format!("GET {path}"), &out);
    };
    others.for_each(&mut look);
    live.into_iter().for_each(&mut look);
    assert!(shown >= 8, "only {shown} routes showed anything: {}", String::from_utf8_lossy(&signed_in));
}

/// A route with what stands in its braces filled in, in the ways that can mean something here.
fn filled(route: &str, runs: &[String]) -> Vec<String> {
    let Some((before, rest)) = route.split_once('{') else { return vec![route.to_owned()] };
    let Some((name, after)) = rest.split_once('}') else { return vec![route.to_owned()] };
    let values: Vec<String> = match name {
        "run" => runs.to_vec(),
        "n" => (1..=12).map(|n| n.to_string()).collect(),
        _ => vec!["odd".into(), "plain".into()],
    };
    values.iter().flat_map(|value| filled(&format!("{before}{value}{after}"), runs)).collect()
}

/// No process left its memory behind.
fn core_files(search: &mut Search) {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let folder = Path::new(pattern.trim()).parent().filter(|folder| folder.is_absolute()).map(Path::to_path_buf);
    // Where this is by name may be covered; what it is stays.
    for folder in std::iter::once(PathBuf::from(".")).chain(folder) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("core") && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                search.through(&name, &std::fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
}
