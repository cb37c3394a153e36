//! Runs and their transcripts.

mod kinds;

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use model::event::Source;
use model::run::RunKind;
use model::{Event, MicroDollars, Moment, Outcome, RunId, RunState, Usage};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::any::AnyRow;

/// One run's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub run: RunId,
    /// What it does.
    pub kind: RunKind,
    /// How it stands: the fold of its events.
    pub state: RunState,
    /// Why it ended so.
    pub reason: String,
    /// The task, or the command as people read it.
    pub task: String,
    /// For an exec: program and arguments.
    pub argv: Vec<String>,
    /// Repository on the host.
    pub repo: Option<String>,
    /// The profile's name.
    pub profile_name: String,
    /// The profile as it was when the run was accepted, in JSON.
    pub profile: String,
    /// The model's name.
    pub model: Option<String>,
    /// Who is behind it.
    pub person: String,
    /// When it was accepted.
    pub created: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// The last attempt that a host began.
    pub attempts: u32,
    /// The last attempt that was asked for.
    pub launches: u32,
    /// Whether a person asked for its end.
    pub cancel_asked: bool,
    /// Model calls that are paid for.
    pub calls: u64,
    /// Their tokens.
    pub usage: Usage,
    /// Their cost.
    pub cost: MicroDollars,
    /// Entries in the transcript.
    pub entries: u64,
    /// The server's last number in it.
    pub server_seq: u64,
    /// The operator's last number in it.
    pub operator_seq: u64,
    /// The commit its worktree started from.
    pub base: Option<String>,
    /// The branch that holds its result.
    pub branch: Option<String>,
}

impl RunRow {
    /// A run as it is when it is accepted, before its first event.
    #[must_use]
    pub fn new(run: RunId, kind: RunKind, created: Moment) -> Self {
        Self {
            run,
            kind,
            state: RunState::Queued,
            reason: String::new(),
            task: String::new(),
            argv: Vec::new(),
            repo: None,
            profile_name: "default".into(),
            profile: String::new(),
            model: None,
            person: String::new(),
            created,
            ended: None,
            attempts: 0,
            launches: 0,
            cancel_asked: false,
            calls: 0,
            usage: Usage::default(),
            cost: MicroDollars::default(),
            entries: 0,
            server_seq: 0,
            operator_seq: 0,
            base: None,
            branch: None,
        }
    }
}

/// A line of a transcript with its event as it was written, unknown kinds and fields included.
/// Reads back as [`model::Entry`].
#[derive(Debug, Clone, Serialize)]
pub struct RawEntry {
    /// The run.
    pub run: RunId,
    /// Place in the transcript, from 1.
    pub n: u64,
    /// When, by the source's clock.
    pub at: Moment,
    /// Who numbered it.
    pub source: Source,
    /// The source's number.
    pub source_seq: u64,
    /// The event, in JSON.
    pub event: Box<RawValue>,
}

impl RawEntry {
    /// The event as this version understands it.
    #[must_use]
    pub fn event(&self) -> Event {
        serde_json::from_str(self.event.get()).unwrap_or(Event::Unknown)
    }
}

/// What became of an event that an operator sent.
#[derive(Debug)]
pub enum Taken {
    /// It is a new line of the transcript.
    New(RawEntry),
    /// It was there already.
    Known,
    /// Numbers before it are missing; the operator's last is `have`.
    Gap {
        /// The last number that is here.
        have: u64,
    },
    /// No such run.
    NoRun,
}

fn word(source: Source) -> &'static str {
    match source {
        Source::Operator => "operator",
        Source::Server => "server",
    }
}

fn kind_word(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Agent => "agent",
        RunKind::Exec => "exec",
    }
}

const STATES: [RunState; 6] =
    [RunState::Queued, RunState::Running, RunState::Paused, RunState::Done, RunState::Failed, RunState::Cancelled];

fn state(text: &str) -> Result<RunState, StoreError> {
    STATES
        .into_iter()
        .find(|s| s.word() == text)
        .ok_or_else(|| StoreError::Corrupt { what: "run state", why: text.to_owned() })
}

fn id(text: &str) -> Result<RunId, StoreError> {
    RunId::parse(text).map_err(StoreError::corrupt("run id"))
}

