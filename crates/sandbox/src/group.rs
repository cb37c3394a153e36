//! The control groups of boxes: what they met, who is in them, and how all of them are stopped or ended.
//!
//! A number that a group lists may be another process's by the time that it is killed: each is killed by its handle, and
//! only where the handle says that it is in the group ([`Process::end_member`]).
//!
//! A box's group lies in the installation's own, or, for one of Docker's where systemd keeps the groups, in the
//! installation's slice ([`mod@slice`]). Both are looked at always: which one it is says the kernel ([`of`]).

use crate::doctor::{Cgroups, cgroups};
use crate::harden::HardenedSpec;
use crate::process::Process;
use crate::slice;
use api::inbox::Counts;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the freezer is asked whether it is done: a millisecond apart, so ten seconds at least.
const FREEZE_ROUNDS: u32 = 10_000;
/// How often systemd is asked to take a slice away that it says it cannot, and how long it is left alone between.
const STOPS: u32 = 5;
const STOP_AGAIN: Duration = Duration::from_millis(200);
/// After so many rounds a freeze of v1 is begun again.
const THAW_EVERY: u32 = 50;

pub(crate) fn cgroup_path(group: &str, controller: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(controller).join(group.trim_start_matches('/'))
}

/// Where the group of the box `name` may be, absolute in each hierarchy; `parent` is the installation's own group.
pub(crate) fn of_box(parent: &str, name: &str) -> Vec<String> {
    std::iter::once(format!("{parent}/{name}")).chain(slice::of_box(parent, name)).collect()
}

/// The control group that a process is in, absolute in each hierarchy, as the kernel says.
pub(crate) fn of(process: &Process) -> io::Result<String> {
    let table = fs::read_to_string(process.file("cgroup"))?;
    // On v1 a process that is ending is said to be in the host's own group, whose members are everybody.
    named(&table, cgroups())
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Interrupted, "the box is in no control group of its own"))
}

/// The group that a table `/proc/PID/cgroup` names; none for the host's own.
fn named(table: &str, kind: Cgroups) -> Option<&str> {
    let mut groups = table.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let is_it = match kind {
            Cgroups::V2 => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "pids"),
        };
        is_it.then_some(group)
    });
    groups.next().filter(|group| !group.trim_matches('/').is_empty())
}

/// Sets swap to nothing where the kernel has a limit of its own for it (v2): the runtime takes a 0 there for "not said".
pub(crate) fn forbid_swap(group: &str) -> io::Result<()> {
    let file = cgroup_path(group, "").join("memory.swap.max");
    if cgroups() == Cgroups::V2 && file.exists() { fs::write(file, "0") } else { Ok(()) }
}

/// What the buffers of a box's sockets may take together on v1, in bytes, beside its memory; v2 counts them as its memory.
pub(crate) const SOCKET_BUFFERS: u64 = 64 << 20;

/// Bounds what is sent and not read in a box's sockets, where the kernel counts that apart from memory (v1). For sockets
/// that are made from now on.
pub(crate) fn bound_sockets(group: &str) -> io::Result<()> {
    let file = cgroup_path(group, "memory").join("memory.kmem.tcp.limit_in_bytes");
    let counts_apart = cgroups() == Cgroups::V1 && file.exists();
    if counts_apart { fs::write(file, SOCKET_BUFFERS.to_string()) } else { Ok(()) }
}

/// The file that tells of processes which were refused; whoever polls it is woken.
pub(crate) fn process_events(group: &str) -> PathBuf {
    cgroup_path(group, if cgroups() == Cgroups::V2 { "" } else { "pids" }).join("pids.events")
}

/// How often a box met which limit; nothing of a group that is gone.
pub(crate) fn counts(group: &str) -> Counts {
    let memory = match cgroups() {
        Cgroups::V2 => cgroup_path(group, "").join("memory.events"),
        _ => cgroup_path(group, "memory").join("memory.oom_control"),
    };
    let count = |file: &Path, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0)
    };
    let processor = cgroup_path(group, if cgroups() == Cgroups::V2 { "" } else { "cpu" }).join("cpu.stat");
    Counts {
        memory_kills: count(&memory, "oom_kill"),
        process_refusals: count(&process_events(group), "max"),
        throttled: count(&processor, "nr_throttled"),
        // v2 counts microseconds, v1 nanoseconds.
        throttled_ms: count(&processor, "throttled_usec") / 1000 + count(&processor, "throttled_time") / 1_000_000,
        // The kernel counts none.
        stood_ms: 0,
        held_ms: 0,
    }
}

/// The limit that a box met, in words, from its cgroup; read before the cgroup is removed.
pub(crate) fn limit_met(spec: &HardenedSpec, group: &str) -> Option<String> {
    let counts = counts(group);
    if counts.memory_kills > 0 {
        return Some(format!("killed: memory limit {} MiB", spec.limits.memory_mib));
    }
    (counts.process_refusals > 0).then(|| format!("met the limit of {} processes", spec.limits.processes))
}

