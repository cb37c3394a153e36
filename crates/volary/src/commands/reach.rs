//! `volary reach PROFILE`: everything a run of that profile could do, and what is not enforced here and why.

mod agent;
mod egress;
mod image;

use crate::client::Client;
use crate::commands::goldens::refused::{self, Who};
use crate::commands::profile::Key;
use crate::commands::show;
use crate::home::Home;
use anyhow::Context;
use model::Profile;
use model::capability::{Capability, Variable, leasable};
use model::profile::{Engine, Folder, Sought};
use policy::lease::Term;
use sandbox::doctor::landlock_abi;
use sandbox::harden::{HostFacts, check};
use sandbox::oci::{self, Mount};
use serde_json::{Value, json};
use std::path::Path;

/// Prints it.
pub async fn main(home: &Home, name: &str, as_json: bool) -> anyhow::Result<i32> {
    // Profiles may be written, and looked at, before the first `up`.
    if !home.profiles().is_dir() {
        home.is_there()?;
    }
    // The server's own reading, then the engine's own check: what is printed is what a run would get.
    let profile = server::profiles::load(&home.profiles(), name)?;
    let root = rustix::process::geteuid().is_root();
    let host = HostFacts { dir: home.operator(), cgroup_parent: String::new(), root, docker: String::new() };
    let folders = check(&profile, &host).with_context(|| format!("no run can have the profile {name:?}"))?;
    let mut lines = lines(name, &profile, &folders, root)?;
    lines.extend(image::section(&profile, &host));
    lines.push(("secrets that it names", secrets(home, &profile).await?));
    lines.push(egress::way(home));
    if as_json {
        let map: serde_json::Map<String, Value> = lines.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        println!("{}", serde_json::to_string_pretty(&map)?);
        return Ok(0);
    }
    for (heading, items) in lines {
        println!("{heading}");
        for item in items {
            println!("  {item}");
        }
    }
    Ok(0)
}

/// How the secrets stand that it names. Only a platform that is up can say.
async fn secrets(home: &Home, profile: &Profile) -> anyhow::Result<Vec<String>> {
    let client = Client::new(home);
    if !client.is_up().await {
        return Ok(vec!["not looked at: no platform is up on this home".to_owned()]);
    }
    client.answers().await?;
    let mut all: Vec<String> = super::profile::keys(&client, profile).await?.iter().map(Key::line).collect();
    if all.is_empty() {
        all.push("none".to_owned());
    }
    Ok(all)
}

/// The mount table that a box would have, and what of it the runner's Landlock layer narrows.
fn files(profile: &Profile, folders: &[Folder], root: bool) -> Vec<String> {
    let mut files: Vec<String> = oci::promised(&profile.limits, folders)
        .iter()
        .filter(|mount| profile.image.is_none() || !oci::is_of_the_host(&mount.point))
        .map(|mount| {
            let folder = folders.iter().find(|folder| folder.path == mount.point);
            format!("{}: {}", mount.point.display(), access(mount, folder, root))
        })
        .collect();
    let devices: Vec<String> = oci::DEVICES.iter().map(|name| format!("/dev/{name}")).collect();
    files.push(format!("{}: read, write; no other device is there", devices.join(", ")));
    files.push(format!("{}: the box's own, written by the platform: read-only", oci::OWN_FILES.join(", ")));
    files.push(format!("shown empty, where the kernel has them: {}", oci::MASKED.join(", ")));
    files.push(format!("read-only, where the kernel has them: {}", oci::READ_ONLY.join(", ")));
    files
}

