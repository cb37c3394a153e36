//! What every part of the server shares.

use crate::fault::Fault;
use crate::gateway::GatewayHandle;
use crate::keys::Keys;
use crate::link::LinkHandle;
use crate::live::Live;
use model::{PersonId, WorkspaceId};
use scrub::{Formats, FormatsError, Key, Scrubber};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use store::Store;

/// The server's state. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What the server is told of the house that it stands in.
#[derive(Debug, Clone)]
pub struct House {
    /// The enrolled person's name, as shown.
    pub administrator: String,
    /// The console's port on loopback.
    pub port: u16,
    /// Makes the calls that this process's walls forbid.
    pub prove: api::walls::Prove,
    /// Most boxes that wait for runs.
    pub warm: usize,
}

/// See [`App`].
pub struct Inner {
    /// The rows.
    pub store: Store,
    /// The workspace's keys.
    pub keys: Keys,
    /// The server's own folder.
    pub dir: PathBuf,
    /// The folder of the profiles' files.
    pub profiles: PathBuf,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The one enrolled person.
    pub administrator: PersonId,
    /// As shown to people.
    pub administrator_name: String,
    /// The console's port on loopback.
    pub port: u16,
    /// Makes the calls that this process's walls forbid.
    pub prove: api::walls::Prove,
    /// Who waits for new lines of transcripts.
    pub live: Live,
    /// Signed heads: when one is wanted at once, and which was witnessed last.
    pub heads: crate::heads::Heads,
    /// For which profiles a box is to wait.
    pub warm: crate::warm::Wanted,
    /// What this process knows of OAuth connections beyond their rows.
    pub connections: crate::connections::Desk,
    /// Who ends what vendors minted for leases.
    pub mints: crate::mint::Desk,
    /// Held while runs are placed on a host, so that a run is placed once.
    pub placing: tokio::sync::Mutex<()>,
    /// Held while a run is paused or let go on, until its host is told: the last word that a host hears is the last one said.
    pub pausing: tokio::sync::Mutex<()>,
    /// Held while a profile's file is changed.
    pub editing: tokio::sync::Mutex<()>,
    operator: Mutex<Option<LinkHandle>>,
    gateway: Mutex<Option<GatewayHandle>>,
    formats: Formats,
    scrubber: Arc<Mutex<Scrubber>>,
}

impl Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// The state of a server that was just started: nobody is connected, and only formats are scrubbed yet.
    ///
    /// # Errors
    /// [`FormatsError`]: it could not scrub them, and must not begin.
    pub fn new(
        store: Store,
        keys: Keys,
        dir: PathBuf,
        profiles: PathBuf,
        workspace: WorkspaceId,
        house: House,
    ) -> Result<Self, FormatsError> {
        let formats = Formats::load()?;
        Ok(Self(Arc::new(Inner {
            store,
            keys,
            dir,
            profiles,
            workspace,
            administrator: PersonId::parse("administrator").expect("it is an id"),
            administrator_name: house.administrator,
            port: house.port,
            prove: house.prove,
            live: Live::default(),
            heads: crate::heads::Heads::default(),
            warm: crate::warm::Wanted::new(house.warm),
            connections: crate::connections::Desk::default(),
            mints: crate::mint::Desk::default(),
            placing: tokio::sync::Mutex::new(()),
            pausing: tokio::sync::Mutex::new(()),
            editing: tokio::sync::Mutex::new(()),
            operator: Mutex::new(None),
            gateway: Mutex::new(None),
            formats,
            scrubber: Arc::new(Mutex::new(Scrubber::new([]).with_formats(formats))),
        })))
    }

    /// The linked operator.
    #[must_use]
    pub fn operator(&self) -> Option<LinkHandle> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connected gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayHandle> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on this is the linked operator.
    pub fn set_operator(&self, handle: Option<LinkHandle>) {
        *self.operator.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// From here on this is the connected gateway.
    pub fn set_gateway(&self, handle: Option<GatewayHandle>) {
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// The scrubber of every secret that is set, and of what has the format of a credential: for all that is kept,
    /// shown or told. What comes from a box passed the gateway's before; this one knows all values.
    #[must_use]
    pub fn scrubber(&self) -> Scrubber {
        self.scrubber.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives [`App::scrubber`] for as long as anybody asks, as [`scrub::Current`] wants it, and keeps nothing else of this.
    pub fn scrubbers(&self) -> impl Fn() -> Option<Scrubber> + Send + Sync + 'static {
        let scrubber = self.scrubber.clone();
        move || scrub::unlocked(&scrubber).map(|scrubber| scrubber.clone())
    }

    /// Builds the scrubber anew; to be called after each change of a secret.
    ///
    /// # Errors
    /// The store's. A secret that does not open is left out, and logged.
    pub async fn renew_scrubber(&self) -> Result<(), Fault> {
        let mut values = Vec::new();
        for row in self.store.secrets().await? {
            match self.keys.open_key(&row) {
                Ok(value) => values.push((row.name, value)),
                // What does not open here is given to nobody either, so it cannot come back.
                Err(e) => tracing::error!("the secret {} cannot be opened ({e}); set it anew", row.name),
            }
        }
        values.extend(crate::connections::values(self).await?);
        values.extend(crate::mint::values(self).await?);
        let values = scrub::with_parts(values);
        let scrubber = Scrubber::keyed(&Key::new(self.keys.fingerprints().share()), values).with_formats(self.formats);
        *self.scrubber.lock().unwrap_or_else(PoisonError::into_inner) = scrubber;
        Ok(())
    }
}
