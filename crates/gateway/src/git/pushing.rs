//! A push, from its body to the upstream's report: leased, read, listed, granted with that list on record, and sent on.
//!
//! Read [`push_held`], then [`leased`] and [`listed`].

use super::changes::{self, Unlisted};
use super::look::{self, Commits, Pushed};
use super::pack::{self, Packed};
use super::pkt::Oid;
use super::push::{self, Asked, Update};
use super::upstream::Wanted;
use super::{Asking, Turn, What, own};
use crate::call::Answer;
use crate::decide::sha256_hex;
use crate::refusal::{Kind, Refusal, Trace};
use crate::server::Lost;
use crate::server::git::{Granted, Push};
use api::git::{GitAct, GitPush, NAMED_BYTES, NAMED_COMMITS, NAMED_PATHS};
use api::leases::LeaseEnd;
use bytes::Bytes;
use http::{Method, StatusCode};
use model::{LeaseId, Repository};
use policy::git::pipelines::Pipelines;
use std::collections::BTreeSet;

/// A push, whole. What is refused of it is refused in a report, which git shows.
pub(super) async fn push_held(asking: &Asking<'_>, body: Bytes, turn: &Turn) -> Result<Answer, Refusal> {
    let wrong =
        |wrong: push::Wrong| Refusal::policy("git.form", format!("This is no push that can be taken: {}.", wrong.0));
    let looked = body.clone();
    let gone = || Refusal::fault("git.push", "The push could not be read.");
    let asked = asking.caller.git.weighed(body.len(), move || Asked::read(&looked)).await.ok_or_else(gone)?;
    let Some(asked) = asked.map_err(wrong)? else {
        // By this git finds out whether it may ask.
        return Ok(own(What::Push.kind(), Vec::new()));
    };
    let mut trace = Trace { method: "PUSH".into(), target: format!("/git/{}", asking.id), ..Trace::default() };
    if let [update] = &asked.updates[..] {
        trace.target = format!("/git/{} {}", asking.id, update.shown());
    }
    match pushed(asking, &body, &asked, turn).await {
        Ok(report) => Ok(own(What::Push.kind(), report)),
        Err(no) => {
            let no = match no.kind {
                Kind::Policy => match asking.caller.tally.record(trace.refused(&no)).await {
                    Ok(()) => no,
                    Err(Lost) => Refusal::record_lost(),
                },
                Kind::Denied | Kind::Fault => no,
            };
            Ok(own(What::Push.kind(), push::report(&asked, &no.rule, &no.why)))
        }
    }
}

/// Has a push leased, and ends it when its lease is over: whatever of it is under way then goes no further.
async fn pushed(asking: &Asking<'_>, body: &Bytes, asked: &Asked, turn: &Turn) -> Result<Vec<u8>, Refusal> {
    let [update] = &asked.updates[..] else {
        return Err(Refusal::policy("git.one", "A push sets one reference; push the run's own branch alone."));
    };
    let reference = std::str::from_utf8(&update.reference).ok().filter(|name| policy::git::is_reference(name));
    let Some(reference) = reference else {
        let why = "The reference has a name that no branch of a run has.";
        return Err(Refusal::policy("git.branch", why));
    };
    let (reference, old, new) = (reference.to_owned(), update.old.to_string(), update.new.to_string());
    let mut look = asking.grant(GitAct::Look { reference, old, new }).await?;
    // Without a lease nothing was granted.
    let Some(mut push) = look.push.take() else { return Err(Refusal::record_lost()) };
    let over = push.tenure.over();
    tokio::select! {
        biased;
        () = over => {
            let why = "Its lease was taken back, or its time was over, before the push was made.";
            Err(Refusal::denied("lease.over".into(), why.into()))
        }
        done = leased(asking, look, &mut push, body, asked, update, turn) => done,
    }
}

/// Lists what a push changes, has that granted and recorded, and sends it on. Gives the upstream's report.
async fn leased(
    asking: &Asking<'_>,
    look: Granted,
    push: &mut Push,
    body: &Bytes,
    asked: &Asked,
    update: &Update,
    turn: &Turn,
) -> Result<Vec<u8>, Refusal> {
    let (reference, repository) = (update.shown(), look.repository.clone());
    let base = look.base.as_deref().and_then(|base| Oid::parse(base.as_bytes()));
    let length = body.len() - asked.pack_at;
    let (packed, objects) = read_pack(asking, body, length, turn).await?;
    let told = {
        let mut upstream = asking.upstream(look).await?;
        let about = Pushed { update, reference: &reference, base, author: &push.author };
        let looked = look::look(asking.gate, &mut upstream, packed, about, turn).await?;
        upstream.leave.is_whole();
        let (lease, update) = (push.lease.clone(), update.clone());
        list(asking, looked, turn, move |changed, commits| {
            listed(lease, &repository, &update, (length, objects), changed, commits)
        })
        .await?
    };
    let granted = asking.grant(GitAct::Push(Box::new(told))).await?;
    let mut upstream = asking.upstream(granted).await?;
    let (whole, again, of) = (body.clone(), asked.clone(), update.clone());
    let gone = || Refusal::fault("git.push", "The push could not be written.");
    let written = asking.caller.git.weighed(body.len(), move || again.written(&of, &whole)).await.ok_or_else(gone)?;
    let wanted = Wanted {
        method: Method::POST,
        path: "/git-receive-pack",
        kind: Some("application/x-git-receive-pack-request"),
        answer: What::Push.kind(),
        two: false,
        body: written.into(),
    };
    let response = upstream.ask(asking.gate, wanted).await?;
    let report = upstream.report(response).await?;
    upstream.leave.is_whole();
    let is_made = push::succeeded(&report, asked.side_band, update);
    push.tenure.ended(if is_made { LeaseEnd::Completed } else { LeaseEnd::Failed });
    if !is_made {
        upstream.leave.answered(StatusCode::UNPROCESSABLE_ENTITY.as_u16());
    }
    Ok(report)
}

