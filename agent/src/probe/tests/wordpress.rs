//! What WordPress is asked for, against real files, sockets and programs.

use std::io::Write as _;
use std::net::TcpListener;

use serde_json::json;

use super::{Ground, is_unknown, texts};
use crate::probe::spec::Fact;

const CONFIG: &str = "<?php
define( 'DB_HOST', '@HOST@' );
define( 'DB_PASSWORD', 'correct horse' );
require_once ABSPATH . 'wp-settings.php';
";

#[test]
fn a_database_is_greeted_at_the_host_that_stays_secret_and_only_when_there_is_need() {
    let ground = Ground::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    ground.write("wp-config.php", &CONFIG.replace("@HOST@", &host));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let greeting = b"\x0a10.11.19-MariaDB\0rest";
        stream
            .write_all(&[u8::try_from(greeting.len()).unwrap(), 0, 0, 0])
            .unwrap();
        stream.write_all(greeting).unwrap();
    });
    let ask = |when: &str| {
        ground.check(&json!({
            "config": { "php_constants": { "path": "wp-config.php" } },
            "need": { "file": { "path": when } },
            "database": { "mysql": { "host": "{config.values.DB_HOST}", "when": "{need.size}" } },
        }))
    };
    let idle = ask("absent");
    assert!(is_unknown(&idle["database"]["reachable"], "absent"));
    let found = ask("wp-config.php");
    assert_eq!(found["database"]["reachable"], Fact::Bool(true));
    assert_eq!(
        found["database"]["version"],
        Fact::Text("10.11.19-MariaDB".to_owned())
    );
    server.join().unwrap();
    let shown = format!("{found:?}");
    assert!(
        !shown.contains(&host) && !shown.contains("correct horse"),
        "{shown}"
    );
    // The listener is gone with its thread.
    let gone = ask("wp-config.php");
    assert_eq!(gone["database"]["reachable"], Fact::Bool(false));
    assert_eq!(gone["database"]["error"], Fact::Text("refused".to_owned()));
}

#[test]
fn a_server_that_says_nothing_or_something_else_is_no_database() {
    let ground = Ground::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let facts = ground.ask("mysql", &json!({ "host": host, "timeout": "200ms" }));
    assert_eq!(facts["error"], Fact::Text("timeout".to_owned()));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = other.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let facts = ground.ask("mysql", &json!({ "host": host }));
    assert_eq!(facts["error"], Fact::Text("protocol".to_owned()));
    server.join().unwrap();
    let facts = ground.ask("mysql", &json!({ "host": "db.example.org" }));
    assert_eq!(facts["local"], Fact::Bool(false));
    assert_eq!(facts["reachable"], Fact::Absent);
}

