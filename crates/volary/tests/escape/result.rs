//! What a worktree can smuggle into a repository: only what was made in the box.

use crate::support::{all, platform, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use testkit::{Platform, Repo};

/// What no result may hold: it lies in files of the host that the worktree's links point at.
const HOST: &str = "content-of-the-host";

/// Each line is one game. `$OUTSIDE` is a folder of the host with a file `f`; `$REPO` is the repository.
const GAMES: &str = r#"
ln -s "$OUTSIDE/f" link-to-file
ln -s "$OUTSIDE" link-to-folder
ln -s /etc/passwd link-to-passwd
ln -s ../../../../../../etc/shadow link-by-dots
rm -rf folder && ln -s "$OUTSIDE" folder
echo planted > folder/f || true
rm max_test.c && ln -s "$OUTSIDE/f" max_test.c
ln max.c hard-link.c
ln /etc/passwd hard-link-to-passwd || true
rm -rf .git && ln -s "$REPO/.git" .git
mkdir -p nested/.git/hooks nested/.GIT && printf '#!/bin/sh\ntouch /tmp/owned\n' > nested/.git/hooks/post-checkout
echo '[core]' > nested/.git/config; echo '[core]' > nested/.GIT/config; echo real > nested/real
mkfifo pipe
cp /usr/bin/true setuid && chmod 6755 setuid
echo x > "$(printf 'new\nline')"; echo x > "$(printf 'bad-\377-bytes')"; echo x > "-rf"; echo x > '$(touch owned)'
mkdir empty
cc -w -x c -o /tmp/games - <<'END'
#include <sys/xattr.h>
#include <stdio.h>
#include <errno.h>
int main(int argc, char **argv) {
    const char *names[] = {"trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy",
        "user.overlay.opaque", "user.overlay.redirect", "user.overlay.whiteout", "user.overlay.metacopy"};
    for (int i = 0; i < 7; i++) {
        int done = setxattr("kept", names[i], i % 3 ? "/etc" : "y", i % 3 ? 4 : 1, 0);
        printf("%s %d\n", names[i], done ? errno : 0);
    }
}
END
/tmp/games
"#;

/// Exchanges a folder and links out of the worktree while others work through that name, for as long as it lives.
const RACE: &str = concat!(include_str!("attack.h"), include_str!("race.c"));

struct Stage {
    platform: Platform,
    repo: Repo,
    outside: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let repo = Repo::failing();
        repo.write("folder/f", b"of the repository\n");
        repo.write("kept", b"kept\n");
        repo.commit("More to play with");
        let outside = tempfile::Builder::new().prefix("volary-o-").tempdir_in("/tmp").unwrap();
        std::fs::write(outside.path().join("f"), HOST).unwrap();
        Self { platform: platform(), repo, outside }
    }

    /// Lets an agent run one command in the repository, and gives its transcript.
    fn play(&self, commands: &str) -> Vec<Value> {
        let outside = self.outside.path().display();
        let line = format!("OUTSIDE='{outside}'; REPO='{}'; {commands}", self.repo.path_str());
        let turns = json!([
            {"text": "I play.", "tools": [{"name": "shell", "input": {"command": line}}]},
            {"text": "Done.", "tools": []},
        ]);
        self.platform.script("player", &turns, "sk-test-only-key-of-a-scripted-model");
        let out = self.platform.cli(&["run", "--repo", self.repo.path_str(), "--model", "player", "--json", "play"]);
        assert!(out.status.success(), "{}", all(&out));
        assert!(!text(&out.stdout).contains(HOST), "the transcript holds the host's content");
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Every entry of a branch: path → mode and content.
    fn tree(&self, branch: &str) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
        let git = |args: &[&str]| {
            let out = Command::new("git").arg("-C").arg(self.repo.path()).args(args).output().unwrap();
            assert!(out.status.success(), "{}", all(&out));
            out.stdout
        };
        let listing = git(&["ls-tree", "-r", "-z", "--full-tree", branch]);
        let entries = listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let tab = entry.iter().position(|byte| *byte == b'\t').unwrap();
                let about = text(&entry[..tab]);
                let mut words = about.split(' ');
                let (mode, kind, object) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                assert_eq!(kind, "blob", "{about}");
                (entry[tab + 1..].to_vec(), (mode.to_owned(), git(&["cat-file", "blob", object])))
            })
            .collect()
    }
}

fn event<'a>(transcript: &'a [Value], kind: &str) -> Vec<&'a Value> {
    transcript.iter().map(|entry| &entry["event"]).filter(|event| event["kind"] == kind).collect()
}

fn outputs(transcript: &[Value]) -> String {
    use base64::Engine;
    let decode =
        |event: &&Value| base64::engine::general_purpose::STANDARD.decode(event["data_b64"].as_str().unwrap()).unwrap();
    text(&event(transcript, "output").iter().flat_map(decode).collect::<Vec<u8>>())
}

