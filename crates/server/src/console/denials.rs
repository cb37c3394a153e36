//! What a run was refused: a table on its page, a page for each, and the form by which a person accepts what would
//! allow one. Accepting asks first: its page shows the change of the profile and what it opens, and changes nothing.

use super::diff;
use super::form::{Field, Wrong};
use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain, shown};
use super::words::{moment, number};
use crate::app::App;
use crate::denials::{self, EditProfile};
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{ProfilesEdit, RunsRead};
use crate::http_api::DenialIn;
use crate::routes::Routes;
use crate::runs;
use api::denials::{Allow, Blank, ChangeView, DenialView, Terms};
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use model::RunId;
use model::event::Source;
use policy::access::Scope;
use serde::Deserialize;
use store::runs::RawEntry;

/// The slot of the table on a run's page.
pub const SLOT: &str = "denials";

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/runs/{run}/denials/{n}", "The page of a refusal: why, and what would allow it.", show)
        .add(
            Method::GET,
            "/runs/{run}/denials/{n}/allow",
            "A page that shows what accepting a proposal would do; changes nothing.",
            ask,
        )
        .add(Method::POST, "/runs/{run}/denials/{n}/allow", "Accept a proposal, from its page.", allow)
}

/// Whether an entry changes what [`table`] shows.
pub fn touches(entry: &RawEntry) -> bool {
    let raw = entry.event.get();
    entry.source == Source::Server
        && (raw.starts_with(r#"{"kind":"verdict","allowed":false"#) || raw.starts_with(r#"{"kind":"profile-changed""#))
}

/// The table on a run's page; nothing where nothing was refused.
pub fn table(run: &RunId, all: &[DenialView]) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { "Refused" }
            div.table-card {
                table.stack role="table" {
                    thead {
                        tr role="row" {
                            th role="columnheader" { "Request" } th role="columnheader" { "Rule" }
                            th.num role="columnheader" { "Times" } th role="columnheader" { "What can be done" }
                        }
                    }
                    tbody {
                        @for denial in all {
                            tr role="row" {
                                th scope="row" role="rowheader" {
                                    a id={ "denial-" (denial.n) } href={ "/runs/" (run) "/denials/" (denial.n) } {
                                        (denial.n) " · " (request(denial))
                                    }
                                }
                                td role="cell" data-label="Rule" { code.rule { (line(&denial.rule, 80)) } }
                                td.num role="cell" data-label="Times" { (number(denial.times)) }
                                td role="cell" data-label="What can be done" {
                                    @match &denial.proposal {
                                        Some(proposal) if proposal.holds => span.good { "✓ allowed by now" },
                                        Some(_) => "a row would allow it",
                                        None => span.faint { "nothing; no row allows it" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn request(denial: &DenialView) -> Markup {
    html! { code { (line(&denial.method, 32)) " " (line(&denial.target, 256)) } }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    allowed: Option<String>,
}

async fn show(
    by: Viewer<RunsRead>,
    State(app): State<App>,
    DenialIn(run, n): DenialIn,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `allowed=1`."))?;
    let denial = denials::show(&app, &run, n).await?;
    let holds = denial.proposal.as_ref().is_some_and(|proposal| proposal.holds);
    let said = html! {
        @if was.allowed.is_some() && holds {
            p.said role="status" { "✓ Allowed: for this run at once, and for those of the profile that start from now on." }
        }
    };
    Ok(one(by.caller(), &run, &denial, &said, &Terms::default(), &Wrong::default()))
}

fn one(caller: &Caller, run: &RunId, denial: &DenialView, said: &Markup, terms: &Terms, wrong: &Wrong) -> Markup {
    let body = html! {
        h1 { "Refusal " (denial.n) " of " a href={ "/runs/" (run) } { code { (run) } } }
        (said)
        (wrong.above())
        p.lead { (request(denial)) }
        dl.card.facts {
            div { dt { "Rule" } dd { code.rule { (line(&denial.rule, 80)) } } }
            div { dt { "Why" } dd { (shown(&denial.why)) } }
            div { dt { "Wall" } dd { (denial.wall) } }
            div { dt { "Came" } dd {
                @if denial.times == 1 { "once, at " (moment(denial.first)) }
                @else { (number(denial.times)) " times, first at " (moment(denial.first)) ", last at " (moment(denial.last)) }
            } }
            div { dt { "Profile" } dd { (line(&denial.profile, 64)) } }
        }
        p.faint { "This is policy and not a fault. The agent read why, and that another way gives the same answer." }
        (proposal(caller, run, denial, terms, wrong))
        p { a.button href={ "/runs/" (run) } data-escape { "Back to the run" } }
    };
    page(caller, Place::Runs, "A refusal", &body)
}

fn proposal(caller: &Caller, run: &RunId, denial: &DenialView, terms: &Terms, wrong: &Wrong) -> Markup {
    let Some(proposal) = &denial.proposal else {
        return html! { p { (shown(denial.unoffered.as_deref().unwrap_or_default())) } };
    };
    let may = caller.scopes.holds(Scope::ProfilesEdit);
    html! {
        h2 { "What would allow it" }
        pre.text { "\n" (shown(&proposal.toml)) }
        p { strong { "It would newly open: " } (shown(&proposal.opens)) }
        @if proposal.holds {
            p { span.good { "✓" } " The run's table allows it by now." }
        } @else if may {
            form.card.fields #accept method="get" action={ "/runs/" (run) "/denials/" (denial.n) "/allow" } autocomplete="off" {
                h2 { "Allow it" }
                (blanks(proposal.blank, terms, wrong))
                div.row { button.primary { "Show the change" } }
                p.hint { "Nothing is changed yet." }
            }
        } @else {
            p { "Accepting it takes the scope " code { (Scope::ProfilesEdit) } "." }
        }
    }
}

/// The fields for what the proposal cannot know.
fn blanks(blank: Option<Blank>, terms: &Terms, wrong: &Wrong) -> Markup {
    let field = |name, label, hint| Field { name, label, hint, wrong };
    let text = |name: &'static str, label, hint, value: &str, placeholder: &str| {
        field(name, label, hint).with(|ties| {
            html! {
                input id=(name) name=(name) value=(plain(value)) placeholder=(placeholder) maxlength="200" spellcheck="false"
                    autocapitalize="none" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }
        })
    };
    html! {
        @match blank {
            Some(Blank::Capability) => (text("capability", "Capability", html! {
                "Whose credential it carries: NAME of the secret " code { "capability/NAME" } ", or " code { "connection/NAME" }
                ". The box never sees it: an agent asks for leases of this name."
            }, &terms.capability, "tracker")),
            Some(Blank::Addresses) => {
                (text("addresses", "Addresses", html! {
                    "The ranges in which every address of the service lies."
                }, &terms.addresses, "10.2.3.0/24"))
                (text("why", "Why", html! { "For those who read " code { "volary reach" } "; may be empty." }, &terms.why, ""))
            }
            None => {}
        }
    }
}

async fn ask(
    by: Viewer<ProfilesEdit>,
    State(app): State<App>,
    DenialIn(run, n): DenialIn,
    query: Result<Query<Terms>, QueryRejection>,
) -> Result<Response, Trouble> {
    let wrong = "The query takes `capability`, `addresses` and `why`.";
    let Query(terms) = query.map_err(|_| Fault::bad("query.wrong", wrong))?;
    let permit = EditProfile::of(by.caller(), &runs::get(&app, &run).await?.profile)?;
    let change = match denials::preview(&app, &permit, &run, n, &terms).await {
        Ok(change) => change,
        Err(fault) if fault.problem.code.starts_with("change.") => {
            let status = fault.status;
            let fields =
                [("change.capability", "capability"), ("change.addresses", "addresses"), ("change.why", "why")];
            let wrong = Wrong::of(fault, &fields)?;
            let denial = denials::show(&app, &run, n).await?;
            return Ok((status, one(by.caller(), &run, &denial, &html! {}, &terms, &wrong)).into_response());
        }
        Err(fault) => return Err(fault.into()),
    };
    if change.done {
        return Ok(Redirect::to(&format!("/runs/{run}/denials/{n}")).into_response());
    }
    Ok(page(by.caller(), Place::Runs, "Allow a request", &question(&run, n, &change, &terms)).into_response())
}

fn question(run: &RunId, n: u64, change: &ChangeView, terms: &Terms) -> Markup {
    html! {
        div.card.alone.wide {
            h1 { "Allow this?" }
            p { strong { "It newly opens: " } (shown(&change.opens)) }
            @if change.diff.is_empty() {
                p { "The profile " strong { (line(&change.profile, 64)) } " allows it already; the run does not yet." }
            } @else {
                p {
                    "In the profile " strong { (line(&change.profile, 64)) } ", for every run of it that starts from now on"
                    @if change.makes { " (a file is made that takes the built-in profile's place)" } ":"
                }
                (diff::one(&change.diff, false))
            }
            p {
                @if change.live { "This run goes on by it within a second; other runs that are under way do not." }
                @else { "This run's own table stays as it is." }
            }
            form.row method="post" action={ "/runs/" (run) "/denials/" (n) "/allow" } {
                input type="hidden" name="seen" value=(change.seen);
                input type="hidden" name="capability" value=(terms.capability);
                input type="hidden" name="addresses" value=(terms.addresses);
                input type="hidden" name="why" value=(terms.why);
                button.primary data-busy="Allowing…" { "Allow it" }
                a.button href={ "/runs/" (run) "/denials/" (n) } autofocus data-escape { "Leave it refused" }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    seen: String,
    #[serde(default)]
    capability: String,
    #[serde(default)]
    addresses: String,
    #[serde(default)]
    why: String,
}

async fn allow(
    by: Viewer<ProfilesEdit>,
    State(app): State<App>,
    DenialIn(run, n): DenialIn,
    form: Result<Form<Accepted>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes what was `seen`, and its terms."))?;
    let Accepted { seen, capability, addresses, why } = form;
    let wish = Allow { seen, terms: Terms { capability, addresses, why } };
    let permit = EditProfile::of(by.caller(), &runs::get(&app, &run).await?.profile)?;
    denials::allow(&app, permit, &run, n, &wish).await?;
    Ok(Redirect::to(&format!("/runs/{run}/denials/{n}?allowed=1")))
}
