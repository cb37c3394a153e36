//! OAuth connections: how each stands, and its refresh token, sealed. What to do about one is not decided here.
//!
//! A row is changed by [`Tx::keep_connection`] alone, which demands the fence that the row was read with: of two servers
//! on one database the slower one's answer changes nothing.

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use model::Moment;
use sqlx::Row;
use sqlx::any::AnyRow;

/// One connection as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its name.
    pub name: String,
    /// What an administrator set, in JSON.
    pub body: String,
    /// How it stands, in JSON.
    pub standing: String,
    /// The number of the last lock on it; it only grows.
    pub fence: u64,
    /// The sealed refresh token; empty when there is none.
    pub refresh: Vec<u8>,
    /// The version that it was sealed as.
    pub refresh_version: u64,
    /// The sealed secret of the client; empty when it has none.
    pub client: Vec<u8>,
    /// Who set it.
    pub set_by: String,
    /// When; the version that [`ConnectionRow::client`] was sealed as.
    pub set_at: Moment,
    /// Who signed in last; empty before that.
    pub signed_in_by: String,
    /// When its tokens were last kept.
    pub refreshed: Option<Moment>,
}

fn connection(row: &AnyRow) -> ConnectionRow {
    ConnectionRow {
        name: row.get("name"),
        body: row.get("body"),
        standing: row.get("standing"),
        fence: from_row(row.get("fence")),
        refresh: row.get("refresh"),
        refresh_version: from_row(row.get("refresh_version")),
        client: row.get("client"),
        set_by: row.get("set_by"),
        set_at: Moment(row.get("set_at")),
        signed_in_by: row.get("signed_in_by"),
        refreshed: row.get::<Option<i64>, _>("refreshed").map(Moment),
    }
}

const ONE: &str = "SELECT * FROM connections WHERE name = $1";

impl Store {
    /// Every connection, by name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn connections(&self) -> Result<Vec<ConnectionRow>, StoreError> {
        const ALL: &str = "SELECT * FROM connections ORDER BY name";
        let rows = sqlx::query(ALL).fetch_all(&self.read).await.map_err(StoreError::sql("list the connections"))?;
        Ok(rows.iter().map(connection).collect())
    }

    /// One connection.
    ///
    /// # Errors
    /// The engine's.
    pub async fn connection(&self, name: &str) -> Result<Option<ConnectionRow>, StoreError> {
        let row = sqlx::query(ONE).bind(name).fetch_optional(&self.read).await;
        Ok(row.map_err(StoreError::sql("read a connection"))?.as_ref().map(connection))
    }
}

impl Tx {
    /// One connection.
    ///
    /// # Errors
    /// The engine's.
    pub async fn connection(&mut self, name: &str) -> Result<Option<ConnectionRow>, StoreError> {
        Ok(self.row(Statement::new("read a connection", ONE).bind(name)).await?.as_ref().map(connection))
    }

    /// Keeps a new connection. One of this name must not be there.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_connection(&mut self, row: &ConnectionRow) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO connections (name, body, standing, fence, refresh, refresh_version, client, set_by, \
            set_at, signed_in_by, refreshed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let add = Statement::new("keep a connection", ADD).bind(row.name.as_str()).bind(row.body.as_str());
        let add = add.bind(row.standing.as_str()).bind(to_row(row.fence)).bind(row.refresh.clone());
        let add = add.bind(to_row(row.refresh_version)).bind(row.client.clone()).bind(row.set_by.as_str());
        self.later(add.bind(row.set_at.0).bind(row.signed_in_by.as_str()).bind(row.refreshed.map(|at| at.0)));
        Ok(())
    }

    /// Keeps a connection as it is now, if nobody has locked it since it had the fence `was`. Answers whether it was kept.
    ///
    /// # Errors
    /// The engine's.
    pub async fn keep_connection(&mut self, row: &ConnectionRow, was: u64) -> Result<bool, StoreError> {
        const KEEP: &str = "UPDATE connections SET body = $3, standing = $4, fence = $5, refresh = $6, \
            refresh_version = $7, client = $8, set_by = $9, set_at = $10, signed_in_by = $11, refreshed = $12 \
            WHERE name = $1 AND fence = $2 RETURNING name";
        let keep = Statement::new("keep a connection", KEEP).bind(row.name.as_str()).bind(to_row(was));
        let keep = keep.bind(row.body.as_str()).bind(row.standing.as_str()).bind(to_row(row.fence));
        let keep = keep.bind(row.refresh.clone()).bind(to_row(row.refresh_version)).bind(row.client.clone());
        let keep = keep.bind(row.set_by.as_str()).bind(row.set_at.0).bind(row.signed_in_by.as_str());
        Ok(self.row(keep.bind(row.refreshed.map(|at| at.0))).await?.is_some())
    }

    /// Removes a connection. Answers whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_connection(&mut self, name: &str) -> Result<bool, StoreError> {
        const REMOVE: &str = "DELETE FROM connections WHERE name = $1 RETURNING name";
        Ok(self.row(Statement::new("remove a connection", REMOVE).bind(name)).await?.is_some())
    }
}
