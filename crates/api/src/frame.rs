//! Frames: a length, then that many bytes.
//!
//! A frame is `u32` little-endian (length of what follows, at most [`MAX_FRAME`]) and
//! that many bytes: one JSON text, unless a protocol says otherwise. A frame may hold a credential: what was written or
//! parsed is overwritten.

use model::Secret;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame: 8 MiB. Enough for a run's diff and for a resumed run's history, whose parts are smaller.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side is gone; nothing of a frame was read.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side broke off inside a frame, or the socket failed.
    #[error("the connection broke off")]
    Io(#[source] std::io::Error),
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// Not the message that was expected.
    #[error("a frame holds no message of this protocol")]
    Malformed(#[source] serde_json::Error),
}

/// Reads one frame's bytes. Not cancel-safe: keep it in a task of its own.
///
/// # Errors
/// [`FrameError::Closed`] at a clean end, [`FrameError::Io`] inside a frame, [`FrameError::TooLong`].
pub async fn read_bytes(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, FrameError> {
    let mut length = [0u8; 4];
    match from.read(&mut length).await.map_err(FrameError::Io)? {
        0 => return Err(FrameError::Closed),
        4 => {}
        n => {
            from.read_exact(&mut length[n..]).await.map_err(FrameError::Io)?;
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await.map_err(FrameError::Io)?;
    Ok(body)
}

/// Writes one frame and flushes it.
///
/// # Errors
/// [`FrameError::TooLong`] (nothing written), [`FrameError::Io`].
pub async fn write_bytes(to: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), FrameError> {
    if body.len() > MAX_FRAME {
        return Err(FrameError::TooLong(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong(body.len()))?;
    let mut whole = Vec::with_capacity(4 + body.len());
    whole.extend_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(body);
    let whole = Secret::new(whole);
    to.write_all(whole.expose()).await.map_err(FrameError::Io)?;
    to.flush().await.map_err(FrameError::Io)
}

/// Reads one message. Not cancel-safe: keep it in a task of its own.
///
/// # Errors
/// Those of [`read_bytes`], and [`FrameError::Malformed`].
pub async fn read<M: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<M, FrameError> {
    let body = Secret::new(read_bytes(from).await?);
    serde_json::from_slice(body.expose()).map_err(FrameError::Malformed)
}

/// Writes one message.
///
/// # Errors
/// Those of [`write_bytes`]; [`FrameError::Malformed`] when it cannot be put in JSON.
pub async fn write<M: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &M) -> Result<(), FrameError> {
    let body = Secret::new(serde_json::to_vec(message).map_err(FrameError::Malformed)?);
    write_bytes(to, body.expose()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut wire: &[u8] = &u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes();
        assert!(matches!(read_bytes(&mut wire).await, Err(FrameError::TooLong(n)) if n == MAX_FRAME + 1));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_cut_frame_is_an_error_and_a_clean_end_is_not_the_same_error() {
        let mut wire = Vec::new();
        write_bytes(&mut wire, b"hello").await.unwrap();
        assert!(matches!(read_bytes(&mut &wire[..7]).await, Err(FrameError::Io(_))));
        assert!(matches!(read_bytes(&mut &wire[..0]).await, Err(FrameError::Closed)));
        assert_eq!(read_bytes(&mut &wire[..]).await.unwrap(), b"hello");
    }
}