/// Reads the pack at the end of a push, beside the thread that serves. None of a push that needs none.
async fn read_pack(asking: &Asking<'_>, body: &Bytes, length: usize, turn: &Turn) -> Result<(Packed, u32), Refusal> {
    if length == 0 {
        return Ok((Packed::default(), 0));
    }
    let pack = body.slice(body.len() - length..);
    let gone = || Refusal::fault("git.pack", "The push's pack could not be read.");
    let read = asking.caller.git.beside(turn.clone(), move || pack::read(&pack)).await.ok_or_else(gone)?;
    let packed =
        read.map_err(|wrong| Refusal::policy("git.pack", format!("The push's pack is not taken: {}.", wrong.0)))?;
    let objects = packed.objects;
    Ok((packed, objects))
}

/// What a push changes, as `told` tells it.
async fn list(
    asking: &Asking<'_>,
    looked: look::Looked,
    turn: &Turn,
    told: impl FnOnce(&BTreeSet<Vec<u8>>, &Commits) -> GitPush + Send + 'static,
) -> Result<GitPush, Refusal> {
    let listing = move || {
        let changed = changes::between(&looked.trees, looked.tip, &looked.bases)?;
        Ok(told(&changed, &looked.commits))
    };
    let why = match asking.caller.git.beside(turn.clone(), listing).await {
        Some(Ok(push)) => return Ok(push),
        Some(Err(Unlisted::Wrong(why))) => why.to_owned(),
        Some(Err(Unlisted::Unknown(tree))) => format!(
            "neither the pack nor the upstream's commits beneath it hold the folder {tree}; fetch the default branch, \
             put your change on top of it, and push again"
        ),
        None => "it could not be walked".to_owned(),
    };
    Err(Refusal::policy(
        "git.unlisted",
        format!("What the push changes cannot be listed, and so it does not go on: {why}."),
    ))
}

/// The list as the server gets it. The pair is the pack's bytes and objects.
fn listed(
    lease: LeaseId,
    repository: &Repository,
    update: &Update,
    (bytes, objects): (usize, u32),
    changed: &BTreeSet<Vec<u8>>,
    commits: &Commits,
) -> GitPush {
    let (held, mut all) = (Pipelines::of(repository), Vec::new());
    let (mut paths, mut pipelines, mut room) = (Vec::new(), Vec::new(), NAMED_BYTES);
    for path in changed {
        all.extend_from_slice(path);
        all.push(0);
        let text = String::from_utf8_lossy(path).into_owned();
        if pipelines.len() < NAMED_PATHS && held.hold(&text) {
            pipelines.push(text.chars().take(1000).collect());
        }
        if paths.len() < NAMED_PATHS && text.len() <= room {
            room -= text.len();
            paths.push(text);
        }
    }
    GitPush {
        lease,
        reference: update.shown(),
        old: update.old.to_string(),
        new: update.new.to_string(),
        bytes: bytes as u64,
        objects,
        paths,
        paths_count: changed.len() as u64,
        paths_sha256: sha256_hex(&all),
        pipelines,
        there: commits.there.map(|oid| oid.to_string()),
        fresh: commits.fresh,
        commits: commits.count as u64,
        others: commits.others.iter().take(NAMED_COMMITS).map(Oid::to_string).collect(),
        others_count: commits.others.len() as u64,
        onto: commits.onto.map(|oid| oid.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_fits_counts_all_and_marks_every_pipeline_file() {
        let mut changed: BTreeSet<Vec<u8>> = (0..2000).map(|n| format!("d/{n:04}").into_bytes()).collect();
        changed.extend([b"z/Jenkinsfile".to_vec(), b"z/ours.yml".to_vec()]);
        let own = Repository { pipelines: vec!["z/*.yml".into()], ..policy::git::local() };
        let update = Update { old: Oid::ZERO, new: Oid([1; 20]), reference: b"refs/heads/x".to_vec() };
        let lease = LeaseId::parse("lease").unwrap();
        let commits = Commits { others: vec![Oid([3; 20]); 50], count: 60, ..Commits::default() };
        let push = listed(lease, &own, &update, (7, 3), &changed, &commits);
        assert_eq!((push.paths.len(), push.paths_count, push.bytes, push.objects), (NAMED_PATHS, 2002, 7, 3));
        assert_eq!(push.pipelines, ["z/Jenkinsfile", "z/ours.yml"]);
        assert_eq!(push.reference, "refs/heads/x");
        assert_eq!((push.others.len(), push.others_count, push.commits), (NAMED_COMMITS, 50, 60));
    }
}
