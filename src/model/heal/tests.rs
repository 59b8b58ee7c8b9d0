use super::*;

fn at() -> Moment {
    Moment {
        boot_id: "b".to_owned(),
        boot_ms: 1,
        wall_ms: 1,
    }
}

fn course(wrote: bool) -> Course {
    Course {
        backup: None,
        outcome: Outcome::Done,
        wrote,
    }
}

fn states() -> Vec<HealState> {
    let reason = UndoReason::NotCured("still bad".to_owned());
    let report = UndoReport::default;
    let failed = UndoReport {
        failed: vec!["x".to_owned()],
        ..UndoReport::default()
    };
    let blocked = UndoReport {
        blocked: vec!["x".to_owned()],
        ..UndoReport::default()
    };
    let looks = Looks::default;
    vec![
        HealState::Admitted,
        HealState::Protected { backup: None },
        HealState::Acting { backup: None },
        HealState::InDoubt { backup: None },
        HealState::Settling {
            course: course(true),
            since: at(),
            looks: looks(),
        },
        HealState::Verifying {
            course: course(true),
            since: at(),
            looks: looks(),
        },
        HealState::Soaking {
            course: course(true),
            since: at(),
            looks: looks(),
        },
        HealState::Undoing {
            course: course(true),
            reason: reason.clone(),
        },
        HealState::Rechecking {
            course: course(true),
            reason: reason.clone(),
            report: report(),
        },
        HealState::Cured {
            course: course(true),
        },
        HealState::NotCured {
            course: course(false),
            reason: String::new(),
        },
        HealState::Kept {
            course: Some(course(true)),
            backup: None,
            reason: String::new(),
            decided: None,
        },
        HealState::Undone {
            course: course(true),
            reason: reason.clone(),
            report: report(),
        },
        HealState::UndoBlocked {
            course: course(true),
            reason: reason.clone(),
            report: blocked,
        },
        HealState::UndoFailed {
            course: course(true),
            reason,
            report: failed,
        },
        HealState::Aborted {
            cause: AbortCause::SymptomGone,
        },
    ]
}

fn events() -> Vec<Event> {
    let text = String::new;
    let person = || Person {
        uid: 0,
        name: "root".to_owned(),
    };
    vec![
        Event::BackupVerified { backup: None },
        Event::BackupFailed { message: text() },
        Event::SymptomGone,
        Event::Denied {
            guard: GuardName::Hold,
            message: text(),
        },
        Event::TargetChanged { message: text() },
        Event::BackupStale,
        Event::IntentWritten,
        Event::Ended {
            outcome: Outcome::Done,
            wrote: true,
        },
        Event::EndedLate {
            outcome: Outcome::Done,
            wrote: true,
            reason: text(),
        },
        Event::OutcomeUnknown,
        Event::NeverRan { message: text() },
        Event::WitnessUnreadable { message: text() },
        Event::Looked {
            looks: Looks::default(),
        },
        Event::SettleOver,
        Event::FoundWell,
        Event::FoundBad {
            reason: UndoReason::NotCured(text()),
        },
        Event::SoakOver,
        Event::DeadlinePassed { reason: text() },
        Event::UndoEnded {
            report: UndoReport::default(),
        },
        Event::Rechecked,
        Event::Decided {
            undo: true,
            person: person(),
            reason: text(),
        },
        Event::Decided {
            undo: false,
            person: person(),
            reason: text(),
        },
    ]
}

