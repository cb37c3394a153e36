//! The console's one style sheet, one script and one picture, carried in the binary.

use crate::guard::Public;
use crate::random;
use crate::routes::Routes;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use maud::{Markup, PreEscaped};
use std::sync::LazyLock;

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");
const MARK: &str = include_str!("mark.svg");

/// Changes with the content, so that a browser may keep what it has until then.
static VERSION: LazyLock<String> =
    LazyLock::new(|| random::sha256_hex([STYLE, SCRIPT, MARK].concat().as_bytes())[..12].to_owned());

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/assets/console.css", "The console's style sheet.", style)
        .add(Method::GET, "/assets/console.js", "The console's script.", script)
        .add(Method::GET, "/assets/mark.svg", "The console's picture.", picture)
}

/// The address of one of the three, by its name.
pub fn path(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

/// The picture, to stand in a page; it takes the colour of the text around it.
pub fn mark() -> Markup {
    PreEscaped(MARK.to_owned())
}

async fn style(_: Public) -> Response {
    answer("text/css; charset=utf-8", STYLE)
}

async fn script(_: Public) -> Response {
    answer("text/javascript; charset=utf-8", SCRIPT)
}

async fn picture(_: Public) -> Response {
    answer("image/svg+xml", MARK)
}

fn answer(kind: &'static str, body: &'static str) -> Response {
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=31536000, immutable")];
    (head, body).into_response()
}
