//! `program`, `process`, `unit` and `pm2` with real processes.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Fact, Ground, is_unknown, texts};
use crate::probe::procfs::Process;

/// A process of the application's user that is no child of ours, killed with its group when dropped.
struct Running(i32);

impl Running {
    fn start(ground: &Ground, directory: &str, argv: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "setsid \"$@\" >/dev/null 2>&1 </dev/null & echo $!",
                "sh",
            ])
            .args(argv)
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(ground.target.uid).gid(ground.target.gid);
        }
        let output = command.output().unwrap();
        let pid = String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // Until the name is its own it is still the shell that starts it.
        let name = argv[0];
        while Process::read(pid).is_some_and(|process| process.name != name) {
            std::thread::yield_now();
        }
        Self(pid)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process, kill_process_group};
        let pid = Pid::from_raw(self.0).unwrap();
        _ = kill_process_group(pid, Signal::KILL);
        _ = kill_process(pid, Signal::KILL);
    }
}

#[test]
fn a_program_tells_its_end_and_its_output() {
    let ground = Ground::new();
    for (argv, output, fact, want) in [
        (json!(["sh", "-c", "exit 3"]), "text", "exit", Fact::Int(3)),
        (
            json!(["sh", "-c", "kill -9 $$"]),
            "text",
            "exit",
            Fact::Absent,
        ),
        (
            json!(["sh", "-c", "echo a; echo b"]),
            "lines",
            "lines",
            texts(&["a", "b"]),
        ),
        (
            json!(["sh", "-c", "echo no >&2"]),
            "text",
            "error_text",
            Fact::from("no\n"),
        ),
        (
            json!(["echo", "{\"a\":1}"]),
            "json",
            "json",
            Fact::Map([("a".to_owned(), Fact::Int(1))].into()),
        ),
        (json!(["echo", "{"]), "json", "json", Fact::Absent),
        (
            json!(["no-such-program"]),
            "text",
            "found",
            Fact::Bool(false),
        ),
        (
            json!(["echo", "a b; c"]),
            "text",
            "text",
            Fact::from("a b; c\n"),
        ),
    ] {
        let facts = ground.ask("program", &json!({"argv": argv, "output": output}));
        assert_eq!(facts[fact], want, "{argv}");
    }
}

#[test]
fn a_program_that_runs_on_is_killed_with_its_children() {
    let ground = Ground::new();
    let script = "sleep 1000 & echo $! >child; setsid sleep 1001 & echo $! >left; wait";
    let facts = ground.ask(
        "program",
        &json!({"argv": ["sh", "-c", script], "timeout": "500ms"}),
    );
    assert_eq!(facts["timed_out"], Fact::Bool(true));
    assert_eq!(facts["exit"], Fact::Absent);
    for file in ["child", "left"] {
        let pid = std::fs::read_to_string(ground.path(file))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let gone = || Process::read(pid).is_none_or(|process| process.name != "sleep");
        // The signal is on its way; nothing but the process's own end is waited for.
        for _ in 0..1_000 {
            if gone() {
                break;
            }
            std::thread::yield_now();
        }
        assert!(gone(), "{file} {pid} still runs");
    }
}

#[test]
fn endless_output_is_capped() {
    let ground = Ground::new();
    let facts = ground.ask(
        "program",
        &json!({"argv": ["yes"], "output": "json", "timeout": "20s"}),
    );
    assert!(matches!(&facts["text"], Fact::Text(text) if text.len() == 64 << 10));
    assert!(is_unknown(&facts["json"], "cut off"));
    assert_eq!(facts["exit"], Fact::Absent);
}

#[test]
fn no_program_runs_as_root() {
    let mut ground = Ground::new();
    ground.target.uid = 0;
    let facts = ground.ask("program", &json!({"argv": ["echo"]}));
    assert!(is_unknown(&facts["exit"], "never run as root"));
}

#[test]
fn an_application_is_found_by_its_directory_or_script_and_a_tool_is_not() {
    let ground = Ground::new();
    let root = ground.target.root.clone();
    // It waits without a child: one that has not become its program yet bears its parent's command line.
    let never = format!("{root}/never");
    let made = Command::new("mkfifo").args(["-m", "644", &never]).status();
    assert!(made.unwrap().success());
    ground.write("artisan", &format!("read line < {never}\n"));
    ground.write("other.sh", "sleep 1000\n");
    let script = format!("{root}/artisan");
    let inside = Running::start(&ground, &root, &["sleep", "1000"]);
    let outside = Running::start(&ground, "/", &["sleep", "1000"]);
    let worker = Running::start(&ground, "/", &["dash", &script, "queue:work"]);
    let tool = Running::start(&ground, &root, &["tail", "-f", "artisan"]);
    let pid = |running: &Running| i64::from(running.0);
    let seen = |facts: &super::Facts| {
        let Fact::List(items) = &facts["pids"] else {
            panic!("{facts:?}")
        };
        let number = |item: &Fact| match *item {
            Fact::Int(pid) => Some(pid),
            Fact::Unknown(_)
            | Fact::Absent
            | Fact::Bool(_)
            | Fact::Text(_)
            | Fact::List(_)
            | Fact::Map(_)
            | Fact::Secret { .. } => None,
        };
        items.iter().filter_map(number).collect::<Vec<i64>>()
    };
    let all = seen(&ground.ask("process", &json!({})));
    assert!(all.contains(&pid(&inside)), "{all:?}");
    assert!(
        !all.contains(&pid(&outside)) && !all.contains(&pid(&tool)),
        "{all:?}"
    );
    let named = ground.ask("process", &json!({"any": ["artisan"]}));
    assert_eq!(seen(&named), [pid(&worker)]);
    assert_eq!(named["count"], Fact::Int(1));
    let migration = Running::start(
        &ground,
        "/",
        &["dash", &script, "--no-ansi", "migrate", "queue:work"],
    );
    let ended = ground.ask(
        "process",
        &json!({"any": ["artisan"], "except": ["queue:work"]}),
    );
    assert_eq!(
        seen(&ended),
        [pid(&migration)],
        "a worker is what was told to be one, and not what names one somewhere"
    );
    drop(migration);
    assert!(
        matches!(named["oldest"], Fact::Int(0..600_000)),
        "{named:?}"
    );
    let none = ground.ask("process", &json!({"any": ["composer"]}));
    assert_eq!(none["count"], Fact::Int(0));
    assert_eq!(none["oldest"], Fact::Absent);
}

#[test]
fn a_host_without_systemd_says_so() {
    let ground = Ground::new();
    let facts = ground.ask("unit", &json!({"name": "no-such-unit-at-all.service"}));
    if std::path::Path::new("/run/systemd/system").is_dir() {
        assert_eq!(facts["loaded"], Fact::Bool(false));
    } else {
        assert_eq!(facts["manager"], Fact::Bool(false));
        assert!(is_unknown(&facts["active"], "no systemd"));
    }
}

#[test]
fn a_pm2_that_is_not_alive_is_not_started() {
    let ground = Ground::new();
    let home = format!("{}/.pm2", ground.target.root);
    // A number that another process has by now.
    ground.write(".pm2/pm2.pid", &std::process::id().to_string());
    let facts = ground.ask("pm2", &json!({"home": home}));
    assert_eq!(facts["alive"], Fact::Bool(false));
    assert_eq!(facts["online"], Fact::Absent);
}
