//! Secrets, sealed, and what is known of them beside their values: this crate can open none.
//!
//! Of each there is the workspace's value and, for each person, perhaps one of their own. Which of the two a run gets
//! is [`choose`]'s word.

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use model::secret::TEXT;
use model::{Moment, RunId};
use sqlx::Row;
use sqlx::any::AnyRow;

/// How often the last use of a secret is noted, in milliseconds; uses in between leave no trace here.
pub const USE_NOTED_MS: i64 = 60_000;

/// One value as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// `model/<name>`, `capability/<name>`.
    pub name: String,
    /// Whose value it is: a person's id, or nothing for the workspace's own.
    pub person: String,
    /// The known provider or minter that it is a key of; [`TEXT`], or nothing, for a custom one.
    pub kind: String,
    /// Of the workspace's: whether a person's own value stands in its place for their runs. Of a person's: whether it is used
    /// where the workspace has none.
    pub personal: bool,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: Moment,
    /// When it was last opened for a grant, to the minute; none if it never was.
    pub last_used: Option<Moment>,
    /// From 1; one more at each set, also after a removal, so that an old sealed value does not open beside a new version.
    pub version: u64,
    /// Of one that a vendor makes narrower ones of: what else the vendor is told, as JSON; else empty.
    pub minter: String,
}

impl SecretRow {
    /// The provider or the minter that it is a key of; nothing for a custom one, whether it is a text or not.
    #[must_use]
    pub fn known(&self) -> &str {
        if self.kind == TEXT { "" } else { &self.kind }
    }
}

/// Why a person's runs get no value of a secret: their own is a key of one thing, and the workspace's of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// The secret's name.
    pub name: String,
    /// The person.
    pub person: String,
    /// What their own is a key of, as [`SecretRow::known`] says it.
    pub own: String,
    /// What the workspace's is.
    pub shared: String,
}

/// Which of the values of one secret a run of a person's gets: theirs where the key allows it, else the workspace's; none where
/// there is none for them.
///
/// `rows` are the workspace's and that person's, in any order.
///
/// # Errors
/// [`Apart`], where the two are of different kinds: one is for other hosts, travels in other ways and is another identity, so
/// it is not taken for the other.
pub fn choose(rows: Vec<SecretRow>) -> Result<Option<SecretRow>, Apart> {
    let (shared, own): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.person.is_empty());
    match (shared.into_iter().next(), own.into_iter().next()) {
        (Some(shared), Some(own)) if own.known() != shared.known() => {
            let (own_kind, shared) = (own.known().to_owned(), shared.known().to_owned());
            Err(Apart { name: own.name, person: own.person, own: own_kind, shared })
        }
        (Some(shared), Some(own)) if shared.personal => Ok(Some(own)),
        (None, Some(own)) if own.personal => Ok(Some(own)),
        (shared, _) => Ok(shared),
    }
}

fn secret(row: &AnyRow) -> SecretRow {
    SecretRow {
        name: row.get("name"),
        person: row.get("person"),
        kind: row.get("kind"),
        personal: row.get::<i64, _>("personal") != 0,
        sealed: row.get("sealed"),
        set_by: row.get("set_by"),
        set_at: Moment(row.get("set_at")),
        last_used: row.get::<Option<i64>, _>("last_used").map(Moment),
        version: from_row(row.get("version")),
        minter: row.get("minter"),
    }
}

/// The one that [`choose`] chooses among these rows.
pub(crate) fn chosen(rows: &[AnyRow]) -> Result<Option<SecretRow>, Apart> {
    choose(rows.iter().map(secret).collect())
}

/// What there is of a secret for a run.
pub(crate) fn for_run(name: &str, run: &RunId) -> Statement {
    const BOTH: &str = "SELECT * FROM secrets WHERE name = $1 AND gone = 0 \
        AND person IN ('', (SELECT person FROM runs WHERE run = $2))";
    Statement::new("read a secret", BOTH).bind(name).bind(run.as_str())
}

impl Store {
    /// Every value that is set, by name, the workspace's before those of persons.
    ///
    /// # Errors
    /// The engine's.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        const ALL: &str = "SELECT * FROM secrets WHERE gone = 0 ORDER BY name, person";
        let rows = sqlx::query(ALL).fetch_all(&self.read).await.map_err(StoreError::sql("list the secrets"))?;
        Ok(rows.iter().map(secret).collect())
    }
}

impl Tx {
    /// The version that the next value of this secret has: of the workspace's, or of this person's own.
    ///
    /// # Errors
    /// The engine's.
    pub async fn next_secret_version(&mut self, name: &str, person: &str) -> Result<u64, StoreError> {
        const LAST: &str = "SELECT version FROM secrets WHERE name = $1 AND person = $2";
        let row = self.row(Statement::new("read a secret", LAST).bind(name).bind(person)).await?;
        Ok(row.map_or(0, |row| from_row(row.get(0))) + 1)
    }

    /// The value that is set for the workspace, or by this person for themselves: that very one, and no other in its place.
    ///
    /// # Errors
    /// The engine's.
    pub async fn secret_of(&mut self, name: &str, person: &str) -> Result<Option<SecretRow>, StoreError> {
        const ONE: &str = "SELECT * FROM secrets WHERE name = $1 AND person = $2 AND gone = 0";
        let read = Statement::new("read a secret", ONE).bind(name).bind(person);
        Ok(self.row(read).await?.as_ref().map(secret))
    }

