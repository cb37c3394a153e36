//! Small rows that are kept by name: secrets (sealed), models, the workspace's own keys, sign-in links and sessions.

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use model::{Moment, PersonId};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A secret as it is kept. The value is sealed; this crate cannot open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// `model/<name>`.
    pub name: String,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: Moment,
    /// From 1; one more at each set, also after a removal, so that an old sealed value never fits again.
    pub version: u64,
}

/// A model as it was added; the body is the administrator's words, in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// The name runs use.
    pub name: String,
    /// Everything else, in JSON.
    pub body: String,
}

/// A signed-in browser, or a link that makes one; kept by the SHA-256 of its token only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Whose it is.
    pub person: PersonId,
    /// The first moment at which it no longer works.
    pub expires: Moment,
}

pub(crate) fn secret(row: &AnyRow) -> SecretRow {
    SecretRow {
        name: row.get("name"),
        sealed: row.get("sealed"),
        set_by: row.get("set_by"),
        set_at: Moment(row.get("set_at")),
        version: from_row(row.get("version")),
    }
}

pub(crate) fn model(row: &AnyRow) -> ModelRow {
    ModelRow { name: row.get("name"), body: row.get("body") }
}

pub(crate) fn one_secret(name: &str) -> Statement {
    const ONE: &str = "SELECT * FROM secrets WHERE name = $1 AND gone = 0";
    Statement::new("read a secret", ONE).bind(name)
}

const ONE_MODEL: &str = "SELECT * FROM models WHERE name = $1";

pub(crate) fn one_model(name: &str) -> Statement {
    Statement::new("read a model", ONE_MODEL).bind(name)
}

fn token(row: &AnyRow) -> Result<TokenRow, StoreError> {
    let person = PersonId::parse(row.get("person")).map_err(StoreError::corrupt("person id"))?;
    Ok(TokenRow { person, expires: Moment(row.get("expires")) })
}

impl Store {
    /// Every secret that is set, by name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        const ALL: &str = "SELECT * FROM secrets WHERE gone = 0 ORDER BY name";
        let rows = sqlx::query(ALL).fetch_all(&self.read).await.map_err(StoreError::sql("list the secrets"))?;
        Ok(rows.iter().map(secret).collect())
    }

    /// Every model, by name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn models(&self) -> Result<Vec<ModelRow>, StoreError> {
        const ALL: &str = "SELECT * FROM models ORDER BY name";
        let rows = sqlx::query(ALL).fetch_all(&self.read).await.map_err(StoreError::sql("list the models"))?;
        Ok(rows.iter().map(model).collect())
    }

    /// One model.
    ///
    /// # Errors
    /// The engine's.
    pub async fn model(&self, name: &str) -> Result<Option<ModelRow>, StoreError> {
        let row = sqlx::query(ONE_MODEL).bind(name).fetch_optional(&self.read).await;
        Ok(row.map_err(StoreError::sql("read a model"))?.as_ref().map(model))
    }

    /// The session with this token hash, expired or not.
    ///
    /// # Errors
    /// The engine's.
    pub async fn session(&self, sha256: &str) -> Result<Option<TokenRow>, StoreError> {
        const ONE: &str = "SELECT person, expires FROM sessions WHERE sha256 = $1";
        let row = sqlx::query(ONE).bind(sha256).fetch_optional(&self.read).await;
        row.map_err(StoreError::sql("look up a session"))?.as_ref().map(token).transpose()
    }

    /// One of the workspace's own keys, as it was kept.
    ///
    /// # Errors
    /// The engine's.
    pub async fn workspace_key(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        const ONE: &str = "SELECT sealed FROM workspace_keys WHERE name = $1";
        let row = sqlx::query(ONE).bind(name).fetch_optional(&self.read).await;
        Ok(row.map_err(StoreError::sql("read a workspace key"))?.map(|row| row.get(0)))
    }
}

impl Tx {
    /// The version that the next value of this secret has.
    ///
    /// # Errors
    /// The engine's.
    pub async fn next_secret_version(&mut self, name: &str) -> Result<u64, StoreError> {
        const LAST: &str = "SELECT version FROM secrets WHERE name = $1";
        let row = self.row(Statement::new("read a secret", LAST).bind(name)).await?;
        Ok(row.map_or(0, |row| from_row(row.get(0))) + 1)
    }

    /// One secret that is set.
    ///
    /// # Errors
    /// The engine's.
    pub async fn secret(&mut self, name: &str) -> Result<Option<SecretRow>, StoreError> {
        Ok(self.row(one_secret(name)).await?.as_ref().map(secret))
    }

