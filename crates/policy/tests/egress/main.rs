//! The egress policy, as tables and properties. Hosts of registries are taken from the data, never spelled out.

mod addresses;
mod fuzz;
mod hosts;
mod law;
mod properties;
mod registries;
mod requests;
mod signs;
mod stage;
mod targets;
