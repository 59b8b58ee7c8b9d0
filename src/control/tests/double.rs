//! An engine that only says what it was asked.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::control::Backend;
use crate::engine::handle::{
    ActionView, AppView, EventLine, HealAnswer, HealRequest, Health, OpError, OpErrorKind,
    RollbackRequest,
};
use crate::engine::{HostState, HostView, Offer};
use crate::guard::breaker::status;
use crate::model::action::{Identity, ResolvedAction};
use crate::model::approval::{Approval, ApprovalState, Bound, Person, Requester};
use crate::model::backup::BackupRow;
use crate::model::breaker::{Breaker, BreakerTransition, ForcedState};
use crate::model::check::{CheckResult, Evidence};
use crate::model::heal::{Event, Heal, HealState, Origin};
use crate::model::host::{Finding, OfferedKey};
use crate::model::id::{ApprovalId, BackupId, FenceToken, HealId, HoldId, IncidentId};
use crate::model::incident::Incident;
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::plan::{CannotHeal, Plan};
use crate::model::policy::Policy;
use crate::model::stop::{Hold, ModeOverride, Scope};
use crate::model::time::Moment;
use crate::model::word::{About, Category, HealingMode, MatchKind, Risk, Severity, Status};
use crate::model::{Digest, Fact, TreePath};
use crate::seam::store::{AuditRow, Changes, GuardRows, OutboxRow, Query, Restart, Store};
use crate::seam::{BoxFuture, StoreError};
use crate::undo::RollbackPreview;

pub(super) fn moment() -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: 0,
        wall_ms: 1_800_000_000_000,
    }
}

/// What was asked, and what the store holds.
#[derive(Debug)]
pub(super) struct Double {
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) heal: Mutex<Option<Heal>>,
    pub(super) audit: Mutex<Vec<AuditRow>>,
    pub(super) events: broadcast::Sender<EventLine>,
}

impl Double {
    pub(super) fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            asked: Mutex::default(),
            heal: Mutex::default(),
            audit: Mutex::default(),
            events: broadcast::channel(8).0,
        })
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn note<T>(&self, what: &str) -> BoxFuture<'_, Result<T, OpError>> {
        self.asked.lock().unwrap().push(what.to_owned());
        Box::pin(async {
            Err(OpError::new(
                OpErrorKind::Conflict,
                "noted",
                "It was only noted.",
                "Nothing to do.",
            ))
        })
    }

    fn done<T: Send + 'static>(&self, what: &str, value: T) -> BoxFuture<'_, Result<T, OpError>> {
        self.asked.lock().unwrap().push(what.to_owned());
        Box::pin(async { Ok(value) })
    }
}

pub(super) fn app(name: &str) -> AppView {
    let name: AppName = name.parse().unwrap();
    let result = CheckResult {
        check: "env_file".parse().unwrap(),
        category: Category::Configuration,
        status: Status::Fail,
        severity: Severity::High,
        message: "broken: DB_PASSWORD=canary4711 \u{1b}[31mred".to_owned(),
        suggested_fix: None,
        execution_ms: 12,
        rule: Some(0),
        about: About::App,
        availability: true,
        facts: [(
            "env".to_owned(),
            [
                (
                    "db_password".to_owned(),
                    Fact::Text("canary4711".to_owned()),
                ),
                ("db_host".to_owned(), Fact::Text("127.0.0.1".to_owned())),
                ("app_key".to_owned(), Fact::Secret { length: 51 }),
                ("mtime".to_owned(), Fact::Unknown("not seen".to_owned())),
                ("gone".to_owned(), Fact::Absent),
            ]
            .into(),
        )]
        .into(),
    };
    AppView {
        host: HostName::local(),
        stack: "laravel".parse().unwrap(),
        path: "/srv/shop".to_owned(),
        url: None,
        user: "shop".to_owned(),
        root_lines: String::new(),
        health: Health::Down,
        mode: HealingMode::SemiAuto,
        mode_origin: "configured".to_owned(),
        breaker: status::status(
            &Breaker::new(name.clone()),
            &Policy::default().breaker,
            &moment(),
        ),
        plan: Plan {
            cannot_heal: vec![CannotHeal {
                check: result.check.clone(),
                status: result.status,
                reason: "no action matches".to_owned(),
            }],
            ..Plan::default()
        },
        results: vec![result],
        looked: Some(moment()),
        unseen: None,
        incidents: Vec::new(),
        next: std::collections::BTreeMap::new(),
        heals: Vec::new(),
        waits: std::collections::BTreeMap::new(),
        mutes: Vec::new(),
        approvals: Vec::new(),
        backup_policy: Policy::default().backup,
        held: None,
        observing: None,
        due: moment(),
        name,
    }
}

