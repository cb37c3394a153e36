//! The form by which a secret is set: its fields, what they say, and what is wrong with them.
//!
//! Read [`fields`], then [`set`].

use super::list;
use crate::app::App;
use crate::console::form::{Field, Wrong};
use crate::console::page::{Trouble, Viewer};
use crate::console::text::plain;
use crate::fault::Fault;
use crate::guard::right::SecretsSet;
use crate::{models, secrets};
use api::grants::WireSecret;
use api::http::SetSecret;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use policy::minters::{MINTERS, Minter};
use policy::providers::{Group, PROVIDERS};
use serde::Deserialize;

/// What a value takes.
pub(super) fn value_hint() -> Markup {
    html! {
        (secrets::MIN_VALUE) " to 16,384 printable characters, in one line; a file is set by " code { "volary secret set NAME < FILE" }
        ". It is not shown again."
    }
}

pub(super) async fn fields(app: &App, was: &SetForm, wrong: &Wrong) -> Result<Markup, Trouble> {
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
pub(super) struct SetForm {
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

pub(super) async fn set(
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
pub(super) fn in_one_line(value: &WireSecret, is_apps: bool) -> Result<(), Fault> {
    if is_apps || !value.0.expose().contains(char::is_whitespace) {
        return Ok(());
    }
    let why = "A value with spaces or line ends is set from its file: `volary secret set NAME < FILE`.";
    Err(Fault::bad("secret.characters", why))
}
