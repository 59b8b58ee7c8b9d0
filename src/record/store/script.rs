//! Statements gathered to be sent at once.
//!
//! Each call into the database costs a hop to its thread and back, so a job's statements travel as one script. SQL text
//! is always a constant of this program; everything else is bound.

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _, SqliteConnection};

use crate::seam::StoreError;

/// A bound value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Statements in order, with their values; placeholders are plain `?`, so that values follow each other.
#[derive(Debug, Default)]
pub(super) struct Script {
    sql: String,
    values: Vec<Value>,
}

impl Script {
    pub(super) fn add<const N: usize>(&mut self, sql: &'static str, values: [Value; N]) {
        debug_assert_eq!(sql.matches('?').count(), N, "values of: {sql}");
        if !self.sql.is_empty() {
            self.sql.push_str(";\n");
        }
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    /// Adds all statements of another one.
    pub(super) fn append(&mut self, other: Self) {
        if !self.sql.is_empty() && !other.sql.is_empty() {
            self.sql.push_str(";\n");
        }
        self.sql.push_str(&other.sql);
        self.values.extend(other.values);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Runs all statements up to the first that fails; returns how many rows were changed.
    pub(super) async fn run(self, conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        self.run_with(conn, true).await
    }

    /// The same for statements that will hardly come together again: they are not kept prepared.
    pub(super) async fn run_once(self, conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        self.run_with(conn, false).await
    }

    async fn run_with(self, conn: &mut SqliteConnection, keep: bool) -> Result<u64, sqlx::Error> {
        let arguments = arguments(self.values)?;
        sqlx::query_with(AssertSqlSafe(self.sql), arguments)
            .persistent(keep)
            .execute(conn)
            .await
            .map(|done| done.rows_affected())
    }
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Runs one query and returns all its rows.
pub(super) async fn rows<const N: usize>(
    conn: &mut SqliteConnection,
    sql: &'static str,
    values: [Value; N],
) -> Result<Vec<SqliteRow>, StoreError> {
    sqlx::query_with(sql, arguments(values.into()).map_err(failed("read"))?)
        .fetch_all(conn)
        .await
        .map_err(failed("read"))
}

/// Runs several queries at once. The last column of each row is the number of its query, counted from 0; the rows of
/// each are returned in its place.
pub(super) async fn rows_of_each<const N: usize, const QUERIES: usize>(
    conn: &mut SqliteConnection,
    sql: &'static str,
    values: [Value; N],
) -> Result<[Vec<SqliteRow>; QUERIES], StoreError> {
    let mut each = std::array::from_fn(|_| Vec::new());
    for row in rows(conn, sql, values).await? {
        let number = int(&row, row.len().saturating_sub(1))?;
        let place = usize::try_from(number)
            .ok()
            .and_then(|number| each.get_mut(number))
            .ok_or_else(|| refused("read", format!("there is no query {number}")))?;
        place.push(row);
    }
    Ok(each)
}

/// Runs one query and returns its first row.
pub(super) async fn row<const N: usize>(
    conn: &mut SqliteConnection,
    sql: &'static str,
    values: [Value; N],
) -> Result<Option<SqliteRow>, StoreError> {
    sqlx::query_with(sql, arguments(values.into()).map_err(failed("read"))?)
        .fetch_optional(conn)
        .await
        .map_err(failed("read"))
}

/// A column as a text.
pub(super) fn text(row: &SqliteRow, column: usize) -> Result<&str, StoreError> {
    row.try_get(column).map_err(failed("read a text"))
}

/// A column as an integer.
pub(super) fn int(row: &SqliteRow, column: usize) -> Result<i64, StoreError> {
    row.try_get(column).map_err(failed("read an integer"))
}

/// A column as a text that may be NULL.
pub(super) fn maybe_text(row: &SqliteRow, column: usize) -> Result<Option<&str>, StoreError> {
    row.try_get(column).map_err(failed("read a text"))
}

/// A column's JSON as the value it was made from.
pub(super) fn body<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: usize,
    what: &'static str,
) -> Result<T, StoreError> {
    parse(text(row, column)?, what)
}

/// All rows' JSON of one column.
pub(super) fn bodies<T: serde::de::DeserializeOwned>(
    rows: &[SqliteRow],
    column: usize,
    what: &'static str,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| body(row, column, what)).collect()
}

/// A stored text as JSON of `T`.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(what, error))
}

/// A stored text as a name, id or word.
pub(super) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error| damaged(what, error))
}

pub(super) fn damaged(what: &'static str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged {
        what,
        reason: reason.to_string(),
    }
}

/// JSON of a value of the model.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed {
        operation: "write a value as JSON",
        source: Box::new(error),
    })
}

/// Turns a database error of `operation` into a store error.
pub(super) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| StoreError::Failed {
        operation,
        source: Box::new(error),
    }
}

/// Why a write breaks a rule of the record.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(String);

/// A write that breaks a rule of the record; nothing of its job is written.
pub(super) fn refused(operation: &'static str, why: impl Into<String>) -> StoreError {
    StoreError::Failed {
        operation,
        source: Box::new(Refusal(why.into())),
    }
}

pub(super) fn conflict(what: impl Into<String>) -> StoreError {
    StoreError::Conflict { what: what.into() }
}

/// A count of the model as an integer of `SQLite`.
pub(super) fn integer(value: u64, operation: &'static str) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| refused(operation, format!("{value} is out of range")))
}
