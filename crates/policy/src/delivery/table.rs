//! The cells.

use super::{Cell, Channel, Custody, Phase};

const fn yes(why: &'static str) -> Cell {
    Cell { may: true, why }
}

const fn no(why: &'static str) -> Cell {
    Cell { may: false, why }
}

/// What holds in this phase, for this channel, of a key in this custody.
#[must_use]
pub fn cell(phase: Phase, channel: Channel, custody: Custody) -> Cell {
    use Channel as C;
    use Phase as P;
    match (phase, channel) {
        (_, C::None) => yes("Nothing travels."),
        (_, C::BoxVariable) => {
            no("Every process of the box would have it for as long as it lives; it has a handle instead.")
        }
        (P::BuildImage, _) => no("What is put into an image stays in it, for every run that uses it."),
        (P::Clone, C::Injection) => yes("The git gateway fetches in the box's place."),
        (P::Clone, _) => no("No process of a box needs the key of its repository: the git gateway asks in its place."),
        (P::Install, C::Injection) => yes("The gateway asks the registry in the box's place."),
        (P::Install, _) => no("What is being installed runs code of its own."),
        (P::Launch, _) => no("A box is made without a key, and nothing is sent for it."),
        (P::AgentTurn, C::Injection) => yes("The gateway asks the model in the agent's place."),
        (P::AgentTurn, C::McpHeader) => no("A model is no tool server."),
        (P::AgentTurn, _) => no("The agent would have it."),
        (P::ToolCall, C::Injection | C::McpHeader) => yes("The gateway calls the tool in the agent's place."),
        (P::ToolCall, _) => {
            no("A tool outside the box gets its key from the gateway; inside it the agent would have it.")
        }
        (P::Command, C::Injection) => yes("The gateway puts it into the request; the command has a handle of its own."),
        (P::Command, C::McpHeader) => no("A command calls no tool server."),
        (P::Command, C::CommandVariable | C::File | C::Stdin | C::GitHelper) => match custody {
            Custody::Managed => no("It opens more than this command needs, and does not end with it."),
            Custody::Derived => yes(
                "Under a lease: for one declared program outside the worktree, in its own walls; it ends by itself.",
            ),
            Custody::Custom => yes("Under a lease: for one declared program outside the worktree, in its own walls."),
        },
        (P::Ship, C::Injection) => yes("The git gateway pushes, and the server proposes through the gateway."),
        (P::Ship, _) => no("Nothing in a box ships: the git gateway and the server do."),
        (P::Teardown, _) => no("A box that ends needs no key, and what is read of it is read without one."),
    }
}
