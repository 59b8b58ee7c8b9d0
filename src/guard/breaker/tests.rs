//! The breaker's rules as rows, and as laws over every order of what can happen to it.

use proptest::prelude::*;

use super::status::status;
use super::*;

const SECOND: i64 = 1000;
const HOUR: u64 = 3600;

fn at(seconds: i64) -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: seconds * SECOND,
        wall_ms: 1_800_000_000_000 + seconds * SECOND,
    }
}

fn by(now: &Moment) -> By<'_> {
    By {
        actor: "healerd",
        heal: None,
        now,
        draw: 500,
    }
}

fn heal(number: u128) -> HealId {
    HealId::from_raw(number)
}

fn name(number: u8) -> ActionName {
    format!("action{number}").parse().unwrap()
}

fn failure(number: u128, action: u8, now: &Moment) -> Failure {
    Failure {
        heal: heal(number),
        action: name(action),
        at: now.clone(),
        recurred: false,
    }
}

fn new() -> Breaker {
    Breaker::new("shop".parse().unwrap())
}

fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
}

/// So many failures of one action, a second apart, beginning at `from`.
fn failed(mut breaker: Breaker, count: u128, action: u8, from: i64) -> Breaker {
    for number in 0..count {
        let now = at(from + i64::try_from(number).unwrap());
        let id = u128::try_from(from).unwrap() * 1000 + number;
        breaker = fail(&breaker, failure(id, action, &now), &policy(), by(&now)).breaker;
    }
    breaker
}

fn half_open(breaker: &Breaker, now: &Moment) -> Breaker {
    let step = advance(breaker, &policy(), by(now)).expect("the cooldown is over");
    assert_eq!(step.breaker.state, BreakerState::HalfOpen);
    step.breaker
}

fn cured(breaker: &Breaker, number: u128, action: u8, now: &Moment) -> Step {
    let incident = IncidentId::from_raw(1);
    cure(
        breaker,
        heal(number),
        &name(action),
        incident,
        &policy(),
        by(now),
    )
}

#[test]
fn third_failure_opens_the_breaker_for_an_hour() {
    let two = failed(new(), 2, 1, 0);
    assert_eq!((two.state, two.failures.len()), (BreakerState::Closed, 2));
    let three = failed(two, 1, 2, 10);
    assert_eq!(three.state, BreakerState::Open, "of whatever action");
    assert_eq!(three.cooldown_ms, HOUR * 1000);
    assert_eq!(
        advance(&three, &policy(), by(&at(10 + 3599))),
        None,
        "not a second before"
    );
    half_open(&three, &at(10 + 3600));
}

#[test]
fn the_refusal_says_what_why_and_when() {
    let open = failed(new(), 3, 1, 0);
    for (seconds, minutes) in [(2 + 15 * 60, 45), (2 + 15 * 60 - 1, 46), (2 + 3599, 1)] {
        let said = status(&open, &policy(), &at(seconds));
        assert!(!said.can_heal);
        assert_eq!(
            said.reason,
            format!(
                "Circuit breaker is open. Too many consecutive failures (3). Healing will be available in {minutes} minutes."
            )
        );
        assert_eq!(said.remaining_minutes, minutes);
    }
    let said = serde_json::to_value(status(&open, &policy(), &at(2))).unwrap();
    let keys: Vec<_> = said
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "canHeal",
            "circuitBreakerResetAt",
            "circuitBreakerState",
            "consecutiveFailures",
            "lastCircuitBreakerOpen",
            "maxRetries",
            "reason",
            "remainingMinutes"
        ]
    );
    assert_eq!(said["circuitBreakerState"], "OPEN");
    assert_eq!(said["maxRetries"], 3);
}

#[test]
fn an_open_record_without_its_time_stays_shut() {
    let torn = Breaker {
        opened: None,
        ..failed(new(), 3, 1, 0)
    };
    assert_eq!(advance(&torn, &policy(), by(&at(1_000_000))), None);
    let said = status(&torn, &policy(), &at(1_000_000));
    assert!(!said.can_heal);
    assert_eq!(said.remaining_minutes, 24 * 60);
}

