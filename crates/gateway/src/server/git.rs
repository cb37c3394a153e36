//! Asking the server about repositories: before each request to one's upstream.

use super::egress::Leave;
use super::leases::Term;
use super::{Lost, Server, in_time};
use api::git::{GitAsk, GitCredential, GitWord, Leased};
use api::grants::FromGateway;
use api::leases::LeaseEnd;
use model::{Author, LeaseId, Repository, RunId};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The server's word.
pub(crate) enum Said {
    /// Do it.
    Granted(Box<Granted>),
    /// Of a proposal: for the agent.
    Noted(String),
    /// Do not.
    Denied { rule: String, why: String },
}

/// What may be done, with what, and by which rules.
pub(crate) struct Granted {
    pub(crate) leave: Leave,
    pub(crate) repository: Repository,
    pub(crate) credential: Option<GitCredential>,
    /// The commit that the run started from.
    pub(crate) base: Option<String>,
    /// Of a push that begins.
    pub(crate) push: Option<Push>,
}

/// A push that may begin: under which lease, and whose its commits must be.
pub(crate) struct Push {
    pub(crate) lease: LeaseId,
    pub(crate) author: Author,
    pub(crate) tenure: Tenure,
}

/// A lease that is in use. Dropped, its use is over: the server is told how it ended, exactly once.
pub(crate) struct Tenure {
    server: Arc<Server>,
    lease: LeaseId,
    outcome: LeaseEnd,
    term: Term,
}

impl Tenure {
    /// How it ended. Until that is said it counts as broken off.
    pub(crate) fn ended(&mut self, outcome: LeaseEnd) {
        self.outcome = outcome;
    }

    /// Comes when it may no longer be used: it was taken back, or its time is over.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        self.term.over()
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.server.post(FromGateway::EndLease { lease: self.lease.clone(), outcome: self.outcome });
        self.server.shared().leases.held.remove(&self.lease);
    }
}

impl Server {
    /// May this run do this with a repository? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_git(&self, ask: GitAsk) -> Result<Said, Lost> {
        let (answered, said) = oneshot::channel();
        let run = ask.run.clone();
        self.put(|shared, id| {
            shared.git_questions.insert(id, (run, answered));
            FromGateway::AskGit { id, ask }
        })?;
        in_time(said).await
    }

    pub(super) fn git_answered(self: &Arc<Self>, id: u64, word: GitWord) {
        let said = match word {
            GitWord::Granted { grant, repository, credential, base, leased } => {
                self.shared().open.insert(grant.clone());
                let leave = Leave::new(self.clone(), grant);
                // The connection that it was asked on is gone, and with it whoever asked; the server ends what is not named to it.
                let Some(run) = self.shared().git_questions.get(&id).map(|(run, _)| run.clone()) else { return };
                let push = leased.map(|leased| self.begun(run, leased));
                let credential = credential.map(|credential| *credential);
                Said::Granted(Box::new(Granted { leave, repository: *repository, credential, base, push }))
            }
            GitWord::Said { text } => Said::Noted(text),
            GitWord::Denied { rule, why } => Said::Denied { rule, why },
        };
        let asker = self.shared().git_questions.remove(&id);
        // An asker who is gone drops the word here, outside the lock, and the leave and the lease in it end.
        if let Some((_, asker)) = asker {
            drop(asker.send(said));
        }
    }

    /// A push that begins: it is among what is in use from here on, so that its lease can be taken back.
    fn begun(self: &Arc<Self>, run: RunId, leased: Leased) -> Push {
        let Leased { lease, expires, author } = leased;
        let term = self.shared().leases.begins(lease.clone(), run, expires);
        let tenure = Tenure { server: self.clone(), lease: lease.clone(), outcome: LeaseEnd::Broken, term };
        Push { lease, author, tenure }
    }
}
