//! `kill -9` at any moment: what was acknowledged is there, what is there is whole.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::fixture::*;
use crate::model::heal::Event;
use crate::record::audit::{Columns, Link};
use crate::seam::store::Query;
use crate::seam::{Store as _, Write};

const DIRECTORY: &str = "HEALERD_TEST_CRASH_DIRECTORY";
const FIRST: &str = "HEALERD_TEST_CRASH_FIRST";

/// The part of the child: writes two heals at a time for ever and says which are acknowledged. Does nothing in a run of
/// the suite, where nobody names a directory.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIRECTORY) else {
        return;
    };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = crate::record::store::SqliteStore::open(dir.as_ref(), &at(0))
        .await
        .unwrap();
    let mut out = std::io::stdout();
    for fence in (first..).step_by(2) {
        let one = |fence: u64, name: &'static str| {
            let store = &store;
            async move {
                let mut new = heal(u128::from(fence), fence);
                new.host = host(name);
                store
                    .apply(
                        changes(1)
                            .write(heal_write(&new, None))
                            .write(Write::Setting {
                                key: name.to_owned(),
                                value: fence.to_string(),
                            }),
                    )
                    .await
                    .unwrap();
                new.version = 1;
                step(store, &new, Event::BackupVerified { backup: None }, 2)
                    .await
                    .unwrap();
            }
        };
        tokio::join!(one(fence, "web1"), one(fence + 1, "web2"));
        writeln!(out, "\nacknowledged {fence}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = 1_u64;
    let mut unpromised = BTreeSet::new();
    for lines in [1_usize, 7, 40, 23, 90] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("record::store::tests::crash::child_writes_until_it_is_killed")
            .env(DIRECTORY, dir.path())
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let acknowledged = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .filter_map(|line| {
                line.unwrap()
                    .strip_prefix("acknowledged ")?
                    .parse::<u64>()
                    .ok()
            })
            .take(lines)
            .last();
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = acknowledged.expect("the child must write");
        first = whole_up_to(&dir, acknowledged + 1, &mut unpromised).await + 2;
        first += 1 - first % 2;
    }
}

/// Checks everything, and returns the highest token found. What was under way when a child was killed was promised to
/// nobody, then or later.
async fn whole_up_to(
    dir: &tempfile::TempDir,
    acknowledged: u64,
    unpromised: &mut BTreeSet<u64>,
) -> u64 {
    let store = open(dir).await;
    let heals = store
        .heals(Query {
            limit: 10_000,
            ..Query::default()
        })
        .await
        .unwrap();
    let found: std::collections::BTreeMap<u64, u64> = heals
        .iter()
        .map(|heal| (heal.fence.0, heal.version))
        .collect();
    let session = found
        .keys()
        .filter(|fence| **fence <= acknowledged && !unpromised.contains(fence));
    assert!(session.clone().any(|fence| *fence == acknowledged));
    for fence in session {
        assert_eq!(found.get(fence), Some(&2), "{fence} of {acknowledged}");
    }
    unpromised.extend(found.keys().filter(|fence| **fence > acknowledged));
    for heal in &heals {
        let events = store.heal_events(heal.id).await.unwrap();
        assert_eq!(
            u64::try_from(events.len()).unwrap() + 1,
            heal.version,
            "the journal tells every move"
        );
    }
    let restart = store.restart().await.unwrap();
    for (name, token) in &restart.fences {
        let setting = restart
            .settings
            .iter()
            .find(|(key, _)| key == name.as_str());
        assert_eq!(setting.unwrap().1, token.to_string(), "one transaction");
    }
    let mut link = Link::START;
    let mut rows = 0_u64;
    loop {
        let batch = store
            .audit(i64::try_from(rows).unwrap(), 1_000)
            .await
            .unwrap();
        if batch.is_empty() {
            break;
        }
        for row in batch {
            let detail = serde_json::to_string(&row.detail).unwrap();
            link = link.next(&Columns {
                seq: row.seq,
                at_ms: row.at_wall_ms,
                actor: &row.actor,
                verb: &row.verb,
                object: &row.object,
                detail: &detail,
            });
            assert_eq!(link.to_hex(), row.hash, "row {}", row.seq);
            rows += 1;
        }
    }
    let moves: u64 = found.values().sum();
    assert_eq!(rows, moves, "an audit row for every change");
    store.close().await;
    found.keys().copied().max().unwrap()
}
