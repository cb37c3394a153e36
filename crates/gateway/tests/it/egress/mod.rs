//! The forward proxy, in a network of the test's own.

mod addresses;
mod allowances;
mod bands;
mod bodies;
mod encoded;
mod ends;
mod floods;
mod handles;
mod hosts;
mod images;
mod inside;
mod laws;
mod limits;
mod memory;
mod names;
mod origin;
mod outward;
mod platform;
mod reads;
mod registry;
mod said;
mod shapes;
mod tunnels;
mod upgrades;
mod world;
mod writes;
