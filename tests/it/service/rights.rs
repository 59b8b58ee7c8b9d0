//! Who may do what, with users of this machine whom the kernel vouches for.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::daemon::{Daemon, app_table};
use crate::lab::process::run;
use crate::lab::{Lab, PATIENCE, wait_for};

/// An action that only persons start.
const RISKY_STACK: &str = r#"
title = "Risky"

[check.marker]
title = "the marker is there"
category = "SYSTEM"
probes.marker = { file = { path = "marker" } }
rules = [{ when = { "marker.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no marker" }]
remedies = ["write_marker"]

[action.write_marker]
title = "Write the marker"
risk = "HIGH"
writes = [{ content = "marker" }]
steps = [{ run = { argv = ["touch", "marker"] } }]
timeout = "30s"
settle = "1s"
"#;

struct Stage {
    daemon: Daemon,
    /// The client where everybody can reach it.
    client: PathBuf,
    lab: Lab,
}

impl Stage {
    fn open() -> Option<Self> {
        let lab = Lab::open(&["setpriv"])?;
        let client = lab.dir().join("healerctl");
        std::fs::copy(env!("CARGO_BIN_EXE_healerctl"), &client).unwrap();
        let stacks = lab.dir().join("stacks.d");
        std::fs::create_dir(&stacks).unwrap();
        std::fs::write(stacks.join("risky.toml"), RISKY_STACK).unwrap();
        let path = lab.dir().join("mule");
        std::fs::create_dir(&path).unwrap();
        lab.user.own_all(&path);
        let table = super::files_only(&app_table(&lab, "mule", "risky", &path, "", ""));
        let config = format!(
            "mode = \"FULL_AUTO\"\n{}{table}[control.roles]\nviewer = {{ users = [\"{}\"] }}\n",
            super::QUICK,
            lab.user.name
        );
        // Its group may connect; what it may do is another question.
        std::fs::create_dir(lab.dir().join("conf.d")).unwrap();
        std::fs::write(
            lab.dir().join("conf.d/10-group.toml"),
            format!("[control]\ngroup = \"{}\"\n", lab.user.name),
        )
        .unwrap();
        let daemon = lab.daemon(&config, "").unwrap();
        Some(Self {
            daemon,
            client,
            lab,
        })
    }

    fn ask(&self, mut command: Command, arguments: &[&str]) -> (Option<i32>, Value) {
        let said = run(
            command
                .arg("--socket")
                .arg(&self.daemon.socket)
                .arg("--json")
                .args(arguments),
            PATIENCE,
        );
        (
            said.code,
            serde_json::from_str(&said.stdout).unwrap_or_default(),
        )
    }

    /// As the applications' user, whose role is viewer.
    fn viewer(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        self.ask(self.lab.as_user(&self.client), arguments)
    }

    /// As a user of no role, with this group.
    fn stranger(&self, gid: u32, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = self.lab.as_root("setpriv");
        command
            .args(["--reuid", "65534", "--clear-groups", "--regid"])
            .arg(gid.to_string())
            .arg(Path::new(&self.client));
        self.ask(command, arguments)
    }

    fn root(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        self.daemon.ctl(&self.lab, arguments)
    }

    /// The one proposal.
    fn proposal(&self) -> Value {
        let mut found = Value::Null;
        wait_for("the action is proposed", || {
            found = self.root(&["approvals"]).1["items"][0].clone();
            found["state"] == "PENDING"
        });
        found
    }
}

#[test]
fn a_role_allows_what_it_says_and_no_more() {
    let Some(stage) = Stage::open() else { return };
    let (code, status) = stage.viewer(&["status"]);
    assert!(matches!(code, Some(0 | 3)), "{status:#}");
    assert_eq!(status["caller"]["role"], "viewer");
    assert_eq!(status["caller"]["uid"], stage.lab.user.uid);

    let proposal = stage.proposal();
    let id = proposal["approvalId"].as_str().unwrap();
    let digest = proposal["digest"].as_str().unwrap();
    let why = "because I would like to";
    for (needed, arguments) in [
        ("operator", vec!["hold", "all", "--reason", why]),
        ("operator", vec!["diagnose", "mule"]),
        (
            "operator",
            vec!["heal", "mule", "write_marker", "--reason", why],
        ),
        (
            "approver",
            vec!["approve", id, "--digest", digest, "--reason", why],
        ),
        ("approver", vec!["reject", id, "--reason", why]),
        ("admin", vec!["mode", "MANUAL", "--reason", why]),
        ("admin", vec!["breaker", "mule", "reset", "--reason", why]),
        ("admin", vec!["resume", "all", "--reason", why]),
    ] {
        let (code, said) = stage.viewer(&arguments);
        assert_eq!(code, Some(6), "{arguments:?}: {said:#}");
        let error = &said["error"];
        assert_eq!(error["code"], "role", "{said:#}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(needed) && message.contains(&stage.lab.user.name),
            "{message}"
        );
        assert!(error["hint"].is_string(), "{said:#}");
    }

    // The group opens the socket, and that is all; without it not even that.
    let (code, said) = stage.stranger(stage.lab.user.gid, &["heals"]);
    assert_eq!(code, Some(6), "{said:#}");
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no role"),
        "{said:#}"
    );
    let (code, said) = stage.stranger(65534, &["heals"]);
    assert_eq!(code, Some(6), "{said:#}");
    assert_eq!(said["error"]["code"], "permission", "{said:#}");

    assert_eq!(stage.proposal()["votes"], serde_json::json!([]));
    assert_eq!(stage.root(&["heals"]).1["items"], serde_json::json!([]));
    let (_, status) = stage.root(&["status"]);
    assert_eq!(status["holds"], serde_json::json!([]));
    assert_eq!(status["modes"], serde_json::json!([]));
    assert!(!stage.lab.dir().join("mule/marker").exists());
}

