//! WordPress' stack: what is asked only where something could follow, and what is compared with healthy days.

use super::wordpress::{may, result, text};
use super::*;
use crate::catalogue::truth::Truth;

#[test]
fn a_search_that_was_not_made_is_unknown_and_what_was_sent_shows_that_nothing_starts_the_site() {
    let (stack, shop) = (built_in("wordpress"), app("wordpress"));
    let only = |check: &Check| check.name.as_str() == "wp_plugin_fatal";
    let mut asked = stack.probes(&shop, &only);
    stack.spare(&mut asked);
    let names: Vec<&str> = asked[0].probes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "config", "core", "files", "folder", "home", "http", "log", "suspect"
        ]
    );
    let mut found = facts(
        "wp_plugin_fatal",
        &[
            (
                "http",
                &[("server_error", Fact::Int(500)), ("found", texts(&[]))],
            ),
            (
                "config",
                &[("parsed", Fact::Bool(true)), ("loads", Fact::Bool(true))],
            ),
            ("core", &[("complete", Fact::Bool(true))]),
            (
                "log",
                &[("suspect", text("shop")), ("age", Fact::Int(1000))],
            ),
        ],
    );
    found.probes.remove("plugins");
    let result = evaluate(&stack, &shop, &found).unwrap();
    assert_eq!(result.status, Status::Error, "{}", result.message);
    assert!(result.message.contains("names: shop"), "{}", result.message);
}

#[test]
fn changed_keys_are_told_and_are_a_fault_only_where_the_site_lost_its_data() {
    let keys = |changed: &[&str], location: Fact, found: &[&str]| {
        let result = result(
            "wp_config_keys",
            &[
                ("http", &[("found", texts(found)), ("location", location)]),
                (
                    "settings",
                    &[
                        ("exists", Fact::Bool(true)),
                        ("readable", Fact::Bool(true)),
                        ("parsed", Fact::Bool(true)),
                        ("compared", Fact::Bool(true)),
                        ("changed", texts(changed)),
                    ],
                ),
            ],
        );
        let may = may("restore_changed_wp_config", std::slice::from_ref(&result));
        (result.status, may)
    };
    let down = &["Error establishing a database connection"][..];
    let installer = || text("http://shop.example.org/wp-admin/install.php");
    for (case, found, want) in [
        (
            "nothing",
            keys(&[], Fact::Absent, &[]),
            (Status::Pass, Truth::False),
        ),
        (
            "a key, and the site is well",
            keys(&["AUTH_KEY"], Fact::Absent, &[]),
            (Status::Warn, Truth::True),
        ),
        (
            "a key, and the database is down",
            keys(&["AUTH_KEY"], Fact::Absent, down),
            (Status::Warn, Truth::True),
        ),
        (
            "the password",
            keys(&["DB_PASSWORD"], Fact::Absent, down),
            (Status::Fail, Truth::True),
        ),
        (
            "the prefix",
            keys(&["$table_prefix"], installer(), &[]),
            (Status::Fail, Truth::True),
        ),
        (
            "nothing, and the database is down",
            keys(&[], Fact::Absent, down),
            (Status::Pass, Truth::False),
        ),
    ] {
        assert_eq!(found, want, "{case}");
    }
    let stack = built_in("wordpress");
    let compares: Vec<&str> = stack
        .checks
        .iter()
        .filter(|check| check.compares_with_known_good())
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(compares, ["wp_config_keys"]);
}
