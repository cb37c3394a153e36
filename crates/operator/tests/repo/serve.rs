//! What a box gets of a repository of its host, asked for and pushed as a box might that is no git.

use super::support::{git, place};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The branch that is pushed.
const OWN: &str = "refs/heads/pr/own";

/// One request, answered by the process that serves: what it says, byte for byte.
fn asked(at: &Path, head: &str, body: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_repo-process"));
    serve.arg("serve").arg(at).args(["pr/own", "1000000"]).stdin(OwnedFd::from(theirs));
    let mut process = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It holds the other end.
    drop(serve);
    ours.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    ours.write_all(body).unwrap();
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    let said = unchunked(&said);
    process.wait().unwrap();
    said
}

/// An answer whose body is in one piece.
fn unchunked(said: &[u8]) -> Vec<u8> {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (mut out, mut rest) = (said[..end].to_vec(), &said[end..]);
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        out.extend_from_slice(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 4 + length..];
    }
    out
}

fn lines(all: &[&str]) -> Vec<u8> {
    let line = |text: &&str| match *text {
        "0000" | "0001" => (*text).to_owned(),
        text => format!("{:04x}{text}\n", text.len() + 5),
    };
    all.iter().map(line).collect::<String>().into_bytes()
}

fn fetch(at: &Path, all: &[&str]) -> Vec<u8> {
    asked(at, "POST /git-upload-pack HTTP/1.1\r\n", &lines(all))
}

fn push(at: &Path, new: &str, pack: &[u8]) -> String {
    let old = Command::new("git").arg("-C").arg(at).args(["rev-parse", "-q", "--verify", OWN]).output().unwrap();
    let old = String::from_utf8(old.stdout).unwrap();
    let old = if old.is_empty() { "0".repeat(40) } else { old.trim().to_owned() };
    let update = format!("{old} {new} {OWN}\0 report-status");
    let mut body = format!("{:04x}{update}0000", update.len() + 4).into_bytes();
    body.extend_from_slice(pack);
    String::from_utf8_lossy(&asked(at, "POST /git-receive-pack HTTP/1.1\r\n", &body)).into_owned()
}

fn holds(said: &[u8], what: &str) -> bool {
    said.windows(what.len()).any(|at| at == what.as_bytes())
}

/// git, told something.
fn told(at: &Path, args: &[&str], words: &str) -> Vec<u8> {
    let mut git = Command::new("git");
    git.current_dir(at).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    let said = git.wait_with_output().unwrap();
    assert!(said.status.success(), "{args:?}");
    said.stdout
}

fn name(at: &Path, args: &[&str], words: &str) -> String {
    String::from_utf8(told(at, args, words)).unwrap().trim().to_owned()
}

/// A pack of these objects and no others, which need not be all.
fn packed(at: &Path, names: &[&str]) -> Vec<u8> {
    told(at, &["pack-objects", "-q", "--stdout"], &names.iter().flat_map(|name| [*name, "\n"]).collect::<String>())
}

/// A repository of three commits, and all that it holds beside them.
struct Host {
    _place: super::support::Place,
    at: PathBuf,
    /// Of a stash: its commit, that of its index, its folder and its file; of the index: a file; of what was amended away: the
    /// commit, its folder and its file.
    hidden: Vec<String>,
}

impl Host {
    fn new() -> Self {
        let place = place(&[]);
        let at = place.work.clone();
        let file = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
        for text in ["one", "two", "three"] {
            file("a", text);
            git(&at, &["add", "."]);
            git(&at, &["commit", "-q", "-m", text]);
        }
        file("wrong", "what was taken back\n");
        git(&at, &["add", "."]);
        git(&at, &["commit", "-q", "-m", "wrong"]);
        let wrong = ["HEAD", "HEAD^{tree}", "HEAD:wrong"].map(|of| git(&at, &["rev-parse", of]));
        git(&at, &["reset", "-q", "--hard", "HEAD~1"]);
        let secret: String = (0..200).map(|n| format!("KEY_{n}={}\n", n * 7919)).collect();
        file(".env", &secret);
        git(&at, &["add", "."]);
        git(&at, &["stash", "-q"]);
        file("staged", "of the index\n");
        git(&at, &["add", "."]);
        let mut hidden: Vec<String> =
            ["refs/stash", "refs/stash^2", "refs/stash^{tree}", "refs/stash:.env", ":0:staged"]
                .map(|of| git(&at, &["rev-parse", of]))
                .into();
        hidden.extend(wrong);
        Self { _place: place, at, hidden }
    }

    fn of(&self, what: &str) -> String {
        git(&self.at, &["rev-parse", what])
    }

    /// A repository that holds what a box has: the three commits.
    fn a_box(&self) -> PathBuf {
        let at = self.at.parent().unwrap().join("box");
        git(&self.at, &["clone", "-q", "--no-local", ".", at.to_str().unwrap()]);
        at
    }
}

