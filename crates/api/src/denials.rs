//! What a run was refused, why, and what a person may do about it.
//!
//! Read [`DenialView`], then [`ChangeView`] (what accepting would do), [`Allow`] and [`Allowed`].

use model::{Moment, RunId};
use serde::{Deserialize, Serialize};

/// `GET /api/runs/{run}/denials`: one refusal, and how often it came. Those of the same rule, method and target are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DenialView {
    /// Its number in the run, from 1, in the order in which they first came; it never changes.
    pub n: u64,
    /// Place in the transcript of the first one.
    pub entry: u64,
    /// When the first one came.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub first: Moment,
    /// When the last one came.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub last: Moment,
    /// How often it came.
    pub times: u64,
    /// Stable name of the rule.
    pub rule: String,
    /// The method, as the box sent it.
    pub method: String,
    /// The target, as the box sent it, without query.
    pub target: String,
    /// Why, as the agent read it.
    pub why: String,
    /// Which wall it met, one sentence.
    pub wall: String,
    /// The run's profile.
    pub profile: String,
    /// What would allow it; none where none is offered.
    pub proposal: Option<ProposalView>,
    /// Why none is offered, one or two sentences; none where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unoffered: Option<String>,
}

/// The narrowest change of a profile that would allow what was refused. It allows nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProposalView {
    /// The rows, in TOML; with blanks that a person fills in.
    pub toml: String,
    /// What they would newly open.
    pub opens: String,
    /// What a person has to fill in: `capability`, `addresses`, or nothing.
    pub blank: Option<Blank>,
    /// Whether the run's own table allows it by now.
    pub holds: bool,
}

/// What a proposal cannot know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Blank {
    /// The name of the credential in whose name it is written.
    Capability,
    /// The ranges in which every address of the service lies.
    Addresses,
}

/// What a person fills in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// For a write: NAME of the secret `capability/NAME`.
    pub capability: String,
    /// For a service inside: its ranges, with spaces or commas between them.
    pub addresses: String,
    /// For a service inside: why, at most 200 characters.
    pub why: String,
}

/// `GET /api/runs/{run}/denials/{n}/change`: what accepting a proposal on these terms would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeView {
    /// The run.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub run: RunId,
    /// Number of the refusal.
    pub n: u64,
    /// The profile that is changed.
    pub profile: String,
    /// What this was worked out from: the profile's file and the run's table, as a number. Accepting says it back.
    pub seen: String,
    /// The rows, filled in.
    pub toml: String,
    /// What they newly open.
    pub opens: String,
    /// The change of the profile's file, as a unified diff; empty when the file allows it already.
    pub diff: String,
    /// Whether the file that takes the built-in profile's place is made by this.
    pub makes: bool,
    /// Whether the run goes on by the wider table at once. Not when it is over, nor when its table allows it already.
    pub live: bool,
    /// Whether both, run and profile, allow it already, so that nothing is left to do.
    pub done: bool,
}

/// `POST /api/runs/{run}/denials/{n}/allow`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// [`ChangeView::seen`] of what the person looked at.
    pub seen: String,
    /// What was filled in.
    #[serde(default)]
    pub terms: Terms,
}

/// What accepting came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allowed {
    /// The profile.
    pub profile: String,
    /// SHA-256 of the profile's file as it is now, hex.
    pub version: String,
    /// Whether anything was changed; accepting a second time changes nothing.
    pub changed: bool,
    /// Whether the live run goes on by the wider table.
    pub live: bool,
}
