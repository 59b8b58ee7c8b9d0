//! What needs a person: proposed, shown, voted on, used once, or over in time.

use healerd::engine::{HealAnswer, HealRequest, OpError};
use healerd::model::Digest;
use healerd::model::approval::{Approval, ApprovalState};

use crate::world::{Sim, hours, minutes, person, seconds};

const REASON: &str = "seen it, ok";

async fn proposed(path: &str) -> (Sim, Approval) {
    let mut sim = Sim::new().await;
    sim.write(path, "1");
    let took = sim
        .until("proposed", minutes(10), |desk| {
            desk.approvals
                .iter()
                .any(|one| one.state == ApprovalState::Pending)
        })
        .await;
    assert_eq!(
        took,
        minutes(4),
        "a proposal needs the same patience as an action"
    );
    let approval = sim.pending().await;
    (sim, approval)
}

async fn vote(
    sim: &mut Sim,
    approval: &Approval,
    uid: u32,
    reason: &str,
) -> Result<Approval, OpError> {
    let (id, digest, reason) = (approval.id, approval.digest, reason.to_owned());
    sim.ask(async |handle| handle.approve(id, digest, reason, person(uid)).await)
        .await
}

async fn request(sim: &mut Sim, action: &str, uid: u32) -> Result<HealAnswer, OpError> {
    let app = sim.app_name();
    let wish = HealRequest {
        action: action.parse().unwrap(),
        params: std::collections::BTreeMap::new(),
        reason: "before the sale".to_owned(),
        dry_run: false,
    };
    sim.ask(async |handle| handle.heal(&app, wish, person(uid)).await)
        .await
}

async fn states(sim: &Sim) -> Vec<ApprovalState> {
    sim.approvals()
        .await
        .iter()
        .map(|approval| approval.state)
        .collect()
}

#[tokio::test]
async fn a_high_action_waits_for_one_entitled_person_and_runs_once() {
    let (mut sim, approval) = proposed("vendor/stale").await;
    sim.pass(hours(1)).await;
    assert!(sim.ran().is_empty());
    assert_eq!(sim.notices("approval_needed").await.len(), 1);

    let id = approval.id;
    let other = Digest::of(b"another");
    let refusal = sim
        .ask(async |handle| {
            handle
                .approve(id, other, REASON.to_owned(), person(1))
                .await
        })
        .await;
    assert_eq!(refusal.unwrap_err().code, "stale");
    assert_eq!(
        vote(&mut sim, &approval, 1, "too short")
            .await
            .unwrap_err()
            .code,
        "reason_too_short"
    );
    vote(&mut sim, &approval, 1, "ten chars!").await.unwrap();
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["renew_packages"]);
    assert_eq!(states(&sim).await, [ApprovalState::Used]);
    assert_eq!(
        vote(&mut sim, &approval, 2, REASON).await.unwrap_err().code,
        "decided"
    );
    let verbs: Vec<_> = sim
        .audit()
        .await
        .into_iter()
        .map(|row| row.verb)
        .filter(|verb| verb.starts_with("approval"))
        .collect();
    insta::assert_snapshot!(verbs.join("\n"));
}

#[tokio::test]
async fn a_critical_action_needs_two_different_persons() {
    let (mut sim, approval) = proposed("data/torn").await;
    let voted = vote(&mut sim, &approval, 1, REASON).await.unwrap();
    assert_eq!(voted.state, ApprovalState::Pending);
    assert_eq!(
        vote(&mut sim, &approval, 1, REASON).await.unwrap_err().code,
        "voted"
    );
    sim.pass(minutes(30)).await;
    assert!(sim.ran().is_empty());
    vote(&mut sim, &approval, 2, REASON).await.unwrap();
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["mend_records"]);
}

#[tokio::test]
async fn who_asked_cannot_approve_unless_one_person_may() {
    for one_person in [false, true] {
        let mut sim = Sim::with(|policy| policy.approval.one_person = one_person).await;
        let refusal = request(&mut sim, "renew_packages", 1).await.unwrap_err();
        assert_eq!(refusal.code, "needs_approval");
        assert_eq!(
            refusal.message,
            "Healing action \"renew_packages\" requires manual approval. Risk level: HIGH, Healing mode: FULL_AUTO. \
             Please review and approve this action before execution."
        );
        let approval = *refusal.approval.unwrap();
        let voted = vote(&mut sim, &approval, 1, REASON).await;
        assert_eq!(
            voted.as_ref().err().map(|error| error.code),
            (!one_person).then_some("own_request")
        );
        if !one_person {
            vote(&mut sim, &approval, 2, REASON).await.unwrap();
        }
        sim.until("done", minutes(30), |desk| desk.breaker.cures.len() == 1)
            .await;
        assert_eq!(sim.ran(), ["renew_packages"]);
    }
}

