//! php-fpm under its manager, on a host of its own with the daemon on it: dead or hung, it is restarted by its unit once a
//! person has said so, and nothing else is.

use std::fs;
use std::path::Path;

use super::journal::{Approval, Journal};
use super::scene::QUICK;
use crate::lab::machine::{self, WordPressUnits};
use crate::lab::{Lab, set_mode, wait_for, wordpress};

const APP: &str = "blog";

/// Puts the daemon on the host as a unit of its own, with a list for root that names php-fpm's unit and nothing else.
fn install(lab: &Lab, app: &WordPressUnits) -> Journal {
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
    let state = app.machine.root().join("var/lib/healerd");
    wait_for("the daemon has its store", || {
        state.join("state.db").exists()
    });
    Journal::open(&state)
}

/// Shows what the daemon said when the test fails.
struct Shown<'a>(&'a WordPressUnits);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self
                .0
                .machine
                .run(&["journalctl", "-u", "healer-under-test", "-o", "cat"]);
            eprintln!("--- healerd said:\n{}---", said.stdout);
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
    let journal = install(&lab, &app);
    wait_for("the site is adopted", || {
        journal.backups(APP, "known_good") > 0
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
        let mut found: Option<Approval> = None;
        wait_for(&format!("SIG{signal}: a restart is proposed"), || {
            let mut all = journal.approvals(APP).into_iter();
            found = all.find(|approval| approval.state == "PENDING");
            found.is_some()
        });
        let approval = found.expect("waited for");
        assert_eq!(approval.action, "restart_php_fpm");
        assert_eq!(
            journal.heals(APP).len(),
            done,
            "nothing runs before somebody says so"
        );
        app.machine
            .run(&[
                "/usr/local/bin/healerctl",
                "--socket",
                "/run/healerd.sock",
                "approve",
                &approval.id,
                "--yes",
                "--reason",
                "nobody is served any more",
            ])
            .expect_success();
        app.machine.wait_for_status(&app.url, 200);
        wait_for(
            &format!("SIG{signal}: the cure is verified and lasts"),
            || {
                let heals = journal.heals(APP);
                heals.len() == done + 1
                    && heals.iter().all(|heal| heal.state == "Cured")
                    && journal.watched(APP) == 0
            },
        );
        assert_ne!(pid(&app, app.fpm), before, "SIG{signal}");
        assert_eq!(bystanders(), others, "SIG{signal}");
    }
    drop(shown);
}
