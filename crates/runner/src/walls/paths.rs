//! Landlock: which files process 1, a command and the agent reach, as tables.
//!
//! A path that is not in the table is refused, whatever its mode says. A path that is in the table and not in
//! the box is skipped: absence reaches nothing. The kernel's level is read once, and everything that the level
//! knows is demanded, not asked for.

use crate::boxfile::Folder;
use api::inbox::{AGENT_PATH, BEARERS, WORKSPACE};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, make_bitflags,
};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// Oldest level we start on: 2 knows renames between folders.
const OLDEST: i32 = 2;
/// Newest level whose rights we know: 7 adds none to 6.
const NEWEST: i32 = 7;
/// The level from which on TCP ports are known.
pub const KNOWS_PORTS: u32 = 4;
/// The one TCP port that may be connected to: the gateway's door.
const DOOR_PORT: u16 = 8080;

/// Which TCP ports a layer leaves open, from level 4 on. The box's namespace has no way out either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// All: commands test servers on the box's own loopback (decision 0003).
    Any,
    /// The gateway's door may be connected to, and none may be bound.
    DoorOnly,
}

/// What may be done beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// List folders.
    List,
    /// Read files and list folders.
    Read,
    /// Read and execute.
    Run,
    /// Everything but device nodes: read, write, make, rename, remove, execute (programs compiled in the box must run).
    Work,
    /// As [`May::Work`], without execution.
    Write,
    /// Read and write this one file.
    Device,
    /// Read and execute this one file.
    RunFile,
}

/// A path and what may be done beneath it.
pub type Row = (PathBuf, May);

/// The system tree.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Facts of the system and of the box's own processes.
const FACTS: [&str; 2] = ["/etc", "/proc"];
/// Where the box works. `/dev/shm` is for shared memory, not for programs.
const WORK: [(&str, May); 3] = [("/workspace", May::Work), ("/tmp", May::Work), ("/dev/shm", May::Write)];
/// Devices that hold nothing.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// The one of them that a process might be asked on.
const TERMINAL: &str = "/dev/tty";
/// Ours: runner, agent, box file.
const OURS: &str = "/run/volary";

/// Process 1's own layer, which every child inherits.
#[must_use]
pub fn runner(extra: &[Folder]) -> Vec<Row> {
    let mut rows = command(extra);
    rows.push((OURS.into(), May::Run));
    rows.push((BEARERS.into(), May::Write));
    rows
}

/// The layer of a command that holds a value: it executes what the system brought, and writes in its own scratch alone.
/// What a run can write is read, and no more; the scratch of others is out of sight.
#[must_use]
pub fn bearer(extra: &[Folder], scratch: &Path) -> Vec<Row> {
    let system = SYSTEM.iter().map(|path| (PathBuf::from(path), May::Run));
    let facts = FACTS.iter().map(|path| (PathBuf::from(path), May::Read));
    let devices = DEVICES.iter().filter(|path| **path != TERMINAL).map(|path| (PathBuf::from(path), May::Device));
    let extra = extra.iter().map(|f| (f.path.clone(), if f.writable { May::Read } else { May::Run }));
    let own = [("/".into(), May::List), (WORKSPACE.into(), May::Read), (scratch.to_path_buf(), May::Write)];
    own.into_iter().chain(system).chain(facts).chain(devices).chain(extra).collect()
}

/// A command's layer: as process 1's, without our own files.
#[must_use]
pub fn command(extra: &[Folder]) -> Vec<Row> {
    let system = SYSTEM.iter().map(|path| (PathBuf::from(path), May::Run));
    let facts = FACTS.iter().map(|path| (PathBuf::from(path), May::Read));
    let work = WORK.iter().map(|(path, may)| (PathBuf::from(path), *may));
    let devices = DEVICES.iter().map(|path| (PathBuf::from(path), May::Device));
    let extra = extra.iter().map(|f| (f.path.clone(), if f.writable { May::Work } else { May::Run }));
    // What stands in the box's tree is no secret; what is in its files may be.
    let tree = std::iter::once((PathBuf::from("/"), May::List));
    tree.chain(system).chain(facts).chain(work).chain(devices).chain(extra).collect()
}

