//! What a person put on an app's desk, answered between two turns.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::admit::{self, Ask};
use super::cycle;
use super::desk::{Desk, EngineError};
use super::handle::{
    HealAnswer, HealRequest, OpError, OpErrorKind, Request, RollbackRequest, unknown,
};
use super::life;
use super::look::{self, Which};
use super::proposals::{self, Wish};
use super::{rollback, who};
use crate::guard::approval::enough_votes;
use crate::guard::breaker::{self, By};
use crate::model::Digest;
use crate::model::action::ResolvedAction;
use crate::model::approval::{Approval, ApprovalState, Person, Requester, Vote};
use crate::model::backup::{BackupKind, BackupRow};
use crate::model::breaker::{Forced, ForcedState};
use crate::model::heal::{Event, Heal, HealState, Origin};
use crate::model::id::{ApprovalId, BackupId, HealId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::name::CheckName;
use crate::model::stop::Mute;
use crate::model::time::Moment;
use crate::model::word::{MatchKind, Risk, Severity, Status};
use crate::protect;
use crate::seam::store::Query;
use crate::seam::{Changes, Login, StoreError, Write};

/// Why a request was not done: refused, or the desk cannot go on.
enum Stop {
    Refused(OpError),
    Engine(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<OpError> for Stop {
    fn from(error: OpError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

type Done<T> = Result<T, Stop>;

/// Answers one request.
///
/// # Errors
/// Only when the desk cannot go on; a refusal is an answer.
pub(super) async fn answer(desk: &mut Desk, request: Request) -> Result<(), EngineError> {
    let may = !matches!(request, Request::Nudge);
    if let Err(error) = who::learn(desk, may).await
        && may
    {
        // Whatever needs the host refuses by itself: a login without numbers is asked for nothing.
        tracing::warn!(app = %desk.app.name, host = %desk.app.host, reason = %error, "user not known");
    }
    match request {
        Request::Nudge => {
            // What changed may be why it could not be seen.
            if desk.unseen_reason.is_some() {
                desk.ask_again = Some(desk.now());
            }
            Ok(())
        }
        Request::Diagnose { answer } => reply(answer, diagnose(desk).await),
        Request::Heal {
            request,
            person,
            answer,
        } => reply(answer, heal(desk, request, person).await),
        Request::Approve {
            id,
            digest,
            reason,
            person,
            answer,
        } => reply(answer, approve(desk, id, digest, reason, person).await),
        Request::Reject {
            id,
            reason,
            person,
            answer,
        } => reply(answer, reject(desk, id, reason, person).await),
        Request::Preview {
            backup,
            exact,
            only,
            answer,
        } => reply(
            answer,
            rollback::preview(desk, backup, exact, &only)
                .await
                .map(|(plan, ..)| plan.preview)
                .map_err(Stop::from),
        ),
        Request::Rollback {
            request,
            person,
            answer,
        } => reply(answer, roll_back(desk, request, person).await),
        Request::Decide {
            heal,
            undo,
            reason,
            person,
            answer,
        } => reply(answer, decide(desk, heal, undo, reason, person).await),
        Request::ResetBreaker {
            reason,
            person,
            answer,
        } => reply(answer, reset_breaker(desk, reason, &person).await),
        Request::ForceBreaker {
            state,
            reason,
            length,
            person,
            answer,
        } => reply(
            answer,
            force_breaker(desk, state, reason, length, &person).await,
        ),
        Request::BackupNow {
            reason,
            person,
            answer,
        } => reply(answer, backup_now(desk, &reason, &person).await),
        Request::VerifyBackup {
            backup,
            person,
            answer,
        } => reply(answer, verify_backup(desk, backup, &person).await),
        Request::DeleteBackup {
            backup,
            reason,
            person,
            answer,
        } => reply(answer, delete_backup(desk, backup, &reason, &person).await),
        Request::Mute {
            check,
            length,
            reason,
            person,
            answer,
        } => reply(answer, mute(desk, check, length, reason, &person).await),
        Request::Unmute {
            check,
            person,
            answer,
        } => reply(answer, unmute(desk, check, &person).await),
        Request::CloseIncident {
            incident,
            reason,
            person,
            answer,
        } => reply(
            answer,
            close_incident(desk, incident, reason, &person).await,
        ),
    }
}

fn reply<T>(answer: oneshot::Sender<Result<T, OpError>>, done: Done<T>) -> Result<(), EngineError> {
    let (said, result) = match done {
        Ok(value) => (Ok(value), Ok(())),
        Err(Stop::Refused(refusal)) => (Err(refusal), Ok(())),
        Err(Stop::Engine(error)) => (Err(unavailable(&error)), Err(error)),
    };
    drop(answer.send(said)); // whoever asked may have gone
    result
}

fn unavailable(error: &EngineError) -> OpError {
    OpError::new(
        OpErrorKind::Unavailable,
        "store",
        format!("The daemon could not store it: {error}"),
        "See the journal: `journalctl -u healerd`.",
    )
}

fn conflict(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Stop {
    Stop::Refused(OpError::new(OpErrorKind::Conflict, code, message, hint))
}

/// A transaction in a person's name.
fn by_person(desk: &Desk, person: &Person, now: &Moment) -> Changes {
    debug_assert_eq!(now.boot_id, desk.now().boot_id);
    Changes::new(now.clone(), &person.to_text())
}

/// A round now: the same path as one by the clock.
async fn diagnose(desk: &mut Desk) -> Done<()> {
    match look::round(desk, Which::Cheap).await {
        Ok((round, asked)) => Ok(cycle::seen(desk, round, &asked).await?),
        Err(error) => Err(Stop::Refused(OpError::new(
            OpErrorKind::Unavailable,
            "host_unseen",
            format!("{} cannot be seen: {}", desk.app.name, error.reason),
            "See that its host can be reached and that its user may run an agent.",
        ))),
    }
}

/// A person's heal: LOW and MEDIUM in any mode, because a person asked; more needs an approval, which is created.
async fn heal(desk: &mut Desk, request: HealRequest, person: Person) -> Done<HealAnswer> {
    if desk.stack.action(&request.action).is_none() {
        return Err(unknown(
            "action",
            request.action.as_str(),
            &format!("healerctl actions {}", desk.app.name),
        )
        .into());
    }
    diagnose(desk).await?;
    let Some(look) = desk.look.clone() else {
        return Err(conflict(
            "unseen",
            "Nothing is known of this application yet.",
            "Diagnose it first.",
        ));
    };
    let item = desk
        .plan
        .auto_heal
        .iter()
        .chain(&desk.plan.require_approval)
        .find(|item| item.action == request.action)
        .cloned();
    let params = if request.params.is_empty() {
        item.as_ref()
            .map(|item| item.params.clone())
            .unwrap_or_default()
    } else {
        request.params.clone()
    };
    let least = item.as_ref().map_or(Risk::Low, |item| item.risk);
    let checks = item.as_ref().map_or_else(
        || desk.stack.served_by(&request.action).to_vec(),
        |item| item.checks.clone(),
    );
    let action = admit::resolve(desk, &request.action, &checks, &params, &look.round, least)
        .await
        .map_err(|reason| {
            OpError::new(
                OpErrorKind::Conflict,
                "not_applicable",
                format!("`{}` cannot run so: {reason}.", request.action),
                format!("`healerctl checks {}` shows what is known.", desk.app.name),
            )
        })?;
    let matched = item
        .as_ref()
        .map_or(MatchKind::Declared, |item| item.matched);
    if request.dry_run {
        return Ok(HealAnswer::WouldRun {
            denials: would_be_denied(desk, &action, &checks, matched, &person).await?,
            action: Box::new(action),
        });
    }
    if admit::is_busy(desk) {
        return Err(conflict(
            "busy",
            format!("Another heal is working on {}.", desk.app.name),
            "`healerctl heals` shows it; try again when it has ended.",
        ));
    }
    let incident = incident_for(desk, &checks, &request.reason, &person).await?;
    if action.risk >= Risk::High {
        return ask_approval(desk, action, matched, checks, &incident, &person).await;
    }
    let name = action.name.clone();
    let ask = Ask {
        origin: Origin::Requested(person),
        action,
        matched,
        checks,
    };
    match admit::admit(desk, ask, &incident).await? {
        Ok(heal) => Ok(HealAnswer::Started(Box::new(heal))),
        Err(denied) => {
            close_request(desk, &incident).await?;
            Err(conflict(
                code_of(denied.guard()),
                denied.shown().to_owned(),
                format!(
                    "`healerctl explain {name}` tells what it needs; `healerctl status` shows breakers and holds."
                ),
            ))
        }
    }
}

/// The stable code of a refusal by this guard.
const fn code_of(guard: crate::model::reason::GuardName) -> &'static str {
    use crate::model::reason::GuardName;
    match guard {
        GuardName::Breaker => "breaker_open",
        GuardName::Hold => "held",
        GuardName::Lease => "busy",
        GuardName::Approval | GuardName::Mode => "needs_approval",
        GuardName::Preconditions => "preconditions",
        GuardName::HostIdentity => "host_identity",
        GuardName::Room => "no_room",
        GuardName::Freshness
        | GuardName::Dwell
        | GuardName::Grace
        | GuardName::Rate
        | GuardName::OneTry
        | GuardName::Pause
        | GuardName::Unknown
        | GuardName::Bar => "denied",
    }
}

async fn would_be_denied(
    desk: &Desk,
    action: &ResolvedAction,
    checks: &[CheckName],
    matched: MatchKind,
    person: &Person,
) -> Done<Vec<String>> {
    let rows = desk
        .world
        .store
        .guard_rows(&desk.app.name, &desk.app.host)
        .await?;
    let now = desk.now();
    let incident = new_request(desk, checks, "dry run", &now);
    let draft = Heal {
        id: HealId::from_raw(desk.world.new_id()),
        app: desk.app.name.clone(),
        host: desk.app.host.clone(),
        origin: Origin::Requested(person.clone()),
        action: action.clone(),
        matched,
        incident: incident.id,
        linked: Vec::new(),
        checks: checks.to_vec(),
        evidence: crate::model::check::Evidence::default(),
        before: Vec::new(),
        roots: Vec::new(),
        trial: false,
        fence: crate::model::id::FenceToken(0),
        admitted: now.clone(),
        state: HealState::Admitted,
        moved: now,
        message: String::new(),
        version: 0,
    };
    let facts = super::gate::Facts::before_admission(desk, &draft, &incident).await;
    Ok(match facts.ask_before_admission(&rows) {
        Ok(()) => Vec::new(),
        Err(denied) => denied.0.into_iter().map(|denial| denial.message).collect(),
    })
}

/// The open incident of these checks, else a new one of kind REQUEST.
async fn incident_for(
    desk: &mut Desk,
    checks: &[CheckName],
    reason: &str,
    person: &Person,
) -> Done<Incident> {
    let open = desk
        .incidents
        .iter()
        .filter(|incident| {
            matches!(
                incident.state,
                IncidentState::Open | IncidentState::Escalated
            )
        })
        .find(|incident| {
            incident
                .check
                .as_ref()
                .is_some_and(|check| checks.contains(check))
        });
    if let Some(incident) = open {
        return Ok(incident.clone());
    }
    let now = desk.now();
    let incident = new_request(desk, checks, reason, &now);
    let changes = by_person(desk, person, &now)
        .write(Write::Incident {
            incident: Box::new(incident.clone()),
            note: format!("asked for: {reason}"),
        })
        .audit(
            "incident_opened",
            &format!("incident:{}", incident.id),
            json!({"app": incident.app, "kind": incident.kind}),
        );
    desk.commit(changes).await?;
    Ok(incident)
}

fn new_request(desk: &Desk, checks: &[CheckName], reason: &str, now: &Moment) -> Incident {
    Incident {
        id: IncidentId::from_raw(desk.world.new_id()),
        app: desk.app.name.clone(),
        check: checks.first().cloned(),
        kind: IncidentKind::Request,
        state: IncidentState::Open,
        status: Status::Pass,
        severity: Severity::Low,
        message: reason.to_owned(),
        opened: now.clone(),
        looks: 0,
        persisted_ms: 0,
        last_bad: None,
        tried: Vec::new(),
        heals: Vec::new(),
        well_since: None,
        cured_by: None,
        told: None,
        closed_by: None,
    }
}

/// A request that came to nothing leaves no open incident behind.
async fn close_request(desk: &mut Desk, incident: &Incident) -> Done<()> {
    if incident.kind != IncidentKind::Request {
        return Ok(());
    }
    let now = desk.now();
    let closed = Incident {
        state: IncidentState::Closed,
        closed_by: Some("healerd".to_owned()),
        ..incident.clone()
    };
    let changes = desk
        .changes(&now)
        .write(Write::Incident {
            incident: Box::new(closed),
            note: "the request was refused".to_owned(),
        })
        .audit(
            "incident_closed",
            &format!("incident:{}", incident.id),
            json!({"why": "the request was refused"}),
        );
    Ok(desk.commit(changes).await?)
}

async fn ask_approval(
    desk: &mut Desk,
    action: ResolvedAction,
    matched: MatchKind,
    checks: Vec<CheckName>,
    incident: &Incident,
    person: &Person,
) -> Done<HealAnswer> {
    let message = format!(
        "Healing action \"{}\" requires manual approval. Risk level: {}, Healing mode: {}. Please review and approve this action before execution.",
        action.name,
        action.risk,
        desk.mode()
    );
    let known = desk
        .approvals
        .iter()
        .find(|approval| {
            approval.state == ApprovalState::Pending && approval.bound.action == action
        })
        .cloned();
    let approval = if let Some(approval) = known {
        Some(approval)
    } else {
        let look = desk.look.clone();
        let evidence = look
            .map(|look| look.round.evidence().about(&checks))
            .unwrap_or_default();
        let wish = Wish {
            reason: format!("{} asked for {}.", person.to_text(), action.name),
            action,
            matched,
            checks,
            requester: Requester::Person(person.clone()),
            incident: incident.id,
            evidence,
        };
        proposals::create(desk, wish).await?
    };
    let Some(approval) = approval else {
        return Err(conflict(
            "approvals_full",
            "No approval could be created.",
            "Decide about those that wait first.",
        ));
    };
    let mut refusal = OpError::new(
        OpErrorKind::Conflict,
        "needs_approval",
        message,
        format!(
            "`healerctl approve {}` shows what it would do and approves it.",
            approval.id
        ),
    );
    refusal.approval = Some(Box::new(approval));
    Err(Stop::Refused(refusal))
}

fn pending(desk: &Desk, id: ApprovalId) -> Done<Approval> {
    let approval = desk
        .approval(id)
        .ok_or_else(|| unknown("approval", &id.to_string(), "healerctl approvals"))?;
    match approval.state {
        ApprovalState::Pending => Ok(approval.clone()),
        ApprovalState::Granted
        | ApprovalState::Used
        | ApprovalState::Rejected
        | ApprovalState::Expired
        | ApprovalState::Stale => Err(conflict(
            "decided",
            format!("Approval {id} is {} already.", approval.state),
            "`healerctl approvals` shows those that wait.",
        )),
    }
}

/// A vote. The digest must be the one that was shown; the requester's own vote does not count.
async fn approve(
    desk: &mut Desk,
    id: ApprovalId,
    digest: Digest,
    reason: String,
    person: Person,
) -> Done<Approval> {
    let approval = pending(desk, id)?;
    let policy = desk.app.policy.approval.clone();
    if digest != approval.digest || approval.bound.digest() != approval.digest {
        refused_vote(desk, &approval, &person, "another digest").await?;
        return Err(conflict(
            "stale",
            "What you saw is not what is proposed now.",
            format!("Look again: `healerctl approve {id}`."),
        ));
    }
    if reason.trim().chars().count() < policy.reason_characters_min as usize {
        return Err(Stop::Refused(OpError::new(
            OpErrorKind::Invalid,
            "reason_too_short",
            format!(
                "A reason of at least {} characters is needed.",
                policy.reason_characters_min
            ),
            "Say why, in a few words: `--reason \"…\"`.",
        )));
    }
    let own = matches!(&approval.bound.requester, Requester::Person(requester) if requester.uid == person.uid);
    if own && !policy.one_person {
        refused_vote(desk, &approval, &person, "the requester's own vote").await?;
        return Err(Stop::Refused(OpError::new(
            OpErrorKind::Forbidden,
            "own_request",
            "Who asked for an action cannot approve it.",
            "Another approver must, or `[approval] persons = \"one\"` must say in so many words that one person may.",
        )));
    }
    if approval
        .votes
        .iter()
        .any(|vote| vote.person.uid == person.uid)
    {
        return Err(conflict(
            "voted",
            "You have voted already.",
            "Another approver must vote.",
        ));
    }
    // The world as it is now must still be the one that is approved.
    diagnose(desk).await?;
    // Its time may be over without a turn having told so: right after a start, or while the round was made.
    proposals::expire(desk).await?;
    proposals::stale_now(desk).await?;
    let approval = pending(desk, id)?;
    let now = desk.now();
    let mut voted = approval.clone();
    voted.votes.push(Vote {
        person: person.clone(),
        approve: true,
        reason: reason.clone(),
        at: now.clone(),
    });
    if enough_votes(&voted, &policy) {
        voted.state = ApprovalState::Granted;
        voted.granted = Some(now.clone());
    }
    let state = voted.state;
    let changes = by_person(desk, &person, &now).write(Write::Approval(Box::new(voted))).audit(
        if state == ApprovalState::Granted { "approval_granted" } else { "approval_voted" },
        &format!("approval:{id}"),
        json!({"app": desk.app.name, "action": approval.bound.action.name, "reason": reason, "digest": digest}),
    );
    desk.commit(changes).await?;
    desk.tell(
        "approval",
        format!(
            "{} {state} by {}",
            approval.bound.action.name,
            person.to_text()
        ),
        None,
    );
    admit::granted(desk).await?;
    Ok(desk.approval(id).cloned().unwrap_or(approval))
}

/// A refused attempt is audited too.
async fn refused_vote(
    desk: &mut Desk,
    approval: &Approval,
    person: &Person,
    why: &str,
) -> Done<()> {
    let now = desk.now();
    let changes = by_person(desk, person, &now).audit(
        "approval_vote_refused",
        &format!("approval:{}", approval.id),
        json!({"why": why}),
    );
    Ok(desk.commit(changes).await?)
}

async fn reject(desk: &mut Desk, id: ApprovalId, reason: String, person: Person) -> Done<Approval> {
    let approval = pending(desk, id)?;
    let now = desk.now();
    let mut rejected = approval.clone();
    rejected.votes.push(Vote {
        person: person.clone(),
        approve: false,
        reason: reason.clone(),
        at: now.clone(),
    });
    rejected.state = ApprovalState::Rejected;
    rejected.ended = Some(now.clone());
    let changes = by_person(desk, &person, &now)
        .write(Write::Approval(Box::new(rejected)))
        .audit(
            "approval_rejected",
            &format!("approval:{id}"),
            json!({"app": desk.app.name, "action": approval.bound.action.name, "reason": reason}),
        );
    desk.commit(changes).await?;
    if let Some(incident) = approval.incident.and_then(|id| desk.incident(id)).cloned() {
        close_request(desk, &incident).await?;
    }
    Ok(desk.approval(id).cloned().unwrap_or(approval))
}

async fn roll_back(desk: &mut Desk, request: RollbackRequest, person: Person) -> Done<Heal> {
    if admit::is_busy(desk) {
        return Err(conflict(
            "busy",
            format!("Another heal is working on {}.", desk.app.name),
            "`healerctl heals` shows it; try again when it has ended.",
        ));
    }
    diagnose(desk).await?;
    let (plan, writes, identity) =
        rollback::preview(desk, request.backup, request.exact, &request.only).await?;
    if plan.preview.digest != request.digest {
        return Err(conflict(
            "stale",
            "The files are no longer as the preview showed them.",
            format!(
                "Look again: `healerctl backups {} rollback {}`.",
                desk.app.name, request.backup
            ),
        ));
    }
    let action = rollback::action(desk, &request, writes, identity);
    let checks = action.proves.clone();
    let incident = incident_for(desk, &[], &request.reason, &person).await?;
    let origin = Origin::Rollback {
        person,
        backup: request.backup,
        exact: request.exact,
        only: request.only,
        digest: Some(request.digest),
    };
    let ask = Ask {
        origin,
        action,
        matched: MatchKind::Declared,
        checks,
    };
    match admit::admit(desk, ask, &incident).await? {
        Ok(heal) => Ok(heal),
        Err(denied) => {
            close_request(desk, &incident).await?;
            Err(conflict(
                code_of(denied.guard()),
                denied.shown().to_owned(),
                "`healerctl status` shows what is in the way.",
            ))
        }
    }
}

async fn decide(
    desk: &mut Desk,
    id: HealId,
    undo: bool,
    reason: String,
    person: Person,
) -> Done<Heal> {
    let Some(heal) = desk.heal(id).cloned() else {
        return Err(conflict(
            "not_waiting",
            format!("Heal {id} does not wait for a decision."),
            "`healerctl heals` shows those that do.",
        ));
    };
    let event = Event::Decided {
        undo,
        person: person.clone(),
        reason: reason.clone(),
    };
    let word = if undo { "undo" } else { "keep" };
    match life::step(
        desk,
        &heal,
        event,
        format!("{} decided to {word}: {reason}", person.to_text()),
    )
    .await
    {
        Ok(()) => Ok(desk.heal(id).cloned().unwrap_or(heal)),
        Err(EngineError::Illegal(illegal)) => Err(conflict(
            "not_waiting",
            format!("{illegal}."),
            "`healerctl heals` shows those that wait for a decision.",
        )),
        Err(error) => Err(error.into()),
    }
}

async fn reset_breaker(desk: &mut Desk, reason: String, person: &Person) -> Done<()> {
    let now = desk.now();
    let actor = person.to_text();
    let step = breaker::reset(
        &desk.breaker,
        &reason,
        By {
            actor: &actor,
            heal: None,
            now: &now,
            draw: 500,
        },
    );
    let changes = by_person(desk, person, &now)
        .write(Write::Breaker {
            breaker: Box::new(step.breaker),
            transitions: step.transitions,
        })
        .audit("breaker_reset", &desk.object(), json!({"reason": reason}));
    Ok(desk.commit(changes).await?)
}

async fn force_breaker(
    desk: &mut Desk,
    state: Option<ForcedState>,
    reason: String,
    length: Option<Duration>,
    person: &Person,
) -> Done<()> {
    let now = desk.now();
    let forced = state.map(|how| Forced {
        how,
        owner: person.to_text(),
        reason: reason.clone(),
        since: now.clone(),
        for_ms: length.map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
    });
    let breaker = breaker::force(&desk.breaker, forced);
    let changes = by_person(desk, person, &now)
        .write(Write::Breaker {
            breaker: Box::new(breaker),
            transitions: Vec::new(),
        })
        .audit(
            "breaker_forced",
            &desk.object(),
            json!({"state": state, "reason": reason}),
        );
    Ok(desk.commit(changes).await?)
}

async fn backup_now(desk: &mut Desk, reason: &str, person: &Person) -> Done<BackupRow> {
    let request = protect::Protect {
        id: BackupId::from_raw(desk.world.new_id()),
        kind: BackupKind::Manual,
        app: &desk.app,
        login: Login::of_app(&desk.app),
        heal: None,
        action: None,
        members: Vec::new(),
        base: desk.stack.base_set.clone(),
        limits: protect::Limits::new(&desk.app.policy.backup, 0),
    };
    let backup = protect::protect(&desk.world, &request)
        .await
        .map_err(|error| {
            OpError::new(
                OpErrorKind::Conflict,
                "backup_failed",
                error.to_string(),
                error.advice().to_owned(),
            )
        })?;
    let now = desk.now();
    let row = backup.row().clone();
    let changes = by_person(desk, person, &now)
        .write(Write::Backup(Box::new(row.clone())))
        .audit(
            "backup_taken",
            &desk.object(),
            json!({"backup": row.id, "reason": reason}),
        );
    desk.commit(changes).await?;
    Ok(row)
}

async fn row_of(desk: &Desk, backup: BackupId) -> Done<BackupRow> {
    let query = Query {
        app: Some(desk.app.name.clone()),
        open_only: false,
        limit: 10_000,
    };
    let rows = desk.world.store.backups(query).await?;
    let found = rows.into_iter().find(|row| row.id == backup);
    Ok(found.ok_or_else(|| {
        unknown(
            "backup",
            &backup.to_string(),
            &format!("healerctl backups {}", desk.app.name),
        )
    })?)
}

async fn verify_backup(desk: &mut Desk, backup: BackupId, person: &Person) -> Done<BackupRow> {
    let row = row_of(desk, backup).await?;
    let now = desk.now();
    let (row, refusal) = match desk.world.vault.verify(backup).await {
        Ok(()) => (
            BackupRow {
                verified: now.clone(),
                ..row
            },
            None,
        ),
        Err(error) => {
            let text = error.to_string();
            let refusal = OpError::new(
                OpErrorKind::Conflict,
                "backup_damaged",
                text.clone(),
                "It will not be used. See the disk below the vault.",
            );
            (
                BackupRow {
                    damaged: Some(text),
                    ..row
                },
                Some(refusal),
            )
        }
    };
    let verb = if refusal.is_some() {
        "backup_found_damaged"
    } else {
        "backup_verified"
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Backup(Box::new(row.clone())))
        .audit(verb, &desk.object(), json!({"backup": backup}));
    desk.commit(changes).await?;
    refusal.map_or(Ok(row), |refusal| Err(refusal.into()))
}

async fn delete_backup(
    desk: &mut Desk,
    backup: BackupId,
    reason: &str,
    person: &Person,
) -> Done<()> {
    let row = row_of(desk, backup).await?;
    let needed = desk
        .heals
        .iter()
        .any(|heal| heal.state.backup() == Some(backup))
        || desk.known_good == Some(backup);
    if row.pinned || needed {
        return Err(conflict(
            "pinned",
            format!("Backup {backup} is still needed."),
            "It can go once its heal or incident is over.",
        ));
    }
    let query = Query {
        app: Some(desk.app.name.clone()),
        open_only: false,
        limit: 10_000,
    };
    let good = desk
        .world
        .store
        .backups(query)
        .await?
        .into_iter()
        .filter(|row| row.damaged.is_none())
        .count();
    if row.damaged.is_none() && good <= 1 {
        return Err(conflict(
            "last_good",
            "It is the last good backup of this application.",
            "Take another one first.",
        ));
    }
    let now = desk.now();
    // First the row, then the bytes: a crash in between leaves bytes without a row, never a row without bytes.
    let changes = by_person(desk, person, &now)
        .write(Write::BackupRemoved(backup))
        .audit(
            "backup_deleted",
            &desk.object(),
            json!({"backup": backup, "reason": reason}),
        );
    desk.commit(changes).await?;
    if let Err(error) = desk.world.vault.remove(backup).await {
        tracing::warn!(app = %desk.app.name, %backup, reason = %error, "the bytes of a deleted backup stay until the next sweep");
    }
    Ok(())
}

async fn mute(
    desk: &mut Desk,
    check: CheckName,
    length: Duration,
    reason: String,
    person: &Person,
) -> Done<()> {
    if desk.stack.check(&check).is_none() {
        return Err(unknown(
            "check",
            check.as_str(),
            &format!("healerctl checks {}", desk.app.name),
        )
        .into());
    }
    let now = desk.now();
    let mute = Mute {
        app: desk.app.name.clone(),
        check: check.clone(),
        owner: person.to_text(),
        reason: reason.clone(),
        since: now.clone(),
        for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Mute(mute))
        .audit(
            "muted",
            &desk.object(),
            json!({"check": check, "reason": reason}),
        );
    Ok(desk.commit(changes).await?)
}

async fn unmute(desk: &mut Desk, check: CheckName, person: &Person) -> Done<()> {
    if !desk.mutes.iter().any(|mute| mute.check == check) {
        return Err(unknown("mute of check", check.as_str(), "healerctl status").into());
    }
    let now = desk.now();
    let write = Write::MuteEnded {
        app: desk.app.name.clone(),
        check: check.clone(),
    };
    let changes = by_person(desk, person, &now).write(write).audit(
        "unmuted",
        &desk.object(),
        json!({"check": check}),
    );
    Ok(desk.commit(changes).await?)
}

async fn close_incident(
    desk: &mut Desk,
    id: IncidentId,
    reason: String,
    person: &Person,
) -> Done<()> {
    let Some(incident) = desk.incident(id).cloned() else {
        return Err(conflict(
            "closed",
            format!("Incident {id} is closed already."),
            "`healerctl incidents` shows the open ones.",
        ));
    };
    if incident.state == IncidentState::Healing {
        return Err(conflict(
            "busy",
            "A heal is working on it.",
            "`healerctl heals` shows it.",
        ));
    }
    let now = desk.now();
    let closed = Incident {
        state: IncidentState::Closed,
        closed_by: Some(person.to_text()),
        ..incident
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Incident {
            incident: Box::new(closed),
            note: format!("closed by a person: {reason}"),
        })
        .audit(
            "incident_closed",
            &format!("incident:{id}"),
            json!({"reason": reason}),
        );
    desk.commit(changes).await?;
    desk.forget_ended();
    Ok(())
}
