//! Answers of a daemon that never was, for the tests of what is shown.

use std::collections::BTreeMap;

use serde_json::json;

use crate::control::wire::{
    ApplicationSummary, Approval, AuditHead, Caller, CannotHeal, CheckResult, EvidenceLine, Heal,
    HealDetails, Hold, Incident, JournalLine, ModeOverride, Plan, PlanItem, Status,
};
use crate::model::approval::ApprovalState;
use crate::model::breaker::BreakerState;
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::word::{
    About, Category, HealingMode, MatchKind, Risk, Severity, Status as CheckStatus,
};

const HEAL: &str = "01jd8a000000000000000000ab";
const INCIDENT: &str = "01jd8a000000000000000000aa";

pub(super) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        uptime_seconds: 93_784,
        observing: Some("the machine id changed".to_owned()),
        applications: 3,
        health: BTreeMap::from([
            ("DOWN".to_owned(), 1),
            ("HEALTHY".to_owned(), 2),
            ("HEALING".to_owned(), 0),
        ]),
        applications_held: 1,
        incidents_open: 1,
        heals_running: 1,
        breakers_open: vec!["shop".to_owned()],
        approvals_pending: 1,
        holds: vec![Hold {
            id: "01jd8a000000000000000000hh".to_owned(),
            scope: "app:blog".to_owned(),
            owner: "ann(1000)".to_owned(),
            reason: "moving the database\n\u{1b}[31m".to_owned(),
            since: "2026-11-24T02:00:00Z".to_owned(),
            until: None,
        }],
        modes: vec![ModeOverride {
            application_id: None,
            healing_mode: HealingMode::Manual,
            owner: "ann(1000)".to_owned(),
            reason: "audit week".to_owned(),
            since: "2026-11-24T01:00:00Z".to_owned(),
        }],
        audit_head: Some(AuditHead {
            seq: 7,
            hash: "ab".repeat(32),
        }),
        caller: Caller {
            uid: 0,
            name: "root".to_owned(),
            role: Some("admin".to_owned()),
        },
    }
}

pub(super) fn apps() -> Vec<ApplicationSummary> {
    let app = |name: &str, health: &str, bad: &[&str]| ApplicationSummary {
        application_id: name.to_owned(),
        host: "local".to_owned(),
        stack: "php".to_owned(),
        health: health.to_owned(),
        held: (name == "blog").then(|| status().holds.remove(0)),
        healing_mode: HealingMode::SemiAuto,
        mode_origin: "configured".to_owned(),
        circuit_breaker_state: BreakerState::Closed,
        circuit_breaker_forced: None,
        bad: bad.iter().map(|name| (*name).to_owned()).collect(),
        incidents_open: bad.len() as u64,
        heals: Vec::new(),
        looked: Some("2026-11-24T03:00:00Z".to_owned()),
        unseen: None,
    };
    vec![
        app("blog", "HEALTHY", &[]),
        app("shop", "DOWN", &["http_origin", "file_permissions"]),
        app("wiki", "HEALTHY", &[]),
    ]
}

pub(super) fn incident() -> Incident {
    Incident {
        incident_id: INCIDENT.to_owned(),
        application_id: "shop".to_owned(),
        check_name: Some("file_permissions".to_owned()),
        kind: IncidentKind::ALL[0],
        state: IncidentState::ALL[0],
        status: CheckStatus::Fail,
        severity: Severity::High,
        message: "everybody can write: config.php".to_owned(),
        opened: "2026-11-24T02:58:00Z".to_owned(),
        persisted_seconds: 125,
        tried: vec!["fix_permissions".to_owned()],
        heals: vec![HEAL.to_owned()],
        next: Some("fix_permissions at 03:17, dwell 2/3".to_owned()),
        well_since: None,
        closed_by: None,
    }
}

pub(super) fn heal() -> Heal {
    Heal {
        application_id: "shop".to_owned(),
        action_name: "fix_permissions".to_owned(),
        subdomain: None,
        success: None,
        message: "It is being verified.".to_owned(),
        details: HealDetails {
            host: "local".to_owned(),
            origin: "requested".to_owned(),
            person: Some("ann(1000)".to_owned()),
            approval_id: None,
            incident_id: INCIDENT.to_owned(),
            checks: vec!["file_permissions".to_owned()],
            trial: false,
            admitted: "2026-11-24T03:00:00Z".to_owned(),
            moved: "2026-11-24T03:00:05Z".to_owned(),
            ended: false,
            waits_for_person: false,
            held: None,
            waits_for: None,
            outcome: Some("done".to_owned()),
            reason: None,
            undo: None,
            journal: vec![JournalLine {
                at: "2026-11-24T03:00:00Z".to_owned(),
                event: "Admitted".to_owned(),
                detail: None,
            }],
        },
        risk_level: Risk::Medium,
        healing_mode: HealingMode::SemiAuto,
        backup_id: Some("01jd8a000000000000000000bb".to_owned()),
        circuit_breaker_state: BreakerState::Closed,
        heal_id: HEAL.to_owned(),
        state: "Verifying".to_owned(),
    }
}

