//! What a vendor has to be told, beside a long-lived key, so that it makes a narrower and shorter one: the settings that
//! an administrator stores with the key. Nothing of them is secret.
//!
//! Read [`Minter`], then [`Minter::check`] (what cannot be one).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest session policy of a role, in bytes; the vendor's own limit is 2,048 characters.
pub const MAX_POLICY: usize = 2_048;

/// How values are made of a stored key, by whom, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Minter {
    /// A GitHub App: the key is its private key (PEM, PKCS#1 or PKCS#8, RSA); what is made is a token of one installation,
    /// for one repository.
    GithubApp(GithubApp),
    /// A role at AWS: the key is the secret access key of a user who may assume it; what is made are three values that
    /// live for 15 minutes or more.
    AwsRole(AwsRole),
    /// A service account of a Kubernetes cluster: the key is a bearer token that may ask for tokens of it.
    KubernetesAccount(KubernetesAccount),
}

/// See [`Minter::GithubApp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GithubApp {
    /// The app's id, or its client's id: who signs.
    pub app: String,
    /// The installation's number: whose repositories.
    pub installation: u64,
    /// The API's address of an Enterprise Server (`https://git.corp.example/api/v3`); github.com's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What a token for a tool or a command may do, beside reading what a repository is called: `issues = "write"`.
    /// `contents = "read"` unless said. What git and proposals need is not said here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, String>,
    /// The address is one of the own network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

/// See [`Minter::AwsRole`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AwsRole {
    /// The id of the access key whose secret is stored.
    pub access_key: String,
    /// The role's ARN.
    pub role: String,
    /// The region whose token service is asked.
    pub region: String,
    /// A session policy (JSON) that narrows the role; `{destination}` in its texts is the lease's destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The token service's address; the region's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The address is one of the own network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

/// See [`Minter::KubernetesAccount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KubernetesAccount {
    /// The API server's address.
    pub base: String,
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub account: String,
    /// Whom the tokens are for; the API server itself unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The address is one of the own network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

impl Minter {
    /// The kind's id, as a secret is set with: `github-app`.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        match self {
            Self::GithubApp(_) => "github-app",
            Self::AwsRole(_) => "aws-role",
            Self::KubernetesAccount(_) => "kubernetes-account",
        }
    }

    /// The address that is asked, when it was said, and whether it is one of the own network.
    #[must_use]
    pub fn base(&self) -> (Option<&str>, bool) {
        match self {
            Self::GithubApp(app) => (app.base.as_deref(), app.internal),
            Self::AwsRole(role) => (role.base.as_deref(), role.internal),
            Self::KubernetesAccount(account) => (Some(&account.base), account.internal),
        }
    }

    /// Whether these are settings that can be told to a vendor. Of addresses only the form is looked at.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn check(&self) -> Result<(), String> {
        let (base, _) = self.base();
        if base.is_some_and(|base| !graphic(base, 1024) || base.contains('?')) {
            return Err("The address takes 1 to 1,024 printable characters, and no query.".into());
        }
        match self {
            Self::GithubApp(app) => app.check(),
            Self::AwsRole(role) => role.check(),
            Self::KubernetesAccount(account) => account.check(),
        }
    }
}

impl GithubApp {
    fn check(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.app.len()) || !self.app.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') {
            return Err("The app's id is its number, or its client's id.".into());
        }
        if self.installation == 0 {
            return Err("The installation's number stands at the end of the address of its settings.".into());
        }
        if self.permissions.len() > 16 {
            return Err("A token has at most 16 permissions.".into());
        }
        for (name, level) in &self.permissions {
            let plain = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !plain || !["read", "write"].contains(&level.as_str()) {
                return Err(format!(
                    "A permission is a name and `read` or `write`, as `issues=write`; {name:?} is none."
                ));
            }
            // What would let a token make itself, or others, wider.
            if ["administration", "workflows", "secrets", "actions", "environments"].contains(&name.as_str())
                && level == "write"
            {
                return Err(format!(
                    "No token of a run may write {name}: with that it could do more than it was made for."
                ));
            }
        }
        Ok(())
    }
}

