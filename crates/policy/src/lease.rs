//! How long a lease lives and how many there may be: by what it is for, with floors and ceilings that no profile passes.
//!
//! Read [`of`] (the table), then [`Term::of`] (what holds for one capability).

use model::capability::{Capability, Kind};

/// What holds for one kind of capability, unless its profile says less or, up to the ceiling, more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds of a lease: unless said, at least, at most.
    pub seconds: (u32, u32, u32),
    /// Leases in one minute: unless said, at most.
    pub per_minute: (u32, u32),
    /// Leases in one run: unless said, at most.
    pub per_run: (u32, u32),
}

/// The table.
#[must_use]
pub const fn of(kind: Kind) -> Bounds {
    match kind {
        // A push of a large pack over a slow line takes minutes, and there are few in a run.
        Kind::GitPush => Bounds { seconds: (600, 30, 600), per_minute: (6, 30), per_run: (60, 600) },
        // One call of a tool; it is asked for when it is made.
        Kind::Tool => Bounds { seconds: (60, 5, 60), per_minute: (60, 600), per_run: (1_000, 20_000) },
        // As long as a command may need; the default is far below what a command may run.
        Kind::Command => Bounds { seconds: (120, 5, 600), per_minute: (30, 120), per_run: (200, 2_000) },
    }
}

/// What holds for the leases of one capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// How long one lives.
    pub seconds: u32,
    /// How many there may be in one minute.
    pub per_minute: u32,
    /// How many there may be in one run.
    pub per_run: u32,
}

impl Term {
    /// What holds for this capability.
    ///
    /// # Errors
    /// What of it is beyond its kind's bounds.
    pub fn of(capability: &Capability) -> Result<Self, String> {
        let Bounds { seconds, per_minute, per_run } = of(capability.kind);
        let within = |name: &str, said: Option<u32>, (usual, least, most): (u32, u32, u32)| match said {
            None => Ok(usual),
            Some(n) if (least..=most).contains(&n) => Ok(n),
            Some(n) => Err(format!(
                "capability {:?}: {name} is {n}; of the kind `{}` it takes {least} to {most}",
                capability.name,
                capability.kind.word()
            )),
        };
        Ok(Self {
            seconds: within("seconds", capability.seconds, seconds)?,
            per_minute: within("per-minute", capability.per_minute, (per_minute.0, 1, per_minute.1))?,
            per_run: within("per-run", capability.per_run, (per_run.0, 1, per_run.1))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(kind: Kind, seconds: Option<u32>) -> Capability {
        Capability {
            name: "x".into(),
            secret: "capability/x".into(),
            kind,
            destinations: vec!["x".into()],
            delivery: model::capability::Delivery::Proxy,
            executables: Vec::new(),
            seconds,
            per_minute: None,
            per_run: None,
        }
    }

    #[test]
    fn a_push_has_ten_minutes_a_tool_one_and_no_profile_gives_more() {
        let seconds = |kind, said| Term::of(&capability(kind, said)).map(|term| term.seconds);
        assert_eq!(seconds(Kind::GitPush, None), Ok(600));
        assert_eq!(seconds(Kind::Tool, None), Ok(60));
        assert_eq!(seconds(Kind::Command, None), Ok(120));
        for kind in Kind::ALL {
            let (_, least, most) = of(kind).seconds;
            assert_eq!(seconds(kind, Some(least)), Ok(least));
            assert_eq!(seconds(kind, Some(most)), Ok(most));
            assert!(
                seconds(kind, Some(least - 1)).is_err()
                    && seconds(kind, Some(most + 1)).unwrap_err().contains("seconds")
            );
        }
    }

    #[test]
    fn a_cap_is_at_least_one_and_at_most_its_kinds() {
        for kind in Kind::ALL {
            let with = |per_minute, per_run| Term::of(&Capability { per_minute, per_run, ..capability(kind, None) });
            let Bounds { per_minute, per_run, .. } = of(kind);
            assert!(with(Some(0), None).is_err() && with(None, Some(0)).is_err());
            assert!(with(Some(per_minute.1 + 1), None).is_err() && with(None, Some(per_run.1 + 1)).is_err());
            let most = with(Some(per_minute.1), Some(per_run.1)).unwrap();
            assert_eq!((most.per_minute, most.per_run), (per_minute.1, per_run.1));
            assert!(per_minute.0 <= per_minute.1 && per_run.0 <= per_run.1);
        }
    }
}
