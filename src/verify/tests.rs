use std::collections::BTreeMap;

use super::*;
use crate::model::check::CheckResult;
use crate::model::word::Status::{Error, Fail, Pass, Warn};
use crate::model::word::{Category, Severity};

fn name(text: &str) -> CheckName {
    text.parse().unwrap()
}

/// `http` and `port` are availability checks, `disk` is about the host.
fn round(results: &[(&str, Status)]) -> Round {
    Round {
        results: results
            .iter()
            .map(|(check, status)| CheckResult {
                check: name(check),
                category: Category::System,
                status: *status,
                severity: Severity::High,
                message: "m".to_owned(),
                suggested_fix: None,
                execution_ms: 1,
                rule: None,
                about: if *check == "disk" {
                    About::Host
                } else {
                    About::App
                },
                availability: matches!(*check, "http" | "port" | "disk"),
                facts: BTreeMap::new(),
            })
            .collect(),
        roots: vec![],
    }
}

fn before(results: &[(&str, Status)]) -> Vec<(CheckName, Status)> {
    results
        .iter()
        .map(|(check, status)| (name(check), *status))
        .collect()
}

#[test]
fn only_positive_evidence_convicts() {
    let proves = [name("cache")];
    for (case, was, is, want) in [
        (
            "gone",
            vec![("cache", Fail), ("http", Pass)],
            vec![("cache", Pass), ("http", Pass)],
            "cured",
        ),
        (
            "still there",
            vec![("cache", Fail)],
            vec![("cache", Fail)],
            "not",
        ),
        (
            "still there, milder",
            vec![("cache", Fail)],
            vec![("cache", Warn)],
            "not",
        ),
        (
            "unknown",
            vec![("cache", Fail)],
            vec![("cache", Error)],
            "inconclusive",
        ),
        ("no result", vec![("cache", Fail)], vec![], "inconclusive"),
        (
            "other got worse",
            vec![("cache", Fail), ("log", Pass)],
            vec![("cache", Pass), ("log", Warn)],
            "worse",
        ),
        (
            "other got worse, symptom unknown",
            vec![("cache", Fail), ("log", Warn)],
            vec![("cache", Error), ("log", Fail)],
            "worse",
        ),
        (
            "what failed may fail",
            vec![("cache", Fail), ("http", Fail)],
            vec![("cache", Pass), ("http", Fail)],
            "cured",
        ),
        (
            "what was unknown proves nothing",
            vec![("cache", Fail), ("log", Error)],
            vec![("cache", Pass), ("log", Fail)],
            "cured",
        ),
        (
            "other became unknown",
            vec![("cache", Fail), ("log", Pass)],
            vec![("cache", Pass), ("log", Error)],
            "cured",
        ),
        (
            "availability became unknown",
            vec![("cache", Fail), ("http", Pass)],
            vec![("cache", Pass), ("http", Error)],
            "inconclusive",
        ),
        (
            "the host is worse",
            vec![("cache", Fail), ("disk", Pass)],
            vec![("cache", Pass), ("disk", Fail)],
            "cured",
        ),
        (
            "the host is unknown",
            vec![("cache", Fail), ("disk", Pass)],
            vec![("cache", Pass), ("disk", Error)],
            "cured",
        ),
        (
            "a new check has no before",
            vec![("cache", Fail)],
            vec![("cache", Pass), ("log", Fail)],
            "cured",
        ),
        (
            "symptom got worse itself",
            vec![("cache", Warn)],
            vec![("cache", Fail)],
            "not",
        ),
    ] {
        let verdict = match judge(&before(&was), &proves, &round(&is)) {
            Verdict::Cured => "cured",
            Verdict::NotCured(_) => "not",
            Verdict::Worse(_) => "worse",
            Verdict::Inconclusive(_) => "inconclusive",
        };
        assert_eq!(verdict, want, "{case}");
    }
    assert!(matches!(
        judge(&[], &[], &round(&[])),
        Verdict::Inconclusive(_)
    ));
}

/// Feeds looks one after another; what was counted, and the first verdict with its place.
fn looked(
    was: &[(&str, Status)],
    looks: &[&[(&str, Status)]],
) -> (Looks, Option<(usize, Verdict)>) {
    let mut counted = Looks::default();
    let mut first = None;
    for (place, look_at) in looks.iter().enumerate() {
        let (next, verdict) = look(&counted, &before(was), &[name("cache")], &round(look_at));
        counted = next;
        first = first.or(verdict.map(|verdict| (place, verdict)));
    }
    (counted, first)
}

#[test]
fn two_good_looks_in_a_row_end_the_settle_time() {
    let was = [("cache", Fail), ("http", Pass)];
    let good: &[_] = &[("cache", Pass), ("http", Pass)];
    let bad: &[_] = &[("cache", Fail), ("http", Pass)];
    let dark: &[_] = &[("cache", Error), ("http", Pass)];
    for (case, looks, want) in [
        ("twice", vec![good, good], Some(1)),
        ("once", vec![good], None),
        ("bad in between", vec![good, bad, good], None),
        (
            "bad in between, then twice",
            vec![good, bad, good, good],
            Some(3),
        ),
        (
            "unknown neither counts nor resets",
            vec![good, dark, good],
            Some(2),
        ),
    ] {
        let (_, first) = looked(&was, &looks);
        assert_eq!(
            first.map(|(place, verdict)| (place, verdict == Verdict::Cured)),
            want.map(|place| (place, true)),
            "{case}"
        );
    }
}

#[test]
fn three_failed_looks_of_availability_end_it_at_once() {
    let was = [("cache", Fail), ("http", Pass), ("port", Fail)];
    let down: &[_] = &[("cache", Fail), ("http", Fail), ("port", Fail)];
    let up: &[_] = &[("cache", Fail), ("http", Pass), ("port", Fail)];
    let warn: &[_] = &[("cache", Fail), ("http", Warn), ("port", Fail)];
    let dark: &[_] = &[("cache", Fail), ("http", Error), ("port", Fail)];
    let cured_but_down: &[_] = &[("cache", Pass), ("http", Fail), ("port", Fail)];
    for (case, looks, want) in [
        ("three", vec![down, down, down], Some(2)),
        ("two", vec![down, down], None),
        ("up in between", vec![down, down, up, down, down], None),
        ("only a warning", vec![warn, warn, warn], None),
        (
            "unknown in between",
            vec![down, dark, down, dark, down],
            Some(4),
        ),
        ("what failed before", vec![up, up, up, up], None),
        (
            "well and down",
            vec![cured_but_down, cured_but_down, cured_but_down],
            Some(2),
        ),
    ] {
        let (_, first) = looked(&was, &looks);
        assert_eq!(
            first.map(|(place, verdict)| (place, matches!(verdict, Verdict::Worse(_)))),
            want.map(|place| (place, true)),
            "{case}"
        );
    }
}
