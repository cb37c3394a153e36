//! Numbers that bound a request to the outside, and what it may move. All of them stand in `docs/limits.md`.

use std::time::Duration;

/// How long one address may take to answer, a company's proxy to connect, and TLS to be agreed, each.
pub(crate) const STEP: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
pub(crate) const ADDRESSES_TRIED: usize = 4;
/// From a request's last byte, or its body's last pause, to the head of its answer.
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(120);
/// Between two pieces of an answer, of a request's body, of a tunnel, and of what a client takes.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// One request, from its head to the last byte of its answer; one WebSocket.
pub(crate) const REQUEST: Duration = Duration::from_secs(600);
/// Body of one request, in bytes.
pub(crate) const REQUEST_BYTES: u64 = 1 << 30;
/// What one run may move in all, both ways together, in bytes.
pub(crate) const RUN_BYTES: u64 = 64 << 30;
/// Connections out of one run at once; more requests wait.
pub(crate) const LINES: usize = 64;
/// Unused connections kept for one run, and how long.
pub(crate) const KEPT_LINES: usize = 32;
pub(crate) const KEPT: Duration = Duration::from_secs(45);
/// Requests at once on one HTTP/2 connection of a client.
pub(crate) const STREAMS: u32 = 32;
/// The same over all HTTP/2 connections of one run: their heads are held until each is answered.
pub(crate) const RUN_STREAMS: usize = 256;
/// What one HTTP/2 connection holds of bodies that nobody took yet: of one request, and in all, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Longest head of an answer, in bytes.
pub(crate) const ANSWER_HEAD: usize = 64 * 1024;
/// What comes out of one encoded answer to a request with a credential, in bytes.
pub(crate) const DECODED_BYTES: u64 = 256 << 20;
/// How long a WebSocket's message may wait because it ends as the credential begins, and nothing shows that it is a word.
pub(crate) const HELD_MESSAGE: Duration = Duration::from_secs(10);
/// How long a host that was given a credential may say nothing, until what was held of its answer goes on where that tells
/// nothing, or little.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How long a client of a tunnel may take for its first message.
pub(crate) const HELLO: Duration = Duration::from_secs(10);
/// How old the table of a run may be when it refuses: after that the server is asked whether it has another.
pub(crate) const LAW_FRESH: Duration = Duration::from_millis(250);
