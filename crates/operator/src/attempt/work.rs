//! A box at work, until it stops, and what its end means for the run.

use super::{Attempt, Finish, Own, Working, ended, failed, unrecorded};
use crate::boxed::Boxed;
use crate::cable::Attachment;
use crate::hoards::{hoards, storms};
use crate::home::until;
use crate::journal::JournalError;
use crate::pump::Over;
use crate::stood::wished;
use crate::walls::drift;
use api::inbox::Done;
use model::event::Exit;
use model::run::RunKind;
use model::{Event, Outcome};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How long the runner may take to end in order after a cancel.
const GRACE: Duration = Duration::from_secs(5);
/// What the box gets beyond its own time limit, which the runner keeps itself.
const BEYOND: Duration = Duration::from_secs(30);
/// How soon a box that did not stand still, or go on, is asked to again.
const STILL_AGAIN: Duration = Duration::from_secs(5);
/// How long what a killed box said may take to pass the scrubber and reach the disk. That is what its pipe held, and a moment's
/// work; only where gateway or disk are very busy does whoever waits for the end wait so long, for its last words.
const DRAIN: Duration = Duration::from_secs(30);

/// Why the box stopped working.
enum Stop {
    Over(Over),
    Cancelled,
    /// While its box stood still.
    CancelledStill,
    Time,
    Overflow,
    /// Somebody changed the box from outside; in words.
    Drift(String),
    /// It goes on and on at a limit; in words.
    Storm(String),
}

impl Attempt {
    /// Until the end of the box.
    pub(super) async fn work(&self, mut working: Working, mut live: Boxed) -> Finish {
        let stop = self.follow(&mut working, &mut live).await;
        if matches!(stop, Stop::Over(Over::Lost | Over::Gone | Over::Journal(_)) | Stop::Drift(_)) {
            self.run.breaks();
        }
        let killed = live.with(|live| live.kill()).await;
        let stop = match stop {
            // What it said before it was killed still counts, its end among it.
            Stop::Cancelled | Stop::CancelledStill | Stop::Time | Stop::Overflow | Stop::Storm(_) => {
                match timeout(DRAIN, &mut working.pump.0).await {
                    Ok(Ok(over @ (Over::Lost | Over::Journal(_)))) => Stop::Over(over),
                    Ok(Ok(over @ Over::Done(_))) if matches!(stop, Stop::Cancelled) => Stop::Over(over),
                    _ => stop,
                }
            }
            over => over,
        };
        drop(working.writer);
        let imported = match killed {
            _ if matches!(stop, Stop::Over(Over::Lost | Over::Journal(_) | Over::Gone) | Stop::Drift(_)) => None,
            _ if !self.imports() => None,
            Err(why) => Some(Err(format!("its box was lost before its changes could be read: {why}"))),
            Ok(()) => Some(self.homeward().bring_box(&mut live).await),
        };
        // What holds the worktree was killed; the image has it still.
        let lost = matches!(imported, Some(Err(_))) && live.with(|live| live.is_lost()).await;
        let finish = self.judge_end(stop, live, &working.line, working.words).await;
        match (imported, finish) {
            // Another attempt finds the agent at its end, and brings home what lies in the image.
            (Some(Err(why)), Finish::Ended(Event::Ended { outcome: Outcome::Done, .. })) if lost => self.broke(why),
            (Some(Err(why)), Finish::Broken(text)) => Finish::Broken(format!("{text} ({why})")),
            (Some(imported), finish) if !lost => {
                // Set here alone, and once: a box stops working once.
                self.home.get_or_init(|| imported);
                finish
            }
            (_, finish) => finish,
        }
    }

    /// Until the box is to work no longer. It stands still, and its time with it, for as long as a person wants.
    async fn follow(&self, working: &mut Working, live: &mut Boxed) -> Stop {
        let begun = Instant::now();
        let time = Duration::from_secs(self.seconds) + BEYOND;
        let mut cancelled = pin!(async {
            until(self.cancelled.clone()).await;
            // The writer told the runner; it may still end in order.
            tokio::time::sleep(GRACE).await;
        });
        let mut drift = pin!(drift(&working.watch));
        let mut hoards = pin!(hoards(&working.holds, self.launch.profile.limits.open_files));
        let mut storms = pin!(storms(&working.gauge, self.launch.profile.limits.memory_mib));
        let (mut wish, mut again) = (self.still.clone(), None);
        loop {
            let stands = working.stood.stands();
            tokio::select! {
                biased;
                over = &mut working.pump.0 => return Stop::Over(over.unwrap_or(Over::Gone)),
                () = working.line.lost() => return Stop::Over(Over::Lost),
                // It cannot end in order, and is not to do anything more.
                () = until(self.cancelled.clone()), if stands => return Stop::CancelledStill,
                () = &mut cancelled => return Stop::Cancelled,
                () = sleep_until(begun + time + working.stood.so_far()), if !stands => return Stop::Time,
                () = self.input.overflow() => return Stop::Overflow,
                why = &mut drift => return Stop::Drift(why),
                why = &mut hoards => return Stop::Over(Over::Breach(why)),
                why = &mut storms => return Stop::Storm(why),
                () = wished(&mut wish, stands, again) => match self.hold(working, live, !stands).await {
                    Ok(()) => again = None,
                    Err(Some(why)) => return Stop::Over(Over::Journal(why)),
                    Err(None) => again = Some(Instant::now() + STILL_AGAIN),
                },
            }
        }
    }

