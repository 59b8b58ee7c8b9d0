//! What is left when an agent or a supervisor is killed.

use healer_agent::protocol::{Answer, How, RefusalCode, Request, WitnessState};

use crate::client::{Agent, Place, kill, script, supervisor, wait_for};

#[test]
fn an_action_goes_on_when_its_agent_is_killed() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let outside = place.outside.display();
    let text = format!(
        "touch {outside}/begun; while ! [ -e {outside}/go ]; do sleep 0.02; done; echo ran >> {outside}/runs"
    );
    agent
        .start(place.start("h1", vec![script(&text, 50_000)]))
        .unwrap();
    wait_for("the step", || place.outside.join("begun").exists());
    agent.kill();
    let mut agent = Agent::new(&place);
    assert_eq!(agent.look("h1"), WitnessState::Running { step: 0 });
    std::fs::write(place.outside.join("go"), "").unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    assert_eq!(place.text("runs"), "ran\n");
}

#[test]
fn the_end_of_the_input_ends_the_agent_and_not_the_action() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let outside = place.outside.display();
    let text =
        format!("while ! [ -e {outside}/go ]; do sleep 0.02; done; echo ran >> {outside}/runs");
    agent
        .start(place.start("h1", vec![script(&text, 50_000)]))
        .unwrap();
    assert!(agent.close().success());
    std::fs::write(place.outside.join("go"), "").unwrap();
    let mut agent = Agent::new(&place);
    assert_eq!(agent.finished("h1").how, How::Done);
    assert_eq!(place.text("runs"), "ran\n");
}

#[test]
fn a_killed_supervisor_is_interrupted_and_leaves_nothing_running() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let outside = place.outside.display();
    let text = format!("(setsid sleep 1000 >/dev/null 2>&1 &); touch {outside}/begun; sleep 1000");
    let steps = vec![script("true", 9000), script(&text, 50_000)];
    agent.start(place.start("h1", steps)).unwrap();
    wait_for("the second step", || place.outside.join("begun").exists());
    let pid = supervisor(&place.state, "h1").expect("a supervisor");
    kill(pid);
    // A dying process loses its command line before its locks: only the record tells when it is gone.
    let mut seen = WitnessState::Running { step: 1 };
    wait_for("its death", || {
        seen = agent.look("h1");
        !matches!(seen, WitnessState::Running { .. })
    });
    assert_eq!(
        seen,
        WitnessState::Interrupted {
            step: 1,
            same_boot: true
        }
    );
    assert_eq!(place.programs(), Vec::<String>::new());
    let again = agent.start(place.start("h1", vec![script("true", 9000)]));
    assert_eq!(again.unwrap_err().code, RefusalCode::AlreadyStarted);
    let settled = agent.ask(Request::Settle {
        heal: "h1".to_owned(),
        fence: 1,
    });
    assert!(matches!(
        settled,
        Ok(Answer::Witness(WitnessState::Interrupted { step: 1, .. }))
    ));
}