#[test]
fn of_what_no_branch_or_tag_leads_to_a_box_is_given_nothing_and_told_nothing() {
    let host = Host::new();
    let (tip, before, nowhere) = (host.of("HEAD"), host.of("HEAD~2"), "1".repeat(40));
    let wanting = |name: &str| fetch(&host.at, &[&format!("want {name}"), "0000", "done"]);
    for name in [&tip, &before] {
        assert!(holds(&wanting(name), "PACK"), "what the branch leads to is given");
    }
    let none = wanting(&nowhere);
    assert!(none.starts_with(b"HTTP/1.1 409"), "{}", String::from_utf8_lossy(&none));
    for name in &host.hidden {
        assert_eq!(wanting(name), none, "{name} is as nowhere");
    }
    // To say that one has it tells whether it is here, and has what is sent written as a difference to it.
    let having = |name: &str| {
        let want = format!("want {tip} multi_ack_detailed thin-pack ofs-delta");
        fetch(&host.at, &[&want, "0000", &format!("have {name}"), "done"])
    };
    assert!(holds(&having(&before), &format!("ACK {before}")));
    let none = having(&nowhere);
    assert!(holds(&none, "PACK") && !holds(&none, "ACK "));
    for name in &host.hidden {
        assert_eq!(having(name), none, "{name} is as nowhere");
    }
    let ending =
        |name: &str| fetch(&host.at, &[&format!("want {tip}"), &format!("shallow {name}"), "deepen 1", "0000", "done"]);
    assert!(holds(&ending(&before), "PACK"));
    for name in &host.hidden {
        assert_eq!(ending(name), ending(&nowhere), "{name} is as nowhere");
    }
    let abbreviated = format!("filter sparse:oid={}", &host.hidden[3][..6]);
    for line in [
        "filter sparse:oid=refs/stash:.env",
        "filter sparse:oid=:0:staged",
        "filter sparse:oid=HEAD@{1}:wrong",
        &abbreviated,
        "filter combine:blob:none+sparse:oid=refs/stash:.env",
        "filter blob:none",
        "deepen-not refs/stash",
        "deepen-not stash",
    ] {
        let want = format!("want {tip} filter deepen-not");
        let said = fetch(&host.at, &[&want, line, "0000", "done"]);
        assert!(said.starts_with(b"HTTP/1.1 409") && holds(&said, "by their whole names"), "{line}");
    }
}

#[test]
fn a_tag_that_its_owner_hides_comes_along_with_nothing() {
    let host = Host::new();
    let (tip, objects) = (host.of("HEAD"), |said: &[u8]| {
        let at = said.windows(4).position(|four| four == b"PACK").unwrap();
        u32::from_be_bytes(said[at + 8..at + 12].try_into().unwrap())
    });
    let wanting = |more: &str| objects(&fetch(&host.at, &[&format!("want {tip}{more}"), "0000", "done"]));
    let without = wanting("");
    for tag in ["open", "hidden"] {
        git(&host.at, &["tag", "-a", "-m", "words", tag]);
    }
    git(&host.at, &["config", "transfer.hideRefs", "refs/tags/hidden"]);
    for word in ["include-tag", "include-tag=", "include-tag=1"] {
        assert_eq!(wanting(&format!(" {word} ofs-delta")), without, "{word}");
    }
    let open = host.of("refs/tags/open");
    assert!(holds(&fetch(&host.at, &[&format!("want {open}"), "0000", "done"]), "PACK"));
    let hidden = host.of("refs/tags/hidden");
    assert!(fetch(&host.at, &[&format!("want {hidden}"), "0000", "done"]).starts_with(b"HTTP/1.1 409"));
}

#[test]
fn the_gateways_own_questions_leave_files_out_and_use_no_other_filter() {
    let host = Host::new();
    // What its owner allows to others.
    for key in ["allow", "sparse:oid.allow", "combine.allow", "tree.allow"] {
        git(&host.at, &["config", &format!("uploadpackfilter.{key}"), "true"]);
    }
    let asking = |filter: &str| {
        let body = lines(&[
            "command=fetch",
            "0001",
            &format!("want {}", host.of("HEAD")),
            &format!("filter {filter}"),
            "done",
            "0000",
        ]);
        holds(&asked(&host.at, "POST /git-upload-pack HTTP/1.1\r\nGit-Protocol: version=2\r\n", &body), "PACK")
    };
    assert!(asking("blob:none"));
    for filter in ["sparse:oid=refs/stash:.env", "sparse:oid=HEAD:a", "combine:blob:none+sparse:oid=HEAD:a"] {
        assert!(!asking(filter), "{filter}");
    }
}

