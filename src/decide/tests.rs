use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;
use crate::catalogue::Catalogue;
use crate::model::word::{About, Category, MatchKind, Risk, Severity, Status};

const DEMO: &str = r#"
[check.site]
category = "SYSTEM"
availability = true
probes.p = { file = { path = "x" } }
rules = [{ when = { "p.exists" = true }, status = "FAIL", severity = "HIGH", message = "m" }]
remedies = ["low", "medium", "high"]

[check.careful]
category = "SYSTEM"
probes.p = { file = { path = "x" } }
rules = [{ when = { "p.exists" = true }, status = "FAIL", severity = "HIGH", message = "m" }]
remedies = ["high", "low"]

[check.person]
category = "SYSTEM"
probes.p = { file = { path = "x" } }
rules = [{ when = { "p.exists" = true }, status = "FAIL", severity = "HIGH", message = "m" }]
suggested_fix = "call somebody"
remedies = []

[check.npm_audit]
category = "SECURITY"
probes.p = { file = { path = "x" } }
rules = [{ when = { "p.exists" = true }, status = "FAIL", severity = "HIGH", message = "m" }]

[check.needy]
category = "SYSTEM"
probes.p = { file = { path = "x" } }
rules = [{ when = { "p.exists" = true }, status = "FAIL", severity = "HIGH", message = "m" }]
remedies = ["after_site"]

[check.paths]
category = "SYSTEM"
probes.m = { mode = { paths = ["."], forbid = "o+w" } }
rules = [{ when = { "m.too_open" = { empty = false } }, status = "FAIL", severity = "HIGH", message = "m" }]
remedies = ["close"]

[action.low]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"
requires = { "p.kind" = "file" }

[action.medium]
risk = "MEDIUM"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.high]
risk = "HIGH"
conflicts = ["low"]
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.npm_audit_fix]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.clear_cache]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.composer_update]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.rebuild]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.restart_queue]
risk = "LOW"
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.after_site]
risk = "LOW"
estimate = "1s"
requires = { "checks.site" = "PASS" }
writes = [{ content = "x" }]
steps = [{ remove = { paths = ["x"] } }]
timeout = "30s"

[action.close]
risk = "LOW"
params.paths = { from = "m.too_open" }
writes = [{ metadata = "{params.paths}" }]
steps = [{ set_bits = { paths = "{params.paths}", remove = "o+w" } }]
timeout = "30s"
"#;

fn demo() -> Arc<Stack> {
    static LOADED: LazyLock<Arc<Stack>> = LazyLock::new(|| {
        let catalogue = Catalogue::load(&[("demo".to_owned(), DEMO.to_owned())]).unwrap();
        catalogue.get(&"demo".parse().unwrap()).unwrap().clone()
    });
    LOADED.clone()
}

fn result(check: &str, status: Status) -> CheckResult {
    CheckResult {
        check: check.parse().unwrap(),
        category: Category::System,
        status,
        severity: Severity::High,
        message: String::new(),
        suggested_fix: None,
        execution_ms: 0,
        rule: None,
        about: About::App,
        availability: check == "site",
        facts: BTreeMap::new(),
    }
}

struct Given {
    mode: HealingMode,
    policy: Policy,
    tried: BTreeMap<CheckName, Vec<ActionName>>,
    bars: Vec<Bar>,
    muted: Vec<CheckName>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            mode: HealingMode::FullAuto,
            policy: Policy::default(),
            tried: BTreeMap::new(),
            bars: vec![],
            muted: vec![],
        }
    }
}

impl Given {
    fn decide(&self, stack: &Stack, results: &[CheckResult]) -> Decision {
        decide(&DecisionInput {
            stack,
            mode: self.mode,
            policy: &self.policy,
            results,
            tried: &self.tried,
            bars: &self.bars,
            muted: &self.muted,
            app: None,
        })
    }

    fn summary(&self, results: &[CheckResult]) -> String {
        self.decide(&demo(), results).plan.summary()
    }
}

fn fails(checks: &[&str]) -> Vec<CheckResult> {
    checks
        .iter()
        .map(|check| result(check, Status::Fail))
        .collect()
}