fn access(mount: &Mount, folder: Option<&Folder>, root: bool) -> String {
    let point = mount.point.as_path();
    if let Some(folder) = folder {
        return match (folder.writable, root) {
            (false, _) => "the host's own folder: read, execute".to_owned(),
            (true, true) => format!(
                "the host's own folder: read, execute; WRITE as the box's uid, one of {} to {}: only where that uid may \
                 write",
                sandbox::embedded::BOX_UIDS.start,
                sandbox::embedded::BOX_UIDS.end - 1
            ),
            (true, false) => format!(
                "the host's own folder: read, execute; WRITE as uid {}: yours, wherever you may write",
                rustix::process::geteuid().as_raw()
            ),
        };
    }
    if point == Path::new(api::inbox::WORKSPACE) {
        return "read, write, execute (a copy of the repository at HEAD; the repository itself is not there)"
            .to_owned();
    }
    if point == Path::new(api::inbox::RUNNER_PATH) || point == Path::new(api::inbox::AGENT_PATH) {
        return "the platform's own program: commands can neither read nor execute it".to_owned();
    }
    if point == Path::new("/proc") {
        return "the box's own processes only: read".to_owned();
    }
    if point == Path::new("/dev") {
        return "nothing can be made there".to_owned();
    }
    let what = match (mount.writable, mount.executable) {
        (true, true) => "read, write, execute",
        (true, false) => "read, write",
        (false, true) if point.starts_with("/etc") => "read",
        (false, true) => "read, execute",
        (false, false) => "shown empty",
    };
    match mount.size_kib.filter(|_| mount.writable) {
        Some(kib) => format!("{what}; {} MiB in memory, gone with the box", kib >> 10),
        None => what.to_owned(),
    }
}

fn maker(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "the platform itself",
        Engine::Docker => "the host's Docker engine, with the same walls, read back the same way",
    }
}

fn lines(
    name: &str,
    profile: &Profile,
    folders: &[Folder],
    root: bool,
) -> anyhow::Result<Vec<(&'static str, Vec<String>)>> {
    let limits = &profile.limits;
    let files = files(profile, folders, root);
    let tools = tools(profile);
    let not = not_enforced(root);
    let mut all = vec![
        (
            "profile",
            vec![format!("{name}: {}", profile.description), format!("model: {}", profile.model.as_deref().unwrap_or("the run's own choice")), format!("boxes made by: {}", maker(profile.engine))],
        ),
        ("files", files),
        (
            "network",
            vec![
                "one door, 127.0.0.1:8080, the gateway; no interface but lo, no route, no name lookup".to_owned(),
                "through it: inference calls to the run's one model; fields and tools that make the vendor fetch, store or \
                 call out are refused"
                    .to_owned(),
                "beside them, as a forward proxy, what is said below under \"can read\" and \"can write\", each request \
                 judged by its method; everything else is refused"
                    .to_owned(),
                "what the model's vendor is sent (the conversation) does leave: that is what a model call is".to_owned(),
                sought(profile).to_owned(),
            ],
        ),
    ];
    all.extend(egress::sections(profile)?);
    all.extend(vec![
        (
            "keys",
            vec![
                "none: opaque handles that work on this run's door only: an agent's for its model, a command's for the capabilities \
                 under \"can write\", until the run ends, or the lease"
                    .to_owned(),
            ],
        ),
        ("repositories", repositories(profile)),
        ("capabilities", capabilities(profile)),
        (
            "our agent's tools",
            vec![
                tools,
                "the agent itself can execute nothing once it is begun, not even its own file; commands are asked of the runner, \
                 and recorded"
                    .to_owned(),
                shell(profile).to_owned(),
                agent::computes(profile),
            ],
        ),
        (
            "changes that leave",
            vec!["one branch volary/<run> in the given repository, by the run's person as its author and the repository's owner as its committer, beside what is pushed; nothing is merged".to_owned()],
        ),
        (
            "limits",
            vec![
                format!("memory {} MiB, processors {}.{:03}, processes {}", limits.memory_mib, limits.cpu_millis / 1000, limits.cpu_millis % 1000, limits.processes),
                format!("open files {}, worktree {} MiB, scratch {} MiB, output of a command {} MiB, of a box {} KiB in a second", limits.open_files, limits.worktree_mib, limits.scratch_mib, limits.output_mib, limits.output_kib_per_second),
                format!("run {} s, command {} s, {} turns, {} tokens, {}", limits.seconds, limits.command_seconds, limits.turns, limits.tokens, limits.cost_micro_dollars),
            ],
        ),
        ("system calls that are refused", calls()),
        ("not enforced here, and why", not),
    ]);
    Ok(all)
}

