//! A command under a lease: what it is given beside its arguments, and what it is denied so that nobody else gets it.
//!
//! A value enters the box for one process tree and goes with it. It stands in a variable of that tree's environment, or in
//! a sealed file without a name that the tree has open (as `/proc/self/fd/N`, as its standard input, or behind git's
//! credential helper): never in an argument, which all of a box may read, and never in a file system. Whoever holds it
//! executes what the system brought and nothing the run wrote, begins with an environment of ours alone, has git read no
//! configuration of the run's ([`git`]), and writes nothing that outlives it: worktree, scratch space and shared memory are read-only or out of sight, its home is a folder
//! of its own that is removed, it has no local sockets, no shared memory, no way out of its session, and no TCP but to the
//! door. What it says is scrubbed here, before the agent is shown it.
//!
//! A command with a handle instead ([`Delivery::Proxy`]) holds no value: it keeps the walls of every command.
//!
//! Read [`prepare`], then [`Bearer`].

mod git;

use crate::Context;
use crate::declared::{self, Declared};
use crate::line::{Given, Use};
use crate::walls::{self, ChildWalls};
use crate::{process, trust};
use api::delivery::Over;
use api::inbox::{BEARERS, WORKSPACE};
use api::leases::{LeaseEnd, LeaseUser};
use model::capability::Delivery;
use model::{LeaseId, Secret};
use rustix::fs::{AtFlags, Dir, FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use scrub::Scrubber;
use std::ffi::CString;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variables of every command with a value, beside those of its home: no program reads what a run could have written.
const QUIET: [(&str, &str); 6] = [
    ("PATH", "/usr/bin:/bin"),
    ("LANG", "C.UTF-8"),
    ("USER", "agent"),
    ("HISTFILE", "/dev/null"),
    ("npm_config_userconfig", "/dev/null"),
    ("npm_config_globalconfig", "/dev/null"),
];

/// Env vars, by name.
type EnvVars = Vec<(String, String)>;

/// All that a command under a lease is started with.
pub struct Bearer {
    /// What is executed.
    pub executable: Declared,
    /// Its whole environment.
    pub environment: Vec<(String, Secret<String>)>,
    /// A file that stays open in its tree.
    pub open: Option<OwnedFd>,
    /// Its standard input.
    pub stdin: Option<OwnedFd>,
    /// Walls of its own; none for one that holds a handle.
    pub walls: Option<Arc<ChildWalls>>,
    /// Finds what it was given in what it says.
    pub scrubber: Scrubber,
    scratch: Option<Scratch>,
    used: Use,
}

/// A folder for one command, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(id: &str) -> io::Result<Self> {
        let path = Path::new(BEARERS).join(id);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("runner: {}: {error}", self.0.display());
        }
    }
}

