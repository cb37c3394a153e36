//! The console over the server's real sockets, read as a browser without script reads it, and its live stream.

#[allow(dead_code, reason = "shared with the tests of the API, which use the rest")]
#[path = "../it/stage.rs"]
mod stage;

mod accounts;
mod connections;
mod denials;
mod forms;
mod leases;
mod live;
mod pages;
mod proposal;

use stage::Stage;

/// The cookie of a browser that has just signed in.
async fn sign_in(stage: &Stage) -> String {
    stage.signed_in().await
}