fn action(risk: Risk) -> ResolvedAction {
    ResolvedAction {
        name: "composer_update".parse().unwrap(),
        version: "1".to_owned(),
        params: std::collections::BTreeMap::new(),
        risk,
        identity: Identity::App,
        steps: Vec::new(),
        finally: Vec::new(),
        writes: Vec::new(),
        restarts: false,
        scratch: Vec::new(),
        timeout: Duration::from_mins(5),
        settle: Duration::from_secs(30),
        proves: Vec::new(),
        known_good: Vec::new(),
        raises: Vec::new(),
        estimate_bytes: 0,
        estimate: Duration::from_mins(1),
    }
}

pub(super) fn heal(app: &AppName, state: HealState, person: Person) -> Heal {
    Heal {
        id: HealId::from_raw(7),
        app: app.clone(),
        host: HostName::local(),
        origin: Origin::Requested(person),
        action: action(Risk::Low),
        matched: MatchKind::Declared,
        incident: IncidentId::from_raw(8),
        linked: Vec::new(),
        checks: Vec::new(),
        evidence: Evidence::default(),
        before: Vec::new(),
        roots: Vec::new(),
        machine: None,
        mode: Some(HealingMode::FullAuto),
        trial: false,
        fence: FenceToken(1),
        admitted: moment(),
        state,
        moved: moment(),
        message: "It began.".to_owned(),
        version: 1,
    }
}

pub(super) fn approval(risk: Risk, requester: Person) -> Approval {
    let bound = Bound {
        app: "shop".parse().unwrap(),
        host: HostName::local(),
        machine_id: "m".to_owned(),
        roots: vec!["/srv/shop".to_owned()],
        action: action(risk),
        matched: MatchKind::Declared,
        mode: HealingMode::SemiAuto,
        rules: Vec::new(),
        evidence: Evidence::default(),
        write_set: vec!["vendor/".to_owned()],
        known_good: Vec::new(),
        requester: Requester::Person(requester),
        expires_wall_ms: 1_800_000_000_000,
    };
    Approval {
        id: ApprovalId::from_raw(9),
        digest: bound.digest(),
        bound,
        state: ApprovalState::Pending,
        created: moment(),
        decide_within_ms: 1,
        votes: Vec::new(),
        granted: None,
        paused_ms: 0,
        execute_within_ms: 1,
        incident: None,
        checks: Vec::new(),
        reason: "asked for".to_owned(),
        shows: Vec::new(),
        waits_for: None,
        heal: None,
        ended: None,
        version: 1,
    }
}

