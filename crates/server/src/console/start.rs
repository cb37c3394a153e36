//! Starting a run from its form.

use super::form::{Field, Wrong};
use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::RunsCreate;
use crate::routes::Routes;
use crate::{models, profiles, runs};
use api::http::CreateRun;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use model::run::RunKind;
use serde::Deserialize;

pub(super) fn routes() -> Routes {
    Routes::default().add(Method::GET, "/runs/new", "The form that starts a run.", show).add(
        Method::POST,
        "/runs/new",
        "Start a run, from its form.",
        start,
    )
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wish {
    task: String,
    repo: String,
    model: String,
    profile: String,
}

/// Which field a fault of [`runs::create`] is about: a secret's, its model or the profile that names it.
fn fields(fault: &Fault) -> [(&'static str, &'static str); 6] {
    let names_it = if fault.problem.message.contains("\"model/") { "model" } else { "profile" };
    [
        ("run.task", "task"),
        ("run.secret", "task"),
        ("run.repo", "repo"),
        ("model.", "model"),
        ("secret.", names_it),
        ("profile.", "profile"),
    ]
}

async fn show(by: Viewer<RunsCreate>, State(app): State<App>) -> Result<Markup, Trouble> {
    form(&app, by.caller(), &Wish::default(), &Wrong::default()).await
}

async fn start(
    by: Viewer<RunsCreate>,
    State(app): State<App>,
    sent: Result<Form<Wish>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(mut wish) = sent.map_err(|_| {
        Fault::bad("body.wrong", "The form takes a `task`, a `repo`, a `model` and a `profile`, each as text.")
    })?;
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let run = CreateRun {
        kind: RunKind::Agent,
        // A form sends every line end as two characters, whatever was typed.
        task: wish.task.replace("\r\n", "\n"),
        repo: given(&wish.repo),
        model: given(&wish.model),
        profile: given(&wish.profile),
        argv: Vec::new(),
        lease: None,
    };
    match runs::create(&app, by.caller(), run).await {
        Ok(view) => Ok(Redirect::to(&format!("/runs/{}", view.run)).into_response()),
        Err(fault) => {
            let status = fault.status;
            // Sent again as it is then, it holds no key.
            wish.task = app.scrubber().scrub_str(&wish.task.replace("\r\n", "\n")).into_owned();
            let about = fields(&fault);
            let wrong = Wrong::of(fault, &about)?;
            let page = form(&app, by.caller(), &wish, &wrong).await?;
            Ok((status, page).into_response())
        }
    }
}

async fn form(app: &App, caller: &Caller, wish: &Wish, wrong: &Wrong) -> Result<Markup, Trouble> {
    let models = models::list(app).await?;
    let profiles = profiles::names(&app.profiles);
    let field = |name, label, hint| Field { name, label, hint, wrong };
    let body = html! {
        h1 { "Start a run" }
        p.lead { "The agent works on a copy in a box of its own. What it changed becomes a branch; your checkout is not touched." }
        (wrong.above())
        form.card.fields.wide-fields method="post" action="/runs/new" autocomplete="off" {
            (field("task", "Task", html! { "What the agent is to do, in your own words." }).first_with(|ties| html! {
                textarea #task name="task" rows="6" required autofocus[ties.focus]
                    aria-describedby=(ties.described) aria-invalid=[ties.invalid] { "\n" (plain(&wish.task)) }
            }))
            (field("repo", "Repository", html! {
                "An absolute path on this machine, or the address of a repository that the profile names. The run starts at its last "
                "commit; leave it empty for a run without one."
            }).with(|ties| html! {
                input #repo name="repo" value=(plain(&wish.repo)) maxlength="4096" placeholder="/home/ada/project"
                    spellcheck="false" autocapitalize="none" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }))
            div.pair {
                (field("model", "Model", html! {
                    @if models.is_empty() { "No model is set up yet; " code { "volary model add" } " adds one." }
                    @else { "The profile's own, or the only one there is, when none is named." }
                }).with(|ties| html! {
                    select #model name="model" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid] {
                        option value="" { "As the profile says" }
                        @for model in &models {
                            option value=(model.name) selected[model.name == wish.model] { (line(&model.name, 64)) }
                        }
                    }
                }))
                (field("profile", "Profile", html! { "What the run may reach: " code { "volary reach" } " prints it." })
                    .with(|ties| html! {
                        select #profile name="profile" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid] {
                            @for name in &profiles {
                                option value=(name) selected[*name == wish.profile] { (line(name, 64)) }
                            }
                        }
                    }))
            }
            div.row {
                button.primary data-busy="Starting…" { "Start the run" }
                a.button href="/" data-escape { "Back" }
            }
        }
    };
    Ok(page(caller, Place::Runs, "Start a run", &body))
}
