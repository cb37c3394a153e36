//! Small rows that are kept by name: secrets (sealed), models, the workspace's own keys, sign-in links and sessions.

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

fn secret(row: &AnyRow) -> SecretRow {
    SecretRow {
        name: row.get("name"),
        sealed: row.get("sealed"),
        set_by: row.get("set_by"),
        set_at: Moment(row.get("set_at")),
        version: from_row(row.get("version")),
    }
}

fn model(row: &AnyRow) -> ModelRow {
    ModelRow { name: row.get("name"), body: row.get("body") }
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
        const ONE: &str = "SELECT * FROM models WHERE name = $1";
        let row = sqlx::query(ONE).bind(name).fetch_optional(&self.read).await;
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
        let row = sqlx::query(LAST).bind(name).fetch_optional(&mut self.conn).await;
        Ok(row.map_err(StoreError::sql("read a secret"))?.map_or(0, |row| from_row(row.get(0))) + 1)
    }

    /// One secret that is set.
    ///
    /// # Errors
    /// The engine's.
    pub async fn secret(&mut self, name: &str) -> Result<Option<SecretRow>, StoreError> {
        const ONE: &str = "SELECT * FROM secrets WHERE name = $1 AND gone = 0";
        let row = sqlx::query(ONE).bind(name).fetch_optional(&mut self.conn).await;
        Ok(row.map_err(StoreError::sql("read a secret"))?.as_ref().map(secret))
    }

    /// Sets a secret, in place of what it was.
    ///
    /// # Errors
    /// The engine's.
    pub async fn set_secret(&mut self, row: &SecretRow) -> Result<(), StoreError> {
        const SET: &str = "INSERT INTO secrets (name, sealed, set_by, set_at, version, gone) \
            VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, \
            set_by = excluded.set_by, set_at = excluded.set_at, version = excluded.version, gone = 0";
        let set = sqlx::query(SET).bind(&row.name).bind(row.sealed.clone()).bind(&row.set_by);
        let set = set.bind(row.set_at.0).bind(to_row(row.version));
        set.execute(&mut self.conn).await.map(drop).map_err(StoreError::sql("set a secret"))
    }

    /// Removes a secret's value; its name and version stay, unseen. Answers whether it was set.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_secret(&mut self, name: &str) -> Result<bool, StoreError> {
        const GONE: &str = "UPDATE secrets SET sealed = x'', gone = 1 WHERE name = $1 AND gone = 0";
        let gone = sqlx::query(GONE).bind(name).execute(&mut self.conn).await;
        Ok(gone.map_err(StoreError::sql("remove a secret"))?.rows_affected() > 0)
    }

    /// Adds a model or replaces it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn set_model(&mut self, row: &ModelRow, set_by: &str, set_at: Moment) -> Result<(), StoreError> {
        const SET: &str = "INSERT INTO models (name, body, set_by, set_at) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (name) DO UPDATE SET body = excluded.body, set_by = excluded.set_by, set_at = excluded.set_at";
        let set = sqlx::query(SET).bind(&row.name).bind(&row.body).bind(set_by).bind(set_at.0);
        set.execute(&mut self.conn).await.map(drop).map_err(StoreError::sql("set a model"))
    }

    /// One model, as it stands inside this transaction.
    ///
    /// # Errors
    /// The engine's.
    pub async fn model(&mut self, name: &str) -> Result<Option<ModelRow>, StoreError> {
        const ONE: &str = "SELECT * FROM models WHERE name = $1";
        let row = sqlx::query(ONE).bind(name).fetch_optional(&mut self.conn).await;
        Ok(row.map_err(StoreError::sql("read a model"))?.as_ref().map(model))
    }

    /// Removes a model. Answers whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_model(&mut self, name: &str) -> Result<bool, StoreError> {
        const REMOVE: &str = "DELETE FROM models WHERE name = $1";
        let gone = sqlx::query(REMOVE).bind(name).execute(&mut self.conn).await;
        Ok(gone.map_err(StoreError::sql("remove a model"))?.rows_affected() > 0)
    }

    /// Keeps one of the workspace's own keys, sealed. One that is there stays; answers whether this one was kept.
    ///
    /// # Errors
    /// The engine's.
    pub async fn keep_workspace_key(&mut self, name: &str, sealed: &[u8]) -> Result<bool, StoreError> {
        const KEEP: &str = "INSERT INTO workspace_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        let kept = sqlx::query(KEEP).bind(name).bind(sealed.to_vec()).execute(&mut self.conn).await;
        Ok(kept.map_err(StoreError::sql("keep a workspace key"))?.rows_affected() > 0)
    }

    /// Keeps a sign-in link by its token's hash; links that are over go.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_link(&mut self, sha256: &str, link: &TokenRow, now: Moment) -> Result<(), StoreError> {
        const SWEEP: &str = "DELETE FROM links WHERE expires <= $1";
        const ADD: &str = "INSERT INTO links (sha256, person, expires) VALUES ($1, $2, $3)";
        let fail = || StoreError::sql("keep a sign-in link");
        sqlx::query(SWEEP).bind(now.0).execute(&mut self.conn).await.map_err(fail())?;
        let add = sqlx::query(ADD).bind(sha256).bind(link.person.as_str()).bind(link.expires.0);
        add.execute(&mut self.conn).await.map(drop).map_err(fail())
    }

    /// Takes a sign-in link out: whoever gets it is the only one. None for one that is unknown, used or over.
    ///
    /// # Errors
    /// The engine's.
    pub async fn redeem_link(&mut self, sha256: &str, now: Moment) -> Result<Option<PersonId>, StoreError> {
        const TAKE: &str = "DELETE FROM links WHERE sha256 = $1 RETURNING person, expires";
        let rows = sqlx::query(TAKE).bind(sha256).fetch_all(&mut self.conn).await;
        let rows = rows.map_err(StoreError::sql("redeem a sign-in link"))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let link = token(row)?;
        Ok((now < link.expires).then_some(link.person))
    }

    /// Keeps a session by its token's hash; sessions that are over go.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_session(&mut self, sha256: &str, session: &TokenRow, now: Moment) -> Result<(), StoreError> {
        const SWEEP: &str = "DELETE FROM sessions WHERE expires <= $1";
        const ADD: &str = "INSERT INTO sessions (sha256, person, made, expires) VALUES ($1, $2, $3, $4)";
        let fail = || StoreError::sql("keep a session");
        sqlx::query(SWEEP).bind(now.0).execute(&mut self.conn).await.map_err(fail())?;
        let add = sqlx::query(ADD).bind(sha256).bind(session.person.as_str()).bind(now.0).bind(session.expires.0);
        add.execute(&mut self.conn).await.map(drop).map_err(fail())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The engine's.
    pub async fn end_session(&mut self, sha256: &str) -> Result<(), StoreError> {
        const END: &str = "DELETE FROM sessions WHERE sha256 = $1";
        let end = sqlx::query(END).bind(sha256).execute(&mut self.conn).await;
        end.map(drop).map_err(StoreError::sql("end a session"))
    }
}