/// The agent's layer: as a command's, and nothing can be executed but its own file, and the loader that this is begun
/// through, if it has one. After that not even these ([`super::calls::agent`]).
///
/// # Errors
/// A sentence, for a loader that a command could have written.
pub fn agent(extra: &[Folder], loader: Option<PathBuf>) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = command(extra).into_iter().map(|(path, may)| (path, without_execution(may))).collect();
    rows.push((AGENT_PATH.into(), May::RunFile));
    if let Some(loader) = loader {
        if !is_system(&loader) {
            return Err(format!("the agent's loader {} is no part of the system", loader.display()));
        }
        rows.push((loader, May::RunFile));
    }
    Ok(rows)
}

/// Whether a path is beneath the system tree, as far as names go.
fn is_system(path: &Path) -> bool {
    !path.components().any(|part| part == Component::ParentDir) && SYSTEM.iter().any(|system| path.starts_with(system))
}

fn without_execution(may: May) -> May {
    match may {
        May::Run | May::RunFile => May::Read,
        May::Work => May::Write,
        May::List | May::Read | May::Write | May::Device => may,
    }
}

/// Reads the kernel's Landlock level, capped at the newest that we know.
///
/// # Errors
/// A sentence when there is no Landlock or it is older than level 2.
pub fn abi() -> Result<u32, String> {
    const VERSION: u32 = 1;
    // SAFETY: asks for a number; with this flag the kernel reads no memory.
    let level =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION) };
    let level = i32::try_from(level).unwrap_or(-1);
    if level < OLDEST {
        return Err(format!("Landlock level {level} is offered, at least {OLDEST} is needed (Linux 5.19)"));
    }
    Ok(level.min(NEWEST).unsigned_abs())
}

/// The crate's name for a level that [`abi`] gave.
fn named(abi: u32) -> ABI {
    match abi {
        ..=2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7.. => ABI::V7,
    }
}

fn rights(may: May, abi: ABI) -> BitFlags<AccessFs> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Device nodes are never made, and ioctls on devices never needed.
    let write = AccessFs::from_write(abi) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    match may {
        May::List => make_bitflags!(AccessFs::{ReadDir}),
        May::Read => read,
        May::Run => read | AccessFs::Execute,
        May::Work => read | AccessFs::Execute | write,
        May::Write => read | write,
        May::Device => (read | write) & AccessFs::from_file(abi),
        May::RunFile => make_bitflags!(AccessFs::{ReadFile | Execute}),
    }
}

/// Makes a ruleset of a table, for `landlock_restrict_self`.
///
/// # Errors
/// A sentence that names the path or the right which the kernel did not take.
pub fn build(abi: u32, rows: &[Row], ports: Ports) -> Result<OwnedFd, String> {
    let by_port = ports == Ports::DoorOnly && abi >= KNOWS_PORTS;
    let level = named(abi);
    let said = |error: landlock::RulesetError| format!("Landlock: {error}");
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset = ruleset.handle_access(AccessFs::from_all(level)).map_err(said)?;
    if by_port {
        ruleset = ruleset.handle_access(AccessNet::from_all(level)).map_err(said)?;
    }
    if level >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(level)).map_err(said)?;
    }
    let mut made = ruleset.create().map_err(said)?;
    for (path, may) in rows {
        let Some(at) = open(path)? else { continue };
        let rule = PathBeneath::new(at, rights(*may, level));
        made = made.add_rule(rule).map_err(|e| format!("Landlock: {}: {e}", path.display()))?;
    }
    if by_port {
        made = made.add_rule(NetPort::new(DOOR_PORT, AccessNet::ConnectTcp)).map_err(said)?;
    }
    Option::<OwnedFd>::from(made).ok_or_else(|| "Landlock: the kernel gave no ruleset".to_owned())
}