    /// Sets a secret, in place of what it was.
    ///
    /// # Errors
    /// The engine's.
    pub async fn set_secret(&mut self, row: &SecretRow) -> Result<(), StoreError> {
        const SET: &str = "INSERT INTO secrets (name, sealed, set_by, set_at, version, gone) \
            VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, \
            set_by = excluded.set_by, set_at = excluded.set_at, version = excluded.version, gone = 0";
        let set = Statement::new("set a secret", SET).bind(row.name.as_str()).bind(row.sealed.clone());
        self.later(set.bind(row.set_by.as_str()).bind(row.set_at.0).bind(to_row(row.version)));
        Ok(())
    }

    /// Removes a secret's value; its name and version stay, unseen. Answers whether it was set.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_secret(&mut self, name: &str) -> Result<bool, StoreError> {
        const GONE: &str = "UPDATE secrets SET sealed = x'', gone = 1 WHERE name = $1 AND gone = 0 RETURNING name";
        Ok(self.row(Statement::new("remove a secret", GONE).bind(name)).await?.is_some())
    }

    /// Adds a model or replaces it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn set_model(&mut self, row: &ModelRow, set_by: &str, set_at: Moment) -> Result<(), StoreError> {
        const SET: &str = "INSERT INTO models (name, body, set_by, set_at) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (name) DO UPDATE SET body = excluded.body, set_by = excluded.set_by, set_at = excluded.set_at";
        let set = Statement::new("set a model", SET).bind(row.name.as_str()).bind(row.body.as_str());
        self.later(set.bind(set_by).bind(set_at.0));
        Ok(())
    }

    /// Removes a model. Answers whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_model(&mut self, name: &str) -> Result<bool, StoreError> {
        const REMOVE: &str = "DELETE FROM models WHERE name = $1 RETURNING name";
        Ok(self.row(Statement::new("remove a model", REMOVE).bind(name)).await?.is_some())
    }

    /// Keeps one of the workspace's own keys, sealed. One that is there stays; answers whether this one was kept.
    ///
    /// # Errors
    /// The engine's.
    pub async fn keep_workspace_key(&mut self, name: &str, sealed: &[u8]) -> Result<bool, StoreError> {
        const KEEP: &str = "INSERT INTO workspace_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING \
            RETURNING name";
        let keep = Statement::new("keep a workspace key", KEEP).bind(name).bind(sealed.to_vec());
        Ok(self.row(keep).await?.is_some())
    }

    /// Keeps a sign-in link by its token's hash; links that are over go.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_link(&mut self, sha256: &str, link: &TokenRow, now: Moment) -> Result<(), StoreError> {
        const SWEEP: &str = "DELETE FROM links WHERE expires <= $1";
        const ADD: &str = "INSERT INTO links (sha256, person, expires) VALUES ($1, $2, $3)";
        self.later(Statement::new("sweep the sign-in links", SWEEP).bind(now.0));
        let add = Statement::new("keep a sign-in link", ADD).bind(sha256).bind(link.person.as_str());
        self.later(add.bind(link.expires.0));
        Ok(())
    }

    /// Takes a sign-in link out: whoever gets it is the only one. None for one that is unknown, used or over.
    ///
    /// # Errors
    /// The engine's.
    pub async fn redeem_link(&mut self, sha256: &str, now: Moment) -> Result<Option<PersonId>, StoreError> {
        const TAKE: &str = "DELETE FROM links WHERE sha256 = $1 RETURNING person, expires";
        let row = self.row(Statement::new("redeem a sign-in link", TAKE).bind(sha256)).await?;
        let Some(row) = row else { return Ok(None) };
        let link = token(&row)?;
        Ok((now < link.expires).then_some(link.person))
    }

    /// Keeps a session by its token's hash; sessions that are over go.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_session(&mut self, sha256: &str, session: &TokenRow, now: Moment) -> Result<(), StoreError> {
        const SWEEP: &str = "DELETE FROM sessions WHERE expires <= $1";
        const ADD: &str = "INSERT INTO sessions (sha256, person, made, expires) VALUES ($1, $2, $3, $4)";
        self.later(Statement::new("sweep the sessions", SWEEP).bind(now.0));
        let add = Statement::new("keep a session", ADD).bind(sha256).bind(session.person.as_str());
        self.later(add.bind(now.0).bind(session.expires.0));
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The engine's.
    pub async fn end_session(&mut self, sha256: &str) -> Result<(), StoreError> {
        const END: &str = "DELETE FROM sessions WHERE sha256 = $1";
        self.later(Statement::new("end a session", END).bind(sha256));
        Ok(())
    }
}
