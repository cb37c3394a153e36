//! The secrets: set from a form, replaced, deleted after a question, never shown; their rows are live.

use super::form::{Field, Question, Wrong};
use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain};
use super::words::moment;
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{SecretsDelete, SecretsList, SecretsSet};
use crate::routes::Routes;
use crate::{models, secrets};
use api::grants::WireSecret;
use api::http::{SecretView, SetSecret};
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use policy::access::Scope;
use policy::delivery::TEXT;
use policy::minters::{MINTERS, Minter};
use policy::providers::{Group, PROVIDERS, Provider};
use serde::Deserialize;

/// The slot of their rows.
pub const ROWS: &str = "secrets";

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/secrets", "The page of the secrets' names; no value.", show)
        .add(Method::POST, "/secrets", "Set a secret, or replace it, from its page.", set)
        .add(Method::GET, "/secrets/rotate", "A page that takes a new value for a secret; shows none.", ask_value)
        .add(Method::POST, "/secrets/rotate", "Put a new value in the place of one that is set, from its page.", rotate)
        .add(Method::GET, "/secrets/delete", "A page that asks before a secret is deleted; changes nothing.", ask)
        .add(Method::POST, "/secrets/delete", "Delete a secret, from its page; its value is lost.", delete)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    set: Option<String>,
    #[serde(default)]
    rotated: Option<String>,
    #[serde(default)]
    deleted: Option<String>,
    /// With `deleted`: how many leases ended with it.
    #[serde(default)]
    leases: u32,
}

async fn show(
    by: Viewer<SecretsList>,
    State(app): State<App>,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| {
        Fault::bad("query.wrong", "The query takes `set=NAME`, `rotated=NAME` or `deleted=NAME&leases=N`.")
    })?;
    let said = |name: &str, what: &str| html! { p.said role="status" { "✓ " code { (line(name, 80)) } (what) } };
    let ended = format!(" is deleted{}", with_it(was.leases));
    let said = match (&was.set, &was.rotated, &was.deleted) {
        (Some(name), ..) => said(name, " is set. Its value is shown nowhere."),
        (None, Some(name), _) => said(name, " has its new value. It is shown nowhere."),
        (None, None, Some(name)) => said(name, &ended),
        (None, None, None) => html! {},
    };
    list(&app, by.caller(), &SetForm::default(), &said, &Wrong::default()).await
}

