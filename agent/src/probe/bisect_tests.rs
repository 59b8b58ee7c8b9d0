//! The search against applications that are only described.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number:02}")).collect()
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// Searches an application that does not start while all of one of these sets are in place; also gives the runs.
fn searched(items: &[String], suspects: &[&str], clashes: &[&[&str]]) -> (Answer, usize) {
    let mut runs = 0;
    let answer = search(items, &texts(suspects), None, &mut |left_out| {
        runs += 1;
        Ok(!clashes.iter().any(|clash| {
            clash
                .iter()
                .all(|part| !left_out.iter().any(|out| out == part))
        }))
    });
    (answer.unwrap(), runs)
}

fn culprits(leave_out: &[&str], clash: &[&str]) -> Answer {
    Answer::Culprits {
        leave_out: texts(leave_out),
        clash: texts(clash),
    }
}

#[test]
fn single_culprits_and_pairs_are_found_within_few_runs() {
    for (case, count, suspects, clashes, want, runs_max) in [
        ("nothing is wrong", 30, &[][..], &[][..], Answer::Starts, 1),
        (
            "one of thirty",
            30,
            &[],
            &[&["p17"][..]],
            culprits(&["p17"], &["p17"]),
            17,
        ),
        (
            "one, and the log says which",
            30,
            &["p17"],
            &[&["p17"]],
            culprits(&["p17"], &["p17"]),
            7,
        ),
        (
            "one, and the log blames another",
            30,
            &["p03"],
            &[&["p17"]],
            culprits(&["p17"], &["p17"]),
            19,
        ),
        (
            "the log names one that is not active",
            4,
            &["gone"],
            &[&["p01"]],
            culprits(&["p01"], &["p01"]),
            11,
        ),
        (
            "a pair of thirty",
            30,
            &["p20"],
            &[&["p04", "p20"]],
            culprits(&["p20"], &["p20", "p04"]),
            20,
        ),
        (
            "a pair, and nobody says which",
            30,
            &[],
            &[&["p04", "p20"]],
            culprits(&["p04"], &["p04", "p20"]),
            30,
        ),
        (
            "two that fail each for itself",
            8,
            &[],
            &[&["p01"], &["p06"]],
            culprits(&["p01", "p06"], &["p01", "p06"]),
            34,
        ),
        (
            "the only one",
            1,
            &[],
            &[&["p00"]],
            culprits(&["p00"], &["p00"]),
            4,
        ),
        ("it is none of them", 5, &[], &[&[]], Answer::NeverStarts, 3),
        ("there are none", 0, &[], &[&[]], Answer::NeverStarts, 2),
    ] {
        let (answer, runs) = searched(&names(count), suspects, clashes);
        assert_eq!(answer, want, "{case}");
        assert!(runs <= runs_max, "{case}: {runs} runs");
    }
}

#[test]
fn what_was_known_is_asked_again_and_not_believed() {
    let known = Known {
        leave_out: texts(&["p04"]),
        clash: texts(&["p04", "p20"]),
    };
    for (case, items, culprit, want, runs_max) in [
        (
            "still so",
            30,
            "p04",
            culprits(&["p04"], &["p04", "p20"]),
            2,
        ),
        (
            "another one now",
            30,
            "p07",
            culprits(&["p07"], &["p07"]),
            20,
        ),
        (
            "its partner is gone",
            10,
            "p04",
            culprits(&["p04"], &["p04"]),
            15,
        ),
    ] {
        let mut runs = 0;
        let answer = search(&names(items), &[], Some(&known), &mut |left_out| {
            runs += 1;
            Ok(left_out.iter().any(|out| out == culprit))
        });
        assert_eq!(answer, Ok(want), "{case}");
        assert!(runs <= runs_max, "{case}: {runs} runs");
    }
}

#[test]
fn of_several_that_were_known_one_may_have_been_mended() {
    let known = Known {
        leave_out: texts(&["p01", "p06"]),
        clash: texts(&["p01", "p06"]),
    };
    for (case, broken, want, runs_max) in [
        (
            "still both",
            &["p01", "p06"][..],
            culprits(&["p01", "p06"], &["p01", "p06"]),
            4,
        ),
        ("one is well", &["p06"], culprits(&["p06"], &["p06"]), 20),
    ] {
        let mut runs = 0;
        let answer = search(&names(8), &[], Some(&known), &mut |left_out| {
            runs += 1;
            Ok(broken
                .iter()
                .all(|part| left_out.iter().any(|out| out == part)))
        });
        assert_eq!(answer, Ok(want), "{case}");
        assert!(runs <= runs_max, "{case}: {runs} runs");
    }
}

#[test]
fn what_cannot_be_decided_is_not_half_decided() {
    let mut runs = 0;
    let answer = search(&names(8), &[], None, &mut |left_out| {
        runs += 1;
        if runs > 3 {
            return Err(Undecided("out of time".to_owned()));
        }
        Ok(left_out.iter().any(|out| out == "p05"))
    });
    assert_eq!(answer, Err(Undecided("out of time".to_owned())));
}

