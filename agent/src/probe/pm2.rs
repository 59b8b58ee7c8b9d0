//! The `pm2` probe: the pm2 daemon of the application's user, and its processes below the root.
//!
//! Any call of the pm2 program starts a daemon where none is alive, so it is called only when one is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Context;
use super::found::Found;
use super::place::Place;
use super::process::is_pm2_daemon;
use super::procfs::{Process, read_text};
use super::program::{NotRun, PATH, find, home_of, run};
use super::spec::Fact;
use crate::units::parse_duration;

/// `pm2 jlist` prints every process's whole environment.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// The daemon of this home, if it is alive.
fn daemon(home: &Path, uid: u32) -> Result<Option<Process>, String> {
    let file = home.join("pm2.pid");
    let pid = match read_text(&file.to_string_lossy()) {
        Ok(text) => text.trim().parse::<i32>().ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    // A number that was given to another process since is not the daemon.
    Ok(pid
        .and_then(Process::read)
        .filter(|process| process.uid == uid && is_pm2_daemon(process)))
}

/// Where the daemon's node lies, and beside it usually the pm2 that belongs to it (a version manager's directory).
fn programs(daemon: &Process) -> Option<PathBuf> {
    daemon.program().ok()?.parent().map(Path::to_owned)
}

fn program(root: &Path, home: &Path, programs: Option<&Path>) -> Option<PathBuf> {
    let beside = programs
        .map(|folder| folder.join("pm2"))
        .filter(|path| path.is_file());
    beside.or_else(|| find(root, "pm2")).or_else(|| {
        let user = home.parent()?;
        [
            root.join("node_modules/.bin/pm2"),
            user.join(".npm-global/bin/pm2"),
            user.join(".local/bin/pm2"),
        ]
        .into_iter()
        .find(|path| path.is_file())
    })
}

pub(super) fn probe(context: &Context, home: Option<&str>, timeout: &str) -> Found {
    let unknown = |why: &str| Found::unknown("pm2", why);
    let timeout = match parse_duration(timeout) {
        Ok(timeout) => timeout,
        Err(error) => return unknown(&error.to_string()),
    };
    let uid = context.target.uid;
    let home = match home {
        Some(home) => PathBuf::from(home),
        None => match home_of(uid) {
            Some(home) => Path::new(&home).join(".pm2"),
            None => return unknown(&format!("no home is known for uid {uid}; give `home`")),
        },
    };
    let daemon = daemon(&home, uid);
    let programs = daemon
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .and_then(programs);
    let program = program(context.place.root(), &home, programs.as_deref());
    let installed = program.is_some();
    match daemon {
        Err(why) => return unknown(&why).with("installed", installed),
        Ok(None) => {
            return Found::absent("pm2")
                .with("installed", installed)
                .with("alive", false);
        }
        Ok(Some(_)) => {}
    }
    let alive = |found: Found| found.with("installed", installed).with("alive", true);
    let Some(program) = program else {
        return alive(unknown("its daemon is alive, but the program is not found"));
    };
    let mut environment = BTreeMap::from([
        ("PM2_HOME".to_owned(), home.to_string_lossy().into_owned()),
        ("PM2_DISCRETE_MODE".to_owned(), "true".to_owned()),
    ]);
    // A version manager's node is in no usual directory.
    if let Some(folder) = programs.as_deref().and_then(Path::to_str) {
        environment.insert("PATH".to_owned(), format!("{folder}:{PATH}"));
    }
    let deadline = context.within(timeout);
    let arguments = ["jlist".to_owned()];
    match run(
        context,
        &program,
        &arguments,
        &environment,
        deadline,
        OUTPUT_BYTES_MAX,
    ) {
        Err(NotRun::NotFound) => alive(unknown("the program is gone")),
        Err(NotRun::Other(why)) => alive(unknown(&why)),
        Ok(ran) if ran.timed_out => alive(unknown("pm2 gave no answer in time")),
        Ok(ran) if ran.overflowed => alive(unknown("pm2 lists too many processes")),
        Ok(ran) => match list(&ran.stdout) {
            Some(list) => alive(facts(&list, &context.place)),
            None => alive(unknown("pm2 printed no list")),
        },
    }
}

/// The JSON list, behind whatever notices pm2 prints before it.
fn list(output: &[u8]) -> Option<Vec<Value>> {
    output
        .split_inclusive(|byte| *byte == b'\n')
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start, line))
        })
        .filter(|(_, line)| line.first() == Some(&b'['))
        .take(20)
        .find_map(|(start, _)| {
            let mut values = serde_json::Deserializer::from_slice(&output[start..]).into_iter();
            match values.next() {
                Some(Ok(Value::Array(list))) => Some(list),
                _ => None,
            }
        })
}

fn facts(list: &[Value], place: &Place) -> Found {
    let mut by_status: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut names = Vec::new();
    let mut restarts: i64 = 0;
    for item in list {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
        let below = |pointer: &str| text(pointer).is_some_and(|path| place.holds(Path::new(path)));
        let Some(name) = text("/name") else { continue };
        if !below("/pm2_env/pm_cwd") && !below("/pm2_env/pm_exec_path") {
            continue;
        }
        names.push(name.to_owned());
        let restarted = item
            .pointer("/pm2_env/restart_time")
            .and_then(Value::as_i64);
        restarts = restarts.saturating_add(restarted.unwrap_or(0));
        let group = match text("/pm2_env/status") {
            Some("online") => "online",
            Some("stopped" | "stopping") => "stopped",
            Some("errored") => "errored",
            Some("launching" | "waiting restart" | "one-launch-status") => "restarting",
            Some(_) | None => continue,
        };
        by_status.entry(group).or_default().push(name.to_owned());
    }
    let mut found = Found::absent("pm2")
        .with("names", sorted(names))
        .with("restarts", Fact::Int(restarts));
    for group in ["online", "stopped", "errored", "restarting"] {
        found.set(group, sorted(by_status.remove(group).unwrap_or_default()));
    }
    found
}

/// A cluster has one name several times; each is told once.
fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_behind_notices() {
        for (output, want) in [
            ("[]", Some(0)),
            (
                ">>>> In-memory PM2 is out-of-date, do:\n>>>> $ pm2 update\n[{\"name\":\"a\"}]\n",
                Some(1),
            ),
            ("[PM2] Spawning PM2 daemon\n[{\"name\":\"a\"}]", Some(1)),
            ("nothing", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(
                list(output.as_bytes()).map(|list| list.len()),
                want,
                "{output}"
            );
        }
    }
}
