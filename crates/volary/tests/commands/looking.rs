//! What shows how things stand: `up`, `status`, `doctor`, `reach`, `runs`; and that it stands again after a restart.

use crate::shared::{VOLARY, all, anthropic, mend, platform, run, text};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use testkit::{ModelDouble, Platform, Repo, Turn, eventually};

const KEY: &str = "sk-a-key-of-some-length";

#[test]
fn up_prints_one_json_line_when_it_is_ready_and_what_it_names_answers() {
    let platform = platform();
    let state: Value =
        serde_json::from_str(&std::fs::read_to_string(platform.home().join("run/up.json")).unwrap()).unwrap();
    assert_eq!(state["url"], platform.url());
    let link = platform.ok(&["sign-in"]);
    assert!(link.starts_with(&format!("{}/sign-in/", platform.url())), "{link}");
    let link = platform.json(&["sign-in", "--json"]);
    assert!(link["url"].as_str().unwrap().starts_with(&format!("{}/sign-in/", platform.url())), "{link}");
    // A second one on the same home is refused, and disturbs nothing.
    let out = platform.cli(&["up", "--port", "0", "--json"]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stderr).contains("is in use"), "{}", all(&out));
    drop(holding(&platform));
}

#[test]
fn a_build_for_another_system_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("build-script");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", all(&compiled));
    for system in ["macos", "windows"] {
        let out = Command::new(&script)
            .env("CARGO_CFG_TARGET_ARCH", "aarch64")
            .env("CARGO_CFG_TARGET_OS", system)
            .output()
            .unwrap();
        assert!(!out.status.success());
        let said = text(&out.stderr);
        assert!(
            said.contains("build and run it on Linux") && said.contains("in a virtual machine with Linux"),
            "{said}"
        );
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let home = tempfile::Builder::new().prefix("volary-t-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let out = Command::new(VOLARY)
        .arg("--home")
        .arg(home.path())
        .args(["up", "--json", "--port", &port])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stderr).contains(&port) && text(&out.stderr).contains("--port"), "{}", all(&out));
    assert_eq!(text(&out.stdout), "");
}

/// What `status` says once all is as promised: on a machine that is very busy a wall may not be proved in time.
fn holding(platform: &Platform) -> Value {
    eventually("a status in which all holds", || {
        let out = platform.cli(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&out.stdout).ok()?;
        (status["all_hold"] == true).then_some(status)
    })
}

/// The walls of a process of `status` that are as promised.
fn held(process: &Value) -> Vec<&str> {
    let facts = process["facts"].as_array().unwrap().iter();
    facts.filter(|fact| fact["holds"] == true).map(|fact| fact["what"].as_str().unwrap()).collect()
}

