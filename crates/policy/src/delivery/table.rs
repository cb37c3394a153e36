//! The cells.

use super::{Cell, Channel, Custody, Phase};
use crate::minters::{Form, Minter};

const fn yes(by: &'static str, why: &'static str) -> Cell {
    Cell { may: true, by, why }
}

const fn no(why: &'static str) -> Cell {
    Cell { may: false, by: "", why }
}

/// Nothing of a profile leads here, so nothing is let through.
const fn not_yet(why: &'static str) -> Cell {
    Cell { may: false, by: "nothing yet", why }
}

const NOTHING: Cell = yes("–", "Nothing travels.");
/// What delivers to one command.
const LEASE: &str = "a lease; process 1 of the box";
/// What a minted value comes to its channel by.
const MINT: &str = "a lease; the server and its vendor";

/// What holds in this phase, for this channel, of a key in this custody.
#[must_use]
pub fn cell(phase: Phase, channel: Channel, custody: Custody) -> Cell {
    use Channel as C;
    use Phase as P;
    match (phase, channel) {
        (_, C::None) => NOTHING,
        (_, C::BoxVariable) => {
            no("Every process of the box would have it for as long as it lives; it has a handle instead.")
        }
        (P::BuildImage, C::Injection) => yes(
            "`gateway::images`, with `registry/HOST`",
            "The gateway asks the registry for the image in the box's place; the key is in no layer of it.",
        ),
        (P::BuildImage, _) => no("What is put into an image stays in it, for every run that uses it."),
        (P::Clone, C::Injection) => {
            yes("`/git/ID` of the gateway, with a grant", "The git gateway fetches in the box's place.")
        }
        (P::Clone, _) => no("No process of a box needs the key of its repository: the git gateway asks in its place."),
        (P::Install, C::Injection) => yes(
            "a row `[[egress.write]]` for GET, with a grant or a lease",
            "The gateway asks the registry in the box's place. It is a command that installs: it has a handle of its own.",
        ),
        (P::Install, _) => no("What is being installed runs code of its own."),
        (P::Launch, _) => no("A box is made without a key, and nothing is sent for it."),
        (P::AgentTurn, C::Injection) => {
            yes("`/model` of the door, with a grant", "The gateway asks the model in the agent's place.")
        }
        (P::AgentTurn, C::McpHeader) => no("A model is no tool server."),
        (P::AgentTurn, _) => no("The agent would have it."),
        (P::ToolCall, C::Injection) => yes(
            "a row `[[egress.write]]`, with a grant or a lease",
            "The gateway puts it into the request, after all that the agent said.",
        ),
        (P::ToolCall, C::McpHeader) => not_yet(
            "The gateway would call the tool server in the agent's place. There is no tool server that it knows, and no row of \
             a profile leads to one.",
        ),
        (P::ToolCall, _) => {
            no("A tool outside the box gets its key from the gateway; inside it the agent would have it.")
        }
        (P::Command, C::Injection) => yes(
            "a row `[[egress.write]]`, with a grant or a lease",
            "The gateway puts it into the request; the command has a handle of its own.",
        ),
        (P::Command, C::McpHeader) => no("A command calls no tool server."),
        (P::Command, C::CommandVariable | C::File | C::Stdin | C::GitHelper) => match custody {
            Custody::Managed => no("It opens more than this command needs, and does not end with it."),
            Custody::Derived => yes(
                LEASE,
                "Under a lease: for one declared program outside the worktree, in its own walls. It is made for this lease, \
                 opens what the lease is for and no more, and ends with it where its vendor can end it, else by itself; \
                 the key that it is made of goes nowhere.",
            ),
            Custody::Custom => {
                yes(LEASE, "Under a lease: for one declared program outside the worktree, in its own walls.")
            }
        },
        (P::Ship, C::Injection) => yes(
            "`/git/ID` of the gateway, with a lease; the server's own calls",
            "The git gateway pushes, and the server proposes through the gateway.",
        ),
        (P::Ship, _) => no("Nothing in a box ships: the git gateway and the server do."),
        (P::Teardown, _) => no("A box that ends needs no key, and what is read of it is read without one."),
    }
}

/// Whether what a minter makes has a form for this channel. Where none of its custody may go, it does not go either way.
#[must_use]
pub fn form(channel: Channel, minter: &Minter) -> Cell {
    use Channel as C;
    match (minter.form, channel) {
        (_, C::None) => NOTHING,
        (_, C::BoxVariable) => no("No credential is a variable of the box."),
        (_, C::McpHeader) => no("No tool server is asked with it."),
        (Form::Token, C::GitHelper) if !minter.git => no("It opens no repository."),
        (Form::Token, _) => yes(MINT, "It is one text: a bearer token."),
        (Form::Three, C::File) => {
            yes(MINT, "As a file of credentials, in the form that AWS_SHARED_CREDENTIALS_FILE names.")
        }
        (Form::Three, C::Stdin) => yes(MINT, "As the JSON that a credential_process prints."),
        (Form::Three, C::CommandVariable) => {
            no("It is three values, which do not stand in one variable; deliver it by a file.")
        }
        (Form::Three, C::GitHelper) => no("It opens no repository."),
        (Form::Three, C::Injection) => {
            no("It signs each request, and the gateway signs none; deliver it by a file, to a declared program.")
        }
    }
}
