//! `POST /lease`: a run asks for the use of a capability, and gets an id and an expiry, never a value.
//!
//! The body is small and read whole; what it means is the server's word, which is recorded before it comes. A refusal
//! explains itself like every other one.

use crate::Gate;
use crate::call::{self, Answer, Caller};
use crate::decide;
use crate::refusal::{Refusal, Trace};
use crate::server::Lost;
use api::leases::{self, Given, LeaseAsk, LeaseWord, Wish};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use model::Dialect;
use std::time::Duration;

/// How long a client may take to send its wish. It comes over loopback.
const BODY_SECS: u64 = 30;

/// Whether a request asks for a lease.
pub(crate) fn is_for<B>(request: &Request<B>) -> bool {
    request.uri().path() == leases::PATH
}

/// Answers it. A refusal's record is on its way to the server before the answer is.
pub(crate) async fn answer<B>(gate: &Gate, caller: &Caller, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let trace = Trace::of(&request);
    call::own(caller, given(gate, caller, request).await, &trace).await
}

async fn given<B>(gate: &Gate, caller: &Caller, request: Request<B>) -> Result<Given, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !gate.server.is_up() {
        return Err(Refusal::record_lost());
    }
    let (head, body) = request.into_parts();
    if head.method != Method::POST || head.uri.query().is_some() || head.headers.contains_key(header::UPGRADE) {
        return Err(Refusal::policy(
            "lease.form",
            "A lease is asked for by POST /lease, with a JSON body and nothing else.",
        ));
    }
    let handle_sha256 = decide::handle(&head.headers, Dialect::Openai)?;
    let Wish { capability, destination, reason } = wish(body).await?;
    caller.tally.may_ask()?;
    let ask = LeaseAsk { run: caller.run.clone(), handle_sha256, capability, destination, reason };
    match gate.server.ask_lease(ask).await {
        Ok(LeaseWord::Granted(given)) => {
            caller.tally.granted();
            Ok(given)
        }
        Ok(LeaseWord::Denied { rule, why }) => {
            // What the server could not record is no record.
            if rule != "server.failed" {
                caller.tally.denied();
            }
            Err(Refusal::denied(rule, why))
        }
        Err(Lost) => Err(Refusal::record_lost()),
    }
}

async fn wish<B>(body: B) -> Result<Wish, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reading = Limited::new(body, leases::MAX_WISH).collect();
    let body = match tokio::time::timeout(Duration::from_secs(BODY_SECS), reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let why = format!("The body broke off, or is longer than {} bytes.", leases::MAX_WISH);
            return Err(Refusal::policy("lease.form", why).with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Err(_) => {
            let why = "The body took longer than 30 seconds.";
            return Err(Refusal::policy("lease.form", why).with_status(StatusCode::REQUEST_TIMEOUT));
        }
    };
    // What is wrong with it is not repeated: it may hold anything.
    serde_json::from_slice(&body).map_err(|_| {
        let why = "The body is a JSON object of three texts: `capability`, `destination`, `reason`.";
        Refusal::policy("lease.form", why).with_status(StatusCode::BAD_REQUEST)
    })
}
