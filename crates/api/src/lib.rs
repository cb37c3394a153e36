//! The contract: everything that two of our processes say to each other.
//!
//! | module | between | over |
//! |---|---|---|
//! | [`http`] | person's CLI or browser ↔ server | HTTP |
//! | [`link`] | operator → server | frames, dialled by the operator |
//! | [`grants`] | gateway → server | frames, dialled by the gateway |
//! | [`cable`] | operator → gateway | packets with file descriptors |
//! | [`inbox`] | operator ↔ runner (process 1 in the box) | frames on the runner's stdin and stdout |
//!
//! [`kept`] is what people and hosts say of worktrees that are kept, over the first two.
//! [`walls`] is how a confined process proves, over any of these, that its walls stand.
//! [`changes`] is the stream of files between the worktree and the repository.
//! [`frame`] is the envelope of all but HTTP. Nothing here decides anything.

pub mod cable;
pub mod changes;
pub mod denials;
pub mod frame;
pub mod grants;
pub mod http;
pub mod inbox;
pub mod kept;
pub mod link;
pub mod steps;
pub mod walls;
