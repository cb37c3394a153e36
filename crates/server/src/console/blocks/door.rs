//! What was said at a run's door: the gateway's words, what became of what it let through, and what would allow the rest.

use super::{entry, span_slot};
use crate::console::sheet::part;
use crate::console::text::{line, plain, shown};
use crate::console::words::{clock, cost as dollars, number};
use maud::{Markup, html};
use model::event::{OneRead, Verdict};
use model::{MicroDollars, Moment, Unanswered, Usage};

/// The gateway's word. A model call that was let through is one line, completed by [`settled`]; a refusal is not
/// to be missed.
pub fn verdict(n: u64, at: Moment, v: &Verdict) -> Markup {
    let request = html! { code { (line(&v.method, 32)) " " (line(&v.target, 256)) } };
    if !v.allowed {
        return entry(
            n,
            at,
            "refused",
            &html! {
                h3 { span.bad { "✗ Refused by the gateway" } " " code.rule { (line(&v.rule, 80)) } }
                p { (request) }
                p { (shown(&v.why)) }
            },
        );
    }
    entry(
        n,
        at,
        "call",
        &html! {
            p {
                span.good { "✓" } " "
                @if let Some(model) = &v.model { "model call " strong { (line(model, 64)) } } @else { (request) }
                " " code.rule title=(plain(&v.why)) { (line(&v.rule, 80)) }
                " " (span_slot(&part(n, "paid"), "paid"))
            }
        },
    )
}

pub fn settled(usage: Usage, cost: MicroDollars, status: u16, interrupted: bool) -> Markup {
    html! {
        span.num { (number(usage.input.saturating_add(usage.cache_write).saturating_add(usage.cache_read))) } " in"
        @if usage.cache_read > 0 { " (" span.num { (number(usage.cache_read)) } " cached)" }
        " · " span.num { (number(usage.output)) } " out · " span.num { (dollars(cost)) }
        @if status != 200 { " · " span.bad { "status " (status) } }
        @if interrupted { " · " span.bad { "interrupted" } }
    }
}

pub fn lone_settled(n: u64, at: Moment, model: &str, paid: &Markup) -> Markup {
    entry(n, at, "call", &html! { p { "model call " strong { (line(model, 64)) } " " span.paid { (paid) } } })
}

pub fn passed(status: u16, sent: u64, received: u64, interrupted: bool, fault: Option<Unanswered>) -> Markup {
    if let Some(fault) = fault {
        return html! {
            span.bad { "no answer" } ": " (fault.why()) " (" (fault.rule()) ")"
            @if let Some(help) = fault.help() { " " (help) }
        };
    }
    html! {
        @if status == 0 { span.bad { "no answer" } } @else { "status " span.num { (status) } }
        " · " span.num { (number(sent)) } " bytes out · " span.num { (number(received)) } " in"
        @if interrupted { " · " span.bad { "interrupted" } }
    }
}

pub fn lone_passed(n: u64, at: Moment, passed: &Markup) -> Markup {
    entry(n, at, "call", &html! { p { "a request to the outside " span.paid { (passed) } } })
}

/// What was made by an allowance.
pub fn reads(n: u64, at: Moment, reads: &[OneRead], over: bool, unheard: u32) -> Markup {
    entry(
        n,
        at,
        "call",
        &html! {
            @if !reads.is_empty() {
                details.fold {
                    summary {
                        span.num { (number(reads.len() as u64)) } " "
                        @if reads.len() == 1 { "read" } @else { "reads" } " by an allowance"
                    }
                    ul.paths {
                        @for read in reads {
                            li {
                                (clock(read.at)) " " code { (line(&read.method, 32)) " " (line(&read.target, 256)) } " · "
                                (passed(read.status, 0, read.received, read.interrupted, read.fault))
                            }
                        }
                    }
                }
            }
            @if unheard > 0 {
                p {
                    span.bad { "The gateway ended" } ": up to " span.num { (number(u64::from(unheard))) }
                    " more may have been made by this allowance; what became of them is not known."
                }
            } @else if over && reads.is_empty() {
                p { "An allowance is over." }
            }
        },
    )
}

/// What an administrator would add to allow what was refused. Nothing here allows it.
pub fn proposed(n: u64, at: Moment, rule: &str, profile: &str, toml: &str, opens: &str) -> Markup {
    entry(
        n,
        at,
        "note",
        &html! {
            h3 { "What would allow it " code.rule { (line(rule, 80)) } }
            p { "Ask an administrator to add to the profile " strong { (line(profile, 64)) } ":" }
            pre { (shown(toml)) }
            p { strong { "It would newly open: " } (shown(opens)) }
        },
    )
}

/// A person accepted what would allow a refusal: it holds from here on.
#[allow(clippy::too_many_arguments, reason = "the event's own fields")]
pub fn profile_changed(
    n: u64,
    at: Moment,
    denial: u64,
    person: &str,
    profile: &str,
    version: &str,
    toml: &str,
    opens: &str,
) -> Markup {
    entry(
        n,
        at,
        "note",
        &html! {
            h3 { (line(person, 64)) " allowed what refusal " (denial) " was about" }
            p {
                "It holds for this run from here on, and stands in the profile " strong { (line(profile, 64)) }
                ", version " code.hash title=(plain(version)) { (line(version, 12)) } ":"
            }
            pre { (shown(toml)) }
            p { strong { "It opened: " } (shown(opens)) }
        },
    )
}