/// Kills every process in the box's group, and takes its processor limit away, so that they may run to their end.
/// `parent` is the installation's own group; each of its boxes has one below that or below its slice.
pub(crate) fn kill_members(parent: &str, group: &str) -> io::Result<()> {
    let is_below = |above: &str| {
        let below = Path::new(group).strip_prefix(above);
        !above.trim_matches('/').is_empty() && below.is_ok_and(|below| below.components().next().is_some())
    };
    if !is_below(parent) && !slice::group(parent).is_some_and(|slice| is_below(&slice)) {
        // The host's own group, or another's: a box that never got to have one has nobody in it.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the box has no control group of its own"));
    }
    let (quota, members) = match cgroups() {
        Cgroups::V2 => (cgroup_path(group, "").join("cpu.max"), cgroup_path(group, "")),
        _ => (cgroup_path(group, "cpu").join("cpu.cfs_quota_us"), cgroup_path(group, "pids")),
    };
    // What is not there (the group is gone, or the kernel is older) is no hindrance: each process is killed below.
    drop(fs::write(&quota, if quota.ends_with("cpu.max") { "max" } else { "-1" }));
    // Killed before it is thawed: what stands still does nothing more. On v1 it dies only then, and there one group holds
    // a box's processes; on v2 it is thawed so that it dies where the kernel is older.
    if fs::write(members.join("cgroup.kill"), "1").is_ok() {
        drop(freeze(group, false));
        return Ok(());
    }
    for pid in listed(&members) {
        Process::end_member(pid, group)?;
    }
    // A group that is gone has nothing to thaw.
    drop(freeze(group, false));
    Ok(())
}

/// Stops every process of a box where it stands, or lets all go on; returns when the kernel says so.
pub(crate) fn freeze(group: &str, still: bool) -> io::Result<()> {
    let (file, word, told, said) = match cgroups() {
        Cgroups::V2 => {
            let path = cgroup_path(group, "");
            let told = if still { "frozen 1" } else { "frozen 0" };
            (path.join("cgroup.freeze"), if still { "1" } else { "0" }, told, path.join("cgroup.events"))
        }
        _ => {
            let file = cgroup_path(group, "freezer").join("freezer.state");
            let word = if still { "FROZEN" } else { "THAWED" };
            (file.clone(), word, word, file)
        }
    };
    for round in 0..FREEZE_ROUNDS {
        if still && file == said && round % THAW_EVERY == THAW_EVERY - 1 {
            // On v1 a freeze that meets a fork can stay half done for good; begun again, it comes to its end.
            fs::write(&file, "THAWED")?;
        }
        fs::write(&file, word)?;
        if fs::read_to_string(&said)?.lines().any(|line| line == told) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("the box's processes do not become {told}")))
}

fn hierarchies() -> Vec<PathBuf> {
    match cgroups() {
        Cgroups::V2 => vec![PathBuf::from("/sys/fs/cgroup")],
        Cgroups::V1 => fs::read_dir("/sys/fs/cgroup")
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default(),
        Cgroups::None => Vec::new(),
    }
}

/// A group and those below it, the innermost first. A box of Docker's has one of its own within the box's.
fn and_below(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        all.extend(and_below(&entry.path()));
    }
    all.push(group.to_path_buf());
    all
}

/// The processes of a group and of those below it.
fn members(group: &Path) -> Vec<u32> {
    and_below(group).iter().flat_map(|group| listed(group)).collect()
}

/// The processes of one group; none of one that ended meanwhile.
pub(crate) fn listed(group: &Path) -> Vec<u32> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The boxes of this installation that exist now: box id → processes, from the cgroups themselves.
#[must_use]
pub fn boxes(parent: &str) -> BTreeMap<String, Vec<u32>> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for hierarchy in hierarchies() {
        let own = folders(&beneath(&hierarchy, parent)).into_iter().filter_map(|path| Some((name(&path)?, path)));
        let slices = slice::group(parent).map(|slice| folders(&beneath(&hierarchy, &slice))).unwrap_or_default();
        let slices = slices.into_iter().filter_map(|path| Some((slice::box_of(parent, &name(&path)?)?, path)));
        for (name, path) in own.chain(slices) {
            let list = found.entry(name).or_default();
            for pid in members(&path) {
                if !list.contains(&pid) {
                    list.push(pid);
                }
            }
        }
    }
    found
}

fn beneath(hierarchy: &Path, group: &str) -> PathBuf {
    hierarchy.join(group.trim_start_matches('/'))
}