#[test]
fn links_special_files_and_nested_repositories_bring_nothing_of_the_host_along() {
    let stage = Stage::new();
    let before = stage.repo.untouched();
    let config = stage.repo.read(".git/config");
    let transcript = stage.play(GAMES);

    // trusted.*: no capabilities. user.overlay.*: names that this kind of overlay keeps to itself, or that mean nothing.
    let said = outputs(&transcript);
    for name in ["opaque", "redirect", "metacopy"] {
        assert!(said.contains(&format!("trusted.overlay.{name} {}\n", libc::EPERM)), "{said}");
    }

    let results = event(&transcript, "result");
    let branch = results.first().expect("a result")["branch"].as_str().unwrap();
    let tree = stage.tree(branch);
    for (path, (_, content)) in &tree {
        let path = String::from_utf8_lossy(path);
        assert!(!text(content).contains(HOST) && !text(content).contains("root:"), "{path} holds the host's content");
        let parts = path.split('/').map(str::to_ascii_lowercase);
        assert!(parts.into_iter().all(|part| part != ".git"), "{path} would be a repository's own");
    }
    let entry = |name: &str| tree.get(name.as_bytes()).map(|(mode, content)| (mode.as_str(), text(content)));
    let outside = stage.outside.path().display();
    assert_eq!(entry("link-to-file"), Some(("120000", format!("{outside}/f"))));
    assert_eq!(entry("link-to-folder"), Some(("120000", format!("{outside}"))));
    assert_eq!(entry("folder"), Some(("120000", format!("{outside}"))));
    assert_eq!(entry("max_test.c"), Some(("120000", format!("{outside}/f"))));
    assert_eq!(entry("link-to-passwd"), Some(("120000", "/etc/passwd".into())));
    assert_eq!(entry("folder/f"), None);
    assert_eq!(entry("hard-link.c"), Some(("100644", stage.repo.read("max.c"))));
    assert_eq!(entry("hard-link-to-passwd"), None);
    assert_eq!(entry("pipe"), None);
    assert_eq!(entry("nested/real"), Some(("100644", "real\n".into())));
    assert_eq!(entry("setuid").expect("an executable").0, "100755");
    assert_eq!(entry("kept"), Some(("100644", "kept\n".into())));
    assert_eq!(entry("new\nline"), Some(("100644", "x\n".into())));
    assert_eq!(entry("-rf"), Some(("100644", "x\n".into())));
    assert!(tree.contains_key(&b"bad-\xff-bytes"[..]));
    assert!(tree.contains_key(&b"$(touch owned)"[..]));

    assert_eq!(stage.repo.untouched(), before);
    assert_eq!(stage.repo.read(".git/config"), config);
    assert_eq!(std::fs::read_to_string(stage.outside.path().join("f")).unwrap(), HOST);
    let left_out: Vec<&str> = event(&transcript, "note").iter().filter_map(|note| note["text"].as_str()).collect();
    assert!(left_out.iter().any(|note| note.contains("pipe")), "what was left out is said: {left_out:?}");
}

#[test]
fn a_folder_that_turns_into_a_link_while_the_run_ends_brings_nothing_of_the_host_along() {
    let stage = Stage::new();
    let before = stage.repo.untouched();
    let race =
        format!("cat > /tmp/race.c <<'END'\n{RACE}END\ncc -w -o /tmp/race /tmp/race.c && /tmp/race \"$OUTSIDE\"");
    let transcript = stage.play(&format!("echo work > work; {race}"));
    // From inside: what stands behind the links was met, and nothing of it taken.
    let said = outputs(&transcript);
    assert!(said.ends_with("took 0\nlinked met\n"), "{said}");
    let results = event(&transcript, "result");
    let branch = results.first().expect("a result")["branch"].as_str().unwrap();
    let tree = stage.tree(branch);
    assert_eq!(tree.get(&b"work"[..]).map(|(_, content)| text(content)).as_deref(), Some("work\n"));
    for (path, (_, content)) in &tree {
        let (path, content) = (String::from_utf8_lossy(path), text(content));
        assert!(!content.contains(HOST) && !content.contains("root:"), "{path} holds the host's content");
    }
    assert_eq!(stage.repo.untouched(), before);
    let outside: Vec<_> =
        std::fs::read_dir(stage.outside.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(outside, ["f"], "something was written outside");
    assert_eq!(std::fs::read_to_string(stage.outside.path().join("f")).unwrap(), HOST);
    for planted in ["planted", "planted-by-rename", "planted-by-link"] {
        assert!(!std::path::Path::new("/etc").join(planted).exists(), "{planted}");
    }
}