async fn list(app: &App, caller: &Caller, was: &SetForm, said: &Markup, wrong: &Wrong) -> Result<Markup, Trouble> {
    let all = secrets::list(app).await?;
    let body = html! {
        div.head-line {
            h1 { "Secrets" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/secrets" { "Refresh" } }
        }
        p.lead {
            "A value goes in and never comes out. A managed key goes into requests to its provider's hosts, by the gateway, "
            "and into no box."
        }
        (said)
        (wrong.above())
        div.table-card {
            table.stack role="table" data-live="/secrets/live" {
                thead {
                    tr role="row" {
                        @for name in ["Name", "Set by", "Set, UTC", "Last used, UTC"] { th role="columnheader" { (name) } }
                        th.num role="columnheader" { "Version" }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody #(ROWS) { (rows(&all, caller)) }
            }
        }
        @if caller.scopes.holds(Scope::SecretsSet) { (fields(app, was, wrong).await?) }
    };
    Ok(page(caller, Place::Secrets, "Secrets", &body))
}

/// What is said of the leases that ended with a value.
pub(super) fn with_it(leases: u32) -> String {
    match leases {
        0 => ".".to_owned(),
        1 => ", and the lease that was open on it is taken back.".to_owned(),
        n => format!(", and the {n} leases that were open on it are taken back."),
    }
}

/// The same in the address of the page that says it.
pub(super) fn and_leases(leases: u32) -> String {
    if leases == 0 { String::new() } else { format!("&leases={leases}") }
}

/// The rows of the values that are set.
pub fn rows(all: &[SecretView], caller: &Caller) -> Markup {
    html! {
        @for secret in all { (row(secret, caller)) }
        @if all.is_empty() { tr role="row" { td.empty role="cell" colspan="6" { "No secret is set." } } }
    }
}

/// Whether a value is this person's own.
fn is_mine(secret: &SecretView, caller: &Caller) -> bool {
    secret.person.as_deref() == Some(caller.person.as_str())
}

fn row(secret: &SecretView, caller: &Caller) -> Markup {
    let mine = is_mine(secret, caller);
    let of_it = format!("name={}{}", secret.name, if mine { "&mine=true" } else { "" });
    // Another person's value is theirs to replace and to delete.
    let ours = mine || secret.person.is_none();
    let spoken = format!("{}{}", plain(&secret.name), if mine { ", your own value" } else { "" });
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                code { (line(&secret.name, 80)) }
                div.sub {
                    @match (&secret.kind, secret.managed) {
                        (Some(kind), _) if secret.minter.is_some() => {
                            span.chip { "minted from" } " " (line(kind, 40)) ": " (ends(kind))
                        }
                        (Some(kind), false) if kind == TEXT => { span.chip { "custom" } " a text, for a command's file or standard input" }
                        (Some(kind), _) => { span.chip { "managed" } " " (line(kind, 40)) ", for " (hosts(kind)) }
                        (None, true) if secret.name.starts_with("registry/") => { span.chip { "managed" } " a registry's sign-in" }
                        (None, true) => { span.chip { "managed" } " a model's key" }
                        (None, false) => span.chip { "custom" },
                    }
                    @if mine { " " span.chip { "your own" } }
                    @else if let Some(person) = &secret.person { " " span.chip { "of " (line(person, 64)) } }
                    @else if secret.personal { " · people may have their own in its place" }
                }
            }
            td role="cell" data-label="Set by" { span.keep { (line(&secret.set_by, 64)) } }
            td role="cell" data-label="Set, UTC" { (moment(secret.set_at)) }
            td role="cell" data-label="Last used, UTC" {
                @match secret.last_used { Some(at) => (moment(at)), None => span.faint { "never" } }
            }
            td.num role="cell" data-label="Version" { (secret.version) }
            td.act role="cell" {
                @if ours && caller.scopes.holds(Scope::SecretsSet) {
                    a.button.small #{ "replace-" (of_it) } href={ "/secrets/rotate?" (of_it) } aria-label={ "Replace " (spoken) } { "Replace" }
                    " "
                }
                @if ours && caller.scopes.holds(Scope::SecretsDelete) {
                    a.button.small #{ "delete-" (of_it) } href={ "/secrets/delete?" (of_it) } aria-label={ "Delete " (spoken) } { "Delete" }
                }
            }
        }
    }
}

fn hosts(kind: &str) -> String {
    Provider::of(kind).map_or_else(|| "no host".to_owned(), |provider| provider.hosts.join(", "))
}

/// What becomes of what is minted of a key.
fn ends(kind: &str) -> &'static str {
    match Minter::of(kind) {
        Some(minter) if minter.revocable => "each lease has a narrower one, which is revoked at its end",
        Some(_) => "each lease has a narrower one, which ends by itself",
        None => "of a kind that is known no more",
    }
}

/// What a value takes.
fn value_hint() -> Markup {
    html! {
        (secrets::MIN_VALUE) " to 16,384 printable characters, in one line; a file is set by " code { "volary secret set NAME < FILE" }
        ". It is not shown again."
    }
}

