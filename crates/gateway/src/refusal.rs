//! Why a request got no answer from a provider, and the answer it gets instead.
//!
//! Three kinds: the gateway's own policy (recorded by us before the answer), the server's word (already
//! recorded there), and faults. The words are written for a model: what to do, not whom to blame.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use model::event::Verdict;
use policy::egress::signs::hides_handle;

/// Longest method and target that a verdict keeps, in characters.
pub(crate) const METHOD_CHARS: usize = 32;
pub(crate) const TARGET_CHARS: usize = 256;
/// The header that names the rule, for clients that show no body (of a HEAD, of a CONNECT).
const RULE_HEADER: &str = "volary-refused";

/// A call that ends without a provider's answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) rule: String,
    pub(crate) why: String,
    pub(crate) kind: Kind,
    /// What the agent may do about it; none: what is said of every refusal.
    pub(crate) ask: Option<&'static str>,
    /// What it does to be let through, where a row allows it.
    pub(crate) next: Option<String>,
}

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A rule of the gateway: to be recorded before the answer.
    Policy,
    /// A rule of the server, recorded there.
    Denied,
    /// No rule: something is broken. It may work later.
    Fault,
}

impl Refusal {
    /// A rule of the gateway says no.
    pub(crate) fn policy(rule: &str, why: impl Into<String>) -> Self {
        let (rule, why) = (rule.to_owned(), why.into());
        Self { status: StatusCode::FORBIDDEN, rule, why, kind: Kind::Policy, ask: None, next: None }
    }
    /// The same, with another status than 403.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
    /// The same, with what the agent may do about it.
    pub(crate) fn with_ask(mut self, ask: &'static str) -> Self {
        self.ask = Some(ask);
        self
    }
    /// The same, with what the agent does to be let through.
    pub(crate) fn with_next(mut self, next: Option<String>) -> Self {
        self.next = next;
        self
    }
    /// The server says no.
    pub(crate) fn denied(rule: String, why: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, rule, why, kind: Kind::Denied, ask: None, next: None }
    }
    /// The provider could not be used; not a rule.
    pub(crate) fn fault(rule: &str, why: impl Into<String>) -> Self {
        let (rule, why) = (rule.to_owned(), why.into());
        Self { status: StatusCode::BAD_GATEWAY, rule, why, kind: Kind::Fault, ask: None, next: None }
    }
    /// The server is away: nothing can be recorded, so nothing happens.
    pub(crate) fn record_lost() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            rule: "record.lost".to_owned(),
            why: "What you do cannot be recorded at this moment, and what cannot be recorded does not happen."
                .to_owned(),
            kind: Kind::Fault,
            ask: None,
            next: None,
        }
    }

    /// The answer that the agent reads.
    pub(crate) fn answer(&self) -> Response<Full<Bytes>> {
        let (kind, message) = match (self.kind, &self.next) {
            (Kind::Policy | Kind::Denied, Some(next)) => (
                "volary_policy",
                format!(
                    "Refused by policy (rule {}), not by a fault: {} {next} No other way is open.",
                    self.rule, self.why
                ),
            ),
            (Kind::Policy | Kind::Denied, None) => (
                "volary_policy",
                format!(
                    "Refused by policy (rule {}), not by a fault: {} Do not send this again and do not look for \
                     another way out: every other way is closed too. If the task cannot be done without it, say \
                     so in your answer, name the rule and what you needed it for, and let the person who gave \
                     you the task decide.",
                    self.rule, self.why
                ),
            ),
            (Kind::Fault, _) => (
                "volary_fault",
                format!(
                    "Not answered ({}): {} This is a fault, not a rule; the same request may work later.",
                    self.rule, self.why
                ),
            ),
        };
        let is_policy = self.kind != Kind::Fault;
        let ask = self.next.as_deref().or(self.ask).filter(|_| is_policy).unwrap_or(match is_policy {
            true => "The people who own this run see this refusal; say in your answer what you needed it for.",
            false => "Try again later.",
        });
        let body = serde_json::json!({ "error": {
            "type": kind, "rule": self.rule, "why": self.why, "policy": is_policy, "retry": !is_policy, "ask": ask,
            "message": message,
        } });
        let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A rule of the server that is no header value is in the body all the same.
        if let Ok(rule) = HeaderValue::from_str(&self.rule) {
            answer.headers_mut().insert(RULE_HEADER, rule);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        answer
    }
}

/// What is known of a request so far: the verdict in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body_sha256: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) grant: Option<String>,
}

impl Trace {
    /// Notes a request's line: without query and without user information, which may hold secrets.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let uri = request.uri();
        let mut target = String::new();
        if let Some(scheme) = uri.scheme_str() {
            target.push_str(scheme);
            target.push_str("://");
        }
        if let Some(authority) = uri.authority() {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            target.push_str(if hides_handle(host.as_bytes()) { "[handle]" } else { host });
        }
        // A handle in a URL is refused, and recorded without itself.
        target.push_str(if hides_handle(uri.path().as_bytes()) { "/[handle]" } else { uri.path() });
        Self {
            method: request.method().as_str().chars().take(METHOD_CHARS).collect(),
            target: target.chars().take(TARGET_CHARS).collect(),
            ..Self::default()
        }
    }

    /// The verdict that says no.
    pub(crate) fn refused(&self, refusal: &Refusal) -> Verdict {
        Verdict {
            allowed: false,
            rule: refusal.rule.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            why: refusal.why.clone(),
            body_sha256: self.body_sha256.clone(),
            grant: self.grant.clone(),
            model: self.model.clone(),
            reserved: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_keeps_neither_query_nor_user_information_nor_handle() {
        let request =
            http::Request::get("http://joe:hunter2@host.example/a?token=x").body(()).expect("a plain request");
        assert_eq!(Trace::of(&request).target, "http://host.example/a");
        let handle = format!("vh_{}", "a".repeat(52));
        let request = http::Request::get(format!("/x/{handle}")).body(()).expect("a plain request");
        assert_eq!(Trace::of(&request).target, "/[handle]");
    }
}