#[test]
fn open_time_doubles_and_is_capped() {
    let hours = |count| Duration::from_secs(count * HOUR);
    for (case, level, want) in [
        ("first trip", 0, hours(1)),
        ("second trip", 1, hours(2)),
        ("third trip", 2, hours(4)),
        ("fifth trip", 4, hours(16)),
        ("sixth trip is capped", 5, hours(24)),
        ("a trip beyond all numbers", 200, hours(24)),
    ] {
        assert_eq!(open_time(hours(1), hours(24), level), want, "{case}");
    }
}

#[test]
fn jitter_moves_a_length_by_its_percent_to_either_side() {
    let hour = Duration::from_secs(HOUR);
    for (draw, want) in [(0, 3240), (500, 3600), (1000, 3960), (u16::MAX, 3960)] {
        assert_eq!(jittered(hour, 10, draw), Duration::from_secs(want));
    }
    assert_eq!(jittered(hour, 0, 0), hour);
}

#[test]
fn a_cure_answers_only_the_failures_of_its_own_action() {
    let mixed = failed(failed(new(), 1, 1, 0), 1, 2, 10);
    let step = cured(&mixed, 99, 1, &at(20));
    assert!(step.transitions.is_empty());
    let left: Vec<_> = step
        .breaker
        .failures
        .iter()
        .map(|one| one.action.clone())
        .collect();
    assert_eq!(left, [name(2)]);
    let none = cured(&step.breaker, 100, 3, &at(30)).breaker;
    assert_eq!(none.failures.len(), 1, "another action answers nothing");
}

#[test]
fn a_cured_trial_closes_and_clears_everything() {
    let open = failed(failed(new(), 2, 1, 0), 1, 2, 10);
    let half = half_open(&open, &at(10 + 3600));
    let trial = reserve_trial(&half, heal(50), &policy(), &at(3700)).unwrap();
    let step = cured(&trial, 50, 1, &at(4000));
    assert_eq!(step.breaker.state, BreakerState::Closed);
    assert!(step.breaker.failures.is_empty());
    assert_eq!(step.breaker.trial, None);
    assert_eq!(step.transitions.len(), 1);
    assert_eq!(step.transitions[0].from, BreakerState::HalfOpen);
}

#[test]
fn a_cure_that_is_not_the_trial_does_not_close_a_half_open_breaker() {
    let half = half_open(&failed(new(), 3, 1, 0), &at(5000));
    let step = cured(&half, 50, 2, &at(5001));
    assert_eq!(step.breaker.state, BreakerState::HalfOpen);
    assert_eq!(step.breaker.failures.len(), 3);
}

#[test]
fn more_cures_are_needed_when_the_operator_says_so() {
    let policy = BreakerPolicy {
        half_open_cures: 2,
        ..policy()
    };
    let mut breaker = half_open(&failed(new(), 3, 1, 0), &at(5000));
    for (number, want) in [(50, BreakerState::HalfOpen), (51, BreakerState::Closed)] {
        let now = at(5001);
        breaker = reserve_trial(&breaker, heal(number), &policy, &now).unwrap();
        breaker = cure(
            &breaker,
            heal(number),
            &name(9),
            IncidentId::from_raw(1),
            &policy,
            by(&now),
        )
        .breaker;
        assert_eq!(breaker.state, want);
    }
}

#[test]
fn a_failed_trial_opens_for_twice_as_long() {
    let mut breaker = failed(new(), 3, 1, 0);
    let mut now = 2;
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        assert_eq!(breaker.cooldown_ms, hours * HOUR * 1000);
        now += i64::try_from(hours * HOUR).unwrap();
        let half = half_open(&breaker, &at(now));
        let id = 500 + u128::try_from(now).unwrap();
        let trial = reserve_trial(&half, heal(id), &policy(), &at(now)).unwrap();
        breaker = fail(&trial, failure(id, 1, &at(now)), &policy(), by(&at(now))).breaker;
        assert_eq!((breaker.state, &breaker.trial), (BreakerState::Open, &None));
    }
}

