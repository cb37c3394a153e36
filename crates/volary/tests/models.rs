//! Model providers as a run meets them, over the wire formats that they really speak: through the real binary, a real
//! box, and a provider on loopback that keeps what it got.
//!
//! Read `calls` (whole runs), `keys` (what a provider that gives its key away can reach), `found` (a credential
//! that lies in a repository), `logs` (that no log holds a key), `trouble` (what goes wrong), then `settings` (what is refused
//! before anything runs).

#[path = "models/calls.rs"]
mod calls;
#[path = "models/found.rs"]
mod found;
#[path = "models/keys.rs"]
mod keys;
#[path = "models/logs.rs"]
mod logs;
#[path = "models/settings.rs"]
mod settings;
mod shared;
#[path = "models/trouble.rs"]
mod trouble;
