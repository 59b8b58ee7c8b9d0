//! Agent and supervisor are killed at every announced point: a heal's program runs at most once, nothing of it is left,
//! and the record says what is true.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use healer_agent::protocol::{Answer, How, RefusalCode, Request, WitnessState};

use crate::client::{Agent, OWNER, Place, kill, script, supervisor, wait_for};

/// The two named pipes of one run.
struct Points {
    lines: Receiver<String>,
    answers: File,
    variable: String,
}

impl Points {
    fn new(place: &Place) -> Self {
        let made = |name: &str| -> PathBuf {
            let path = place.outside.join(name);
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
            path
        };
        let (out, back) = (made("out"), made("back"));
        // Both ends at once, so that nobody ever waits for the other side to open.
        let open = |path: &PathBuf| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (heard, answers) = (open(&out), open(&back));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(heard).lines() {
                let sent = line
                    .map_err(drop)
                    .and_then(|line| sender.send(line).map_err(drop));
                if sent.is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            answers,
            variable: format!("{},{}", out.display(), back.display()),
        }
    }

    /// Lets everybody pass, and kills who comes to the `nth` point; gives its name, `None` when there were fewer.
    fn kill_at(&mut self, nth: usize, ended: impl Fn() -> bool) -> Option<String> {
        let mut seen = 0;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    let (pid, name) = line.split_once(' ').unwrap();
                    if seen == nth {
                        kill(pid.parse().unwrap());
                        // From here on everybody passes freely.
                        self.answers.write_all(&[0; 4096]).unwrap();
                        return Some(name.to_owned());
                    }
                    seen += 1;
                    self.answers.write_all(&[0]).unwrap();
                }
                Err(_) if ended() => return None,
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_kill_at_any_point_never_runs_a_program_twice_or_leaves_one() {
    let mut names = BTreeSet::new();
    for nth in 0..200 {
        let place = Place::new();
        let mut points = Points::new(&place);
        let variable = points.variable.clone();
        let mut agent = Agent::with(&place, OWNER, &[("HEALERD_CRASH_PIPE", &variable)]);
        let text = format!("echo ran >> {}/runs", place.outside.display());
        let start = place.start("h1", vec![script(&text, 20_000)]);
        agent.send(&Request::Start(Box::new(start.clone())), b"");
        let finished = place.state.join("witness/h1/finished");
        let ended = || finished.exists() && supervisor(&place.state, "h1").is_none();
        let Some(name) = points.kill_at(nth, ended) else {
            assert!(nth > 8, "only {nth} points: {names:?}");
            agent.kill();
            break;
        };
        names.insert(name.clone());
        // Whoever was not killed goes on to its end.
        drop(agent.child.kill());
        agent.child.wait().unwrap();
        wait_for("the supervisor's end", || {
            supervisor(&place.state, "h1").is_none()
        });

        let mut agent = Agent::new(&place);
        let settle = Request::Settle {
            heal: "h1".to_owned(),
            fence: 1,
        };
        // What a dead supervisor left is ended first, and until it is gone the answer is "still running".
        let mut state = WitnessState::Absent;
        wait_for("what was left to be gone", || {
            let Answer::Witness(said) = agent.ask(settle.clone()).unwrap() else {
                panic!("{name}: a state");
            };
            state = said;
            !matches!(state, WitnessState::Running { .. })
        });
        let runs = place.text("runs");
        match &state {
            WitnessState::Cancelled => assert_eq!(runs, "", "{name}"),
            WitnessState::Interrupted { same_boot, .. } => {
                assert!(*same_boot, "{name}");
                assert!(runs.is_empty() || runs == "ran\n", "{name}: {runs}");
            }
            WitnessState::Finished(finished) => {
                assert_eq!(finished.how, How::Done, "{name}");
                assert_eq!(runs, "ran\n", "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(place.programs(), Vec::<String>::new(), "{name}");
        let again = agent.start(start).unwrap_err();
        assert_eq!(again.code, RefusalCode::AlreadyStarted, "{name}");
        assert_eq!(agent.ask(settle).unwrap(), Answer::Witness(state), "{name}");
        assert_eq!(place.text("runs"), runs, "{name}");
    }
    for expected in [
        "run.witness.locked",
        "run.witness.intent_written",
        "run.witness.intent_durable",
        "run.started",
        "run.step.announced",
        "run.program.spawned",
        "run.effects.durable",
        "run.finished",
    ] {
        assert!(
            names.contains(expected),
            "{expected} was never reached: {names:?}"
        );
    }
}