pub(crate) fn small(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

pub(crate) fn run_row(row: &AnyRow) -> Result<RunRow, StoreError> {
    let number = |column: &str| from_row(row.get::<i64, _>(column));
    Ok(RunRow {
        run: id(row.get("run"))?,
        kind: if row.get::<&str, _>("kind") == "exec" { RunKind::Exec } else { RunKind::Agent },
        state: state(row.get("state"))?,
        reason: row.get("reason"),
        task: row.get("task"),
        argv: serde_json::from_str(row.get("argv")).map_err(StoreError::corrupt("list of arguments"))?,
        repo: row.get("repo"),
        profile_name: row.get("profile_name"),
        profile: row.get("profile"),
        model: row.get("model"),
        person: row.get("person"),
        created: Moment(row.get("created")),
        ended: row.get::<Option<i64>, _>("ended").map(Moment),
        attempts: small(row.get("attempts")),
        launches: small(row.get("launches")),
        cancel_asked: row.get::<i64, _>("cancel_asked") != 0,
        calls: number("calls"),
        usage: Usage {
            input: number("used_input"),
            output: number("used_output"),
            cache_read: number("used_cache_read"),
            cache_write: number("used_cache_write"),
            // Told apart where it is paid: at each call's settling.
            ..Usage::default()
        },
        cost: MicroDollars(number("cost")),
        entries: number("entries"),
        server_seq: number("server_seq"),
        operator_seq: number("operator_seq"),
        base: row.get("base"),
        branch: row.get("branch"),
    })
}

fn entry(run: RunId, row: &AnyRow) -> Result<RawEntry, StoreError> {
    Ok(RawEntry {
        run,
        n: from_row(row.get("n")),
        at: Moment(row.get("at")),
        source: if row.get::<&str, _>("source") == "operator" { Source::Operator } else { Source::Server },
        source_seq: from_row(row.get("source_seq")),
        event: RawValue::from_string(row.get("event")).map_err(StoreError::corrupt("event"))?,
    })
}

const ONE: &str = "SELECT * FROM runs WHERE run = $1";

pub(crate) fn one_run(run: &RunId) -> Statement {
    Statement::new("read a run", ONE).bind(run.as_str())
}

impl Store {
    /// One run.
    ///
    /// # Errors
    /// The engine's.
    pub async fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        let row = sqlx::query(ONE).bind(run.as_str()).fetch_optional(&self.read).await;
        row.map_err(StoreError::sql("read a run"))?.as_ref().map(run_row).transpose()
    }

    /// The newest runs first, at most `limit`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        const NEWEST: &str = "SELECT * FROM runs ORDER BY created DESC, run LIMIT $1";
        let rows = sqlx::query(NEWEST).bind(i64::from(limit)).fetch_all(&self.read).await;
        rows.map_err(StoreError::sql("list the runs"))?.iter().map(run_row).collect()
    }

    /// The runs that are not over, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn live_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        const LIVE: &str = "SELECT * FROM runs WHERE state IN ('queued', 'running', 'paused') ORDER BY created, run";
        let rows = sqlx::query(LIVE).fetch_all(&self.read).await;
        rows.map_err(StoreError::sql("list the live runs"))?.iter().map(run_row).collect()
    }

    /// Lines of a transcript after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<RawEntry>, StoreError> {
        const AFTER: &str =
            "SELECT n, at, source, source_seq, event FROM events WHERE run = $1 AND n > $2 ORDER BY n LIMIT $3";
        let rows = sqlx::query(AFTER).bind(run.as_str()).bind(to_row(after)).bind(i64::from(limit));
        let rows = rows.fetch_all(&self.read).await.map_err(StoreError::sql("read a transcript"))?;
        rows.iter().map(|row| entry(run.clone(), row)).collect()
    }
}

impl Tx {
    /// One run, as it stands inside this transaction.
    ///
    /// # Errors
    /// The engine's.
    pub async fn run(&mut self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        self.row(one_run(run)).await?.as_ref().map(run_row).transpose()
    }

