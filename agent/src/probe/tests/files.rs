//! Kinds that read the tree.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::json;

use super::{Fact, Ground, is_unknown, texts};

fn mode(ground: &Ground, path: &str, mode: u32) {
    std::fs::set_permissions(ground.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_is_described() {
    let ground = Ground::new();
    ground.write("config/app.php", "<?php");
    mode(&ground, "config/app.php", 0o640);
    let facts = ground.ask("file", &json!({"path": "config/app.php"}));
    assert_eq!(facts["exists"], Fact::Bool(true));
    assert_eq!(facts["kind"], Fact::from("file"));
    assert_eq!(facts["size"], Fact::Int(5));
    assert_eq!(facts["mode"], Fact::Int(0o640));
    assert_eq!(facts["link_target"], Fact::Absent);
    assert!(matches!(facts["age"], Fact::Int(0..60_000)));
    let facts = ground.ask("file", &json!({"path": "config"}));
    assert_eq!(facts["kind"], Fact::from("directory"));
}

#[test]
fn absent_is_absent_and_a_file_as_a_directory_too() {
    let ground = Ground::new();
    ground.write("a", "");
    for path in ["nothing", "no/thing", "a/b"] {
        let facts = ground.ask("file", &json!({"path": path}));
        assert_eq!(facts["exists"], Fact::Bool(false), "{path}");
        assert_eq!(facts["size"], Fact::Absent, "{path}");
    }
}

#[test]
fn a_link_into_a_declared_root_is_one_hop_and_no_other_is_followed() {
    let shared = Ground::new();
    shared.write("env", "A=1\n");
    shared.write("storage/logs/x.log", "x");
    let mut ground = Ground::new();
    ground.target.roots = vec![shared.target.root.clone()];
    symlink(shared.path("env"), ground.path(".env")).unwrap();
    symlink(shared.path("storage"), ground.path("storage")).unwrap();
    symlink("/etc/passwd", ground.path("out")).unwrap();
    symlink("nowhere", ground.path("dangling")).unwrap();
    let facts = ground.ask("file", &json!({"path": ".env"}));
    assert_eq!(facts["kind"], Fact::from("file"));
    assert_eq!(facts["size"], Fact::Int(4));
    assert!(matches!(facts["link_target"], Fact::Text(_)));
    let facts = ground.ask("tree", &json!({"paths": ["storage/logs/*"]}));
    assert_eq!(facts["paths"], texts(&["storage/logs/x.log"]));
    let facts = ground.ask("file", &json!({"path": "out"}));
    assert_eq!(facts["kind"], Fact::from("link"));
    assert!(is_unknown(&facts["size"], "out of the declared roots"));
    let facts = ground.ask("env", &json!({"path": "out"}));
    assert!(is_unknown(&facts["exists"], "out of the declared roots"));
    let facts = ground.ask("file", &json!({"path": "dangling"}));
    assert_eq!(facts["exists"], Fact::Bool(true));
    assert_eq!(facts["kind"], Fact::from("link"));
}

#[test]
fn json_is_parsed_or_the_error_named() {
    let ground = Ground::new();
    ground.write(
        "package.json",
        r#"{"name": "shop", "n": 3, "deep": {"list": [1, "x", null]}}"#,
    );
    ground.write("torn.json", "{\"name\": \"sho");
    let facts = ground.ask(
        "json",
        &json!({"path": "package.json", "pick": {"name": "/name", "list": "/deep/list", "none": "/x"}}),
    );
    let Fact::Map(values) = &facts["values"] else {
        panic!("{facts:?}")
    };
    assert_eq!(values["name"], Fact::from("shop"));
    assert_eq!(
        values["list"],
        Fact::List(vec![Fact::Int(1), Fact::from("x"), Fact::Absent])
    );
    assert_eq!(values["none"], Fact::Absent);
    let facts = ground.ask("json", &json!({"path": "torn.json"}));
    assert_eq!(facts["parsed"], Fact::Bool(false));
    assert!(matches!(&facts["error"], Fact::Text(text) if text.contains("line 1")));
    let facts = ground.ask("file", &json!({"path": "torn.json", "parse": "json"}));
    assert!(matches!(&facts["json_error"], Fact::Text(_)));
    let facts = ground.ask("file", &json!({"path": "package.json", "parse": "json"}));
    assert_eq!(facts["json_error"], Fact::Absent);
    ground.write("deep.json", &"[".repeat(100_000));
    let facts = ground.ask("json", &json!({"path": "deep.json"}));
    assert_eq!(facts["parsed"], Fact::Bool(false));
}

#[test]
fn a_tree_is_counted_without_its_own_directory() {
    let ground = Ground::new();
    std::fs::create_dir_all(ground.path("empty")).unwrap();
    let facts = ground.ask("tree", &json!({"paths": ["empty/**"]}));
    assert_eq!(facts["exists"], Fact::Bool(true));
    assert_eq!(facts["count"], Fact::Int(0));
    assert_eq!(facts["newest"], Fact::Absent);
    for n in 0..5 {
        ground.write(&format!("views/d/{n}.php"), "12345");
    }
    let facts = ground.ask("tree", &json!({"paths": ["views/**"]}));
    assert_eq!(facts["count"], Fact::Int(6));
    assert_eq!(facts["bytes"], Fact::Int(25));
    let facts = ground.ask("tree", &json!({"paths": ["views/**"], "entries_max": 3}));
    assert_eq!(facts["truncated"], Fact::Bool(true));
    let facts = ground.ask("tree", &json!({"paths": ["none/**"]}));
    assert_eq!(facts["exists"], Fact::Bool(false));
    assert_eq!(facts["truncated"], Fact::Bool(false));
}

#[test]
fn bits_are_compared_one_by_one_and_links_skipped() {
    let ground = Ground::new();
    for (path, bits) in [
        ("w/open", 0o666),
        ("w/tight", 0o600),
        ("w/fine", 0o644),
        ("w/sgid", 0o2755),
    ] {
        ground.write(path, "");
        mode(&ground, path, bits);
    }
    mode(&ground, "w", 0o755);
    symlink("open", ground.path("w/link")).unwrap();
    let facts = ground.ask(
        "mode",
        &json!({"paths": ["w/**", "gone"], "forbid": "o+w", "need": "g+rX"}),
    );
    assert_eq!(facts["too_open"], texts(&["w/open"]));
    assert_eq!(facts["too_tight"], texts(&["w/tight"]));
    assert_eq!(facts["missing"], texts(&["gone"]));
    let facts = ground.ask(
        "mode",
        &json!({"paths": ["w"], "need": "a+X", "recursive": true}),
    );
    assert_eq!(facts["too_tight"], texts(&[]));
}

#[test]
fn access_names_what_is_missing() {
    let ground = Ground::new();
    ground.write("storage/logs/a", "");
    let facts = ground.ask(
        "access",
        &json!({"paths": ["storage", "bootstrap/cache"], "want": "write", "recursive": true}),
    );
    assert_eq!(facts["missing"], texts(&["bootstrap/cache"]));
    assert_eq!(facts["denied"], texts(&[]));
}

#[test]
fn what_may_not_be_read_is_unknown_and_never_absent() {
    let ground = Ground::new();
    ground.write("closed/.env", "A=1");
    ground.write("closed/x.log", "x");
    ground.write("sealed.env", "A=1");
    super::rounds::as_nobody(&ground, &|ground| {
        for (kind, params, fact) in [
            ("file", json!({"path": "closed/.env"}), "exists"),
            ("env", json!({"path": "closed/.env"}), "exists"),
            ("json", json!({"path": "closed/.env"}), "exists"),
            ("log", json!({"path": "closed/x.log"}), "exists"),
            ("tree", json!({"paths": ["closed/*"]}), "count"),
            ("mode", json!({"paths": ["closed/**"]}), "too_open"),
            ("env", json!({"path": "sealed.env"}), "values"),
            ("npm_lock", json!({"path": "closed"}), "package_exists"),
        ] {
            let facts = ground.ask(kind, &params);
            assert!(
                is_unknown(&facts[fact], "permission denied"),
                "{kind}: {facts:?}"
            );
        }
        let facts = ground.ask("env", &json!({"path": "sealed.env"}));
        assert_eq!(facts["exists"], Fact::Bool(true));
        assert_eq!(facts["readable"], Fact::Bool(false));
        let facts = ground.ask(
            "access",
            &json!({"paths": ["closed", "sealed.env"], "want": "write", "recursive": true}),
        );
        assert_eq!(facts["denied"], texts(&["closed", "sealed.env"]));
    });
    assert!(
        !rustix::process::geteuid().is_root(),
        "root would have read it all"
    );
}

#[test]
fn a_log_is_counted_by_whole_lines_of_its_tail() {
    let ground = Ground::new();
    ground.write("a.log", "ERROR old\nERROR one ERROR\nfine\nERROR two\n");
    let params = json!({"path": "a.log", "count": {"errors": "ERROR", "none": "WARN"}});
    let facts = ground.ask("log", &params);
    let Fact::Map(counts) = &facts["counts"] else {
        panic!("{facts:?}")
    };
    assert_eq!(counts["errors"], Fact::Int(3));
    assert_eq!(counts["none"], Fact::Int(0));
    let facts = ground.ask(
        "log",
        &json!({"path": "a.log", "tail": "20B", "count": {"errors": "ERROR"}}),
    );
    let Fact::Map(counts) = &facts["counts"] else {
        panic!("{facts:?}")
    };
    assert_eq!(
        counts["errors"],
        Fact::Int(1),
        "the cut first line does not count"
    );
    assert_eq!(
        ground.ask("log", &json!({"path": "b.log"}))["exists"],
        Fact::Bool(false)
    );
}

#[test]
fn disk_and_memory_answer_on_this_host() {
    let ground = Ground::new();
    let facts = ground.ask("disk", &json!({"path": ""}));
    assert!(
        matches!(facts["used_percent"], Fact::Int(0..=100)),
        "{facts:?}"
    );
    assert!(matches!(facts["free"], Fact::Int(1..)));
    let facts = ground.ask("memory", &json!({}));
    assert!(
        matches!(facts["used_percent"], Fact::Int(1..=100)),
        "{facts:?}"
    );
    assert!(matches!(facts["available"], Fact::Int(1..)));
}

#[test]
fn a_pipe_does_not_hold_a_probe_up() {
    let ground = Ground::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        ground.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert_eq!(
        ground.ask("file", &json!({"path": "pipe", "parse": "json"}))["kind"],
        Fact::from("other")
    );
    assert!(is_unknown(
        &ground.ask("env", &json!({"path": "pipe"}))["keys"],
        "no regular file"
    ));
    assert!(is_unknown(
        &ground.ask("log", &json!({"path": "pipe"}))["counts"],
        "no regular file"
    ));
}
