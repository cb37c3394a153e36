//! Profiles: TOML files that an administrator writes in the home's `profiles/`, and the built-in one.

use crate::fault::Fault;
use model::Profile;
use model::profile::TOOLS;
use std::io::ErrorKind;
use std::path::{Component, Path};

/// The built-in profile's name.
pub const DEFAULT: &str = "default";

/// Longest profile file, in bytes.
const MAX_FILE: usize = 256 * 1024;

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
/// 400 and 404 that name the file, the line and what to do.
pub fn load(dir: &Path, name: &str) -> Result<Profile, Fault> {
    if !plain(name) {
        return Err(Fault::bad("profile.name", format!("{name:?} is no profile's name: it takes a-z, 0-9 and '-'.")));
    }
    let path = dir.join(format!("{name}.toml"));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound && name == DEFAULT => return Ok(Profile::default()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let message = format!("There is no profile {name:?}; write one in {}.", path.display());
            return Err(Fault::missing("profile.unknown", message));
        }
        Err(e) => {
            return Err(Fault::bad(
                "profile.unreadable",
                format!("The profile {} cannot be read: {e}.", path.display()),
            ));
        }
    };
    let wrong = |why: &str| Fault::bad("profile.wrong", format!("The profile {} is wrong: {why}", path.display()));
    if text.len() > MAX_FILE {
        return Err(wrong("it is longer than 256 KiB."));
    }
    let text = String::from_utf8(text).map_err(|_| wrong("it is not UTF-8."))?;
    let profile: Profile = toml::from_str(&text).map_err(|e| wrong(e.to_string().trim_end()))?;
    check(&profile).map_err(|why| wrong(&why))?;
    Ok(profile)
}

/// What a profile must be beyond its form.
fn check(profile: &Profile) -> Result<(), String> {
    for folder in &profile.folders {
        let path = &folder.path;
        let normal = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !normal || path == Path::new("/") {
            return Err(format!("the folder {} is not an absolute path without '..' below '/'.", path.display()));
        }
    }
    if let Some(tool) = profile.tools.iter().find(|tool| !TOOLS.contains(&tool.as_str())) {
        return Err(format!("there is no tool {tool:?}; the tools are {}.", TOOLS.join(", ")));
    }
    policy::egress::Law::of(&profile.egress).map_err(|wrong| format!("{wrong}."))?;
    let l = &profile.limits;
    let all = [
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
    ];
    for (name, value) in all {
        if value == 0 || value > 1 << 40 {
            return Err(format!("limits.{name} is {value}; it takes 1 to {}.", 1u64 << 40));
        }
    }
    Ok(())
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
    fn a_file_without_a_description_has_none_and_not_the_built_in_ones() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.toml"), "[limits]\nturns = 3\n").unwrap();
        let profile = load(dir.path(), "p").unwrap();
        assert_eq!((profile.description.as_str(), profile.limits.turns), ("", 3));
        // What else it leaves out is the built-in one's.
        assert_eq!(profile.limits.seconds, Profile::default().limits.seconds);
    }

    #[test]
    fn the_built_in_profile_needs_no_file_and_a_name_cannot_climb() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), "default").unwrap(), Profile::default());
        assert_eq!(load(dir.path(), "../x").unwrap_err().problem.code, "profile.name");
        assert_eq!(load(dir.path(), "other").unwrap_err().problem.code, "profile.unknown");
    }
}
