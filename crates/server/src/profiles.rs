//! Profiles: TOML files that an administrator writes in the home's `profiles/`, and the built-in one; beside them there
//! may be a list by which the package registries of this home differ from those that come with Volary.

use crate::fault::Fault;
use model::Profile;
use model::profile::TOOLS;
use policy::egress::registries::{self, Registries};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The built-in profile's name.
pub const DEFAULT: &str = "default";

/// The home's own list of registries, beside the profiles. Every profile is read with it.
pub const REGISTRIES: &str = "registries.txt";

/// Longest profile file, and longest list of registries, in bytes.
pub(crate) const MAX_FILE: usize = 256 * 1024;

/// The names of the profiles there are: the built-in one first, then the files of `dir` that have a profile's name. What
/// is wrong inside one is told when it is used.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .filter(|name| name != DEFAULT && plain(name))
        .collect();
    names.sort();
    names.insert(0, DEFAULT.to_owned());
    names
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads the profile `name` of the folder `dir`. A file `default.toml` takes the built-in one's place.
///
/// # Errors
/// 400 and 404 that name the file, the line and what to do: of the profile, or of the list beside it.
pub fn load(dir: &Path, name: &str) -> Result<Profile, Fault> {
    let profile = parse(dir, name)?;
    let path = place(dir, name);
    if let Some(why) = faults(&profile).into_iter().next() {
        return Err(wrong("profile", &path, &why));
    }
    policy::delivery::profile(&profile.capability, &profile.variables)
        .map_err(|no| Fault::bad(no.rule, format!("The profile {} is refused: {}", path.display(), no.why)))?;
    Ok(profile)
}

/// All that is wrong with the profile `name`, as far as one can go on reading it, and the profile where it is one at all.
/// What it names elsewhere (secrets, a model, an image) is not looked at here.
#[must_use]
pub fn looked_through(dir: &Path, name: &str) -> (Option<Profile>, Vec<String>) {
    match parse(dir, name) {
        Err(fault) => (None, vec![fault.problem.message]),
        Ok(profile) => {
            let mut all = faults(&profile);
            all.extend(policy::delivery::profile(&profile.capability, &profile.variables).err().map(|no| no.why));
            (Some(profile), all)
        }
    }
}

fn place(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.toml"))
}

/// The profile by its form, with the registries of this home.
fn parse(dir: &Path, name: &str) -> Result<Profile, Fault> {
    if !plain(name) {
        return Err(Fault::bad("profile.name", format!("{name:?} is no profile's name: it takes a-z, 0-9 and '-'.")));
    }
    let path = place(dir, name);
    let wrong = |why: &str| wrong("profile", &path, why);
    let mut profile: Profile = match read("profile", &path)? {
        Some(text) => toml::from_str(&text).map_err(|e| wrong(e.to_string().trim_end()))?,
        None if name == DEFAULT => Profile::default(),
        None => {
            let message = format!("There is no profile {name:?}; write one in {}.", path.display());
            return Err(Fault::missing("profile.unknown", message));
        }
    };
    if !profile.egress.registries.is_empty() {
        return Err(wrong(&format!("registries stand in the list {REGISTRIES} beside it, for all profiles.")));
    }
    profile.egress.registries = own_registries(dir)?;
    Ok(profile)
}

/// The lines by which this home's registries differ; none without a list.
fn own_registries(dir: &Path) -> Result<Vec<String>, Fault> {
    let path = dir.join(REGISTRIES);
    let Some(text) = read("list of registries", &path)? else { return Ok(Vec::new()) };
    let amended = Registries::built_in().amended(&text);
    amended.map_err(|why| wrong("list of registries", &path, &format!("{why}.")))?;
    Ok(registries::lines(&text).map(|(_, line)| line.to_owned()).collect())
}

fn wrong(what: &str, path: &Path, why: &str) -> Fault {
    Fault::bad("profile.wrong", format!("The {what} {} is wrong: {why}", path.display()))
}

