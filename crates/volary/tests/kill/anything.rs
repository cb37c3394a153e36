//! Any victim, at any moment.

use crate::world::{MOST_ATTEMPTS, VICTIMS, Victim, World, attempts, done, reason, shell, write};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// Names the seed to repeat; without it each time is another.
const SEED: &str = "VOLARY_KILL_SEED";
/// After this no further round is begun, in seconds.
const LONG_ENOUGH_SECS: u64 = 150;

/// What is killed, and when.
struct Storm {
    script: Value,
    /// Kills in all.
    kills: usize,
    /// Runs of a round, from their beginning to their end.
    at_once: usize,
    /// Most kills in one round.
    most_a_round: u64,
    /// Longest time before a kill, in milliseconds.
    longest_ms: u64,
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// All the victims, in any order.
    fn victims(&mut self) -> Vec<Victim> {
        let mut all = VICTIMS.to_vec();
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
        all
    }
}

/// Five turns of streamed words, files and commands, each command with a word of its own.
fn script() -> Value {
    let turn = |n: u32| {
        json!({"text": format!("Turn {n}: now a file and two commands, as was asked for. "), "pause_ms": 20, "tools":
            [write(&format!("file-{n}")), shell(&format!("a-{n}"), "0.2"), shell(&format!("b-{n}"), "0.3")]})
    };
    let mut turns: Vec<Value> = (1..=5).map(turn).collect();
    turns.push(json!({"text": "Done, all of it.", "pause_ms": 20}));
    turns.into()
}

impl Storm {
    fn blow(self) {
        let seed = std::env::var(SEED).ok().map_or_else(
            || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64),
            |text| text.parse().expect("a number"),
        );
        println!("to repeat: {SEED}={seed}");
        let mut dice = Dice(seed);
        let mut world = World::of(&self.script);
        let (mut runs, mut kills) = (Vec::new(), Vec::<(Victim, bool)>::new());
        // Drawn to its end before another is begun: each kind comes equally often.
        let mut victims = Vec::new();
        let begun = Instant::now();
        while kills.len() < self.kills && begun.elapsed() < Duration::from_secs(LONG_ENOUGH_SECS) {
            let new: Vec<String> = (0..self.at_once).map(|_| world.begin()).collect();
            println!("{}", new.join(" and "));
            for _ in 0..=dice.below(self.most_a_round) {
                let ms = dice.below(self.longest_ms);
                if victims.is_empty() {
                    victims = dice.victims();
                }
                let victim = victims.pop().expect("there are some");
                std::thread::sleep(Duration::from_millis(ms));
                let hit = world.kill(victim);
                println!("  after {ms} ms {victim:?} {}", if hit { "is killed" } else { "is not there" });
                kills.push((victim, hit));
            }
            for run in &new {
                drop(world.over(run));
            }
            runs.extend(new);
        }
        for (run, entries) in &world.judge(&runs) {
            println!("{run}: {} boxes, {}", attempts(entries), if done(entries) { "done" } else { reason(entries) });
            let spent = reason(entries).contains(&format!("in each of {MOST_ATTEMPTS} attempts"))
                || reason(entries).contains("launched 10 times");
            // The second when the gateway was killed too, before it had scrubbed the first.
            let killed = ["the agent died by signal 9", "it was ended by signal 9; what it said of that is lost"]
                .iter()
                .any(|words| reason(entries).contains(words));
            assert!(done(entries) || spent || killed, "{run} failed for no reason of ours: {}", reason(entries));
        }
        // A part that was not killed yet is there. Of what lives in a box nothing is certain: whenever its turn comes, the
        // box may be over, or not made yet. `cases` kills each of them.
        let parts = [Victim::Server, Victim::Gateway, Victim::Operator, Victim::Up];
        let of_parts: Vec<bool> =
            kills.iter().filter(|(victim, _)| parts[..3].contains(victim)).map(|(_, hit)| *hit).collect();
        let hits = of_parts.iter().filter(|hit| **hit).count();
        assert!(of_parts.is_empty() || hits * 3 > of_parts.len(), "only {hits} of {} parts were there", of_parts.len());
        for part in parts {
            let mut of_it = kills.iter().filter(|(victim, _)| *victim == part).map(|(_, hit)| *hit).peekable();
            assert!(of_it.peek().is_none() || of_it.any(|hit| hit), "{part:?} was never there: {kills:?}");
        }
    }
}

#[test]
fn whoever_is_killed_at_whatever_moment_nothing_is_lost_doubled_or_left() {
    Storm { script: script(), kills: 48, at_once: 2, most_a_round: 5, longest_ms: 2500 }.blow();
}

#[test]
fn whoever_is_killed_while_a_box_is_made_or_a_branch_is_nothing_is_lost_doubled_or_left() {
    let script = json!([{"text": "One command.", "tools": [shell("once", "0.05"), write("file")]}, {"text": "Done."}]);
    Storm { script, kills: 30, at_once: 1, most_a_round: 1, longest_ms: 600 }.blow();
}
