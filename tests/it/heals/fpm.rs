//! php-fpm under its manager, on a host of its own with the daemon on it: dead or hung, it is restarted by its unit once a
//! person has said so, and nothing else is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::scene::QUICK;
use crate::lab::machine::{self, WordPressUnits};
use crate::lab::{Lab, set_mode, wait_for, wordpress};

const APP: &str = "blog";

/// Puts the daemon on the host as a unit of its own, with a list for root that names php-fpm's unit and nothing else.
fn install(lab: &Lab, app: &WordPressUnits) {
    let config = format!(
        "mode = \"FULL_AUTO\"\n[approval]\npersons = \"one\"\n{QUICK}\n\
         [daemon]\nstate_dir = \"/var/lib/healerd\"\nagent_allow = \"/etc/healerd/agent.toml\"\n\
         [control]\nsocket = \"/run/healerd.sock\"\n[metrics]\nenabled = false\n\
         [app.{APP}]\npath = \"{path}\"\nstack = \"wordpress\"\nuser = \"{user}\"\nurl = \"{url}\"\n\
         vars = {{ fpm_unit = \"{unit}\", wp_cli = \"/nonexistent/wp\" }}\n",
        path = app.path.display(),
        user = lab.user.name,
        url = app.url,
        unit = app.fpm,
    );
    let allow = format!("[[restart]]\nunit = \"{}\"\n", app.fpm);
    let files = lab.dir().join("healerd");
    fs::create_dir(&files).unwrap();
    for (name, text) in [("healerd.toml", config.as_str()), ("agent.toml", &allow)] {
        fs::write(files.join(name), text).unwrap();
        set_mode(&files.join(name), 0o600);
    }
    app.machine.copy(&files, Path::new("/etc/healerd"));
    for program in [
        env!("CARGO_BIN_EXE_healerd"),
        env!("CARGO_BIN_EXE_healerctl"),
    ] {
        let program = Path::new(program);
        let name = program.file_name().unwrap();
        app.machine
            .copy(program, &Path::new("/usr/local/bin").join(name));
    }
    app.machine
        .run(&[
            "systemd-run",
            "--unit=healer-under-test",
            "--property=KillMode=process",
            "/usr/local/bin/healerd",
            "--config",
            "/etc/healerd/healerd.toml",
        ])
        .expect_success();
}

fn said(app: &WordPressUnits) -> String {
    app.machine
        .run(&["journalctl", "-u", "healer-under-test", "-o", "cat"])
        .stdout
}

/// What `healerctl --json` prints on the host; null where it prints none.
fn ctl(app: &WordPressUnits, arguments: &[&str]) -> Value {
    let program = [
        "/usr/local/bin/healerctl",
        "--socket",
        "/run/healerd.sock",
        "--json",
    ];
    let said = app.machine.run(&[&program, arguments].concat());
    serde_json::from_str(&said.stdout).unwrap_or(Value::Null)
}

/// Shows what the daemon said when the test fails.
struct Shown<'a>(&'a WordPressUnits);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- healerd said:\n{}---", said(self.0));
        }
    }
}

fn pid(app: &WordPressUnits, unit: &str) -> String {
    let said = app
        .machine
        .run(&["systemctl", "show", "-P", "MainPID", unit]);
    said.expect_success().stdout
}

#[test]
fn php_fpm_that_died_or_hangs_is_restarted_by_its_unit_and_no_other_is() {
    let programs = [machine::PROGRAMS, wordpress::PROGRAMS].concat();
    let Some(lab) = Lab::open(&programs) else {
        return;
    };
    let app = lab.wordpress_units();
    let shown = Shown(&app);
    install(&lab, &app);
    wait_for("the site is adopted", || {
        said(&app).contains("snapshot taken")
    });
    let bystanders = || {
        let units = [app.others[0], app.others[1], "systemd-journald.service"];
        units.map(|unit| pid(&app, unit))
    };
    let others = bystanders();
    for (done, (signal, status)) in [("KILL", 502), ("STOP", 504)].into_iter().enumerate() {
        let before = pid(&app, app.fpm);
        app.machine
            .run(&["systemctl", "kill", "-s", signal, app.fpm])
            .expect_success();
        app.machine.wait_for_status(&app.url, status);
        let mut pending = Value::Null;
        wait_for(&format!("SIG{signal}: a restart is proposed"), || {
            let all = ctl(&app, &["approvals"]);
            pending = all["items"][0].clone();
            pending["state"] == "PENDING"
        });
        assert_eq!(pending["actionName"], "restart_php_fpm");
        let begun = said(&app).matches("action started").count();
        assert_eq!(begun, done, "nothing runs before somebody says so");
        let id = pending["approvalId"].as_str().unwrap();
        let reason = "nobody is served any more";
        ctl(&app, &["approve", id, "--yes", "--reason", reason]);
        app.machine.wait_for_status(&app.url, 200);
        wait_for(&format!("SIG{signal}: the cure is verified"), || {
            said(&app).matches("heal cured").count() > done
        });
        assert_ne!(pid(&app, app.fpm), before, "SIG{signal}");
        assert_eq!(bystanders(), others, "SIG{signal}");
    }
    drop(shown);
}
