//! Values to write, and a store in a directory of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;

use crate::model::Digest;
use crate::model::action::{Identity, ResolvedAction};
use crate::model::approval::{Approval, ApprovalState, Bound, Person, Requester};
use crate::model::backup::{BackupKind, BackupRow};
use crate::model::breaker::{BreakerState, BreakerTransition};
use crate::model::check::{CheckResult, Evidence};
use crate::model::heal::{Event, Heal, HealState, Origin};
use crate::model::id::{ApprovalId, BackupId, FenceToken, HealId, HoldId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::name::{AppName, HostName};
use crate::model::stop::{Hold, Scope};
use crate::model::time::Moment;
use crate::model::word::{About, Category, HealingMode, MatchKind, Risk, Severity, Status};
use crate::record::store::{Limits, SqliteStore};
use crate::seam::notify::Notice;
use crate::seam::{Changes, Store as _, StoreError, Write};

pub(super) fn at(ms: i64) -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: ms,
        wall_ms: 1_700_000_000_000 + ms,
    }
}

pub(super) fn app(text: &str) -> AppName {
    text.parse().unwrap()
}

pub(super) fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

pub(super) fn action(name: &str) -> ResolvedAction {
    ResolvedAction {
        name: name.parse().unwrap(),
        version: "v1".to_owned(),
        params: BTreeMap::new(),
        risk: Risk::Low,
        identity: Identity::App,
        steps: Vec::new(),
        finally: Vec::new(),
        writes: Vec::new(),
        restarts: false,
        scratch: Vec::new(),
        timeout: Duration::from_mins(1),
        settle: Duration::from_mins(1),
        proves: Vec::new(),
        known_good: Vec::new(),
        raises: Vec::new(),
        estimate_bytes: 0,
        estimate: Duration::from_secs(1),
    }
}

/// A heal of `shop` on `local`, new.
pub(super) fn heal(id: u128, fence: u64) -> Heal {
    Heal {
        id: HealId::from_raw(id),
        app: app("shop"),
        host: host("local"),
        origin: Origin::Unattended,
        action: action("clear_cache"),
        matched: MatchKind::Declared,
        incident: IncidentId::from_raw(1),
        linked: Vec::new(),
        checks: Vec::new(),
        evidence: Evidence::default(),
        before: Vec::new(),
        roots: vec!["/srv/shop".to_owned()],
        machine: None,
        mode: None,
        trial: false,
        fence: FenceToken(fence),
        admitted: at(0),
        state: HealState::Admitted,
        moved: at(0),
        message: "admitted".to_owned(),
        version: 0,
    }
}

pub(super) fn incident(id: u128) -> Incident {
    Incident {
        id: IncidentId::from_raw(id),
        app: app("shop"),
        check: Some("http_up".parse().unwrap()),
        kind: IncidentKind::Symptom,
        state: IncidentState::Open,
        status: Status::Fail,
        severity: Severity::High,
        message: "502".to_owned(),
        opened: at(0),
        looks: 1,
        persisted_ms: 0,
        last_bad: Some(at(0)),
        tried: Vec::new(),
        heals: Vec::new(),
        well_since: None,
        cured_by: None,
        told: None,
        closed_by: None,
    }
}

pub(super) fn person(uid: u32) -> Person {
    Person {
        uid,
        name: format!("user{uid}"),
    }
}

pub(super) fn approval(id: u128) -> Approval {
    let bound = Bound {
        app: app("shop"),
        host: host("local"),
        machine_id: "m".to_owned(),
        roots: vec!["/srv/shop".to_owned()],
        action: action("composer_update"),
        matched: MatchKind::Declared,
        mode: HealingMode::SemiAuto,
        rules: Vec::new(),
        evidence: Evidence::default(),
        write_set: vec!["vendor/**".to_owned()],
        known_good: Vec::new(),
        requester: Requester::Daemon,
        expires_wall_ms: 5,
    };
    Approval {
        id: ApprovalId::from_raw(id),
        digest: bound.digest(),
        bound,
        state: ApprovalState::Pending,
        created: at(0),
        decide_within_ms: 86_400_000,
        votes: Vec::new(),
        granted: None,
        paused_ms: 0,
        execute_within_ms: 3_600_000,
        incident: None,
        checks: Vec::new(),
        reason: "vendor is missing".to_owned(),
        shows: Vec::new(),
        waits_for: None,
        heal: None,
        ended: None,
        version: 0,
    }
}