async fn fields(app: &App, was: &SetForm, wrong: &Wrong) -> Result<Markup, Trouble> {
    let wanted: Vec<String> = models::list(app).await?.into_iter().filter_map(|model| model.secret).collect();
    let field = |name, label, hint| Field { name, label, hint, wrong };
    Ok(html! {
        form.card.fields method="post" action="/secrets" autocomplete="off" {
            h2 { "Set a secret" }
            (field("name", "Name", html! { code { "model/" } " and a name for a model's key, " code { "registry/" } " and its host for a registry's " code { "user:password" } ", " code { "capability/" } " and a name for others. One that is set already gets the new value." })
                .with(|ties| html! {
                    input #name name="name" required maxlength="137" placeholder="model/anthropic" list="names" value=(plain(&was.name))
                        spellcheck="false" autocapitalize="none" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid];
                }))
            datalist #names { @for name in &wanted { option value=(name) {} } }
            (field("kind", "Kind", html! { "A known provider's key goes to that provider's hosts and into no box." }).with(|ties| html! {
                select #kind name="kind" aria-describedby=(ties.described) aria-invalid=[ties.invalid] autofocus[ties.focus] {
                    option value="" { "as it is; a new one is custom" }
                    option value="custom" selected[was.kind == "custom"] { "custom" }
                    optgroup label="a key that others are minted from" data-settings="minter" {
                        @for known in &MINTERS { option value=(known.id) selected[was.kind == known.id] { (known.id) } }
                    }
                    @for group in [Group::Model, Group::Forge, Group::Cloud] {
                        optgroup label=(group) {
                            @for known in PROVIDERS.iter().filter(|known| known.group == group) {
                                option value=(known.id) selected[was.kind == known.id] { (known.id) }
                            }
                        }
                    }
                }
            }))
            // Few keys have any; who chose a kind that does, or wrote some, sees them.
            details.fold open[!was.minter.is_empty() || Minter::of(&was.kind).is_some()] {
                summary { "A key that others are minted from" }
                (field("minter", "Settings of its vendor", html! {
                    "Of a key that others are minted from alone, one to a line, as in TOML. " code { "github-app" } ": " code { "app = \"ID\"" } ", "
                    code { "installation = NUMBER" } ", " code { "permissions = { issues = \"write\" }" } ". " code { "aws-role" } ": "
                    code { "access-key" } ", " code { "role" } ", " code { "region" } ", " code { "policy" } ". " code { "kubernetes-account" } ": "
                    code { "base" } ", " code { "namespace" } ", " code { "account" } ", " code { "audiences" } "."
                }).with(|ties| html! {
                    textarea #minter name="minter" rows="3" maxlength="4096" spellcheck="false" autocapitalize="none" autofocus[ties.focus]
                        aria-describedby=(ties.described) aria-invalid=[ties.invalid] { (plain(&was.minter)) }
                }))
            }
            (field("whose", "Whose", html! { "Your own is what your runs get, where the key allows it." }).with(|ties| html! {
                select #whose name="whose" aria-describedby=(ties.described) aria-invalid=[ties.invalid] autofocus[ties.focus] {
                    option value="workspace" { "the workspace's" }
                    option value="mine" selected[was.whose == "mine"] { "my own" }
                }
            }))
            (field("personal", "People's own", html! { "Whether a person may have a value of their own in place of the workspace's." }).with(|ties| html! {
                select #personal name="personal" aria-describedby=(ties.described) aria-invalid=[ties.invalid] autofocus[ties.focus] {
                    option value="" { "as it is; a new one as its kind has it" }
                    option value="yes" selected[was.personal == "yes"] { "people may have their own" }
                    option value="no" selected[was.personal == "no"] { "nobody has their own" }
                }
            }))
            (field("value", "Value", value_hint()).with(|ties| html! {
                input #value name="value" type="password" required autocomplete="new-password" maxlength="16384" autofocus[ties.focus]
                    aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }))
            div.row { button.primary data-busy="Setting…" { "Set the secret" } }
        }
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetForm {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    whose: String,
    #[serde(default)]
    personal: String,
    #[serde(default)]
    minter: String,
    #[serde(default)]
    value: Option<WireSecret>,
}

