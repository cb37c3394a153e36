//! What a person does, one file a command.

pub mod backup;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod exec;
pub mod explain;
pub mod goldens;
pub mod kept;
pub mod leases;
pub mod log;
pub mod models;
pub mod platform;
pub mod profile;
pub mod reach;
pub mod run;
pub mod scrub;
pub mod secrets;
pub mod show;
pub mod status;
pub mod transcript;
pub mod vault;
pub mod verify;
