//! The server, played by a test: what it says of each question.

use super::{FINGERPRINTS, route};
use api::frame;
use api::git::{GitAct, GitAsk, GitCredential, GitWord};
use api::grants::{
    Answer, EgressAsk, EgressCredential, EgressWord, FromGateway, ImageAsk, Place, StoredValue, ToGateway, WireSecret,
};
use model::profile::Sought;
use model::{Dialect, GrantId, LeaseId, MicroDollars, Secret};
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// What the server answers to the next questions.
pub enum Word {
    Grant { dialect: Dialect, place: Place, key: String },
    Deny,
    Silence,
}

/// What the server says of requests to the outside.
pub struct Desk {
    /// The table of the run, and its version.
    pub table: model::Egress,
    pub version: u64,
    /// The value that a handle stands for, and where it may go; none: no handle is known.
    pub credential: Option<(String, String, u16)>,
    /// The leases that it is given by: of a command, and of the platform's own.
    pub lease: Option<LeaseId>,
    pub carried: Option<LeaseId>,
    /// Which kept value it is.
    pub stored: Option<StoredValue>,
    /// Denied whatever it is.
    pub deny: bool,
    /// Whether nothing can be decided: the server's own fault.
    pub fails: bool,
    /// Whether allowances are granted.
    pub allowances: bool,
    /// What allowances were asked for.
    pub asked_for_many: Vec<EgressAsk>,
    /// What was asked.
    pub asked: Vec<EgressAsk>,
    /// What is to be replaced in the bodies of granted calls.
    pub sought: Sought,
    /// The images that were asked for.
    pub images: Vec<ImageAsk>,
    /// The URL of the run's repository, and the credential that opens it.
    pub repository: Option<(String, Option<String>)>,
}

impl Desk {
    /// Judges by this table, knows no handle and grants no allowance.
    pub fn of(table: model::Egress) -> Self {
        Self {
            table,
            version: 1,
            credential: None,
            lease: None,
            carried: None,
            stored: None,
            deny: false,
            fails: false,
            allowances: false,
            asked_for_many: Vec::new(),
            asked: Vec::new(),
            sought: Sought::default(),
            images: Vec::new(),
            repository: None,
        }
    }

    fn law(&self) -> EgressWord {
        EgressWord::Law { version: self.version, egress: self.table.clone() }
    }

    /// Grants an image, with the credential that is known.
    fn image(&mut self, ask: &ImageAsk) -> EgressWord {
        self.images.push(ask.clone());
        if self.deny {
            return EgressWord::Denied { rule: "test.denied".into(), why: "The server says no.".into() };
        }
        let credential = self.credential.as_ref().map(|(value, host, port)| EgressCredential {
            value: WireSecret(Secret::new(value.clone())),
            secret: format!("registry/{host}"),
            host: host.clone(),
            port: *port,
            until: None,
            lease: None,
            carried: None,
            stored: None,
        });
        let grant = GrantId::parse(&format!("image{}", self.images.len())).expect("an id");
        EgressWord::Granted { grant, credential }
    }

    /// Grants whatever is asked of the repository that is known.
    fn git(&self, ask: &GitAsk) -> GitWord {
        let Some((url, credential)) = &self.repository else {
            return GitWord::Denied { rule: "git.repository".into(), why: "There is none.".into() };
        };
        let repository = serde_json::json!({ "id": ask.repository, "url": url });
        let credential = credential.as_ref().map(|value| GitCredential {
            user: "x".to_owned(),
            value: WireSecret(Secret::new(value.clone())),
            secret: "capability/forge".to_owned(),
            until: None,
            carried: None,
            stored: self.stored.clone(),
        });
        GitWord::Granted {
            grant: GrantId::parse("git1").expect("an id"),
            repository: Box::new(serde_json::from_value(repository).expect("a repository")),
            credential: credential.map(Box::new),
            base: None,
            leased: None,
        }
    }