#[test]
fn matching_goes_by_declaration_name_text_and_category() {
    let with = |check: &str, fix: Option<&str>, category| CheckResult {
        suggested_fix: fix.map(str::to_owned),
        category,
        ..result(check, Status::Warn)
    };
    let system = Category::System;
    for (case, given, want) in [
        (
            "declared",
            with("site", None, system),
            Some(("low", MatchKind::Declared)),
        ),
        (
            "a person must",
            with("person", Some("clear cache"), system),
            None,
        ),
        (
            "exact with _fix",
            with("npm_audit", Some("clear cache"), system),
            Some(("npm_audit_fix", MatchKind::Exact)),
        ),
        (
            "exact alone",
            with("rebuild", None, system),
            Some(("rebuild", MatchKind::Exact)),
        ),
        (
            "text",
            with("x", Some("Please CLEAR cache now"), system),
            Some(("clear_cache", MatchKind::Suggested)),
        ),
        (
            "text with underscores",
            with("x", Some("run `composer_update`."), system),
            Some(("composer_update", MatchKind::Suggested)),
        ),
        (
            "text, not whole words",
            with("x", Some("unclear caches"), system),
            None,
        ),
        (
            "text, words apart",
            with("x", Some("clear the cache"), system),
            None,
        ),
        (
            "text, first in file order",
            with("x", Some("rebuild, then npm audit fix"), system),
            Some(("npm_audit_fix", MatchKind::Suggested)),
        ),
        (
            "text before category",
            with("my_cache", Some("rebuild"), system),
            Some(("rebuild", MatchKind::Suggested)),
        ),
        (
            "category word",
            with("opcode_cache", None, system),
            Some(("clear_cache", MatchKind::Category)),
        ),
        (
            "category plural",
            with("view_caches", None, system),
            Some(("clear_cache", MatchKind::Category)),
        ),
        ("inside a word", with("opcache", None, system), None),
        (
            "dependency means update",
            with("php_dependencies", None, system),
            Some(("composer_update", MatchKind::Category)),
        ),
        (
            "category of the result",
            with("outdated", None, Category::Dependencies),
            Some(("composer_update", MatchKind::Category)),
        ),
        (
            "process means restart",
            with("worker_process", None, system),
            Some(("restart_queue", MatchKind::Category)),
        ),
        (
            "rebuild counts as build",
            with("next-build.state", None, system),
            Some(("rebuild", MatchKind::Category)),
        ),
        (
            "update is no check's word",
            with("wp_core_update", None, system),
            None,
        ),
        (
            "nothing",
            with("certificate", Some("renew it"), Category::Security),
            None,
        ),
        (
            "database has no action",
            with("db", None, Category::Database),
            None,
        ),
    ] {
        let plan = Given::default()
            .decide(&demo(), std::slice::from_ref(&given))
            .plan;
        let got = plan
            .auto_heal
            .iter()
            .chain(&plan.require_approval)
            .map(|item| (item.action.as_str(), item.matched))
            .next();
        assert_eq!(got, want, "{case}");
        assert_eq!(
            plan.cannot_heal.len(),
            usize::from(want.is_none()),
            "{case}"
        );
    }
}

#[test]
fn mode_and_risk_and_match_decide_what_runs_alone() {
    let results = [
        fails(&["site", "paths", "npm_audit"]),
        vec![CheckResult {
            suggested_fix: Some("clear cache".to_owned()),
            ..result("x", Status::Fail)
        }],
    ]
    .concat();
    for (mode, want) in [
        (
            HealingMode::Manual,
            "Auto-heal (0): none | Require approval (4): low, clear_cache, close, npm_audit_fix | Cannot heal (0): none",
        ),
        (
            HealingMode::SemiAuto,
            "Auto-heal (3): low, close, npm_audit_fix | Require approval (1): clear_cache | Cannot heal (0): none",
        ),
        (
            HealingMode::FullAuto,
            "Auto-heal (3): low, close, npm_audit_fix | Require approval (1): clear_cache | Cannot heal (0): none",
        ),
    ] {
        assert_eq!(
            Given {
                mode,
                ..Given::default()
            }
            .summary(&results),
            want,
            "{mode}"
        );
    }
    let mut widened = Given::default();
    widened.policy.unattended_matches.push(MatchKind::Suggested);
    assert!(widened.summary(&results).starts_with("Auto-heal (4)"));
    let mut capped = Given::default();
    capped.policy.max_mode = HealingMode::Manual;
    assert!(capped.summary(&results).starts_with("Auto-heal (0)"));
    let mut asks = Given::default();
    asks.policy.always_ask = vec!["low".parse().unwrap()];
    assert!(asks.summary(&results).starts_with("Auto-heal (2)"));
    let mut shared = Given {
        mode: HealingMode::SemiAuto,
        ..Given::default()
    };
    shared.policy.shared_resources = true;
    assert!(shared.summary(&results).starts_with("Auto-heal (0)"));
    let mut raised = Given::default();
    raised.policy.raised_risks = vec![
        ("low".parse().unwrap(), Risk::High),
        ("close".parse().unwrap(), Risk::Low),
    ];
    assert!(raised.summary(&results).starts_with("Auto-heal (2): close"));
}