#[tokio::test]
async fn a_person_may_ask_for_low_and_medium_in_any_mode() {
    let mut sim = Sim::with(|policy| policy.mode = healerd::model::word::HealingMode::Manual).await;
    sim.write("open", "1");
    assert!(matches!(
        request(&mut sim, "close_files", 1).await,
        Ok(HealAnswer::Started(_))
    ));
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["close_files"]);
}

#[tokio::test]
async fn nobody_decides_in_time_and_it_is_not_proposed_again_for_a_week() {
    for (path, within) in [("vendor/stale", hours(24)), ("data/torn", hours(4))] {
        let (mut sim, _) = proposed(path).await;
        sim.clock.pass(within.saturating_sub(seconds(30)));
        sim.pass(seconds(15)).await;
        assert_eq!(states(&sim).await, [ApprovalState::Pending], "{path}");
        sim.pass(seconds(30)).await;
        assert_eq!(states(&sim).await, [ApprovalState::Expired], "{path}");
        assert_eq!(sim.notices("approval_expired").await.len(), 1);
        sim.clock.pass(hours(7 * 24).saturating_sub(minutes(10)));
        sim.pass(minutes(5)).await;
        assert_eq!(states(&sim).await.len(), 1, "{path}");
        sim.pass(minutes(10)).await;
        assert_eq!(
            states(&sim).await,
            [ApprovalState::Expired, ApprovalState::Pending],
            "{path}"
        );
        assert!(sim.ran().is_empty());
    }
}

#[tokio::test]
async fn what_was_rejected_is_proposed_again_only_on_other_evidence() {
    let (mut sim, approval) = proposed("vendor/stale").await;
    let id = approval.id;
    sim.ask(async |handle| handle.reject(id, "not today".to_owned(), person(1)).await)
        .await
        .unwrap();
    sim.pass(hours(1)).await;
    assert_eq!(states(&sim).await, [ApprovalState::Rejected]);
    sim.remove("vendor/stale");
    sim.write("vendor/torn", "1");
    sim.pass(minutes(5)).await;
    assert_eq!(
        states(&sim).await,
        [ApprovalState::Rejected, ApprovalState::Pending]
    );
}

#[tokio::test]
async fn evidence_that_changes_makes_what_was_approved_stale() {
    let (mut sim, approval) = proposed("vendor/stale").await;
    sim.remove("vendor/stale");
    sim.write("vendor/torn", "1");
    let refusal = vote(&mut sim, &approval, 1, REASON).await.unwrap_err();
    assert_eq!(refusal.code, "decided", "{refusal}");
    assert_eq!(states(&sim).await[0], ApprovalState::Stale);
    assert!(sim.ran().is_empty());
}

#[tokio::test]
async fn a_deploy_makes_what_was_proposed_stale() {
    let (mut sim, approval) = proposed("vendor/stale").await;
    sim.host.machine().roots = vec!["/srv/shop/releases/2".to_owned()];
    let refusal = vote(&mut sim, &approval, 1, REASON).await.unwrap_err();
    assert_eq!(refusal.code, "decided", "{refusal}");
    assert_eq!(states(&sim).await[0], ApprovalState::Stale);
    sim.pass(minutes(1)).await;
    assert!(sim.ran().is_empty());
}

#[tokio::test]
async fn what_cannot_run_within_an_hour_expires() {
    let (mut sim, approval) = proposed("vendor/stale").await;
    let app = sim.app_name();
    let force = Some(healerd::model::breaker::ForcedState::Open);
    sim.ask(async |handle| {
        handle
            .force_breaker(&app, force, "migration".to_owned(), None, person(1))
            .await
    })
    .await
    .unwrap();
    vote(&mut sim, &approval, 2, REASON).await.unwrap();
    sim.pass(minutes(59)).await;
    assert_eq!(states(&sim).await, [ApprovalState::Granted]);
    assert!(
        sim.approvals().await[0]
            .waits_for
            .as_ref()
            .is_some_and(|text| text.contains("forced open"))
    );
    sim.pass(minutes(2)).await;
    assert_eq!(states(&sim).await, [ApprovalState::Expired]);
    assert!(sim.ran().is_empty());
}

#[tokio::test]
async fn the_time_to_execute_stands_still_while_a_hold_delays_it() {
    use healerd::model::stop::Scope;
    let (mut sim, approval) = proposed("vendor/stale").await;
    sim.ask(async |handle| {
        handle
            .hold(Scope::Everything, "deploy".to_owned(), None, &person(1))
            .await
    })
    .await
    .unwrap();
    vote(&mut sim, &approval, 2, REASON).await.unwrap();
    sim.pass(hours(3)).await;
    assert_eq!(states(&sim).await, [ApprovalState::Granted]);
    assert!(sim.ran().is_empty());
    sim.ask(async |handle| {
        handle
            .resume(&Scope::Everything, false, "done".to_owned(), &person(1))
            .await
    })
    .await
    .unwrap();
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["renew_packages"]);
}
