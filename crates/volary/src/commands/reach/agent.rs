//! Which agent a run of a profile has, and what that can do by itself.

use model::Profile;

/// The agents that a run can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agent {
    /// The one that this program carries.
    Ours,
}

/// That of a run of this profile. A profile has no word for another ([decision
/// 0048](../../../../../docs/decisions/0048-reach-says-of-an-agent-what-its-name-is-known-to-carry.md)); one that gets it
/// is asked here.
fn of(_: &Profile) -> Agent {
    Agent::Ours
}

impl Agent {
    /// What is known of its own file.
    fn carries(self) -> &'static str {
        match self {
            Self::Ours => "ours carries no interpreter and refuses itself new code in its memory",
        }
    }
}

/// What the agent of this profile's runs can compute without a command.
pub fn computes(profile: &Profile) -> String {
    format!(
        "by itself, without a command, it can compute whatever its own file can: {}; it reads the files above and speaks to \
         the door",
        of(profile).carries()
    )
}

#[cfg(test)]
#[path = "../../../../runner/src/walls/program.rs"]
mod program;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_agent_it_is_told_what_it_can_compute_by_itself_and_whether_it_carries_an_interpreter() {
        let told = computes(&Profile::default());
        for words in
            ["whatever its own file can", "ours carries no interpreter", "refuses itself new code in its memory"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    #[test]
    fn a_profile_has_no_word_for_an_agent_that_is_not_ours() {
        for word in ["agent = \"other\"", "[agent]\nprogram = \"other\"", "agents = [\"other\"]", "program = \"other\""]
        {
            let refused = toml::from_str::<Profile>(word).unwrap_err().to_string();
            assert!(refused.contains("unknown field"), "{refused}");
        }
        // The control: what it does have a word for.
        assert_eq!(of(&toml::from_str("tools = [\"read\"]").unwrap()), Agent::Ours);
    }

    #[test]
    fn the_agent_that_this_program_carries_is_one_file_which_no_loader_adds_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent");
        std::fs::write(&file, crate::process::AGENT).unwrap();
        assert_eq!(program::loader(&file).unwrap(), None);
        // The control: a program that has one, as this test has.
        let own = std::env::current_exe().unwrap();
        assert!(program::loader(&own).unwrap().is_some());
    }
}
