//! Holds the imports to the direction that the design gives them.
//!
//! The tree is the data flow: pure modules use pure modules, stages with effects use pure modules and the seam and never
//! each other, and the engine alone knows them all. A stage may name the *proof* that another hands over; those few
//! types are listed beside the table. Each offence is told by file and line. What a macro expands to is not seen.

mod rules;
mod source;

use std::path::{Path, PathBuf};

use rules::{NOT_IN_THE_AGENT, Offence, judge, judge_agent};
use source::Source;

/// Every Rust file below `root` that is no test, by its path from there, sorted.
fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut skip: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let inside = if path.file_stem().is_some_and(|s| s == "mod" || s == "lib") {
                    folder.clone()
                } else {
                    path.with_extension("")
                };
                for module in Source::read(&text).test_modules {
                    skip.push(inside.join(format!("{module}.rs")));
                    skip.push(inside.join(module));
                }
                found.push((path, text));
            }
        }
    }
    let mut files: Vec<(String, String)> = found
        .into_iter()
        .filter(|(path, _)| !skip.iter().any(|skipped| path.starts_with(skipped)))
        .map(|(path, text)| (path.strip_prefix(root).unwrap().display().to_string(), text))
        .collect();
    files.sort();
    files
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn complain(offences: &[Offence]) {
    let list: Vec<String> = offences
        .iter()
        .map(|o| format!("{}:{}: {}", o.file, o.line, o.what))
        .collect();
    assert!(
        list.is_empty(),
        "imports against the direction:\n{}",
        list.join("\n")
    );
}

#[test]
fn the_daemons_imports_follow_the_loop() {
    let offences: Vec<Offence> = files(&project().join("src"))
        .iter()
        .flat_map(|(file, text)| judge(file, text))
        .collect();
    complain(&offences);
}

#[test]
fn the_agents_imports_keep_it_small_and_its_pure_part_pure() {
    let offences: Vec<Offence> = files(&project().join("agent/src"))
        .iter()
        .flat_map(|(file, text)| judge_agent(file, text))
        .collect();
    complain(&offences);
}

#[test]
fn the_agent_depends_on_nothing_that_makes_it_big() {
    let manifest = std::fs::read_to_string(project().join("agent/Cargo.toml")).unwrap();
    for line in manifest.lines() {
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        assert!(
            !NOT_IN_THE_AGENT.contains(&name),
            "agent/Cargo.toml: {line}"
        );
    }
}

#[test]
fn an_offence_is_noticed_and_told_by_file_and_line() {
    let cases = [
        (
            "a stage uses a stage",
            "act/run.rs",
            "use crate::model;\nuse crate::protect::vault;",
            2,
        ),
        (
            "a stage by way of super",
            "act/mod.rs",
            "use super::record::store;",
            1,
        ),
        (
            "deep super",
            "observe/http.rs",
            "\nfn f() { super::super::engine::go() }",
            2,
        ),
        (
            "inside a group",
            "record/mod.rs",
            "use crate::{\n model,\n host::Ssh,\n};",
            3,
        ),
        (
            "a proof's neighbour",
            "act/run.rs",
            "use crate::protect::UnverifiedBackup;",
            1,
        ),
        (
            "pure uses the seam",
            "decide/mod.rs",
            "use crate::seam::Clock;",
            1,
        ),
        (
            "pure reads a file",
            "guard/mod.rs",
            "use std::{fmt, fs};",
            1,
        ),
        (
            "settings ask the clock",
            "config/app.rs",
            "use crate::system::{CronSchedule, RealClock};",
            1,
        ),
        (
            "pure opens a socket beside an address",
            "decide/mod.rs",
            "use std::net::{IpAddr, TcpStream};",
            1,
        ),
        (
            "pure asks the clock",
            "verify/mod.rs",
            "fn f() { std::time::Instant::now(); }",
            1,
        ),
        ("pure is async", "undo/mod.rs", "pub async fn plan() {}", 1),
        (
            "pure uses a runtime",
            "model/mod.rs",
            "fn f() { tokio::spawn(async_thing()); }",
            1,
        ),
        (
            "pure uses the agent's hands",
            "catalogue/mod.rs",
            "use healer_agent::walk::Walk;",
            1,
        ),
        (
            "model uses the catalogue",
            "model/app.rs",
            "use crate::catalogue::Stack;",
            1,
        ),
        (
            "a proof in a pure stage",
            "verify/mod.rs",
            "use crate::record::Intent;",
            1,
        ),
        (
            "the host knows a stage",
            "host/mod.rs",
            "use crate::act::Outcome;",
            1,
        ),
        ("unknown module", "helpers/mod.rs", "", 1),
        ("unknown target", "act/run.rs", "use crate::util::now;", 1),
    ];
    for (case, file, text, line) in cases {
        let offences = judge(file, text);
        assert_eq!(offences.len(), 1, "{case}: {offences:?}");
        assert_eq!(
            (offences[0].file.as_str(), offences[0].line),
            (format!("src/{file}").as_str(), line),
            "{case}"
        );
    }
}

#[test]
fn what_the_design_allows_is_no_offence() {
    let cases = [
        (
            "a stage takes a proof",
            "act/run.rs",
            "use crate::record::Intent;\nuse crate::guard::Permit;",
        ),
        (
            "a stage uses pure modules and the seam",
            "observe/mod.rs",
            "use crate::{catalogue::Stack, seam::World};",
        ),
        (
            "a stage uses itself",
            "record/store/mod.rs",
            "use super::super::record::journal; use crate::record::Row;",
        ),
        (
            "a pure module uses the agent's words",
            "undo/mod.rs",
            "use healer_agent::tree::{Digest, diff::Change};",
        ),
        (
            "a spec is pure",
            "catalogue/mod.rs",
            "use healer_agent::probe::spec::KINDS;",
        ),
        (
            "the engine knows all stages",
            "engine/cycle.rs",
            "use crate::{observe, protect, act, record, telemetry};",
        ),
        (
            "tests may do what they like",
            "decide/mod.rs",
            "#[cfg(test)]\nmod tests { use std::fs; use crate::act; }",
        ),
        (
            "comments say what they like",
            "decide/mod.rs",
            "//! See [`crate::engine::cycle`].\n// std::fs",
        ),
        (
            "a schedule is a value",
            "config/app.rs",
            "use crate::system::CronSchedule;",
        ),
        (
            "addresses are values",
            "guard/mod.rs",
            "use std::net::{IpAddr, SocketAddr};",
        ),
        (
            "durations are values",
            "guard/mod.rs",
            "use std::time::Duration;",
        ),
    ];
    for (case, file, text) in cases {
        assert_eq!(judge(file, text), [], "{case}");
    }
}

#[test]
fn an_offence_in_the_agent_is_noticed() {
    let cases = [
        ("a runtime", "walk.rs", "use tokio::fs;", 1),
        (
            "a pure module opens a file",
            "tree/diff.rs",
            "\nuse std::fs::File;",
            1,
        ),
        (
            "a pure module uses the hands",
            "protocol.rs",
            "use crate::walk::Walk;",
            1,
        ),
        (
            "a spec uses its probe",
            "probe/spec.rs",
            "use super::http::get;",
            1,
        ),
    ];
    for (case, file, text, count) in cases {
        let offences = judge_agent(file, text);
        assert_eq!(offences.len(), count, "{case}: {offences:?}");
    }
    assert_eq!(
        judge_agent("walk.rs", "use std::fs::File;\nuse crate::tree::Digest;"),
        []
    );
    assert_eq!(
        judge_agent("protocol.rs", "use crate::probe::spec::Facts;"),
        []
    );
}
