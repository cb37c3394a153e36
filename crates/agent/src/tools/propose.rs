//! `propose`: says at the run's own door what a pull request for what was pushed is to say. A person opens it, or the server.

use super::lease::{post, refused};
use super::{Bench, Propose, Said};
use api::git::{PROPOSE, Proposal, Proposed};
use hyper::StatusCode;

pub(super) async fn run(bench: &Bench, propose: &Propose) -> Result<Said, Said> {
    let Propose { title, body } = propose.clone();
    let proposal = serde_json::to_vec(&Proposal { title, body });
    let proposal = proposal.map_err(|e| Said::error(format!("The texts cannot be sent: {e}.")))?;
    let (status, body) = post(bench, PROPOSE, proposal).await?;
    if status == StatusCode::OK
        && let Ok(Proposed { said }) = serde_json::from_slice(&body)
    {
        return Ok(Said::ok(said));
    }
    Err(Said::error(refused(status, &body)))
}