impl SetForm {
    /// The settings that were written, as those of the kind that was chosen.
    fn minter(&self) -> Result<Option<model::mint::Minter>, Fault> {
        let text = self.minter.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| Fault::bad("secret.minter", why);
        if Minter::of(&self.kind).is_none() {
            return Err(wrong("Settings belong to a key that others are minted from; choose its kind.".into()));
        }
        let mut table: toml::Table =
            toml::from_str(text).map_err(|e| wrong(format!("The settings: {}.", e.message())))?;
        table.insert("kind".into(), self.kind.clone().into());
        let minter: model::mint::Minter =
            table.try_into().map_err(|e: toml::de::Error| wrong(format!("The settings: {}.", e.message())))?;
        minter.check().map_err(wrong)?;
        Ok(Some(minter))
    }
}

/// Which fields of the form faults are about.
const FIELDS: [(&str, &str); 5] = [
    ("secret.name", "name"),
    ("secret.kind", "kind"),
    ("secret.minter", "minter"),
    ("secret.personal", "whose"),
    ("secret.", "value"),
];

async fn set(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    form: Result<Form<SetForm>, FormRejection>,
) -> Result<Response, Trouble> {
    // A rejection's own words may repeat what was sent, which may be a value.
    let takes =
        || Fault::bad("body.wrong", "The form takes `name`, `kind`, `minter`, `whose`, `personal` and `value`.");
    let Form(mut form) = form.map_err(|_| takes())?;
    let value = form.value.take().ok_or_else(takes)?;
    let kind = Some(form.kind.clone()).filter(|kind| !kind.is_empty());
    let mine = form.whose == "mine";
    let personal = Some(form.personal == "yes").filter(|_| !form.personal.is_empty());
    let checked = form.minter().and_then(|minter| in_one_line(&value, form.kind == "github-app").map(|()| minter));
    let set = match checked {
        Ok(minter) => {
            let wish = SetSecret { value, kind, mine, personal, minter };
            secrets::set(&app, by.caller(), form.name.trim(), wish).await
        }
        Err(fault) => Err(fault),
    };
    match set {
        Ok(set) => Ok(Redirect::to(&format!("/secrets?set={}", set.name)).into_response()),
        Err(fault) => {
            let status = fault.status;
            let wrong = Wrong::of(fault, &FIELDS)?;
            let page = list(&app, by.caller(), &form, &html! {}, &wrong).await?;
            Ok((status, page).into_response())
        }
    }
}

/// Whether a value that came in a form's one line was one before: a browser takes out the ends of lines that are pasted there. An
/// app's key is one without them, too.
fn in_one_line(value: &WireSecret, is_apps: bool) -> Result<(), Fault> {
    if is_apps || !value.0.expose().contains(char::is_whitespace) {
        return Ok(());
    }
    let why = "A value with spaces or line ends is set from its file: `volary secret set NAME < FILE`.";
    Err(Fault::bad("secret.characters", why))
}

/// Which value is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    mine: bool,
}

impl Named {
    /// Whether there is such a value.
    async fn is_set(&self, app: &App, caller: &Caller) -> Result<bool, Fault> {
        let all = secrets::list(app).await?;
        let is = |secret: &SecretView| match self.mine {
            true => is_mine(secret, caller),
            false => secret.person.is_none(),
        };
        Ok(all.iter().any(|secret| secret.name == self.name && is(secret)))
    }

    /// What says so to a form.
    fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="name" value=(self.name);
            @if self.mine { input type="hidden" name="mine" value="true"; }
        }
    }

    /// As a heading says it.
    fn shown(&self) -> Markup {
        html! { p { code { (line(&self.name, 80)) } @if self.mine { " " span.chip { "your own" } } } }
    }
}

type Asked = Result<Query<Named>, QueryRejection>;

fn named(query: Asked) -> Result<Named, Fault> {
    query
        .map(|Query(named)| named)
        .map_err(|_| Fault::bad("query.wrong", "The query takes `name=NAME` and `mine=true`."))
}

async fn ask_value(by: Viewer<SecretsSet>, State(app): State<App>, query: Asked) -> Result<Response, Trouble> {
    let named = named(query)?;
    if !named.is_set(&app, by.caller()).await? {
        return Ok(Redirect::to("/secrets").into_response());
    }
    Ok(new_value(by.caller(), &named, &Wrong::default()).into_response())
}

