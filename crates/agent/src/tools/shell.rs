//! `shell`, through the runner's `terminal/*`: asked for, never executed here.

use super::{Bench, MAX_TEXT, Said, Shell, cut, words};
use agent_client_protocol_schema::v1::{
    CLIENT_METHOD_NAMES, CreateTerminalRequest, CreateTerminalResponse, KillTerminalRequest, Meta,
    ReleaseTerminalRequest, TerminalExitStatus, TerminalId, TerminalOutputRequest, TerminalOutputResponse,
    WaitForTerminalExitRequest, WaitForTerminalExitResponse,
};
use api::inbox::ACP_TOOL_CALL;
use api::leases::ACP_LEASE;
use serde_json::Value;
use std::time::Duration;

/// Seconds of a command unless said.
const SECONDS: u64 = 120;
/// Output that the runner holds for us, in bytes; the record gets all of it anyway.
const HELD: u64 = 1024 * 1024;
/// Key of `_meta` under which the runner says why it ended a command itself.
const RUNNER_SAYS: &str = "volary.why";
/// How long a killed command may take to be gone.
const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(bench: &Bench, id: &str, shell: &Shell) -> Result<Said, Said> {
    let mut meta = Meta::new();
    meta.insert(ACP_TOOL_CALL.to_owned(), Value::from(id));
    let (program, args) = match &shell.lease {
        None => ("/bin/sh".to_owned(), vec!["-c".to_owned(), shell.command.clone()]),
        Some(lease) => {
            meta.insert(ACP_LEASE.to_owned(), Value::from(lease.as_str()));
            let mut words = words::split(&shell.command).map_err(Said::error)?.into_iter();
            (words.next().ok_or_else(|| Said::error("The command is empty."))?, words.collect())
        }
    };
    let ask = CreateTerminalRequest::new(bench.session.clone(), program)
        .args(args)
        .cwd(bench.root.clone())
        .output_byte_limit(HELD)
        .meta(meta);
    let made: CreateTerminalResponse = bench.peer.request(CLIENT_METHOD_NAMES.terminal_create, ask).await?;
    let terminal = made.terminal_id;
    let outcome = follow(bench, &terminal, shell).await;
    let release = ReleaseTerminalRequest::new(bench.session.clone(), terminal);
    let _: Value = bench.peer.request(CLIENT_METHOD_NAMES.terminal_release, release).await?;
    outcome
}

async fn follow(bench: &Bench, terminal: &TerminalId, shell: &Shell) -> Result<Said, Said> {
    let seconds = shell.timeout.unwrap_or(SECONDS).clamp(1, bench.command_seconds.max(1));
    let in_time = crate::lived::timeout(Duration::from_secs(seconds), wait(bench, terminal)).await;
    let (exit, why) = match in_time {
        Ok(ended) => ended?,
        Err(_) => {
            let kill = KillTerminalRequest::new(bench.session.clone(), terminal.clone());
            let _: Value = bench.peer.request(CLIENT_METHOD_NAMES.terminal_kill, kill).await?;
            let ended = crate::lived::timeout(GRACE, wait(bench, terminal)).await;
            let exit = ended.map_or_else(|_| Ok(TerminalExitStatus::new()), |ended| ended.map(|(exit, _)| exit))?;
            (exit, format!("killed: it did not end within {seconds} seconds"))
        }
    };
    let ask = TerminalOutputRequest::new(bench.session.clone(), terminal.clone());
    let output: TerminalOutputResponse = bench.peer.request(CLIENT_METHOD_NAMES.terminal_output, ask).await?;
    Ok(said(output, &exit, &why))
}

/// How it ended; and why, where the runner ended it.
async fn wait(bench: &Bench, terminal: &TerminalId) -> Result<(TerminalExitStatus, String), Said> {
    let ask = WaitForTerminalExitRequest::new(bench.session.clone(), terminal.clone());
    let answer: WaitForTerminalExitResponse =
        bench.peer.request(CLIENT_METHOD_NAMES.terminal_wait_for_exit, ask).await?;
    let why = answer.meta.as_ref().and_then(|meta| meta.get(RUNNER_SAYS)).and_then(Value::as_str);
    let why = why.unwrap_or_default().to_owned();
    Ok((answer.exit_status, why))
}

fn said(output: TerminalOutputResponse, exit: &TerminalExitStatus, why: &str) -> Said {
    let (shown, cut) = cut::middle(&output.output, MAX_TEXT);
    let mut text = String::new();
    if output.truncated {
        text.push_str("[the beginning of the output is left out]\n");
    }
    text.push_str(&shown);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let how = match (exit.exit_code, exit.signal.as_deref()) {
        _ if !why.is_empty() => why.to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended; its exit status is not known".to_owned(),
    };
    text.push_str(&format!("[{how}]"));
    let ok = exit.exit_code == Some(0);
    Said { text, ok, cut: cut || output.truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_reads_the_output_and_how_the_command_ended() {
        let exit = |code, signal: Option<&str>| {
            let mut status = TerminalExitStatus::new();
            (status.exit_code, status.signal) = (code, signal.map(str::to_owned));
            status
        };
        let output = |text: &str| TerminalOutputResponse::new(text, false);
        for (output, exit, why, text, ok) in [
            (output("hi"), exit(Some(0), None), "", "hi\n[exit status 0]", true),
            (output(""), exit(Some(2), None), "", "[exit status 2]", false),
            (output(""), exit(None, Some("SIGSEGV")), "", "[ended by signal SIGSEGV]", false),
            (output("x\n"), exit(Some(0), None), "exit status 0; slowed", "x\n[exit status 0; slowed]", true),
            (output("x\n"), exit(None, Some("SIGKILL")), "killed: slow", "x\n[killed: slow]", false),
            (output(""), exit(None, None), "killed: slow", "[killed: slow]", false),
        ] {
            let said = said(output, &exit, why);
            assert_eq!((&*said.text, said.ok, said.cut), (text, ok, false));
        }
    }
}