impl Backend for Double {
    fn now(&self) -> Moment {
        moment()
    }
    fn store(&self) -> &dyn Store {
        self
    }
    fn apps(&self) -> Vec<AppView> {
        vec![app("blog"), app("shop")]
    }
    fn app(&self, name: &AppName) -> Result<AppView, OpError> {
        if ["blog", "shop"].contains(&name.as_str()) {
            return Ok(app(name.as_str()));
        }
        Err(OpError::new(
            OpErrorKind::NotFound,
            "unknown",
            format!("There is no application `{name}`."),
            "Look.",
        ))
    }
    fn actions(&self, _: &AppName) -> Result<Vec<ActionView>, OpError> {
        Ok(Vec::new())
    }
    fn events(&self) -> broadcast::Receiver<EventLine> {
        self.events.subscribe()
    }
    fn holds(&self) -> Vec<Hold> {
        Vec::new()
    }
    fn modes(&self) -> Vec<ModeOverride> {
        Vec::new()
    }
    fn observing(&self) -> Option<String> {
        None
    }
    fn hosts(&self) -> Vec<HostView> {
        vec![HostView {
            name: HostName::local(),
            state: HostState::Local,
            address: None,
            jumps: Vec::new(),
            fingerprints: Vec::new(),
            configured: false,
            apps: Vec::new(),
            note: None,
            machine_id: None,
        }]
    }
    fn scan_host<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, Result<Offer, OpError>> {
        let offer = Offer {
            host: host.clone(),
            address: "shop@web1:22".to_owned(),
            key: OfferedKey {
                key: "ssh-ed25519 AAAA".to_owned(),
                fingerprint: "SHA256:new".to_owned(),
            },
            pinned: Vec::new(),
            is_pinned: false,
        };
        self.done("scan", offer)
    }
    fn enrol_host<'a>(
        &'a self,
        host: &'a HostName,
        fingerprint: &'a str,
        keep: bool,
        _: Option<String>,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done(&format!("enrol {host} {fingerprint} {keep}"), ())
    }
    fn forget_host<'a>(
        &'a self,
        _: &'a HostName,
        _: String,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done("forget", ())
    }
    fn examine_host<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<Finding>, OpError>> {
        self.done("examine", Vec::new())
    }
    fn diagnose<'a>(&'a self, name: &'a AppName) -> BoxFuture<'a, Result<AppView, OpError>> {
        self.done("diagnose", app(name.as_str()))
    }
    fn heal<'a>(
        &'a self,
        app: &'a AppName,
        request: HealRequest,
        person: Person,
    ) -> BoxFuture<'a, Result<HealAnswer, OpError>> {
        self.asked.lock().unwrap().push(format!(
            "heal {app} {} by {}",
            request.action,
            person.to_text()
        ));
        Box::pin(async move {
            if request.action.as_str() == "composer_update" {
                let mut error = OpError::new(
                    OpErrorKind::Conflict,
                    "needs_approval",
                    "It needs approval.",
                    "Ask.",
                );
                error.approval = Some(Box::new(approval(Risk::High, person)));
                return Err(error);
            }
            if request.dry_run {
                return Ok(HealAnswer::WouldRun {
                    action: Box::new(action(Risk::Low)),
                    denials: vec!["no".to_owned()],
                });
            }
            let begun = heal(app, HealState::Admitted, person);
            self.heal
                .lock()
                .unwrap()
                .get_or_insert_with(|| begun.clone());
            Ok(HealAnswer::Started(Box::new(begun)))
        })
    }
    fn approve(
        &self,
        id: ApprovalId,
        _: Digest,
        _: String,
        person: Person,
    ) -> BoxFuture<'_, Result<Approval, OpError>> {
        self.done(&format!("approve {id}"), approval(Risk::High, person))
    }
    fn reject(
        &self,
        _: ApprovalId,
        _: String,
        _: Person,
    ) -> BoxFuture<'_, Result<Approval, OpError>> {
        self.note("reject")
    }
    fn preview<'a>(
        &'a self,
        _: &'a AppName,
        _: BackupId,
        exact: bool,
        only: Vec<TreePath>,
    ) -> BoxFuture<'a, Result<RollbackPreview, OpError>> {
        self.note(&format!("preview exact={exact} only={only:?}"))
    }
    fn rollback<'a>(
        &'a self,
        _: &'a AppName,
        _: RollbackRequest,
        _: Person,
    ) -> BoxFuture<'a, Result<Heal, OpError>> {
        self.note("rollback")
    }
    fn decide(
        &self,
        _: HealId,
        undo: bool,
        _: String,
        _: Person,
    ) -> BoxFuture<'_, Result<Heal, OpError>> {
        self.note(if undo { "decide undo" } else { "decide keep" })
    }
    fn reset_breaker<'a>(
        &'a self,
        _: &'a AppName,
        _: String,
        _: Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done("reset_breaker", ())
    }
    fn force_breaker<'a>(
        &'a self,
        _: &'a AppName,
        state: Option<ForcedState>,
        _: String,
        length: Option<Duration>,
        _: Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done(&format!("force_breaker {state:?} {length:?}"), ())
    }
    fn backup_now<'a>(
        &'a self,
        _: &'a AppName,
        _: String,
        _: Person,
    ) -> BoxFuture<'a, Result<BackupRow, OpError>> {
        self.note("backup_now")
    }
    fn verify_backup<'a>(
        &'a self,
        _: &'a AppName,
        _: BackupId,
        _: Person,
    ) -> BoxFuture<'a, Result<BackupRow, OpError>> {
        self.note("verify_backup")
    }
    fn delete_backup<'a>(
        &'a self,
        _: &'a AppName,
        _: BackupId,
        _: String,
        _: Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done("delete_backup", ())
    }
    fn mute<'a>(
        &'a self,
        _: &'a AppName,
        check: CheckName,
        length: Duration,
        _: String,
        _: Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done(&format!("mute {check} {length:?}"), ())
    }
    fn unmute<'a>(
        &'a self,
        _: &'a AppName,
        _: CheckName,
        why: Option<String>,
        _: Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done(
            &why.map_or("unmute".to_owned(), |why| format!("unmute: {why}")),
            (),
        )
    }
    fn close_incident(
        &self,
        _: IncidentId,
        _: String,
        _: Person,
    ) -> BoxFuture<'_, Result<(), OpError>> {
        self.done("close_incident", ())
    }
    fn hold<'a>(
        &'a self,
        scope: Scope,
        _: String,
        length: Option<Duration>,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<HoldId, OpError>> {
        self.done(
            &format!("hold {} {length:?}", scope.to_text()),
            HoldId::from_raw(3),
        )
    }
    fn resume<'a>(
        &'a self,
        scope: &'a Scope,
        undo: bool,
        _: String,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<usize, OpError>> {
        self.done(&format!("resume {} undo={undo}", scope.to_text()), 1)
    }
    fn set_mode<'a>(
        &'a self,
        app: Option<AppName>,
        mode: HealingMode,
        _: String,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<Vec<AppName>, OpError>> {
        self.done(
            &format!("mode {app:?} {mode}"),
            vec!["blog".parse().unwrap()],
        )
    }
    fn clear_mode<'a>(
        &'a self,
        app: Option<AppName>,
        _: String,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done(&format!("mode {app:?} cleared"), ())
    }
    fn adopt<'a>(
        &'a self,
        _: &'a HostName,
        _: String,
        _: &'a Person,
    ) -> BoxFuture<'a, Result<(), OpError>> {
        self.done("adopt", ())
    }
}

