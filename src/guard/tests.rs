//! Every guard by name: what it admits, what it denies, that it denies what it was not told, and for whom it speaks.

use std::time::Duration;

use super::approval::{enough_votes, execution_expired};
use super::bar::OUTSIDE;
use super::mode::{Modes, effective};
use super::*;
use crate::model::app::Schedule;
use crate::model::approval::{Approval, ApprovalState, Bound, Person, Requester, Vote};
use crate::model::breaker::{Breaker, BreakerState, Forced, ForcedState};
use crate::model::check::{CheckResult, Evidence};
use crate::model::id::{ApprovalId, HoldId, IncidentId};
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::ledger::{Bar, Lease, StartRow};
use crate::model::policy::Policy;
use crate::model::stop::{Hold, ModeOverride, Scope};
use crate::model::word::{About, Category, Risk, Severity, Status};

/// Everything that a question to the guards rests on, owned, so that a row changes one thing of it.
struct Case {
    app: App,
    heal: HealId,
    origin: Origin,
    action: ResolvedAction,
    matched: MatchKind,
    checks: Vec<CheckName>,
    incident: Incident,
    trial: bool,
    mode: HealingMode,
    rows: GuardRows,
    look: Option<(Round, Moment)>,
    room: Option<Room>,
    host: Option<HostFacts>,
    deployed: Option<Moment>,
    preconditions: Option<bool>,
    now: Moment,
}

fn at(seconds: i64) -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: seconds * 1000,
        wall_ms: 1_800_000_000_000 + seconds * 1000,
    }
}

/// The present of every case, two days after the boot.
const NOW: i64 = 172_800;

fn heal_id(number: u128) -> HealId {
    HealId::from_raw(number)
}

fn person(uid: u32) -> Person {
    Person {
        uid,
        name: format!("person{uid}"),
    }
}

fn result(status: Status) -> CheckResult {
    CheckResult {
        check: "cache".parse().unwrap(),
        category: Category::System,
        status,
        severity: Severity::High,
        message: "bad".to_owned(),
        suggested_fix: None,
        execution_ms: 1,
        rule: Some(0),
        about: About::App,
        availability: false,
        facts: std::collections::BTreeMap::new(),
    }
}

fn round(status: Status) -> Round {
    Round {
        results: vec![result(status)],
        roots: vec!["/srv/shop".to_owned()],
    }
}

fn action(risk: Risk) -> ResolvedAction {
    ResolvedAction {
        name: "clear_cache".parse().unwrap(),
        version: "v1".to_owned(),
        params: std::collections::BTreeMap::new(),
        risk,
        identity: crate::model::action::Identity::App,
        steps: Vec::new(),
        finally: Vec::new(),
        writes: vec![healer_agent::protocol::WriteMember {
            pattern: crate::model::Pattern::parse("cache/**").unwrap(),
            what: healer_agent::protocol::WriteKind::Content,
            shared: false,
        }],
        restarts: false,
        scratch: Vec::new(),
        timeout: Duration::from_mins(1),
        settle: Duration::from_secs(30),
        proves: vec!["cache".parse().unwrap()],
        known_good: Vec::new(),
        raises: Vec::new(),
        estimate_bytes: 0,
        estimate: Duration::from_secs(1),
    }
}

impl Case {
    /// One that every guard admits: a LOW action for a symptom that has lasted.
    fn new() -> Self {
        let incident = Incident {
            id: IncidentId::from_raw(1),
            app: "shop".parse().unwrap(),
            check: Some("cache".parse().unwrap()),
            kind: IncidentKind::Symptom,
            state: IncidentState::Open,
            status: Status::Fail,
            severity: Severity::High,
            message: "bad".to_owned(),
            opened: at(NOW - 200),
            looks: 3,
            persisted_ms: 180_000,
            last_bad: Some(at(NOW)),
            tried: Vec::new(),
            heals: Vec::new(),
            well_since: None,
            cured_by: None,
            told: None,
            closed_by: None,
        };
        Self {
            app: App {
                name: "shop".parse().unwrap(),
                host: "web1".parse().unwrap(),
                stack: "php".parse().unwrap(),
                target: healer_agent::protocol::Target {
                    root: "/srv/shop".to_owned(),
                    roots: vec![],
                    uid: 1001,
                    gid: 1002,
                    volatile: vec![],
                },
                user: "shop".to_owned(),
                url: None,
                origin: None,
                vars: std::collections::BTreeMap::new(),
                schedule: Schedule::Every(Duration::from_mins(1)),
                policy: Policy::default(),
            },
            heal: heal_id(7),
            origin: Origin::Unattended,
            action: action(Risk::Low),
            matched: MatchKind::Declared,
            checks: vec!["cache".parse().unwrap()],
            incident,
            trial: false,
            mode: HealingMode::FullAuto,
            rows: GuardRows {
                breaker: Some(Breaker::new("shop".parse().unwrap())),
                ..GuardRows::default()
            },
            look: Some((round(Status::Fail), at(NOW))),
            room: Some(Room {
                vault_free: 1 << 40,
                target_free: 1 << 40,
                estimate: 0,
            }),
            host: Some(HostFacts {
                machine_id: "m1".to_owned(),
                adopted_machine_id: Some("m1".to_owned()),
                uptime: Duration::from_hours(48),
            }),
            deployed: None,
            preconditions: Some(true),
            now: at(NOW),
        }
    }

