//! Whose commits are pushed: those of the run's person, the agent named in each; what the upstream has is anybody's.

use super::stage::{SECRET, Stage};

const READY: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && ";
/// Runs the command that the refusal in /tmp/said holds.
const REPAIR: &str = "sed -n 's/.*Repair them with: //p' /tmp/said >/tmp/repair && test -s /tmp/repair && sh -e /tmp/repair >/dev/null 2>&1";

#[test]
fn commits_by_another_author_are_refused_with_the_very_command_that_repairs_them() {
    let stage = Stage::start("");
    for commits in [
        "echo a >>README.md && git -c user.name=Linus -c user.email=l@example.org commit -q -a -m one",
        "echo a >>README.md && git commit -q -a -m one && echo b >>README.md && \
         git commit -q -a -m two --author 'Linus <l@example.org>' && echo c >>README.md && git commit -q -a -m three",
    ] {
        let done = stage.exec(&format!(
            "{READY}{commits} && if git push 2>/tmp/said; then exit 9; fi; cat /tmp/said; {REPAIR} && git push && \
             git log --format='%an %ae %cn' origin/main..HEAD"
        ));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("git.authors"), "{done:?}");
        let person = stage.person();
        assert!(done.out.contains(&format!("{person} {person}@localhost {person}")), "{done:?}");
        assert!(!done.out.contains("Linus l@example.org"), "{done:?}");
    }
}

#[test]
fn an_agents_commit_names_the_agent_or_is_refused() {
    let stage = Stage::start("");
    stage.worker(&format!(
        "{READY} echo a >>README.md && git commit -q -a -m one && if git push 2>/tmp/said; then exit 9; fi; cat /tmp/said; \
         {REPAIR} && git push -q && git log -1 --format=%B"
    ));
    let run = stage.cli(&["run", "--empty", "--profile", "git", "--model", "worker", "Write a"]);
    assert!(run.all().contains("git.authors") && run.all().contains("--trailer 'Agent: volary/worker'"), "{run:?}");
    let transcript = stage.transcript();
    let push = transcript.iter().find(|event| event["kind"] == "push").unwrap_or_else(|| panic!("{run:?}"));
    let message = stage.forge.git("app", &["log", "-1", "--format=%B", push["reference"].as_str().expect("a name")]);
    assert_eq!(message, "one\n\nAgent: volary/worker");
}

#[test]
fn what_the_upstream_has_already_is_anybodys_also_where_the_pack_holds_it() {
    let stage = Stage::start("");
    // A merge of a branch of others, and a pack that holds all of the history.
    let header = "Authorization: Bearer $(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/ | sed 's/.*Bearer //')";
    let done = stage.exec(&format!(
        "{READY} echo a >>README.md && git commit -q -a -m one && git rev-parse HEAD >/tmp/revs && \
         git pack-objects -q --stdout --revs </tmp/revs >/tmp/pack && \
         line=\"{} $(cat /tmp/revs) refs/heads/$VOLARY_BRANCH\" && \
         {{ printf '%04x%s\\0 report-status' $((${{#line}} + 19)) \"$line\"; printf 0000; cat /tmp/pack; }} >/tmp/body && \
         curl -sS -H \"{header}\" -H 'Content-Type: application/x-git-receive-pack-request' \
         --data-binary @/tmp/body http://127.0.0.1:8080/git/app/git-receive-pack",
        "0".repeat(40)
    ));
    assert!(done.out.contains("ok refs/heads/pr/"), "{done:?}");
}

#[test]
fn commits_of_others_are_pushed_where_the_profile_says_so_and_are_on_the_record() {
    let stage = Stage::start("authors = \"any\"");
    let done = stage.exec(&format!(
        "{READY} echo a >>README.md && git commit -q -a -m one --author 'Linus <l@example.org>' && git push -q"
    ));
    assert_eq!(done.code, Some(0), "{done:?}");
    let transcript = stage.transcript();
    let push = transcript.iter().find(|event| event["kind"] == "push").expect("the push is recorded");
    assert_eq!(push["others"], 1, "{push}");
}