/// Opens a path of a table, if it is in the box. A rule holds for where a path leads: a link of an image must not
/// give the rights of a row to another place.
fn open(path: &Path) -> Result<Option<OwnedFd>, String> {
    let said = |error: std::io::Error| format!("Landlock: {}: {error}", path.display());
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    if real != path && !(is_system(path) && is_system(&real)) {
        return Err(format!("{} leads to {}, which is no part of the system", path.display(), real.display()));
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&real)
        .map(|file| Some(file.into()))
        .map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Vec<Folder> {
        vec![Folder { path: "/opt/tool".into(), writable: false }, Folder { path: "/srv/cache".into(), writable: true }]
    }

    #[test]
    fn the_agent_executes_its_own_file_and_nothing_else() {
        let runs: Vec<Row> = agent(&folders(), None)
            .unwrap()
            .into_iter()
            .filter(|(_, may)| rights(*may, ABI::V7).contains(AccessFs::Execute))
            .collect();
        assert_eq!(runs, [(PathBuf::from(AGENT_PATH), May::RunFile)]);
    }

    #[test]
    fn a_loader_is_one_of_the_systems_or_there_is_no_agent() {
        let loader = PathBuf::from("/lib64/ld-linux-x86-64.so.2");
        assert!(agent(&[], Some(loader.clone())).unwrap().contains(&(loader, May::RunFile)));
        for other in ["/workspace/ld.so", "/tmp/ld.so", "ld.so", "", "/usr/../workspace/ld.so", "/usrlocal/ld.so"] {
            assert!(agent(&[], Some(other.into())).is_err(), "{other}");
        }
    }

    #[test]
    fn a_command_reaches_nothing_of_ours() {
        assert!(
            command(&folders())
                .iter()
                .all(|(path, may)| *may == May::List || !path.starts_with(OURS) && !Path::new(OURS).starts_with(path))
        );
    }

    #[test]
    fn only_the_places_of_work_and_writable_folders_are_written() {
        let written: Vec<PathBuf> = runner(&folders())
            .into_iter()
            .filter(|(_, may)| rights(*may, ABI::V7).contains(AccessFs::MakeReg))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(written, ["/workspace", "/tmp", "/dev/shm", "/srv/cache", BEARERS].map(PathBuf::from));
    }

    #[test]
    fn what_holds_a_value_writes_in_its_scratch_alone_and_executes_nothing_that_a_run_wrote() {
        let scratch = Path::new(BEARERS).join("t1");
        let rows = bearer(&folders(), &scratch);
        let of = |right: AccessFs| -> Vec<&Path> {
            let has = rows.iter().filter(|(_, may)| rights(*may, ABI::V7).contains(right));
            has.map(|(path, _)| path.as_path()).collect()
        };
        assert_eq!(of(AccessFs::MakeReg), [scratch.as_path()]);
        assert!(of(AccessFs::WriteFile).iter().all(|path| *path == scratch || path.starts_with("/dev")));
        let runs = of(AccessFs::Execute);
        assert!(
            runs.iter().all(|path| SYSTEM.iter().any(|s| path == &Path::new(s)) || *path == Path::new("/opt/tool"))
        );
        for other in [command(&folders()), agent(&folders(), None).unwrap()] {
            let reaches =
                |(path, may): &Row| *may != May::List && (scratch.starts_with(path) || path.starts_with(&scratch));
            assert!(!other.iter().any(reaches), "{other:?}");
        }
    }

    #[test]
    fn a_child_never_has_a_right_that_process_1_lacks() {
        let own = runner(&folders());
        for (path, may) in command(&folders())
            .into_iter()
            .chain(agent(&folders(), Some("/lib64/ld.so".into())).unwrap())
            .chain(bearer(&folders(), &Path::new(BEARERS).join("t1")))
        {
            let over = own
                .iter()
                .filter(|(p, _)| path.starts_with(p))
                .fold(BitFlags::EMPTY, |all: BitFlags<AccessFs>, (_, m)| all | rights(*m, ABI::V7));
            assert!(over.contains(rights(may, ABI::V7)), "{}", path.display());
        }
    }
}
