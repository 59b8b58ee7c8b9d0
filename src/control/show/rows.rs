//! Rows of lists.

use healer_agent::protocol::WriteMember;
use healer_agent::step::Step;

use super::plan::params;
use super::{later, names, text, texts};
use crate::control::wire;
use crate::engine::handle::{ActionView, AppView, EventLine};
use crate::model::action::{Identity, ResolvedAction};
use crate::model::approval::{Approval, Requester};
use crate::model::backup::BackupRow;
use crate::model::breaker::BreakerTransition;
use crate::model::id::BackupId;
use crate::model::incident::Incident;
use crate::model::name::AppName;
use crate::model::stop::{Hold, ModeOverride, Mute};
use crate::model::time::{Moment, wall_text};
use crate::model::word::{HealingMode, Risk};
use crate::seam::store::AuditRow;
use crate::undo::{PreviewKind, RollbackPreview};

/// A hold.
pub(in crate::control) fn hold(hold: &Hold) -> wire::Hold {
    wire::Hold {
        id: hold.id.to_string(),
        scope: hold.scope.to_text(),
        owner: text(&hold.owner),
        reason: text(&hold.reason),
        since: hold.since.to_text(),
        until: hold.for_ms.map(|ms| later(&hold.since, ms)),
    }
}

/// A mode set at run time.
pub(in crate::control) fn mode(set: &ModeOverride) -> wire::ModeOverride {
    wire::ModeOverride {
        application_id: set.app.as_ref().map(ToString::to_string),
        healing_mode: set.mode,
        owner: text(&set.owner),
        reason: text(&set.reason),
        since: set.since.to_text(),
    }
}

/// A mute.
pub(in crate::control) fn mute(mute: &Mute) -> wire::Mute {
    wire::Mute {
        check_name: mute.check.to_string(),
        owner: text(&mute.owner),
        reason: text(&mute.reason),
        since: mute.since.to_text(),
        until: later(&mute.since, mute.for_ms),
    }
}

/// An action, and whether it runs alone in this mode.
pub(in crate::control) fn action(
    action: &ActionView,
    mode: HealingMode,
    stops: &[wire::Stop],
) -> wire::Action {
    wire::Action {
        action_name: action.name.to_string(),
        title: text(&action.title),
        risk_level: action.risk,
        write_set: texts(&action.writes),
        checks: names(&action.proves),
        runs_alone_in: action.alone_in.clone(),
        runs_alone: action.alone_in.contains(&mode),
        stopped_by: stops.iter().map(|stop| stop.by.clone()).collect(),
    }
}

/// An incident; the view of its application knows what comes next.
pub(in crate::control) fn incident(row: &Incident, view: Option<&AppView>) -> wire::Incident {
    wire::Incident {
        incident_id: row.id.to_string(),
        application_id: row.app.to_string(),
        check_name: row.check.as_ref().map(ToString::to_string),
        kind: row.kind,
        state: row.state,
        status: row.status,
        severity: row.severity,
        message: text(&row.message),
        opened: row.opened.to_text(),
        persisted_seconds: row.persisted_ms / 1000,
        tried: names(&row.tried),
        heals: names(&row.heals),
        next: view
            .and_then(|view| view.next.get(&row.id))
            .map(|next| text(next)),
        well_since: row.well_since.as_ref().map(Moment::to_text),
        closed_by: row.closed_by.as_deref().map(text),
    }
}