/// What a run may read and push by git's own protocol.
fn repositories(profile: &Profile) -> Vec<String> {
    let own = "a run on a repository of this host: its branches and tags are read, and its own branch pr/<who>/<time> is pushed there, \
               by the repository's owner";
    let row = |row: &model::Repository| {
        let tags = match &row.tags[..] {
            [] => String::new(),
            names => format!(", the new tags {}", names.join(", ")),
        };
        let held = match &row.pipelines[..] {
            _ if row.pipelines_without_secrets => String::new(),
            [] => "; none that changes pipeline files".to_owned(),
            own => format!("; none that changes pipeline files, {} among them", own.join(", ")),
        };
        let pushed = match &row.secret {
            None => "nothing is pushed".to_owned(),
            Some(secret) => format!(
                "pushed: its own branch pr/<who>/<time>{tags}, with {secret}, which the gateway puts in; each push is a lease, held until \
                 it is listed{held}",
            ),
        };
        let authors = match row.authors {
            model::Authors::Person => "",
            model::Authors::Any => "; commits of any author",
        };
        let proposals = match row.proposals {
            model::Proposals::Person => "",
            model::Proposals::Agent => "; its agent's proposals are opened at once",
        };
        format!("{} ({}): read whole; {pushed}{authors}{proposals}", row.id, row.url)
    };
    profile.repository.iter().map(row).chain([own.to_owned()]).collect()
}

/// What a run may use without having it, and the variables that its commands find.
fn capabilities(profile: &Profile) -> Vec<String> {
    let mut all: Vec<String> =
        leasable(&profile.capability, &profile.egress).iter().map(|row| capability(row, profile)).collect();
    if all.is_empty() {
        all.push("none: no lease is granted".to_owned());
    }
    all.extend(profile.variables.iter().map(|(name, variable)| match variable {
        Variable::Literal(text) => format!("variable {name}: {}, for every command", show::plain(text)),
        Variable::Handle { capability } => {
            format!("variable {name}: a handle of {capability}, for a command under a lease of it; never a value")
        }
    }));
    all
}

fn capability(row: &Capability, profile: &Profile) -> String {
    let programs: Vec<String> = row.executables.iter().map(|path| path.display().to_string()).collect();
    let who = match programs.is_empty() {
        true => "; for any program that the box cannot write".to_owned(),
        false => format!("; for {}", programs.join(", ")),
    };
    let own = profile.capability.iter().any(|own| own.name == row.name);
    let of = if own { "" } else { ", of its rows under \"can write\"" };
    // Checked when the profile was read.
    let term = Term::of(row).map_or_else(
        |why| why,
        |term| format!("{} s, {} a minute, {} a run", term.seconds, term.per_minute, term.per_run),
    );
    let inside = if row.delivery.ends_in_the_box() { "; IN the box while it is used" } else { "" };
    format!(
        "{}{of}: the secret {}, by {}{inside}; a lease is for one {} on {}{who}; {term}",
        row.name,
        row.secret,
        row.delivery.word(),
        row.kind.word(),
        row.destinations.join(" or ")
    )
}

/// What is replaced in what a model is sent.
fn sought(profile: &Profile) -> &'static str {
    match profile.scrub.model {
        Sought::Formats => {
            "of it are replaced: secrets' values that were leased in the last hour, and whatever has the format of a credential"
        }
        Sought::Values => {
            "of it are replaced: secrets' values that were leased in the last hour, and nothing else: this profile lets \
             credentials that lie in files and pages go to the model's vendor ([scrub] model = \"values\")"
        }
    }
}