/// A file's text; none when there is no such file.
fn read(what: &str, path: &Path) -> Result<Option<String>, Fault> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            let message = format!("The {what} {} cannot be read: {e}.", path.display());
            return Err(Fault::bad("profile.unreadable", message));
        }
    };
    if text.len() > MAX_FILE {
        return Err(wrong(what, path, "it is longer than 256 KiB."));
    }
    String::from_utf8(text).map(Some).map_err(|_| wrong(what, path, "it is not UTF-8."))
}

/// What is wrong with a profile beyond its form: the first of each kind.
fn faults(profile: &Profile) -> Vec<String> {
    let mut all = Vec::new();
    for folder in &profile.folders {
        let path = &folder.path;
        let normal = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !normal || path == Path::new("/") {
            all.push(format!("the folder {} is not an absolute path without '..' below '/'.", path.display()));
        }
    }
    for tool in profile.tools.iter().filter(|tool| !TOOLS.contains(&tool.as_str())) {
        all.push(format!("there is no tool {tool:?}; the tools are {}.", TOOLS.join(", ")));
    }
    let capabilities = model::capability::check(&profile.capability, &profile.variables);
    all.extend(capabilities.err().map(|wrong| format!("{wrong}.")));
    all.extend(
        profile.capability.iter().filter_map(|row| policy::lease::Term::of(row).err()).map(|why| format!("{why}.")),
    );
    all.extend(policy::git::check(&profile.repository).err().map(|wrong| format!("{wrong}.")));
    all.extend(policy::egress::Law::of(&profile.egress).err().map(|wrong| format!("{wrong}.")));
    let l = &profile.limits;
    let limits = [
        ("memory-mib", l.memory_mib),
        ("cpu-millis", l.cpu_millis),
        ("processes", l.processes),
        ("open-files", l.open_files),
        ("worktree-mib", l.worktree_mib),
        ("scratch-mib", l.scratch_mib),
        ("seconds", l.seconds),
        ("command-seconds", l.command_seconds),
        ("turns", l.turns),
        ("tokens", l.tokens),
        ("output-mib", l.output_mib),
        ("output-kib-per-second", l.output_kib_per_second),
    ];
    for (name, value) in limits {
        if value == 0 || value > 1 << 40 {
            all.push(format!("limits.{name} is {value}; it takes 1 to {}.", 1u64 << 40));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.toml"), text).unwrap();
        load(dir.path(), "p").map_or_else(|f| f.problem.message, |_| String::new())
    }

    #[test]
    fn the_names_are_the_built_in_one_and_every_file_that_could_be_a_profile() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["zeta.toml", "default.toml", "a-1.toml", "Upper.toml", "notes.txt", ".toml"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(names(dir.path()), ["default", "a-1", "zeta"]);
        assert_eq!(names(&dir.path().join("none")), ["default"]);
    }

    #[test]
    fn a_typo_names_the_file_and_the_line() {
        let said = message("description = \"x\"\n\n[limits]\nmemory-mb = 5\n");
        assert!(said.contains("p.toml") && said.contains("line 4") && said.contains("memory-mb"), "{said}");
    }

    #[test]
    fn a_folder_that_climbs_an_unknown_tool_and_a_limit_of_nothing_are_refused() {
        assert!(message("folders = [{ path = \"/a/../etc\" }]").contains(".."));
        assert!(message("folders = [{ path = \"a\" }]").contains("absolute"));
        assert!(message("tools = [\"teleport\"]").contains("teleport"));
        assert!(message("[limits]\nturns = 0").contains("limits.turns"));
        assert_eq!(message("folders = [{ path = \"/opt/x\" }]\ntools = [\"shell\"]"), "");
    }

    #[test]
    fn whoever_looks_a_profile_through_is_told_of_everything_that_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "folders = [{ path = \"a\" }]\ntools = [\"teleport\"]\n[limits]\nturns = 0\ntokens = 0\n\
                    [variables]\nOPENAI_API_KEY = \"x\"\n";
        std::fs::write(dir.path().join("p.toml"), text).unwrap();
        let (profile, wrong) = looked_through(dir.path(), "p");
        assert_eq!((profile.unwrap().limits.turns, wrong.len()), (0, 5), "{wrong:#?}");
        for told in ["folder a", "teleport", "limits.turns", "limits.tokens", "OPENAI_API_KEY"] {
            assert!(wrong.iter().any(|why| why.contains(told)), "{told}: {wrong:#?}");
        }
        // A run is told of the first.
        assert!(load(dir.path(), "p").unwrap_err().problem.message.contains("folder a"));
        assert_eq!(looked_through(dir.path(), "default"), (Some(Profile::default()), Vec::new()));
        let (none, wrong) = looked_through(dir.path(), "none");
        assert!(none.is_none() && wrong.len() == 1, "{wrong:?}");
    }

    #[test]
    fn a_file_without_a_description_has_none_and_not_the_built_in_ones() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.toml"), "[limits]\nturns = 3\n").unwrap();
        let profile = load(dir.path(), "p").unwrap();
        assert_eq!((profile.description.as_str(), profile.limits.turns), ("", 3));
        // What else it leaves out is the built-in one's.
        assert_eq!(profile.limits.seconds, Profile::default().limits.seconds);
    }

    #[test]
    fn a_profiles_file_of_256_kib_is_read_and_one_of_a_byte_more_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        let text = |length: usize| format!("[limits]\nturns = 3\n{}", "#".repeat(length - 19));
        std::fs::write(&path, text(256 * 1024)).unwrap();
        assert_eq!(load(dir.path(), "p").unwrap().limits.turns, 3);
        std::fs::write(&path, text(256 * 1024 + 1)).unwrap();
        let fault = load(dir.path(), "p").unwrap_err();
        assert!(fault.problem.message.contains("256 KiB"), "{}", fault.problem.message);
    }

    #[test]
    fn the_list_of_registries_beside_the_profiles_holds_for_each_of_them_and_a_wrong_one_starts_no_run() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join(REGISTRIES);
        std::fs::write(dir.path().join("p.toml"), "[egress]\nreads = \"packages\"\npackages = [\"php\"]\n").unwrap();
        assert!(load(dir.path(), "p").unwrap_err().problem.message.contains("no package group \"php\""));
        std::fs::write(&list, "# ours\n\norg.example.php php ours\n").unwrap();
        for name in ["p", "default"] {
            assert_eq!(load(dir.path(), name).unwrap().egress.registries, ["org.example.php php ours"], "{name}");
        }
        // It is kept with a run as text of its profile, and read back.
        let kept = serde_json::to_string(&load(dir.path(), "p").unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&kept).unwrap(), load(dir.path(), "p").unwrap());
        std::fs::write(&list, "# ours\n\norg.example.php PHP ours\n").unwrap();
        for name in ["p", "default"] {
            let said = load(dir.path(), name).unwrap_err().problem.message;
            assert!(said.contains(REGISTRIES) && said.contains("line 3"), "{name}: {said}");
        }
        std::fs::write(&list, [0xff]).unwrap();
        assert!(load(dir.path(), "default").unwrap_err().problem.message.contains("not UTF-8"));
        std::fs::write(&list, "#".repeat(MAX_FILE + 1)).unwrap();
        assert!(load(dir.path(), "default").unwrap_err().problem.message.contains("256 KiB"));
        std::fs::remove_file(&list).unwrap();
        std::fs::write(dir.path().join("p.toml"), "[egress]\nregistries = [\"org.example.x rust x\"]\n").unwrap();
        assert!(load(dir.path(), "p").unwrap_err().problem.message.contains("beside it"));
    }

    #[test]
    fn the_built_in_profile_needs_no_file_and_a_name_cannot_climb() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), "default").unwrap(), Profile::default());
        assert_eq!(load(dir.path(), "../x").unwrap_err().problem.code, "profile.name");
        assert_eq!(load(dir.path(), "other").unwrap_err().problem.code, "profile.unknown");
    }
}
