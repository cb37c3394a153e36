//! Exec: one command, its standard input from the operator, its end the box's end.

use crate::Context;
use crate::command::{self, Request, Running};
use crate::met;
use api::inbox::{Done, ToRunner};
use base64::Engine;
use model::event::Exit;
use model::{LeaseId, Limits};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// The one command.
pub struct Task {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Directory.
    pub cwd: String,
    /// The run's handle, in its environment and in no other's; under a lease the command is given what that is of instead.
    pub handle: Option<String>,
    /// The lease under which it runs.
    pub lease: Option<LeaseId>,
}

/// Runs the command to its end.
pub async fn run(
    context: &Rc<Context>,
    Task { argv, cwd, handle, lease }: Task,
    limits: Limits,
    inbox: mpsc::Receiver<ToRunner>,
) -> Done {
    let request = Request {
        id: "exec".into(),
        argv,
        env: handle.map(|handle| (api::inbox::HANDLE.to_owned(), handle)).into_iter().collect(),
        cwd,
        tool_call: None,
        kept_first: false,
        lease: lease.map(|lease| lease.to_string()),
        stdin: true,
        keep: met::WORDS,
    };
    if request.argv.is_empty() || !command::is_recordable(&request) {
        let reason = "the command is empty, or longer than the record takes (128 KiB)".to_owned();
        return Done { exit: Exit::Code { code: 126 }, task_done: false, reason };
    }
    let begun = command::begin(context, request, &limits).await;
    let feeding = tokio::task::spawn_local(feed(inbox, begun.stdin, Rc::clone(&begun.running)));
    let exit = tokio::select! {
        exit = begun.running.wait() => exit,
        () = context.met.passed(Duration::from_secs(limits.seconds)) => {
            begun.running.kill(&format!("killed: time limit {} s", limits.seconds));
            begun.running.wait().await
        }
    };
    feeding.abort();
    context.line.flush().await;
    let (done, beside) = (exit == Exit::Code { code: 0 }, begun.running.beside());
    let reason = if beside.is_empty() { String::new() } else { met::whole(&exit, &beside) };
    Done { exit, task_done: done, reason }
}

/// Standard input from the operator's frames. While the command does not read, no further frame is taken and
/// the operator waits; closing its end is heard even then.
async fn feed(mut inbox: mpsc::Receiver<ToRunner>, mut stdin: Option<pipe::Sender>, running: Rc<Running>) {
    while let Some(message) = inbox.recv().await {
        match message {
            ToRunner::Input { data_b64 } => {
                let Ok(piece) = base64::engine::general_purpose::STANDARD.decode(data_b64) else {
                    // Half an input must not pass for a whole one.
                    running.kill("killed: a piece of its input was not what the platform sends");
                    continue;
                };
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&piece).await.is_err()
                {
                    // A command that no longer reads is no fault.
                    stdin = None;
                }
            }
            ToRunner::InputEnd => stdin = None,
            ToRunner::Cancel => running.kill("killed: cancelled"),
            // Sent once, before this task began.
            ToRunner::Trust { .. }
            | ToRunner::Variables { .. }
            | ToRunner::Handle { .. }
            | ToRunner::Agent(_)
            | ToRunner::Exec { .. }
            | ToRunner::Kept { .. }
            | ToRunner::Met { .. } => {}
        }
    }
}
