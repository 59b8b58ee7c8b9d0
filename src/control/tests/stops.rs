//! What keeps anything from starting stands beside the plan, with what to do about it.

use super::double::{app, moment};
use crate::control::show;
use crate::guard::breaker::{self, By, status::status};
use crate::model::breaker::{Breaker, Failure, Forced, ForcedState};
use crate::model::id::{HealId, HoldId};
use crate::model::policy::Policy;
use crate::model::stop::{Hold, Scope};

fn forced(how: ForcedState) -> Breaker {
    let force = Forced {
        how,
        owner: "ann(1000)".to_owned(),
        reason: "I look at it".to_owned(),
        since: moment(),
        for_ms: None,
    };
    breaker::force(&Breaker::new("shop".parse().unwrap()), Some(force))
}

fn open() -> Breaker {
    let (now, policy) = (moment(), Policy::default().breaker);
    let by = By {
        actor: "healerd",
        heal: None,
        now: &now,
        draw: 500,
    };
    (1..=3).fold(Breaker::new("shop".parse().unwrap()), |known, number| {
        let failure = Failure {
            heal: HealId::from_raw(number),
            action: "restart_app".parse().unwrap(),
            at: now.clone(),
            recurred: false,
        };
        breaker::fail(&known, failure, &policy, by).breaker
    })
}

#[test]
fn an_application_that_nothing_stops_says_nothing() {
    assert_eq!(show::stops(&app("shop")), []);
}

#[test]
fn an_open_breaker_refuses_everybody_and_one_that_only_observes_no_person() {
    for (breaker, refuses, reason, next) in [
        (open(), true, "Circuit breaker is open.", "reset"),
        (
            forced(ForcedState::Open),
            true,
            "forced open by ann(1000)",
            "force none",
        ),
        (
            forced(ForcedState::ObserveOnly),
            false,
            "set to observe only",
            "force none",
        ),
    ] {
        let mut view = app("shop");
        view.breaker = status(&breaker, &Policy::default().breaker, &moment());
        let plan = show::plan(&view);
        let [stop] = &plan.stops[..] else {
            panic!("{:?}", plan.stops);
        };
        assert_eq!(
            (stop.by.as_str(), stop.refuses_persons),
            ("breaker", refuses)
        );
        assert!(stop.reason.contains(reason), "{}", stop.reason);
        assert!(
            stop.next
                .contains(&format!("`healerctl breaker shop {next}`")),
            "{}",
            stop.next
        );
    }
}

#[test]
fn a_hold_and_a_daemon_that_observes_stop_only_what_runs_by_itself() {
    let mut view = app("shop");
    view.held = Some(Hold {
        id: HoldId::from_raw(1),
        scope: Scope::Everything,
        owner: "ann(1000)".to_owned(),
        reason: "deploy with token=canary4711".to_owned(),
        since: moment(),
        for_ms: None,
    });
    view.observing = Some("three crashes in ten minutes".to_owned());
    let stops = show::stops(&view);
    let by: Vec<_> = stops.iter().map(|stop| stop.by.as_str()).collect();
    assert_eq!(by, ["hold", "daemon"]);
    assert!(stops.iter().all(|stop| !stop.refuses_persons));
    assert!(stops[0].reason.contains("ann(1000)") && !stops[0].reason.contains("canary"));
    assert!(stops[0].next.contains("`healerctl resume all`"));
}