    /// Adds a run; its counters start at nothing, whatever the row says.
    ///
    /// # Errors
    /// The engine's; also when the id is taken.
    pub async fn add_run(&mut self, row: &RunRow) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO runs (run, kind, state, reason, task, argv, repo, profile_name, profile, model, \
            person, created, attempts, launches, cancel_asked, calls, used_input, used_output, \
            used_cache_read, used_cache_write, cost, entries, server_seq, operator_seq) \
            VALUES ($1, $2, 'queued', '', $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
        let argv = serde_json::to_string(&row.argv).map_err(StoreError::corrupt("list of arguments"))?;
        let add = Statement::new("add a run", ADD).bind(row.run.as_str()).bind(kind_word(row.kind));
        let add = add.bind(row.task.as_str()).bind(argv).bind(row.repo.as_deref());
        let add = add.bind(row.profile_name.as_str()).bind(row.profile.as_str()).bind(row.model.as_deref());
        // Asked for at once, so that an id that is taken is told here.
        self.row(add.bind(row.person.as_str()).bind(row.created.0)).await.map(drop)
    }

    /// Appends an event of the server's own, numbering it; the run's row follows ([`Tx::fold`]).
    ///
    /// # Errors
    /// The engine's; [`StoreError::Corrupt`] when there is no such run.
    pub async fn append(&mut self, run: &RunId, at: Moment, event: &Event) -> Result<RawEntry, StoreError> {
        const LAST: &str = "SELECT entries, server_seq FROM runs WHERE run = $1";
        let last = self.row(Statement::new("number an event", LAST).bind(run.as_str())).await?;
        let last = last.ok_or_else(|| StoreError::Corrupt { what: "run", why: format!("no run {run}") })?;
        self.append_after(run, from_row(last.get(0)), from_row(last.get(1)), at, event)
    }

    /// As [`Tx::append`], to a run whose row was read in this act and to which nothing else was appended since.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for an event that is no JSON.
    pub fn append_to(&mut self, row: &mut RunRow, at: Moment, event: &Event) -> Result<RawEntry, StoreError> {
        let entry = self.append_after(&row.run, row.entries, row.server_seq, at, event)?;
        (row.entries, row.server_seq) = (entry.n, entry.source_seq);
        Ok(entry)
    }

    fn append_after(
        &mut self,
        run: &RunId,
        entries: u64,
        server_seq: u64,
        at: Moment,
        event: &Event,
    ) -> Result<RawEntry, StoreError> {
        // A place that is taken is refused by the table.
        const NEXT: &str = "UPDATE runs SET entries = entries + 1, server_seq = server_seq + 1 WHERE run = $1";
        let raw = serde_json::value::to_raw_value(event).map_err(StoreError::corrupt("event"))?;
        self.later(Statement::new("number an event", NEXT).bind(run.as_str()));
        let (n, source_seq) = (entries + 1, server_seq + 1);
        let entry = RawEntry { run: run.clone(), n, at, source: Source::Server, source_seq, event: raw };
        self.insert(&entry, event);
        Ok(entry)
    }

    /// Takes an operator's event number `source_seq`: once, and in order.
    ///
    /// `raw` is what is kept; `event` is what it means here. The run's row follows ([`Tx::fold`]).
    ///
    /// # Errors
    /// The engine's.
    pub async fn take(
        &mut self,
        run: &RunId,
        source_seq: u64,
        at: Moment,
        raw: Box<RawValue>,
        event: &Event,
    ) -> Result<Taken, StoreError> {
        const NEXT: &str = "UPDATE runs SET entries = entries + 1, operator_seq = $2 WHERE run = $1 AND \
            operator_seq = $2 - 1 RETURNING entries";
        const HAVE: &str = "SELECT operator_seq FROM runs WHERE run = $1";
        let next = Statement::new("number an event", NEXT).bind(run.as_str()).bind(to_row(source_seq));
        let have = Statement::new("read a run", HAVE).bind(run.as_str());
        let [next, have] = self.rows([next, have]).await?;
        let Some(next) = next.first() else {
            return Ok(match have.first() {
                None => Taken::NoRun,
                Some(row) if from_row(row.get(0)) >= source_seq => Taken::Known,
                Some(row) => Taken::Gap { have: from_row(row.get(0)) },
            });
        };
        let n = from_row(next.get(0));
        let entry = RawEntry { run: run.clone(), n, at, source: Source::Operator, source_seq, event: raw };
        self.insert(&entry, event);
        Ok(Taken::New(entry))
    }