/// Every legal arrow; every other pair of the 16 × 22 must be refused.
const LEGAL: &[(&str, &str, &str)] = &[
    ("Admitted", "BackupVerified", "Protected"),
    ("Admitted", "BackupFailed", "Aborted"),
    ("Admitted", "SymptomGone", "Aborted"),
    ("Admitted", "Denied", "Aborted"),
    ("Admitted", "TargetChanged", "Aborted"),
    ("Protected", "SymptomGone", "Aborted"),
    ("Protected", "Denied", "Aborted"),
    ("Protected", "TargetChanged", "Aborted"),
    ("Protected", "BackupStale", "Admitted"),
    ("Protected", "IntentWritten", "Acting"),
    ("Acting", "Ended", "Settling"),
    ("Acting", "EndedLate", "Kept"),
    ("Acting", "OutcomeUnknown", "InDoubt"),
    ("Acting", "NeverRan", "Aborted"),
    ("InDoubt", "Ended", "Settling"),
    ("InDoubt", "EndedLate", "Kept"),
    ("InDoubt", "NeverRan", "Aborted"),
    ("InDoubt", "WitnessUnreadable", "Kept"),
    ("InDoubt", "DeadlinePassed", "Kept"),
    ("Settling", "Looked", "Settling"),
    ("Settling", "SettleOver", "Verifying"),
    ("Settling", "FoundBad", "Undoing"),
    ("Settling", "DeadlinePassed", "Kept"),
    ("Verifying", "Looked", "Verifying"),
    ("Verifying", "FoundWell", "Soaking"),
    ("Verifying", "FoundBad", "Undoing"),
    ("Verifying", "DeadlinePassed", "Kept"),
    ("Soaking", "Looked", "Soaking"),
    ("Soaking", "FoundBad", "Undoing"),
    ("Soaking", "SoakOver", "Cured"),
    ("Soaking", "DeadlinePassed", "Kept"),
    ("Undoing", "UndoEnded", "Rechecking"),
    ("Undoing", "DeadlinePassed", "UndoBlocked"),
    ("Rechecking", "Rechecked", "Undone"),
    ("Kept", "Decided", "Undoing"),
    ("Kept", "Decided", "Kept"),
    ("UndoBlocked", "Decided", "Undoing"),
    ("UndoBlocked", "Decided", "Kept"),
    ("UndoFailed", "Decided", "Undoing"),
    ("UndoFailed", "Decided", "Kept"),
];

#[test]
fn the_table_is_total_and_these_are_all_its_arrows() {
    let mut seen = Vec::new();
    for state in states() {
        for event in events() {
            let (from, by) = (state.name(), event.name());
            match state.next(event, &at()) {
                Ok(to) => seen.push((from, by, to.name())),
                Err(illegal) => assert_eq!((illegal.state, illegal.event), (from, by)),
            }
        }
    }
    let mut legal = LEGAL.to_vec();
    legal.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, legal);
}

#[test]
fn an_action_starts_only_from_a_protected_heal() {
    for state in states() {
        let starts = state.next(Event::IntentWritten, &at()).is_ok();
        assert_eq!(
            starts,
            matches!(state, HealState::Protected { .. }),
            "{}",
            state.name()
        );
    }
}

#[test]
fn what_wrote_nothing_is_not_undone() {
    let state = HealState::Verifying {
        course: course(false),
        since: at(),
        looks: Looks::default(),
    };
    let next = state
        .next(
            Event::FoundBad {
                reason: UndoReason::NotCured("bad".to_owned()),
            },
            &at(),
        )
        .unwrap();
    assert_eq!(
        next,
        HealState::NotCured {
            course: course(false),
            reason: "bad".to_owned()
        }
    );
}

#[test]
fn an_undo_ends_by_what_its_report_says() {
    for (case, failed, blocked, want) in [
        ("all back", vec![], vec![], "Undone"),
        (
            "something ambiguous",
            vec![],
            vec!["a".to_owned()],
            "UndoBlocked",
        ),
        (
            "an error outranks it",
            vec!["b".to_owned()],
            vec!["a".to_owned()],
            "UndoFailed",
        ),
    ] {
        let report = UndoReport {
            failed,
            blocked,
            ..UndoReport::default()
        };
        let reason = UndoReason::Worse("w".to_owned());
        let state = HealState::Rechecking {
            course: course(true),
            reason,
            report,
        };
        assert_eq!(
            state.next(Event::Rechecked, &at()).unwrap().name(),
            want,
            "{case}"
        );
    }
}

#[test]
fn a_kept_heal_is_decided_once() {
    let person = Person {
        uid: 1,
        name: "ann".to_owned(),
    };
    let kept = HealState::Kept {
        course: Some(course(true)),
        backup: None,
        reason: String::new(),
        decided: None,
    };
    let decided = kept
        .next(
            Event::Decided {
                undo: false,
                person: person.clone(),
                reason: "fine".to_owned(),
            },
            &at(),
        )
        .unwrap();
    assert!(
        decided
            .next(
                Event::Decided {
                    undo: true,
                    person,
                    reason: "no".to_owned()
                },
                &at()
            )
            .is_err()
    );
}
