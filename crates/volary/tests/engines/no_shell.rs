//! After its start an agent executes nothing: every way that `executes.rs` knows, in a whole box of each engine.

use crate::{begun, heard};
use api::inbox::{AgentTask, Counts, Done, Kind, ModelRoute, ToRunner};
use model::event::Exit;
use model::{Dialect, Event, Limits};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use testkit::Docker;

/// An agent that does as it is told (`runner/tests/in_a_box`).
const SCRIPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runner/tests/in_a_box/scripted.rs");

/// The scripted agent's program, linked with a feature of the compiler; small, as it copies itself into a small worktree.
fn scripted(dir: &Path, feature: &str) -> Vec<u8> {
    let to = dir.join("scripted");
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2024", "-C", feature, "-C", "panic=abort", "-C", "strip=symbols", "-o"])
        .arg(&to)
        .arg(SCRIPTED);
    let compiled = rustc.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    std::fs::read(to).unwrap()
}

/// Answers a runner that may have said its last word by now, which comes next.
fn told(input: &mut File, message: &ToRunner) {
    if let Err(e) = crate::try_to_tell(input, message) {
        assert_eq!(e.kind(), std::io::ErrorKind::BrokenPipe);
    }
}

/// What each way met in a box of one engine: its name, and an error number.
fn tried(agent: &[u8], docker: Option<&Docker>, label: &str) -> Vec<(String, i32)> {
    let dir = tempfile::Builder::new().prefix("volary-e-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let model = ModelRoute {
        name: "m".into(),
        dialect: Dialect::Anthropic,
        id: "m".into(),
        max_output_tokens: 1,
        context_tokens: 1,
    };
    let task = ToRunner::Agent(AgentTask {
        task: "try-all".bytes().map(|byte| format!("{byte:02x}")).collect(),
        handle: "handle".into(),
        model,
        tools: model::profile::TOOLS.map(str::to_owned).to_vec(),
        instructions: String::new(),
        limits: Limits { seconds: 300, ..Limits::default() },
        history: Vec::new(),
        answered: Vec::new(),
    });
    let (host, made, image) = begun(dir.path(), docker, label, agent, &task);
    let (mut input, mut output) = (File::from(made.stdin), File::from(made.stdout));
    let (mut met, mut events, mut asked) = (Vec::new(), 0, 0);
    loop {
        match heard(&mut output) {
            (Kind::Event, body) => {
                events += 1;
                told(&mut input, &ToRunner::Kept { events });
                if let Event::Chunk { text, .. } = serde_json::from_slice(&body).unwrap() {
                    let (way, errno) = text.split_once(' ').unwrap();
                    met.push((way.to_owned(), errno.parse().unwrap()));
                }
            }
            (Kind::Ask, _) => {
                asked += 1;
                told(&mut input, &ToRunner::Met { asked, counts: Counts::default() });
            }
            (Kind::Done, body) => {
                let done: Done = serde_json::from_slice(&body).unwrap();
                assert!(done.task_done && done.exit == Exit::Code { code: 0 }, "{done:?}");
                break;
            }
            (Kind::Hello, _) => panic!("a second hello"),
        }
    }
    made.live.end().unwrap();
    host.drop_worktree(&image).unwrap();
    met
}

#[test]
fn an_agent_finds_no_way_to_execute_anything_its_own_file_too() {
    let docker = Docker::start();
    let dir = tempfile::tempdir().unwrap();
    for feature in ["target-feature=+crt-static", "target-feature=-crt-static"] {
        let agent = scripted(dir.path(), feature);
        for (engine, label) in [(None, "no-shell-embedded"), (Some(&docker), "no-shell-docker")] {
            let met = tried(&agent, engine, label);
            assert!(met.len() > 17, "{met:?}");
            for (way, met) in met {
                assert_eq!(met, libc::EPERM, "{way}, {label}, {feature}");
            }
        }
    }
}
