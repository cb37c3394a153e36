//! Fields of forms: a label, the control, what it takes, and what was wrong with what it held, next to it.

use crate::fault::Fault;
use http::StatusCode;
use maud::{Markup, html};

/// What was wrong with a form that was sent, and in which field; in none for what is not one field's.
#[derive(Debug, Default)]
pub struct Wrong {
    field: &'static str,
    message: String,
}

impl Wrong {
    /// What a fault says of a form, if that is something that the person can mend in it. `fields` pairs the beginnings
    /// of the codes of faults with the fields that they are about.
    ///
    /// # Errors
    /// The fault itself, when it is not about the form.
    pub fn of(fault: Fault, fields: &[(&str, &'static str)]) -> Result<Self, Fault> {
        if !matches!(fault.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) {
            return Err(fault);
        }
        let about = fields.iter().find(|(code, _)| fault.problem.code.starts_with(code));
        Ok(Self { field: about.map_or("", |(_, field)| field), message: fault.problem.message })
    }

    /// What to say above the form: where to look, for who reads it from its beginning.
    pub fn above(&self) -> Markup {
        html! {
            @if !self.message.is_empty() {
                p.said.wrong role="alert" {
                    @if self.field.is_empty() { "✗ " (self.message) }
                    @else { "✗ Nothing was done. " a href={ "#" (self.field) } { "One field" } " needs another value." }
                }
            }
        }
    }

    fn at(&self, field: &str) -> Option<&str> {
        (!self.message.is_empty() && self.field == field).then_some(self.message.as_str())
    }
}

/// A question before something that is not undone. The keyboard begins at the safe answer, which Escape gives, too.
pub struct Question<'a> {
    /// What is asked.
    pub asks: &'a str,
    /// What it is about, and what follows.
    pub told: Markup,
    /// Where the form goes.
    pub to: &'a str,
    /// What it says beside the answer.
    pub hidden: Markup,
    /// The button that does it, and what it says while it is done.
    pub act: (&'a str, &'a str),
    /// What leaves it, and where that leads.
    pub leave: (&'a str, &'a str),
}

impl Question<'_> {
    /// As the one card of a page.
    pub fn card(&self) -> Markup {
        html! {
            div.card.alone {
                h1 { (self.asks) }
                (self.told)
                form.row method="post" action=(self.to) {
                    (self.hidden)
                    button.danger.solid data-busy=(self.act.1) { (self.act.0) }
                    a.button href=(self.leave.1) autofocus data-escape { (self.leave.0) }
                }
            }
        }
    }
}

/// A field: its control is what `control` makes of the attributes that tie it to its words.
pub struct Field<'a> {
    /// Its name in the form, and its id in the page.
    pub name: &'static str,
    /// Its label.
    pub label: &'static str,
    /// What it takes.
    pub hint: Markup,
    /// What was wrong.
    pub wrong: &'a Wrong,
}

/// What a field's control carries, so that it is read with its words.
pub struct Ties {
    /// `aria-describedby`.
    pub described: String,
    /// `aria-invalid`.
    pub invalid: Option<&'static str>,
    /// Whether the keyboard begins here: at what was wrong, else at the field that is meant to be first.
    pub focus: bool,
}

impl Field<'_> {
    /// The field with its control.
    pub fn with(&self, control: impl FnOnce(&Ties) -> Markup) -> Markup {
        self.made(false, control)
    }

    /// The same for the field that a person begins with.
    pub fn first_with(&self, control: impl FnOnce(&Ties) -> Markup) -> Markup {
        self.made(true, control)
    }

    fn made(&self, first: bool, control: impl FnOnce(&Ties) -> Markup) -> Markup {
        let (hint, error) = (format!("{}-hint", self.name), format!("{}-wrong", self.name));
        let wrong = self.wrong.at(self.name);
        let described = if wrong.is_some() { format!("{error} {hint}") } else { hint.clone() };
        let focus = wrong.is_some() || (first && self.wrong.message.is_empty());
        let ties = Ties { described, invalid: wrong.map(|_| "true"), focus };
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                (control(&ties))
                @if let Some(wrong) = wrong { p.wrong id=(error) { "✗ " (wrong) } }
                p.hint id=(hint) { (self.hint) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_at_its_field_and_the_field_is_tied_to_it() {
        let wrong =
            Wrong::of(Fault::bad("run.repo", "It is <no> path."), &[("run.task", "task"), ("run.repo", "repo")]);
        let wrong = wrong.unwrap();
        let field = |name| {
            let field = Field { name, label: "Path", hint: html! { "A path." }, wrong: &wrong };
            field
                .with(|ties| html! { input id=(name) aria-describedby=(ties.described) aria-invalid=[ties.invalid]; })
                .0
        };
        let page = field("repo");
        assert!(page.contains("aria-describedby=\"repo-wrong repo-hint\" aria-invalid=\"true\""), "{page}");
        assert!(page.contains("id=\"repo-wrong\">✗ It is &lt;no&gt; path."), "{page}");
        let page = field("task");
        assert!(page.contains("aria-describedby=\"task-hint\"") && !page.contains("invalid"), "{page}");
        assert!(wrong.above().0.contains("href=\"#repo\""));
    }

    #[test]
    fn what_no_field_can_mend_is_no_forms_fault() {
        let ours = Fault::ours("x", &"y");
        assert!(Wrong::of(ours, &[("", "task")]).is_err());
        let whole = Wrong::of(Fault::bad("other", "Why."), &[("run.task", "task")]).unwrap();
        assert!(whole.above().0.contains("Why."));
    }
}