    fn approved(risk: Risk) -> Self {
        let mut case = Self::new();
        case.action = action(risk);
        let approval = case.approval();
        case.origin = Origin::Approved(approval.id);
        case.rows.approvals.push(approval);
        case
    }

    fn approval(&self) -> Approval {
        let bound = Bound {
            app: self.app.name.clone(),
            host: self.app.host.clone(),
            machine_id: "m1".to_owned(),
            roots: vec!["/srv/shop".to_owned()],
            action: self.action.clone(),
            matched: MatchKind::Declared,
            mode: HealingMode::FullAuto,
            rules: Vec::new(),
            evidence: round(Status::Fail).evidence(),
            write_set: vec!["cache/**".to_owned()],
            known_good: Vec::new(),
            requester: Requester::Daemon,
            expires_wall_ms: 0,
        };
        let vote = |uid| Vote {
            person: person(uid),
            approve: true,
            reason: "looked at it".to_owned(),
            at: at(NOW),
        };
        Approval {
            id: ApprovalId::from_raw(3),
            digest: bound.digest(),
            bound,
            state: ApprovalState::Granted,
            created: at(NOW - 60),
            decide_within_ms: 86_400_000,
            votes: vec![vote(1), vote(2)],
            granted: Some(at(NOW - 10)),
            paused_ms: 0,
            execute_within_ms: 3_600_000,
            incident: Some(self.incident.id),
            checks: self.checks.clone(),
            reason: "declared".to_owned(),
            shows: Vec::new(),
            waits_for: None,
            heal: None,
            ended: None,
            version: 1,
        }
    }

    fn input(&self) -> GuardInput<'_> {
        GuardInput {
            app: &self.app,
            heal: self.heal,
            origin: &self.origin,
            action: &self.action,
            matched: self.matched,
            checks: &self.checks,
            incident: &self.incident,
            trial: self.trial,
            mode: self.mode,
            rows: &self.rows,
            look: self.look.as_ref().map(|(round, at)| (round, at)),
            room: self.room,
            host: self.host.clone(),
            deployed: self.deployed.as_ref(),
            preconditions: self.preconditions,
            now: &self.now,
        }
    }

    fn denials(&self) -> Vec<GuardName> {
        match ask(&self.input()) {
            Ok(permit) => {
                assert_eq!(permit.heal(), self.heal);
                Vec::new()
            }
            Err(denied) => denied.0.iter().map(|denial| denial.guard).collect(),
        }
    }

    fn hold(&mut self, scope: Scope) {
        self.rows.holds.push(Hold {
            id: HoldId::from_raw(1),
            scope,
            owner: "ann(1)".to_owned(),
            reason: "deploy".to_owned(),
            since: at(0),
            for_ms: None,
        });
    }

    fn bar(&mut self, cause: &str, evidence: &Evidence, version: &str) {
        self.rows.bars.push(Bar {
            app: self.app.name.clone(),
            action: self.action.name.clone(),
            version: version.to_owned(),
            cause: cause.to_owned(),
            evidence: serde_json::to_string(evidence).unwrap(),
            at: at(0),
        });
    }

    fn start(&mut self, app: &str, host: &str, seconds_ago: i64, count: usize) {
        for number in 0..count {
            self.rows.starts.push(StartRow {
                heal: heal_id(1000 + number as u128),
                app: app.parse().unwrap(),
                host: host.parse().unwrap(),
                action: "clear_cache".parse().unwrap(),
                at: at(NOW - seconds_ago),
                unattended: true,
            });
        }
    }

    fn lease(&mut self, key: &str, heal: u128) {
        self.rows.leases.push(Lease {
            key: key.to_owned(),
            heal: heal_id(heal),
            since: at(NOW),
        });
    }

    fn cured(&mut self, action: &str, seconds_ago: i64) {
        self.rows
            .cures
            .push((action.parse().unwrap(), at(NOW - seconds_ago)));
    }
}