    /// What a run of this person's gets of a secret; see [`choose`].
    ///
    /// # Errors
    /// The engine's.
    pub async fn secret_for(
        &mut self,
        name: &str,
        person: &str,
    ) -> Result<Result<Option<SecretRow>, Apart>, StoreError> {
        const BOTH: &str = "SELECT * FROM secrets WHERE name = $1 AND gone = 0 AND person IN ('', $2)";
        let [rows] = self.rows([Statement::new("read a secret", BOTH).bind(name).bind(person)]).await?;
        Ok(chosen(&rows))
    }

    /// Sets a value, in place of what it was. It was not used yet.
    ///
    /// # Errors
    /// The engine's.
    pub async fn set_secret(&mut self, row: &SecretRow) -> Result<(), StoreError> {
        const SET: &str = "INSERT INTO secrets (name, person, kind, personal, sealed, set_by, set_at, version, minter, gone) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) ON CONFLICT (name, person) DO UPDATE SET \
            kind = excluded.kind, personal = excluded.personal, sealed = excluded.sealed, set_by = excluded.set_by, \
            set_at = excluded.set_at, last_used = NULL, version = excluded.version, minter = excluded.minter, gone = 0";
        let set = Statement::new("set a secret", SET).bind(row.name.as_str()).bind(row.person.as_str());
        let set = set.bind(row.kind.as_str()).bind(i64::from(row.personal)).bind(row.sealed.clone());
        let set = set.bind(row.set_by.as_str()).bind(row.set_at.0).bind(to_row(row.version));
        self.later(set.bind(row.minter.as_str()));
        Ok(())
    }

    /// Notes that a value was opened for a grant, at most once in [`USE_NOTED_MS`].
    pub fn secret_used(&mut self, row: &SecretRow, at: Moment) {
        const USED: &str = "UPDATE secrets SET last_used = $3 WHERE name = $1 AND person = $2 AND version = $4";
        if row.last_used.is_some_and(|last| at < last.plus_ms(USE_NOTED_MS)) {
            return;
        }
        let used = Statement::new("note the use of a secret", USED).bind(row.name.as_str()).bind(row.person.as_str());
        self.later(used.bind(at.0).bind(to_row(row.version)));
    }

    /// Removes a value; its name and version stay, unseen. Answers whether it was set.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_secret(&mut self, name: &str, person: &str) -> Result<bool, StoreError> {
        const GONE: &str = "UPDATE secrets SET sealed = x'', gone = 1 \
            WHERE name = $1 AND person = $2 AND gone = 0 RETURNING name";
        Ok(self.row(Statement::new("remove a secret", GONE).bind(name).bind(person)).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(person: &str, kind: &str, personal: bool) -> SecretRow {
        SecretRow {
            name: "capability/forge".into(),
            person: person.into(),
            kind: kind.into(),
            personal,
            sealed: Vec::new(),
            set_by: "ada".into(),
            set_at: Moment(1),
            last_used: None,
            version: 1,
            minter: String::new(),
        }
    }

    /// Whose value is taken, whatever the order of the rows.
    fn whose(shared: Option<SecretRow>, own: Option<SecretRow>) -> Result<Option<String>, Apart> {
        let both: Vec<_> = shared.into_iter().chain(own).collect();
        let turned: Vec<_> = both.iter().rev().cloned().collect();
        let taken = choose(both.clone());
        assert_eq!(choose(turned), taken, "{both:?}");
        taken.map(|row| row.map(|row| row.person))
    }

    #[test]
    fn a_persons_value_is_taken_where_the_key_allows_it_and_is_of_the_same_kind() {
        for (shared, own, taken) in [
            (Some(row("", "", true)), Some(row("ada", "", false)), Some("ada")),
            (Some(row("", "github", true)), Some(row("ada", "github", true)), Some("ada")),
            (Some(row("", "", false)), Some(row("ada", "", true)), Some("")),
            (Some(row("", "", true)), None, Some("")),
            (None, Some(row("ada", "github", true)), Some("ada")),
            (None, Some(row("ada", "", false)), None),
            (None, None, None),
        ] {
            let what = format!("{shared:?} {own:?}");
            assert_eq!(whose(shared, own).unwrap().as_deref(), taken, "{what}");
        }
    }

    #[test]
    fn a_persons_text_and_the_workspaces_token_are_one_kind_in_both_orders() {
        for (shared, own) in [("", TEXT), (TEXT, ""), (TEXT, TEXT)] {
            let taken = choose(vec![row("", shared, true), row("ada", own, false)]).unwrap().unwrap();
            // How it may travel is judged by what it is itself.
            assert_eq!((taken.person.as_str(), taken.kind.as_str()), ("ada", own), "{shared:?}");
        }
    }

    #[test]
    fn neither_value_is_taken_for_one_of_another_kind_whatever_the_key_allows() {
        let two = [("github", ""), ("github", TEXT), ("", "github"), (TEXT, "github"), ("gitlab", "github")];
        for (shared, own) in two {
            for allows in [true, false] {
                let apart = whose(Some(row("", shared, allows)), Some(row("ada", own, true))).unwrap_err();
                let known = |kind: &str| if kind == TEXT { String::new() } else { kind.to_owned() };
                let (own, shared) = (known(own), known(shared));
                assert_eq!(apart, Apart { name: "capability/forge".into(), person: "ada".into(), own, shared });
            }
        }
    }
}