    fn judge(&mut self, ask: &EgressAsk) -> EgressWord {
        if ask.law != self.version {
            return self.law();
        }
        if self.fails {
            let why = "The platform could not decide this and so refuses it: the disk is full.".to_owned();
            return EgressWord::Denied { rule: "server.failed".to_owned(), why };
        }
        if ask.reads > 0 {
            self.asked_for_many.push(ask.clone());
            if !self.allowances {
                return EgressWord::Denied { rule: "test.alone".into(), why: "One by one.".into() };
            }
        } else {
            self.asked.push(ask.clone());
        }
        if self.deny {
            return EgressWord::Denied { rule: "test.denied".into(), why: "The server says no.".into() };
        }
        let credential = ask.handle_sha256.as_ref().and(self.credential.as_ref());
        EgressWord::Granted {
            grant: match ask.reads {
                0 => GrantId::parse(&format!("egress{}", self.asked.len())),
                _ => GrantId::parse(&format!("many{}", self.asked_for_many.len())),
            }
            .expect("an id"),
            credential: credential.map(|(value, host, port)| EgressCredential {
                value: WireSecret(Secret::new(value.clone())),
                secret: ask.capability.clone().unwrap_or_default(),
                host: host.clone(),
                port: *port,
                until: None,
                lease: self.lease.clone(),
                carried: self.carried.clone(),
                stored: self.stored.clone(),
            }),
        }
    }
}

/// The first thing that a server says.
pub(super) fn hello() -> ToGateway {
    ToGateway::Hello { fingerprints: WireSecret::of_key(&Secret::new(FINGERPRINTS)) }
}

/// Serves one connection of the gateway, and gives the way to say something on it.
pub(super) fn serve_grants(
    folder: &tempfile::TempDir,
    word: Arc<Mutex<Word>>,
    desk: Arc<Mutex<Desk>>,
    heard: mpsc::UnboundedSender<FromGateway>,
) -> (mpsc::UnboundedSender<ToGateway>, tokio::task::JoinHandle<()>) {
    let (say, mut says) = mpsc::unbounded_channel::<ToGateway>();
    let answers = say.clone();
    let listener = UnixListener::bind(folder.path().join("gateway.sock")).expect("a socket");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the gateway dials");
        let (mut from, mut to) = stream.into_split();
        let reading = async {
            while let Ok(message) = frame::read::<FromGateway>(&mut from).await {
                if let FromGateway::Ask { id, .. } = &message {
                    let answer = match &*word.lock().expect("unpoisoned") {
                        Word::Grant { dialect, place, key } => Some(Answer::Granted {
                            grant: GrantId::parse("grant1").expect("an id"),
                            upstream: route(*dialect, place.clone(), key),
                            reserved: MicroDollars(1),
                            sought: desk.lock().expect("unpoisoned").sought,
                        }),
                        Word::Deny => Some(Answer::Denied { rule: "budget.cost".into(), why: "It is spent.".into() }),
                        Word::Silence => None,
                    };
                    if let Some(answer) = answer {
                        answers.send(ToGateway::Answer { id: *id, answer }).expect("the writer lives");
                    }
                }
                // Of a proposal the test says the word.
                if let FromGateway::AskGit { id, ask } = &message
                    && !matches!(ask.act, GitAct::Propose(_))
                {
                    let word = desk.lock().expect("unpoisoned").git(ask);
                    answers.send(ToGateway::GitAnswer { id: *id, word }).expect("the writer lives");
                    continue;
                }
                let word = match &message {
                    FromGateway::AskLaw { id, .. } => Some((*id, desk.lock().expect("unpoisoned").law())),
                    FromGateway::AskEgress { id, ask } => Some((*id, desk.lock().expect("unpoisoned").judge(ask))),
                    FromGateway::AskImage { id, ask } => Some((*id, desk.lock().expect("unpoisoned").image(ask))),
                    _ => None,
                };
                if let Some((id, answer)) = word {
                    answers.send(ToGateway::EgressAnswer { id, answer }).expect("the writer lives");
                } else if !matches!(message, FromGateway::Hello { .. }) {
                    heard.send(message).expect("the test listens");
                }
            }
        };
        let writing = async {
            frame::write(&mut to, &hello()).await.expect("the gateway reads");
            while let Some(message) = says.recv().await {
                frame::write(&mut to, &message).await.expect("the gateway reads");
            }
        };
        tokio::join!(reading, writing);
    });
    (say, server)
}
