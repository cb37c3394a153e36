//! The agent's executable: takes its walls, then speaks the Agent Client Protocol on its standard input and
//! output until they are closed.

use agent::{acp, rpc, walls};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use tokio::net::unix::pipe;

fn main() -> ExitCode {
    // First: nothing is read, and no other thread is there, before the walls are.
    if let Err(error) = walls::take() {
        return failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match tokio::task::LocalSet::new().block_on(&runtime, speak()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn speak() -> io::Result<()> {
    let from = pipe::Receiver::from_owned_fd_unchecked(not_blocking(io::stdin().as_fd().try_clone_to_owned()?)?)?;
    let to = pipe::Sender::from_owned_fd_unchecked(not_blocking(io::stdout().as_fd().try_clone_to_owned()?)?)?;
    let (peer, queue) = rpc::Peer::new();
    let writing = tokio::task::spawn_local(rpc::write_all(queue, to));
    let serving = acp::serve(rpc::buffered(from), peer, acp::Surroundings::default());
    // The end of either direction is the end: without a runner there is nothing to do.
    tokio::select! {
        end = serving => end,
        end = writing => end.map_err(io::Error::other)?,
    }
}

/// A pipe or a socket, made ready for the runtime. The runner's end is another description and stays as it is.
fn not_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: fcntl with F_GETFL and F_SETFL on an open descriptor touches no memory.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(fd)
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    eprintln!("agent: {text}");
    ExitCode::FAILURE
}
