//! The secret policy: in which phase of a run a credential may travel by which channel. One table.
//!
//! A cell says yes or no, and why; a phase and a channel that nobody thought of do not exist. It speaks of credentials. What
//! a box has instead, a handle, works at its own door only, and is no credential to anyone.
//!
//! Read [`Custody`] (whose key it is), [`cell`] (the table), [`row`] (what of it holds for a capability), then [`page()`].

mod page;
mod table;

pub use page::page;
pub use table::{cell, form};

use crate::Refusal;
use crate::minters::Minter;
use model::capability::{Capability, Delivery, Variable};
use model::managed::keys_among;
pub use model::secret::TEXT;
use std::collections::BTreeMap;

/// What happens in a run, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The file system of a box is put together.
    BuildImage,
    /// The repository is read.
    Clone,
    /// What the work needs is installed, before the agent's first turn.
    Install,
    /// The box is made and its first process started.
    Launch,
    /// The agent asks its model.
    AgentTurn,
    /// The agent calls a tool outside the box.
    ToolCall,
    /// A command runs in the box.
    Command,
    /// The result is proposed to a repository.
    Ship,
    /// The box is ended and read.
    Teardown,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::BuildImage,
        Self::Clone,
        Self::Install,
        Self::Launch,
        Self::AgentTurn,
        Self::ToolCall,
        Self::Command,
        Self::Ship,
        Self::Teardown,
    ];

    /// As the table prints it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BuildImage => "build image",
            Self::Clone => "clone",
            Self::Install => "install",
            Self::Launch => "launch",
            Self::AgentTurn => "agent turn",
            Self::ToolCall => "tool call",
            Self::Command => "command",
            Self::Ship => "ship",
            Self::Teardown => "teardown",
        }
    }
}

/// How a credential could travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// A variable that every process of the box has.
    BoxVariable,
    /// A variable of one command.
    CommandVariable,
    /// A file that one command has open.
    File,
    /// One command's standard input.
    Stdin,
    /// One command's git, as its credential helper.
    GitHelper,
    /// The gateway puts it into a request that it sends.
    Injection,
    /// The gateway puts it into a header of a call of a tool server.
    McpHeader,
    /// Not at all.
    None,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BoxVariable,
        Self::CommandVariable,
        Self::File,
        Self::Stdin,
        Self::GitHelper,
        Self::Injection,
        Self::McpHeader,
        Self::None,
    ];

    /// As the table prints it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BoxVariable => "variable of the box",
            Self::CommandVariable => "variable of one command",
            Self::File => "file of one command",
            Self::Stdin => "standard input of one command",
            Self::GitHelper => "git helper of one command",
            Self::Injection => "injection by the gateway",
            Self::McpHeader => "header to a tool server, by the gateway",
            Self::None => "none",
        }
    }

    /// Whether it ends inside a box.
    #[must_use]
    pub fn ends_in_a_box(self) -> bool {
        matches!(self, Self::BoxVariable | Self::CommandVariable | Self::File | Self::Stdin | Self::GitHelper)
    }

    /// The channel of a capability's delivery.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        match delivery {
            Delivery::Proxy => Self::Injection,
            Delivery::Variable(_) => Self::CommandVariable,
            Delivery::File(_) => Self::File,
            Delivery::Stdin => Self::Stdin,
            Delivery::GitHelper => Self::GitHelper,
        }
    }
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Custody {
    /// A key of a known provider: a model vendor, a git forge, a cloud; and whatever is kept for a model, a registry of images
    /// or a connection. It opens more than a run could need.
    Managed,
    /// What a vendor made of a managed key for one lease: narrower, and over by itself.
    Derived,
    /// Any other secret that an administrator stored.
    Custom,
}

impl Custody {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Managed, Self::Derived, Self::Custom];

    /// As the table prints it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Derived => "derived",
            Self::Custom => "custom",
        }
    }
}

