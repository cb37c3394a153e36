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

use api::http::SignInLink;
use http::Method;
use stage::Stage;

/// The cookie of a browser that has just signed in.
async fn sign_in(stage: &Stage) -> String {
    let link: SignInLink = stage.home(Method::POST, "/api/sign-in", None).await.json();
    let path = link.url.split_once(&format!(":{}", stage.port)).unwrap().1.to_owned();
    let redeemed = stage.tcp(Method::POST, &path, &[], "").await;
    redeemed.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}