#[test]
fn a_search_that_named_nobody_is_made_again_only_after_a_while() {
    let items = names(8);
    for (case, flaps) in [("it comes and goes", true), ("it never starts", false)] {
        let mut runs = 0;
        let mut look = |question: &str, now: Duration, well: bool| {
            let earlier = in_vain(case, question, now);
            let answer = earlier.unwrap_or_else(|| {
                let answer = search(&items, &[], None, &mut |_| {
                    runs += 1;
                    // The second start leaves everything out: once it works, and then it does not.
                    Ok(well || (flaps && runs == 2))
                });
                pause(case, question, now, &answer);
                answer
            });
            (answer, std::mem::take(&mut runs))
        };
        let start = Duration::from_secs(1_000);
        let (first, runs) = look("a", start, false);
        assert!(
            matches!(&first, Err(_) | Ok(Answer::NeverStarts)),
            "{case}: {first:?}"
        );
        assert!(runs > 0, "{case}");
        let within = start + PAUSE.saturating_sub(Duration::from_millis(1));
        assert_eq!(look("a", within, true), (first.clone(), 0), "{case}");
        let (_, runs) = look("b", within, false);
        assert!(runs > 0, "{case}: other parts are another question");
        let (again, runs) = look("a", start + PAUSE, false);
        assert_eq!(again, first, "{case}");
        assert!(runs > 0, "{case}");
        let found = look("c", start + PAUSE, true);
        assert_eq!(found, (Ok(Answer::Starts), 1), "{case}");
        let (_, runs) = look("a", start + PAUSE, false);
        assert!(runs > 0, "{case}: an answer ended the pause");
    }
}

/// One start among all fails, or works, by chance: whichever it is, it costs nobody his place.
#[test]
fn one_answer_that_came_by_chance_names_nobody() {
    // Of a pair either one may be the one to leave out.
    let named = |answer: &Answer| match answer {
        Answer::Starts => Some(BTreeSet::new()),
        Answer::NeverStarts => None,
        Answer::Culprits { clash, .. } => Some(clash.iter().cloned().collect::<BTreeSet<_>>()),
    };
    for (case, clashes) in [
        ("nothing is wrong", &[][..]),
        ("one", &[&["p05"][..]][..]),
        ("a pair", &[&["p02", "p06"]]),
        ("two of their own", &[&["p01"], &["p06"]]),
    ] {
        let items = names(8);
        let (right, runs) = searched(&items, &[], clashes);
        for odd in 0..runs {
            let mut run = 0;
            let answer = search(&items, &[], None, &mut |left_out| {
                run += 1;
                let fails = clashes.iter().any(|clash| {
                    clash
                        .iter()
                        .all(|part| !left_out.iter().any(|out| out == part))
                });
                Ok(fails == (run == odd + 1))
            });
            match &answer {
                Err(Undecided(why)) => assert!(why.contains("comes and goes"), "{case}: {why}"),
                // Where the odd one was the first look, nothing more need be asked.
                Ok(Answer::Starts) => assert_eq!(odd, 0, "{case}"),
                Ok(other) => {
                    let case = format!("{case}, the odd one is start {odd}: {other:?}");
                    assert_eq!(named(other), named(&right), "{case}");
                }
            }
        }
    }
}

#[test]
fn names_that_could_be_taken_for_something_else_are_refused() {
    assert_eq!(fit(&texts(&["akismet", "hello-dolly", "a.b_c"])), Ok(()));
    for odd in ["", "-x", "a,b", "a b", "../x", ".x", "a/b", "é"] {
        assert!(fit(&texts(&["fine", odd])).is_err(), "{odd}");
    }
}

proptest! {
    /// Whatever clashes with whatever: it starts without what is found, and needs every member of it.
    #[test]
    fn what_is_found_is_needed_and_enough(
        count in 1_usize..12,
        clashes in prop::collection::vec(prop::collection::btree_set(0_usize..12, 1..4), 1..4),
        suspect in 0_usize..12,
    ) {
        let items = names(count);
        let clashes: Vec<BTreeSet<String>> = clashes
            .into_iter()
            .map(|clash| clash.into_iter().map(|number| format!("p{number:02}")).collect())
            .filter(|clash: &BTreeSet<String>| clash.iter().all(|part| items.contains(part)))
            .collect();
        let starts = |left_out: &[String]| {
            !clashes.iter().any(|clash| clash.iter().all(|part| !left_out.contains(part)))
        };
        let answer = search(&items, &[format!("p{suspect:02}")], None, &mut |left_out| Ok(starts(left_out)));
        match answer.unwrap() {
            Answer::Starts => prop_assert!(starts(&[])),
            Answer::NeverStarts => prop_assert!(!starts(&items)),
            Answer::Culprits { leave_out, clash } => {
                prop_assert!(starts(&leave_out));
                for spared in &leave_out {
                    let others: Vec<String> =
                        leave_out.iter().filter(|other| *other != spared).cloned().collect();
                    prop_assert!(!starts(&others), "{spared} need not be left out");
                }
                if leave_out.len() == 1 {
                    let out: Vec<String> =
                        items.iter().filter(|item| !clash.contains(item)).cloned().collect();
                    prop_assert!(!starts(&out), "{clash:?} do not clash");
                }
            }
        }
    }
}
