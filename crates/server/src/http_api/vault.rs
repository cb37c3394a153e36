//! `/api/vault`, `/api/backup`

use super::{Body, By, PlatformStatus, VaultBackup, VaultRotate};
use crate::app::App;
use crate::fault::Fault;
use crate::routes::Routes;
use crate::vault;
use api::vault::{RotateVault, RotationTicket, VaultView};
use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use std::fs::File;
use std::io::Read;

pub fn routes() -> Routes {
    Routes::default()
        .add(
            Method::GET,
            "/api/vault",
            "Which key the vault is wrapped with, by its id, and where it comes from.",
            view,
        )
        .answers("VaultView")
        .add(
            Method::POST,
            "/api/vault/rotation",
            "Make a ticket for exchanging that key; earlier ones are void.",
            ticket,
        )
        .answers("RotationTicket")
        .add(Method::PUT, "/api/vault/rotation", "Wrap the vault with another key, over the home's own socket.", rotate)
        .takes("RotateVault")
        .answers("VaultView")
        .add(Method::GET, "/api/backup", "A copy of the database, sealed as it is, over the home's own socket.", backup)
}

async fn view(_: By<PlatformStatus>, State(app): State<App>) -> Json<VaultView> {
    Json(vault::view(&app))
}

async fn ticket(by: By<VaultRotate>, State(app): State<App>) -> Result<Json<RotationTicket>, Fault> {
    vault::at_home(&by.caller)?;
    Ok(Json(vault::ticket(&app).await))
}

async fn rotate(
    by: By<VaultRotate>,
    State(app): State<App>,
    Body(wish): Body<RotateVault>,
) -> Result<Json<VaultView>, Fault> {
    vault::at_home(&by.caller)?;
    vault::rotate(&app, &by.caller, wish).await.map(Json)
}

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

async fn backup(by: By<VaultBackup>, State(app): State<App>) -> Result<Response, Fault> {
    vault::at_home(&by.caller)?;
    let file = vault::copy(&app, &by.caller).await?;
    let length = file.metadata().map_err(|e| Fault::ours("read the copy of the database", &e))?.len();
    let pieces = futures_util::stream::try_unfold(file, |file| async move {
        let read = tokio::task::spawn_blocking(move || piece(file)).await;
        read.map_err(std::io::Error::other)?
    });
    let head =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((head, Stream::from_stream(pieces)).into_response())
}

fn piece(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let mut piece = Vec::with_capacity(PIECE);
    (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(if piece.is_empty() { None } else { Some((piece.into(), file)) })
}
