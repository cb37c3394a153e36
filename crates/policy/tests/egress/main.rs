//! The egress policy, as tables and properties. Hosts of registries are taken from the data, never spelled out.

mod addresses;
mod denials;
mod fuzz;
mod hosts;
mod law;
mod properties;
mod registries;
mod requests;
mod rows;
mod signs;
mod stage;
mod targets;
