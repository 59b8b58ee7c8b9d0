//! The round as a whole: references, sharing, deadlines, secrets, bounds.

use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;

use super::{Fact, Ground, check, is_unknown};
use crate::probe::{Deadline, boot_now, round};

/// Runs the claim where permission bits count; as root this thread becomes nobody first, for good.
pub(super) fn as_nobody(ground: &Ground, claim: &dyn Fn(&Ground)) {
    use std::os::unix::fs::PermissionsExt as _;
    let seal = |path: &str, mode: u32| {
        std::fs::set_permissions(ground.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    seal("closed", 0o000);
    seal("sealed.env", 0o000);
    let root = rustix::process::geteuid().is_root();
    if root {
        for path in ["closed", "closed/.env", "closed/x.log", "sealed.env"] {
            let id = Some(super::NOBODY);
            std::os::unix::fs::chown(ground.path(path), id, id).unwrap();
        }
        // Ids of this thread alone, and of the round's threads, which inherit them; ids of the process stay.
        rustix::thread::set_thread_groups(&[]).unwrap();
        let gid = rustix::fs::Gid::from_raw(super::NOBODY);
        let uid = rustix::fs::Uid::from_raw(super::NOBODY);
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    }
    claim(ground);
    seal("closed", 0o700);
}

#[test]
fn a_port_out_of_an_env_file_is_asked_in_the_same_round() {
    let ground = Ground::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    ground.write(".env", &format!("PORT={port}\n"));
    let found = ground.check(&json!({
        "env": {"env": {"path": ".env", "dialect": "node"}},
        "port": {"port": {"port": "{env.values.PORT|3000}"}},
        "lost": {"port": {"port": "{env.values.OTHER}"}},
        "other": {"port": {"port": "{nothing.values.OTHER}"}},
    }));
    assert_eq!(
        found["port"]["listening"],
        Fact::Bool(true),
        "a secret port is used inside the host"
    );
    assert!(is_unknown(
        &found["lost"]["listening"],
        "needs env.values.OTHER, which is absent"
    ));
    assert!(is_unknown(
        &found["other"]["listening"],
        "no probe is named `nothing`"
    ));
}

#[test]
fn cycles_bad_kinds_and_bad_parameters_are_unknown_with_the_reason() {
    let ground = Ground::new();
    let found = ground.check(&json!({
        "a": {"file": {"path": "{b.link_target}"}},
        "b": {"file": {"path": "{a.link_target}"}},
        "kind": {"fle": {"path": "x"}},
        "param": {"file": {"pth": "x"}},
        "form": 7,
        "out": {"file": {"path": "../x"}},
        "good": {"file": {"path": "x"}},
    }));
    assert!(is_unknown(&found["a"]["exists"], "cycle"));
    assert!(is_unknown(&found["b"]["exists"], "cycle"));
    assert!(is_unknown(&found["param"]["exists"], "unknown field `pth`"));
    assert!(is_unknown(&found["out"]["exists"], "`..`"));
    assert!(found["kind"].is_empty() && found["form"].is_empty());
    assert_eq!(found["good"]["exists"], Fact::Bool(false));
}

#[test]
fn no_secret_leaves_the_host() {
    const CANARY: &str = "c4n4ry-v4lue";
    let ground = Ground::new();
    ground.write(
        ".env",
        &format!("SHORT={CANARY}\nAPP_KEY={CANARY}2\nOPEN=shown\nNUMBER=77777\n"),
    );
    let probes = json!({
        "env": {"env": {"path": ".env", "reveal": ["OPEN"]}},
        "file": {"file": {"path": "{env.values.SHORT}"}},
        "tree": {"tree": {"paths": ["x{env.values.APP_KEY}"]}},
        "access": {"access": {"paths": ["{env.values.SHORT}"], "want": "read"}},
        "bad": {"log": {"path": "x", "tail": "{env.values.SHORT}"}},
        "json": {"json": {"path": ".env", "pick": {"a": "/{env.values.APP_KEY}"}}},
        "http": {"http": {"url": "http://{env.values.SHORT}/", "origin": "127.0.0.1:1", "timeout": "1s"}},
        "unit": {"unit": {"name": "{env.values.SHORT}"}},
        "cat": {"program": {"argv": ["cat", ".env"]}},
        "argv": {"program": {"argv": ["echo", "{env.values.SHORT}"]}},
    });
    let checks = [check("c", &probes)];
    let deadline = Deadline::after(Duration::from_secs(20));
    let (_, facts) = round(&ground.target, &checks, deadline, &AtomicBool::new(false)).unwrap();
    let found = &facts[0].probes;
    assert!(is_unknown(&found["argv"]["text"], "command line"));
    assert!(is_unknown(&found["unit"]["active"], "command line"));
    let text = serde_json::to_string(&facts).unwrap();
    assert!(text.contains("shown"));
    // A program that prints the file itself shows it, but for what its key calls a secret.
    let without = serde_json::to_string(
        &found
            .iter()
            .filter(|(name, _)| *name != "cat")
            .collect::<Vec<_>>(),
    )
    .unwrap();
    assert!(!without.contains(CANARY), "{without}");
    assert!(!text.contains(&format!("{CANARY}2")), "{text}");
    let Fact::Map(values) = &found["env"]["values"] else {
        panic!("{found:?}")
    };
    assert_eq!(
        values["SHORT"],
        Fact::Secret {
            length: CANARY.len() as u64
        }
    );
}

#[test]
fn equal_probes_run_once() {
    let ground = Ground::new();
    ground.write("x", "");
    let append = json!({"program": {"argv": ["sh", "-c", "echo run >>ran"]}});
    let checks: Vec<_> = (0..6)
        .map(|n| check(&format!("c{n}"), &json!({"p": append, "q": append})))
        .collect();
    let deadline = Deadline::after(Duration::from_secs(20));
    let (roots, facts) = round(&ground.target, &checks, deadline, &AtomicBool::new(false)).unwrap();
    assert_eq!(
        roots,
        [std::fs::canonicalize(ground.path(""))
            .unwrap()
            .to_str()
            .unwrap()]
    );
    let names: Vec<&str> = facts.iter().map(|facts| facts.check.as_str()).collect();
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5"]);
    assert!(
        facts
            .iter()
            .all(|facts| facts.probes["q"]["exit"] == Fact::Int(0)),
        "{facts:?}"
    );
    assert_eq!(
        std::fs::read_to_string(ground.path("ran")).unwrap(),
        "run\n"
    );
}

#[test]
fn a_hanging_check_delays_only_itself() {
    let ground = Ground::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let checks = [
        check(
            "slow",
            &json!({"p": {"http": {"url": "http://a/", "origin": origin, "timeout": "60s"}}}),
        ),
        check("fast", &json!({"p": {"file": {"path": "x"}}})),
    ];
    let deadline = Deadline::after(Duration::from_millis(300));
    let (_, facts) = round(&ground.target, &checks, deadline, &AtomicBool::new(false)).unwrap();
    assert!(is_unknown(&facts[0].probes["p"]["reachable"], "deadline"));
    assert_eq!(facts[1].probes["p"]["exists"], Fact::Bool(false));
}

#[test]
fn a_cancelled_round_ends() {
    let ground = Ground::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let checks = [check(
        "slow",
        &json!({"p": {"http": {"url": "http://a/", "origin": origin, "timeout": "60s"}}}),
    )];
    let start = boot_now();
    let answer = round(
        &ground.target,
        &checks,
        Deadline::after(Duration::from_mins(1)),
        &AtomicBool::new(true),
    );
    assert!(answer.is_err());
    assert!(boot_now().saturating_sub(start) < Duration::from_secs(30));
}

#[test]
fn a_root_that_is_not_there_is_refused() {
    let mut ground = Ground::new();
    ground.target.root = "/nowhere/at/all".into();
    let answer = round(
        &ground.target,
        &[],
        Deadline::after(Duration::from_secs(1)),
        &AtomicBool::new(false),
    );
    assert_eq!(answer.unwrap_err().code, crate::protocol::RefusalCode::Root);
}

#[test]
fn the_answer_of_a_round_fits_into_a_frame() {
    let ground = Ground::new();
    let noise = json!({"p": {"program": {"argv": ["sh", "-c", "head -c 200000 /dev/zero | tr '\\0' '\\1'"]}}});
    let checks: Vec<_> = (0..30).map(|n| check(&format!("c{n}"), &noise)).collect();
    let deadline = Deadline::after(Duration::from_secs(30));
    let (_, facts) = round(&ground.target, &checks, deadline, &AtomicBool::new(false)).unwrap();
    let bytes = serde_json::to_string(&facts).unwrap().len();
    assert!(bytes < 1 << 20, "{bytes}");
    assert!(
        facts
            .iter()
            .any(|facts| matches!(facts.probes["p"]["text"], Fact::Text(_)))
    );
    assert!(
        facts
            .iter()
            .any(|facts| is_unknown(&facts.probes["p"]["text"], "too large"))
    );
}
