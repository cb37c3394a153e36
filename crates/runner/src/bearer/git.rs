//! git in a command with a value: it reads no configuration that the run could have written.
//!
//! A repository's own configuration cannot be switched off, and the worktree's is the run's: an alias, a filter, a monitor or
//! another address in it would run, or be sent to, with the value. So git is shown a git directory that is made for this
//! command, in its scratch, where no other process writes: our configuration, the worktree's `HEAD` copied, its references and
//! objects as links. Those are data. There is no index: git says nothing of the worktree's state, and enters no
//! repository inside it. What no directory decides stands in [`SETTINGS`] and [`VARIABLES`].
//!
//! What a command's arguments tell git to do, it does: they are no configuration, and are on the record.
//!
//! Read [`make`].

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The user that a git host is told where a value names none. What hosts look at is the token.
pub const USER: &str = "x-access-token";
/// Settings of git's for every repository, also one that the command clones: hooks, helpers and what else would run there.
pub const SETTINGS: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("core.sshCommand", "/bin/false"),
    ("core.gitProxy", ""),
    ("core.pager", "cat"),
    ("core.editor", "/bin/false"),
    ("core.attributesFile", "/dev/null"),
    // A repository inside a worktree has a configuration of its own.
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("diff.ignoreSubmodules", "all"),
    // An empty one forgets all that were named before it.
    ("credential.helper", ""),
];
/// Variables by which git reads no file of a person's or the system's, asks nobody, and starts no transport of another kind: at a
/// repository on the disk, or behind a program, another git would begin that reads its configuration.
pub const VARIABLES: [(&str, &str); 7] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_ALLOW_PROTOCOL", "https:http"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
];
/// The variable that names the git directory, wherever git is started.
pub const DIRECTORY: &str = "GIT_DIR";
/// Longest `HEAD`, in bytes.
const HEAD: u64 = 1024;
/// What the git directory shares with the worktree's: data, read by git in the command's own walls.
const SHARED: [&str; 4] = ["objects", "refs", "packed-refs", "shallow"];

/// Makes the git directory at `at`, for the repository of `worktree`. Where there is none, or one of another form, git finds no
/// repository.
///
/// # Errors
/// When it cannot be written.
pub fn make(at: &Path, worktree: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(at)?;
    let config =
        format!("[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = {}\n", worktree.display());
    std::fs::write(at.join("config"), config)?;
    // Without a name it is a branch that nothing was committed to.
    let head = head(worktree).unwrap_or_else(|| "ref: refs/heads/none".to_owned());
    std::fs::write(at.join("HEAD"), format!("{head}\n"))?;
    for name in SHARED {
        std::os::unix::fs::symlink(worktree.join(".git").join(name), at.join(name))?;
    }
    Ok(())
}

/// What the worktree has checked out: one line of a plain file, through no link, since process 1 reads it with its own rights.
fn head(worktree: &Path) -> Option<String> {
    let folder = rustix::fs::open(worktree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // A pipe that stands where the file should must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = std::fs::File::from(rustix::fs::openat2(&folder, ".git/HEAD", flags, Mode::empty(), resolve).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(HEAD).read_to_string(&mut text).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let is_name = line.starts_with("ref: refs/") || !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
    (is_name && !line.contains(char::is_control)).then(|| line.to_owned())
}

/// Git's setting that names a helper for the host of `destination` alone, which answers what stands in `file`.
pub fn helper(destination: &str, file: &str) -> (String, String) {
    let host = destination.split('/').next().unwrap_or_default();
    let name = format!("credential.https://{host}.helper");
    (name, format!("!f() {{ test \"$1\" = get && cat {file}; }}; f"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("runner-bearer-git-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn git(at: &Path, own: Option<&Path>, args: &[&str]) -> (bool, String) {
        let mut git = Command::new("git");
        git.current_dir(at).args(args).env_clear().env("PATH", "/usr/bin:/bin").envs(VARIABLES);
        git.envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a"), ("GIT_COMMITTER_NAME", "a")]);
        git.env("GIT_COMMITTER_EMAIL", "a").envs(own.map(|own| (DIRECTORY, own)));
        let done = git.output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).trim().to_owned())
    }

    #[test]
    fn git_reads_history_and_branch_of_the_worktree_and_none_of_its_configuration() {
        let top = folder("history");
        let (work, own) = (top.join("work"), top.join("own"));
        std::fs::create_dir(&work).unwrap();
        for args in [
            &["init", "-q", "-b", "topic"][..],
            &["commit", "-q", "--allow-empty", "-m", "first"],
            &["config", "alias.planted", "!echo RAN"],
            &["config", "remote.origin.url", "https://planted.example/x"],
            &["pack-refs", "--all"],
        ] {
            assert!(git(&work, None, args).0, "{args:?}");
        }
        assert_eq!(git(&work, None, &["planted"]), (true, "RAN".into()));
        make(&own, &work).unwrap();
        let seen = |args: &[&str]| git(&work, Some(&own), args);
        assert_eq!(seen(&["log", "--format=%s %D"]), (true, "first HEAD -> topic".into()));
        assert_eq!(seen(&["rev-parse", "--show-toplevel"]).1, work.canonicalize().unwrap().to_str().unwrap());
        assert!(!seen(&["planted"]).0);
        assert_eq!(seen(&["remote", "-v"]), (true, String::new()));
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_head_that_is_no_plain_line_of_a_plain_file_is_not_read() {
        let top = folder("head");
        let at = top.join(".git/HEAD");
        std::fs::create_dir(top.join(".git")).unwrap();
        assert_eq!(head(&top), None, "there is none");
        for (text, is) in [
            ("ref: refs/heads/a\n", true),
            ("0123456789abcdef0123456789abcdef01234567\n", true),
            ("ref: refs/heads/a\nmore\n", false),
            ("root:x:0:0\n", false),
            ("\n", false),
        ] {
            std::fs::write(&at, text).unwrap();
            assert_eq!(head(&top), is.then(|| text.trim_end().to_owned()), "{text:?}");
        }
        std::fs::rename(&at, top.join("there")).unwrap();
        std::fs::write(top.join("there"), "ref: refs/heads/a\n").unwrap();
        std::os::unix::fs::symlink("../there", &at).unwrap();
        assert_eq!(head(&top), None, "a link");
        std::fs::remove_file(&at).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(head(&top), None, "a pipe");
        make(&top.join("own"), &top).unwrap();
        let (found, said) = git(&top, Some(&top.join("own")), &["log"]);
        assert!(!found && said.contains("not a git repository"), "{said}");
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_helper_is_for_its_host_alone() {
        let (name, helper) = helper("git.example/acme/shop", "/proc/self/fd/9");
        assert_eq!(name, "credential.https://git.example.helper");
        assert!(helper.contains("= get") && helper.contains("/proc/self/fd/9"), "{helper}");
    }
}
