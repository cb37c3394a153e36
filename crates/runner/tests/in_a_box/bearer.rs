//! Commands under a lease: what each way of delivery gives them, what they are told and what is left of them.

use crate::agent::{answers, request, task, wait};
use crate::gateway::{Told, lease, serve};
use crate::support::{Box, Story, code};
use api::delivery::Over;
use api::inbox::ToRunner;
use api::leases::{LeaseEnd, LeaseUser};
use model::capability::Delivery;
use model::event::Stream;
use model::{Event, Limits};
use serde_json::{Value, json};

pub const VALUE: &str = "tok-Ab3dE5gH1jK2mN4p";

/// One command after the other, each with its lease, in a box whose gateway knows these ways.
pub async fn play(ways: &[Delivery], over: Option<Over>, commands: &[(Option<String>, &[&str])]) -> (Story, Told) {
    play_with(VALUE, ways, over, commands).await
}

/// As [`play`], with another value.
async fn play_with(
    value: &str,
    ways: &[Delivery],
    over: Option<Over>,
    commands: &[(Option<String>, &[&str])],
) -> (Story, Told) {
    let mut made = Box::start_with_agent().await;
    let told = serve(&mut made, value, ways.to_vec(), over).await;
    // As the server gives them: a literal of the profile, and where git goes with the run's own handle for that.
    let header = "http.http://127.0.0.1:8080/git/.extraHeader";
    let variables = [
        ("REGION", "eu"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", header),
        ("GIT_CONFIG_VALUE_0", "X-Runs-Own: of-the-run"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    made.send(&ToRunner::Variables { variables }).await;
    let mut acts = Vec::new();
    for (n, (lease, argv)) in commands.iter().enumerate() {
        let mut create = json!({ "command": argv[0], "args": argv[1..] });
        if let Some(lease) = lease {
            create["_meta"] = json!({ "volary.lease": lease });
        }
        let terminal = json!({ "terminalId": format!("t{}", n + 1) });
        acts.extend([request(1, "terminal/create", create), wait()]);
        acts.extend([request(2, "terminal/wait_for_exit", terminal.clone()), wait()]);
        acts.extend([request(3, "terminal/output", terminal), wait()]);
    }
    made.send(&task(&acts.join("\n"), Limits::default())).await;
    (made.story().await, told)
}

/// What the agent was shown of the `n`th command, and how it ended.
pub fn shown(story: &Story, n: usize) -> (String, Value) {
    let answers = answers(story);
    let output = &answers[3 * n + 2]["result"];
    (output["output"].as_str().unwrap_or_else(|| panic!("{answers:?}")).to_owned(), output["exitStatus"].clone())
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

#[tokio::test(flavor = "current_thread")]
async fn each_way_of_delivery_reaches_the_command_and_what_it_says_of_it_is_scrubbed() {
    let ways = [
        Delivery::Variable("TOKEN".into()),
        Delivery::File("TOKEN_FILE".into()),
        Delivery::Stdin,
        Delivery::GitHelper,
        Delivery::Proxy,
    ];
    let twice =
        "wc -c < $TOKEN_FILE; cat $TOKEN_FILE; echo; cat $TOKEN_FILE; (echo x > $TOKEN_FILE) 2>&- || echo sealed";
    let git = "ask() { printf 'protocol=https\\nhost=%s\\n\\n' $1 | GIT_ASKPASS=true git credential fill 2>&1; }; \
               ask git.example; ask other.example | grep -c password=tok";
    let (story, told) = play(
        &ways,
        None,
        &[
            (
                Some(lease(0)),
                &sh("printf %s \"$TOKEN\" | wc -c; echo \"$TOKEN\"; printf %s \"$TOKEN\" | base64 | cut -c1-26"),
            ),
            (Some(lease(1)), &sh(twice)),
            (Some(lease(2)), &["cat"]),
            (Some(lease(3)), &sh(git)),
            (Some(lease(4)), &sh("echo $VOLARY_HANDLE $SHOP; echo > /workspace/written && echo works")),
        ],
    )
    .await;
    let scrubbed = "[scrubbed:custom/shop]";
    assert_eq!(shown(&story, 0).0, format!("20\n{scrubbed}\n{scrubbed}\n"));
    assert_eq!(shown(&story, 1).0, format!("20\n{scrubbed}\n{scrubbed}sealed\n"));
    assert_eq!(shown(&story, 2).0, scrubbed);
    let (said, _) = shown(&story, 3);
    assert!(
        said.contains(&format!("username=x-access-token\npassword={scrubbed}\n")) && said.ends_with("\n0\n"),
        "{said}"
    );
    assert_eq!(shown(&story, 4).0, "[scrubbed:handle] [scrubbed:handle]\nworks\n");
    assert_eq!(told.ends()[..3], [LeaseEnd::Completed; 3]);
    let everything = format!("{story:?}");
    assert!(!everything.contains(VALUE) && !everything.contains("dG9rLUFiM2"), "{everything}");
    // And no piece of it in base 64, which is how outputs are kept.
    assert!(!story.text(Stream::Stdout).contains(VALUE));
}

#[tokio::test(flavor = "current_thread")]
async fn of_a_user_and_a_password_for_git_the_password_alone_is_scrubbed_and_a_short_one_is_not_given() {
    let ask = "printf 'protocol=https\\nhost=git.example\\n\\n' | git credential fill | tail -2; echo ended";
    let (story, _) =
        play_with("robot:tok-0123456789\n", &[Delivery::GitHelper], None, &[(Some(lease(0)), &sh(ask))]).await;
    assert_eq!(shown(&story, 0).0, "username=robot\npassword=[scrubbed:custom/shop]\nended\n");
    let (story, told) = play_with("robot:tok-123", &[Delivery::GitHelper], None, &[(Some(lease(0)), &sh(ask))]).await;
    let (said, _) = shown(&story, 0);
    assert!(said.contains("is shorter than 8 bytes") && !said.contains("tok-123"), "{said}");
    assert_eq!(told.ends(), [LeaseEnd::Broken]);
}

#[tokio::test(flavor = "current_thread")]
async fn the_server_is_asked_by_the_executables_own_bytes_and_arguments_before_it_runs() {
    let (_, told) = play(&[Delivery::Stdin], None, &[(Some(lease(0)), &["cat", "-u"])]).await;
    let LeaseUser::Command { executable, executable_sha256, argv_sha256 } = &told.users()[0] else {
        panic!("{:?}", told.users())
    };
    let sum = |path: &str| {
        let out = std::process::Command::new("sha256sum").arg(path).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!((executable.as_str(), executable_sha256), ("/usr/bin/cat", &sum("/usr/bin/cat")));
    let argv = format!("{}/argv-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&argv, "cat\0-u\0").unwrap();
    assert_eq!(argv_sha256, &sum(&argv));
    std::fs::remove_file(&argv).unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_is_denied_or_could_be_written_by_the_run_is_not_started() {
    let write = "cp /usr/bin/cat /workspace/cat; ln -s /usr/bin/cat /workspace/link; ln -s /usr/bin /tmp/bin";
    let way = Delivery::Variable("TOKEN".into());
    let (story, told) = play(
        &[way],
        None,
        &[
            (None, &sh(write)),
            (Some(lease(7)), &["cat"]),
            (Some("no lease".into()), &["cat"]),
            (Some(lease(0)), &["/workspace/cat"]),
            (Some(lease(0)), &["/workspace/link"]),
            (Some(lease(0)), &["/tmp/bin/cat"]),
            (Some(lease(0)), &["/proc/self/exe"]),
            (Some(lease(0)), &["no-such-program"]),
            (None, &sh("echo \"[$TOKEN]\" $REGION")),
        ],
    )
    .await;
    assert!(shown(&story, 1).0.contains("There is no such lease. (lease.unknown)"), "{:?}", shown(&story, 1));
    assert!(shown(&story, 2).0.contains("no lease's id"));
    for n in 3..=7 {
        let (said, exit) = shown(&story, n);
        assert!(said.starts_with("the command was not started: "), "{n}: {said}");
        assert_eq!(exit["exitCode"], 126, "{n}");
    }
    assert_eq!(told.users().len(), 1, "only what nobody can change is asked for: {:?}", told.users());
    // A literal of the profile is every command's, and nothing of a lease is.
    assert_eq!(shown(&story, 8).0, "[] eu\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_with_a_value_begins_with_an_environment_of_ours_alone_and_leaves_nothing() {
    let look = "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; echo $REGION; pwd; echo x > $HOME/kept && ls -A $HOME; \
                (sleep 1000 & sleep 1000 & ) ; exit 3";
    let after =
        "ls -A /run/bearer | wc -l; for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; done | grep -c 'sleep 10[0]0'";
    let (story, told) =
        play(&[Delivery::Variable("TOKEN".into())], None, &[(Some(lease(0)), &sh(look)), (None, &sh(after))]).await;
    let (said, exit) = shown(&story, 0);
    let mut lines = said.lines();
    let names: Vec<&str> = lines.next().unwrap().split(' ').filter(|name| !name.is_empty()).collect();
    let mut ours = vec!["GIT_ALLOW_PROTOCOL", "GIT_ATTR_NOSYSTEM", "GIT_DIR", "GIT_OPTIONAL_LOCKS"];
    ours.extend(["GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM"]);
    let git: Vec<String> =
        (0..13).flat_map(|n| [format!("GIT_CONFIG_KEY_{n}"), format!("GIT_CONFIG_VALUE_{n}")]).collect();
    ours.extend(git.iter().map(String::as_str));
    ours.extend([
        "GIT_TERMINAL_PROMPT",
        "HISTFILE",
        "HOME",
        "LANG",
        "PATH",
        "PWD",
        "REGION",
        "TMPDIR",
        "TOKEN",
        "USER",
    ]);
    ours.extend(["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "npm_config_globalconfig", "npm_config_userconfig"]);
    // The shell's own.
    let names: Vec<&str> = names.into_iter().filter(|name| !["OLDPWD", "SHLVL", "_"].contains(name)).collect();
    ours.sort_unstable();
    let mut names_sorted = names.clone();
    names_sorted.sort_unstable();
    assert_eq!(names_sorted, ours);
    assert_eq!(lines.collect::<Vec<_>>(), ["eu", "/workspace", "git", "kept"]);
    assert_eq!((exit["exitCode"].clone(), told.ends()), (json!(3), vec![LeaseEnd::Failed]));
    assert_eq!(shown(&story, 1).0, "0\n0\n", "its scratch and its processes are gone");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_whose_lease_is_over_is_ended_with_all_that_it_started_and_says_whether_it_was_taken_back() {
    let hold = "sleep 1000 & sleep 1000";
    let after = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; done | grep -c 'sleep 10[0]0'";
    let ways = [Delivery::Variable("TOKEN".into())];
    for (over, must) in [
        (Over::TakenBack, "killed: its lease was taken back"),
        (Over::Expired, "killed: the time of its lease is over"),
    ] {
        let (story, told) = play(&ways, Some(over), &[(Some(lease(0)), &sh(hold)), (None, &sh(after))]).await;
        let (_, exit) = shown(&story, 0);
        assert_eq!(exit["_meta"]["volary.why"], must);
        assert_eq!(told.ends(), [LeaseEnd::Broken]);
        assert_eq!(shown(&story, 1).0, "0\n");
        let ended =
            |event: &Event| matches!(event, Event::CommandEnd { id, exit, .. } if id == "t2" && *exit == code(1));
        assert!(story.events.iter().any(ended));
    }
}