/// An approval.
pub(in crate::control) fn approval(row: &Approval, one_person: bool) -> wire::Approval {
    let votes_needed = match row.bound.action.risk {
        Risk::Critical if !one_person => 2,
        Risk::Low | Risk::Medium | Risk::High | Risk::Critical => 1,
    };
    wire::Approval {
        approval_id: row.id.to_string(),
        application_id: row.bound.app.to_string(),
        host: row.bound.host.to_string(),
        action_name: row.bound.action.name.to_string(),
        risk_level: row.bound.action.risk,
        healing_mode: row.bound.mode,
        params: params(&row.bound.action.params),
        digest: row.digest.to_string(),
        state: row.state,
        requester: match &row.bound.requester {
            Requester::Daemon => "healerd".to_owned(),
            Requester::Person(person) => text(&person.to_text()),
        },
        reason: text(&row.reason),
        matched: row.bound.matched,
        checks: names(&row.checks),
        evidence: row
            .bound
            .evidence
            .0
            .iter()
            .map(|line| wire::EvidenceLine {
                check_name: line.check.to_string(),
                status: line.status,
                rule: line.rule,
            })
            .collect(),
        rules: texts(&row.bound.rules),
        steps: steps(&row.bound.action),
        write_set: texts(&row.bound.write_set),
        roots: texts(&row.bound.roots),
        puts_back: texts(&row.shows),
        created: row.created.to_text(),
        expires: wall_text(row.bound.expires_wall_ms),
        granted: row.granted.as_ref().map(Moment::to_text),
        votes: row
            .votes
            .iter()
            .map(|vote| wire::Vote {
                person: text(&vote.person.to_text()),
                approve: vote.approve,
                reason: text(&vote.reason),
                at: vote.at.to_text(),
            })
            .collect(),
        votes_needed,
        waits_for: row.waits_for.as_deref().map(text),
        incident_id: row.incident.map(|id| id.to_string()),
        heal_id: row.heal.map(|id| id.to_string()),
        ended: row.ended.as_ref().map(Moment::to_text),
    }
}

/// What would run, and what would forbid it.
pub(in crate::control) fn dry_run(
    view: &AppView,
    parent: Option<&AppName>,
    action: &ResolvedAction,
    denials: &[String],
) -> wire::DryRun {
    wire::DryRun {
        application_id: parent.unwrap_or(&view.name).to_string(),
        action_name: action.name.to_string(),
        subdomain: parent.map(|_| view.name.to_string()),
        risk_level: action.risk,
        healing_mode: view.mode,
        identity: match action.identity {
            Identity::App => "app".to_owned(),
            Identity::Root => "root".to_owned(),
        },
        steps: steps(action),
        write_set: action.writes.iter().map(write_member).collect(),
        denials: texts(denials),
        requires_approval: action.risk >= Risk::High,
        held: view.held.as_ref().map(hold),
    }
}

fn write_member(member: &WriteMember) -> String {
    text(&member.pattern.to_string())
}

/// The steps of an action as people read them, the last ones being those that always run.
fn steps(action: &ResolvedAction) -> Vec<String> {
    let always = action
        .finally
        .iter()
        .map(|found| format!("finally: {}", step(found)));
    action.steps.iter().map(step).chain(always).collect()
}

fn step(step: &Step) -> String {
    let list = |paths: &[crate::model::TreePath]| {
        paths
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let line = match step {
        Step::Run { argv, .. } => format!("run {}", argv.join(" ")),
        Step::Chown {
            paths,
            uid,
            gid,
            recursive,
        } => {
            format!("give {}{} to {uid}:{gid}", below(*recursive), list(paths))
        }
        Step::SetBits {
            paths,
            add,
            remove,
            recursive,
        } => format!(
            "set permissions of {}{}:{}",
            below(*recursive),
            list(paths),
            bits(add.plain | add.search, remove.plain | remove.search)
        ),
        Step::Put {
            path,
            digest,
            mode,
            owner,
        } => {
            let owner = owner.as_ref().map_or_else(String::new, |owner| {
                format!(", owner {}:{}", owner.uid, owner.gid)
            });
            format!("put {path} with content {digest}, mode {mode:04o}{owner}")
        }
        Step::EditKey { path, key, value } if super::is_secret(key) || value.is_empty() => {
            format!("set {key} in {path}")
        }
        Step::EditKey { path, key, value } => format!("set {key} in {path} to \"{value}\""),
        Step::Remove { paths, recursive } => format!("remove {}{}", below(*recursive), list(paths)),
        Step::SwapDirectory { path, with } => format!("exchange {path} and {with}"),
        Step::TrimLog { path, keep_bytes } => format!("keep the last {keep_bytes} bytes of {path}"),
        Step::RestartUnit { unit } => format!("restart unit {unit}"),
        Step::RestartPm2 { name, .. } => format!("restart pm2 process {name}"),
    };
    text(&line)
}

/// The permissions that are added and removed, as far as there are any.
fn bits(add: u32, remove: u32) -> String {
    match (add, remove) {
        (_, 0) => format!(" add {add:04o}"),
        (0, _) => format!(" remove {remove:04o}"),
        (_, _) => format!(" add {add:04o}, remove {remove:04o}"),
    }
}

const fn below(recursive: bool) -> &'static str {
    if recursive { "everything below " } else { "" }
}

