//! WordPress' stack: what its facts mean, and when its actions may help.

use super::*;
use crate::catalogue::fact::Scope;
use crate::catalogue::resolve::requirements;
use crate::catalogue::truth::Truth;

pub(super) fn result(check: &str, probes: &[(&str, &[(&str, Fact)])]) -> CheckResult {
    let (stack, shop) = (built_in("wordpress"), app("wordpress"));
    evaluate(&stack, &shop, &facts(check, probes)).unwrap()
}

/// Do the preconditions of an action hold for its first result?
pub(super) fn may(action: &str, results: &[CheckResult]) -> Truth {
    let (stack, shop) = (built_in("wordpress"), app("wordpress"));
    let scope = Scope {
        app: Some(&shop),
        defaults: Some(&stack.vars),
        results: Some(results),
        ..Scope::default()
    };
    let action = stack.action(&action.parse().unwrap()).unwrap();
    requirements(&stack, action, &[results[0].check.clone()], &scope)
}

pub(super) fn text(value: &str) -> Fact {
    Fact::Text(value.to_owned())
}

fn unknown() -> Fact {
    Fact::Unknown("deadline".to_owned())
}

#[test]
fn what_goes_further_than_files_waits_for_a_person() {
    let stack = built_in("wordpress");
    let risks: Vec<(String, Risk, bool)> = stack
        .actions
        .iter()
        .map(|action| {
            let root = action.identity == Identity::Root;
            (action.name.to_string(), action.risk, root)
        })
        .collect();
    let rows = [
        ("restart_php_fpm", Risk::High, true),
        ("restore_wp_config", Risk::Medium, false),
        ("restore_changed_wp_config", Risk::High, false),
        ("fix_wp_config_mode", Risk::High, false),
        ("fix_wp_modes", Risk::Medium, false),
        ("fix_uploads_permissions", Risk::Medium, true),
        ("fix_uploads_modes", Risk::Low, false),
        ("fix_uploads_tree", Risk::Medium, true),
        ("clear_stale_maintenance", Risk::Medium, false),
        ("core_download", Risk::High, false),
        ("set_plugin_aside", Risk::High, false),
        ("deactivate_plugin", Risk::High, false),
        ("set_suspect_aside", Risk::High, false),
        ("trim_log", Risk::Low, false),
    ];
    assert_eq!(
        risks,
        rows.map(|(name, risk, root)| (name.to_owned(), risk, root))
    );
}

#[test]
fn an_open_installer_is_the_worst_that_a_site_can_answer() {
    let http = |status: i64, location: Fact, found: &[&str]| {
        result(
            "http",
            &[(
                "http",
                &[
                    ("reachable", Fact::Bool(true)),
                    ("error", Fact::Absent),
                    ("status", Fact::Int(status)),
                    ("location", location),
                    ("empty", Fact::Bool(false)),
                    ("found", texts(found)),
                ],
            )],
        )
    };
    let setup = "http://shop.example.org/wp-admin/setup-config.php";
    for (case, found, want, part) in [
        ("fine", http(200, Fact::Absent, &[]), Status::Pass, ""),
        (
            "canonical",
            http(301, text("https://shop.example.org/"), &[]),
            Status::Pass,
            "",
        ),
        (
            "no tables",
            http(302, text("/wp-admin/install.php"), &[]),
            Status::Fail,
            "installer is open",
        ),
        (
            "no configuration",
            http(302, text(setup), &[]),
            Status::Fail,
            "installer is open",
        ),
        (
            "no database",
            http(
                500,
                Fact::Absent,
                &["Error establishing a database connection"],
            ),
            Status::Fail,
            "reaches no database",
        ),
        (
            "maintenance",
            http(503, Fact::Absent, &[]),
            Status::Fail,
            "answers 503",
        ),
    ] {
        assert_eq!(found.status, want, "{case}: {}", found.message);
        assert!(found.message.contains(part), "{case}: {}", found.message);
        assert!(
            want == Status::Pass || found.severity == Severity::Critical,
            "{case}"
        );
    }
}