#[test]
fn missing_and_empty_core_files_are_named_by_the_installation_itself() {
    let ground = Ground::new();
    let facts = ground.ask("wp_core", &json!({}));
    assert_eq!(facts["complete"], Fact::Bool(false));
    assert_eq!(facts["version"], Fact::Absent);
    let Fact::List(missing) = facts["missing"].clone() else {
        panic!("{facts:?}");
    };
    for path in missing {
        let Fact::Text(path) = path else {
            panic!("{path:?}");
        };
        ground.write(&format!("site/{path}"), "<?php\n");
    }
    ground.write(
        "site/wp-includes/version.php",
        "<?php\n$wp_version = '6.1.9';\n",
    );
    let ask = || ground.ask("wp_core", &json!({ "path": "site/" }));
    let facts = ask();
    assert_eq!(facts["complete"], Fact::Bool(true), "{facts:?}");
    assert_eq!(facts["version"], Fact::Text("6.1.9".to_owned()));
    ground.write(
        "site/wp-settings.php",
        "<?php\nrequire ABSPATH . WPINC . '/kses.php';\nrequire ABSPATH . WPINC . '/post.php';\n",
    );
    ground.write("site/wp-includes/post.php", "");
    let facts = ask();
    assert_eq!(facts["missing"], texts(&["wp-includes/kses.php"]));
    assert_eq!(facts["empty"], texts(&["wp-includes/post.php"]));
    ground.write("site/wp-includes/kses.php", "<?php\nfunction a() {\n");
    ground.write("site/wp-includes/post.php", "\0\0\0\0");
    let facts = ask();
    let torn = texts(&["wp-includes/kses.php", "wp-includes/post.php"]);
    assert_eq!(facts["broken"], torn);
    assert_eq!(facts["complete"], Fact::Bool(false));
    ground.write("site/wp-includes/kses.php", "<?php\nfunction a() {}\n");
    ground.write("site/wp-includes/post.php", "<?php\n");
    assert_eq!(ask()["complete"], Fact::Bool(true));
    // One that cannot be looked at hides nothing, and vouches for nothing.
    for path in ["site/wp-includes/load.php", "site/wp-includes/version.php"] {
        std::fs::remove_file(ground.path(path)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", ground.path(path)).unwrap();
    }
    let facts = ask();
    assert!(is_unknown(&facts["complete"], "leads out"), "{facts:?}");
    ground.write("site/wp-includes/post.php", "");
    std::fs::remove_file(ground.path("site/wp-includes/kses.php")).unwrap();
    let facts = ask();
    assert_eq!(facts["missing"], texts(&["wp-includes/kses.php"]));
    assert_eq!(facts["empty"], texts(&["wp-includes/post.php"]));
    assert_eq!(facts["complete"], Fact::Bool(false));
    assert!(is_unknown(&facts["version"], "leads out"), "{facts:?}");
}

#[test]
fn a_search_runs_the_program_and_finds_the_pair() {
    let ground = Ground::new();
    // Starts unless both p2 and p4 are in place.
    let script = r#"case ",$1," in *,p2,*|*,p4,*) echo started;; *) exit 1;; esac"#;
    let ask = |items: &[&str], more: serde_json::Value| {
        let mut params = json!({
            "items": items,
            "argv": ["sh", "-c", script, "sh", "%left_out%"],
            "expect": "started",
        });
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ground.ask("bisect", &params)
    };
    let items = ["p1", "p2", "p3", "p4", "p5"];
    let facts = ask(&items, json!({ "runs_max": 3 }));
    assert!(is_unknown(&facts["one"], "within 3 runs"), "{facts:?}");
    let facts = ask(&items, json!({ "suspects": ["p4", "p9"] }));
    assert_eq!(facts["one"], Fact::Text("p4".to_owned()));
    assert_eq!(facts["clash"], texts(&["p4", "p2"]));
    assert_eq!(facts["starts"], Fact::Bool(false));
    // The next look only asks whether it is still so.
    let facts = ask(&items, json!({ "runs_max": 3 }));
    assert_eq!(facts["clash"], texts(&["p4", "p2"]));
    assert_eq!(facts["runs"], Fact::Int(2));
    let facts = ask(&["p1"], json!({}));
    assert_eq!(facts["starts_bare"], Fact::Bool(false));
    assert_eq!(facts["runs"], Fact::Int(3));
    // Nobody was named: that is not searched again at once.
    let facts = ask(&["p1"], json!({}));
    assert_eq!(facts["starts_bare"], Fact::Bool(false));
    assert_eq!(facts["runs"], Fact::Int(0));
    let hangs = json!({
        "items": ["p1", "p2"],
        "argv": ["sh", "-c", "test -e well || sleep 30; echo started", "sh", "%left_out%"],
        "expect": "started",
        "timeout": "100ms",
    });
    for case in ["it hangs", "it would start, and is not asked yet"] {
        let facts = ground.ask("bisect", &hangs);
        assert!(
            is_unknown(&facts["starts"], "did not come to its end"),
            "{case}: {facts:?}"
        );
        ground.write("well", "");
    }
    let facts = ask(&["p1,p2"], json!({}));
    assert!(is_unknown(&facts["one"], "cannot be passed on"));
}

#[test]
fn a_log_names_what_its_latest_fatal_errors_name() {
    let ground = Ground::new();
    let ask = || {
        let params = json!({ "path": "debug.log", "below": "wp-content/plugins", "tail": "1KiB" });
        ground.ask("php_log", &params)
    };
    assert_eq!(ask()["exists"], Fact::Bool(false));
    let old = "PHP Fatal error:  x in /srv/wp-content/plugins/old/old.php:3\n";
    let new = "PHP Fatal error:  x in /srv/wp-content/plugins/new/new.php:3\n";
    ground.write(
        "debug.log",
        &format!("{old}{}{new}", "PHP Notice: y\n".repeat(200)),
    );
    let facts = ask();
    assert_eq!(
        facts["suspects"],
        texts(&["new"]),
        "what is older lies before the tail"
    );
    assert_eq!(facts["suspect"], Fact::Text("new".to_owned()));
}
