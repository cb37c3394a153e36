//! What was read of a box's walls: whether it may have its task, and whether it may keep it.

use crate::engine::Watch;
use model::event::Reading;
use std::sync::Arc;
use std::time::Duration;

/// How often the walls of a box at work are read again.
const LOOK: Duration = Duration::from_secs(10);
/// How soon once more, when one was read that does not hold, and how often it must be read so: a box that is just
/// ending is no broken one.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_millis(500), 3);

/// Every wall must have been read and must hold; no reading at all is no wall at all.
///
/// # Errors
/// A sentence that names each wall that does not hold.
pub fn judge(readings: &[Reading]) -> Result<(), String> {
    let off: Vec<String> = readings
        .iter()
        .filter(|reading| !reading.holds)
        .map(|reading| format!("{} (promised {}, read {})", reading.wall, reading.promised, reading.read))
        .collect();
    match (readings.is_empty(), off.is_empty()) {
        (true, _) => Err("no wall of the box could be read back; it was killed".into()),
        (false, true) => Ok(()),
        (false, false) => Err(format!("a wall of the box does not hold: {}; it was killed", off.join(", "))),
    }
}

/// Returns when a wall of a box at work does not hold any more, with what was read.
pub async fn drift(watch: &Watch) -> String {
    let mut wrong = 0;
    loop {
        tokio::time::sleep(if wrong == 0 { LOOK } else { LOOK_AGAIN.0 }).await;
        let look = Arc::clone(watch);
        let verdict = crate::blocking(move || look()).await.map_or(Ok(()), |readings| judge(&readings));
        match verdict {
            Ok(()) => wrong = 0,
            Err(why) if wrong + 1 == LOOK_AGAIN.1 => return why,
            Err(_) => wrong += 1,
        }
    }
}