#[test]
fn status_reads_back_every_wall_of_every_process_and_the_live_box() {
    let (platform, repo) = (platform(), Repo::failing());
    let status = holding(&platform);
    assert_eq!(status["up"], true, "{status:#}");
    assert_eq!((&status["operator_linked"], &status["gateway_connected"]), (&json!(true), &json!(true)));
    assert_eq!(status["live_runs"], 0);
    let names: Vec<&str> =
        status["processes"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["up", "server", "gateway", "operator"]);
    // `up` has no walls; and of root's own operator nobody can tell whether it is dumpable.
    assert_eq!(held(&status["processes"][0]), ["uid"]);
    let walls = ["uid", "seccomp", "no new privileges", "not dumpable", "core dumps"];
    for process in &status["processes"].as_array().unwrap()[1..] {
        let found = held(process);
        let told = walls.into_iter().filter(|wall| process["name"] != "operator" || *wall != "not dumpable");
        assert!(told.clone().all(|wall| found.contains(&wall)), "{process:#}");
        assert_eq!(u64::from(platform.pid_of(process["name"].as_str().unwrap()).unwrap()), process["pid"]);
    }
    // What the kernel does not show of server and gateway is proved by calls that were refused just now.
    for n in [1, 2] {
        let process = &status["processes"][n];
        for wall in ["landlock", "system calls", "no way to root"] {
            let fact = process["facts"].as_array().unwrap().iter().find(|fact| fact["what"] == wall);
            let fact = fact.unwrap_or_else(|| panic!("{wall}: {process:#}"));
            let error = if wall == "landlock" { "refused (EACCES)" } else { "refused (EPERM)" };
            assert!(fact["holds"] == true && fact["read"].as_str().unwrap().starts_with(error), "{fact:#}");
        }
    }

    let double =
        ModelDouble::start(KEY, vec![Turn::calls("shell", json!({"command": "sleep 100000", "timeout": 500}))]);
    anthropic(&platform, "claude", &double.url(), KEY);
    let id = platform.ok(&["run", "--background", "--repo", repo.path_str(), "wait"]).trim().to_owned();
    let status = eventually("the box and its command", || {
        let status = holding(&platform);
        let found = status["boxes"].as_object()?.values().next()?["processes"].as_array()?.len() >= 3;
        found.then_some(status)
    });
    assert_eq!(status["live_runs"], 1, "{status:#}");
    let boxes = status["boxes"].as_object().unwrap();
    assert_eq!(boxes.len(), 1, "{status:#}");
    let processes = boxes.values().next().unwrap()["processes"].as_array().unwrap();
    assert_eq!(processes.iter().filter(|process| process["inside"] == "1").count(), 1, "{status:#}");
    for process in processes {
        for wall in ["uid", "seccomp", "no new privileges", "capabilities", "capability bound", "core dumps"] {
            assert!(held(process).contains(&wall), "{wall}: {process:#}");
        }
        assert!(process["inside"] != "1" || held(process).contains(&"not dumpable"), "{process:#}");
    }
    let person = platform.cli(&["status"]);
    assert!(text(&person.stdout).contains("\nbox "), "{}", all(&person));
    drop(platform.ok(&["cancel", &id]));
}

#[test]
fn a_gateway_that_does_not_answer_has_proved_nothing_and_status_fails() {
    let platform = platform();
    drop(holding(&platform));
    let gateway = process_id(platform.pid_of("gateway").unwrap());
    rustix::process::kill_process(gateway, rustix::process::Signal::STOP).unwrap();
    let out = platform.cli(&["status"]);
    rustix::process::kill_process(gateway, rustix::process::Signal::CONT).unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    let told = text(&out.stdout);
    assert!(told.lines().any(|l| l.contains('✗') && l.contains("landlock") && l.contains("not proved")), "{told}");
    drop(holding(&platform));
}

fn process_id(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid.cast_signed()).unwrap()
}

#[test]
fn status_of_a_home_where_nothing_is_up_says_so_and_fails() {
    let mut platform = platform();
    platform.down();
    let out = platform.cli(&["status", "--json"]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap()["up"], false);
    let out = platform.cli(&["status"]);
    assert!(text(&out.stdout).contains("volary up"), "{}", all(&out));
}

#[test]
fn what_only_looks_at_a_home_makes_none_and_says_how_one_is_made() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("typed-wrong");
    let commands: [&[&str]; 11] = [
        &["runs"],
        &["log", "aaaaaaaaaaaa"],
        &["replay", "aaaaaaaaaaaa", "--turn", "1"],
        &["cancel", "aaaaaaaaaaaa"],
        &["kept"],
        &["model", "list"],
        &["model", "test", "claude"],
        &["secret", "list"],
        &["verify"],
        &["reach"],
        &["status"],
    ];
    for args in commands {
        let out = Command::new(VOLARY).arg("--home").arg(&home).args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", all(&out));
        for word in ["there is no home", home.to_str().unwrap(), "volary up"] {
            assert!(all(&out).contains(word), "{args:?}: {}", all(&out));
        }
        assert!(!home.exists(), "{args:?} made a home");
    }
}