fn new_value(caller: &Caller, named: &Named, wrong: &Wrong) -> Markup {
    let field = Field { name: "value", label: "New value", hint: value_hint(), wrong };
    let body = html! {
        (wrong.above())
        form.card.fields method="post" action="/secrets/rotate" autocomplete="off" {
            h1 { "Replace this secret's value" }
            (named.shown())
            p {
                "From the next call on, the new value is used. A lease that is in use goes on with the old one until its end: "
                a href="/leases" { "take it back" } " if that must not be. Revoke the old one where it was made."
            }
            (named.hidden())
            (field.first_with(|ties| html! {
                input #value name="value" type="password" required autocomplete="new-password" maxlength="16384" autofocus[ties.focus]
                    aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }))
            div.row {
                button.primary data-busy="Replacing…" { "Replace the value" }
                a.button href="/secrets" data-escape { "Keep it" }
            }
        }
    };
    page(caller, Place::Secrets, "Replace a secret", &body)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateForm {
    name: String,
    #[serde(default)]
    mine: bool,
    value: WireSecret,
}

async fn rotate(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    form: Result<Form<RotateForm>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes `name`, `mine` and `value`."))?;
    let RotateForm { name, mine, value } = form;
    let is_apps = |one: &SecretView| one.name == name && one.kind.as_deref() == Some("github-app");
    let is_apps = secrets::list(&app).await?.iter().any(is_apps);
    if let Err(fault) = in_one_line(&value, is_apps) {
        let status = fault.status;
        let wrong = Wrong::of(fault, &[("secret.", "value")])?;
        return Ok((status, new_value(by.caller(), &Named { name, mine }, &wrong)).into_response());
    }
    match secrets::replace(&app, by.caller(), &name, mine, value.0).await {
        Ok(set) => Ok(Redirect::to(&format!("/secrets?rotated={}", set.name)).into_response()),
        // Someone else deleted it: there is nothing to replace.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => Ok(Redirect::to("/secrets").into_response()),
        Err(fault) => {
            let status = fault.status;
            let wrong = Wrong::of(fault, &[("secret.", "value")])?;
            Ok((status, new_value(by.caller(), &Named { name, mine }, &wrong)).into_response())
        }
    }
}

async fn ask(by: Viewer<SecretsDelete>, State(app): State<App>, query: Asked) -> Result<Response, Trouble> {
    let named = named(query)?;
    if !named.is_set(&app, by.caller()).await? {
        return Ok(Redirect::to("/secrets").into_response());
    }
    let of_it: Vec<String> = models::list(&app)
        .await?
        .into_iter()
        .filter(|model| !named.mine && model.secret.as_deref() == Some(named.name.as_str()))
        .map(|model| model.name)
        .collect();
    let told = html! {
        (named.shown())
        p {
            "Its value is lost; nobody, you included, can get it back from here. The leases that are open on it are taken back: what "
            "uses them is ended, and what was minted of it for them is revoked where its vendor allows."
            @if !of_it.is_empty() { " The next call of a run that uses the model " strong { (line(&of_it.join(", "), 200)) } " is refused." }
        }
    };
    let question = Question {
        asks: "Delete this secret?",
        told,
        to: "/secrets/delete",
        hidden: named.hidden(),
        act: ("Delete the secret", "Deleting…"),
        leave: ("Keep it", "/secrets"),
    };
    Ok(page(by.caller(), Place::Secrets, "Delete a secret", &question.card()).into_response())
}

async fn delete(
    by: Viewer<SecretsDelete>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let Form(Named { name, mine }) = form.map_err(|_| Fault::bad("body.wrong", "The form takes `name` and `mine`."))?;
    let leases = match secrets::remove(&app, by.caller(), &name, mine).await {
        Ok(removed) => removed.leases,
        // Someone else was faster: it is as wished.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => 0,
        Err(fault) => return Err(fault.into()),
    };
    Ok(Redirect::to(&format!("/secrets?deleted={name}{}", and_leases(leases))))
}
