//! The contract: everything that two of our processes say to each other.
//!
//! | module | between | over |
//! |---|---|---|
//! | [`http`] | person's CLI or browser ↔ server | HTTP |
//! | [`link`] | operator → server | frames, dialled by the operator |
//! | [`grants`] | gateway → server | frames, dialled by the gateway |
//! | [`cable`] | operator → gateway | packets with file descriptors |
//! | [`inbox`] | operator ↔ runner (process 1 in the box) | frames on the runner's stdin and stdout |
//! | [`delivery`] | runner ↔ gateway | frames, on the first connection to a box's door |
//!
//! [`kept`] is what people and hosts say of worktrees that are kept, over the first two.
//! [`vault`] is how the server gets the key that its vault is wrapped with, over a pipe, and what people are told of it.
//! [`walls`] is how a confined process proves, over any of these, that its walls stand.
//! [`leases`] is how a run uses a credential that it never has, over [`grants`] and a box's own door.
//! [`connections`] is how people see and set OAuth connections, over [`http`].
//! [`platform`] is what the server asks of the outside through the gateway, over [`grants`].
//! [`git`] is what is asked before each request to a repository, over [`grants`].
//! [`images`] is how parts of a registry's image come to the operator, over a socket that [`cable`] brings.
//! [`changes`] is the stream of files between the worktree and the repository.
//! [`frame`] is the envelope of all but HTTP. Nothing here decides anything.

pub mod cable;
pub mod changes;
pub mod connections;
pub mod delivery;
pub mod denials;
pub mod frame;
pub mod git;
pub mod grants;
pub mod http;
pub mod images;
pub mod inbox;
pub mod kept;
pub mod leases;
pub mod link;
pub mod platform;
pub mod steps;
pub mod vault;
pub mod walls;
