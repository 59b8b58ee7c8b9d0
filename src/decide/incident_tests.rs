use std::time::Duration;

use super::*;
use crate::model::word::{About, Category};

/// An application whose looks come one after another.
struct Course {
    state: Update,
    clock_ms: i64,
    ids: u128,
    timing: Timing,
    /// Which one answers.
    machine: Machine<'static>,
    /// Why it cannot be seen.
    cause: (&'static str, Option<&'static str>),
}

impl Course {
    fn new() -> Self {
        Self {
            state: Update::default(),
            clock_ms: 0,
            ids: 0,
            timing: Timing::default(),
            machine: Machine::Adopted,
            cause: ("refused", None),
        }
    }

    fn now(&self) -> Moment {
        Moment {
            boot_id: "b".to_owned(),
            boot_ms: self.clock_ms,
            wall_ms: self.clock_ms,
        }
    }

    fn see(&mut self, after_secs: i64, seen: Option<&[(&str, Status)]>) -> Vec<String> {
        self.clock_ms += after_secs * 1000;
        let round = Round {
            results: seen
                .unwrap_or_default()
                .iter()
                .map(|(check, status)| CheckResult {
                    check: check.parse().unwrap(),
                    category: Category::System,
                    status: *status,
                    severity: Severity::High,
                    message: "m".to_owned(),
                    suggested_fix: None,
                    execution_ms: 1,
                    rule: None,
                    about: About::App,
                    availability: false,
                    facts: BTreeMap::new(),
                })
                .collect(),
            roots: vec![],
        };
        let asked = ["a", "b"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let now = self.now();
        let ids = &mut self.ids;
        let old = std::mem::take(&mut self.state);
        self.state = update(
            &"shop".parse().unwrap(),
            old.incidents,
            old.blind,
            match seen {
                Some(_) => Seen::Round {
                    round: &round,
                    asked: &asked,
                    machine: self.machine,
                },
                None => Seen::Unseen {
                    reason: self.cause.0,
                    at_once: self.cause.1,
                },
            },
            &now,
            &self.timing,
            &mut || {
                *ids += 1;
                IncidentId::from_raw(*ids)
            },
        );
        self.state
            .changes
            .iter()
            .map(|change| match change {
                IncidentChange::Opened(id) => format!("opened {}", id.raw()),
                IncidentChange::Recurred { id, cured_by } => {
                    format!("recurred {} {}", id.raw(), cured_by.is_some())
                }
                IncidentChange::Gone(id) => format!("gone {}", id.raw()),
                IncidentChange::Closed(id) => format!("closed {}", id.raw()),
                IncidentChange::Changed(id) => format!("changed {}", id.raw()),
            })
            .collect()
    }

    fn first(&self) -> &Incident {
        &self.state.incidents[0]
    }
}

const BAD: Option<&[(&str, Status)]> = Some(&[("a", Status::Fail), ("b", Status::Pass)]);
const WARN: Option<&[(&str, Status)]> = Some(&[("a", Status::Warn), ("b", Status::Pass)]);
const WELL: Option<&[(&str, Status)]> = Some(&[("a", Status::Pass), ("b", Status::Pass)]);
const DARK: Option<&[(&str, Status)]> = Some(&[("a", Status::Error), ("b", Status::Pass)]);

#[test]
fn the_first_bad_look_opens_and_looks_are_counted() {
    let mut course = Course::new();
    assert_eq!(course.see(0, WELL), [""; 0]);
    assert_eq!(course.see(15, BAD), ["opened 1"]);
    assert_eq!(course.see(15, BAD), [""; 0]);
    assert_eq!(course.see(15, WARN), ["changed 1"]);
    assert_eq!(
        (course.first().looks, course.first().persisted_ms),
        (3, 30_000)
    );
}

#[test]
fn error_pauses_the_dwell_and_neither_counts_nor_resets() {
    let mut course = Course::new();
    course.see(0, BAD);
    course.see(15, BAD);
    course.see(15, DARK);
    assert_eq!(
        (course.first().looks, course.first().persisted_ms),
        (2, 15_000)
    );
    course.see(100, BAD);
    assert_eq!(
        (course.first().looks, course.first().persisted_ms),
        (3, 15_000),
        "the dark time is not counted"
    );
    course.see(15, None);
    course.see(15, BAD);
    course.see(15, BAD);
    assert_eq!(
        (course.first().looks, course.first().persisted_ms),
        (5, 30_000)
    );
}

#[test]
fn one_good_look_starts_the_dwell_anew_but_is_the_same_incident() {
    let mut course = Course::new();
    course.see(0, BAD);
    course.see(15, BAD);
    assert_eq!(course.see(15, WELL), ["gone 1"]);
    assert_eq!(course.first().state, IncidentState::Watching);
    assert_eq!(course.see(15, BAD), ["recurred 1 false"]);
    assert_eq!((course.first().looks, course.first().persisted_ms), (1, 0));
}

#[test]
fn a_symptom_that_stays_away_is_closed_after_the_window() {
    let mut course = Course::new();
    course.see(0, BAD);
    course.see(15, WELL);
    assert_eq!(course.see(3599, WELL), [""; 0]);
    assert_eq!(course.see(1, WELL), ["closed 1"]);
    course.state.incidents.clear();
    assert_eq!(course.see(15, BAD), ["opened 2"]);
}

#[test]
fn a_symptom_back_after_the_window_is_a_new_incident() {
    let mut course = Course::new();
    course.see(0, BAD);
    course.see(15, WELL);
    assert_eq!(course.see(3600, BAD), ["closed 1", "opened 2"]);
}

#[test]
fn a_recurrence_takes_the_cure_back() {
    let mut course = Course::new();
    course.see(0, BAD);
    let now = course.now();
    let incident = &mut course.state.incidents[0];
    incident.state = IncidentState::Watching;
    incident.well_since = Some(now);
    incident.cured_by = Some(HealId::from_raw(9));
    incident.tried = vec!["fix".parse().unwrap()];
    assert_eq!(course.see(15, BAD), ["recurred 1 true"]);
    assert_eq!(course.first().cured_by, None);
    assert_eq!(course.first().tried.len(), 1);
}

#[test]
fn a_heal_at_work_keeps_its_incident() {
    let mut course = Course::new();
    course.see(0, BAD);
    course.state.incidents[0].state = IncidentState::Healing;
    assert_eq!(course.see(15, WELL), [""; 0]);
    assert_eq!(course.first().state, IncidentState::Healing);
}

#[test]
fn what_no_longer_applies_is_gone_and_what_was_not_asked_is_not() {
    let mut course = Course::new();
    course.see(0, Some(&[("a", Status::Fail), ("c", Status::Fail)]));
    // `a` was asked and gave nothing; `c` is on another schedule.
    assert_eq!(course.see(15, Some(&[("b", Status::Pass)])), ["gone 1"]);
    assert_eq!(course.state.incidents[1].state, IncidentState::Open);
}

#[test]
fn unknown_is_told_once_and_closed_when_seen() {
    let mut course = Course::new();
    course.see(0, DARK);
    assert_eq!(course.see(899, DARK), [""; 0]);
    assert_eq!(course.see(1, DARK), ["opened 1"]);
    assert_eq!(course.see(900, DARK), [""; 0]);
    assert_eq!(course.see(15, WELL), ["closed 1"]);

    let mut course = Course::new();
    assert_eq!(course.see(0, None), [""; 0]);
    assert_eq!(course.see(60, None), [""; 0]);
    assert_eq!(course.see(60, None), ["opened 1"]);
    assert_eq!(course.see(60, None), [""; 0]);
    assert_eq!(
        (course.first().kind, course.first().check.clone()),
        (IncidentKind::Unknown, None)
    );
    assert_eq!(course.see(60, WELL), ["closed 1"]);

    let mut course = Course::new();
    course.see(0, None);
    course.see(60, None);
    course.see(60, WELL);
    assert_eq!(course.see(60, None), [""; 0], "only rounds in a row count");
}

#[test]
fn what_is_told_of_an_unseen_host_is_its_present_cause() {
    let mut course = Course::new();
    for _ in 0..3 {
        course.see(60, None);
    }
    let id = course.first().id;
    assert_eq!(course.first().message, "not seen for 3 rounds: refused");
    for (cause, message, said) in [
        // Waiting is the same cause, however long it still lasts.
        (
            "refused; not tried again for 30 s",
            "not seen for 3 rounds: refused",
            0,
        ),
        ("no route", "not seen for 5 rounds: no route", 1),
        ("no route", "not seen for 5 rounds: no route", 0),
    ] {
        course.cause = (cause, None);
        assert_eq!(course.see(60, None).len(), said, "{cause}");
        assert_eq!(course.first().message, message);
        assert_eq!(course.first().id, id, "it is the same incident");
    }
    // Another key is another matter, and stays one while nobody answers.
    course.cause = ("another key", Some(IN_DOUBT));
    course.see(60, None);
    let doubt = format!("{IN_DOUBT}: another key");
    let last = |course: &Course| course.state.incidents.last().unwrap().message.clone();
    assert_eq!(last(&course), doubt);
    for cause in ["no route", "refused"] {
        course.cause = (cause, None);
        course.see(60, None);
        assert_eq!(last(&course), format!("{doubt}; now {cause}"));
    }
    course.cause = ("another key", Some(IN_DOUBT));
    course.see(60, None);
    assert_eq!(last(&course), doubt);
}

#[test]
fn error_that_ends_in_between_starts_anew() {
    let mut course = Course::new();
    course.see(0, DARK);
    course.see(600, BAD);
    course.see(15, DARK);
    assert!(course.see(600, DARK).is_empty());
    assert!(course.timing.unknown_after > Duration::from_secs(615));
}

#[test]
fn another_machine_is_told_at_once_and_its_looks_still_count() {
    let mut course = Course::new();
    course.see(0, WELL);
    course.machine = Machine::Other(OTHER_MACHINE);
    assert_eq!(course.see(60, BAD), ["opened 1", "opened 2"]);
    assert_eq!(course.see(60, BAD), [""; 0]);
    assert_eq!(
        course.see(60, None),
        ["changed 1"],
        "away, and told of already"
    );
    assert_eq!(
        course.first().message,
        format!("{OTHER_MACHINE}; now refused")
    );
    assert_eq!(course.see(600, None), [""; 0]);
    assert_eq!(course.see(60, BAD), ["changed 1"]);
    assert_eq!(course.first().message, OTHER_MACHINE);
    course.machine = Machine::Adopted;
    assert_eq!(course.see(60, BAD), ["closed 1"]);

    // Away first, and another one when it comes back: one thing at a time.
    let mut course = Course::new();
    for _ in 0..3 {
        course.see(60, None);
    }
    course.machine = Machine::Other(OTHER_MACHINE);
    assert_eq!(course.see(60, WELL), ["closed 1", "opened 2"]);
}

#[test]
fn a_machine_that_is_not_known_neither_opens_nor_closes_what_is_told_of_another_one() {
    let mut course = Course::new();
    course.machine = Machine::Unknown;
    assert_eq!(course.see(0, WELL), [""; 0], "not known is not another one");
    course.machine = Machine::Other(OTHER_MACHINE);
    assert_eq!(course.see(60, WELL), ["opened 1"]);
    course.machine = Machine::Unknown;
    assert_eq!(
        course.see(60, WELL),
        [""; 0],
        "not known is not the right one"
    );
    course.machine = Machine::Other(OTHER_MACHINE);
    assert_eq!(course.see(60, WELL), [""; 0]);
    course.machine = Machine::Adopted;
    assert_eq!(course.see(60, WELL), ["closed 1"]);

    // A host that was away can be seen all the same.
    let mut course = Course::new();
    for _ in 0..3 {
        course.see(60, None);
    }
    course.machine = Machine::Unknown;
    assert_eq!(course.see(60, WELL), ["closed 1"]);
}
