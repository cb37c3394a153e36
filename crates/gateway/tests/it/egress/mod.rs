//! The forward proxy, in a network of the test's own.

mod addresses;
mod hosts;
mod inside;
mod laws;
mod names;
mod origin;
mod outward;
mod reads;
mod shapes;
mod tunnels;
mod world;
mod writes;
