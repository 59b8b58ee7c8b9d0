//! What follows from an arrow of a heal, in the same transaction: leases, breaker, incidents, approval, pins, bars,
//! holds, notices.

use serde_json::json;

use super::desk::Desk;
use crate::guard::bar::OUTSIDE;
use crate::guard::breaker;
use crate::model::approval::{Approval, ApprovalState};
use crate::model::breaker::{BreakerState, Failure};
use crate::model::counted;
use crate::model::heal::{AbortCause, Heal, HealState, Origin, UndoReason};
use crate::model::id::{ApprovalId, HealId, HoldId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::ledger::{Bar, Lease};
use crate::model::reason::GuardName;
use crate::model::stop::{Hold, Scope};
use crate::model::time::Moment;
use crate::model::word::Status;
use crate::seam::{Changes, Write};

/// Adds to `changes` everything that `before → after` brings with it.
pub(super) fn settle(
    desk: &Desk,
    before: &Heal,
    after: &Heal,
    changes: Changes,
    now: &Moment,
) -> Changes {
    let (app_lease, host_lease) = desk.lease_keys();
    let take = |key: &str| {
        Write::LeaseTaken(Lease {
            key: key.to_owned(),
            heal: after.id,
            since: now.clone(),
        })
    };
    let give = |key: &str| Write::LeaseReleased {
        key: key.to_owned(),
        heal: after.id,
    };
    match &after.state {
        // Found stale: another backup will be the heal's.
        HealState::Admitted => unpin(before, changes),
        HealState::Protected { .. } | HealState::InDoubt { .. } | HealState::Verifying { .. } => {
            changes
        }
        HealState::Acting { .. } => intent(desk, after, changes.write(take(&host_lease)), now),
        HealState::Settling { .. } => {
            disown_cures(desk, after.id, changes.write(give(&host_lease)))
        }
        HealState::Rechecking { .. } => changes.write(give(&host_lease)),
        HealState::Soaking { .. } => {
            // While the app is still down, the next remedy need not wait for the soak of this one.
            let down = desk.look.as_ref().is_some_and(|look| {
                look.round
                    .results
                    .iter()
                    .any(|result| result.availability && result.status == Status::Fail)
            });
            if down {
                changes.write(give(&app_lease))
            } else {
                changes
            }
        }
        HealState::Undoing { .. } => changes.write(take(&host_lease)),
        HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::Undone { .. }
        | HealState::UndoBlocked { .. }
        | HealState::UndoFailed { .. }
        | HealState::Aborted { .. } => end(
            desk,
            before,
            after,
            changes.write(give(&app_lease)).write(give(&host_lease)),
            now,
        ),
    }
}

/// The intent: the trial is confirmed, the approval used, the try counted.
fn intent(desk: &Desk, heal: &Heal, mut changes: Changes, now: &Moment) -> Changes {
    if heal.trial
        && let Some(breaker) = breaker::confirm_trial(&desk.breaker, heal.id)
    {
        changes = changes.write(Write::Breaker {
            breaker: Box::new(breaker),
            transitions: Vec::new(),
        });
    }
    if let Origin::Approved(id) = heal.origin
        && let Some(approval) = desk.approval(id)
    {
        let used = Approval {
            state: ApprovalState::Used,
            heal: Some(heal.id),
            ended: Some(now.clone()),
            waits_for: None,
            ..approval.clone()
        };
        changes = changes.write(Write::Approval(Box::new(used)));
    }
    for incident in incidents(desk, heal) {
        let mut tried = incident.clone();
        if !tried.tried.contains(&heal.action.name) {
            tried.tried.push(heal.action.name.clone());
        }
        changes = changes.write(Write::Incident {
            incident: Box::new(tried),
            note: format!("{} starts (heal {})", heal.action.name, heal.id),
        });
    }
    changes
}

/// A person has gone back behind cures: should their symptoms return, no cure has failed, and what cured is not tried
/// again by itself.
fn disown_cures(desk: &Desk, rollback: HealId, mut changes: Changes) -> Changes {
    let Some(heals) = desk.disowned.get(&rollback) else {
        return changes;
    };
    let disowned = desk
        .incidents
        .iter()
        .filter(|incident| incident.state == IncidentState::Watching)
        .filter(|incident| {
            let cured_by = incident.cured_by.as_ref();
            cured_by.is_some_and(|heal| heals.contains(heal))
        });
    for incident in disowned {
        changes = changes.write(Write::Incident {
            incident: Box::new(Incident {
                cured_by: None,
                ..incident.clone()
            }),
            note: "a person takes the cure back".to_owned(),
        });
    }
    match breaker::disown(&desk.breaker, heals) {
        Some(breaker) => changes.write(Write::Breaker {
            breaker: Box::new(breaker),
            transitions: Vec::new(),
        }),
        None => changes,
    }
}

fn incidents<'a>(desk: &'a Desk, heal: &'a Heal) -> impl Iterator<Item = &'a Incident> {
    desk.incidents
        .iter()
        .filter(|incident| incident.id == heal.incident || heal.linked.contains(&incident.id))
}

/// The end of a heal.
fn end(desk: &Desk, before: &Heal, heal: &Heal, mut changes: Changes, now: &Moment) -> Changes {
    if before.state.is_end() {
        return changes; // a person decided about an end; it was accounted for already
    }
    if let (Origin::Approved(id), HealState::Aborted { cause }) = (&heal.origin, &heal.state) {
        changes = end_approval(desk, *id, cause, changes, now);
    }
    changes = feed_breaker(desk, heal, changes, now);
    changes = move_incidents(desk, before, heal, changes, now);
    if let HealState::Undone { reason, .. }
    | HealState::UndoFailed { reason, .. }
    | HealState::UndoBlocked { reason, .. } = &heal.state
    {
        let cause = if matches!(reason, UndoReason::OutsideWriteSet(_)) {
            OUTSIDE
        } else {
            "undone"
        };
        changes = changes.write(Write::Bar(Bar {
            app: heal.app.clone(),
            action: heal.action.name.clone(),
            version: heal.action.version.clone(),
            cause: cause.to_owned(),
            evidence: serde_json::to_string(&heal.evidence.about(&heal.checks)).unwrap_or_default(),
            at: now.clone(),
        }));
    }
    if let HealState::UndoFailed { report, .. } = &heal.state {
        let reason = format!(
            "undo of {} failed for {}; see heal {}",
            heal.action.name,
            counted(report.failed.len() as u64, "path"),
            heal.id
        );
        let hold = Hold {
            id: HoldId::from_raw(desk.world.new_id()),
            scope: Scope::App(heal.app.clone()),
            owner: "healerd".to_owned(),
            reason: reason.clone(),
            since: now.clone(),
            for_ms: None,
        };
        changes = changes.write(Write::Hold(hold)).audit(
            "held",
            &desk.object(),
            json!({"reason": reason}),
        );
    }
    // A person who must still decide needs the backup; otherwise age and count rule from here on.
    let needed = matches!(
        heal.state,
        HealState::Kept { .. } | HealState::UndoBlocked { .. } | HealState::UndoFailed { .. }
    );
    if !needed {
        changes = unpin(before, changes);
    }
    notices(desk, heal, changes, now)
}

/// What was approved and cannot run any more is not tried again and again: the approval is stale. A lease, a hold or an
/// open breaker only delays it.
fn end_approval(
    desk: &Desk,
    id: ApprovalId,
    cause: &AbortCause,
    changes: Changes,
    now: &Moment,
) -> Changes {
    let stale = match cause {
        AbortCause::SymptomGone | AbortCause::TargetChanged(_) => true,
        AbortCause::Denied { guard, .. } => !matches!(
            guard,
            GuardName::Lease
                | GuardName::Hold
                | GuardName::Breaker
                | GuardName::Room
                | GuardName::HostIdentity
        ),
        AbortCause::BackupFailed(_) | AbortCause::NeverRan(_) => false,
    };
    let granted = desk
        .approval(id)
        .filter(|approval| approval.state == ApprovalState::Granted);
    match granted {
        Some(approval) if stale => {
            let ended = Approval {
                state: ApprovalState::Stale,
                ended: Some(now.clone()),
                waits_for: None,
                ..approval.clone()
            };
            let detail = json!({"why": "what was approved cannot run any more"});
            changes.write(Write::Approval(Box::new(ended))).audit(
                "approval_stale",
                &format!("approval:{id}"),
                detail,
            )
        }
        Some(_) | None => changes,
    }
}

/// Gives up the backup that a heal had in this state; an aborted heal's own state names none any more.
fn unpin(heal: &Heal, changes: Changes) -> Changes {
    match heal.state.backup() {
        Some(backup) => changes.write(Write::Pin {
            backup,
            by: format!("heal:{}", heal.id),
            pinned: false,
        }),
        None => changes,
    }
}

fn feed_breaker(desk: &Desk, heal: &Heal, changes: Changes, now: &Moment) -> Changes {
    let policy = &desk.app.policy.breaker;
    let by = desk.by(Some(heal.id), now);
    // A person's rollback neither asks nor feeds the breaker.
    if matches!(heal.origin, Origin::Rollback { .. }) {
        return changes;
    }
    let watching_only = breaker::forced(&desk.breaker, now)
        == Some(crate::model::breaker::ForcedState::ObserveOnly);
    let step = if heal.state.is_failure() && !watching_only {
        let failure = Failure {
            heal: heal.id,
            action: heal.action.name.clone(),
            at: now.clone(),
            recurred: false,
        };
        Some(breaker::fail(&desk.breaker, failure, policy, by))
    } else if matches!(heal.state, HealState::Cured { .. }) {
        Some(breaker::cure(
            &desk.breaker,
            heal.id,
            &heal.action.name,
            heal.incident,
            policy,
            by,
        ))
    } else {
        breaker::give_back_trial(&desk.breaker, heal.id).map(|breaker| breaker::Step {
            breaker,
            transitions: Vec::new(),
        })
    };
    let Some(step) = step else {
        return changes;
    };
    let opened = step
        .transitions
        .iter()
        .any(|transition| transition.to == BreakerState::Open);
    let status = breaker::status::status(&step.breaker, policy, now);
    let changes = if opened {
        let key = format!("breaker:{}:{}", heal.app, now.wall_ms);
        let title = format!("{}: circuit breaker is open", heal.app);
        changes.write(desk.notice("breaker_opened", key, title, status.reason, now))
    } else {
        changes
    };
    changes.write(Write::Breaker {
        breaker: Box::new(step.breaker),
        transitions: step.transitions,
    })
}

fn move_incidents(
    desk: &Desk,
    before: &Heal,
    heal: &Heal,
    mut changes: Changes,
    now: &Moment,
) -> Changes {
    for incident in incidents(desk, heal) {
        let request = incident.kind == IncidentKind::Request;
        let (state, note) = match &heal.state {
            HealState::Cured { .. } if request => {
                (IncidentState::Closed, "what was asked for is done")
            }
            HealState::Cured { .. } => (
                IncidentState::Watching,
                "cured; watching whether it comes back",
            ),
            HealState::Kept { .. } => {
                (IncidentState::Escalated, "inconclusive: a person must look")
            }
            HealState::UndoBlocked { .. } => (
                IncidentState::Escalated,
                "undo is blocked: a person must decide",
            ),
            HealState::UndoFailed { .. } => {
                (IncidentState::Escalated, "undo failed: a person must look")
            }
            HealState::Admitted
            | HealState::Protected { .. }
            | HealState::Acting { .. }
            | HealState::InDoubt { .. }
            | HealState::Settling { .. }
            | HealState::Verifying { .. }
            | HealState::Soaking { .. }
            | HealState::Undoing { .. }
            | HealState::Rechecking { .. }
            | HealState::NotCured { .. }
            | HealState::Undone { .. }
            | HealState::Aborted { .. } => {
                if request {
                    (IncidentState::Closed, "what was asked for did not succeed")
                } else {
                    (IncidentState::Open, "not cured by this heal")
                }
            }
        };
        let cured = matches!(heal.state, HealState::Cured { .. });
        let mut tried = incident.tried.clone();
        // Lost on the way to the target, whose tombstone says that it never began: that was no try.
        if matches!(before.state, HealState::InDoubt { .. })
            && matches!(
                &heal.state,
                HealState::Aborted {
                    cause: AbortCause::NeverRan(_)
                }
            )
        {
            tried.retain(|action| *action != heal.action.name);
        }
        // A cure may be tried again, should it not last.
        let moved = Incident {
            state,
            tried,
            well_since: if cured {
                Some(now.clone())
            } else {
                incident.well_since.clone()
            },
            cured_by: if cured {
                Some(heal.id)
            } else {
                incident.cured_by
            },
            closed_by: if state == IncidentState::Closed {
                Some("healerd".to_owned())
            } else {
                incident.closed_by.clone()
            },
            ..incident.clone()
        };
        changes = changes.write(Write::Incident {
            incident: Box::new(moved),
            note: note.to_owned(),
        });
    }
    changes
}

fn notices(desk: &Desk, heal: &Heal, changes: Changes, now: &Moment) -> Changes {
    let wants_person = match &heal.state {
        HealState::Kept { .. } | HealState::UndoBlocked { .. } => Some("a person must decide"),
        HealState::UndoFailed { .. } => Some("undo failed, the application is held"),
        HealState::NotCured { .. } | HealState::Undone { .. } => Some("the heal did not help"),
        HealState::Aborted {
            cause: AbortCause::BackupFailed(_),
        } => Some("no backup, so nothing was done"),
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. }
        | HealState::Rechecking { .. }
        | HealState::Cured { .. }
        | HealState::Aborted { .. } => None,
    };
    let Some(what) = wants_person else {
        return changes;
    };
    let title = format!("{}: {what} ({})", heal.app, heal.action.name);
    let text = format!(
        "{} `healerctl heals {}` shows every step.",
        heal.message, heal.id
    );
    let key = format!("heal:{}:{}", heal.app, heal.action.name);
    changes.write(desk.notice("heal_ended", key, title, text, now))
}
