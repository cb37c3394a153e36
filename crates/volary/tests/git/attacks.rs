//! What a box must not do with a repository, tried from inside one.

use super::stage::Stage;
use testkit::Forge;

/// Brings the box's repository to where the host's is, with one commit on top.
const READY: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && \
                     echo more >>README.md && git commit -q -a -m more && ";

#[test]
fn no_other_reference_is_pushed_and_none_deleted() {
    let stage = Stage::start("");
    let before = stage.forge.git("app", &["for-each-ref"]);
    for (what, command, rule) in [
        ("the default branch", "git push origin HEAD:main", "git.branch"),
        ("by force", "git push --force origin HEAD:main", "git.branch"),
        ("a delete", "git push origin :main", "git.delete"),
        ("a tag", "git tag v1 && git push origin v1", "git.tag"),
        ("beside the own one", "git push origin HEAD:$VOLARY_BRANCH HEAD:main", "git.one"),
        ("below the own one", "git push origin HEAD:refs/heads/$VOLARY_BRANCH/x", "git.branch"),
        ("a note", "git push origin HEAD:refs/notes/x", "git.branch"),
        ("a pull request's", "git push origin HEAD:refs/pull/1/head", "git.branch"),
    ] {
        let done = stage.exec(&format!("{READY}{command}"));
        assert_ne!(done.code, Some(0), "{what}: {done:?}");
        // git itself says no to a delete, which is not offered; one by hand is below.
        let unoffered = what == "a delete" && done.err.contains("rejected");
        assert!(unoffered || done.err.contains(rule), "{what}: the agent reads why: {done:?}");
        if !unoffered {
            stage.refused(rule, &format!("{what}: {done:?}"));
        }
    }
    assert_eq!(stage.forge.git("app", &["for-each-ref"]), before, "the host's references are as they were");
}

#[test]
fn no_other_repository_handle_or_service_is_reached() {
    let write = "[[egress.write]]\ncapability = \"forge\"\nhost = \"a.example\"\nmethod = \"POST\"\npath = \"/x\"";
    let stage = Stage::start(write);
    let door = "http://127.0.0.1:8080/git";
    let header = r#"Authorization: Bearer $(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/ | sed 's/.*Bearer //')"#;
    for (what, command, rule) in [
        ("another repository of the host", format!("git ls-remote {door}/other"), "git.repository"),
        ("no handle", format!("curl -sS '{door}/app/info/refs?service=git-upload-pack'"), "handle.missing"),
        (
            "another handle",
            format!(
                "curl -sS -H 'Authorization: Bearer vh_{}' '{door}/app/info/refs?service=git-upload-pack'",
                "a".repeat(52)
            ),
            "handle.unknown",
        ),
        (
            "a write that a row allows, with the handle that is for git",
            format!("curl -sS -X POST -H \"{header}\" https://a.example/x"),
            "handle.git",
        ),
        ("a file of the repository", format!("curl -sS -H \"{header}\" {door}/app/HEAD"), "git.form"),
        (
            "another service",
            format!("curl -sS -H \"{header}\" '{door}/app/info/refs?service=git-upload-archive'"),
            "git.form",
        ),
        (
            "a way out of the id",
            format!("curl -sS --path-as-is -H \"{header}\" '{door}/app/../other/info/refs?service=git-upload-pack'"),
            "git.form",
        ),
    ] {
        let done = stage.exec(&command);
        stage.refused(rule, &format!("{what}: {done:?}"));
        assert!(done.all().contains(rule), "{what}: {done:?}");
    }
    // Backwards, since what looks like a handle is not shown.
    let handles = stage.exec("git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/ | rev");
    let foreign: String = handles.out.trim().chars().rev().collect();
    assert!(foreign.starts_with("Authorization: Bearer vh_"), "{handles:?}");
    let done = stage.exec(&format!("curl -sS -H '{foreign}' '{door}/app/info/refs?service=git-upload-pack'"));
    assert!(done.all().contains("handle.other-run"), "another run's handle: {done:?}");
    assert!(stage.forge.seen().is_empty(), "nothing came to the host: {:?}", stage.forge.seen());
}