pub(super) fn approval() -> Approval {
    Approval {
        approval_id: "01jd8a000000000000000000pp".to_owned(),
        application_id: "shop".to_owned(),
        host: "local".to_owned(),
        action_name: "restore_env".to_owned(),
        risk_level: Risk::High,
        healing_mode: HealingMode::SemiAuto,
        params: BTreeMap::from([("path".to_owned(), json!(".env"))]),
        digest: "cd".repeat(32),
        state: ApprovalState::ALL[0],
        requester: "healerd".to_owned(),
        reason: "declared remedy of env_complete; HIGH always asks".to_owned(),
        matched: MatchKind::ALL[0],
        checks: vec!["env_complete".to_owned()],
        evidence: vec![EvidenceLine {
            check_name: "env_complete".to_owned(),
            status: CheckStatus::Fail,
            rule: Some(1),
        }],
        rules: vec!["always_ask: restore_env".to_owned()],
        steps: vec!["put .env from known-good".to_owned()],
        write_set: vec![".env".to_owned()],
        roots: vec!["/srv/shop".to_owned()],
        puts_back: vec![
            "from the known-good snapshot 01jd8a000000000000000000bb of 2026-11-23T03:00:00Z".to_owned(),
            ".env: 310 bytes in place of 0 bytes, mode 0644 → 0640; comes back: APP_KEY DB_PASSWORD".to_owned(),
        ],
        created: "2026-11-24T03:00:00Z".to_owned(),
        expires: "2026-11-25T03:00:00Z".to_owned(),
        granted: None,
        votes: Vec::new(),
        votes_needed: 1,
        waits_for: None,
        incident_id: Some(INCIDENT.to_owned()),
        heal_id: None,
        ended: None,
    }
}

pub(super) fn results() -> Vec<CheckResult> {
    let result = |name: &str, status: CheckStatus, message: &str| CheckResult {
        check_name: name.to_owned(),
        category: Category::ALL[1],
        status,
        severity: Severity::High,
        message: message.to_owned(),
        details: json!({"modes": {"too_open": ["config.php"], "truncated": false}}),
        suggested_fix: Some("Take the write permission of others away".to_owned()),
        execution_time: 12,
        about: About::ALL[0],
        availability: false,
    };
    vec![
        result("disk", CheckStatus::Pass, ""),
        result(
            "file_permissions",
            CheckStatus::Fail,
            "everybody can write: config.php",
        ),
        result(
            "npm_audit",
            CheckStatus::Error,
            "the registry did not answer",
        ),
        result(
            "error_log_check",
            CheckStatus::Warn,
            "the error log has grown to 120 MiB",
        ),
    ]
}

pub(super) fn plan() -> Plan {
    let item = |action: &str, risk: Risk| PlanItem {
        action_name: action.to_owned(),
        params: BTreeMap::new(),
        risk_level: risk,
        matched: MatchKind::ALL[0],
        checks: vec!["file_permissions".to_owned()],
        status: CheckStatus::Fail,
        severity: Severity::High,
        unavailable: false,
        reason: "declared remedy".to_owned(),
        alternatives: Vec::new(),
        write_set: vec!["config.php".to_owned()],
        estimated_seconds: 2,
    };
    Plan {
        auto_heal: vec![item("fix_permissions", Risk::Low)],
        require_approval: vec![item("restore_env", Risk::High)],
        cannot_heal: vec![CannotHeal {
            check_name: "tls".to_owned(),
            category: None,
            status: CheckStatus::Warn,
            severity: None,
            message: None,
            suggested_fix: None,
            reason: "no action answers it".to_owned(),
        }],
        summary: "Auto-heal (1): fix_permissions | Require approval (1): restore_env | Cannot heal (1): tls".to_owned(),
        not_looked: None,
        stops: Vec::new(),
    }
}
