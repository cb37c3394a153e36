//! Whose value of a secret a run gets, and where it may go.
//!
//! Read [`of_person`], [`managed`], [`belongs`], then [`may_go`].

use crate::{mint, models, record};
use policy::Refusal;
use policy::delivery::{self, Custody, TEXT};
use policy::providers::Provider;
use store::secrets::{Apart, SecretRow};
use store::{StoreError, Tx};

/// What a run of this person's gets of a secret; none where there is none for them.
///
/// # Errors
/// [`apart`]; the store's.
pub async fn of_person(
    tx: &mut Tx,
    name: &str,
    person: &str,
) -> Result<Result<Option<SecretRow>, Refusal>, StoreError> {
    Ok(tx.secret_for(name, person).await?.map_err(|two| apart(&two)))
}

/// `secret.kinds`: why a person whose own value is of another kind than the workspace's gets neither, and what to do.
#[must_use]
pub fn apart(two: &Apart) -> Refusal {
    let what = |kind: &str| if kind.is_empty() { "custom".to_owned() } else { format!("a key of {kind}") };
    let Apart { name, person, own, shared } = two;
    let why = format!(
        "{person}'s own value of the secret {name:?} is {}, and the workspace's is {}: neither is used in the other's place. \
         {person} deletes theirs (`volary secret delete {name} --mine`), or sets it anew where the workspace's allows it \
         (`volary secret set {name} --mine`).",
        what(own),
        what(shared)
    );
    Refusal::new("secret.kinds", why)
}

/// Whether the value of this secret ends inside no box, by whatever way: a known provider's key, a model's, or a registry's.
#[must_use]
pub fn managed(row: &SecretRow) -> bool {
    delivery::custody(&row.name, &row.kind) != Custody::Custom
}

/// As [`belongs`], as the models stand in this act.
///
/// # Errors
/// The store's.
pub async fn may_go(tx: &mut Tx, row: &SecretRow, host: &str, port: u16) -> Result<Result<(), Refusal>, StoreError> {
    let mut of_models = Vec::new();
    // No other asks whose model it is.
    if row.name.starts_with("model/") && row.kind.is_empty() {
        for model in tx.models().await? {
            let model = models::parse(&model)?;
            if model.secret.as_deref() == Some(row.name.as_str()) {
                of_models.extend(models::host(&model));
            }
        }
    }
    Ok(belongs(row, host, port, &of_models))
}

/// Whether a secret may go into a request to this port of `host`: a known provider's key goes to its provider's hosts alone, a
/// registry's to that registry, a model's without a provider to where one of the models lies that it is for (`of_models`), and
/// what is minted of a key to the port that its settings name, too.
///
/// # Errors
/// `secret.other-host`.
pub fn belongs(row: &SecretRow, host: &str, port: u16, of_models: &[(String, u16)]) -> Result<(), Refusal> {
    let no = |whose: String| {
        let why = format!("{whose} and not for {:?}.", record::short(&mint::at(host, port)));
        Err(Refusal::new("secret.other-host", why))
    };
    if let Some(registry) = row.name.strip_prefix("registry/")
        && registry != mint::at(host, port)
    {
        return no(format!("The secret {:?} is for that registry", row.name));
    }
    if row.name.starts_with("model/")
        && row.kind.is_empty()
        && !of_models.iter().any(|(own, at)| own == host && *at == port)
    {
        return no(format!("The secret {:?} is a model's key, which is for that model's own host", row.name));
    }
    if mint::mints(row) {
        return if mint::belongs(row, host, port) {
            Ok(())
        } else {
            no(format!("What is minted of {:?} is for its vendor's own address", row.name))
        };
    }
    if row.kind == TEXT {
        return no(format!(
            "The secret {:?} has spaces or line ends: it is for a command's file or standard input",
            row.name
        ));
    }
    if row.kind.is_empty() || Provider::of(&row.kind).is_some_and(|provider| provider.holds(host)) {
        return Ok(());
    }
    let hosts = Provider::of(&row.kind).map_or_else(|| "no host".to_owned(), |known| known.hosts.join(", "));
    no(format!("The secret {:?} is a key of {}, which is for {hosts}", row.name, row.kind))
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    #[test]
    fn a_managed_key_goes_to_its_providers_hosts_and_a_custom_one_where_its_row_says() {
        let rule = |kind: &str, host: &str| belongs(&row(kind, false), host, 443, &[]).map_err(|no| no.rule);
        assert_eq!(rule("", "anywhere.example"), Ok(()));
        assert_eq!(rule("github", "api.github.com"), Ok(()));
        assert_eq!(rule("github", "api.github.com.example"), Err("secret.other-host"));
        // A list that lost a line makes nobody's key everybody's.
        assert_eq!(rule("nobody", "api.github.com"), Err("secret.other-host"));
        assert!(managed(&row("github", false)) && !managed(&row("", false)));
        assert!(managed(&SecretRow { name: "model/m".into(), ..row("", false) }));
    }

    #[test]
    fn a_registrys_password_goes_to_that_registry_and_a_models_key_to_that_model_and_both_to_nobody_else() {
        let other = Err("secret.other-host");
        let of = |name: &str, kind: &str| SecretRow { name: name.into(), ..row(kind, false) };
        let rule = |row: &SecretRow, host: &str, port| {
            belongs(row, host, port, &[("m.corp".into(), 8443)]).map_err(|no| no.rule)
        };
        let at_a_port = of("registry/r.corp:5000", "");
        assert_eq!(rule(&at_a_port, "r.corp", 5000), Ok(()));
        // As a profile's name of an image says it.
        assert_eq!(rule(&at_a_port, "r.corp:5000", 443), Ok(()));
        for (host, port) in [("r.corp", 443), ("r.corp", 5001), ("evil.example", 443), ("r.corp.example", 5000)] {
            assert_eq!(rule(&at_a_port, host, port), other, "{host}:{port}");
        }
        assert_eq!(rule(&of("registry/r.corp", ""), "r.corp", 443), Ok(()));
        assert_eq!(rule(&of("registry/api.github.com", "github"), "api.github.com", 443), Ok(()));
        assert_eq!(rule(&of("registry/r.corp", "github"), "api.github.com", 443), other);
        assert_eq!(rule(&of("registry/r.corp", "github"), "r.corp", 443), other);
        let model = of("model/m", "");
        assert_eq!(rule(&model, "m.corp", 8443), Ok(()));
        for (host, port) in [("m.corp", 443), ("evil.example", 8443), ("", 0)] {
            assert_eq!(rule(&model, host, port), other, "{host}:{port}");
        }
        assert_eq!(rule(&of("model/m", "openai"), "api.openai.com", 443), Ok(()));
        assert_eq!(rule(&of("model/m", "openai"), "m.corp", 8443), other);
        for name in ["registry/r.corp", "model/m", "connection/c"] {
            assert!(managed(&of(name, "")), "{name}");
        }
    }
}