#[test]
fn what_is_pushed_is_sent_or_shown_and_names_nothing_else_that_lies_in_the_repository() {
    let host = Host::new();
    let at_box = host.a_box();
    let b = at_box.as_path();
    let file = |name_of: &str| name(b, &["mktree", "--missing"], &format!("100644 blob {name_of}\tx\n"));
    let commit = |tree: &str, parent: &str| name(b, &["commit-tree", tree, "-p", parent], "words");
    let tip = host.of("HEAD");
    let by_file = |name_of: &str| {
        let tree = file(name_of);
        let commit = commit(&tree, &tip);
        let pack = packed(b, &[&commit, &tree]);
        push(&host.at, &commit, &pack)
    };
    let no = by_file(&"1".repeat(40));
    assert!(no.starts_with("HTTP/1.1 409") && no.contains("leaves out"), "{no}");
    let [stash, index_of_it, folder, secret, staged, wrong, folder_of_it, taken_back] = &host.hidden[..] else {
        panic!()
    };
    for file in [secret, staged, taken_back] {
        assert_eq!(by_file(file), no, "a file");
    }
    for folder in [folder, folder_of_it] {
        let commit = commit_of(b, folder, &tip);
        assert_eq!(push(&host.at, &commit, &packed(b, &[&commit])), no, "a folder");
        let tree = name(b, &["mktree", "--missing"], &format!("040000 tree {folder}\tx\n"));
        let commit = commit_of(b, &tree, &tip);
        assert_eq!(push(&host.at, &commit, &packed(b, &[&commit, &tree])), no, "a folder in it");
    }
    for parent in [stash, index_of_it, wrong] {
        let commit = commit_of(b, &host.of("HEAD^{tree}"), parent);
        assert_eq!(push(&host.at, &commit, &packed(b, &[&commit])), no, "a commit");
        assert_eq!(push(&host.at, parent, &packed(b, &[])), no, "the commit itself");
    }
    // A difference to the secret, of which the rest would be filled in.
    let knows = host.at.parent().unwrap().join("knows");
    assert!(Command::new("cp").arg("-r").args([&host.at, &knows]).status().unwrap().success());
    let text = git(&knows, &["cat-file", "-p", secret]) + "\nMORE=1\n";
    std::fs::write(knows.join("text"), text).unwrap();
    let like = git(&knows, &["hash-object", "-w", "text"]);
    let tree = name(&knows, &["mktree"], &format!("100644 blob {like}\t.env\n"));
    let commit_on = commit_of(&knows, &tree, &tip);
    let thin = format!("-{stash}\n{commit_on}\n{tree}\n{like} .env\n");
    let thin = told(&knows, &["pack-objects", "-q", "--stdout"], &thin);
    let whole = told(&knows, &["pack-objects", "-q", "--stdout", "--revs"], &format!("{commit_on}\n^{tip}\n"));
    assert!(thin.len() + 500 < whole.len(), "{} of {}", thin.len(), whole.len());
    assert_eq!(push(&host.at, &commit_on, &thin), no, "a difference");
    assert!(!host.at.join(".git/refs/heads/pr").exists(), "nothing was pushed");

    let ok = format!("ok {OWN}");
    assert!(push(&host.at, &commit_on, &whole).contains(&ok), "the same file, sent whole, is the box's own");
    let old = by_file(&host.of("HEAD~2:a"));
    assert!(old.contains(&ok), "what an older state held may be put back without sending it: {old}");
    assert!(push(&host.at, &host.of("HEAD~1"), &packed(b, &[])).contains(&ok), "a commit of the branch itself");
    let submodule = name(b, &["mktree", "--missing"], &format!("160000 commit {stash}\tsub\n"));
    let with = commit(&submodule, &tip);
    assert!(
        push(&host.at, &with, &packed(b, &[&with, &submodule])).contains(&ok),
        "of another repository it names a commit"
    );
}

fn commit_of(at: &Path, tree: &str, parent: &str) -> String {
    // As git writes one; it would look for what is named.
    let text = format!(
        "tree {tree}\nparent {parent}\nauthor Ada <ada@example.org> 1 +0000\ncommitter Ada <ada@example.org> 1 +0000\n\nwords\n"
    );
    name(at, &["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], &text)
}

#[test]
fn what_is_set_apart_of_a_push_is_gone_after_it_and_what_a_killed_one_left_after_the_next() {
    let host = Host::new();
    let objects = host.at.join(".git/objects");
    let apart = || {
        let all = std::fs::read_dir(&objects).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        all.filter(|name| name.starts_with("tmp_")).collect::<Vec<_>>()
    };
    // No process has this number, nor its own name.
    let (dead, foreign) = ("tmp_objdir-volary-4294967295", "tmp_objdir-incoming-x");
    for left in [dead, foreign] {
        std::fs::create_dir_all(objects.join(left).join("pack")).unwrap();
    }
    let b = host.a_box();
    let commit = commit_of(&b, &host.of("HEAD^{tree}"), &host.of("HEAD"));
    let said = push(&host.at, &commit, &packed(&b, &[&commit]));
    assert!(said.contains(&format!("ok {OWN}")), "{said}");
    assert_eq!(apart(), [foreign]);
    let no = push(&host.at, &host.hidden[0], &packed(&b, &[]));
    assert!(no.starts_with("HTTP/1.1 409"), "{no}");
    assert_eq!(apart(), [foreign]);
}