/// What makes a case another one.
type Change = fn(&mut Case);

/// A row: what is changed, and the guards that must deny then.
type Row = (&'static str, Change, &'static [GuardName]);

fn check(rows: &[Row]) {
    for (name, change, want) in rows {
        let mut case = Case::new();
        change(&mut case);
        assert_eq!(case.denials(), *want, "{name}");
    }
}

use GuardName as G;

#[test]
fn a_sound_case_is_admitted() {
    check(&[("nothing is in the way", |_| {}, &[])]);
}

#[test]
fn every_guard_denies_what_it_was_not_told() {
    check(&[
        (
            "the breaker",
            |case| case.rows.breaker = None,
            &[G::Breaker],
        ),
        (
            "preconditions",
            |case| case.preconditions = None,
            &[G::Preconditions],
        ),
        (
            "which host, and since when it is up",
            |case| case.host = None,
            &[G::HostIdentity, G::Grace],
        ),
        (
            "which machine was adopted",
            |case| case.host.as_mut().unwrap().adopted_machine_id = None,
            &[G::HostIdentity],
        ),
        (
            "a machine without a name",
            |case| {
                let host = case.host.as_mut().unwrap();
                host.machine_id = String::new();
                host.adopted_machine_id = Some(String::new());
            },
            &[G::HostIdentity],
        ),
        ("a look", |case| case.look = None, &[G::Freshness]),
        ("room", |case| case.room = None, &[G::Room]),
        (
            "the approval",
            |case| case.origin = Origin::Approved(ApprovalId::from_raw(99)),
            &[G::Approval],
        ),
        (
            "with a bar, on what evidence",
            |case| {
                case.bar("undone", &round(Status::Fail).evidence(), "v1");
                case.look = None;
            },
            &[G::Freshness, G::Bar],
        ),
    ]);
}

/// For each guard one case that it alone denies: whoever takes it out of the list fails here.
const ALONE: &[(GuardName, Change)] = &[
    (G::Hold, |case| case.hold(Scope::Everything)),
    (G::Breaker, |case| {
        case.rows.breaker.as_mut().unwrap().state = BreakerState::Open;
    }),
    (G::Mode, |case| case.mode = HealingMode::Manual),
    (G::Approval, |case| {
        *case = Case::approved(Risk::High);
        case.rows.approvals[0].state = ApprovalState::Pending;
    }),
    (G::Preconditions, |case| case.preconditions = Some(false)),
    (G::HostIdentity, |case| {
        case.host.as_mut().unwrap().machine_id = "m2".to_owned();
    }),
    (G::Freshness, |case| {
        case.look = Some((round(Status::Pass), at(NOW)));
    }),
    (G::Room, |case| case.room.as_mut().unwrap().target_free = 1),
    (G::Lease, |case| case.lease("app:shop", 8)),
    (G::Dwell, |case| case.incident.looks = 2),
    (G::Grace, |case| case.deployed = Some(at(NOW - 1))),
    (G::OneTry, |case| {
        case.incident.tried = vec!["clear_cache".parse().unwrap()];
    }),
    (G::Bar, |case| {
        case.bar("undone", &round(Status::Fail).evidence(), "v1");
    }),
    (G::Pause, |case| case.cured("other", 1)),
    (G::Rate, |case| case.start("shop", "web1", 10, 6)),
];

#[test]
fn no_guard_can_be_taken_out_unnoticed() {
    for (guard, change) in ALONE {
        let mut case = Case::new();
        change(&mut case);
        assert_eq!(case.denials(), [*guard]);
    }
    let listed: Vec<_> = names().collect();
    let alone: Vec<_> = ALONE.iter().map(|(guard, _)| *guard).collect();
    assert_eq!(
        listed, alone,
        "each guard has its case, in the order of the list"
    );
}

#[test]
fn all_denials_are_told_and_the_first_of_them_is_shown() {
    let mut case = Case::new();
    for (guard, change) in ALONE {
        // These two put another case in place, or take the evidence of the bar away.
        if !matches!(guard, G::Approval | G::Freshness) {
            change(&mut case);
        }
    }
    let denied = ask(&case.input()).unwrap_err();
    assert_eq!(denied.0.len(), ALONE.len() - 2);
    assert_eq!(denied.guard(), G::Hold);
    assert_eq!(
        denied.shown(),
        "Held by ann(1) (all): deploy. `healerctl resume all` lifts it."
    );
}