#[test]
fn an_approval_counts_only_for_what_was_seen() {
    let Some(stage) = Stage::open() else { return };
    let proposal = stage.proposal();
    let id = proposal["approvalId"].as_str().unwrap();
    let digest = proposal["digest"].as_str().unwrap().to_owned();
    let why = "looked at it with the team";

    // One letter is another.
    let other = if digest.starts_with('0') { "1" } else { "0" };
    let another = format!("{other}{}", &digest[1..]);
    let (code, said) = stage.root(&["approve", id, "--digest", &another, "--reason", why]);
    assert_eq!(code, Some(4), "{said:#}");
    assert_eq!(said["error"]["code"], "stale", "{said:#}");
    let (code, said) = stage.root(&["approve", id, "--digest", "xyz", "--reason", why]);
    assert_eq!(code, Some(2), "{said:#}");
    let (code, said) = stage.root(&["approve", id, "--digest", &digest, "--reason", "ok"]);
    assert_eq!(code, Some(2), "a reason says something: {said:#}");
    let (code, said) = stage.root(&["approve", "01zzzzzz", "--digest", &digest, "--reason", why]);
    assert_eq!(code, Some(2), "{said:#}");
    let after = stage.proposal();
    assert_eq!(
        (&after["votes"], &after["digest"]),
        (&serde_json::json!([]), &proposal["digest"])
    );
    assert_eq!(stage.root(&["heals"]).1["items"], serde_json::json!([]));

    let (code, said) = stage.root(&["approve", id, "--digest", &digest, "--reason", why]);
    assert_eq!(code, Some(0), "{said:#}");
    wait_for("it is done", || {
        stage.root(&["heals"]).1["items"][0]["state"] == "Cured"
    });
    assert!(stage.lab.dir().join("mule/marker").exists());
    // Used once.
    let (code, said) = stage.root(&["approve", id, "--digest", &digest, "--reason", why]);
    assert_eq!(code, Some(4), "{said:#}");
}
