//! Known providers: whose keys are managed, which hosts each key is for, and in which variables programs look for it.
//!
//! A key that is set as one of a provider's is *managed*: it is put into requests to that provider's own hosts by the
//! gateway, and goes nowhere else. Every other is *custom*. The list is this page and nothing else; a provider that is not
//! on it has custom keys.
//!
//! Read [`PROVIDERS`], then [`names_a_key`].

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
    /// The variables in which its own programs and the usual libraries look for its keys: no literal stands in one, and no
    /// image sets one.
    pub variables: &'static [&'static str],
    /// Whether a person's own key stands in the place of the workspace's: where what is done is done in a person's name,
    /// or on their account. A cloud's key is the workspace's alone.
    pub personal: bool,
}

const fn provider(
    id: &'static str,
    group: Group,
    hosts: &'static [&'static str],
    variables: &'static [&'static str],
) -> Provider {
    Provider { id, group, hosts, variables, personal: !matches!(group, Group::Cloud) }
}

/// All of them.
pub const PROVIDERS: [Provider; 22] = [
    provider(
        "anthropic",
        Group::Model,
        &["api.anthropic.com"],
        &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"],
    ),
    provider("azure-openai", Group::Model, &["*.openai.azure.com"], &["AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY"]),
    provider("cohere", Group::Model, &["api.cohere.com"], &["COHERE_API_KEY", "CO_API_KEY"]),
    provider("deepseek", Group::Model, &["api.deepseek.com"], &["DEEPSEEK_API_KEY"]),
    provider("fireworks", Group::Model, &["api.fireworks.ai"], &["FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"]),
    provider(
        "gemini",
        Group::Model,
        &["generativelanguage.googleapis.com"],
        &["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"],
    ),
    provider("groq", Group::Model, &["api.groq.com"], &["GROQ_API_KEY"]),
    provider("mistral", Group::Model, &["api.mistral.ai"], &["MISTRAL_API_KEY"]),
    provider("openai", Group::Model, &["api.openai.com"], &["OPENAI_ADMIN_KEY", "OPENAI_API_KEY"]),
    provider("openrouter", Group::Model, &["openrouter.ai"], &["OPENROUTER_API_KEY"]),
    provider(
        "together",
        Group::Model,
        &["api.together.xyz"],
        &["TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHER_API_KEY"],
    ),
    provider("xai", Group::Model, &["api.x.ai"], &["XAI_API_KEY"]),
    provider(
        "bitbucket",
        Group::Forge,
        &["api.bitbucket.org", "bitbucket.org"],
        &["BITBUCKET_ACCESS_TOKEN", "BITBUCKET_APP_PASSWORD", "BITBUCKET_TOKEN"],
    ),
    provider("codeberg", Group::Forge, &["codeberg.org"], &["CODEBERG_TOKEN", "FORGEJO_TOKEN", "GITEA_TOKEN"]),
    provider(
        "github",
        Group::Forge,
        &["api.github.com", "github.com", "uploads.github.com"],
        &["GH_ENTERPRISE_TOKEN", "GH_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GITHUB_PERSONAL_ACCESS_TOKEN", "GITHUB_TOKEN"],
    ),
    provider(
        "gitlab",
        Group::Forge,
        &["gitlab.com"],
        &["CI_JOB_TOKEN", "GITLAB_ACCESS_TOKEN", "GITLAB_PRIVATE_TOKEN", "GITLAB_TOKEN"],
    ),
    provider(
        "aws",
        Group::Cloud,
        &["*.amazonaws.com"],
        &["AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"],
    ),
    provider(
        "azure",
        Group::Cloud,
        &["graph.microsoft.com", "login.microsoftonline.com", "management.azure.com"],
        &["ARM_CLIENT_SECRET", "AZURE_CLIENT_SECRET"],
    ),
    provider(
        "cloudflare",
        Group::Cloud,
        &["api.cloudflare.com"],
        &["CF_API_KEY", "CF_API_TOKEN", "CLOUDFLARE_API_KEY", "CLOUDFLARE_API_TOKEN"],
    ),
    provider(
        "digitalocean",
        Group::Cloud,
        &["api.digitalocean.com"],
        &["DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN"],
    ),
    provider(
        "google-cloud",
        Group::Cloud,
        &["*.googleapis.com"],
        &[
            "CLOUDSDK_AUTH_ACCESS_TOKEN",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CREDENTIALS",
            "GOOGLE_OAUTH_ACCESS_TOKEN",
        ],
    ),
    provider("hetzner", Group::Cloud, &["api.hetzner.cloud"], &["HCLOUD_TOKEN"]),
];

/// Variables in which programs look for a key of none of these: of registries of packages.
const REGISTRIES: [&str; 2] = ["CARGO_REGISTRY_TOKEN", "NPM_TOKEN"];

/// Whether a variable of this name is where programs look for a managed key.
#[must_use]
pub fn names_a_key(variable: &str) -> bool {
    let known = |provider: &Provider| provider.variables.contains(&variable);
    PROVIDERS.iter().any(known) || REGISTRIES.contains(&variable)
}

/// The names among `variables` (of an image, a file, a request) that would bring a managed key into a box as a value.
#[must_use]
pub fn keys_among<'v>(variables: impl IntoIterator<Item = &'v str>) -> Vec<String> {
    let mut names: Vec<String> = variables.into_iter().filter(|name| names_a_key(name)).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::variable_name;

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
    fn every_provider_has_the_variables_in_which_programs_look_for_its_keys() {
        for provider in &PROVIDERS {
            assert!(!provider.variables.is_empty(), "{}", provider.id);
            assert!(provider.variables.is_sorted(), "{}", provider.id);
            for name in provider.variables {
                assert_eq!(variable_name(name), Ok(()), "{name} is refused before this table is asked");
                assert!(names_a_key(name), "{name}");
                let others = PROVIDERS.iter().filter(|other| other.id != provider.id);
                assert!(others.into_iter().all(|other| !other.variables.contains(name)), "{name} is two providers'");
            }
        }
        // Those by which a vendor's own programs are known.
        for name in ["GROQ_API_KEY", "XAI_API_KEY", "CLOUDFLARE_API_KEY", "CO_API_KEY", "NPM_TOKEN"] {
            assert!(names_a_key(name), "{name}");
        }
        assert!(!names_a_key("PATH") && !names_a_key("groq_api_key"));
        assert_eq!(keys_among(["PATH", "OPENAI_API_KEY", "GH_TOKEN", "GH_TOKEN"]), ["GH_TOKEN", "OPENAI_API_KEY"]);
    }
}