#[test]
fn a_flag_is_stale_only_by_its_file_and_its_own_word_with_nobody_at_work() {
    let minutes = |count: i64| Fact::Int(count * 60_000);
    for (case, age, said, parsed, work, recent, want, want_may) in [
        (
            "old by both",
            11,
            minutes(11),
            true,
            0,
            60,
            Status::Warn,
            Truth::True,
        ),
        (
            "it always says now",
            11,
            Fact::Absent,
            true,
            0,
            60,
            Status::Fail,
            Truth::True,
        ),
        (
            "its word is fresh",
            11,
            minutes(0),
            true,
            0,
            60,
            Status::Pass,
            Truth::False,
        ),
        (
            "its file is fresh",
            1,
            minutes(11),
            true,
            0,
            60,
            Status::Pass,
            Truth::False,
        ),
        (
            "somebody works",
            11,
            minutes(11),
            true,
            1,
            60,
            Status::Pass,
            Truth::False,
        ),
        (
            "files change",
            11,
            minutes(11),
            true,
            0,
            2,
            Status::Pass,
            Truth::False,
        ),
        (
            "it is damaged",
            11,
            unknown(),
            false,
            0,
            60,
            Status::Fail,
            Truth::True,
        ),
    ] {
        let found = result(
            "wp_maintenance",
            &[
                (
                    "flag",
                    &[("exists", Fact::Bool(true)), ("age", minutes(age))],
                ),
                (
                    "said",
                    &[
                        ("parsed", Fact::Bool(parsed)),
                        ("error", text("line 1")),
                        ("time_age", said),
                    ],
                ),
                (
                    "work",
                    &[("count", Fact::Int(work)), ("names", texts(&["wp"]))],
                ),
                (
                    "recent",
                    &[("newest_age", minutes(recent)), ("newest_path", text("x"))],
                ),
            ],
        );
        assert_eq!(found.status, want, "{case}: {}", found.message);
        assert_eq!(may("clear_stale_maintenance", &[found]), want_may, "{case}");
    }
}

#[test]
fn php_fpm_is_restarted_for_its_own_silence_and_never_for_the_databases() {
    let http = |status: Fact, error: Fact| {
        result(
            "http",
            &[
                (
                    "http",
                    &[
                        ("reachable", Fact::Bool(true)),
                        ("status", status),
                        ("error", error),
                        ("location", Fact::Absent),
                        ("found", texts(&[])),
                    ],
                ),
                (
                    "unit",
                    &[
                        ("manager", Fact::Bool(true)),
                        ("loaded", Fact::Bool(true)),
                        ("restarting", Fact::Bool(false)),
                    ],
                ),
            ],
        )
    };
    let database = |reachable: bool| {
        result(
            "wp_database",
            &[
                (
                    "http",
                    &[
                        ("error", Fact::Absent),
                        ("server_error", Fact::Int(502)),
                        ("found", texts(&[])),
                    ],
                ),
                (
                    "config",
                    &[
                        ("parsed", Fact::Bool(true)),
                        (
                            "values",
                            Fact::Map([("DB_HOST".to_owned(), Fact::Secret { length: 9 })].into()),
                        ),
                    ],
                ),
                (
                    "database",
                    &[
                        ("reachable", Fact::Bool(reachable)),
                        ("refusal", Fact::Absent),
                        ("error", text("refused")),
                    ],
                ),
            ],
        )
    };
    for (case, status, error, reachable, want) in [
        (
            "bad gateway",
            Fact::Int(502),
            Fact::Absent,
            true,
            Truth::True,
        ),
        ("it hangs", Fact::Absent, text("timeout"), true, Truth::True),
        (
            "it waits for the database",
            Fact::Absent,
            text("timeout"),
            false,
            Truth::False,
        ),
        (
            "a page fails",
            Fact::Int(500),
            Fact::Absent,
            true,
            Truth::False,
        ),
    ] {
        let results = [http(status, error), database(reachable)];
        assert_eq!(may("restart_php_fpm", &results), want, "{case}");
    }
}

fn fatal(exit: i64, one: Fact, kind: Fact) -> CheckResult {
    fatal_since(exit, one, kind, 60)
}