#[test]
fn each_clean_day_takes_one_step_back() {
    for (days, hours) in [(0, 8), (1, 4), (2, 2), (3, 1), (30, 1)] {
        let trips = Breaker {
            state: BreakerState::HalfOpen,
            level: 3,
            ..failed(new(), 3, 1, 0)
        };
        let trial = reserve_trial(&trips, heal(50), &policy(), &at(10)).unwrap();
        let closed = cured(&trial, 50, 1, &at(100)).breaker;
        let again = failed(closed, 3, 1, 100 + days * 86_400);
        assert_eq!(again.state, BreakerState::Open);
        assert_eq!(again.cooldown_ms, hours * HOUR * 1000, "after {days} days");
    }
}

#[test]
fn a_cure_that_did_not_last_is_taken_back() {
    let two = failed(new(), 2, 1, 0);
    let well = cured(&two, 50, 1, &at(100)).breaker;
    assert!(well.failures.is_empty());
    let step = recur(
        &well,
        IncidentId::from_raw(1),
        heal(50),
        &policy(),
        by(&at(200)),
    );
    assert_eq!(step.breaker.failures.len(), 3, "what it answered, plus one");
    assert_eq!(step.breaker.state, BreakerState::Open);
    assert!(step.breaker.cures.is_empty(), "it is taken back once");
}

#[test]
fn a_taken_back_cure_that_had_closed_the_breaker_opens_it_at_the_next_level() {
    let half = half_open(&failed(new(), 3, 1, 0), &at(5000));
    let trial = reserve_trial(&half, heal(50), &policy(), &at(5000)).unwrap();
    let closed = cured(&trial, 50, 1, &at(6000)).breaker;
    let step = recur(
        &closed,
        IncidentId::from_raw(1),
        heal(50),
        &policy(),
        by(&at(6600)),
    );
    assert_eq!(step.breaker.state, BreakerState::Open);
    assert_eq!(step.breaker.cooldown_ms, 2 * HOUR * 1000);
    assert_eq!(step.breaker.failures.len(), 4);
}

#[test]
fn the_third_return_of_one_symptom_in_a_day_opens_the_breaker() {
    let policy = BreakerPolicy {
        max_failures: 100,
        ..policy()
    };
    let come_back = |spacing: i64, incident: fn(u128) -> u128| {
        let mut breaker = new();
        for number in 0..3_u128 {
            let now = at(i64::try_from(number).unwrap() * spacing);
            let incident = IncidentId::from_raw(incident(number));
            breaker = cure(
                &breaker,
                heal(number),
                &name(1),
                incident,
                &policy,
                by(&now),
            )
            .breaker;
            breaker = recur(&breaker, incident, heal(number), &policy, by(&now)).breaker;
        }
        breaker.state
    };
    assert_eq!(come_back(3600, |_| 1), BreakerState::Open);
    assert_eq!(
        come_back(13 * 3600, |_| 1),
        BreakerState::Closed,
        "not within one day"
    );
    assert_eq!(
        come_back(3600, |number| number),
        BreakerState::Closed,
        "not one symptom"
    );
}

