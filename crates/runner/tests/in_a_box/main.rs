//! The built runner as process 1 of real namespaces. Needs root, `unshare`, `sh` and `perl`, as a bare Debian has them.

mod agent;
mod bearer;
mod bearer_attacks;
mod bearer_git;
mod exec;
mod gateway;
mod limits;
mod no_shell;
mod output;
mod support;
mod walls;