/// The same with files of the plugin that changed so many minutes ago.
fn fatal_since(exit: i64, one: Fact, kind: Fact, minutes: i64) -> CheckResult {
    let age = Fact::Int(minutes * 60_000);
    result(
        "wp_plugin_fatal",
        &[
            (
                "http",
                &[
                    ("status", Fact::Int(500)),
                    ("server_error", Fact::Int(500)),
                    ("found", texts(&[])),
                ],
            ),
            (
                "config",
                &[("parsed", Fact::Bool(true)), ("loads", Fact::Bool(true))],
            ),
            ("core", &[("complete", Fact::Bool(true))]),
            ("log", &[("suspect", text("old")), ("age", Fact::Int(1000))]),
            ("suspect", &[("kind", text("directory"))]),
            (
                "plugins",
                &[("found", Fact::Bool(true)), ("exit", Fact::Int(exit))],
            ),
            (
                "bisect",
                &[
                    ("starts", Fact::Bool(false)),
                    ("starts_bare", Fact::Bool(true)),
                    ("one", one),
                    ("leave_out", texts(&["shop", "cart"])),
                    ("clash", texts(&["shop", "cart"])),
                ],
            ),
            ("folder", &[("kind", kind)]),
            ("home", &[("denied", texts(&[]))]),
            ("files", &[("newest_age", age)]),
        ],
    )
}

#[test]
fn only_a_proved_single_plugin_with_a_folder_may_be_set_aside() {
    let folder = || text("directory");
    for (case, found, want, part) in [
        (
            "one",
            fatal(0, text("shop"), folder()),
            Truth::True,
            "starts without",
        ),
        (
            "two",
            fatal(0, Fact::Absent, unknown()),
            Truth::False,
            "starts without",
        ),
        (
            "somebody is at it",
            fatal_since(0, text("shop"), folder(), 2),
            Truth::False,
            "starts without",
        ),
        (
            "a file",
            fatal(0, text("shop"), text("file")),
            Truth::False,
            "starts without",
        ),
        (
            "only a log",
            fatal(1, unknown(), unknown()),
            Truth::False,
            "nothing proves it",
        ),
    ] {
        assert_eq!(found.status, Status::Fail, "{case}: {}", found.message);
        assert!(found.message.contains(part), "{case}: {}", found.message);
        assert_eq!(may("set_plugin_aside", &[found]), want, "{case}");
    }
}

#[test]
fn wordpress_may_lie_one_level_below_its_configuration() {
    let (stack, mut shop) = (built_in("wordpress"), app("wordpress"));
    shop.vars.insert("core".to_owned(), "htdocs/".to_owned());
    let found = fatal(0, text("cart"), text("directory"));
    let action = stack
        .resolve(
            &"set_plugin_aside".parse().unwrap(),
            std::slice::from_ref(&found.check),
            std::slice::from_ref(&found),
            &shop,
            &Params::new(),
        )
        .unwrap();
    let path = |text: &str| TreePath::parse(text).unwrap();
    let (plugin, aside) = (
        "htdocs/wp-content/plugins/cart",
        "htdocs/wp-content/plugins/cart.healerd-off",
    );
    assert!(
        matches!(&action.steps[0], Step::Run { argv, .. } if argv[..] == ["mkdir", aside]),
        "{:?}",
        action.steps
    );
    assert_eq!(
        action.steps[1..],
        [
            Step::SwapDirectory {
                path: path(plugin),
                with: path(aside)
            },
            Step::Remove {
                paths: vec![path(plugin)],
                recursive: false
            }
        ]
    );
    assert_eq!(
        action.writes_text(),
        [format!("{plugin}/**"), format!("{aside}/**")]
    );
    let asked = stack.probes(&shop, &|check| check.name.as_str() == "wp_plugin_fatal");
    let shown = format!("{asked:?}");
    assert!(shown.contains("--path=htdocs/") && shown.contains("htdocs/wp-content/debug.log"));
}

#[test]
fn the_list_of_root_names_folders_and_the_unit_whatever_value_names_it() {
    use super::super::RootNeeds;
    let mut shop = app("wordpress");
    shop.target.roots = vec!["/srv/shared".to_owned()];
    let lines = |shop: &App| RootNeeds::of(&built_in("wordpress"), shop).lines(shop);
    let without = lines(&shop);
    assert!(
        ["\"/srv/shop\"", "\"/srv/shared\""].iter().all(|root| {
            without.contains(&format!("[[chown]]\nbelow = {root}\nto = [\"shop\"]"))
        }),
        "{without}"
    );
    assert!(!without.contains("[[restart]]"), "{without}");
    shop.vars
        .insert("fpm_unit".to_owned(), "php8.2-fpm.service".to_owned());
    assert_eq!(
        lines(&shop),
        format!("{without}[[restart]]\nunit = \"php8.2-fpm.service\"\n\n")
    );
    let mut api = app("express");
    api.vars.insert("unit".to_owned(), "api.service".to_owned());
    assert_eq!(
        RootNeeds::of(&built_in("express"), &api).units,
        ["api.service"]
    );
}
