//! The console: pages for people, rendered here, live by server-sent events.
//!
//! Its routes go through the same guarded builder as the API's.

mod sign_in;

use crate::routes::Routes;

/// The console's routes.
#[must_use]
pub fn routes() -> Routes {
    sign_in::routes()
}
