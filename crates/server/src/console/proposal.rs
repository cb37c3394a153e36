//! A run's pull request on its page: the form that opens it, with what the agent proposes in it, or where it is.

use super::form::{Field, Wrong};
use super::page::{Trouble, Viewer};
use super::text::{line, plain};
use crate::app::App;
use crate::fault::Fault;
use crate::forge::{self, Part, Words};
use crate::guard::right::RunsPropose;
use crate::http_api::RunIn;
use crate::proposals;
use crate::routes::Routes;
use api::http::RunView;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::Redirect;
use http::Method;
use maud::{Markup, html};
use policy::access::{Scope, Scopes};
use policy::git::words::{MAX_BODY, MAX_TITLE};
use serde::Deserialize;

pub(super) fn routes() -> Routes {
    Routes::default().add(
        Method::POST,
        "/runs/{run}/propose",
        "Open a pull request for what a run pushed, from its page.",
        open,
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    title: String,
    body: String,
}

async fn open(
    by: Viewer<RunsPropose>,
    State(app): State<App>,
    RunIn(run): RunIn,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let Form(Sent { title, body }) =
        sent.map_err(|_| Fault::bad("body.wrong", "The form takes a `title` and a `body`, each as text."))?;
    let words = Words { title: part(&title), body: part(&body) };
    forge::open(&app, &by.caller().person.to_string(), &run, words).await?;
    Ok(Redirect::to(&format!("/runs/{run}#proposal")))
}

/// What stands in a field. The agent's words were in it: who emptied it does not want them.
fn part(text: &str) -> Part {
    if text.trim().is_empty() { Part::Task } else { Part::Said(text.replace("\r\n", "\n")) }
}

/// Where the pull request of a run is, or the form that opens one; nothing for a run that pushed nothing to a git host.
///
/// # Errors
/// The store's.
pub(super) async fn card(app: &App, view: &RunView, scopes: Scopes) -> Result<Markup, Fault> {
    let opened = proposals::opened(app, &view.run).await?;
    let ready = match proposals::pushed(app, &view.run).await {
        Ok((repository, _)) => Some(repository.id),
        Err(fault) if fault.status.is_client_error() => None,
        Err(fault) => return Err(fault),
    };
    let form = ready.filter(|_| opened.is_none() && scopes.holds(Scope::RunsPropose));
    let agents = match &form {
        Some(id) => proposals::wanted(app, &view.run, id).await?,
        None => None,
    };
    let is_agents = agents.is_some();
    let (title, body) = agents.unwrap_or_default();
    let wrong = Wrong::default();
    let field = |name, label, hint| Field { name, label, hint, wrong: &wrong };
    Ok(html! {
        @if let Some(url) = opened {
            p #proposal { "Pull request: " a href=(url) rel="noreferrer" { (line(&url, 200)) } }
        }
        @if let Some(id) = form {
            details.card #proposal open[is_agents] {
                summary { "Open a pull request in " (line(&id, 64)) }
                @if is_agents { p { "These are the agent's words, untrusted. They are yours once you open it." } }
                form.fields.wide-fields method="post" action={ "/runs/" (view.run) "/propose" } autocomplete="off" {
                    (field("title", "Title", html! { "One line. Left empty, the run's task." }).with(|ties| html! {
                        input #title name="title" value=(plain(&title)) maxlength=(MAX_TITLE) aria-describedby=(ties.described);
                    }))
                    (field("body", "Text", html! { "What it changes and why; left empty, the run's task. What made it is added." }).with(|ties| html! {
                        textarea #body name="body" rows="8" maxlength=(MAX_BODY) aria-describedby=(ties.described) { "\n" (plain(&body)) }
                    }))
                    button.primary data-busy="Opening…" { "Open the pull request" }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_field_is_the_task_and_never_the_agents_words() {
        for empty in ["", "  ", "\r\n\r\n"] {
            assert_eq!(part(empty), Part::Task, "{empty:?}");
        }
        assert_eq!(part("a\r\nb"), Part::Said("a\nb".into()));
    }
}