/// Guards that speak for an origin: found by making every case its own.
fn speaking_for(origin: fn(&mut Case) -> Origin) -> Vec<GuardName> {
    ALONE
        .iter()
        .filter(|(guard, _)| *guard != G::Approval)
        .filter(|(guard, change)| {
            let mut case = Case::new();
            case.origin = origin(&mut case);
            change(&mut case);
            case.denials().contains(guard)
        })
        .map(|(guard, _)| *guard)
        .collect()
}

#[test]
fn a_persons_heal_waits_for_what_holds_for_everybody() {
    assert_eq!(
        speaking_for(|_| Origin::Requested(person(1))),
        [
            G::Breaker,
            G::Preconditions,
            G::HostIdentity,
            G::Freshness,
            G::Room,
            G::Lease
        ]
    );
}

#[test]
fn an_approved_proposal_waits_for_a_hold_too_but_not_for_dwell_grace_rate_or_pause() {
    assert_eq!(
        speaking_for(|case| {
            let approval = case.approval();
            let id = approval.id;
            case.rows.approvals.push(approval);
            Origin::Approved(id)
        }),
        [
            G::Hold,
            G::Breaker,
            G::Preconditions,
            G::HostIdentity,
            G::Freshness,
            G::Room,
            G::Lease
        ]
    );
}

#[test]
fn a_rollback_needs_only_lease_room_and_host_identity() {
    assert_eq!(
        speaking_for(|_| Origin::Rollback {
            person: person(1),
            backup: BackupId::from_raw(1),
            exact: false,
            only: Vec::new(),
            digest: None,
        }),
        [G::HostIdentity, G::Room, G::Lease]
    );
}

#[test]
fn hold_covers_its_scope_and_nothing_else() {
    let scope = |text| Scope::parse(text).unwrap();
    for (name, held, want) in [
        ("everything", "all", vec![G::Hold]),
        ("its host", "host:web1", vec![G::Hold]),
        ("itself", "app:shop", vec![G::Hold]),
        ("another host", "host:web2", vec![]),
        ("another app", "app:blog", vec![]),
    ] {
        let mut case = Case::new();
        case.hold(scope(held));
        assert_eq!(case.denials(), want, "{name}");
    }
}

#[test]
fn mode_and_risk_and_match_decide_what_runs_alone() {
    check(&[
        (
            "MANUAL and LOW",
            |case| case.mode = HealingMode::Manual,
            &[G::Mode],
        ),
        (
            "SEMI_AUTO and LOW",
            |case| case.mode = HealingMode::SemiAuto,
            &[],
        ),
        (
            "SEMI_AUTO and MEDIUM",
            |case| {
                case.mode = HealingMode::SemiAuto;
                case.action.risk = Risk::Medium;
            },
            &[G::Mode],
        ),
        (
            "FULL_AUTO and MEDIUM",
            |case| case.action.risk = Risk::Medium,
            &[],
        ),
        (
            "FULL_AUTO and HIGH",
            |case| case.action.risk = Risk::High,
            &[G::Mode, G::Approval],
        ),
        (
            "FULL_AUTO and CRITICAL",
            |case| case.action.risk = Risk::Critical,
            &[G::Mode, G::Approval],
        ),
        ("exact", |case| case.matched = MatchKind::Exact, &[]),
        (
            "suggested",
            |case| case.matched = MatchKind::Suggested,
            &[G::Mode],
        ),
        (
            "category",
            |case| case.matched = MatchKind::Category,
            &[G::Mode],
        ),
        (
            "suggested, which the operator allows",
            |case| {
                case.matched = MatchKind::Suggested;
                case.app
                    .policy
                    .unattended_matches
                    .push(MatchKind::Suggested);
            },
            &[],
        ),
        (
            "always asks",
            |case| case.app.policy.always_ask = vec!["clear_cache".parse().unwrap()],
            &[G::Mode],
        ),
    ]);
}

#[test]
fn a_person_may_ask_for_low_and_medium_in_any_mode_and_for_nothing_higher() {
    for mode in HealingMode::ALL {
        for (risk, want) in [
            (Risk::Low, vec![]),
            (Risk::Medium, vec![]),
            (Risk::High, vec![G::Approval]),
            (Risk::Critical, vec![G::Approval]),
        ] {
            let mut case = Case::new();
            case.mode = *mode;
            case.origin = Origin::Requested(person(1));
            case.action.risk = risk;
            assert_eq!(case.denials(), want, "{mode} {risk}");
        }
    }
}

