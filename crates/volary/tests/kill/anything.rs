//! Any victim, at any moment.

use crate::world::{MOST_ATTEMPTS, VICTIMS, World, attempts, done, reason, shell, write};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// Names the seed to repeat; without it each time is another.
const SEED: &str = "VOLARY_KILL_SEED";
/// Kills in all.
const KILLS: usize = 48;
/// Most kills in one round, which is [`AT_ONCE`] runs from their beginning to their end.
const MOST_A_ROUND: u64 = 5;
const AT_ONCE: usize = 2;
/// Longest time before a kill, in milliseconds.
const LONGEST_MS: u64 = 2500;
/// After this no further round is begun, in seconds.
const LONG_ENOUGH_SECS: u64 = 150;

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

#[test]
fn whoever_is_killed_at_whatever_moment_nothing_is_lost_doubled_or_left() {
    let seed = std::env::var(SEED).ok().map_or_else(
        || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64),
        |text| text.parse().expect("a number"),
    );
    println!("to repeat: {SEED}={seed}");
    let mut dice = Dice(seed);
    let mut world = World::of(&script());
    let (mut runs, mut kills) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while kills.len() < KILLS && begun.elapsed() < Duration::from_secs(LONG_ENOUGH_SECS) {
        let new: Vec<String> = (0..AT_ONCE).map(|_| world.begin()).collect();
        println!("{}", new.join(" and "));
        for _ in 0..=dice.below(MOST_A_ROUND) {
            let ms = dice.below(LONGEST_MS);
            let victim = VICTIMS[dice.below(VICTIMS.len() as u64) as usize];
            std::thread::sleep(Duration::from_millis(ms));
            let hit = world.kill(victim);
            println!("  after {ms} ms {victim:?} {}", if hit { "is killed" } else { "is not there" });
            kills.push(hit);
        }
        for run in &new {
            drop(world.over(run));
        }
        runs.extend(new);
    }
    let transcripts = world.judge(&runs);
    for (run, entries) in &transcripts {
        println!("{run}: {} boxes, {}", attempts(entries), if done(entries) { "done" } else { reason(entries) });
        let spent = reason(entries).contains(&format!("in each of {MOST_ATTEMPTS} attempts"));
        let killed = reason(entries).contains("agent died");
        assert!(done(entries) || spent || killed, "{run} failed for no reason of ours: {}", reason(entries));
    }
    assert!(kills.iter().filter(|hit| **hit).count() * 2 > kills.len(), "most victims were there");
}
