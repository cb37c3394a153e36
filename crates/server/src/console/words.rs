//! Numbers, moments and states as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use model::event::Exit;
use model::{MicroDollars, Moment, RunState};

/// `1234567` as `1,234,567`.
#[must_use]
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Dollars: to the cent where they are many, to a ten-thousandth below a dollar, and in full below that.
#[must_use]
pub fn cost(cost: MicroDollars) -> String {
    let micros = cost.0;
    match micros {
        0 => "$0".to_owned(),
        1..100 => format!("$0.{micros:06}"),
        100..1_000_000 => format!("$0.{:04}", micros.div_ceil(100).min(9_999)),
        _ => format!("${}.{:02}", number(micros / 1_000_000), micros % 1_000_000 / 10_000),
    }
}

/// A length of time: `0.3 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
#[must_use]
pub fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let (s, min) = (ms / 1000, ms / 60_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{s}.{} s", ms % 1000 / 100),
        10_000..60_000 => format!("{s} s"),
        60_000..3_600_000 => format!("{min} min {:02} s", s % 60),
        _ => format!("{} h {:02} min", min / 60, min % 60),
    }
}

fn zoned(at: Moment) -> Option<jiff::Zoned> {
    Timestamp::from_millisecond(at.0).ok().map(|t| t.to_zoned(TimeZone::UTC))
}

/// A moment: day and time, to the second, in UTC.
#[must_use]
pub fn moment(at: Moment) -> Markup {
    match zoned(at) {
        None => html! { "?" },
        Some(t) => html! {
            time datetime=(t.strftime("%Y-%m-%dT%H:%M:%SZ")) {
                (t.strftime("%Y-%m-%d")) " " (t.strftime("%H:%M:%S"))
            }
        },
    }
}

/// A moment within a run: the time of day, with the whole of it for who asks.
#[must_use]
pub fn clock(at: Moment) -> Markup {
    match zoned(at) {
        None => html! { "?" },
        Some(t) => html! {
            time.clock datetime=(t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")) title=(t.strftime("%Y-%m-%d %H:%M:%S%.3f UTC")) {
                (t.strftime("%H:%M:%S"))
            }
        },
    }
}

/// A state as a badge.
#[must_use]
pub fn badge(state: RunState) -> Markup {
    html! { span class={ "badge " (state.word()) } { (state.word()) } }
}

/// How a process ended, and whether that is well.
#[must_use]
pub fn exit(exit: &Exit) -> (String, bool) {
    match exit {
        Exit::Code { code } => (format!("exit {code}"), *code == 0),
        Exit::Signal { signal } => (format!("ended by signal {signal}"), false),
        Exit::Killed { why } => (why.clone(), false),
        Exit::Unknown => ("outcome unknown: the platform was interrupted".to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), text);
        }
    }

    #[test]
    fn a_cost_that_is_not_nothing_never_reads_as_nothing() {
        for (micros, text) in [
            (0, "$0"),
            (1, "$0.000001"),
            (99, "$0.000099"),
            (100, "$0.0001"),
            (101, "$0.0002"),
            (999_999, "$0.9999"),
            (1_000_000, "$1.00"),
            (1_234_560_000, "$1,234.56"),
        ] {
            assert_eq!(cost(MicroDollars(micros)), text);
        }
    }

    #[test]
    fn a_length_of_time_names_its_units() {
        for (ms, text) in [
            (-5, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (10_000, "10 s"),
            (65_000, "1 min 05 s"),
            (7_800_000, "2 h 10 min"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
