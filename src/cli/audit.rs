//! `audit verify`: recomputes the audit chain of a copy of the state, without a daemon.
//!
//! Reads and reports; it repairs nothing and prints nothing. A chain alone cannot tell that its newest rows were cut
//! off: for that a head that was published earlier (journal, metrics, another machine) is compared.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::record::audit::{Columns, Link};

/// So many rows behind the first bad one are searched for the row that belongs there.
const SEARCH: i64 = 1_000;

const SELECT: &str =
    "SELECT seq, at_ms, actor, verb, object, detail, hash FROM audit WHERE seq >= ? ORDER BY seq";

/// A head that was published: `SEQUENCE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHead {
    pub seq: i64,
    pub hash: Link,
}

/// Why a text is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a head is written SEQUENCE:HASH, a positive number and 64 hex digits")]
pub struct KnownHeadError;

impl FromStr for KnownHead {
    type Err = KnownHeadError;
    fn from_str(text: &str) -> Result<Self, KnownHeadError> {
        let (seq, hash) = text.split_once(':').ok_or(KnownHeadError)?;
        let seq: i64 = seq.parse().map_err(|_| KnownHeadError)?;
        let hash = Link::from_hex(hash).ok_or(KnownHeadError)?;
        if seq < 1 {
            return Err(KnownHeadError);
        }
        Ok(Self { seq, hash })
    }
}

impl fmt::Display for KnownHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash.to_hex())
    }
}

/// What is wrong, at the first row where something is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// Its content does not lead to its hash.
    #[error("row {seq} was changed")]
    Changed { seq: i64 },
    /// It stands elsewhere.
    #[error("row {seq} was moved: its content stands in row {found}")]
    Reordered { seq: i64, found: i64 },
    /// Rows are missing before `next`.
    #[error("row {seq} was removed: row {next} follows row {}", seq - 1)]
    Removed { seq: i64, next: i64 },
    /// The log ends before a row that was known.
    #[error("the end was cut off: row {known} was known, the last one is {last}")]
    Cut { known: i64, last: i64 },
    /// The chain is whole, and another one than the known.
    #[error("row {seq} is not the one that was known: the log was written anew")]
    Replaced { seq: i64 },
    /// A column is of another type, or absent.
    #[error("a row after row {after} cannot be read")]
    Unreadable { after: i64 },
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    pub path: PathBuf,
    /// Rows that follow from each other, from the first on.
    pub rows: u64,
    /// The last of them.
    pub head: Option<KnownHead>,
    /// Was a published head compared, so that cut tails would have been seen?
    pub compared: bool,
    pub fault: Option<AuditFault>,
}

impl AuditReport {
    /// Nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.fault.is_none()
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot open `{path}` as a copy of the state")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot read the audit log in `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
}

impl AuditError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Open { .. } => {
                "name a copy of state.db; copy `state.db-wal` beside it when there is one"
            }
            Self::Read { .. } => {
                "copy `state.db-wal` beside it when there is one; else the file is damaged or no state of healerd"
            }
        }
    }
}

/// Recomputes the chain in `path`, and compares `known` with it.
///
/// The file is opened read-only. Without a write-ahead log beside it, it is taken as unchanging, and nothing is made next
/// to it; with one, the rows in the log are read too.
///
/// # Errors
/// When the file cannot be opened or has no audit log. What is wrong with the log is in the report.
pub async fn verify(path: &Path, known: Option<KnownHead>) -> Result<AuditReport, AuditError> {
    let mut connection = open(path).await?;
    let report = walk(&mut connection, path, known)
        .await
        .map_err(|source| AuditError::Read {
            path: path.to_owned(),
            source,
        });
    // Nothing was written: how it closes says nothing about what was read.
    connection.close().await.ok();
    report
}

async fn open(path: &Path) -> Result<SqliteConnection, AuditError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0);
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .immutable(!has_log)
        .pragma("trusted_schema", "OFF")
        .row_buffer_size(1_000)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|source| AuditError::Open {
            path: path.to_owned(),
            source,
        })
}

/// One row as it stands.
struct Row<'a> {
    columns: Columns<'a>,
    hash: &'a str,
}

fn read(row: &SqliteRow) -> Result<Row<'_>, sqlx::Error> {
    Ok(Row {
        columns: Columns {
            seq: row.try_get(0)?,
            at_ms: row.try_get(1)?,
            actor: row.try_get(2)?,
            verb: row.try_get(3)?,
            object: row.try_get(4)?,
            detail: row.try_get(5)?,
        },
        hash: row.try_get(6)?,
    })
}

async fn walk(
    connection: &mut SqliteConnection,
    path: &Path,
    known: Option<KnownHead>,
) -> Result<AuditReport, sqlx::Error> {
    let mut report = AuditReport {
        path: path.to_owned(),
        rows: 0,
        head: None,
        compared: known.is_some(),
        fault: None,
    };
    let mut link = Link::START;
    let mut last = 0_i64;
    let mut suspect = None;
    {
        let mut found = sqlx::query(SELECT).bind(i64::MIN).fetch(&mut *connection);
        while let Some(row) = found.try_next().await? {
            let Ok(row) = read(&row) else {
                report.fault = Some(AuditFault::Unreadable { after: last });
                break;
            };
            let seq = row.columns.seq;
            if seq != last + 1 {
                report.fault = Some(AuditFault::Removed {
                    seq: last + 1,
                    next: seq,
                });
                break;
            }
            let next = link.next(&row.columns);
            if next.to_hex() != row.hash {
                suspect = Some(seq);
                break;
            }
            link = next;
            last = seq;
            report.rows += 1;
            report.head = Some(KnownHead { seq, hash: link });
            if known.is_some_and(|known| known.seq == seq && known.hash != link) {
                report.fault = Some(AuditFault::Replaced { seq });
                break;
            }
        }
    }
    if let Some(seq) = suspect {
        report.fault = Some(explain(connection, link, seq).await?);
    } else if report.fault.is_none()
        && let Some(known) = known
        && known.seq > last
    {
        report.fault = Some(AuditFault::Cut {
            known: known.seq,
            last,
        });
    }
    Ok(report)
}

/// Looks near `seq`, which does not follow from `link`, for the row that does.
async fn explain(
    connection: &mut SqliteConnection,
    link: Link,
    seq: i64,
) -> Result<AuditFault, sqlx::Error> {
    let near = sqlx::query(SELECT)
        .bind(seq.saturating_add(1))
        .fetch(connection)
        .try_filter_map(async |row| {
            let Ok(row) = read(&row) else {
                return Ok(None);
            };
            let moved = Columns { seq, ..row.columns };
            let belongs = link.next(&moved).to_hex() == row.hash;
            Ok(Some((row.columns.seq, belongs)))
        });
    let mut near = std::pin::pin!(near);
    while let Some((found, belongs)) = near.try_next().await? {
        if belongs {
            return Ok(AuditFault::Reordered { seq, found });
        }
        if found > seq.saturating_add(SEARCH) {
            break;
        }
    }
    Ok(AuditFault::Changed { seq })
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;
