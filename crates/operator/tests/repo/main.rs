//! Reading and importing on real repositories, through the real processes.

mod bounds;
mod end;
mod import;
mod read;
mod serve;
mod support;