macro_rules! rows {
    ($(fn $name:ident($($arg:ty),*) -> $out:ty = $value:expr;)*) => {$(
        rows!(@one $name ($($arg),*) $out, $value);
    )*};
    (@one $name:ident () $out:ty, $value:expr) => {
        fn $name(&self) -> BoxFuture<'_, Result<$out, StoreError>> { Box::pin(async { Ok($value) }) }
    };
    (@one $name:ident ($arg:ty) $out:ty, $value:expr) => {
        fn $name(&self, _: $arg) -> BoxFuture<'_, Result<$out, StoreError>> { Box::pin(async { Ok($value) }) }
    };
}

impl Store for Double {
    rows! {
        fn apply(Changes) -> () = ();
        fn restart() -> Restart = Restart::default();
        fn heal_events(HealId) -> Vec<(Moment, Event)> = vec![(moment(), Event::SymptomGone)];
        fn heals(Query) -> Vec<Heal> = Vec::new();
        fn incident(IncidentId) -> Option<Incident> = None;
        fn incidents(Query) -> Vec<Incident> = Vec::new();
        fn approval(ApprovalId) -> Option<Approval> = None;
        fn approvals(Query) -> Vec<Approval> = Vec::new();
        fn backups(Query) -> Vec<BackupRow> = Vec::new();
        fn audit_head() -> Option<(i64, String)> = Some((4, "ab".to_owned()));
        fn touch() -> () = ();
    }

    fn heal(&self, _: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        Box::pin(async { Ok(self.heal.lock().unwrap().clone()) })
    }
    fn guard_rows<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        Box::pin(async { Ok(GuardRows::default()) })
    }
    fn breaker_history<'a>(
        &'a self,
        _: &'a AppName,
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn audit(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        let rows = self.audit.lock().unwrap().clone();
        let shown = rows
            .into_iter()
            .filter(move |row| row.seq > after)
            .take(limit as usize)
            .collect();
        Box::pin(async { Ok(shown) })
    }
    fn outbox<'a>(&'a self, _: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
