//! A platform for a command: the one that is up, or one started for the command's own length.

use crate::client::Client;
use crate::home::Home;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A platform that answers. Dropping it ends the one that was started for it.
#[derive(Debug)]
pub struct Platform {
    /// To speak with it.
    pub client: Client,
    own: Option<Child>,
}

/// Connects to the platform of `home`, or starts one that lives as long as the value returned.
///
/// # Errors
/// What hinders it, with what to do.
pub async fn reach(home: &Home) -> anyhow::Result<Platform> {
    let client = Client::new(home);
    if client.is_up().await {
        client.answers().await?;
        return Ok(Platform { client, own: None });
    }
    super::doctor::refuse_unless_able()?;
    start(home, &[]).await
}

/// As [`reach`], for commands that make no home.
///
/// # Errors
/// When there is none; else as [`reach`].
pub async fn reach_made(home: &Home) -> anyhow::Result<Platform> {
    home.is_there()?;
    reach(home).await
}

/// Starts a platform on `home`, on any free port.
///
/// # Errors
/// Its own last words.
pub async fn start(home: &Home, extra: &[&str]) -> anyhow::Result<Platform> {
    let client = Client::new(home);
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--home").arg(home.path()).args(["up", "--port", "0", "--quiet"]);
    // It ends with the command: no later run would claim a box.
    command.args(["--warm", "0"]).args(extra);
    // A group of its own: Ctrl-C is for this command, which then ends the platform in order.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: plain system calls, which allocate nothing.
    unsafe {
        command.pre_exec(move || {
            // Killed, this command cannot end it: then the kernel says so to it.
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            if rustix::process::getppid() == Some(parent) {
                return Ok(());
            }
            // Whom this is for is gone: nobody reads it.
            Err(rustix::io::Errno::SRCH.into())
        });
    }
    let mut child = command.spawn().context("start a platform for this command")?;
    loop {
        if let Some(status) = child.try_wait()? {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            // Another command was faster and starts one on this very home: its platform is as good.
            if said.contains("is in use") && joined(&client).await {
                return Ok(Platform { client, own: None });
            }
            bail!("the platform did not start ({status}): {}", said.trim().trim_start_matches("volary: "));
        }
        if client.health().await.is_some_and(|h| h.operator && h.gateway) {
            return Ok(Platform { client, own: Some(child) });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn joined(client: &Client) -> bool {
    for _ in 0..400 {
        if client.health().await.is_some_and(|h| h.operator && h.gateway) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    false
}

impl Platform {
    /// Ends the platform that was started for this command, once no other command's run uses it.
    pub async fn finish(self) {
        let mut said = false;
        while self.own.is_some() && self.client.health().await.is_some_and(|h| h.live_runs > 0) {
            if !said {
                eprintln!("volary: other runs use the platform that this command started; it ends after them");
                said = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether it lives only for this command.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let Some(mut child) = self.own.take() else { return };
        if let Some(pid) = Pid::from_raw(child.id().cast_signed())
            && let Err(e) = kill_process(pid, Signal::TERM)
        {
            eprintln!("volary: end the platform: {e}");
        }
        if let Err(e) = child.wait() {
            eprintln!("volary: wait for the platform: {e}");
        }
    }
}