/// The custody of what travels of a stored secret, by its name and the known provider, or minter, that it was set as a key
/// of (empty: none). Only what stands under `capability/` can be anything but managed.
#[must_use]
pub fn custody(name: &str, provider: &str) -> Custody {
    if !name.starts_with("capability/") {
        return Custody::Managed;
    }
    match provider {
        "" | TEXT => Custody::Custom,
        // The key itself goes nowhere; what travels is what its vendor makes of it.
        kind if Minter::of(kind).is_some() => Custody::Derived,
        _ => Custody::Managed,
    }
}

/// A word of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Whether it may.
    pub may: bool,
    /// What carries it; empty where it may not, and `nothing yet` where it would be let through once something did.
    pub by: &'static str,
    /// Why, or why not.
    pub why: &'static str,
}

/// Whether a capability may have its delivery, when its secret is in this custody.
///
/// # Errors
/// `delivery.managed`, or `delivery.channel` for what no custody allows.
pub fn row(capability: &Capability, custody: Custody) -> Result<(), Refusal> {
    let channel = Channel::of(&capability.delivery);
    let cell = cell(Phase::Command, channel, custody);
    if cell.may {
        return Ok(());
    }
    let rule = if custody == Custody::Managed { "delivery.managed" } else { "delivery.channel" };
    let why = format!(
        "The capability {:?} would bring {:?}, a {} key, into a box ({}). {} Deliver it by `proxy`.",
        capability.name,
        capability.secret,
        custody.word(),
        channel.word(),
        cell.why
    );
    Err(Refusal::new(rule, why))
}

/// Whether a capability may have its delivery, when its secret is stored under `name` as `kind`: a provider's, a minter's, a
/// [`TEXT`], or custom (empty).
///
/// # Errors
/// Those of [`row`] and [`minted`]; `delivery.channel`, for a text that would stand in a header, a variable or git's answer.
pub fn stored(capability: &Capability, name: &str, kind: &str) -> Result<(), Refusal> {
    row(capability, custody(name, kind))?;
    if kind == TEXT && !matches!(capability.delivery, Delivery::File(_) | Delivery::Stdin) {
        let why = format!(
            "The capability {:?} would have {:?}, a text of several words or lines, delivered as {}. Deliver it by \
             {{ file = \"NAME\" }} or by \"stdin\".",
            capability.name,
            capability.secret,
            Channel::of(&capability.delivery).word(),
        );
        return Err(Refusal::new("delivery.channel", why));
    }
    Minter::of(kind).map_or(Ok(()), |minter| minted(capability, minter))
}

/// Whether what this minter makes may travel as a capability says.
///
/// # Errors
/// `delivery.channel`, for a form that the value does not have.
pub fn minted(capability: &Capability, minter: &Minter) -> Result<(), Refusal> {
    let channel = Channel::of(&capability.delivery);
    let cell = form(channel, minter);
    if cell.may {
        return Ok(());
    }
    let why = format!(
        "The capability {:?} would have {:?}, a key of the kind `{}`, delivered as {}. {}",
        capability.name,
        capability.secret,
        minter.id,
        channel.word(),
        cell.why
    );
    Err(Refusal::new("delivery.channel", why))
}

