mod wordpress;
mod wordpress_asked;

use std::collections::BTreeMap;
use std::time::Duration;

use healer_agent::protocol::{CheckFacts, Target, WriteKind};
use healer_agent::step::{Owner, Step};
use healer_agent::tree::{Meta, Stamp};

use super::*;
use crate::model::action::{Identity, RaiseHook};
use crate::model::app::{App, Schedule};
use crate::model::check::CheckResult;
use crate::model::plan::{ParamValue, Params};
use crate::model::policy::Policy;
use crate::model::word::{Risk, Severity, Status};
use crate::model::{Digest, Fact, Facts, TreePath};

fn app(stack: &str) -> App {
    App {
        name: "shop".parse().unwrap(),
        host: "local".parse().unwrap(),
        stack: stack.parse().unwrap(),
        target: Target {
            root: "/srv/shop".to_owned(),
            roots: vec![],
            uid: 1001,
            gid: 1002,
            volatile: vec![],
        },
        user: "shop".to_owned(),
        url: Some("http://shop.example.org/".to_owned()),
        origin: None,
        vars: BTreeMap::new(),
        schedule: Schedule::Every(Duration::from_mins(1)),
        policy: Policy::default(),
    }
}

fn load(name: &str, text: &str) -> Result<Catalogue, Vec<String>> {
    Catalogue::load(&[(name.to_owned(), text.to_owned())])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn get(catalogue: &Catalogue, name: &str) -> Arc<Stack> {
    catalogue.get(&name.parse().unwrap()).unwrap().clone()
}

fn built_in(name: &str) -> Arc<Stack> {
    get(&Catalogue::built_in().unwrap(), name)
}

fn texts(items: &[&str]) -> Fact {
    Fact::List(
        items
            .iter()
            .map(|item| Fact::Text((*item).to_owned()))
            .collect(),
    )
}

fn facts(check: &str, probes: &[(&str, &[(&str, Fact)])]) -> CheckFacts {
    CheckFacts {
        check: check.to_owned(),
        probes: probes
            .iter()
            .map(|(probe, facts)| {
                let facts: Facts = facts
                    .iter()
                    .map(|(name, fact)| ((*name).to_owned(), fact.clone()))
                    .collect();
                ((*probe).to_owned(), facts)
            })
            .collect(),
        time_us: 1500,
    }
}

fn evaluate(stack: &Stack, app: &App, facts: &CheckFacts) -> Option<CheckResult> {
    let check = stack.check(&facts.check.parse().unwrap()).unwrap();
    check.evaluate(facts, app, &stack.vars)
}

const GOOD: &str = r#"
title = "Demo"
known_good = ["app.ini"]
shared = ["data/**"]

[check.one]
title = "one is well"
category = "SYSTEM"
probes.file = { file = { path = "one" } }
rules = [{ when = { "file.size" = { gt = "1MiB" } }, status = "FAIL", severity = "HIGH", message = "grown to {file.size}" }]
remedies = ["fix_one"]

[action.fix_one]
risk = "LOW"
writes = [{ content = "one" }]
steps = [{ trim_log = { path = "one", keep = "1KiB" } }]
timeout = "30s"
"#;

#[test]
fn the_built_in_stacks_are_sound() {
    let catalogue = Catalogue::built_in().unwrap();
    let names: Vec<_> = catalogue
        .stacks()
        .map(|stack| stack.name.to_string())
        .collect();
    assert_eq!(
        names,
        ["express", "laravel", "php", "wordpress"],
        "a base is no kind of application"
    );
    for stack in catalogue.stacks() {
        for check in &stack.checks {
            assert!(
                check.remedies.is_some(),
                "{} {}: remedies are declared",
                stack.name,
                check.name
            );
            assert!(
                check.suggested_fix.is_some(),
                "{} {}: a person is told what to do",
                stack.name,
                check.name
            );
        }
        for action in &stack.actions {
            assert!(
                !stack.served_by(&action.name).is_empty(),
                "{} {}: some check needs it",
                stack.name,
                action.name
            );
        }
    }
}

#[test]
fn every_mistake_is_told_with_line_key_and_remedy() {
    for (case, from, to, want) in [
        (
            "unknown key",
            "title = \"Demo\"",
            "titel = \"Demo\"",
            "demo.toml:2: `titel`: unknown key; did you mean `title`?",
        ),
        (
            "unknown fact",
            "file.size",
            "file.bytes",
            "demo.toml:10: `check.one.rules[0].when.file.bytes`: a `file` probe gives no fact `bytes`",
        ),
        (
            "unknown probe",
            "\"file.size\"",
            "\"log.size\"",
            "no probe `log` here; there are file",
        ),
        (
            "unknown kind",
            "{ file = { path = \"one\" } }",
            "{ fiel = { path = \"one\" } }",
            "unknown probe kind `fiel`",
        ),
        (
            "missing param",
            "{ path = \"one\" } }\nrules",
            "{} }\nrules",
            "missing field `path`",
        ),
        (
            "dangling remedy",
            "[\"fix_one\"]",
            "[\"fix_on\"]",
            "there is no action `fix_on`; did you mean `fix_one`?",
        ),
        (
            "wrong word",
            "\"SYSTEM\"",
            "\"SYSTM\"",
            "demo.toml:8: `check.one.category`: `SYSTM` is not a category; one of SYSTEM, SECURITY, PERFORMANCE, CONFIGURATION, DEPENDENCIES, DATABASE was expected; did you mean `SYSTEM`?",
        ),
        (
            "wrong operand",
            "\"1MiB\"",
            "\"1m\"",
            "`1m` is not a number of bytes",
        ),
        (
            "bare number",
            "\"1MiB\"",
            "5",
            "write a number of bytes such as \"64KiB\"",
        ),
        (
            "missing timeout",
            "timeout = \"30s\"",
            "",
            "`action.fix_one.timeout`: is missing; name the longest time",
        ),
        (
            "bad timeout",
            "timeout = \"30s\"",
            "timeout = \"soon\"",
            "is not a length of time",
        ),
        (
            "endless timeout",
            "timeout = \"30s\"",
            "timeout = \"2d\"",
            "must lie between",
        ),
        (
            "no write set",
            "writes = [{ content = \"one\" }]",
            "",
            "it writes without a write set",
        ),
        (
            "other write set",
            "{ content = \"one\" }",
            "{ content = \"two\" }",
            "a step changes `one`, which the write set does not cover; add { content = \"one\" }",
        ),
        (
            "only metadata",
            "{ content = \"one\" }",
            "{ metadata = \"one\" }",
            "add { content = \"one\" }",
        ),
        (
            "external and low",
            "{ content = \"one\" }",
            "{ content = \"one\" }, { external = \"mail\" }",
            "is LOW, although no backup can take back what it writes; make it HIGH or CRITICAL",
        ),
        (
            "leaves the root",
            "path = \"one\", keep",
            "path = \"../one\", keep",
            "name a path below the application's root",
        ),
        (
            "absolute",
            "content = \"one\"",
            "content = \"/etc/passwd\"",
            "name a path below the application's root",
        ),
        (
            "two kinds",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ remove = { paths = [\"one\"] }, run = { argv = [\"x\"] } }",
            "a step has exactly one kind",
        ),
        (
            "unknown step",
            "trim_log",
            "trimlog",
            "unknown kind of step; did you mean `trim_log`?",
        ),
        (
            "a shell",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ run = { argv = [\"/bin/sh\", \"-c\", \"rm -rf /\"] } }",
            "no shell and no change of user",
        ),
        (
            "argv as text",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ run = { argv = \"rm one\" } }",
            "a list was expected; there is no shell",
        ),
        (
            "run writes shared",
            "writes = [{ content = \"one\" }]\nsteps = [{ trim_log = { path = \"one\", keep = \"1KiB\" } }]",
            "writes = [{ content = \"data/x\" }]\nsteps = [{ run = { argv = [\"x\"] } }]",
            "a program may not write `data/x`, which the live site writes too",
        ),
        (
            "mixed identity",
            "writes = [{ content = \"one\" }]\nsteps = [{ trim_log = { path = \"one\", keep = \"1KiB\" } }]",
            "writes = [{ content = \"one\" }]\nsteps = [{ run = { argv = [\"x\"] } }, { chown = { paths = [\"one\"], to = \"app\" } }]",
            "mixes programs of the application with operations of root",
        ),
        (
            "restart not declared",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ restart_unit = { unit = \"x\" } }",
            "a restart is not declared",
        ),
        (
            "someone else",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ chown = { paths = [\"one\"], to = \"root\" } }",
            "only `app` can be named",
        ),
        (
            "open to all",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ set_bits = { paths = [\"one\"], add = \"a+rwX\" } }",
            "would let everybody write",
        ),
        (
            "not known-good",
            "{ trim_log = { path = \"one\", keep = \"1KiB\" } }",
            "{ put_known_good = { path = \"one\" } }",
            "`one` is no member of known_good",
        ),
        (
            "unknown param",
            "path = \"one\", keep",
            "path = \"{params.p}\", keep",
            "there is no parameter `p`",
        ),
        (
            "fact in a step",
            "path = \"one\", keep",
            "path = \"{file.kind}\", keep",
            "take it in as a parameter",
        ),
        (
            "message",
            "{file.size}",
            "{file.siz}",
            "gives no fact `siz`",
        ),
        (
            "no severity",
            "severity = \"HIGH\", ",
            "",
            "say how much it hurts",
        ),
        (
            "unknown stack",
            "title = \"Demo\"",
            "extends = \"larvel\"",
            "there is no stack `larvel`; did you mean `laravel`?",
        ),
        (
            "dangling proof",
            "timeout = \"30s\"",
            "timeout = \"30s\"\nproves = \"two\"",
            "there is no check `two`",
        ),
        (
            "requires a stranger",
            "timeout = \"30s\"",
            "timeout = \"30s\"\nrequires = { \"disk.free\" = { gt = \"1GiB\" } }",
            "no probe `disk` here",
        ),
        (
            "requires a check",
            "timeout = \"30s\"",
            "timeout = \"30s\"\nrequires = { \"checks.two\" = \"PASS\" }",
            "the stack has no check `two`",
        ),
        (
            "param of a stranger",
            "timeout = \"30s\"",
            "timeout = \"30s\"\nparams.x = { from = \"file.paths\" }",
            "gives no fact `paths`",
        ),
        (
            "unknown hook",
            "timeout = \"30s\"",
            "timeout = \"30s\"\nraises = [{ when = \"moon\", risk = \"HIGH\" }]",
            "`moon` is not a hook that raises a risk",
        ),
        (
            "reserved probe",
            "probes.file = ",
            "probes.app = ",
            "cannot be the name of a probe",
        ),
        (
            "circle",
            "{ file = { path = \"one\" } }",
            "{ file = { path = \"{file.kind}\" } }",
            "depends on itself",
        ),
        (
            "no rules",
            "rules = [",
            "every = \"1m\"\n#",
            "`check.one.rules`: is missing",
        ),
    ] {
        assert!(GOOD.contains(from), "{case}");
        let errors = load("demo.toml", &GOOD.replacen(from, to, 1)).expect_err(case);
        assert!(
            errors.iter().any(|error| error.contains(want)),
            "{case}: {errors:#?}"
        );
        assert!(
            errors.iter().all(|error| error.starts_with("demo.toml:")),
            "{case}: {errors:#?}"
        );
    }
    load("demo.toml", GOOD).unwrap();
}

#[test]
fn all_mistakes_are_told_at_once_in_order() {
    let text = GOOD
        .replace("\"SYSTEM\"", "\"X\"")
        .replace("timeout", "tiemout")
        .replace("fix_one\"]", "nothing\"]");
    let errors = load("demo.toml", &text).unwrap_err();
    assert!(errors.len() >= 4, "{errors:#?}");
    let lines: Vec<u32> = errors
        .iter()
        .map(|error| error.split(':').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_file_may_extend_a_stack_or_take_its_place() {
    let more = "extends = \"laravel\"\n[action.cache_clear]\nrisk = \"HIGH\"\n[check.http]\nevery = \"5m\"\n";
    let catalogue = load("dir/mine.toml", more).unwrap();
    let (mine, old) = (get(&catalogue, "mine"), get(&catalogue, "laravel"));
    let name = "cache_clear".parse().unwrap();
    assert_eq!(mine.action(&name).unwrap().risk, Risk::High);
    assert_eq!(old.action(&name).unwrap().risk, Risk::Low);
    assert_ne!(
        mine.action(&name).unwrap().version,
        old.action(&name).unwrap().version
    );
    assert_eq!(mine.checks.len(), old.checks.len());
    assert_eq!(
        mine.check(&"http".parse().unwrap()).unwrap().every,
        Some(Duration::from_mins(5))
    );

    let catalogue = load("laravel.toml", more).unwrap();
    assert_eq!(
        get(&catalogue, "laravel").action(&name).unwrap().risk,
        Risk::High
    );

    let errors = load("laravel.toml", GOOD).unwrap_err();
    assert!(
        errors[0].contains("there is a stack `laravel` already"),
        "{errors:?}"
    );
    let pair = |name: &str, extends: &str| (name.to_owned(), format!("extends = \"{extends}\""));
    let errors = Catalogue::load(&[pair("a.toml", "b"), pair("b.toml", "a")]).unwrap_err();
    assert!(errors[0].message.contains("circle"), "{errors:?}");
}

#[test]
fn the_version_is_the_definitions_and_not_the_layouts() {
    let name = "fix_one".parse().unwrap();
    let version = |text: &str| {
        get(&load("demo.toml", text).unwrap(), "demo")
            .action(&name)
            .unwrap()
            .version
            .clone()
    };
    let spaced = GOOD.replace("timeout = \"30s\"", "# a comment\ntimeout   =   '30s'");
    assert_eq!(version(GOOD), version(&spaced));
    assert_ne!(version(GOOD), version(&GOOD.replace("1KiB", "2KiB")));
}

#[test]
fn the_first_rule_decides_and_an_undecidable_one_before_it_is_error() {
    let (stack, app) = (built_in("laravel"), app("laravel"));
    let http = |found: &[(&str, Fact)]| {
        let result = evaluate(&stack, &app, &facts("http", &[("http", found)])).unwrap();
        (result.status, result.message)
    };
    let seen = |status, empty| {
        vec![
            ("reachable", Fact::Bool(true)),
            ("error", Fact::Absent),
            ("status", Fact::Int(status)),
            ("empty", Fact::Bool(empty)),
        ]
    };
    for (case, found, want) in [
        ("fine", seen(200, false), Status::Pass),
        ("redirect", seen(302, true), Status::Pass),
        ("empty page", seen(200, true), Status::Fail),
        ("no content", seen(204, true), Status::Pass),
        ("server error", seen(503, false), Status::Fail),
        ("kept out", seen(403, false), Status::Error),
        ("asked too often", seen(429, false), Status::Error),
        ("not found", seen(404, false), Status::Warn),
        (
            "nobody told",
            vec![("reachable", Fact::Unknown("deadline".to_owned()))],
            Status::Error,
        ),
        (
            "refused",
            vec![
                ("reachable", Fact::Bool(false)),
                ("error", Fact::Text("refused".to_owned())),
                ("status", Fact::Absent),
                ("empty", Fact::Absent),
            ],
            Status::Fail,
        ),
        (
            "odd",
            vec![
                ("reachable", Fact::Bool(false)),
                ("error", Fact::Text("other".to_owned())),
                ("status", Fact::Absent),
                ("empty", Fact::Absent),
            ],
            Status::Error,
        ),
    ] {
        assert_eq!(http(&found).0, want, "{case}: {}", http(&found).1);
    }
    assert_eq!(http(&seen(503, false)).1, "the origin answers 503");
}

#[test]
fn a_check_that_does_not_apply_is_neither_asked_nor_answered() {
    let (stack, mut shop) = (built_in("php"), app("php"));
    let only_http = |check: &Check| check.name.as_str() == "http";
    let asked = stack.probes(&shop, &only_http);
    assert_eq!(
        serde_json::to_string(&asked[0].probes["http"]).unwrap(),
        r#"{"http":{"timeout":"10s","url":"http://shop.example.org/"}}"#,
        "an absent origin is left out"
    );
    let answers = stack.evaluate(&shop, &only_http, &[]);
    assert_eq!(answers[0].status, Status::Error, "asked and not answered");
    shop.url = None;
    assert!(stack.probes(&shop, &only_http).is_empty());
    assert!(stack.evaluate(&shop, &only_http, &[]).is_empty());
}

#[test]
fn a_value_that_is_missing_makes_the_check_error_and_not_pass() {
    let text = GOOD.replace(
        "path = \"one\" } }\nrules",
        "path = \"{vars.where}\" } }\nrules",
    );
    let stack = get(&load("demo.toml", &text).unwrap(), "demo");
    let mut shop = app("demo");
    let all = |_: &Check| true;
    assert!(stack.probes(&shop, &all).is_empty());
    let results = stack.evaluate(&shop, &all, &[]);
    assert_eq!(results[0].status, Status::Error);
    assert_eq!(
        results[0].message,
        "could not be determined: `vars.where` is absent"
    );
    shop.vars.insert("where".to_owned(), "one".to_owned());
    assert_eq!(stack.probes(&shop, &all).len(), 1);
}

#[test]
fn foreign_text_in_messages_is_bounded_and_escaped() {
    let stack = built_in("laravel");
    let long = "x\n\u{1b}[31m".repeat(200);
    let result = evaluate(
        &stack,
        &app("laravel"),
        &facts(
            "laravel_storage_permissions",
            &[
                (
                    "dirs",
                    &[("missing", texts(&[&long])), ("denied", texts(&[]))],
                ),
                ("modes", &[]),
            ],
        ),
    )
    .unwrap();
    assert_eq!(result.status, Status::Fail);
    assert!(result.message.chars().count() <= 300);
    assert!(!result.message.chars().any(char::is_control));
}

fn storage(denied: &[&str], tight: &[&str]) -> CheckFacts {
    facts(
        "laravel_storage_permissions",
        &[
            (
                "dirs",
                &[
                    ("missing", texts(&[])),
                    ("denied", texts(&["storage"])),
                    ("examples", texts(denied)),
                    ("truncated", Fact::Bool(false)),
                ],
            ),
            ("modes", &[("too_tight", texts(tight))]),
        ],
    )
}

#[test]
fn a_fix_touches_exactly_what_the_check_named() {
    let (stack, shop) = (built_in("laravel"), app("laravel"));
    let found = evaluate(
        &stack,
        &shop,
        &storage(&["storage/logs", "storage/logs/laravel.log"], &[]),
    )
    .unwrap();
    let checks = [found.check.clone()];
    let name = "fix_storage_permissions".parse().unwrap();
    let results = [found];
    let action = stack
        .resolve(&name, &checks, &results, &shop, &Params::new())
        .unwrap();
    let path = |text: &str| TreePath::parse(text).unwrap();
    assert_eq!(
        action.steps[0],
        Step::Chown {
            paths: vec![path("storage/logs"), path("storage/logs/laravel.log")],
            uid: 1001,
            gid: 1002,
            recursive: false
        }
    );
    assert_eq!(action.identity, Identity::Root);
    assert_eq!(action.risk, Risk::Medium);
    assert_eq!(action.proves, checks);
    assert!(
        action
            .writes
            .iter()
            .all(|member| member.what == WriteKind::Metadata && member.shared)
    );
    assert_eq!(action.writes.len(), 2);

    let only = |items: &[&str]| -> Params {
        [(
            "paths".to_owned(),
            ParamValue::List(items.iter().map(ToString::to_string).collect()),
        )]
        .into()
    };
    let narrowed = stack
        .resolve(&name, &checks, &results, &shop, &only(&["storage/logs"]))
        .unwrap();
    assert_eq!(narrowed.writes.len(), 1);
    for wider in [&["storage/logs", ".env"][..], &[]] {
        assert!(
            stack
                .resolve(&name, &checks, &results, &shop, &only(wider))
                .is_err(),
            "{wider:?}"
        );
    }
    assert!(
        stack
            .resolve(&name, &checks, &[], &shop, &Params::new())
            .is_err(),
        "nothing was found"
    );
}

#[test]
fn a_file_named_like_a_pattern_cannot_widen_the_write_set() {
    let (stack, shop) = (built_in("laravel"), app("laravel"));
    let name = "fix_storage_permissions".parse().unwrap();
    for evil in [
        "storage/*",
        "storage/%2A",
        "../x",
        "/etc/shadow",
        "storage/\u{0}",
    ] {
        let found = evaluate(&stack, &shop, &storage(&[evil], &[])).unwrap();
        let checks = [found.check.clone()];
        let resolved = stack.resolve(&name, &checks, &[found], &shop, &Params::new());
        assert!(resolved.is_err(), "{evil:?}: {resolved:?}");
    }
}

#[test]
fn known_good_content_is_filled_in_and_its_hook_is_kept() {
    let (stack, shop) = (built_in("laravel"), app("laravel"));
    let result = evaluate(
        &stack,
        &shop,
        &facts(
            "laravel_env_file",
            &[("env", &[("exists", Fact::Bool(false))])],
        ),
    )
    .unwrap();
    assert_eq!(
        (result.status, result.severity),
        (Status::Fail, Severity::Critical)
    );
    let checks = [result.check.clone()];
    let action = stack
        .resolve(
            &"restore_env".parse().unwrap(),
            &checks,
            &[result],
            &shop,
            &Params::new(),
        )
        .unwrap();
    let path = TreePath::parse(".env").unwrap();
    assert_eq!(action.known_good, std::slice::from_ref(&path));
    assert_eq!(action.risk, Risk::Medium);
    assert_eq!(
        action.risk_after(&[RaiseHook::KnownGoodDiffers]),
        Risk::High
    );
    assert_eq!(action.risk_after(&[]), Risk::Medium);
    assert_eq!(action.clone().with_known_good(&[]), Err(path.clone()));
    let digest = Digest::of(b"x");
    let meta = Meta {
        mode: 0o600,
        uid: 1,
        gid: 2,
        mtime: Stamp { secs: 0, nanos: 0 },
        xattrs: BTreeMap::new(),
    };
    let filled = action
        .with_known_good(&[(path.clone(), digest, meta.clone())])
        .unwrap();
    assert_eq!(
        filled.steps,
        [Step::Put {
            path,
            digest,
            mode: 0o600,
            owner: Some(Box::new(Owner::of(&meta))),
        }]
    );
}

#[test]
fn a_restart_names_one_process_and_never_a_guess() {
    let stack = built_in("express");
    let name = "restart_app".parse().unwrap();
    let resolve = |shop: &App, names: &[&str]| {
        let found = facts(
            "express_process_health",
            &[
                ("process", &[("count", Fact::Int(0))]),
                (
                    "pm2",
                    &[("alive", Fact::Bool(true)), ("names", texts(names))],
                ),
                ("unit", &[]),
            ],
        );
        let result = evaluate(&stack, shop, &found).unwrap();
        let checks = [result.check.clone()];
        stack
            .resolve(&name, &checks, &[result], shop, &Params::new())
            .map(|action| action.steps)
    };
    let restart = |name: &str| {
        vec![Step::RestartPm2 {
            name: name.to_owned(),
            home: None,
        }]
    };
    let mut shop = app("express");
    assert_eq!(resolve(&shop, &["api"]).unwrap(), restart("api"));
    assert!(
        resolve(&shop, &["api", "worker"]).is_err(),
        "two: which one?"
    );
    assert!(resolve(&shop, &[]).is_err());
    shop.vars.insert("pm2_name".to_owned(), "worker".to_owned());
    assert_eq!(
        resolve(&shop, &["api", "worker"]).unwrap(),
        restart("worker")
    );
}

#[test]
fn a_port_comes_from_the_var_or_else_from_the_env_file() {
    let stack = built_in("express");
    let mut shop = app("express");
    let port = |shop: &App| {
        let asked = stack.probes(shop, &|check| {
            check.name.as_str() == "express_port_availability"
        });
        asked[0].probes["port"]["port"]["port"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(port(&shop), "{env.values.PORT|3000}");
    shop.vars.insert("port".to_owned(), "8080".to_owned());
    assert_eq!(port(&shop), "8080");
}

#[test]
fn risks_are_raised_and_never_lowered() {
    let (stack, mut shop) = (built_in("laravel"), app("laravel"));
    let name: crate::model::name::ActionName = "remove_bootstrap_cache".parse().unwrap();
    let risk = |shop: &App| {
        stack
            .resolve(&name, &[], &[], shop, &Params::new())
            .unwrap()
            .risk
    };
    assert_eq!(risk(&shop), Risk::Low);
    shop.policy.shared_resources = true;
    assert_eq!(risk(&shop), Risk::Medium);
    shop.policy.raised_risks = vec![(name.clone(), Risk::Critical)];
    assert_eq!(risk(&shop), Risk::Critical);
    shop.policy.shared_resources = false;
    shop.policy.raised_risks = vec![(name.clone(), Risk::Low)];
    assert_eq!(risk(&shop), Risk::Low);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z\\[\\]{}=.\"' \n0-9#]{0,200}") {
        drop(build::load(&[], &[("x.toml".to_owned(), text)]));
    }

    #[test]
    fn no_mutation_of_a_stack_makes_the_reader_panic(at in 0_usize..4000, with in "[\\[\\]{}=.\"'a-z \n]{0,4}") {
        let text = include_str!("../../stacks/laravel.toml");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let text = format!("{}{with}{}", &text[..at], &text[at..]);
        drop(build::load(&[], &[("x.toml".to_owned(), text)]));
    }
}

#[test]
fn without_a_log_there_is_nothing_to_trim() {
    use super::fact::Scope;
    use super::resolve::requirements;
    use super::truth::Truth;
    for (stack, check, action) in [
        ("php", "error_log_check", "trim_error_log"),
        ("laravel", "laravel_log", "trim_log"),
        ("wordpress", "wp_log", "trim_log"),
    ] {
        let (known, shop) = (built_in(stack), app(stack));
        let may = |size: Fact| {
            let facts = facts(check, &[("log", &[("size", size)])]);
            let results = [evaluate(&known, &shop, &facts).unwrap()];
            let scope = Scope {
                app: Some(&shop),
                defaults: Some(&known.vars),
                results: Some(&results),
                ..Scope::default()
            };
            let action = known.action(&action.parse().unwrap()).unwrap();
            requirements(&known, action, &[check.parse().unwrap()], &scope)
        };
        assert_eq!(may(Fact::Absent), Truth::False, "{stack}");
        assert_eq!(may(Fact::Int(0)), Truth::False, "{stack}");
        assert_eq!(may(Fact::Int(1 << 30)), Truth::True, "{stack}");
    }
}