#[test]
fn an_approval_is_for_exactly_one_action_on_one_target_and_once() {
    let rows: &[(&str, Risk, Change, bool)] = &[
        ("HIGH and granted", Risk::High, |_| {}, true),
        ("CRITICAL and two persons", Risk::Critical, |_| {}, true),
        (
            "CRITICAL and one person",
            Risk::Critical,
            |case| case.rows.approvals[0].votes.truncate(1),
            false,
        ),
        (
            "CRITICAL and one person twice",
            Risk::Critical,
            |case| case.rows.approvals[0].votes[1].person = person(1),
            false,
        ),
        (
            "HIGH and nobody",
            Risk::High,
            |case| case.rows.approvals[0].votes.clear(),
            false,
        ),
        (
            "HIGH and a vote against it",
            Risk::High,
            |case| {
                for vote in &mut case.rows.approvals[0].votes {
                    vote.approve = false;
                }
            },
            false,
        ),
        (
            "used",
            Risk::High,
            |case| case.rows.approvals[0].state = ApprovalState::Used,
            false,
        ),
        (
            "rejected",
            Risk::High,
            |case| case.rows.approvals[0].state = ApprovalState::Rejected,
            false,
        ),
        (
            "expired",
            Risk::High,
            |case| case.rows.approvals[0].state = ApprovalState::Expired,
            false,
        ),
        (
            "stale",
            Risk::High,
            |case| case.rows.approvals[0].state = ApprovalState::Stale,
            false,
        ),
        (
            "another version of the action",
            Risk::High,
            |case| case.action.version = "v2".to_owned(),
            false,
        ),
        (
            "a wider write set",
            Risk::High,
            |case| case.action.writes[0].pattern = crate::model::Pattern::parse("**").unwrap(),
            false,
        ),
        (
            "another app",
            Risk::High,
            |case| case.app.name = "blog".parse().unwrap(),
            false,
        ),
        (
            "another host",
            Risk::High,
            |case| case.app.host = "web2".parse().unwrap(),
            false,
        ),
        (
            "bound words changed in the row",
            Risk::High,
            |case| case.rows.approvals[0].bound.write_set.clear(),
            false,
        ),
        (
            "other evidence",
            Risk::High,
            |case| case.look = Some((round(Status::Warn), at(NOW))),
            false,
        ),
        (
            "another release",
            Risk::High,
            |case| case.look.as_mut().unwrap().0.roots = vec!["/srv/shop/2".to_owned()],
            false,
        ),
        (
            "an hour after it was granted",
            Risk::High,
            |case| case.rows.approvals[0].granted = Some(at(NOW - 3600)),
            false,
        ),
        (
            "a second less than an hour after",
            Risk::High,
            |case| case.rows.approvals[0].granted = Some(at(NOW - 3599)),
            true,
        ),
        (
            "never granted",
            Risk::High,
            |case| case.rows.approvals[0].granted = None,
            false,
        ),
    ];
    for (name, risk, change, admitted) in rows {
        let mut case = Case::approved(*risk);
        change(&mut case);
        let denied = case.denials().contains(&G::Approval);
        assert_eq!(!denied, *admitted, "{name}");
    }
}

#[test]
fn the_time_to_execute_stands_still_while_it_is_paused() {
    let mut approval = Case::approved(Risk::High).rows.approvals.remove(0);
    approval.granted = Some(at(NOW - 4000));
    assert!(execution_expired(&approval, &at(NOW)));
    approval.paused_ms = 401_000;
    assert!(!execution_expired(&approval, &at(NOW)));
    assert!(execution_expired(&approval, &at(NOW + 1)));
}

#[test]
fn the_requester_has_no_vote_unless_one_person_may_do_it_alone() {
    let mut policy = Policy::default().approval;
    for (name, risk, voters, one_person, want) in [
        ("HIGH, by himself", Risk::High, vec![1], false, false),
        ("HIGH, by another", Risk::High, vec![2], false, true),
        ("HIGH, by himself alone", Risk::High, vec![1], true, true),
        (
            "CRITICAL, one other",
            Risk::Critical,
            vec![1, 2],
            false,
            false,
        ),
        (
            "CRITICAL, two others",
            Risk::Critical,
            vec![2, 3],
            false,
            true,
        ),
        (
            "CRITICAL, by himself alone",
            Risk::Critical,
            vec![1],
            true,
            true,
        ),
        ("nobody", Risk::High, vec![], true, false),
    ] {
        let mut approval = Case::approved(risk).rows.approvals.remove(0);
        approval.bound.requester = Requester::Person(person(1));
        let vote = approval.votes[0].clone();
        approval.votes = voters
            .into_iter()
            .map(|uid| Vote {
                person: person(uid),
                ..vote.clone()
            })
            .collect();
        policy.one_person = one_person;
        assert_eq!(enough_votes(&approval, &policy), want, "{name}");
    }
}

