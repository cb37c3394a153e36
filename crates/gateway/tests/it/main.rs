//! The gateway over real sockets: a box on one side, a recorded-format provider on the other, a server
//! that speaks the grants protocol, and an operator on the cable.
//!
//! [`house`] builds all of it; the other modules are the claims.

mod cable;
mod egress;
mod formats;
mod house;
mod leases;
mod limits;
mod private;
mod proposals;
mod provider;
mod refusals;
mod scripted;
mod secrecy;
mod settling;
mod tls;
mod walls;