fn folders(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Ends every process under `parent` and removes its groups; gives the boxes' names.
pub(crate) fn reap(parent: &str) -> io::Result<Vec<String>> {
    let names: Vec<String> = boxes(parent).into_keys().collect();
    reap_these(parent, &names)?;
    Ok(names)
}

/// Ends every process of these boxes, then removes the groups of each. One that cannot be removed keeps no other.
///
/// # Errors
/// One sentence, with all that went wrong.
pub(crate) fn reap_these(parent: &str, names: &[String]) -> io::Result<()> {
    // All are ended before anybody is asked to take a group away, which may take its time.
    let ended = names.iter().map(|name| (name, end_members(&groups_of(parent, name))));
    let ended: Vec<_> = ended.collect();
    let removed = names.iter().map(|name| (name, reap_one(parent, name)));
    let wrong = ended.into_iter().chain(removed).filter_map(|(name, done)| Some(format!("{name}: {}", done.err()?)));
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(io::Error::other(wrong.join("; "))) }
}

/// The folders where the groups of a box may be, each with the group that it is.
fn groups_of(parent: &str, name: &str) -> Vec<(String, PathBuf)> {
    let hierarchies = hierarchies();
    let of = |group: String| hierarchies.iter().map(move |path| (group.clone(), beneath(path, &group)));
    of_box(parent, name).into_iter().flat_map(of).collect()
}

/// Kills every process of these groups, and has those die that are frozen; all that can be, whatever is met with one.
fn end_members(groups: &[(String, PathBuf)]) -> io::Result<()> {
    let killed = groups.iter().flat_map(|(group, path)| members(path).into_iter().map(move |pid| (pid, group)));
    let done = killed.map(|(pid, group)| Process::end_member(pid, group)).fold(Ok(()), io::Result::and);
    for freezer in groups.iter().flat_map(|(_, path)| and_below(path)).map(|group| group.join("freezer.state")) {
        // On v1 what is frozen dies when it thaws, and does nothing more before; elsewhere there is no such file.
        if freezer.exists() {
            drop(fs::write(&freezer, "THAWED"));
        }
    }
    done
}

