//! Known providers: whose keys are managed, and which hosts each key is for.
//!
//! A key that is set as one of a provider's is *managed*: it is put into requests to that provider's own hosts by the
//! gateway, and goes nowhere else. Every other is *custom*. The list is this page and nothing else; a provider that is not
//! on it has custom keys.

use std::fmt;

/// What a provider is to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// It answers as a model.
    Model,
    /// It keeps repositories.
    Forge,
    /// It keeps machines and what runs on them.
    Cloud,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Forge => "git forge",
            Self::Cloud => "cloud",
        })
    }
}

/// One known provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// As it is written: `github`.
    pub id: &'static str,
    /// What it is.
    pub group: Group,
    /// The hosts its keys are for: whole names, or `*.` and what every name below has at its end.
    pub hosts: &'static [&'static str],
    /// Whether a person's own key stands in the place of the workspace's: where what is done is done in a person's name,
    /// or on their account. A cloud's key is the workspace's alone.
    pub personal: bool,
}

const fn provider(id: &'static str, group: Group, hosts: &'static [&'static str]) -> Provider {
    Provider { id, group, hosts, personal: !matches!(group, Group::Cloud) }
}

/// All of them.
pub const PROVIDERS: [Provider; 22] = [
    provider("anthropic", Group::Model, &["api.anthropic.com"]),
    provider("azure-openai", Group::Model, &["*.openai.azure.com"]),
    provider("cohere", Group::Model, &["api.cohere.com"]),
    provider("deepseek", Group::Model, &["api.deepseek.com"]),
    provider("fireworks", Group::Model, &["api.fireworks.ai"]),
    provider("gemini", Group::Model, &["generativelanguage.googleapis.com"]),
    provider("groq", Group::Model, &["api.groq.com"]),
    provider("mistral", Group::Model, &["api.mistral.ai"]),
    provider("openai", Group::Model, &["api.openai.com"]),
    provider("openrouter", Group::Model, &["openrouter.ai"]),
    provider("together", Group::Model, &["api.together.xyz"]),
    provider("xai", Group::Model, &["api.x.ai"]),
    provider("bitbucket", Group::Forge, &["api.bitbucket.org", "bitbucket.org"]),
    provider("codeberg", Group::Forge, &["codeberg.org"]),
    provider("github", Group::Forge, &["api.github.com", "github.com", "uploads.github.com"]),
    provider("gitlab", Group::Forge, &["gitlab.com"]),
    provider("aws", Group::Cloud, &["*.amazonaws.com"]),
    provider("azure", Group::Cloud, &["graph.microsoft.com", "login.microsoftonline.com", "management.azure.com"]),
    provider("cloudflare", Group::Cloud, &["api.cloudflare.com"]),
    provider("digitalocean", Group::Cloud, &["api.digitalocean.com"]),
    provider("google-cloud", Group::Cloud, &["*.googleapis.com"]),
    provider("hetzner", Group::Cloud, &["api.hetzner.cloud"]),
];

impl Provider {
    /// The provider of this id.
    #[must_use]
    pub fn of(id: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.id == id)
    }

    /// Whether its keys are for `host`: a name in lower case without a dot at its end; an address is no host of anyone's.
    #[must_use]
    pub fn holds(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| match own.strip_prefix('*') {
            // The dot stays, and something stands before it.
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == *own,
        })
    }
}

/// The list as a page of `docs/generated`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Managed keys\n\nGenerated from `policy::providers`; do not edit. A key that is set as one of these is put into requests \
         to these hosts, by the gateway, and goes nowhere else.\n\n| provider | is a | hosts | a person's own in its place |\n|---|---|---|---|\n",
    );
    for Provider { id, group, hosts, personal } in PROVIDERS {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("`{host}`")).collect();
        page += &format!("| `{id}` | {group} | {} | {} |\n", hosts.join(", "), if personal { "yes" } else { "no" });
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_its_providers_own_hosts_and_for_no_other() {
        let github = Provider::of("github").unwrap();
        assert!(github.holds("api.github.com") && github.holds("github.com"));
        for other in ["github.com.example", "evilgithub.com", "gist.github.com", "com", "", "api.github.com."] {
            assert!(!github.holds(other), "{other}");
        }
        let aws = Provider::of("aws").unwrap();
        assert!(aws.holds("sts.amazonaws.com") && aws.holds("s3.eu-central-1.amazonaws.com"));
        for other in ["amazonaws.com", ".amazonaws.com", "evilamazonaws.com", "sts.amazonaws.com.example"] {
            assert!(!aws.holds(other), "{other}");
        }
        assert_eq!(Provider::of("nobody"), None);
    }

    #[test]
    fn every_provider_has_an_id_of_its_own_and_hosts_that_are_names() {
        for (n, provider) in PROVIDERS.iter().enumerate() {
            assert!(PROVIDERS[..n].iter().all(|other| other.id != provider.id), "{}", provider.id);
            assert!(!provider.hosts.is_empty(), "{}", provider.id);
            for host in provider.hosts {
                let name = host.strip_prefix("*.").unwrap_or(host);
                assert!(crate::egress::Name::parse(name).is_ok_and(|read| read.as_str() == name), "{host}");
                assert!(name.contains('.') && !name.contains('*'), "{host}");
            }
            assert_eq!(provider.personal, provider.group != Group::Cloud, "{}", provider.id);
        }
    }
}
