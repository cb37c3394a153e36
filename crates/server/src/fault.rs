//! What a person or a program is told when something does not work.

use api::http::Problem;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use store::StoreError;

/// An answer that is not a success: a status, and a [`Problem`] that says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problem.message)]
pub struct Fault {
    /// HTTP status.
    pub status: StatusCode,
    /// What is told.
    pub problem: Problem,
}

impl Fault {
    /// A fault with a stable code and whole sentences.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Problem { code: code.to_owned(), message: message.into() } }
    }
    /// 400: the request is wrong.
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
    /// 401: nobody we know.
    #[must_use]
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "sign-in.needed", message)
    }
    /// 403: known, and not allowed.
    #[must_use]
    pub fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not.allowed", message)
    }
    /// 404.
    pub fn missing(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }
    /// 409: it does not fit how things stand.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }
    /// 500: our own fault. The cause goes to the log, not to the caller.
    pub fn ours(what: &str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!("{what}: {cause}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server.failed",
            format!("The server could not {what}; see its log."),
        )
    }
    /// Whether the same act fails the same way however often it is done: what was asked is wrong, a row cannot be read, a
    /// value cannot be sealed. Another failure of the store (a full disk, another server's act in between) may pass.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.status.is_client_error() || matches!(self.problem.code.as_str(), "store.corrupt" | "server.failed")
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |s| format!(": {s}"));
        tracing::error!("{error}{cause}");
        let code = if matches!(error, StoreError::Corrupt { .. }) { "store.corrupt" } else { "store.failed" };
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, format!("{error}; see the server's log."))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut answer = (self.status, Json(&self.problem)).into_response();
        // For the doors, which make a page of it where a browser asked.
        answer.extensions_mut().insert(self);
        answer
    }
}