#[test]
fn there_is_one_trial_and_a_lost_one_is_a_failed_one() {
    let half = half_open(&failed(new(), 3, 1, 0), &at(5000));
    assert_eq!(
        reserve_trial(&new(), heal(1), &policy(), &at(0)),
        None,
        "CLOSED has none"
    );
    let trial = reserve_trial(&half, heal(50), &policy(), &at(5000)).unwrap();
    assert_eq!(reserve_trial(&trial, heal(51), &policy(), &at(5000)), None);
    assert_eq!(
        confirm_trial(&trial, heal(51)),
        None,
        "only its own heal confirms it"
    );
    assert!(
        confirm_trial(&trial, heal(50))
            .unwrap()
            .trial
            .unwrap()
            .confirmed
    );
    assert_eq!(give_back_trial(&trial, heal(51)), None);
    assert_eq!(give_back_trial(&trial, heal(50)).unwrap().trial, None);
    assert_eq!(advance(&trial, &policy(), by(&at(5000 + 7199))), None);
    let lost = advance(&trial, &policy(), by(&at(5000 + 7200)))
        .unwrap()
        .breaker;
    assert_eq!(
        (lost.state, lost.cooldown_ms),
        (BreakerState::Open, 2 * HOUR * 1000)
    );
}

#[test]
fn reset_leads_to_closed_with_no_failures_and_forgets_levels() {
    for breaker in [
        failed(new(), 3, 1, 0),
        half_open(&failed(new(), 3, 1, 0), &at(5000)),
        failed(new(), 2, 1, 0),
    ] {
        let step = reset(&breaker, "fixed by hand", by(&at(6000)));
        assert_eq!(step.breaker.state, BreakerState::Closed);
        assert!(step.breaker.failures.is_empty());
        let again = failed(step.breaker, 3, 1, 7000);
        assert_eq!(again.cooldown_ms, HOUR * 1000);
    }
}

#[test]
fn a_recurrence_after_a_reset_counts_nothing_twice() {
    let well = cured(&failed(new(), 2, 1, 0), 50, 1, &at(100)).breaker;
    let clear = reset(&well, "fixed by hand", by(&at(110))).breaker;
    let step = recur(
        &clear,
        IncidentId::from_raw(1),
        heal(50),
        &policy(),
        by(&at(200)),
    );
    assert!(step.breaker.failures.is_empty());
    assert_eq!(step.breaker.state, BreakerState::Closed);
}

#[test]
fn a_heal_that_is_told_twice_is_one_failure() {
    let one = failed(new(), 1, 1, 0);
    let again = fail(&one, failure(0, 1, &at(1)), &policy(), by(&at(1)));
    assert_eq!(again.breaker, one);
}

#[test]
fn clocks_that_step_lengthen_a_cooldown_by_at_most_itself() {
    let open = failed(new(), 3, 1, 0);
    let year_ms = 365 * 86_400 * SECOND;
    for (case, now, want) in [
        (
            "the wall ten years back, same boot",
            Moment {
                wall_ms: 0,
                ..at(3602)
            },
            true,
        ),
        (
            "the wall ten years ahead, same boot",
            Moment {
                wall_ms: i64::MAX,
                ..at(3601)
            },
            false,
        ),
    ] {
        assert_eq!(
            advance(&open, &policy(), by(&now)).is_some(),
            want,
            "{case}"
        );
    }
    for off_ms in [-10 * year_ms, 10 * year_ms, 0] {
        let boot = Moment {
            boot_id: "next".to_owned(),
            boot_ms: 0,
            wall_ms: at(3).wall_ms + off_ms,
        };
        let opened = open.opened.as_ref().unwrap();
        assert!(boot.remaining(opened, Duration::from_secs(HOUR)) <= Duration::from_secs(HOUR));
        let later = Moment {
            boot_ms: i64::try_from(HOUR).unwrap() * SECOND,
            wall_ms: boot.wall_ms + i64::try_from(HOUR).unwrap() * SECOND,
            ..boot.clone()
        };
        assert!(
            advance(&open, &policy(), by(&later)).is_some(),
            "an hour of the next boot is an hour, whatever the wall clock says ({off_ms})"
        );
    }
}

