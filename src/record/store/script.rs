//! Statements gathered to be sent at once.
//!
//! Each call into the database costs a hop to its thread and back, so a job's statements travel as one script, and those of
//! a whole group with their commit. What every job writes (a heal, its journal, the audit log) becomes one statement for
//! all rows, because preparing statements would cost more than running them. SQL text is always a constant of this
//! program; everything else is bound.

use futures_util::TryStreamExt as _;
use serde::{Serialize, Serializer};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Either, Executor as _, Row as _, SqliteConnection};

use crate::seam::StoreError;

/// A script of more statements beside its rows will hardly come together again, and is not kept prepared.
const USUAL_MAX: usize = 8;

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

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// A statement for one row, and the same for any number of rows.
///
/// Rows of several jobs that travel together are written behind all other statements, so only what no other statement
/// of a group reads or changes may be one of these.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) one: &'static str,
    /// Its only value is a JSON array of rows, each an array of the values of `one`. Rows must be taken in their order.
    pub(super) many: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Text {
    Plain(&'static str),
    Row(&'static Rows),
}

/// Statements in order, with their values; placeholders are plain `?`, so that values follow each other.
#[derive(Debug, Default)]
pub(super) struct Script {
    items: Vec<(Text, Vec<Value>)>,
}

/// A script as the database gets it.
struct Rendered {
    sql: String,
    values: Vec<Value>,
    statements: usize,
    /// Is it one of a few texts that come again and again?
    usual: bool,
}

impl Rendered {
    fn push(&mut self, sql: &'static str) {
        if !self.sql.is_empty() {
            self.sql.push_str(";\n");
        }
        self.sql.push_str(sql);
        self.statements += 1;
    }
}

/// How statements and the commit behind them came out.
pub(super) enum Sent {
    Committed,
    /// A statement failed before the commit.
    Failed(sqlx::Error),
    CommitFailed(sqlx::Error),
}

impl Script {
    pub(super) fn add<const N: usize>(&mut self, sql: &'static str, values: [Value; N]) {
        debug_assert_eq!(sql.matches('?').count(), N, "values of: {sql}");
        self.items.push((Text::Plain(sql), values.into()));
    }

    /// Adds one row of a statement that can take many.
    pub(super) fn add_row<const N: usize>(&mut self, rows: &'static Rows, values: [Value; N]) {
        debug_assert_eq!(rows.one.matches('?').count(), N, "values of: {}", rows.one);
        self.items.push((Text::Row(rows), values.into()));
    }

    /// Adds all statements of another one.
    pub(super) fn append(&mut self, mut other: Self) {
        self.items.append(&mut other.items);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Runs all statements up to the first that fails; returns how many rows were changed.
    pub(super) async fn run(self, conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        let mut rendered = Rendered {
            sql: String::new(),
            values: Vec::new(),
            statements: 0,
            usual: true,
        };
        for (text, mut values) in self.items {
            rendered.push(match text {
                Text::Plain(sql) => sql,
                Text::Row(rows) => rows.one,
            });
            rendered.values.append(&mut values);
        }
        rendered.run(conn).await
    }

    /// The same for statements of several jobs: rows of one kind become one statement.
    pub(super) async fn run_together(
        self,
        conn: &mut SqliteConnection,
    ) -> Result<u64, sqlx::Error> {
        self.together(None)?.run(conn).await
    }

    /// As [`Script::run_together`], with the commit at the end, and with the statement that begins the transaction if that
    /// is still to be done.
    pub(super) async fn commit(
        self,
        conn: &mut SqliteConnection,
        begin: Option<&'static str>,
    ) -> Sent {
        let mut rendered = match self.together(begin) {
            Ok(rendered) => rendered,
            Err(error) => return Sent::Failed(error),
        };
        let before = rendered.statements;
        rendered.push("COMMIT");
        let arguments = match arguments(rendered.values) {
            Ok(arguments) => arguments,
            Err(error) => return Sent::Failed(error),
        };
        let mut done = 0;
        let query = sqlx::query_with(AssertSqlSafe(rendered.sql), arguments);
        let mut results = conn.fetch_many(query.persistent(rendered.usual));
        loop {
            match results.try_next().await {
                Ok(Some(Either::Left(_))) => done += 1,
                Ok(Some(Either::Right(_))) => {}
                Ok(None) if done > before => return Sent::Committed,
                // The stream ended early: nobody can say what became of the commit.
                Ok(None) => return Sent::CommitFailed(sqlx::Error::WorkerCrashed),
                Err(error) if done < before => return Sent::Failed(error),
                Err(error) => return Sent::CommitFailed(error),
            }
        }
    }

    fn together(self, begin: Option<&'static str>) -> Result<Rendered, sqlx::Error> {
        let mut rendered = Rendered {
            sql: String::new(),
            values: Vec::new(),
            statements: 0,
            usual: true,
        };
        if let Some(begin) = begin {
            rendered.push(begin);
        }
        let mut gathered: Vec<(&'static Rows, Vec<Vec<Value>>)> = Vec::new();
        for (text, mut values) in self.items {
            match text {
                Text::Plain(sql) => {
                    rendered.push(sql);
                    rendered.values.append(&mut values);
                }
                Text::Row(rows) => {
                    match gathered
                        .iter_mut()
                        .find(|(known, _)| std::ptr::eq(*known, rows))
                    {
                        Some((_, all)) => all.push(values),
                        None => gathered.push((rows, vec![values])),
                    }
                }
            }
        }
        rendered.usual = rendered.statements <= USUAL_MAX;
        for (rows, mut all) in gathered {
            // The database's JSON cuts a text at a NUL.
            let fits = all.iter().flatten().all(|value| match value {
                Value::Text(text) => !text.contains('\0'),
                Value::Null | Value::Int(_) => true,
            });
            if all.len() > 1 && fits {
                rendered.push(rows.many);
                let json = serde_json::to_string(&all)
                    .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                rendered.values.push(json.into());
            } else {
                rendered.usual &= all.len() == 1;
                for values in &mut all {
                    rendered.push(rows.one);
                    rendered.values.append(values);
                }
            }
        }
        Ok(rendered)
    }
}

impl Rendered {
    async fn run(self, conn: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        let arguments = arguments(self.values)?;
        sqlx::query_with(AssertSqlSafe(self.sql), arguments)
            .persistent(self.usual)
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