/// Removes a folder of the box's own uid and all beneath it, whatever modes its files have: others of the box may change
/// those, and nothing else. What lies deeper is moved up first: a path down to it may be longer than the system takes, and
/// a descriptor for each level more than this process may have.
fn remove(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    let top = rustix::fs::open(folder, FOLDER, Mode::empty())?;
    let mut moved = 0_u64;
    loop {
        let folders = clear(&top)?;
        if folders.is_empty() {
            break;
        }
        for name in folders {
            let below = rustix::fs::openat(&top, &name, FOLDER, Mode::empty())?;
            for inner in clear(&below)? {
                // A name that is taken is passed over, and there is an end to those.
                loop {
                    moved += 1;
                    match rustix::fs::renameat(&below, &inner, &top, moved.to_string()) {
                        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                        done => break done?,
                    }
                }
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
    std::fs::remove_dir(folder)
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes all that is in a folder but folders, which it opens to this process and gives the names of.
fn clear(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            folders.push(name.to_owned());
        } else {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(folders)
}

/// Opens what a command names, asks for what its lease gives it, and makes that ready. The word on it is recorded.
///
/// # Errors
/// A sentence for the agent; the command must not run, and nothing was given to it.
pub async fn prepare(context: &Context, lease: &str, argv: &[String], id: &str) -> Result<Bearer, String> {
    let lease = LeaseId::parse(lease).map_err(|_| "what was named is no lease's id".to_owned())?;
    let executable = declared::open(argv.first().map_or("", String::as_str))?;
    let digest = executable.sha256().await.map_err(|e| format!("{}: {e}", executable.path.display()))?;
    let by = LeaseUser::Command {
        executable: executable.path.to_string_lossy().into_owned(),
        executable_sha256: digest,
        argv_sha256: declared::sha256_of(argv),
    };
    let given = context.line.ask(lease, by).await?;
    make(context, executable, given, id).map_err(|e| format!("what its lease gives it cannot be made ready: {e}"))
}

fn make(context: &Context, executable: Declared, given: Given, id: &str) -> io::Result<Bearer> {
    let Given { value, secret, delivery, variables, destination, parts, used } = given;
    let named = if secret.is_empty() { "handle".to_owned() } else { secret };
    // Git is told the two parts of `user:password`, and a command may say the second alone.
    let password = match (&delivery, scrub::password(value.expose())) {
        (Delivery::GitHelper, Some(password)) => Some(long_enough(password)?),
        _ => None,
    };
    let words = scrub::words(value.expose()).map(|word| Secret::new(word.into_owned()));
    let known = std::iter::once(value.share()).chain(password).chain(parts).chain(words);
    let scrubber = Scrubber::new(known.map(|value| (named.clone(), value)));
    if delivery == Delivery::Proxy {
        let names = variables.into_iter().chain([api::inbox::HANDLE.to_owned()]);
        let handles = names.map(|name| (name, value.share()));
        let environment = kept(process::environment(context)).chain(handles).collect();
        let (open, stdin, walls, scratch) = (None, None, None, None);
        return Ok(Bearer { executable, environment, open, stdin, walls, scrubber, scratch, used });
    }
    let scratch = Scratch::make(id)?;
    let walls = Arc::new(walls::bearer(context.walls, &scratch.0).map_err(io::Error::other)?);
    let mut environment = clean(context, &scratch.0)?;
    let mut settings = git::SETTINGS.map(|(name, set)| (name.to_owned(), set.to_owned())).to_vec();
    let (mut in_variable, mut open, mut stdin) = (None, None, None);
    match &delivery {
        Delivery::Variable(name) => in_variable = Some((name.clone(), value)),
        Delivery::File(name) => {
            let file = sealed(value.expose())?;
            environment.push((name.clone(), path_of(&file)));
            open = Some(file);
        }
        Delivery::Stdin => stdin = Some(sealed(value.expose())?),
        Delivery::GitHelper => {
            let file = sealed(answer(value.expose()).expose())?;
            settings.push(git::helper(&destination, &path_of(&file)));
            open = Some(file);
        }
        Delivery::Proxy => {}
    }
    environment.push(("GIT_CONFIG_COUNT".into(), settings.len().to_string()));
    for (n, (name, set)) in settings.into_iter().enumerate() {
        environment.extend([(format!("GIT_CONFIG_KEY_{n}"), name), (format!("GIT_CONFIG_VALUE_{n}"), set)]);
    }
    let environment = kept(environment).chain(in_variable).collect();
    Ok(Bearer { executable, environment, open, stdin, walls: Some(walls), scrubber, scratch: Some(scratch), used })
}

/// Variables that hold no secret, to stand beside one that does.
fn kept(variables: EnvVars) -> impl Iterator<Item = (String, Secret<String>)> {
    variables.into_iter().map(|(name, text)| (name, Secret::new(text)))
}

/// The environment of a command with a value, but for the value: ours, the profile's literals, and nothing of the run's.
fn clean(context: &Context, scratch: &Path) -> io::Result<EnvVars> {
    let fixed = QUIET.into_iter().chain(git::VARIABLES);
    let mut all: EnvVars = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let repository = scratch.join("git");
    git::make(&repository, Path::new(WORKSPACE))?;
    all.push((git::DIRECTORY.to_owned(), repository.to_string_lossy().into_owned()));
    let home = scratch.to_string_lossy().into_owned();
    all.extend(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name.to_owned(), home.clone())));
    if let Some(authority) = &context.authority {
        // Made anew: every command of the box can write the files that the others trust by.
        all.extend(trust::place_in(&scratch.join("trust"), authority)?);
    }
    // Of the run's variables the profile's literals: where git goes, and what it shows there, is not for who holds a value.
    let own = |name: &str| name.starts_with("GIT_CONFIG_") || all.iter().any(|(ours, _)| ours == name);
    let literals: EnvVars = context.variables.iter().filter(|(name, _)| !own(name)).cloned().collect();
    all.extend(literals);
    Ok(all)
}

/// A file without a name that holds `text` and can be read only, from its beginning by whoever opens it anew.
fn sealed(text: &str) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes())?;
    rustix::fs::fchmod(&file, Mode::RUSR)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(rustix::fs::open(path_of(&file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// A password that the scrubber finds by itself.
fn long_enough(password: &str) -> io::Result<Secret<String>> {
    if password.len() < scrub::MIN_BYTES {
        let why = format!(
            "the password of this `user:password` is shorter than {} bytes, and would not be found in what the command says",
            scrub::MIN_BYTES
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(Secret::new(password.to_owned()))
}

/// What git's credential helper says, for a value that is a token, or `user:token`.
fn answer(value: &str) -> Secret<String> {
    let value = value.trim_end_matches(['\r', '\n']);
    let (user, password) = value.split_once(':').unwrap_or((git::USER, value));
    Secret::new(format!("username={user}\npassword={password}\n"))
}

impl Bearer {
    /// Comes when the command is to be ended, with the reason; none when there is no gateway any more.
    pub async fn over(&self) -> Option<Over> {
        self.used.over().await
    }

    /// Nothing of the command lives: what it left is removed, and the use of its lease is over.
    pub fn end(self, outcome: LeaseEnd) {
        drop(self.scratch);
        self.used.ended(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_sealed_file_is_read_from_its_beginning_by_each_who_opens_it_and_written_by_none() {
        let file = sealed("a-value-of-a-test").unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            std::fs::File::open(path_of(&file)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "a-value-of-a-test");
        }
        assert!(std::fs::File::from(file.try_clone().unwrap()).write_all(b"x").is_err());
        let anew = std::fs::OpenOptions::new().write(true).open(path_of(&file));
        assert!(anew.and_then(|mut file| file.write_all(b"x")).is_err());
    }

    #[test]
    fn a_folder_whose_modes_somebody_changed_is_removed_all_the_same() {
        let folder = std::env::temp_dir().join(format!("runner-bearer-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        std::fs::write(folder.join("a/b/c"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
        for shut in ["a/b", "a", ""] {
            std::fs::set_permissions(folder.join(shut), Permissions::from_mode(0o000)).unwrap();
        }
        remove(&folder).unwrap();
        assert!(!folder.exists() && Path::new("/etc/passwd").exists());
    }

    #[test]
    fn a_folder_deeper_than_any_path_is_removed_whatever_is_named_as_what_was_moved() {
        let folder = std::env::temp_dir().join(format!("runner-bearer-deep-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("1/x")).unwrap();
        let mut at = rustix::fs::open(&folder, FOLDER, Mode::empty()).unwrap();
        for _ in 0..100 {
            let name = "d".repeat(100);
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, "2", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, FOLDER, Mode::empty()).unwrap();
        }
        rustix::fs::fchmod(&at, Mode::empty()).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_git_host_is_told_a_user_whatever_the_value_names() {
        assert_eq!(answer("tok_en\n").expose(), "username=x-access-token\npassword=tok_en\n");
        assert_eq!(answer("me:tok:en").expose(), "username=me\npassword=tok:en\n");
    }

    #[test]
    fn no_variable_that_a_command_begins_with_is_named_twice() {
        let fixed = QUIET.iter().chain(&git::VARIABLES);
        let mut names: Vec<&str> = fixed.map(|(name, _)| *name).chain([git::DIRECTORY]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUIET.len() + git::VARIABLES.len() + 1);
    }
}