/// What can happen to a breaker.
#[derive(Debug, Clone)]
enum Happening {
    Fail {
        action: u8,
    },
    FailTrial,
    CureTrial {
        action: u8,
    },
    Cure {
        action: u8,
    },
    Recur {
        place: usize,
        incident: u128,
    },
    Reserve,
    Confirm,
    GiveBack,
    Pass {
        seconds: i64,
    },
    Step {
        years: i64,
    },
    Force {
        how: Option<ForcedState>,
        seconds: u64,
    },
    Reset,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..3_u8).prop_map(|action| Happening::Fail { action }),
        2 => Just(Happening::FailTrial),
        3 => (0..3_u8).prop_map(|action| Happening::CureTrial { action }),
        3 => (0..3_u8).prop_map(|action| Happening::Cure { action }),
        3 => (0..4_usize, 0..3_u128).prop_map(|(place, incident)| Happening::Recur { place, incident }),
        4 => Just(Happening::Reserve),
        1 => Just(Happening::Confirm),
        1 => Just(Happening::GiveBack),
        8 => prop_oneof![1..600_i64, 3000..4000_i64, 80_000..200_000_i64].prop_map(|seconds| Happening::Pass { seconds }),
        1 => (-10..11_i64).prop_map(|years| Happening::Step { years }),
        1 => (prop::option::of(prop_oneof![Just(ForcedState::Open), Just(ForcedState::ObserveOnly)]), 1..9000_u64)
            .prop_map(|(how, seconds)| Happening::Force { how, seconds }),
        1 => Just(Happening::Reset),
    ]
}

fn is_legal(from: BreakerState, to: BreakerState, cause: &str) -> bool {
    match (from, to) {
        (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open)
        | (BreakerState::Open, BreakerState::HalfOpen) => true,
        (BreakerState::HalfOpen, BreakerState::Closed) => {
            cause == "the trial cured" || cause.starts_with("reset: ")
        }
        (BreakerState::Open, BreakerState::Closed) => cause.starts_with("reset: "),
        _ => false,
    }
}

