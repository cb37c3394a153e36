//! `POST /propose`: a run's agent proposes what it pushed, in its own words. They go to the server, which keeps them, and to
//! nobody else; a refusal explains itself like every other one.

use crate::Gate;
use crate::call::{self, Answer, Caller};
use crate::decide;
use crate::refusal::{Refusal, Trace};
use crate::server::Lost;
use crate::server::git::Said;
use api::git::{GitAct, GitAsk, MAX_PROPOSAL, PROPOSE, Proposal, Proposed};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use model::Dialect;
use std::time::Duration;

/// How long a client may take to send its proposal. It comes over loopback.
const BODY_SECS: u64 = 30;

/// Whether a request proposes something.
pub(crate) fn is_for<B>(request: &Request<B>) -> bool {
    request.uri().path() == PROPOSE
}

/// Answers it. A refusal's record is on its way to the server before the answer is.
pub(crate) async fn answer<B>(gate: &Gate, caller: &Caller, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let trace = Trace::of(&request);
    call::own(caller, proposed(gate, caller, request).await, &trace).await
}

async fn proposed<B>(gate: &Gate, caller: &Caller, request: Request<B>) -> Result<Proposed, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !gate.server.is_up() {
        return Err(Refusal::record_lost());
    }
    let (head, body) = request.into_parts();
    if head.method != Method::POST || head.uri.query().is_some() || head.headers.contains_key(header::UPGRADE) {
        let why = "What was pushed is proposed by POST /propose, with a JSON body and nothing else.";
        return Err(Refusal::policy("propose.form", why));
    }
    let handle_sha256 = decide::handle(&head.headers, Dialect::Openai)?;
    let Some(_turn) = caller.git.propose() else {
        return Err(Refusal::fault("propose.busy", "This run is proposing already; one proposal at a time.")
            .with_status(StatusCode::SERVICE_UNAVAILABLE));
    };
    let proposal = read(body).await?;
    caller.tally.may_ask()?;
    // Until it is kept it counts as denied: what is not answered in time, and whose box has hung up, was asked all the same.
    caller.tally.denied();
    let ask =
        GitAsk { run: caller.run.clone(), handle_sha256, repository: String::new(), act: GitAct::Propose(proposal) };
    match gate.server.ask_git(ask).await {
        Ok(Said::Noted(said)) => {
            caller.tally.granted();
            Ok(Proposed { said })
        }
        Ok(Said::Denied { rule, why }) => Err(Refusal::denied(rule, why)),
        Ok(Said::Granted(_)) | Err(Lost) => Err(Refusal::record_lost()),
    }
}

async fn read<B>(body: B) -> Result<Proposal, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reading = Limited::new(body, MAX_PROPOSAL).collect();
    let body = match tokio::time::timeout(Duration::from_secs(BODY_SECS), reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let why = format!("The body broke off, or is longer than {MAX_PROPOSAL} bytes.");
            return Err(Refusal::policy("propose.form", why).with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Err(_) => {
            let why = "The body took longer than 30 seconds.";
            return Err(Refusal::policy("propose.form", why).with_status(StatusCode::REQUEST_TIMEOUT));
        }
    };
    // What is wrong with it is not repeated: it may hold anything.
    serde_json::from_slice(&body).map_err(|_| {
        let why = "The body is a JSON object of two texts: `title`, `body`.";
        Refusal::policy("propose.form", why).with_status(StatusCode::BAD_REQUEST)
    })
}