#[test]
fn what_a_box_sends_to_a_repository_is_as_long_as_it_may_be_and_not_a_byte_longer() {
    let stage = Stage::start("");
    let send = "H=$(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/); \
                send() { head -c $1 /dev/zero | curl -sS -H \"$H\" -H Expect: --data-binary @- \
                http://127.0.0.1:8080/git/app/$2 | grep -a -o 'rule [a-z.-]*'; }; ";
    // Zeros are no lines of git's: what is taken whole is refused for that.
    for (service, most) in [("git-upload-pack", 8_u32 << 20), ("git-receive-pack", 64 << 20)] {
        let done = stage.exec(&format!("{send} send {most} {service}; send {} {service}", most + 1));
        assert_eq!(done.out, "rule git.form\nrule git.too-long\n", "{service}: {done:?}");
    }
    assert!(stage.forge.seen().is_empty(), "nothing came to the host: {:?}", stage.forge.seen());
}

#[test]
fn a_push_that_changes_pipeline_files_is_held_unless_the_profile_lets_it() {
    let other = format!(
        "[[repository]]\nid = \"other\"\nurl = {:?}\nsecret = \"capability/forge\"\npipelines-without-secrets = true",
        Forge::url("other")
    );
    let stage = Stage::start(&other);
    let ready = format!(
        "{READY} mkdir -p .github/workflows && echo 'on: push' >.github/workflows/x.yml && git add . && git commit -q -m ci && "
    );
    let done = stage.exec(&format!("{ready} git push"));
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("git.pipelines") && done.err.contains(".github/workflows/x.yml"), "{done:?}");
    assert_eq!(stage.forge.git("app", &["for-each-ref"]).lines().count(), 1);
    let url = Forge::url("other");
    let done = stage.exec(&format!("{ready} git push {url} HEAD:refs/heads/$VOLARY_BRANCH"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(stage.forge.git("other", &["for-each-ref"]).lines().count(), 2);
}

#[test]
fn a_push_that_changes_a_file_that_the_profile_itself_names_a_pipelines_is_held() {
    let url = Forge::url("other");
    let other = format!("[[repository]]\nid = \"other\"\nurl = {url:?}\nsecret = \"capability/forge\"");
    let stage = Stage::start(&format!("pipelines = [\"build/*.yml\"]\n{other}"));
    let ready =
        format!("{READY} mkdir build && echo 'on: push' >build/release.yml && git add . && git commit -q -m ci && ");
    let done = stage.exec(&format!("{ready} git push"));
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("git.pipelines") && done.err.contains("build/release.yml"), "{done:?}");
    assert_eq!(stage.forge.git("app", &["for-each-ref"]).lines().count(), 1);
    // The file is in no list of ours, and the other row names none.
    let done = stage.exec(&format!("{ready} git push {url} HEAD:refs/heads/$VOLARY_BRANCH"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(stage.forge.git("other", &["for-each-ref"]).lines().count(), 2);
}

#[test]
fn what_git_is_not_trusted_to_say_is_read_and_refused() {
    let stage = Stage::start("");
    let header = r#"Authorization: Bearer $(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/ | sed 's/.*Bearer //')"#;
    let post = |body: &str, more: &str| {
        format!(
            "{body} >/tmp/body; curl -sS {more} -H \"{header}\" -H 'Content-Type: application/x-git-receive-pack-request' \
             --data-binary @/tmp/body http://127.0.0.1:8080/git/app/git-receive-pack"
        )
    };
    // One update: the length of the line stands before it.
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let update = |old: &str, new: &str, reference: &str, capabilities: &str| {
        let data = format!("{old} {new} {reference}\\0{capabilities}");
        // Each escape of three digits is one byte, and the zero, too.
        let length = data.len() - 1 - 3 * reference.matches('\\').count() + 4;
        format!("printf '{length:04x}{data}0000'")
    };
    let line = |reference: &str, capabilities: &str| update(&zero, &one, reference, capabilities);
    let own = "refs/heads/x";
    for (what, command, rule) in [
        ("a name with odd bytes", post(&line("refs/heads/a\\001\\377b", "report-status"), ""), "git.branch"),
        ("a delete", post(&update(&one, &zero, "refs/heads/main", "report-status"), ""), "git.delete"),
        ("push options", post(&line(own, "report-status push-options"), ""), "git.form"),
        ("not a push", post("printf 'hello'", ""), "git.form"),
        ("no gzip", post("printf 'hello'", "-H 'Content-Encoding: gzip'"), "body.cut"),
        ("another encoding", post("printf 'hello'", "-H 'Content-Encoding: br'"), "body.cut"),
        ("too long", post("head -c 70000000 /dev/zero", "-H 'Expect:'"), "git.too-long"),
        (
            "too long once unpacked",
            post("head -c 70000000 /dev/zero | gzip", "-H 'Content-Encoding: gzip'"),
            "git.too-long",
        ),
    ] {
        let done = stage.exec(&command);
        stage.refused(rule, &format!("{what}: {done:?}"));
    }
    // The commit that is pushed is another than the pack holds.
    let pack = "git pack-objects --stdout --revs </tmp/revs >/tmp/pack 2>/dev/null";
    let lie = format!(
        "{READY} git rev-parse HEAD >/tmp/revs; {pack}; line=\"{} {} refs/heads/$VOLARY_BRANCH\"; \
         {{ printf '%04x%s\\0 report-status' $((${{#line}} + 19)) \"$line\"; printf 0000; cat /tmp/pack; }} >/tmp/body; \
         curl -sS -H \"{header}\" -H 'Content-Type: application/x-git-receive-pack-request' \
         --data-binary @/tmp/body http://127.0.0.1:8080/git/app/git-receive-pack",
        "0".repeat(40),
        "1".repeat(40),
    );
    let done = stage.exec(&lie);
    stage.refused("git.unlisted", &format!("{done:?}"));
    // And a pack with one byte of another.
    let broken = lie.replace("cat /tmp/pack", "sed 's/PACK/PICK/' /tmp/pack");
    let done = stage.exec(&broken);
    stage.refused("git.pack", &format!("{done:?}"));
    assert_eq!(stage.forge.git("app", &["for-each-ref"]).lines().count(), 1);
}

#[test]
fn large_pushes_in_chunks_second_pushes_rebased_ones_and_shallow_clones_go_through() {
    let stage = Stage::start("");
    let large = stage.exec(&format!(
        "{READY} head -c 3000000 /dev/urandom >large && git add large && git commit -q -m large && git push"
    ));
    assert_eq!(large.code, Some(0), "{large:?}");
    let again = stage.exec(&format!(
        "{READY} git push -q && echo again >>README.md && git commit -q -a -m again && git push -q && \
         git reset -q --hard HEAD~2 && echo other >>README.md && git commit -q -a -m other && git push --force -q"
    ));
    assert_eq!(again.code, Some(0), "{again:?}");
    let shallow = stage.exec(
        "git fetch -q --depth 1 origin main && git reset -q --hard FETCH_HEAD && echo s >s && git add s && \
         git commit -q -m s && git push -q",
    );
    assert_eq!(shallow.code, Some(0), "{shallow:?}");
}

#[test]
fn a_host_that_cannot_leave_files_out_is_looked_at_all_the_same() {
    let stage = Stage::start_with("", |forge: &Forge| forge.set("app", "uploadpack.allowFilter", "false"));
    let done = stage.exec(&format!("{READY} git push -q"));
    assert_eq!(done.code, Some(0), "{done:?}");
}
