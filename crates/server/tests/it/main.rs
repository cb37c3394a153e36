//! The server over its real sockets, with an operator and a gateway that the tests play.

mod stage;

mod connections;
mod denials;
mod doors;
mod egress;
mod ended;
mod exits;
mod git;
mod grants;
mod images;
mod leases;
mod link;
mod mint;
mod models;
mod pause;
mod proposals;
mod record;
mod rows;
mod runs;
mod secrets;