#[test]
fn freshness_means_bad_and_just_now() {
    check(&[
        (
            "59 s old",
            |case| case.look = Some((round(Status::Warn), at(NOW - 59))),
            &[],
        ),
        (
            "60 s old",
            |case| case.look = Some((round(Status::Fail), at(NOW - 60))),
            &[G::Freshness],
        ),
        (
            "could not be determined",
            |case| case.look = Some((round(Status::Error), at(NOW))),
            &[G::Freshness],
        ),
        (
            "a request where nothing is bad",
            |case| {
                case.origin = Origin::Requested(person(1));
                case.incident.kind = IncidentKind::Request;
                case.look = Some((round(Status::Pass), at(NOW)));
            },
            &[],
        ),
        (
            "a request with an old look",
            |case| {
                case.origin = Origin::Requested(person(1));
                case.incident.kind = IncidentKind::Request;
                case.look = Some((round(Status::Pass), at(NOW - 60)));
            },
            &[G::Freshness],
        ),
    ]);
}

#[test]
fn room_is_needed_on_both_sides_beyond_the_estimate_and_only_by_what_writes() {
    fn with(vault_free: u64, target_free: u64, estimate: u64) -> Room {
        Room {
            vault_free,
            target_free,
            estimate,
        }
    }
    const NEEDED: u64 = (256 << 20) + 100;
    check(&[
        (
            "just enough",
            |case| case.room = Some(with(NEEDED, NEEDED, 100)),
            &[],
        ),
        (
            "a byte too little here",
            |case| case.room = Some(with(NEEDED - 1, NEEDED, 100)),
            &[G::Room],
        ),
        (
            "a byte too little there",
            |case| case.room = Some(with(NEEDED, NEEDED - 1, 100)),
            &[G::Room],
        ),
        (
            "an estimate beyond all numbers",
            |case| case.room = Some(with(u64::MAX - 1, u64::MAX - 1, u64::MAX)),
            &[G::Room],
        ),
        (
            "nothing is written",
            |case| {
                case.action.writes.clear();
                case.room = None;
            },
            &[],
        ),
    ]);
}

#[test]
fn leases_of_others_deny_and_ones_own_do_not() {
    check(&[
        (
            "another heal has the app",
            |case| case.lease("app:shop", 8),
            &[G::Lease],
        ),
        (
            "another heal has the host",
            |case| case.lease("host:web1", 8),
            &[G::Lease],
        ),
        (
            "it has both itself",
            |case| {
                case.lease("app:shop", 7);
                case.lease("host:web1", 7);
            },
            &[],
        ),
        (
            "another app is healed elsewhere",
            |case| {
                case.lease("app:blog", 8);
                case.lease("host:web2", 8);
            },
            &[],
        ),
    ]);
}

#[test]
fn dwell_wants_time_and_looks_and_less_of_both_when_critical() {
    fn set(case: &mut Case, severity: Severity, persisted_ms: u64, looks: u32) {
        case.incident.severity = severity;
        case.incident.persisted_ms = persisted_ms;
        case.incident.looks = looks;
    }
    check(&[
        (
            "180 s and 3 looks",
            |case| set(case, Severity::High, 180_000, 3),
            &[],
        ),
        (
            "a millisecond less",
            |case| set(case, Severity::High, 179_999, 3),
            &[G::Dwell],
        ),
        (
            "a look less",
            |case| set(case, Severity::Medium, 999_999, 2),
            &[G::Dwell],
        ),
        (
            "critical: 60 s and 2 looks",
            |case| set(case, Severity::Critical, 60_000, 2),
            &[],
        ),
        (
            "critical: a millisecond less",
            |case| set(case, Severity::Critical, 59_999, 2),
            &[G::Dwell],
        ),
        (
            "critical: a look less",
            |case| set(case, Severity::Critical, 60_000, 1),
            &[G::Dwell],
        ),
    ]);
}

#[test]
fn grace_follows_a_boot_and_a_deploy_for_ten_minutes() {
    check(&[
        (
            "599 s after the boot",
            |case| {
                case.host.as_mut().unwrap().uptime = Duration::from_secs(599);
            },
            &[G::Grace],
        ),
        (
            "600 s after the boot",
            |case| {
                case.host.as_mut().unwrap().uptime = Duration::from_mins(10);
            },
            &[],
        ),
        (
            "599 s after a deploy",
            |case| case.deployed = Some(at(NOW - 599)),
            &[G::Grace],
        ),
        (
            "600 s after a deploy",
            |case| case.deployed = Some(at(NOW - 600)),
            &[],
        ),
    ]);
}