#[test]
fn doctor_names_every_thing_that_boxes_need() {
    let out = Command::new(VOLARY).args(["doctor", "--json"]).output().unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", all(&out)));
    let missing: Vec<&Value> = checks.iter().filter(|check| check["ok"] != true).collect();
    assert_eq!(out.status.code(), Some(i32::from(!missing.is_empty())), "{}", all(&out));
    // Boxes run on this machine, or no test of this file would.
    assert!(missing.is_empty(), "{missing:#?}");
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in ["kernel", "landlock", "cgroups", "overlay", "git"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let person = Command::new(VOLARY).arg("doctor").output().unwrap();
    for name in names {
        assert!(text(&person.stdout).contains(name), "{}", all(&person));
    }
}

#[test]
fn reach_prints_files_network_keys_limits_and_what_is_not_enforced() {
    let platform = platform();
    let reach = platform.json(&["reach", "--json"]);
    let headings: Vec<&String> = reach.as_object().unwrap().keys().collect();
    let wanted =
        ["can read", "can write", "files", "internal services", "keys", "network", "profile", "the way outside"];
    for heading in wanted.into_iter().chain(["not enforced here, and why"]) {
        assert!(headings.iter().any(|there| *there == heading), "{heading:?} is not among {headings:?}");
    }
    assert!(reach.as_object().unwrap().values().all(|lines| lines.as_array().is_some_and(|lines| !lines.is_empty())));
    let person = platform.ok(&["reach", "default"]);
    for line in reach.as_object().unwrap().values().flat_map(|lines| lines.as_array().unwrap()) {
        assert!(person.contains(line.as_str().unwrap()), "{line} is not printed");
    }
    let out = platform.cli(&["reach", "nobody"]);
    assert!(!out.status.success() && all(&out).contains("nobody.toml"), "{}", all(&out));
    let out = platform.cli(&["reach", "../server/x"]);
    assert!(!out.status.success() && all(&out).contains("no profile's name"), "{}", all(&out));
}

#[test]
fn reach_refuses_a_profile_that_no_run_can_have_and_says_why() {
    let platform = platform();
    let cases = [
        ("[limits]\ncommand-seconds = 0\n", "command-seconds"),
        ("[limits]\nmemory-mib = 1\n", "memory-mib"),
        ("tools = [\"teleport\"]\n", "teleport"),
        ("folders = [{ path = \"/etc\" }]\n", "/etc"),
        ("[egress]\nread = [{ host = \"a.example\" }]\n", "egress.read row 1"),
    ];
    for (profile, why) in cases {
        std::fs::write(platform.home().join("profiles/bad.toml"), profile).unwrap();
        for args in [&["reach", "bad"][..], &["reach", "bad", "--json"]] {
            let out = platform.cli(args);
            assert_eq!(out.status.code(), Some(1), "{profile}: {}", all(&out));
            assert!(text(&out.stderr).contains(why) && out.stdout.is_empty(), "{profile}: {}", all(&out));
        }
    }
}

#[test]
fn after_a_restart_runs_models_secrets_and_transcripts_are_there_and_a_run_goes_on() {
    let (mut platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(
        KEY,
        vec![Turn::calls("edit", mend()), Turn::says("Done."), Turn::says("Nothing is left to do.")],
    );
    anthropic(&platform, "claude", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let kept = |platform: &testkit::Platform| {
        let commands: [&[&str]; 4] = [
            &["runs", "--json"],
            &["model", "list", "--json"],
            &["secret", "list", "--json"],
            &["log", &ran.run, "--json"],
        ];
        commands.map(|args| platform.ok(args))
    };
    let before = kept(&platform);
    assert!(before[0].contains(&ran.run), "{}", before[0]);
    platform.down();
    platform.up(&[]);
    assert_eq!(kept(&platform), before);
    assert!(platform.cli(&["replay", &ran.run, "--turn", "1"]).status.success());
    let again = run(&platform, &repo, &[]);
    assert_eq!(again.end().0, "done", "{}", all(&again.out));
    assert_eq!(double.requests().last().unwrap().header("x-api-key"), Some(KEY));
    let runs = platform.json(&["runs", "--json"]);
    let ids: Vec<&str> = runs.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(ids, [&*again.run, &*ran.run], "the newest is first");
}