pub(super) fn backup(id: u128) -> BackupRow {
    BackupRow {
        id: BackupId::from_raw(id),
        kind: BackupKind::Heal,
        app: app("shop"),
        host: host("local"),
        heal: None,
        action: None,
        taken: at(0),
        files: 3,
        bytes: 4096,
        stored_bytes: 100,
        verified: at(1),
        damaged: None,
        pinned: false,
    }
}

pub(super) fn hold(id: u128, scope: Scope) -> Hold {
    Hold {
        id: HoldId::from_raw(id),
        scope,
        owner: "alice(1000)".to_owned(),
        reason: "moving house".to_owned(),
        since: at(0),
        for_ms: None,
    }
}

pub(super) fn result(check: &str, status: Status, message: &str) -> CheckResult {
    CheckResult {
        check: check.parse().unwrap(),
        category: Category::System,
        status,
        severity: Severity::Low,
        message: message.to_owned(),
        suggested_fix: None,
        execution_ms: 3,
        rule: status.is_bad().then_some(0),
        about: About::App,
        availability: true,
        facts: BTreeMap::from([("http".to_owned(), BTreeMap::new())]),
    }
}

pub(super) fn notice(key: &str, event: &str, at: Moment) -> Notice {
    Notice {
        event: event.to_owned(),
        app: Some("shop".to_owned()),
        host: None,
        title: "title".to_owned(),
        text: "text".to_owned(),
        key: key.to_owned(),
        at,
    }
}

pub(super) fn transition(from: BreakerState, to: BreakerState) -> BreakerTransition {
    BreakerTransition {
        app: app("shop"),
        at: at(0),
        from,
        to,
        cause: "test".to_owned(),
        heal: None,
        actor: "healerd".to_owned(),
    }
}

/// One audited transaction.
pub(super) fn changes(ms: i64) -> Changes {
    Changes::new(at(ms), "healerd").audit("tested", "store", serde_json::json!({ "ms": ms }))
}

pub(super) fn unaudited(ms: i64) -> Changes {
    Changes::new(at(ms), "healerd")
}

pub(super) fn heal_write(heal: &Heal, event: Option<Event>) -> Write {
    Write::Heal {
        heal: Box::new(heal.clone()),
        event,
    }
}

/// The heal after `event`, to be written.
pub(super) fn moved(heal: &Heal, event: &Event, ms: i64) -> Heal {
    let mut next = heal.clone();
    next.state = heal.state.next(event.clone(), &at(ms)).unwrap();
    next.moved = at(ms);
    next
}

/// Writes the move and returns the heal as it is stored now.
pub(super) async fn step(
    store: &SqliteStore,
    heal: &Heal,
    event: Event,
    ms: i64,
) -> Result<Heal, StoreError> {
    let mut next = moved(heal, &event, ms);
    store
        .apply(changes(ms).write(heal_write(&next, Some(event))))
        .await?;
    next.version += 1;
    Ok(next)
}

pub(super) async fn open(dir: &TempDir) -> SqliteStore {
    SqliteStore::open(dir.path(), &at(0)).await.unwrap()
}

pub(super) async fn open_with(dir: &TempDir, limits: Limits) -> SqliteStore {
    SqliteStore::open_with(dir.path(), &at(0), limits)
        .await
        .unwrap()
}

/// What a refusal says, with its cause.
pub(super) fn why(result: Result<(), StoreError>) -> String {
    let error = result.unwrap_err();
    let cause =
        std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

pub(super) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

impl SqliteStore {
    async fn raw(&self, sql: &'static str) {
        self.ask(|answer| crate::record::store::writer::Task::Raw { sql, answer })
            .await
            .unwrap();
    }

    /// The disk is full but for a few pages: `SQLite` clamps the limit to what is in use, and some rows still fit.
    pub(super) async fn limit_pages_to_present(&self) {
        self.raw("PRAGMA max_page_count = 160").await;
    }

    /// Every row of the audit log breaks a constraint that is looked at on commit.
    pub(super) async fn break_next_commit(&self) {
        self.raw(
            "CREATE TABLE broken (id TEXT REFERENCES hold (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER breaks AFTER INSERT ON audit BEGIN INSERT INTO broken VALUES ('none'); END",
        )
        .await;
    }
}
