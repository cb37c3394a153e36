//! Boxes: the only container engine in the house.
//!
//! A box is made from a [`harden::HardenedSpec`], which only [`harden::harden`] can make, by a helper
//! process of its own ([`helper`]): single-threaded, because the runtime forks; the box's parent and reaper;
//! the owner of its mounts. When the helper's socket to the operator ends, the box ends.
//!
//! Read [`harden`] (what is promised), `folders` (what a profile may show of the host), [`embedded`] (the operator's side),
//! [`helper`] (the making), `uids` (whose number is whose),
//! `layers` (the host's files with inodes of the box's own), [`worktree`] (the files), [`cable`] (the one door),
//! [`read_back`] (what is believed), `group` (what is ended and stopped together), `slice` (where Docker's boxes are
//! under systemd), `held` (what no group bounds), then [`warm`] (boxes that wait for a run).

pub mod cable;
pub mod changes;
pub mod docker;
pub mod doctor;
pub mod embedded;
mod folders;
mod group;
pub mod harden;
mod held;
pub mod helper;
pub mod image;
mod layers;
pub mod oci;
pub mod packet;
mod process;
pub mod read_back;
pub mod rootless;
mod slice;
mod sole;
pub mod strays;
mod uids;
pub mod warm;
mod weigh;
pub mod worktree;

pub use embedded::{BoxError, Created, Ended, Host, LiveBox};
pub use harden::{BoxPlan, HardenedSpec};
pub use held::{Held, page_kib};
pub use warm::{ClaimError, Warm};
