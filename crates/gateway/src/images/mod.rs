//! Images of registries, part by part, for the operator: it reads no network, and this process no file.
//!
//! The operator names a run and the image that the run's profile names, and brings a socket ([`api::images`]). The
//! server is asked first: it grants only what the run's own profile names, and records it. Because an administrator
//! named the registry there, its addresses may be those of the own network. Nobody named what a registry sends on to:
//! such a host is outside, or on the registry's own ground, never further in; it is asked over TLS, and without what
//! the registry is signed in to with. Nothing that comes is believed: it is bounded here, and held against its digest by
//! whoever asked.
//!
//! Read [`serve`], then [`registry`] (what a registry is asked, and its answers), and [`sign_in`] (its tokens).

mod registry;
mod sign_in;

use crate::Gate;
use crate::refusal::Refusal;
use crate::server::egress::Said;
use api::frame;
use api::grants::ImageAsk;
use api::images::{MAX_PART, Part, PartEnd};
use model::RunId;
use model::image::{Reference, is_digest};
use registry::Registry;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use tokio::net::UnixStream;

/// Serves one pull, until the operator closes its socket or a part does not come.
pub(crate) async fn serve(gate: Arc<Gate>, run: RunId, image: String, socket: OwnedFd) {
    let socket = StdStream::from(socket);
    let stream = match socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket)) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a socket for an image cannot be served"),
    };
    let (mut from, mut to) = stream.into_split();
    let mut registry = None;
    // The first word is waited for like every other: its end says that nobody wants the image.
    while let Ok(part) = frame::read::<Part>(&mut from).await {
        let came = async {
            if !is_digest(&part.digest) || part.most > MAX_PART {
                return Err(Refusal::policy("image.part", "A part is asked for by its digest, and within a bound."));
            }
            let registry = match &mut registry {
                Some(registry) => registry,
                none => none.insert(open(&gate, &run, &image).await?),
            };
            registry.give(&part, &mut to).await
        };
        let end = match came.await {
            Ok(()) => PartEnd::Whole,
            Err(Refusal { rule, why, .. }) => PartEnd::Refused { rule, why },
        };
        let told = async {
            frame::write_bytes(&mut to, &[]).await?;
            frame::write(&mut to, &end).await
        };
        if told.await.is_err() || end != PartEnd::Whole {
            return;
        }
    }
    if let Some(registry) = registry {
        registry.finish();
    }
}

/// Asks the server whether this run may have this image, and reads whom it is asked of.
async fn open(gate: &Arc<Gate>, run: &RunId, image: &str) -> Result<Registry, Refusal> {
    let reference = Reference::parse(image).map_err(|why| Refusal::policy("image.name", why))?;
    let ask = ImageAsk { run: run.clone(), image: image.to_owned() };
    match gate.server.ask_image(ask).await {
        Ok(Said::Granted { leave, credential }) => Registry::new(gate.clone(), reference, leave, credential),
        Ok(Said::Denied { rule, why }) => Err(Refusal::denied(rule, why)),
        Ok(Said::Law { .. }) | Err(_) => Err(Refusal::record_lost()),
    }
}
