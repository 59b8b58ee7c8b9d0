//! `healerctl audit verify`: recomputes the hash chain of a copied state database, without a daemon.
//!
//! Rows are read in order and only once, so a log of any length needs no memory. A changed, removed or moved row is
//! named by its number. A log that was cut off at its end is a whole, shorter log: only a head that was published before
//! (`--head`) tells it apart.

use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::cli::output::{CliError, Output, code};
use crate::cli::table;
use crate::record::audit::{Columns, Link};
use crate::telemetry::redact::escape;

/// Rows that wait between the database's thread and the hashing.
const ROWS_AHEAD: usize = 4096;

/// What was proved.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    rows: i64,
    /// Hash of the newest row; publish it to find a cut later.
    head: Option<String>,
    /// Was it compared with a head that was published before?
    compared_with_head: bool,
}

/// A head that was published: the number of a row and its hash.
#[derive(Debug, Clone, Copy)]
struct Head {
    seq: i64,
    link: Link,
}

/// Where and how the chain breaks.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    seq: i64,
    what: String,
}

/// Verifies a file.
pub async fn run(file: &Path, head: Option<&str>, json: bool) -> Result<Output, CliError> {
    let head = head.map(parse_head).transpose()?;
    let mut connection = open(file).await?;
    let read = verify(&mut connection, head).await;
    // Nothing was written, so nothing can be lost by a close that fails.
    connection.close().await.ok();
    match read.map_err(|error| unreadable(file, &error))? {
        Ok(verified) => Ok(Output::of(json, &verified, || text(&verified))),
        Err(broken) => Err(CliError::new(
            code::FAILED,
            "audit_broken",
            format!(
                "the audit log is broken at row {}: {}",
                broken.seq, broken.what
            ),
        )
        .hint("compare with an older copy, and with the heads that were published to the journal")),
    }
}

fn parse_head(text: &str) -> Result<Head, CliError> {
    let parsed = text.split_once(':').and_then(|(seq, hash)| {
        Some(Head {
            seq: seq.parse().ok().filter(|seq| *seq > 0)?,
            link: Link::from_hex(hash)?,
        })
    });
    parsed.ok_or_else(|| {
        CliError::usage(format!("`{}` is not a head", escape(text)))
            .hint("write the row's number, a colon and its 64 hex digits")
    })
}

/// Opens without the right to write. A copy without its write-ahead log is read as it lies; with one, the two belong
/// together.
async fn open(file: &Path) -> Result<SqliteConnection, CliError> {
    let log = PathBuf::from(format!("{}-wal", file.display()));
    let has_log = log.metadata().is_ok_and(|found| found.len() > 0);
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(!has_log)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &sqlx::Error) -> CliError {
    CliError::new(
        code::FAILED,
        "unreadable",
        format!("cannot read `{}`", escape(&file.display().to_string())),
    )
    .caused_by(error)
    .hint("give a copy of the daemon's state.db, with its -wal file where there is one")
}

async fn verify(
    connection: &mut SqliteConnection,
    head: Option<Head>,
) -> Result<Result<Verified, Broken>, sqlx::Error> {
    let mut chain = Chain {
        link: Link::START,
        seq: 0,
    };
    let mut met_head = false;
    let mut rows =
        sqlx::query("SELECT seq, at_ms, actor, verb, object, detail, hash FROM audit ORDER BY seq")
            .fetch(connection);
    while let Some(row) = rows.next().await {
        if let Err(broken) = chain.follow(&row?) {
            return Ok(Err(broken));
        }
        if let Some(head) = head
            && head.seq == chain.seq
        {
            met_head = head.link == chain.link;
            if !met_head {
                return Ok(Err(Broken {
                    seq: chain.seq,
                    what: "its hash is another one than the head that was given".to_owned(),
                }));
            }
        }
    }
    if let Some(head) = head
        && !met_head
    {
        return Ok(Err(Broken {
            seq: chain.seq + 1,
            what: format!("the rows up to {} of the given head are missing", head.seq),
        }));
    }
    Ok(Ok(Verified {
        rows: chain.seq,
        head: (chain.seq > 0).then(|| chain.link.to_hex()),
        compared_with_head: met_head,
    }))
}

struct Chain {
    link: Link,
    seq: i64,
}