impl AwsRole {
    fn check(&self) -> Result<(), String> {
        let key = (16..=128).contains(&self.access_key.len())
            && self.access_key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !key {
            return Err("The access key's id takes 16 to 128 characters of A-Z and 0-9.".into());
        }
        let role = graphic(&self.role, 2048) && self.role.starts_with("arn:") && self.role.contains(":role/");
        if !role {
            return Err("The role is an ARN: arn:aws:iam::NUMBER:role/NAME.".into());
        }
        let region = (1..=32).contains(&self.region.len())
            && self.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !region {
            return Err("The region is a name like eu-central-1.".into());
        }
        match &self.policy {
            Some(policy) if policy.len() > MAX_POLICY => {
                Err(format!("A session policy has at most {MAX_POLICY} bytes; this one has {}.", policy.len()))
            }
            Some(policy) if !policy.trim_start().starts_with('{') => Err("A session policy is a JSON object.".into()),
            _ => Ok(()),
        }
    }
}

impl KubernetesAccount {
    fn check(&self) -> Result<(), String> {
        let label = |text: &str, most: usize| {
            (1..=most).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
                && !text.starts_with(['-', '.'])
        };
        if !label(&self.namespace, 63) || self.namespace.contains('.') || !label(&self.account, 253) {
            return Err("Namespace and account are names as Kubernetes has them.".into());
        }
        if self.audiences.len() > 8 || !self.audiences.iter().all(|one| graphic(one, 256)) {
            return Err("There are at most 8 audiences, of 1 to 256 printable characters each.".into());
        }
        Ok(())
    }
}

fn graphic(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Minter, String> {
        let minter: Minter = serde_json::from_str(text).map_err(|e| e.to_string())?;
        minter.check().map(|()| minter)
    }

    #[test]
    fn settings_are_read_by_their_kind_and_a_field_that_nobody_knows_is_refused() {
        let app =
            read(r#"{"kind":"github-app","app":"12","installation":34,"permissions":{"issues":"write"}}"#).unwrap();
        assert_eq!((app.id(), app.base()), ("github-app", (None, false)));
        assert_eq!(serde_json::to_value(&app).unwrap()["kind"], "github-app");
        assert!(read(r#"{"kind":"github-app","app":"12","installation":34,"key":"x"}"#).is_err());
        assert!(read(r#"{"kind":"nobody","app":"12","installation":34}"#).is_err());
        let role = r#""access-key":"AKIAIOSFODNN7EXAMPLE","role":"arn:aws:iam::1:role/x","region":"eu-central-1""#;
        assert_eq!(read(&format!(r#"{{"kind":"aws-role",{role}}}"#)).unwrap().id(), "aws-role");
        let account = r#""base":"https://k.example","namespace":"ci","account":"deployer""#;
        assert_eq!(read(&format!(r#"{{"kind":"kubernetes-account",{account}}}"#)).unwrap().id(), "kubernetes-account");
    }

    #[test]
    fn what_cannot_be_told_to_a_vendor_or_would_make_a_token_wider_is_refused() {
        for bad in [
            r#"{"kind":"github-app","app":"","installation":34}"#,
            r#"{"kind":"github-app","app":"1/2","installation":34}"#,
            r#"{"kind":"github-app","app":"12","installation":0}"#,
            r#"{"kind":"github-app","app":"12","installation":3,"permissions":{"issues":"admin"}}"#,
            r#"{"kind":"github-app","app":"12","installation":3,"permissions":{"workflows":"write"}}"#,
            r#"{"kind":"github-app","app":"12","installation":3,"base":"https://x.example/?a"}"#,
            r#"{"kind":"aws-role","access-key":"x","role":"arn:aws:iam::1:role/x","region":"eu-central-1"}"#,
            r#"{"kind":"aws-role","access-key":"AKIAIOSFODNN7EXAMPLE","role":"x","region":"eu-central-1"}"#,
            r#"{"kind":"aws-role","access-key":"AKIAIOSFODNN7EXAMPLE","role":"arn:aws:iam::1:role/x","region":"x.evil"}"#,
            r#"{"kind":"kubernetes-account","base":"https://k.example","namespace":"a/b","account":"d"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_policy_of_2048_bytes_is_taken_and_one_of_a_byte_more_is_not() {
        let role = r#""access-key":"AKIAIOSFODNN7EXAMPLE","role":"arn:aws:iam::1:role/x","region":"eu-central-1""#;
        let of = |bytes: usize| {
            let policy = format!("{{{}}}", " ".repeat(bytes - 2));
            read(&format!(r#"{{"kind":"aws-role",{role},"policy":{}}}"#, serde_json::json!(policy)))
        };
        assert!(of(2048).is_ok());
        assert!(of(2049).unwrap_err().contains("2048 bytes"));
    }
}