#[test]
fn one_try_yields_to_a_trial() {
    check(&[
        (
            "another action was tried",
            |case| {
                case.incident.tried = vec!["other".parse().unwrap()];
            },
            &[],
        ),
        (
            "tried, as the trial",
            |case| {
                case.incident.tried = vec!["clear_cache".parse().unwrap()];
                case.trial = true;
                case.rows.breaker.as_mut().unwrap().state = BreakerState::HalfOpen;
            },
            &[],
        ),
    ]);
}

#[test]
fn what_was_undone_is_barred_until_something_relevant_changes() {
    check(&[
        (
            "on the same evidence",
            |case| {
                case.bar("undone", &round(Status::Fail).evidence(), "v1");
            },
            &[G::Bar],
        ),
        (
            "on other evidence",
            |case| {
                case.bar("undone", &round(Status::Warn).evidence(), "v1");
            },
            &[],
        ),
        (
            "another version of the action",
            |case| {
                case.bar("undone", &round(Status::Fail).evidence(), "v0");
            },
            &[],
        ),
        (
            "the trial",
            |case| {
                case.bar("undone", &round(Status::Fail).evidence(), "v1");
                case.trial = true;
            },
            &[],
        ),
        (
            "wrote outside its write set, other evidence",
            |case| {
                case.bar(OUTSIDE, &Evidence::default(), "v1");
            },
            &[G::Bar],
        ),
        (
            "wrote outside its write set, the trial",
            |case| {
                case.bar(OUTSIDE, &Evidence::default(), "v1");
                case.trial = true;
            },
            &[G::Bar],
        ),
        (
            "wrote outside its write set, the next version",
            |case| {
                case.bar(OUTSIDE, &Evidence::default(), "v0");
            },
            &[],
        ),
    ]);
}

#[test]
fn a_pause_follows_a_good_heal() {
    check(&[
        (
            "another action 299 s ago",
            |case| case.cured("other", 299),
            &[G::Pause],
        ),
        (
            "another action 300 s ago",
            |case| case.cured("other", 300),
            &[],
        ),
        (
            "the same action 1799 s ago",
            |case| case.cured("clear_cache", 1799),
            &[G::Pause],
        ),
        (
            "the same action 1800 s ago",
            |case| case.cured("clear_cache", 1800),
            &[],
        ),
    ]);
}

#[test]
fn rate_counts_the_app_the_host_and_the_daemon_over_a_day() {
    check(&[
        (
            "5 of the app",
            |case| case.start("shop", "web1", 10, 5),
            &[],
        ),
        (
            "6 of the app",
            |case| case.start("shop", "web1", 10, 6),
            &[G::Rate],
        ),
        (
            "6 of the app, a day ago",
            |case| case.start("shop", "web1", 86_400, 6),
            &[],
        ),
        (
            "6 of the app, a second less",
            |case| case.start("shop", "web1", 86_399, 6),
            &[G::Rate],
        ),
        (
            "19 of the host",
            |case| case.start("blog", "web1", 10, 19),
            &[],
        ),
        (
            "20 of the host",
            |case| case.start("blog", "web1", 10, 20),
            &[G::Rate],
        ),
        (
            "59 of the daemon",
            |case| case.start("blog", "web2", 10, 59),
            &[],
        ),
        (
            "60 of the daemon",
            |case| case.start("blog", "web2", 10, 60),
            &[G::Rate],
        ),
        (
            "a person asked for them",
            |case| {
                case.start("shop", "web1", 10, 6);
                for start in &mut case.rows.starts {
                    start.unattended = false;
                }
            },
            &[],
        ),
        (
            "the trial",
            |case| {
                case.start("shop", "web1", 10, 6);
                case.trial = true;
            },
            &[],
        ),
        (
            "itself is not counted",
            |case| {
                case.start("shop", "web1", 10, 6);
                case.rows.starts[0].heal = case.heal;
            },
            &[],
        ),
    ]);
}