/// The tools that our agent has of its profile, and those that come with them.
fn tools(profile: &Profile) -> String {
    let mut all: Vec<&str> = profile.tools.iter().map(String::as_str).collect();
    if all.is_empty() {
        all.extend(model::profile::TOOLS);
    }
    if all.contains(&"shell") {
        all.push(model::profile::LEASE_TOOL);
    }
    all.join(", ")
}

/// Whether a run has commands, and whose word that is.
fn shell(profile: &Profile) -> &'static str {
    if profile.tools.is_empty() || profile.tools.iter().any(|tool| tool == "shell") {
        "commands: whatever an interpreter among the files above can compute, within these walls"
    } else {
        "no shell: process 1 starts no command, whatever the agent says, and the kernel lets the agent start none"
    }
}

/// The refused calls, a line for each reason; the whole table is a page of the documentation.
fn calls() -> Vec<String> {
    let mut lines: Vec<(Who, &str, Vec<&str>)> = Vec::new();
    for row in refused::rows().chain(refused::rows_of_bearers()) {
        let why = row.why.strip_prefix("as ").map_or(row.why, |of| {
            // "as mount": with the reason that it has itself.
            refused::rows().find(|other| other.call == of).map_or(row.why, |other| other.why)
        });
        match lines.iter_mut().find(|(who, of, _)| *who == row.who && *of == why) {
            Some((_, _, calls)) if calls.contains(&row.call) => {}
            Some((_, _, calls)) => calls.push(row.call),
            None => lines.push((row.who, why, vec![row.call])),
        }
    }
    let by = |who: Who| match who {
        Who::Everyone => "",
        Who::Child => " (agent and commands)",
        Who::Command => " (commands)",
        Who::AtTheDoor => " (agent, and a command that holds a value)",
        Who::Bearer => " (a command that holds a value)",
    };
    let lines = lines.into_iter().map(|(who, why, calls)| format!("{}{}: {why}", calls.join(", "), by(who)));
    let agents = "execve, execveat (agent): once it is begun it executes nothing".to_owned();
    let foreign = "every call of another architecture, and of x32: they pass by these numbers".to_owned();
    lines.chain([agents, foreign]).collect()
}