/// Ends every process of the box `name` and removes its groups. A box that is not there is no error.
///
/// A box's helper does this by itself; this is for one whose helper was killed, or is slow and without an operator.
pub(crate) fn reap_one(parent: &str, name: &str) -> io::Result<()> {
    let (groups, slice) = (groups_of(parent, name), slice::of_box(parent, name));
    let (mut tries, mut stops) = (0, 0);
    loop {
        end_members(&groups)?;
        // By systemd first, whose it is; what it does not know of is left to us.
        if groups.iter().any(|(group, path)| slice.as_ref() == Some(group) && path.is_dir()) {
            stops += 1;
            match slice::stop_box(parent, name) {
                // One that does not answer was waited for long enough.
                Err(e) if e.kind() != io::ErrorKind::TimedOut && stops < STOPS => {
                    std::thread::sleep(STOP_AGAIN);
                    continue;
                }
                done => done?,
            }
        }
        let removed = groups.iter().flat_map(|(_, path)| and_below(path)).map(|group| match fs::remove_dir(group) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        });
        tries += 1;
        match removed.fold(Ok(()), io::Result::and) {
            // Killed is not yet gone; and one that was killed on its way into a group may still come to it.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < 1000 => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// Makes the installation's own group, if it is not there.
///
/// The runtime makes it too, and takes it for a failure when another box's helper made it between its look and its act: of
/// the first boxes that were made at the same time all but one failed. On v1 it does not.
///
/// # Errors
/// The system's own.
pub(crate) fn make_parent(parent: &str) -> io::Result<()> {
    if cgroups() != Cgroups::V2 {
        return Ok(());
    }
    match fs::create_dir(cgroup_path(parent, "")) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Removes the installation's own group and its slice, if they are empty.
pub fn remove_parent(parent: &str) {
    // Not empty, or not there: both are fine, the next operator reaps.
    for path in hierarchies() {
        drop(fs::remove_dir(beneath(&path, parent)));
    }
    let Some(slice) = slice::group(parent) else { return };
    let paths: Vec<PathBuf> =
        hierarchies().iter().map(|path| beneath(path, &slice)).filter(|path| path.is_dir()).collect();
    if paths.is_empty() || paths.iter().any(|path| !folders(path).is_empty()) {
        return;
    }
    match slice::stop_installation(parent) {
        // On v1 there may be hierarchies that systemd does not know of.
        Ok(()) => paths.iter().for_each(|path| drop(fs::remove_dir(path))),
        Err(e) => eprintln!("take away the slice {slice}, which is empty: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_group_of_a_box_is_never_killed() {
        let others = [
            "",
            "/",
            "//",
            "/volary-1",
            "/volary-1/",
            "/volary-2/b1",
            "/volary-10/b1",
            "/system.slice",
            "/system.slice/docker.service",
            "/volary.slice",
            "/volary.slice/volary-1.slice",
            "/volary.slice/volary-1.slice/",
            "/volary.slice/volary-10.slice/volary-10-b1.slice",
            "/volary.slice/volary-2.slice/volary-2-b1.slice/docker-0.scope",
        ];
        for other in others {
            let refused = kill_members("/volary-1", other).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{other:?}");
        }
        for parent in ["", "/"] {
            assert_eq!(kill_members(parent, "/b1").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{parent:?}");
        }
    }

    #[test]
    fn the_group_of_a_process_is_what_the_kernel_says_of_it_by_either_engine_and_on_either_version() {
        // As recorded of a box of Docker's each, and of processes that are none.
        let scope = "/volary.slice/volary-abcd2345.slice/volary-abcd2345-b1.slice/docker-3f1c.scope";
        assert_eq!(named(&format!("0::{scope}\n"), Cgroups::V2), Some(scope));
        assert_eq!(named("0::/volary-abcd2345/b1/3f1c\n", Cgroups::V2), Some("/volary-abcd2345/b1/3f1c"));
        let v1 = format!(
            "13:misc:/\n12:pids:{scope}\n11:hugetlb:{scope}\n5:cpu,cpuacct:{scope}\n2:devices:{scope}\n\
             1:name=systemd:{scope}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(named(&v1, Cgroups::V1), Some(scope));
        assert_eq!(named("4:cpu,pids:/volary-a/b1/3f\n0::/\n", Cgroups::V1), Some("/volary-a/b1/3f"));
        for nobodys in ["0::/\n", "", "0\n", "12:pids:/volary-a/b1\n"] {
            assert_eq!(named(nobodys, Cgroups::V2), None, "{nobodys:?}");
        }
        for nobodys in ["12:pids:/\n0::/volary-a/b1\n", "1:name=pids:/volary-a/b1\n"] {
            assert_eq!(named(nobodys, Cgroups::V1), None, "{nobodys:?}");
        }
        let own = Process::open(std::process::id()).unwrap();
        let table = fs::read_to_string("/proc/self/cgroup").unwrap();
        assert_eq!(of(&own).ok().as_deref(), named(&table, cgroups()));
    }

    /// Groups that a test made, and what it started in them.
    struct Played(Vec<PathBuf>, Vec<std::process::Child>);

    impl Played {
        /// A group in every hierarchy, with a process in it.
        fn add(&mut self, group: &str) -> io::Result<()> {
            let child = std::process::Command::new("sleep").arg("600").spawn()?;
            let number = child.id().to_string();
            self.1.push(child);
            for hierarchy in hierarchies() {
                let mut path = hierarchy;
                for part in group.trim_matches('/').split('/') {
                    path.push(part);
                    if !path.exists() {
                        fs::create_dir(&path)?;
                        self.0.push(path.clone());
                    }
                }
                // That of v1 takes none before it is told where they may run.
                if !path.starts_with("/sys/fs/cgroup/cpuset") {
                    fs::write(path.join("cgroup.procs"), &number)?;
                }
            }
            Ok(())
        }
    }

    impl Drop for Played {
        fn drop(&mut self) {
            for child in &mut self.1 {
                child.kill().and_then(|()| child.wait()).unwrap();
            }
            for path in self.0.iter().rev() {
                // What was removed by the test itself is not there.
                drop(fs::remove_dir(path));
            }
        }
    }

    #[test]
    fn a_box_that_systemd_does_not_take_away_keeps_no_other_from_its_end() {
        let label = format!("reap{}", std::process::id());
        let (parent, mut played) = (format!("/volary-{label}"), Played(Vec::new(), Vec::new()));
        // One in a slice that no systemd made: it is asked for, and can only refuse or agree.
        let slice = slice::of_box(&parent, "a").unwrap();
        if played.add(&slice).and_then(|()| played.add(&format!("{parent}/b"))).is_err() {
            return;
        }
        let names = boxes(&parent).into_keys().collect::<Vec<_>>();
        assert_eq!(names, ["a", "b"]);
        let done = reap(&parent);
        for child in &mut played.1 {
            let ended = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
        }
        assert!(!boxes(&parent).contains_key("b"), "its groups are gone");
        match done {
            Ok(names) => assert_eq!(names, ["a", "b"]),
            Err(e) => assert!(e.to_string().starts_with("a: ") && !e.to_string().contains("b: "), "{e}"),
        }
    }

    #[test]
    fn a_box_is_in_its_own_group_or_in_its_slice() {
        let slice = "/volary.slice/volary-a.slice/volary-a-b1.slice";
        assert_eq!(of_box("/volary-a", "b1"), ["/volary-a/b1", slice]);
        assert_eq!(of_box("/user.slice/x/volary-a", "b1"), ["/user.slice/x/volary-a/b1"]);
    }
}
