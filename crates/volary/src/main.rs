//! `volary`: one binary, every command. Read [`up`] (the processes), [`process`] and [`confine`] (what each may do),
//! then [`commands`] (what a person does).

// First: the others print by its macros.
#[macro_use]
mod out;
mod client;
mod commands;
mod confine;
mod home;
mod keys;
mod logs;
mod outside;
mod process;
mod terminal;
mod up;
mod usage;
mod walls;

use api::git::OpenProposal;
use clap::{Parser, Subcommand};
use home::Home;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lets software agents do real work inside walls they cannot see past.
#[derive(Debug, Parser)]
#[command(name = "volary", version, about, disable_help_subcommand = true)]
struct Cli {
    /// The installation's folder [default: /var/lib/volary for root, else the user's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a governed run from end to end, attacks included
    Demo(commands::demo::Args),
    /// Run the platform on this machine until Ctrl-C
    Up {
        /// Port of the console on 127.0.0.1; 0 for any free one
        #[arg(long, default_value_t = up::DEFAULT_PORT)]
        port: u16,
        /// Print one JSON line when ready
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        outside: outside::Outside,
        /// Boxes that are made ahead, one for each of the profiles run last, and wait for a run of that profile (0 to 8)
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=8), value_name = "N")]
        warm: u8,
        /// Say nothing when ready (for a platform that another command starts)
        #[arg(long, hide = true)]
        quiet: bool,
    },
    /// Show every process and every wall, read back live
    Status {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Say what this host can do, what is missing and what to do about it
    Doctor {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Let an agent work on a task
    Run(commands::run::Args),
    /// Run one command in a throwaway box with the same walls
    Exec(commands::exec::Args),
    /// List runs
    Runs {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Worktrees whose changes are in no repository
    Kept {
        /// What to do; lists them when absent
        #[command(subcommand)]
        act: Option<commands::kept::Act>,
        /// For machines
        #[arg(long, global = true)]
        json: bool,
    },
    /// Print a run's transcript
    Log {
        /// The run
        run: String,
        /// Go on until the run ends
        #[arg(long, short)]
        follow: bool,
        /// One JSON entry a line
        #[arg(long)]
        json: bool,
    },
    /// Say what a run was refused, why, and what would allow it
    Explain {
        /// The run
        run: String,
        /// Number of one refusal; lists them when absent
        n: Option<u64>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Accept what would allow a refusal: in its profile, and in its run at once
    Allow(commands::explain::AllowArgs),
    /// Print the exact context that a turn of a run saw
    Replay {
        /// The run
        run: String,
        /// The turn, from 1
        #[arg(long)]
        turn: u32,
    },
    /// End a run
    Cancel {
        /// The run
        run: String,
    },
    /// Have a run stand still where it is: its box, and its time
    Pause {
        /// The run
        run: String,
    },
    /// Let a paused run go on
    Resume {
        /// The run
        run: String,
    },
    /// Open a pull request for what a run pushed, under its person's identity
    Pr {
        /// The run
        run: String,
        /// What it is to be called, instead of what the agent, or the task, says
        #[arg(long)]
        title: Option<String>,
        /// What it is to say, instead of what the agent, or the task, says
        #[arg(long)]
        body: Option<String>,
    },
    /// Keep keys: set, rotate, list, delete; never read back
    Secret {
        #[command(subcommand)]
        act: commands::secrets::Act,
    },
    /// Leases: who may use which key once, until when; take one back
    Lease {
        #[command(subcommand)]
        act: commands::leases::Act,
    },
    /// Keep OAuth connections: add, list, sign in, end; tokens are never shown
    Connect {
        #[command(subcommand)]
        act: commands::connect::Act,
    },
    /// Say which key the vault is wrapped with, and wrap it with another
    Vault {
        #[command(subcommand)]
        act: commands::vault::Act,
    },
    /// Copy everything that is kept into a new folder, its secrets sealed; never the key
    Backup {
        /// The folder, which is made
        folder: PathBuf,
    },
    /// Make a new home (--home) of a backup
    Restore {
        /// The folder of the backup
        folder: PathBuf,
    },
    /// Name models: add, list, test, delete
    Model {
        #[command(subcommand)]
        act: commands::models::Act,
    },
    /// Profiles: list them, and say all that is wrong with one before a run
    Profile {
        #[command(subcommand)]
        act: commands::profile::Act,
    },
    /// Print everything a run of a profile could do
    Reach {
        /// Name of a profile
        #[arg(default_value = "default")]
        profile: String,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Filter standard input to standard output, without the home's secrets and without credentials
    Scrub(commands::scrub::Args),
    /// Verify the evidence, offline
    Verify {
        /// An evidence file; this home's own when absent
        file: Option<PathBuf>,
        /// The key that its heads must be signed under, as an earlier `verify` printed it
        #[arg(long)]
        key: Option<String>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Print a new single-use sign-in link to the console
    SignIn {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Write the reviewable tables into a folder (for `xtask goldens`)
    #[command(hide = true)]
    Goldens {
        /// Where to
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    // Some dependencies would choose a provider by themselves, and panic at two.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("volary: a second TLS provider is in this build");
        return ExitCode::from(2);
    }
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "process") {
        return process::main(&args[1..]);
    }
    let cli = match usage::parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if !matches!(cli.command, Command::Up { .. } | Command::Run(_) | Command::Exec(_) | Command::Demo(_)) {
        // A reader that goes away (`volary runs | head`) ends the command, as it ends others. Those that have a run to
        // end, or a folder to remove, see it as an error and do that first.
        // SAFETY: one thread, and no handler of ours is replaced.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    match start(cli) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(e) => {
            eprintln!("volary: {}", commands::show::plain(&format!("{e:#}")));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<i32> {
    if matches!(cli.command, Command::Demo(_)) && cli.home.is_some() {
        anyhow::bail!("the demo has a home of its own, fresh and removed at its end; leave --home out");
    }
    let home = Home::resolve(cli.home.as_deref())?;
    match cli.command {
        Command::Up { port, json, outside, warm, quiet } => {
            commands::doctor::refuse_unless_able()?;
            up::main(&up::Options { home, port, json, outside, quiet, warm: warm.into() }).map(|()| 0)
        }
        Command::Doctor { json } => commands::doctor::main(&home, json),
        Command::Goldens { dir } => commands::goldens::main(&dir).map(|()| 0),
        Command::Restore { folder } => commands::backup::restore(&folder, &home),
        Command::Verify { file, key, json } => commands::verify::main(&home, file.as_deref(), key.as_deref(), json),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(person(&home, command))
        }
    }
}

/// What speaks to a server.
async fn person(home: &Home, command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Demo(args) => commands::demo::main(&args).await,
        Command::Run(args) => commands::run::main(home, &args).await,
        Command::Exec(args) => Ok(commands::exec::main(home, &args).await),
        Command::Status { json } => commands::status::main(home, json).await,
        Command::Runs { json } => commands::log::list(home, json).await,
        Command::Kept { act, json } => commands::kept::main(home, &act.unwrap_or_default(), json).await,
        Command::Log { run, follow, json } => commands::log::main(home, &run, follow, json).await,
        Command::Explain { run, n, json } => commands::explain::main(home, &run, n, json).await,
        Command::Allow(args) => commands::explain::allow(home, &args).await,
        Command::Replay { run, turn } => commands::log::replay(home, &run, turn).await,
        Command::Cancel { run } => commands::log::cancel(home, &run).await,
        Command::Pause { run } => commands::log::pause(home, &run).await,
        Command::Resume { run } => commands::log::resume(home, &run).await,
        Command::Pr { run, title, body } => commands::log::propose(home, &run, OpenProposal { title, body }).await,
        Command::Secret { act } => commands::secrets::main(home, &act).await,
        Command::Lease { act } => commands::leases::main(home, &act).await,
        Command::Connect { act } => commands::connect::main(home, &act).await,
        Command::Vault { act } => commands::vault::main(home, &act).await,
        Command::Backup { folder } => commands::backup::backup(home, &folder).await,
        Command::Model { act } => commands::models::main(home, &act).await,
        Command::Scrub(args) => commands::scrub::main(home, &args).await,
        Command::Profile { act } => commands::profile::main(home, &act).await,
        Command::Reach { profile, json } => commands::reach::main(home, &profile, json).await,
        Command::SignIn { json } => {
            let client = client::Client::new(home);
            client.answers().await?;
            let link = client.sign_in().await?;
            println!("{}", if json { serde_json::to_string_pretty(&link)? } else { link.url });
            Ok(0)
        }
        Command::Up { .. }
        | Command::Doctor { .. }
        | Command::Goldens { .. }
        | Command::Verify { .. }
        | Command::Restore { .. } => {
            unreachable!("handled by `start`")
        }
    }
}
