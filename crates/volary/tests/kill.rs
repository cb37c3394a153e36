//! Kill anything: `kill -9` of server, gateway, operator, runner, agent, helper, and of `up` itself, at every moment.
//!
//! What must be true afterwards: no box lives that no run owns; no run is in limbo (it goes on in a new box on its kept
//! worktree, or failed with the reason); no event that the operator's journal held is lost or doubled; a command that
//! was running is told to the agent as "outcome unknown" and is never silently repeated; no handle outlives its run;
//! nothing is left behind.
//!
//! Read `world` (whom to kill, and what must hold), then `cases` (each victim at a chosen moment), then `anything`
//! (any victim at random moments, from a seed that is printed).

#[path = "kill/anything.rs"]
mod anything;
#[path = "kill/cases.rs"]
mod cases;
#[path = "kill/world.rs"]
mod world;
