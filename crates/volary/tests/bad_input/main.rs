//! What bad input gets: an error that names the thing and the way out, nothing lost, nothing left behind.
//!
//! Every platform here is ended by the test kit, which then finds no mount, loop device, control group or process of it.

mod homes;
mod hosts;
mod model_answers;
mod repositories;
mod support;