    fn insert(&mut self, entry: &RawEntry, event: &Event) {
        const INSERT: &str = "INSERT INTO events (run, n, at, source, source_seq, kind, event) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let kind = kind_of(&entry.event);
        let insert = Statement::new("append to a transcript", INSERT).bind(entry.run.as_str()).bind(to_row(entry.n));
        let insert = insert.bind(entry.at.0).bind(word(entry.source)).bind(to_row(entry.source_seq));
        self.later(insert.bind(kind).bind(entry.event.get()));
        self.fold(&entry.run, entry.at, event);
    }

    /// Lets the run's row follow one event. Nothing changes a run's state but this.
    fn fold(&mut self, run: &RunId, at: Moment, event: &Event) {
        // One that was paused meanwhile stays so.
        const RUNNING: &str = "UPDATE runs SET state = CASE state WHEN 'queued' THEN 'running' ELSE state END, \
            attempts = $2, reason = '' WHERE run = $1 AND state IN ('queued', 'running', 'paused')";
        const ENDED: &str = "UPDATE runs SET state = $2, reason = $3, ended = $4 WHERE run = $1 AND state IN \
            ('queued', 'running', 'paused')";
        // Why it has no box now.
        const BROKEN_OFF: &str = "UPDATE runs SET reason = $2 WHERE run = $1 AND state IN \
            ('queued', 'running', 'paused')";
        const PAUSED: &str = "UPDATE runs SET state = 'paused' WHERE run = $1 AND state IN ('queued', 'running')";
        const RESUMED: &str = "UPDATE runs SET state = $2 WHERE run = $1 AND state = 'paused'";
        const BASE: &str = "UPDATE runs SET base = $2 WHERE run = $1 AND base IS NULL";
        const BRANCH: &str = "UPDATE runs SET branch = $2 WHERE run = $1";
        let follow = |sql| Statement::new("follow an event", sql).bind(run.as_str());
        let change = match event {
            Event::Attempt { attempt, .. } => follow(RUNNING).bind(i64::from(*attempt)),
            Event::Ended { outcome, reason, .. } => {
                let state = match outcome {
                    Outcome::Done => RunState::Done,
                    Outcome::Failed => RunState::Failed,
                    Outcome::Cancelled => RunState::Cancelled,
                };
                follow(ENDED).bind(state.word()).bind(reason.as_str()).bind(at.0)
            }
            Event::BrokenOff { reason, .. } => follow(BROKEN_OFF).bind(reason.as_str()),
            Event::Paused { .. } => follow(PAUSED),
            Event::Resumed { .. } => follow(RESUMED).bind(RunState::Paused.after(event).word()),
            Event::Base { commit, .. } => follow(BASE).bind(commit.as_str()),
            Event::Result { branch: Some(branch), .. } => follow(BRANCH).bind(branch.as_str()),
            _ => return,
        };
        self.later(change);
    }

    /// Notes that a person asked for the run's end.
    ///
    /// # Errors
    /// The engine's.
    pub async fn ask_cancel(&mut self, run: &RunId) -> Result<(), StoreError> {
        const ASK: &str = "UPDATE runs SET cancel_asked = 1 WHERE run = $1";
        self.later(Statement::new("change a run", ASK).bind(run.as_str()));
        Ok(())
    }

    /// Replaces the profile that a run keeps: what it may from here on.
    pub fn set_profile(&mut self, run: &RunId, profile: &str) {
        const SET: &str = "UPDATE runs SET profile = $2 WHERE run = $1";
        self.later(Statement::new("change a run", SET).bind(run.as_str()).bind(profile));
    }

    /// Notes which attempt was asked for last.
    ///
    /// # Errors
    /// The engine's.
    pub async fn launched(&mut self, run: &RunId, attempt: u32) -> Result<(), StoreError> {
        const LAUNCHED: &str = "UPDATE runs SET launches = $2 WHERE run = $1";
        self.later(Statement::new("change a run", LAUNCHED).bind(run.as_str()).bind(i64::from(attempt)));
        Ok(())
    }
}

/// The `kind` of an event as written, without its known fields having to be right.
fn kind_of(raw: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str::<Kind>(raw.get()).map_or_else(|_| "unknown".to_owned(), |k| k.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_rows_are_those_of_the_states() {
        for s in STATES {
            assert_eq!(state(s.word()).unwrap(), s);
            assert_eq!(s.is_over(), !matches!(s.word(), "queued" | "running" | "paused"));
        }
    }
}