/// What a profile says that no stored secret need be looked at to refuse.
///
/// # Errors
/// `delivery.managed`: a model's key, or a literal where programs look for a managed key. It names the row, and no value.
pub fn profile(capabilities: &[Capability], variables: &BTreeMap<String, Variable>) -> Result<(), Refusal> {
    for capability in capabilities {
        row(capability, custody(&capability.secret, ""))?;
    }
    let literal = |(name, variable): (_, &Variable)| matches!(variable, Variable::Literal(_)).then_some(name);
    let names = keys_among(variables.iter().filter_map(|(name, variable)| literal((name.as_str(), variable))));
    if names.is_empty() {
        return Ok(());
    }
    let why = format!(
        "A literal in {} would bring a key into a box. Store the key, name it in a `[[capability]]`, and write {{ capability = \
         \"…\" }}: the box gets a handle.",
        names.join(", ")
    );
    Err(Refusal::new("delivery.managed", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::capability::Kind;

    fn capability(secret: &str, delivery: Delivery) -> Capability {
        Capability {
            name: "x".into(),
            secret: secret.into(),
            kind: Kind::Command,
            destinations: vec!["x".into()],
            delivery,
            executables: vec!["/usr/bin/x".into()],
            seconds: None,
            per_minute: None,
            per_run: None,
        }
    }

    fn deliveries() -> [Delivery; 4] {
        [Delivery::Variable("X".into()), Delivery::File("X".into()), Delivery::Stdin, Delivery::GitHelper]
    }

    #[test]
    fn whatever_may_travel_is_carried_by_something_that_is_there_and_what_nothing_carries_may_not() {
        let forms = Channel::ALL.into_iter().flat_map(|channel| crate::minters::MINTERS.map(|of| form(channel, &of)));
        let cells = Phase::ALL.into_iter().flat_map(|phase| Channel::ALL.map(|channel| (phase, channel)));
        let cells = cells.flat_map(|(phase, channel)| Custody::ALL.map(|custody| cell(phase, channel, custody)));
        for cell in cells.chain(forms) {
            assert_eq!(cell.may, !cell.by.is_empty() && cell.by != "nothing yet", "{cell:?}");
        }
        // Every way in which a profile can have a key delivered is one of them: to a command, and by the gateway.
        let ways = deliveries().into_iter().chain([Delivery::Proxy]).map(|way| Channel::of(&way));
        for channel in Channel::ALL {
            let carried = cell(Phase::Command, channel, Custody::Custom).may;
            assert_eq!(carried, channel == Channel::None || ways.clone().any(|way| way == channel), "{channel:?}");
        }
    }

    #[test]
    fn a_managed_key_has_no_channel_that_ends_inside_a_box_in_any_phase() {
        for phase in Phase::ALL {
            for channel in Channel::ALL.into_iter().filter(|channel| channel.ends_in_a_box()) {
                assert!(!cell(phase, channel, Custody::Managed).may, "{phase:?} {channel:?}");
            }
        }
    }

    #[test]
    fn no_key_is_ever_a_variable_of_the_box_and_in_no_phase_but_a_command_does_one_end_in_it() {
        for (phase, custody) in Phase::ALL.into_iter().flat_map(|phase| Custody::ALL.map(|custody| (phase, custody))) {
            assert!(!cell(phase, Channel::BoxVariable, custody).may, "{phase:?} {custody:?}");
            for channel in Channel::ALL.into_iter().filter(|channel| channel.ends_in_a_box()) {
                assert!(phase == Phase::Command || !cell(phase, channel, custody).may, "{phase:?} {channel:?}");
            }
            assert!(cell(phase, Channel::None, custody).may);
        }
    }

    #[test]
    fn a_model_s_key_and_a_key_of_a_known_provider_are_managed_and_only_injected() {
        assert_eq!(custody("model/anthropic", ""), Custody::Managed);
        assert_eq!(custody("connection/forge", ""), Custody::Managed);
        assert_eq!(custody("capability/forge", "github"), Custody::Managed);
        assert_eq!(custody("capability/shop", ""), Custody::Custom);
        assert_eq!(custody("capability/forge", "github-app"), Custody::Derived);
        for delivery in deliveries() {
            let row_ = capability("capability/forge", delivery);
            assert_eq!(row(&row_, Custody::Managed).unwrap_err().rule, "delivery.managed");
            assert_eq!(row(&row_, Custody::Custom), Ok(()));
            assert_eq!(row(&row_, Custody::Derived), Ok(()));
        }
        assert_eq!(row(&capability("model/a", Delivery::Proxy), Custody::Managed), Ok(()));
    }

    #[test]
    fn of_every_prefix_and_kind_only_what_is_custom_or_derived_has_a_channel_into_a_box() {
        let providers = crate::providers::PROVIDERS.iter().map(|known| known.id);
        let minters = crate::minters::MINTERS.iter().map(|known| known.id);
        let kinds: Vec<&str> = ["", "a-kind-that-a-list-lost"].into_iter().chain(providers).chain(minters).collect();
        for name in
            ["model/x", "registry/r.corp:5000", "connection/x", "capability/x", "git/x", "x", "capabilityx/y", ""]
        {
            for kind in &kinds {
                let expected = match (name, *kind) {
                    ("capability/x", "") => Custody::Custom,
                    ("capability/x", kind) if Minter::of(kind).is_some() => Custody::Derived,
                    _ => Custody::Managed,
                };
                assert_eq!(custody(name, kind), expected, "{name} {kind:?}");
                for delivery in deliveries() {
                    let row = row(&capability(name, delivery.clone()), custody(name, kind));
                    assert_eq!(row.is_ok(), expected != Custody::Managed, "{name} {kind:?} {delivery:?}");
                }
            }
        }
        // A profile is refused for the name alone, whatever is stored under it.
        for name in ["model/x", "registry/r.corp", "connection/x"] {
            let said = profile(&[capability(name, Delivery::Variable("T".into()))], &BTreeMap::new()).unwrap_err();
            assert_eq!(said.rule, "delivery.managed", "{name}");
        }
    }

    #[test]
    fn a_text_travels_by_a_file_or_standard_input_and_stands_in_no_header_variable_or_answer_to_git() {
        let rule =
            |delivery: Delivery, name: &str| stored(&capability(name, delivery), name, TEXT).map_err(|no| no.rule);
        assert_eq!(rule(Delivery::File("KUBECONFIG".into()), "capability/x"), Ok(()));
        assert_eq!(rule(Delivery::Stdin, "capability/x"), Ok(()));
        for delivery in [Delivery::Variable("X".into()), Delivery::GitHelper, Delivery::Proxy] {
            assert_eq!(rule(delivery, "capability/x"), Err("delivery.channel"));
        }
        assert_eq!(rule(Delivery::Stdin, "model/x"), Err("delivery.managed"));
    }

    #[test]
    fn what_is_minted_has_the_channels_of_its_form_and_no_more() {
        let rule = |delivery, id: &str| {
            minted(&capability("capability/x", delivery), Minter::of(id).unwrap()).map_err(|no| no.rule)
        };
        for delivery in deliveries().into_iter().chain([Delivery::Proxy]) {
            assert_eq!(rule(delivery, "github-app"), Ok(()));
        }
        assert_eq!(rule(Delivery::File("AWS_SHARED_CREDENTIALS_FILE".into()), "aws-role"), Ok(()));
        assert_eq!(rule(Delivery::Stdin, "aws-role"), Ok(()));
        for delivery in [Delivery::Variable("X".into()), Delivery::GitHelper, Delivery::Proxy] {
            assert_eq!(rule(delivery, "aws-role"), Err("delivery.channel"));
        }
        assert_eq!(rule(Delivery::GitHelper, "kubernetes-account"), Err("delivery.channel"));
        assert_eq!(rule(Delivery::Proxy, "kubernetes-account"), Ok(()));
    }

    #[test]
    fn a_profile_that_would_put_a_key_into_a_box_is_refused_by_name_and_never_by_value() {
        for delivery in deliveries() {
            let said = profile(&[capability("model/anthropic", delivery)], &BTreeMap::new()).unwrap_err();
            assert!(said.rule == "delivery.managed" && said.why.contains("model/anthropic"), "{said}");
        }
        let literal = BTreeMap::from([("GITHUB_TOKEN".to_owned(), Variable::Literal("the-very-value".into()))]);
        let said = profile(&[], &literal).unwrap_err();
        assert!(said.why.contains("GITHUB_TOKEN") && !said.why.contains("the-very-value"), "{said}");
        let handle = BTreeMap::from([("GITHUB_TOKEN".to_owned(), Variable::Handle { capability: "x".into() })]);
        assert_eq!(profile(&[capability("capability/x", Delivery::Proxy)], &handle), Ok(()));
    }
}
