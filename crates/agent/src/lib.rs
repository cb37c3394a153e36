//! Our agent: what stands in the box beside the runner and works on the task.
//!
//! It is given no more trust than any other agent. It holds no key (its handle is worth something on its
//! run's listener only), speaks no TLS, and after its start it can execute nothing ([`walls`]): commands are
//! *asked for* from the runner over the Agent Client Protocol.
//!
//! Read [`turns`] first: the loop as a pure state machine, whose steps are the record that a run is resumed
//! and replayed from. Then [`wire`] (four wire formats of models, built and read), [`door`] (one model call over the
//! run's listener), [`tools`] (what the model may do), [`drive`] (steps in, effects carried out), and
//! [`acp`] (what is said on stdin and stdout, and the small JSON-RPC under it).

pub mod acp;
pub mod door;
pub mod drive;
mod lived;
pub mod prompt;
pub mod rpc;
pub mod tools;
pub mod turns;
pub mod walls;
pub mod wire;

pub use turns::{BadHistory, context_at};
