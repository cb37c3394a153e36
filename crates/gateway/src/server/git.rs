//! Asking the server about repositories: before each request to one's upstream.

use super::egress::Leave;
use super::{ANSWER_SECS, Lost, Queued, Server};
use api::git::{GitAsk, GitCredential, GitWord};
use api::grants::FromGateway;
use model::Repository;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The server's word.
pub(crate) enum Said {
    /// Do it.
    Granted(Box<Granted>),
    /// Do not.
    Denied { rule: String, why: String },
}

/// What may be done, with what, and by which rules.
pub(crate) struct Granted {
    pub(crate) leave: Leave,
    pub(crate) repository: Repository,
    pub(crate) credential: Option<GitCredential>,
    /// The run's own branch.
    pub(crate) branch: String,
    /// The commit that the run started from.
    pub(crate) base: Option<String>,
}

impl Server {
    /// May this run do this with a repository? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_git(&self, ask: GitAsk) -> Result<Said, Lost> {
        let (answered, said) = oneshot::channel();
        {
            let mut shared = self.shared();
            if !shared.up {
                return Err(Lost);
            }
            shared.last_id += 1;
            let id = shared.last_id;
            shared.git_questions.insert(id, answered);
            shared.queue.push_back(Queued { message: FromGateway::AskGit { id, ask }, written: None });
        }
        self.work.notify_one();
        match tokio::time::timeout(Duration::from_secs(ANSWER_SECS), said).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(_)) | Err(_) => Err(Lost),
        }
    }

    pub(super) fn git_answered(self: &Arc<Self>, id: u64, word: GitWord) {
        let said = match word {
            GitWord::Granted { grant, repository, credential, branch, base } => {
                self.shared().open.insert(grant.clone());
                let leave = Leave::new(self.clone(), grant);
                Said::Granted(Box::new(Granted { leave, repository: *repository, credential, branch, base }))
            }
            GitWord::Denied { rule, why } => Said::Denied { rule, why },
        };
        let asker = self.shared().git_questions.remove(&id);
        // An asker who is gone drops the word here, outside the lock, and the leave in it settles.
        if let Some(asker) = asker {
            drop(asker.send(said));
        }
    }
}
