use serde_json::json;

use super::*;
use crate::probe::tests::Ground;

fn ground(lock: &serde_json::Value, installed: &[(&str, &str)]) -> Ground {
    let ground = Ground::new();
    ground.write(
        "package.json",
        r#"{"name":"app","dependencies":{"a":"^1.0.0"}}"#,
    );
    ground.write("package-lock.json", &lock.to_string());
    for (path, version) in installed {
        let text = json!({"name": "x", "version": version}).to_string();
        ground.write(&format!("{path}/package.json"), &text);
    }
    ground
}

fn text(fact: &Fact) -> String {
    serde_json::to_string(fact).unwrap()
}

#[test]
fn what_npm_may_leave_out_is_not_missing() {
    let lock = json!({"lockfileVersion": 3, "packages": {
        "": {"dependencies": {"a": "^1.0.0"}},
        "node_modules/a": {"version": "1.2.0"},
        "node_modules/a/node_modules/b": {"version": "2.0.0"},
        "node_modules/opt": {"version": "1.0.0", "optional": true},
        "node_modules/mac": {"version": "1.0.0", "os": ["darwin"]},
        "node_modules/dev": {"version": "1.0.0", "dev": true},
        "node_modules/peer": {"version": "1.0.0", "peer": true},
        "node_modules/ws": {"resolved": "packages/ws", "link": true},
        "packages/ws": {"version": "1.0.0"},
    }});
    let whole = [
        ("node_modules/a", "1.2.0"),
        ("node_modules/a/node_modules/b", "2.0.0"),
    ];
    for (case, installed, missing, mismatched, complete) in [
        (
            "all but a workspace's link",
            &whole[..],
            r#"{"t":"text","v":"ws"}"#,
            "",
            false,
        ),
        (
            "a nested one is gone",
            &whole[..1],
            r#"{"t":"text","v":"a/b"},{"t":"text","v":"ws"}"#,
            "",
            false,
        ),
        (
            "another version",
            &[("node_modules/a", "1.1.0"), whole[1]],
            r#"{"t":"text","v":"ws"}"#,
            r#"{"t":"text","v":"a"}"#,
            false,
        ),
    ] {
        let ground = ground(&lock, installed);
        let found = probe(&ground.context(), "");
        assert_eq!(
            text(&found.facts["missing"]),
            format!(r#"{{"t":"list","v":[{missing}]}}"#),
            "{case}"
        );
        assert_eq!(
            text(&found.facts["mismatched"]),
            format!(r#"{{"t":"list","v":[{mismatched}]}}"#),
            "{case}"
        );
        assert_eq!(found.facts["complete"], Fact::Bool(complete), "{case}");
    }
    let ground = ground(&lock, &whole);
    std::os::unix::fs::symlink("../packages/ws", ground.path("node_modules/ws")).unwrap();
    assert_eq!(
        probe(&ground.context(), "").facts["complete"],
        Fact::Bool(true)
    );
}

#[test]
fn half_a_group_is_missing_its_other_half() {
    let lock = json!({"lockfileVersion": 3, "packages": {
        "node_modules/a": {"version": "1.0.0"},
        "node_modules/d1": {"version": "1.0.0", "dev": true},
        "node_modules/d2": {"version": "1.0.0", "dev": true},
    }});
    let ground = ground(
        &lock,
        &[("node_modules/a", "1.0.0"), ("node_modules/d1", "1.0.0")],
    );
    let found = probe(&ground.context(), "");
    assert_eq!(found.facts["missing"], Fact::from(vec!["d2"]));
}

#[test]
fn the_first_lock_format_is_read_too() {
    let lock = json!({"lockfileVersion": 1, "dependencies": {
        "a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}},
        "c": {"version": "git+ssh://git@example.org/c.git#abc"},
    }});
    let ground = ground(
        &lock,
        &[
            ("node_modules/a", "1.0.0"),
            ("node_modules/a/node_modules/b", "2.0.1"),
            ("node_modules/c", "9.9.9"),
        ],
    );
    let found = probe(&ground.context(), "");
    assert_eq!(found.facts["missing"], Fact::from(Vec::<String>::new()));
    assert_eq!(found.facts["mismatched"], Fact::from(vec!["a/b"]));
    assert_eq!(found.facts["checked"], Fact::Int(3));
}

#[test]
fn torn_and_absent_files_are_told_apart() {
    let ground = Ground::new();
    let found = probe(&ground.context(), "");
    assert_eq!(found.facts["package_exists"], Fact::Bool(false));
    assert_eq!(found.facts["package_parsed"], Fact::Absent);
    assert_eq!(found.facts["complete"], Fact::Bool(false));
    ground.write("package.json", "{\"name\":");
    ground.write("package-lock.json", "{\"packages\": 7}");
    let found = probe(&ground.context(), "");
    assert_eq!(found.facts["package_parsed"], Fact::Bool(false));
    assert_eq!(found.facts["lock_parsed"], Fact::Bool(false));
    assert_eq!(found.facts["checked"], Fact::Absent);
}

#[test]
fn lists_of_systems_admit_what_npm_admits() {
    for (list, want) in [
        (&[][..], true),
        (&["linux"][..], true),
        (&["darwin", "win32"][..], false),
        (&["!win32"][..], true),
        (&["!linux"][..], false),
    ] {
        let list: Vec<String> = list.iter().map(|item| (*item).to_owned()).collect();
        assert_eq!(admits(&list, "linux"), want, "{list:?}");
    }
}
