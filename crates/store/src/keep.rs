//! Small rows that are kept by name: models, the workspace's own keys, sign-in links and sessions.

use crate::script::Statement;
pub use crate::secrets::SecretRow;
use crate::{Store, StoreError, Tx};
use model::{Moment, PersonId};
use sqlx::Row;
use sqlx::any::AnyRow;

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

pub(crate) fn model(row: &AnyRow) -> ModelRow {
    ModelRow { name: row.get("name"), body: row.get("body") }
}

const ALL_MODELS: &str = "SELECT * FROM models ORDER BY name";
const ONE_MODEL: &str = "SELECT * FROM models WHERE name = $1";

pub(crate) fn one_model(name: &str) -> Statement {
    Statement::new("read a model", ONE_MODEL).bind(name)
}

fn token(row: &AnyRow) -> Result<TokenRow, StoreError> {
    let person = PersonId::parse(row.get("person")).map_err(StoreError::corrupt("person id"))?;
    Ok(TokenRow { person, expires: Moment(row.get("expires")) })
}

impl Store {
    /// Every model, by name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn models(&self) -> Result<Vec<ModelRow>, StoreError> {
        let rows = sqlx::query(ALL_MODELS).fetch_all(&self.read).await.map_err(StoreError::sql("list the models"))?;
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

    /// As [`Store::models`], as they stand in this act.
    ///
    /// # Errors
    /// The engine's.
    pub async fn models(&mut self) -> Result<Vec<ModelRow>, StoreError> {
        let [rows] = self.rows([Statement::new("list the models", ALL_MODELS)]).await?;
        Ok(rows.iter().map(model).collect())
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

    /// Puts one of the workspace's own keys, sealed anew, in the place of what it was. Answers whether it was `before` until now;
    /// if it was not, nothing is changed.
    ///
    /// # Errors
    /// The engine's.
    pub async fn exchange_workspace_key(
        &mut self,
        name: &str,
        before: &[u8],
        after: &[u8],
    ) -> Result<bool, StoreError> {
        const EXCHANGE: &str = "UPDATE workspace_keys SET sealed = $3 WHERE name = $1 AND sealed = $2 RETURNING name";
        let exchange = Statement::new("exchange a workspace key", EXCHANGE).bind(name).bind(before.to_vec());
        Ok(self.row(exchange.bind(after.to_vec())).await?.is_some())
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

    /// Ends every session, and every link that would make one.
    pub fn end_sessions(&mut self) {
        self.later(Statement::new("end the sessions", "DELETE FROM sessions"));
        self.later(Statement::new("end the sign-in links", "DELETE FROM links"));
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
