//! Steps that misbehave: at the deadline they are gone, all of them, and nothing else is.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use healer_agent::protocol::{How, Request};

use crate::client::{Agent, Place, script, wait_for};

/// Time beyond the deadline in which everything must be gone.
const LITTLE: Duration = Duration::from_secs(5);

#[test]
fn whatever_a_step_does_it_is_gone_soon_after_its_deadline() {
    for (case, text) in [
        ("never ends", "exec sleep 1000"),
        (
            "ignores TERM",
            "trap '' TERM HUP INT; while :; do sleep 1; done",
        ),
        (
            "daemonizes",
            "setsid sh -c 'setsid sleep 1000 & exec sleep 1000' </dev/null >/dev/null 2>&1 & sleep 1000",
        ),
        (
            "forks twice, leaves its session, ignores TERM",
            "( ( setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 & ) & ); sleep 1000",
        ),
        ("floods its output", "exec cat /dev/zero"),
        (
            "floods its errors from the background",
            "cat /dev/zero >&2 & sleep 1000",
        ),
        (
            "forks in a chain",
            "f() { f & }; i=0; g() { sleep 0.05; g & }; for i in 1 2 3 4 5 6 7 8; do g & done; sleep 1000",
        ),
        ("stops itself", "kill -STOP $$"),
        ("drops its mark", "exec env -i setsid -f sleep 1000"),
    ] {
        let place = Place::new();
        let mut agent = Agent::new(&place);
        let mut bystander = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        agent
            .start(place.start("h1", vec![script(text, 700)]))
            .unwrap();
        let finished = agent.finished("h1");
        let took = began.elapsed();
        assert!(
            took < Duration::from_millis(700) + LITTLE,
            "{case}: {took:?}"
        );
        assert_eq!(place.programs(), Vec::<String>::new(), "{case}");
        let expected = if case == "drops its mark" {
            How::Done // it returned at once and left something behind
        } else {
            How::TimedOut
        };
        assert_eq!(finished.how, expected, "{case}: {finished:?}");
        assert!(bystander.try_wait().unwrap().is_none(), "{case}");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

#[test]
fn a_flood_is_counted_and_its_ends_are_kept() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let text = "echo first; head -c 300000000 /dev/zero; echo last";
    agent
        .start(place.start("h1", vec![script(text, 50_000)]))
        .unwrap();
    let finished = agent.finished("h1");
    assert_eq!(finished.how, How::Done);
    assert_eq!(finished.steps[0].output_bytes, 300_000_011);
    let (bytes, total) = agent.output("h1", 0);
    assert_eq!(total, 300_000_011);
    assert!(bytes.len() < 140_000, "{}", bytes.len());
    assert!(bytes.starts_with(b"first\n") && bytes.ends_with(b"last\n"));
}

#[test]
fn nothing_outlives_a_step_that_succeeded() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let text = "(setsid sleep 1000 >/dev/null 2>&1 &); echo started";
    let start = place.start("h1", vec![script(text, 9000), script("echo second", 9000)]);
    agent.start(start).unwrap();
    let finished = agent.finished("h1");
    assert_eq!(finished.how, How::Done);
    assert_eq!(place.programs(), Vec::<String>::new());
    assert!(finished.steps[0].message.contains("left processes running"));
    assert_eq!(finished.steps[1].message, "second");
}

#[test]
fn a_cancel_ends_the_step_and_still_puts_things_in_order() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let outside = place.outside.display();
    let mut start = place.start(
        "h1",
        vec![
            script(&format!("touch {outside}/begun; sleep 1000"), 50_000),
            script(&format!("touch {outside}/second"), 9000),
        ],
    );
    start.finally = vec![script(&format!("touch {outside}/finally"), 9000)];
    agent.start(start).unwrap();
    wait_for("the first step", || place.outside.join("begun").exists());
    agent
        .ask(Request::CancelAction {
            heal: "h1".to_owned(),
        })
        .unwrap();
    let finished = agent.finished("h1");
    assert_eq!((finished.how, finished.step), (How::Cancelled, 0));
    assert!(place.outside.join("finally").exists());
    assert!(!place.outside.join("second").exists());
    assert_eq!(place.programs(), Vec::<String>::new());
}

#[test]
fn a_failed_step_stops_the_steps_and_not_finally() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let outside = place.outside.display();
    for (heal, text, exit, signal) in [
        ("h1", "echo reason >&2; exit 3", Some(3), None),
        ("h2", "kill -9 $$", None, Some(9)),
    ] {
        let mut start = place.start(
            heal,
            vec![
                script(text, 9000),
                script(&format!("touch {outside}/{heal}-second"), 9000),
            ],
        );
        start.finally = vec![script(&format!("touch {outside}/{heal}-finally"), 9000)];
        agent.start(start).unwrap();
        let finished = agent.finished(heal);
        assert_eq!((finished.how, finished.step), (How::Failed, 0));
        assert_eq!(
            (finished.steps[0].exit, finished.steps[0].signal),
            (exit, signal)
        );
        assert!(place.outside.join(format!("{heal}-finally")).exists());
        assert!(!place.outside.join(format!("{heal}-second")).exists());
    }
}

#[test]
fn a_program_gets_a_small_clean_world() {
    let place = Place::new();
    let mut agent = Agent::with(
        &place,
        crate::client::OWNER,
        &[("SECRET_OF_THE_DAEMON", "x")],
    );
    let text = "env | cut -d= -f1 | sort | tr '\\n' ' '; ls /proc/self/fd | tr '\\n' ' '; pwd; umask; \
                grep NoNewPrivs /proc/self/status; ulimit -c; id -u; grep SigIgn /proc/self/status";
    agent
        .start(place.start("h1", vec![script(text, 9000)]))
        .unwrap();
    let finished = agent.finished("h1");
    assert_eq!(finished.how, How::Done, "{finished:?}");
    let (bytes, _) = agent.output("h1", 0);
    let want = format!(
        "HEALERD_HEAL HOME LANG LOGNAME PATH PWD USER 0 1 2 3 {}\n0022\nNoNewPrivs:\t1\n0\n{}\nSigIgn:\t",
        place.root.display(),
        place.uid
    );
    let text = String::from_utf8_lossy(&bytes);
    let ignored = text.strip_prefix(&want).unwrap_or_else(|| panic!("{text}"));
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(
        ignored & (1 << 12),
        0,
        "a broken pipe ends it, as anywhere else"
    );
}
