//! Why a request got no answer from a provider, and the answer it gets instead.
//!
//! Three kinds: the gateway's own policy (recorded by us before the answer), the server's word (already
//! recorded there), and faults. The words are written for a model: what to do, not whom to blame.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use model::Unanswered;
use model::event::Verdict;
use policy::egress::signs::hides_handle;

/// Longest method and target that a verdict keeps, in characters.
pub(crate) const METHOD_CHARS: usize = 32;
pub(crate) const TARGET_CHARS: usize = 256;
/// The server's word for what it could not decide or record.
const SERVER_FAILED: &str = "server.failed";
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
    /// What it does to be let through: where a row allows it, or where the request is to be sent otherwise. Of a fault,
    /// whom it tells what.
    pub(crate) next: Option<String>,
    /// What went wrong outside, where that is why.
    pub(crate) unanswered: Option<Unanswered>,
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
        let next = policy::egress::next::of(rule).map(str::to_owned);
        Self { next, ..Self::of(StatusCode::FORBIDDEN, Kind::Policy, rule.to_owned(), why.into()) }
    }
    fn of(status: StatusCode, kind: Kind, rule: String, why: String) -> Self {
        Self { status, rule, why, kind, ask: None, next: None, unanswered: None }
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
    /// The server says no; or that it could not decide or record it, which is nobody's rule.
    pub(crate) fn denied(rule: String, why: String) -> Self {
        if rule == SERVER_FAILED {
            return Self::of(StatusCode::SERVICE_UNAVAILABLE, Kind::Fault, rule, why);
        }
        let next = policy::egress::next::of(&rule).map(str::to_owned);
        Self { next, ..Self::of(StatusCode::FORBIDDEN, Kind::Denied, rule, why) }
    }
    /// The provider could not be used; not a rule.
    pub(crate) fn fault(rule: &str, why: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_GATEWAY, Kind::Fault, rule.to_owned(), why.into())
    }
    /// The server is away: nothing can be recorded, so nothing happens.
    pub(crate) fn record_lost() -> Self {
        let why = "What you do cannot be recorded at this moment, and what cannot be recorded does not happen.";
        Self::of(StatusCode::SERVICE_UNAVAILABLE, Kind::Fault, "record.lost".to_owned(), why.to_owned())
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
        let ask = match (is_policy, self.next.as_deref()) {
            (true, Some(next)) => next.to_owned(),
            (true, None) => self
                .ask
                .unwrap_or("The people who own this run see this refusal; say in your answer what you needed it for.")
                .to_owned(),
            (false, next) => ["Try again later.", next.unwrap_or_default()].join(" ").trim_end().to_owned(),
        };
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
    fn what_can_be_sent_otherwise_is_not_said_to_be_closed_and_what_failed_is_no_rule() {
        let rules =
            ["read.body", "method.override", "target.path", "host.number", "connect.credential", "handle.misplaced"];
        for rule in rules.into_iter().chain(["request.malformed", "host.differs", "write.path", "connect.inside"]) {
            let refusal = Refusal::policy(rule, "Why.");
            let next = refusal.next.clone().unwrap_or_else(|| panic!("{rule} says nothing"));
            let said = body_of(&refusal);
            assert_eq!(said["ask"], next, "{rule}");
            let message = said["message"].as_str().unwrap();
            assert!(message.contains(&next) && !message.contains("Do not send this again"), "{message}");
        }
        let said = body_of(&Refusal::policy("host.metadata", "Why."));
        assert!(said["message"].as_str().unwrap().contains("Do not send this again"), "{said}");
        let failed = Refusal::denied("server.failed".into(), "The disk is full.".into());
        let said = body_of(&failed);
        assert_eq!((failed.status.as_u16(), &said["policy"], &said["retry"]), (503, &false.into(), &true.into()));
        assert!(!said["message"].as_str().unwrap().contains("Refused by policy"), "{said}");
        let untrusted = body_of(&Unanswered::Tls.into());
        assert!(untrusted["ask"].as_str().unwrap().contains("--extra-roots"), "{untrusted}");
    }

    fn body_of(refusal: &Refusal) -> serde_json::Value {
        use http_body_util::BodyExt as _;
        let body = refusal.answer().into_body().collect();
        let body = futures_util::FutureExt::now_or_never(body).expect("it is whole").expect("it is whole").to_bytes();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["error"].clone()
    }

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