impl Chain {
    fn follow(&mut self, row: &SqliteRow) -> Result<(), Broken> {
        let next = self.seq + 1;
        let broken = |what: &str| Broken {
            seq: next,
            what: what.to_owned(),
        };
        let seq: i64 = row
            .try_get(0)
            .map_err(|_| broken("its number cannot be read"))?;
        if seq != next {
            return Err(broken(&format!("it is missing; row {seq} follows")));
        }
        let at_ms = row
            .try_get(1)
            .map_err(|_| broken("its time cannot be read"))?;
        let text = |index: usize| -> Result<&str, Broken> {
            row.try_get(index)
                .map_err(|_| broken("a column of it cannot be read"))
        };
        let link = self.link.next(&Columns {
            seq,
            at_ms,
            actor: text(2)?,
            verb: text(3)?,
            object: text(4)?,
            detail: text(5)?,
        });
        if Link::from_hex(text(6)?) != Some(link) {
            return Err(broken("it, or the row before it, was changed"));
        }
        self.link = link;
        self.seq = seq;
        Ok(())
    }
}

fn text(verified: &Verified) -> String {
    let mut text = table::fields([
        ("rows", Some(verified.rows.to_string())),
        (
            "head",
            verified
                .head
                .as_ref()
                .map(|hash| format!("{}:{hash}", verified.rows)),
        ),
    ]);
    text.push_str("Every row follows from the one before it.\n");
    if !verified.compared_with_head {
        text.push_str(
            "Rows cut off at the end are only found with --head SEQ:HASH of a published head.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of `rows` rows, as the store writes it but without its triggers, so that it can be tampered with.
    async fn log(folder: &Path, rows: i64) -> PathBuf {
        let file = folder.join("state.db");
        let mut connection = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        sqlx::query(
            "CREATE TABLE audit (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, verb TEXT NOT NULL, object TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL) STRICT",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let mut link = Link::START;
        for seq in 1..=rows {
            let columns = Columns {
                seq,
                at_ms: seq * 1000,
                actor: "healerd",
                verb: "started",
                object: "shop",
                detail: "{}",
            };
            link = link.next(&columns);
            sqlx::query("INSERT INTO audit VALUES (?, ?, 'healerd', 'started', 'shop', '{}', ?)")
                .bind(seq)
                .bind(columns.at_ms)
                .bind(link.to_hex())
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
        file
    }

    async fn tampered(statement: &'static str, head: Option<&str>) -> Result<Output, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let file = log(folder.path(), 5).await;
        let mut connection = SqliteConnectOptions::new()
            .filename(&file)
            .connect()
            .await
            .unwrap();
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        run(&file, head, true).await
    }

    #[tokio::test]
    async fn a_whole_log_is_proved_and_its_head_told() {
        let output = tampered("SELECT 1", None).await.unwrap();
        let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(value["rows"], 5);
        let head = format!("5:{}", value["head"].as_str().unwrap());
        let again = tampered("SELECT 1", Some(&head)).await.unwrap();
        let value: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
        assert_eq!(value["comparedWithHead"], true);
        let cut = tampered("DELETE FROM audit WHERE seq > 3", Some(&head))
            .await
            .unwrap_err();
        assert!(cut.message.contains("row 4"), "{}", cut.message);
    }

    #[tokio::test]
    async fn every_kind_of_tampering_is_located() {
        for (statement, row) in [
            ("UPDATE audit SET detail = '{ }' WHERE seq = 3", 3),
            ("UPDATE audit SET at_ms = 1 WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 4", 4),
            ("DELETE FROM audit WHERE seq = 1", 1),
            ("UPDATE audit SET seq = 9 WHERE seq = 5", 5),
            ("UPDATE audit SET hash = 'x' WHERE seq = 1", 1),
        ] {
            let error = tampered(statement, None).await.unwrap_err();
            assert_eq!(error.exit, code::FAILED);
            assert!(
                error.message.contains(&format!("row {row}:")),
                "{statement}: {}",
                error.message
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_log_is_unreadable_and_stays_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.db");
        assert_eq!(
            run(&file, None, false).await.unwrap_err().code,
            "unreadable"
        );
        assert!(!file.exists());
        for wrong in ["", "1", "1:zz", "0:00", "x:y"] {
            assert_eq!(parse_head(wrong).unwrap_err().exit, code::USAGE);
        }
    }
}