/// A backup.
pub(in crate::control) fn backup(row: &BackupRow) -> wire::Backup {
    wire::Backup {
        backup_id: row.id.to_string(),
        application_id: row.app.to_string(),
        host: row.host.to_string(),
        kind: row.kind,
        heal_id: row.heal.map(|id| id.to_string()),
        action_name: row.action.as_deref().map(text),
        taken: row.taken.to_text(),
        files: row.files,
        bytes: row.bytes,
        stored_bytes: row.stored_bytes,
        verified: row.verified.to_text(),
        damaged: row.damaged.as_deref().map(text),
        pinned: row.pinned,
    }
}

/// A rollback's preview.
pub(in crate::control) fn preview(
    app: &AppName,
    backup: BackupId,
    found: &RollbackPreview,
) -> wire::RollbackPreview {
    let from_to = |from, to| wire::FromTo { from, to };
    let kind = |kind| match kind {
        PreviewKind::Recreate => "recreate",
        PreviewKind::Remove => "remove",
        PreviewKind::Rewrite => "rewrite",
        PreviewKind::Attributes => "attributes",
    };
    wire::RollbackPreview {
        application_id: app.to_string(),
        backup_id: backup.to_string(),
        changes: found
            .changes
            .iter()
            .map(|change| wire::PreviewChange {
                path: change.path.to_string(),
                kind: kind(change.kind).to_owned(),
                mode: change
                    .mode
                    .map(|(from, to)| from_to(format!("{from:04o}"), format!("{to:04o}"))),
                owner: change.owner.map(|((uid, gid), (to_uid, to_gid))| {
                    from_to(format!("{uid}:{gid}"), format!("{to_uid}:{to_gid}"))
                }),
            })
            .collect(),
        overwrites: names(&found.overwrites),
        kept_newer_shared: names(&found.kept_newer_shared),
        blocked: found
            .blocked
            .iter()
            .map(|(path, reason)| wire::BlockedPath {
                path: path.to_string(),
                reason: text(reason),
            })
            .collect(),
        digest: found.digest.to_string(),
    }
}

/// A breaker's transition.
pub(in crate::control) fn transition(row: &BreakerTransition) -> wire::BreakerTransition {
    wire::BreakerTransition {
        at: row.at.to_text(),
        from: row.from,
        to: row.to,
        cause: text(&row.cause),
        heal_id: row.heal.map(|id| id.to_string()),
        actor: text(&row.actor),
    }
}

/// A row of the audit log.
pub(in crate::control) fn audit(row: &AuditRow) -> wire::AuditRow {
    wire::AuditRow {
        seq: row.seq,
        at: wall_text(row.at_wall_ms),
        actor: text(&row.actor),
        verb: text(&row.verb),
        object: text(&row.object),
        detail: super::json(&row.detail),
        hash: row.hash.clone(),
    }
}

/// A line of the event stream.
pub(in crate::control) fn event(line: &EventLine) -> wire::EventLine {
    wire::EventLine {
        at: line.at.to_text(),
        kind: line.kind.to_owned(),
        application_id: line.app.as_ref().map(ToString::to_string),
        text: text(&line.text),
        heal_id: line.heal.map(|id| id.to_string()),
    }
}