proptest! {
    #[test]
    fn every_order_of_events_keeps_the_rules(happenings in prop::collection::vec((happening(), 0..1001_u16), 1..80)) {
        let policy = policy();
        let mut now = at(1000);
        let mut breaker = new();
        for (number, (happening, draw)) in (100_u128..).zip(happenings) {
            let before = breaker.clone();
            let moment = now.clone();
            let by = By { draw, ..by(&moment) };
            let incident = IncidentId::from_raw(1);
            let unmoved = |breaker: Breaker| Step { breaker, transitions: Vec::new() };
            let step = match &happening {
                Happening::FailTrial => match &breaker.trial {
                    Some(trial) => fail(&breaker, failure(trial.heal.raw(), 0, &now), &policy, by),
                    None => unmoved(breaker.clone()),
                },
                Happening::Fail { action } => fail(&breaker, failure(number, *action, &now), &policy, by),
                Happening::CureTrial { action } => match &breaker.trial {
                    Some(trial) => cure(&breaker, trial.heal, &name(*action), incident, &policy, by),
                    None => unmoved(breaker.clone()),
                },
                Happening::Cure { action } => {
                    let step = cure(&breaker, heal(number), &name(*action), incident, &policy, by);
                    let others = |breaker: &Breaker| {
                        breaker.failures.iter().filter(|one| one.action != name(*action)).cloned().collect::<Vec<_>>()
                    };
                    prop_assert_eq!(others(&step.breaker), others(&before), "only its own action's failures are answered");
                    prop_assert_eq!(step.breaker.state, before.state);
                    step
                }
                Happening::Recur { place, incident } => {
                    let cured = before.cures.get(*place).map_or(heal(9999), |cure| cure.heal);
                    recur(&breaker, IncidentId::from_raw(*incident), cured, &policy, by)
                }
                Happening::Reserve => {
                    let reserved = reserve_trial(&breaker, heal(number), &policy, &now);
                    let free = before.state == BreakerState::HalfOpen && before.trial.is_none();
                    prop_assert_eq!(reserved.is_some(), free, "one trial, and only when half-open");
                    unmoved(reserved.unwrap_or(breaker.clone()))
                }
                Happening::Confirm => {
                    let own = before.trial.as_ref().map_or(heal(0), |trial| trial.heal);
                    unmoved(confirm_trial(&breaker, own).unwrap_or(breaker.clone()))
                }
                Happening::GiveBack => {
                    let own = before.trial.as_ref().map_or(heal(0), |trial| trial.heal);
                    unmoved(give_back_trial(&breaker, own).unwrap_or(breaker.clone()))
                }
                Happening::Pass { seconds } => {
                    now = now.plus(Duration::from_secs(u64::try_from(*seconds).unwrap()));
                    let by = By { now: &now, ..by };
                    let step = advance(&breaker, &policy, by);
                    if let (BreakerState::Open, Some(opened)) = (before.state, &before.opened) {
                        let over = now.boot_ms - opened.boot_ms >= i64::try_from(before.cooldown_ms).unwrap();
                        let opens = step.as_ref().is_some_and(|step| step.breaker.state == BreakerState::HalfOpen);
                        prop_assert_eq!(opens, over, "half-open exactly when the cooldown is over");
                    }
                    step.unwrap_or_else(|| unmoved(breaker.clone()))
                }
                Happening::Step { years } => {
                    now.wall_ms += years * 365 * 86_400 * SECOND;
                    unmoved(breaker.clone())
                }
                Happening::Force { how, seconds } => {
                    let forced = how.map(|how| Forced {
                        how,
                        owner: "ann(1)".to_owned(),
                        reason: "migration".to_owned(),
                        since: now.clone(),
                        for_ms: Some(seconds * 1000),
                    });
                    unmoved(force(&breaker, forced))
                }
                Happening::Reset => reset(&breaker, "fixed by hand", by),
            };

            let mut state = before.state;
            for transition in &step.transitions {
                prop_assert_eq!(transition.from, state, "history connects end to end");
                prop_assert!(
                    is_legal(transition.from, transition.to, &transition.cause),
                    "{:?} by {:?}", transition, happening
                );
                state = transition.to;
            }
            breaker = step.breaker;
            prop_assert_eq!(breaker.state, state, "no state changes without a row");

            if breaker.state == BreakerState::Open && before.state != BreakerState::Open {
                let base = open_time(policy.cooldown, policy.cooldown_max, breaker.level - 1);
                let length = Duration::from_millis(breaker.cooldown_ms);
                prop_assert!(length >= base.mul_f64(0.9) && length <= base.mul_f64(1.1), "{:?} {:?}", length, base);
            }
            if breaker.state != BreakerState::HalfOpen {
                prop_assert_eq!(&breaker.trial, &None);
            }
            if breaker.state == BreakerState::Closed {
                prop_assert!(breaker.failures.len() < policy.max_failures as usize);
            }
            let mut heals: Vec<_> = breaker.failures.iter().map(|one| one.heal).collect();
            heals.sort();
            heals.dedup();
            prop_assert_eq!(heals.len(), breaker.failures.len(), "one heal is one failure");

            let kept = breaker.clone();
            let said = status(&breaker, &policy, &now);
            prop_assert_eq!(&said, &status(&breaker, &policy, &now));
            prop_assert_eq!(&kept, &breaker, "reading changes nothing");
            let forced = forced(&breaker, &now);
            let want = forced.is_none() && match breaker.state {
                BreakerState::Closed => true,
                BreakerState::Open => false,
                BreakerState::HalfOpen => breaker.trial.is_none(),
            };
            prop_assert_eq!(said.can_heal, want);
            prop_assert!(said.remaining_minutes <= 27 * 60, "it always ends");
        }
    }
}

