//! Known providers, as policy and people read them: the list itself is [`model::managed`], which boxes' images are held against too.

pub use model::managed::{Group, PROVIDERS, Provider};

/// The list as a page of `docs/generated`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Managed keys\n\nGenerated from `model::managed`; do not edit. A key that is set as one of these is put into requests \
         to these hosts, by the gateway, and goes nowhere else. No profile has a literal in one of the variables, and no image \
         that sets one makes a box.\n\n\
         | provider | is a | hosts | variables | a person's own in its place |\n|---|---|---|---|---|\n",
    );
    for Provider { id, group, hosts, variables, personal } in PROVIDERS {
        let listed = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let own = if personal { "yes" } else { "no" };
        page += &format!("| `{id}` | {group} | {} | {} | {own} |\n", listed(hosts), listed(variables));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

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