fn not_enforced(root: bool) -> Vec<String> {
    let mut not = vec![
        "side channels of the processor and the kernel itself: boxes share the host's kernel".to_owned(),
        "commands run with an interpreter can compute anything; what must not happen is refused at the gateway"
            .to_owned(),
    ];
    let abi = landlock_abi();
    if abi < 6 {
        not.push(format!(
            "signals and abstract sockets between commands of one box: this kernel's Landlock is ABI {abi}, scopes come with 6"
        ));
    }
    if sandbox::doctor::cgroups() == sandbox::doctor::Cgroups::V1 {
        not.push("memory of unread network packets: cgroup v1 does not count it as the box's".to_owned());
    }
    if !root {
        not.push(
            "the worktree's size at every moment: without root it is a plain folder, weighed once a second".to_owned(),
        );
        not.push(
            "a uid of its own for each box: without root all boxes have yours, in user namespaces of their own"
                .to_owned(),
        );
    }
    not
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn every_refused_call_is_told_once_for_each_reason_in_few_lines() {
        let told = calls();
        for row in refused::rows().chain(refused::rows_of_bearers()) {
            let named = |line: &&String| line.split(&[',', ' ', ':']).any(|word| word == row.call);
            assert!(told.iter().any(|line| named(&line)), "{} is not told", row.call);
        }
        assert!(told.len() < 80, "{} lines", told.len());
        assert!(told.iter().any(|line| line == "unshare, clone: in a namespace of its own a process has every capability, and the kernel's whole surface"), "{told:#?}");
        assert!(!told.iter().any(|line| line.ends_with(": as mount")), "{told:#?}");
    }

    #[test]
    fn what_a_model_is_sent_is_told_by_the_profiles_own_word() {
        let told = |file: &str| sought(&toml::from_str(file).expect("a profile")).to_owned();
        assert!(told("").contains("has the format of a credential"));
        assert_eq!(told(""), told("[scrub]\nmodel = \"formats\""));
        assert!(told("[scrub]\nmodel = \"values\"").contains("go to the model's vendor"));
        assert!(toml::from_str::<Profile>("[scrub]\nmodel = \"none\"").is_err(), "there is no word for nothing");
    }

    #[test]
    fn our_agent_has_the_tool_lease_where_it_has_commands_and_a_row_to_write_is_told_as_a_capability() {
        let of = |file: &str| {
            let profile: Profile = toml::from_str(file).expect("a profile");
            let all = lines("p", &profile, &[], true).expect("a profile that is right");
            move |section: &str| all.iter().find(|(heading, _)| *heading == section).expect("its section").1.join("\n")
        };
        assert!(of("")("our agent's tools").contains("shell, lease"));
        assert!(!of("tools = [\"read\"]")("our agent's tools").contains("lease"));
        assert!(of("")("capabilities").starts_with("none: no lease is granted"));
        let rows = of(
            "[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1\"\n",
        );
        let told = rows("capabilities");
        let words = "tracker, of its rows under \"can write\": the secret capability/tracker, by proxy; a lease is for one command \
                     on api.example.org; for any program that the box cannot write; 120 s";
        assert!(told.contains(words), "{words}: {told}");
        assert!(rows("can write").contains("an agent by commands under leases of tracker"), "{}", rows("can write"));
    }

    #[test]
    fn the_pipeline_files_that_a_repositorys_row_adds_are_told() {
        let row =
            "[[repository]]\nid = \"app\"\nurl = \"https://git.example.org/a/app\"\nsecret = \"capability/acme\"\n";
        let told = |more: &str| repositories(&toml::from_str(&format!("{row}{more}")).expect("a profile")).remove(0);
        assert!(told("").contains("; none that changes pipeline files"));
        let own = told("pipelines = [\"build/*.yml\", \"**/x.hcl\"]");
        assert!(own.contains("; none that changes pipeline files, build/*.yml, **/x.hcl among them"), "{own}");
        assert!(!told("pipelines-without-secrets = true").contains("pipeline"));
    }

    #[test]
    fn a_profile_without_shell_is_told_whose_word_it_is() {
        let tools = vec!["read".to_owned()];
        assert!(shell(&Profile { tools, ..Profile::default() }).starts_with("no shell"));
        assert!(shell(&Profile::default()).starts_with("commands"));
    }

    #[test]
    fn every_point_of_the_mount_table_is_told_and_a_writable_folder_by_whose_uid() {
        let folders = [
            Folder { path: PathBuf::from("/srv/a"), writable: true },
            Folder { path: PathBuf::from("/srv/b"), writable: false },
        ];
        let profile = Profile::default();
        let told = files(&profile, &folders, true);
        for mount in oci::promised(&profile.limits, &folders) {
            let start = format!("{}: ", mount.point.display());
            assert_eq!(told.iter().filter(|line| line.starts_with(&start)).count(), 1, "{start} in {told:#?}");
        }
        let of = |start: &str| told.iter().find(|line| line.starts_with(start)).unwrap().as_str();
        assert!(of("/srv/a: ").contains("only where that uid may write"), "{told:#?}");
        assert!(!of("/srv/b: ").contains("WRITE"), "{told:#?}");
        assert_eq!(of("/dev/shm: "), "/dev/shm: read, write; 64 MiB in memory, gone with the box");
        assert!(!told.iter().any(|line| line.contains('…')), "{told:#?}");
    }
}
