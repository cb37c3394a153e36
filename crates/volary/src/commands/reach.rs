//! `volary reach PROFILE`: everything a run of that profile could do, and what is not enforced here and why.

use crate::home::Home;
use anyhow::{Context, bail};
use model::Profile;
use sandbox::doctor::landlock_abi;
use serde_json::{Value, json};
use std::fs;

/// Reads a profile as the server does.
pub fn profile(home: &Home, name: &str) -> anyhow::Result<Profile> {
    let path = home.profiles().join(format!("{name}.toml"));
    if name == "default" && !path.exists() {
        return Ok(Profile::default());
    }
    if name.is_empty() || name.contains(['/', '.']) {
        bail!("{name:?} is no name of a profile");
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("there is no profile {name:?}: write {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a profile", path.display()))
}

/// Prints it.
pub fn main(home: &Home, name: &str, as_json: bool) -> anyhow::Result<i32> {
    let profile = profile(home, name)?;
    let lines = lines(name, &profile);
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

fn lines(name: &str, profile: &Profile) -> Vec<(&'static str, Vec<String>)> {
    let limits = &profile.limits;
    let root = rustix::process::geteuid().is_root();
    let mut files = vec![
        "/workspace: read, write, execute (a copy of the repository at HEAD; the repository itself is not there)"
            .to_owned(),
        "/tmp and /dev/shm: read, write; /tmp also execute; gone with the box".to_owned(),
        "/usr (without /usr/local and /usr/src), /bin, /sbin, /lib*: read, execute".to_owned(),
        "a few names of /etc (alternatives, ld.so.*, nsswitch.conf, ssl/certs …): read".to_owned(),
    ];
    for folder in &profile.folders {
        let access = if folder.writable { "read, WRITE (the host's own folder), execute" } else { "read, execute" };
        files.push(format!("{}: {access}", folder.path.display()));
    }
    let tools = if profile.tools.is_empty() { model::profile::TOOLS.join(", ") } else { profile.tools.join(", ") };
    let not = not_enforced(root);
    vec![
        (
            "profile",
            vec![format!("{name}: {}", profile.description), format!("model: {}", profile.model.as_deref().unwrap_or("the run's own choice"))],
        ),
        ("files", files),
        (
            "network",
            vec![
                "one door, 127.0.0.1:8080, the gateway; no interface but lo, no route, no name lookup".to_owned(),
                "through it: inference calls to the run's one model; fields and tools that make the vendor fetch, store or \
                 call out are refused; everything else is refused"
                    .to_owned(),
                "what the model's vendor is sent (the conversation) does leave: that is what a model call is".to_owned(),
            ],
        ),
        (
            "keys",
            vec![
                "none: an opaque handle that works on this run's door only, for its model only, until the run ends".to_owned(),
            ],
        ),
        (
            "our agent's tools",
            vec![
                tools,
                "the agent itself can execute nothing after its start; commands are asked of the runner, and recorded".to_owned(),
            ],
        ),
        (
            "changes that leave",
            vec!["one branch volary/<run> in the given repository, imported as the repository's owner; nothing is merged".to_owned()],
        ),
        (
            "limits",
            vec![
                format!("memory {} MiB, processors {}.{:03}, processes {}", limits.memory_mib, limits.cpu_millis / 1000, limits.cpu_millis % 1000, limits.processes),
                format!("open files {}, worktree {} MiB, scratch {} MiB, output of a command {} MiB", limits.open_files, limits.worktree_mib, limits.scratch_mib, limits.output_mib),
                format!("run {} s, command {} s, {} turns, {} tokens, {}", limits.seconds, limits.command_seconds, limits.turns, limits.tokens, limits.cost_micro_dollars),
            ],
        ),
        ("not enforced here, and why", not),
    ]
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
    if !root {
        not.push("the worktree's size: without root it is a plain folder".to_owned());
        not.push(
            "a uid of its own for each box: without root all boxes have yours, in user namespaces of their own"
                .to_owned(),
        );
    }
    not
}
