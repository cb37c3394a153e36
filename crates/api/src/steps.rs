//! Steps of an agent's loop that are too long for one event, as parts that join to the same bytes again.
//!
//! A `loop` event carries a step whole, because a run is resumed and replayed from it; events are bounded,
//! because they are scrubbed one by one. So the runner splits a long step, and whoever reads a record joins it.

use serde_json::{Value, json};

/// Key of a part: `{"volary.part": [number from 1, count], "text": a piece of the step's JSON}`.
const PART: &str = "volary.part";

/// Splits a step's JSON into parts of at most `most` bytes of text, at character boundaries; in order.
///
/// `most` is at least 4, the longest character.
#[must_use]
pub fn split(step: &str, most: usize) -> Vec<Value> {
    let mut pieces = Vec::new();
    let mut rest = step;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(most.max(4)));
        pieces.push(piece);
        rest = after;
    }
    let count = pieces.len();
    pieces.iter().enumerate().map(|(i, text)| json!({ PART: [i + 1, count], "text": text })).collect()
}

/// Joins parts among steps; every other step stays as it is. Parts whose first or last is missing (a record cut
/// by a dead box) are dropped: their step was never taken as a whole.
#[must_use]
pub fn join(steps: Vec<Value>) -> Vec<Value> {
    let mut whole = Vec::with_capacity(steps.len());
    let (mut text, mut next) = (String::new(), 1);
    for step in steps {
        let Some((number, count, piece)) = part(&step) else {
            next = 1;
            whole.push(step);
            continue;
        };
        if number == 1 {
            text.clear();
            next = 1;
        }
        if number != next {
            next = 1;
            continue;
        }
        text.push_str(piece);
        next += 1;
        if number == count {
            next = 1;
            whole.extend(serde_json::from_str::<Value>(&text));
        }
    }
    whole
}

fn part(step: &Value) -> Option<(u64, u64, &str)> {
    let place = step.get(PART)?.as_array()?;
    Some((place.first()?.as_u64()?, place.get(1)?.as_u64()?, step.get("text")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_step_they_were_split_from() {
        let long = json!({"answer": "é\"\\\n".repeat(100)});
        let mut steps = vec![json!({"first": 1})];
        steps.extend(split(&long.to_string(), 7));
        steps.push(json!({"last": 2}));
        assert_eq!(join(steps), [json!({"first": 1}), long, json!({"last": 2})]);
    }

    #[test]
    fn parts_cut_by_a_dead_box_are_no_step() {
        let parts = split(&json!({"a": "0123456789"}).to_string(), 8);
        assert!(parts.len() > 2);
        let mut without_first = parts[1..].to_vec();
        without_first.push(json!({"next": 1}));
        assert_eq!(join(without_first), [json!({"next": 1})]);
        let mut again = parts[..parts.len() - 1].to_vec();
        again.extend(parts);
        assert_eq!(join(again), [json!({"a": "0123456789"})]);
    }
}