#[test]
fn the_breaker_admits_its_own_trial_and_a_forced_one_admits_what_it_says() {
    fn breaker(case: &mut Case) -> &mut Breaker {
        case.rows.breaker.as_mut().unwrap()
    }
    fn trial(case: &mut Case, heal: u128) {
        let now = at(NOW);
        let half_open = Breaker {
            state: BreakerState::HalfOpen,
            ..breaker(case).clone()
        };
        let policy = case.app.policy.breaker.clone();
        *breaker(case) =
            super::breaker::reserve_trial(&half_open, heal_id(heal), &policy, &now).unwrap();
        case.trial = true;
    }
    fn force(case: &mut Case, how: ForcedState) {
        breaker(case).forced = Some(Forced {
            how,
            owner: "ann(1)".to_owned(),
            reason: "migration".to_owned(),
            since: at(NOW),
            for_ms: Some(60_000),
        });
    }
    check(&[
        ("its own trial", |case| trial(case, 7), &[]),
        ("the trial of another", |case| trial(case, 8), &[G::Breaker]),
        (
            "half-open without one",
            |case| breaker(case).state = BreakerState::HalfOpen,
            &[],
        ),
        (
            "forced open",
            |case| force(case, ForcedState::Open),
            &[G::Breaker],
        ),
        (
            "forced open, for a person",
            |case| {
                force(case, ForcedState::Open);
                case.origin = Origin::Requested(person(1));
            },
            &[G::Breaker],
        ),
        (
            "observe only",
            |case| force(case, ForcedState::ObserveOnly),
            &[G::Breaker],
        ),
        (
            "observe only, for a person",
            |case| {
                force(case, ForcedState::ObserveOnly);
                case.origin = Origin::Requested(person(1));
            },
            &[],
        ),
        (
            "the force is over",
            |case| {
                force(case, ForcedState::Open);
                breaker(case).forced.as_mut().unwrap().since = at(NOW - 60);
            },
            &[],
        ),
        (
            "its own trial, forced open meanwhile",
            |case| {
                trial(case, 7);
                force(case, ForcedState::Open);
            },
            &[G::Breaker],
        ),
    ]);
}

#[test]
fn before_admission_only_what_the_last_look_alone_knows_is_left_out() {
    for (guard, change) in ALONE {
        let mut case = Case::new();
        change(&mut case);
        let denied = ask_before_admission(&case.input()).is_err();
        let later = matches!(guard, G::Room | G::Freshness);
        assert_eq!(denied, !later, "{guard}");
    }
}

#[test]
fn a_mode_set_at_run_time_yields_to_a_changed_configuration_and_to_the_ceiling() {
    use HealingMode::{FullAuto, Manual, SemiAuto};

    let modes = |mode, max_mode| Modes {
        mode,
        max_mode,
        is_own: false,
    };
    let said = |mode, max_mode| Modes {
        mode,
        max_mode,
        is_own: true,
    };
    let set = |app: Option<&str>, mode, configured| ModeOverride {
        app: app.map(|app| app.parse().unwrap()),
        mode,
        configured,
        owner: "ann(1)".to_owned(),
        reason: "night".to_owned(),
        since: at(0),
    };
    let own = modes(SemiAuto, FullAuto);
    let global = modes(Manual, FullAuto);
    for (name, own, global, set, want) in [
        ("configured", own, global, vec![], SemiAuto),
        (
            "set for the app",
            own,
            global,
            vec![set(Some("shop"), FullAuto, SemiAuto)],
            FullAuto,
        ),
        (
            "set against another configuration",
            own,
            global,
            vec![set(Some("shop"), FullAuto, Manual)],
            SemiAuto,
        ),
        (
            "set for another app",
            own,
            global,
            vec![set(Some("blog"), FullAuto, SemiAuto)],
            SemiAuto,
        ),
        (
            "set for everything",
            own,
            global,
            vec![set(None, Manual, Manual)],
            Manual,
        ),
        (
            "configured for the app before set for everything",
            said(SemiAuto, FullAuto),
            global,
            vec![set(None, Manual, Manual)],
            SemiAuto,
        ),
        (
            "set for the app before configured for it",
            said(SemiAuto, FullAuto),
            global,
            vec![set(Some("shop"), Manual, SemiAuto)],
            Manual,
        ),
        (
            "the app's before everything's",
            own,
            global,
            vec![
                set(None, Manual, Manual),
                set(Some("shop"), FullAuto, SemiAuto),
            ],
            FullAuto,
        ),
        (
            "never above the app's ceiling",
            modes(SemiAuto, SemiAuto),
            global,
            vec![set(Some("shop"), FullAuto, SemiAuto)],
            SemiAuto,
        ),
        (
            "never above the ceiling of all",
            own,
            modes(Manual, Manual),
            vec![],
            Manual,
        ),
    ] {
        assert_eq!(
            effective(&"shop".parse().unwrap(), own, global, &set).0,
            want,
            "{name}"
        );
    }
}