#[test]
fn an_agent_proposes_what_it_pushed_and_a_person_opens_it_in_its_words_without_the_orders_in_them() {
    let stage = Stage::start("forge = \"gitlab\"\nuser = \"oauth2\"");
    stage.own_secret(SECRET);
    let push = format!(
        "{READY} echo a >>README.md && git commit -q -a -m one --trailer 'Agent: volary/worker' && git push -q"
    );
    let propose = serde_json::json!({ "title": "Write a", "body": "It was missing.\n/merge\n@bot approve" });
    stage.turns(&serde_json::json!([
        { "tools": [{ "name": "propose", "input": propose }] },
        { "tools": [{ "name": "shell", "input": { "command": push } }] },
        { "tools": [{ "name": "propose", "input": propose }] },
        { "text": "It is done." },
    ]));
    let run = stage.cli(&["run", "--empty", "--profile", "git", "--model", "worker", "Write a"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(stage.rules(), ["propose.nothing"], "there was nothing at first: {run:?}");
    assert!(run.all().contains("the agent proposes") && stage.forge.proposals().is_empty(), "{run:?}");
    let opened = stage.propose();
    assert_eq!(opened.code, Some(0), "{opened:?}");
    let proposals = stage.forge.proposals();
    let [(_, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(body["title"], "Write a");
    let text = body["description"].as_str().expect("a text");
    assert!(text.starts_with("It was missing.\n\\/merge\n@\u{200b}bot approve\n"), "{text}");
    assert!(text.contains("The text above is the agent's own"), "{text}");
}

#[test]
fn a_proposal_is_opened_at_once_where_the_profile_says_so() {
    let stage = Stage::start("forge = \"gitea\"\nproposals = \"agent\"");
    stage.own_secret(SECRET);
    let push = format!(
        "{READY} echo a >>README.md && git commit -q -a -m one --trailer 'Agent: volary/worker' && git push -q"
    );
    stage.turns(&serde_json::json!([
        { "tools": [{ "name": "shell", "input": { "command": push } }] },
        { "tools": [{ "name": "propose", "input": { "title": "Write a", "body": "It was missing." } }] },
        { "text": "It is done." },
    ]));
    let run = stage.cli(&["run", "--empty", "--profile", "git", "--model", "worker", "Write a"]);
    assert!(run.all().contains("https://forge.example/proposals/1"), "{run:?}");
    assert_eq!(stage.propose().out.trim(), "https://forge.example/proposals/1", "and once");
    assert_eq!(stage.forge.proposals().len(), 1);
}

#[test]
fn a_proposal_takes_two_calls_of_its_forge_and_a_third_where_one_is_open_already_and_is_a_use_of_the_key() {
    // What each vendor calls a refusal, around its reason.
    for (forge, refused) in [
        ("github", "The forge answered 422. Validation Failed; not today"),
        ("gitlab", "The forge answered 400. title: not today"),
        ("gitea", "The forge answered 422. not today"),
    ] {
        let stage = Stage::start(&format!("forge = {forge:?}\nuser = \"oauth2\""));
        let push = format!("{READY} echo a >>README.md && git commit -q -a -m one && git push -q");
        let branch = || {
            let done = stage.exec(&push);
            assert_eq!(done.code, Some(0), "{done:?}");
            let transcript = stage.transcript();
            let pushed = transcript.iter().find(|event| event["kind"] == "push").expect("the push is recorded");
            let branch = pushed["reference"].as_str().and_then(|name| name.strip_prefix("refs/heads/"));
            branch.expect("a branch").to_owned()
        };
        let linked = || {
            let transcript = stage.transcript();
            transcript.iter().find(|event| event["kind"] == "pull-request").map(|event| event["number"].clone())
        };
        let lost = branch();
        stage.own_secret(SECRET);
        // One is open whose answer never came.
        stage.forge.has_open(&lost);
        let found = stage.propose();
        assert_eq!(found.out.trim(), "https://forge.example/proposals/1", "{forge}: {found:?}");
        assert_eq!(linked(), Some(1.into()), "{forge}");
        let methods = || stage.forge.calls().into_iter().map(|(method, _)| method).collect::<Vec<_>>();
        assert_eq!(methods(), ["GET", "POST", "GET"], "{:?}", stage.forge.calls());
        let keys: serde_json::Value =
            serde_json::from_str(&stage.ask(&["secret", "list", "--json"]).out).expect("JSON");
        let own = keys.as_array().expect("a list").iter().find(|one| one["person"].is_string()).expect("their own");
        assert!(own["last_used"].is_i64(), "only the proposal used it: {own}");
        branch();
        let opened = stage.propose();
        assert_eq!(opened.out.trim(), "https://forge.example/proposals/2", "{forge}: {opened:?}");
        assert_eq!(linked(), Some(2.into()), "{forge}");
        assert_eq!(methods()[3..], ["GET", "POST"], "{:?}", stage.forge.calls());
        assert_eq!(stage.propose().out, opened.out);
        assert_eq!(methods().len(), 5, "one that is known is asked for no more");
        branch();
        stage.forge.refuses("not today");
        let no = stage.propose();
        assert!(no.err.contains(refused) && no.code != Some(0) && linked().is_none(), "{forge}: {no:?}");
    }
}