#[test]
fn the_next_remedy_follows_one_that_was_tried_but_never_one_that_must_be_asked() {
    let tried = |names: &[&str]| Given {
        tried: [(
            "site".parse().unwrap(),
            names.iter().map(|name| name.parse().unwrap()).collect(),
        )]
        .into(),
        ..Given::default()
    };
    for (case, names, want) in [
        ("none", &[][..], "Auto-heal (1): low"),
        ("first", &["low"], "Auto-heal (1): medium"),
        (
            "two",
            &["low", "medium"],
            "Auto-heal (0): none | Require approval (1): high",
        ),
        (
            "all",
            &["low", "medium", "high"],
            "Auto-heal (0): none | Require approval (0): none | Cannot heal (1): site",
        ),
    ] {
        let summary = tried(names).summary(&fails(&["site"]));
        assert!(summary.starts_with(want), "{case}: {summary}");
    }
    let summary = Given::default().summary(&fails(&["careful"]));
    assert!(
        summary.starts_with("Auto-heal (0): none | Require approval (1): high"),
        "{summary}"
    );
}

#[test]
fn a_remedy_whose_preconditions_are_known_false_is_passed_over() {
    let mut site = result("site", Status::Fail);
    let kind = |text: &str| {
        let facts = [("kind".to_owned(), crate::model::Fact::Text(text.to_owned()))].into();
        [("p".to_owned(), facts)].into()
    };
    site.facts = kind("directory");
    assert!(
        Given::default()
            .summary(&[site.clone()])
            .starts_with("Auto-heal (1): medium")
    );
    site.facts = kind("file");
    assert!(
        Given::default()
            .summary(&[site])
            .starts_with("Auto-heal (1): low")
    );
}

#[test]
fn one_action_for_several_checks_is_one_item() {
    let mut results = fails(&["my_cache", "your_cache"]);
    results.push(CheckResult {
        severity: Severity::Critical,
        ..result("their_caches", Status::Warn)
    });
    let plan = Given::default().decide(&demo(), &results).plan;
    let [item] = plan.require_approval.as_slice() else {
        panic!("{plan:?}")
    };
    let checks: Vec<_> = item.checks.iter().map(CheckName::as_str).collect();
    assert_eq!(checks, ["my_cache", "their_caches", "your_cache"]);
    assert_eq!(
        (item.status, item.severity),
        (Status::Fail, Severity::Critical)
    );
}

#[test]
fn what_makes_the_site_unavailable_comes_first_and_needs_are_obeyed() {
    let plan = Given {
        tried: [("site".parse().unwrap(), vec!["low".parse().unwrap()])].into(),
        ..Given::default()
    }
    .decide(&demo(), &fails(&["npm_audit", "needy", "site"]))
    .plan;
    let names: Vec<_> = plan
        .auto_heal
        .iter()
        .map(|item| item.action.as_str())
        .collect();
    // `after_site` does not fit while the site is FAIL, so it is not there at all.
    assert_eq!(names, ["medium", "npm_audit_fix"]);
    assert_eq!(plan.cannot_heal[0].check.as_str(), "needy");
}

#[test]
fn a_conflict_with_an_earlier_item_is_a_persons_decision() {
    let mut site = fails(&["site", "careful"]);
    site[0].availability = true;
    let plan = Given::default().decide(&demo(), &site).plan;
    assert_eq!(plan.auto_heal.len(), 1, "{plan:?}");
    let mut careful_first = site;
    careful_first[0].availability = false;
    careful_first[1].availability = true;
    let plan = Given::default().decide(&demo(), &careful_first).plan;
    assert_eq!(plan.auto_heal.len(), 0);
    assert!(
        plan.require_approval[1]
            .reason
            .contains("it conflicts with high"),
        "{plan:?}"
    );
}

