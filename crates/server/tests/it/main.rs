//! The server over its real sockets, with an operator and a gateway that the tests play.

mod stage;

mod denials;
mod doors;
mod egress;
mod exits;
mod grants;
mod link;
mod models;
mod record;
mod runs;