    /// Has the box stand still, or go on, and records it.
    ///
    /// # Errors
    /// Why it cannot be recorded; none when the box does not obey, which is a note.
    async fn hold(&self, working: &Working, live: &mut Boxed, still: bool) -> Result<(), Option<String>> {
        let unrecorded = |e: JournalError| Some(e.to_string());
        if still {
            if let Err(why) = live.with(|live| live.pause()).await {
                let text = format!("its box does not stand still yet ({why}); it is asked to again");
                self.run.say(&Event::Note { text }).await.map_err(unrecorded)?;
                return Err(None);
            }
            working.stood.stop();
            return self.run.say(&Event::Froze).await.map(drop).map_err(unrecorded);
        }
        let stood_ms = working.stood.this_time();
        self.run.say(&Event::Thawed { stood_ms }).await.map_err(unrecorded)?;
        if let Err(why) = live.with(|live| live.resume()).await {
            let text = format!("its box does not go on yet ({why}); it is asked to again");
            self.run.say(&Event::Note { text }).await.map_err(unrecorded)?;
            return Err(None);
        }
        working.stood.go_on();
        // Its limits count on from here, by this clock.
        working.news.send_modify(|_| {});
        Ok(())
    }

    /// `limit`: which other it met.
    pub(super) fn out_of_time(&self, limit: Option<String>) -> Finish {
        let why = format!("killed: time limit {} s", self.launch.profile.limits.seconds);
        let reason = limit.map_or_else(|| why.clone(), |limit| format!("{why}; {limit}"));
        ended(Outcome::Failed, reason, Some(Exit::Killed { why }))
    }

    /// What the end means.
    async fn judge_end(&self, stop: Stop, live: Boxed, line: &Attachment, words: Own<String>) -> Finish {
        let limit = self.end(live).await;
        let cancelled = *self.cancelled.borrow();
        match stop {
            Stop::Over(Over::Done(done)) => self.judge_done(done, limit, cancelled, line).await,
            Stop::Over(Over::Lost) => self.broke("the gateway ended; the box has no network, and was ended too"),
            Stop::Over(Over::Journal(why)) => unrecorded(why),
            Stop::Over(Over::Breach(why)) => failed(format!("{why}; the box was killed")),
            Stop::Over(Over::Gone) => match limit {
                _ if cancelled => ended(Outcome::Cancelled, "cancelled", None),
                Some(why) => ended(Outcome::Failed, why.clone(), Some(Exit::Killed { why })),
                None => {
                    let words = said(words, line).await;
                    self.broke(format!("the box ended without a word{words}"))
                }
            },
            Stop::CancelledStill => ended(Outcome::Cancelled, "cancelled while it was paused", None),
            Stop::Cancelled => ended(Outcome::Cancelled, "cancelled; the box did not end in time and was killed", None),
            Stop::Time => self.out_of_time(limit),
            Stop::Storm(why) => ended(Outcome::Failed, why.clone(), Some(Exit::Killed { why })),
            // What it is now is not what its profile says: another is made that is.
            Stop::Drift(why) => {
                let why = format!("the box was changed from outside while it worked: {why}");
                match self.launch.kind {
                    RunKind::Agent => self.broke(why),
                    RunKind::Exec => {
                        let why = format!("{why}; the command may have finished, or not");
                        ended(Outcome::Failed, why, Some(Exit::Unknown))
                    }
                }
            }
            Stop::Overflow => failed(format!(
                "killed: standard input ran {} MiB ahead of what the command reads",
                crate::input::MOST_WAITING >> 20
            )),
        }
    }

    async fn judge_done(&self, done: Done, limit: Option<String>, cancelled: bool, line: &Attachment) -> Finish {
        let Done { exit, task_done, reason } = done;
        if cancelled {
            return ended(Outcome::Cancelled, "cancelled", Some(exit));
        }
        let well = match self.launch.kind {
            RunKind::Exec => exit == Exit::Code { code: 0 },
            RunKind::Agent => task_done,
        };
        if well {
            return ended(Outcome::Done, "", Some(exit));
        }
        // They hold the agent's own words, and the gateway may be gone by now.
        let reason = match line.scrub_text(&reason).await {
            Ok(reason) if reason.is_empty() => describe(&exit),
            Ok(reason) => reason,
            Err(_) => format!("{}; what it said of that is lost, because the gateway ended too", describe(&exit)),
        };
        let reason = match limit {
            Some(limit) if !reason.contains(&limit) => format!("{reason}; {limit}"),
            _ => reason,
        };
        ended(Outcome::Failed, reason, Some(exit))
    }
}

fn describe(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("it ended with status {code}"),
        Exit::Signal { signal } => format!("it was ended by signal {signal}"),
        Exit::Killed { why } => why.clone(),
        Exit::Unknown => "it is not known how it ended".into(),
    }
}

/// Last words of a box that is gone, scrubbed, as the tail of a sentence.
pub(super) async fn said(mut words: Own<String>, line: &Attachment) -> String {
    match timeout(GRACE, &mut words.0).await {
        Ok(Ok(words)) if !words.is_empty() => {
            line.scrub_text(&words).await.map(|words| format!("; last words: {words}")).unwrap_or_default()
        }
        _ => String::new(),
    }
}