#[test]
fn what_a_person_forced_is_shown_with_his_name_and_its_end() {
    let forced = |how, for_ms| {
        let word = Forced {
            how,
            owner: "ann(1)".to_owned(),
            reason: "migration".to_owned(),
            since: at(0),
            for_ms,
        };
        let forced = force(&new(), Some(word));
        status(&forced, &policy(), &at(60))
    };
    let hour = forced(ForcedState::Open, Some(3_600_000));
    let end = at(3600).to_text();
    assert_eq!(hour.circuit_breaker_state, BreakerState::Open);
    assert_eq!(hour.remaining_minutes, 59);
    assert_eq!(hour.circuit_breaker_reset_at.as_ref(), Some(&end));
    assert_eq!(hour.forced, Some(format!("forced by ann(1) until {end}")));
    assert_eq!(
        hour.reason,
        format!("Circuit breaker was forced open by ann(1) until {end}: migration")
    );
    let endless = forced(ForcedState::Open, None);
    assert_eq!(endless.circuit_breaker_state, BreakerState::Open);
    assert_eq!(endless.circuit_breaker_reset_at, None);
    assert!(endless.reason.contains("until it is lifted"));
    let watched = forced(ForcedState::ObserveOnly, None);
    assert_eq!(watched.circuit_breaker_state, BreakerState::Closed);
    assert!(
        watched
            .forced
            .is_some_and(|by| by.starts_with("observe only"))
    );
    assert!(watched.admits_persons && !watched.can_heal);
}

#[test]
fn a_cure_that_did_not_last_is_told_as_one_and_not_as_a_failed_heal() {
    let incident = IncidentId::from_raw(1);
    let once = cured(&new(), 7, 1, &at(0)).breaker;
    let back = recur(&once, incident, heal(7), &policy(), by(&at(60))).breaker;
    let said = status(&back, &policy(), &at(60));
    assert!(said.can_heal);
    assert_eq!(
        said.reason,
        "Circuit breaker is closed. It counts 1 cure that did not last; 3 open it."
    );
    let step = recur(
        &cured(&failed(back.clone(), 1, 2, 100), 8, 3, &at(200)).breaker,
        incident,
        heal(8),
        &policy(),
        by(&at(300)),
    );
    assert_eq!(
        step.transitions[0].cause,
        "1 failed heal and 2 cures that did not last"
    );
    assert_eq!(
        status(&step.breaker, &policy(), &at(300)).reason,
        "Circuit breaker is open. Too many consecutive failures (3: 1 failed heal and 2 cures that did not last). Healing will be available in 60 minutes."
    );
    let mut only = back;
    for number in [11, 12] {
        let now = at(i64::try_from(number).unwrap() * 100);
        only = cured(&only, number, 1, &now).breaker;
        only = recur(
            &only,
            IncidentId::from_raw(number),
            heal(number),
            &policy(),
            by(&now),
        )
        .breaker;
    }
    assert!(
        status(&only, &policy(), &at(1300))
            .reason
            .contains("Too many cures that did not last (3)."),
        "{}",
        status(&only, &policy(), &at(1300)).reason
    );
}

#[test]
fn what_a_person_takes_back_cannot_recur() {
    let early = cured(&new(), 1, 1, &at(0)).breaker;
    let both = cured(&early, 2, 2, &at(100)).breaker;
    let behind = std::collections::BTreeSet::from([heal(2), heal(3)]);
    let left = disown(&both, &behind).expect("one of them is a cure");
    assert_eq!(left.cures, early.cures, "the other one stands");
    assert_eq!(disown(&left, &behind), None);
    let step = recur(
        &left,
        IncidentId::from_raw(1),
        heal(2),
        &policy(),
        by(&at(200)),
    );
    assert!(step.breaker.failures.is_empty() && step.breaker.recurrences.is_empty());
}

#[test]
fn a_failure_that_was_stored_before_is_read_as_a_failed_heal() {
    let failure = failure(1, 1, &at(0));
    let stored = serde_json::to_string(&failure).unwrap();
    assert!(!stored.contains("recurred"), "{stored}");
    assert_eq!(serde_json::from_str::<Failure>(&stored).unwrap(), failure);
}
