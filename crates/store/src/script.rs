//! Statements on their way to the engine: as many as possible in one trip.
//!
//! The engine runs on a thread of its own, and a trip there and back costs more than most statements do. So a
//! statement whose rows nobody reads waits here, and rides with the next that somebody does read, or with the commit.
//! An engine that takes only one statement at a time would be given them one after the other.
//!
//! Read [`Statement`], then [`carry_out`].

use crate::StoreError;
use futures_util::StreamExt as _;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments as _, AssertSqlSafe, Either, Executor as _};
use std::sync::Arc;

/// A value of a statement.
#[derive(Debug)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    NoText,
    NoNumber,
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Number(n)
    }
}

impl From<Option<i64>> for Value {
    fn from(n: Option<i64>) -> Self {
        n.map_or(Self::NoNumber, Self::Number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::NoText, Self::from)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// One statement with its values.
#[derive(Debug)]
pub(crate) struct Statement {
    /// What it does, for the error that says that it could not.
    act: &'static str,
    /// Its values are `$1`, `$2` and so on; no `$` stands for anything else.
    sql: &'static str,
    values: Vec<Value>,
}

impl Statement {
    /// One that does `act`; its values follow by [`Statement::bind`].
    pub(crate) fn new(act: &'static str, sql: &'static str) -> Self {
        Self { act, sql, values: Vec::new() }
    }

    /// Adds the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Whether it only reads.
    pub(crate) fn reads(&self) -> bool {
        self.sql.starts_with("SELECT")
    }
}

/// Adds `sql` to `text` with its values numbered on from `from`.
fn renumber(text: &mut String, sql: &str, from: usize) {
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap_or(0);
        text.push_str(&format!("${}{}", number + from, &part[digits..]));
    }
}

fn add(arguments: &mut AnyArguments, value: Value) -> Result<(), sqlx::error::BoxDynError> {
    match value {
        Value::Number(n) => arguments.add(n),
        Value::Text(text) => arguments.add(text),
        Value::NoText => arguments.add(None::<String>),
        Value::NoNumber => arguments.add(None::<i64>),
        Value::Bytes(bytes) => arguments.add(bytes),
    }
}

/// Carries all of them out, in order, in one trip; gives the rows of each.
///
/// # Errors
/// The engine's, for the first that it refused; those behind it were not tried, those before it stand.
pub(crate) async fn carry_out(
    conn: &mut AnyConnection,
    statements: Vec<Statement>,
) -> Result<Vec<Vec<AnyRow>>, StoreError> {
    let mut text = String::new();
    let mut arguments = AnyArguments::default();
    let mut acts = Vec::with_capacity(statements.len());
    for Statement { act, sql, values } in statements {
        renumber(&mut text, sql, arguments.len());
        text.push(';');
        acts.push(act);
        for value in values {
            add(&mut arguments, value).map_err(|e| StoreError::sql(act)(sqlx::Error::Encode(e)))?;
        }
    }
    // Nothing of it is anybody's text: statements are constants of this crate, and values are bound.
    let mut answers = conn.fetch_many(sqlx::query_with(AssertSqlSafe(text), arguments));
    let (mut all, mut rows) = (Vec::with_capacity(acts.len()), Vec::new());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Either::Right(row)) => rows.push(row),
            Ok(Either::Left(_)) => all.push(std::mem::take(&mut rows)),
            Err(source) => {
                let act = acts.get(all.len()).copied().unwrap_or("carry out an act");
                return Err(StoreError::Sql { act, source: Arc::new(source) });
            }
        }
    }
    if all.len() == acts.len() {
        Ok(all)
    } else {
        Err(StoreError::Corrupt { what: "answer of the engine", why: format!("{} of {}", all.len(), acts.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection as _, Row as _};

    async fn conn() -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect("sqlite::memory:").await.unwrap()
    }

    fn table() -> Statement {
        Statement::new("make it", "CREATE TABLE t (a BIGINT UNIQUE, b TEXT, c BLOB)")
    }

    fn row(n: i64, text: &str) -> Statement {
        const ADD: &str = "INSERT INTO t (a, b, c) VALUES ($1, $2 || $1, $3)";
        Statement::new("add a row", ADD).bind(n).bind(text).bind(vec![7])
    }

    #[test]
    fn values_are_numbered_on_and_the_same_value_keeps_one_number() {
        let mut text = String::new();
        renumber(&mut text, "a $1, $12 and $1", 30);
        assert_eq!(text, "a $31, $42 and $31");
    }

    #[tokio::test]
    async fn each_statement_has_its_own_values_and_its_own_rows() {
        let mut conn = conn().await;
        let all = |sql| Statement::new("read", sql).bind("x2");
        let script = vec![
            table(),
            row(1, "x"),
            row(2, "x"),
            all("SELECT b FROM t WHERE b = $1"),
            Statement::new("read", "SELECT a FROM t ORDER BY a DESC"),
        ];
        let rows = carry_out(&mut conn, script).await.unwrap();
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 1, 2]);
        assert_eq!((rows[3][0].get::<&str, _>(0), rows[4][0].get::<i64, _>(0)), ("x2", 2));
    }

    #[tokio::test]
    async fn the_statement_that_is_refused_is_the_one_that_is_named_and_none_behind_it_is_tried() {
        let mut conn = conn().await;
        let script =
            vec![table(), row(1, "x"), Statement::new("add it again", "INSERT INTO t (a) VALUES (1)"), row(2, "x")];
        let refused = carry_out(&mut conn, script).await.err().unwrap();
        assert!(matches!(refused, StoreError::Sql { act: "add it again", .. }), "{refused}");
        let count = vec![Statement::new("count", "SELECT COUNT(*) FROM t")];
        assert_eq!(carry_out(&mut conn, count).await.unwrap()[0][0].get::<i64, _>(0), 1);
    }
}