#[test]
fn what_was_undone_here_asks_until_its_file_changes() {
    let stack = demo();
    let version = &stack
        .action(&"npm_audit_fix".parse().unwrap())
        .unwrap()
        .version;
    let bar = |version: &str| Given {
        bars: vec![Bar {
            action: "npm_audit_fix".parse().unwrap(),
            version: version.to_owned(),
            reason: "not cured".to_owned(),
        }],
        ..Given::default()
    };
    let results = fails(&["npm_audit"]);
    assert!(
        bar(version)
            .summary(&results)
            .contains("Require approval (1): npm_audit_fix")
    );
    assert!(
        bar("older")
            .summary(&results)
            .starts_with("Auto-heal (1): npm_audit_fix")
    );
}

#[test]
fn muted_and_disabled_checks_lead_to_nothing_and_are_reported() {
    let mut given = Given {
        muted: vec!["site".parse().unwrap()],
        ..Given::default()
    };
    given.policy.disabled_checks = vec!["npm_audit".parse().unwrap()];
    let decision = given.decide(&demo(), &fails(&["site", "npm_audit"]));
    assert_eq!(decision.plan, Plan::default());
    assert_eq!(decision.report.lines.len(), 2);
}

fn any_result() -> impl Strategy<Value = CheckResult> {
    let names = prop::sample::select(vec![
        "site",
        "careful",
        "person",
        "npm_audit",
        "needy",
        "paths",
        "my_cache",
        "rebuild",
        "db_queue",
        "zzz",
    ]);
    let fixes = prop::sample::select(vec![
        None,
        Some("clear cache"),
        Some("composer update --all"),
        Some("no idea"),
    ]);
    let lists = prop::collection::vec(prop::sample::select(vec!["a", "b", "c/d"]), 0..3);
    (names, 0..4_usize, 0..4_usize, 0..6_usize, fixes, lists).prop_map(
        |(name, status, severity, category, fix, list)| {
            let items = list
                .into_iter()
                .map(|item| crate::model::Fact::Text(item.to_owned()))
                .collect();
            let facts = [("too_open".to_owned(), crate::model::Fact::List(items))].into();
            CheckResult {
                severity: Severity::ALL[severity],
                category: Category::ALL[category],
                suggested_fix: fix.map(str::to_owned),
                facts: [("m".to_owned(), facts)].into(),
                ..result(name, Status::ALL[status])
            }
        },
    )
}

proptest! {
    #[test]
    fn the_same_bytes_for_shuffled_results(
        (results, shuffled) in prop::collection::vec(any_result(), 0..12)
            .prop_flat_map(|results| (Just(results.clone()), Just(results).prop_shuffle())),
    ) {
        let (stack, given) = (demo(), Given::default());
        let bytes = |results: &[CheckResult]| serde_json::to_vec(&given.decide(&stack, results)).unwrap();
        prop_assert_eq!(bytes(&results), bytes(&shuffled));
    }

    #[test]
    fn every_bad_check_stands_exactly_once_and_no_other(
        results in prop::collection::vec(any_result(), 0..12),
        mode in 0..3_usize,
    ) {
        let stack = demo();
        let given = Given { mode: HealingMode::ALL[mode], ..Given::default() };
        let plan = given.decide(&stack, &results).plan;
        let mut shown: Vec<_> = plan
            .auto_heal
            .iter()
            .chain(&plan.require_approval)
            .flat_map(|item| item.checks.iter().cloned())
            .chain(plan.cannot_heal.iter().map(|cannot| cannot.check.clone()))
            .collect();
        shown.sort();
        let bad: BTreeSet<_> = results
            .iter()
            .filter(|result| result.status.is_bad())
            .map(|result| result.check.clone())
            .collect();
        prop_assert_eq!(shown, bad.into_iter().collect::<Vec<_>>());
        for item in &plan.auto_heal {
            prop_assert!(given.mode.allows(item.risk));
            prop_assert!(matches!(item.matched, MatchKind::Declared | MatchKind::Exact));
        }
        // Targets are a subset of what the results named.
        let named: BTreeSet<_> = results
            .iter()
            .flat_map(|result| result.facts.values())
            .flat_map(|facts| facts.values())
            .flat_map(|fact| {
                let crate::model::Fact::List(items) = fact else {
                    return vec![];
                };
                items.clone()
            })
            .map(|item| format!("{item:?}"))
            .collect();
        for item in plan.auto_heal.iter().chain(&plan.require_approval) {
            for value in item.params.values() {
                if let crate::model::plan::ParamValue::List(paths) = value {
                    for path in paths {
                        let path = format!("{:?}", crate::model::Fact::Text(path.clone()));
                        prop_assert!(named.contains(&path));
                    }
                }
            }
        }
    }
}
