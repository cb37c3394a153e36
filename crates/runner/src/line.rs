//! The runner's own connection to the gateway: asks to use leases for commands, and is given their values.
//!
//! It is made once, before the walls and before any other process of the box exists: so it is the first that the door
//! accepts, and by that the gateway knows it ([`api::delivery`]). Nothing of the box can have it: it is closed on every
//! execution, process 1 is not dumpable, and every child stands in a Landlock domain below it. A box whose process 1 cannot
//! make it ends, so that nobody else can be the first.
//!
//! Read [`connect`], [`Line::ask`], then [`Use`].

use api::delivery::{FromRunner, Over, RUNNER, ToRunner};
use api::frame;
use api::inbox::DOOR;
use api::leases::{LeaseEnd, LeaseUser};
use model::capability::Delivery;
use model::{LeaseId, Secret};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a gateway may take nothing of what is said before it is waited for no longer.
const FLUSH: Duration = Duration::from_secs(10);
/// What a command is told when there is no gateway any more; its box ends at any moment then.
const GONE: &str = "the gateway is gone";

/// Connects to the door and says who this is. To be called while this process is alone in its box.
///
/// # Errors
/// The system's own. Nothing of the box may run then: whoever connected first would be taken for this process.
pub fn connect() -> std::io::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(DOOR)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[RUNNER])?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The connection, shared by all who ask.
pub struct Line {
    to: mpsc::UnboundedSender<FromRunner>,
    /// Messages that were given to be written.
    said: Cell<u64>,
    /// How many of them are; all of them once the connection is gone.
    written: watch::Sender<u64>,
    last: Cell<u64>,
    asked: RefCell<HashMap<u64, oneshot::Sender<Result<Given, String>>>>,
    /// Uses under way, and who is told that one is over. None once the connection is gone.
    used: RefCell<Option<HashMap<u64, watch::Sender<Option<Over>>>>>,
}

/// What a command may be given.
pub struct Given {
    /// The credential; with [`Delivery::Proxy`] the command's own handle.
    pub value: Secret<String>,
    /// The secret's name; empty for a handle.
    pub secret: String,
    /// How the command gets it.
    pub delivery: Delivery,
    /// Further variables that hold the same.
    pub variables: Vec<String>,
    /// What it is for.
    pub destination: String,
    /// What in the value opens something by itself.
    pub parts: Vec<Secret<String>>,
    /// The use, which is over when this is dropped.
    pub used: Use,
}

impl Line {
    /// Keeps the connection from now on, in tasks of its own.
    ///
    /// # Errors
    /// The runtime's own.
    pub fn start(stream: std::net::TcpStream) -> std::io::Result<Rc<Self>> {
        let (from, to) = TcpStream::from_std(stream)?.into_split();
        let (say, said) = mpsc::unbounded_channel();
        let line = Rc::new(Self {
            to: say,
            said: Cell::new(0),
            written: watch::Sender::new(0),
            last: Cell::new(0),
            asked: RefCell::default(),
            used: RefCell::new(Some(HashMap::new())),
        });
        tokio::task::spawn_local(Rc::clone(&line).hear(from));
        tokio::task::spawn_local(Rc::clone(&line).say(to, said));
        Ok(line)
    }

    /// Asks to use a lease for a command. What comes is recorded by then.
    ///
    /// # Errors
    /// A sentence for the agent: the command must not run.
    pub async fn ask(self: &Rc<Self>, lease: LeaseId, by: LeaseUser) -> Result<Given, String> {
        let id = self.last.get() + 1;
        self.last.set(id);
        let (tell, told) = oneshot::channel();
        if self.used.borrow().is_none() || !self.send(FromRunner::Use { id, lease, by }) {
            return Err(GONE.into());
        }
        self.asked.borrow_mut().insert(id, tell);
        told.await.unwrap_or_else(|_| Err(GONE.into()))
    }

    /// Gives a message to be written; false when there is no gateway any more.
    fn send(&self, message: FromRunner) -> bool {
        self.said.set(self.said.get() + 1);
        self.to.send(message).is_ok()
    }

    /// Comes when all that was said is written, or nobody is there to read it. Before that a box must not end: the gateway
    /// would hear that a use broke off which was over. A gateway that reads nothing is not waited for longer than
    /// [`FLUSH`].
    pub async fn flush(&self) {
        let all = self.said.get();
        let mut written = self.written.subscribe();
        // The sender lives as long as this.
        drop(tokio::time::timeout(FLUSH, written.wait_for(|written| *written >= all)).await);
    }

    async fn say(self: Rc<Self>, mut to: OwnedWriteHalf, mut said: mpsc::UnboundedReceiver<FromRunner>) {
        while let Some(message) = said.recv().await {
            if frame::write(&mut to, &message).await.is_err() {
                break;
            }
            self.written.send_modify(|written| *written = written.saturating_add(1));
        }
        self.gone();
    }

    async fn hear(self: Rc<Self>, mut from: OwnedReadHalf) {
        while let Ok(message) = frame::read::<ToRunner>(&mut from).await {
            match message {
                ToRunner::Value { id, value, secret, delivery, variables, destination, parts } => {
                    let (tell, over) = watch::channel(None);
                    if let Some(used) = &mut *self.used.borrow_mut() {
                        used.insert(id, tell);
                    }
                    let used = Use { line: Rc::clone(&self), id, over, outcome: Cell::new(LeaseEnd::Broken) };
                    let parts = parts.into_iter().map(|part| part.0).collect();
                    let given = Given { value: value.0, secret, delivery, variables, destination, parts, used };
                    self.answer(id, Ok(given));
                }
                ToRunner::Denied { id, rule, why } => self.answer(id, Err(format!("{why} ({rule})"))),
                ToRunner::Over { id, why } => {
                    if let Some(used) = self.used.borrow().as_ref().and_then(|used| used.get(&id)) {
                        used.send_replace(Some(why));
                    }
                }
            }
        }
        self.gone();
    }

    fn answer(&self, id: u64, word: Result<Given, String>) {
        let asker = self.asked.borrow_mut().remove(&id);
        // One who is gone drops the word here, and the use in it is over.
        if let Some(asker) = asker {
            drop(asker.send(word));
        }
    }

    /// Whoever waits is told, and what uses a value is ended.
    fn gone(&self) {
        self.written.send_replace(u64::MAX);
        drop(self.used.borrow_mut().take());
        drop(std::mem::take(&mut *self.asked.borrow_mut()));
    }
}

/// The use of a lease by one command. Dropped, it is over, and the gateway is told how it ended.
pub struct Use {
    line: Rc<Line>,
    id: u64,
    over: watch::Receiver<Option<Over>>,
    outcome: Cell<LeaseEnd>,
}

impl Use {
    /// Comes when the command is to be ended, with the reason; none when there is no gateway any more, which is no reason to
    /// go on either.
    pub async fn over(&self) -> Option<Over> {
        let mut over = self.over.clone();
        over.wait_for(Option::is_some).await.ok().and_then(|over| *over)
    }

    /// How it ended. Until that is said it counts as broken off.
    pub fn ended(&self, outcome: LeaseEnd) {
        self.outcome.set(outcome);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(used) = &mut *self.line.used.borrow_mut() {
            used.remove(&self.id);
        }
        // Without a gateway there is nobody to tell.
        self.line.send(FromRunner::End { id: self.id, outcome: self.outcome.get() });
    }
}
