//! The nouns: typed ids, bounded numbers, secrets, and the records that cross
//! between processes. No I/O and no clock here; callers pass what they measured.
//!
//! Read [`id`] (who is who), [`run`] (one unit of work), [`event`] (what can
//! happen in one), [`profile`] (what one may be), [`egress`] (what one may reach), [`capability`] (what one may
//! use without having it), [`mint`] (what a vendor makes narrower keys of), [`image`] (what a registry has), then
//! [`secret`].

pub mod capability;
pub mod egress;
pub mod event;
pub mod id;
pub mod image;
pub mod managed;
pub mod mint;
pub mod money;
pub mod profile;
pub mod provider;
pub mod repository;
pub mod run;
pub mod secret;
pub mod time;
pub mod unanswered;

pub use egress::Egress;
pub use event::{Entry, Event};
pub use id::{BoxId, GrantId, LeaseId, PersonId, RunId, WorkspaceId};
pub use money::MicroDollars;
pub use profile::{Limits, Profile};
pub use provider::{Dialect, Usage};
pub use repository::{Author, Authors, Forge, Proposals, Repository};
pub use run::{Outcome, RunState};
pub use secret::Secret;
pub use time::Moment;
pub use unanswered::Unanswered;
