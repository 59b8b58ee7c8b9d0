//! Express under a systemd unit, on a host of its own with the daemon on it.

use std::fs;
use std::path::Path;

use super::scene::QUICK;
use crate::lab::machine::{self, ExpressUnit};
use crate::lab::{Lab, node, set_mode};

const ALLOW: &str = "[[restart]]\nunit = \"shop.service\"\n";

/// Puts the daemon on the host as a unit of its own.
fn install(lab: &Lab, app: &ExpressUnit) {
    let config = format!(
        "mode = \"SEMI_AUTO\"\n{QUICK}\n\
         [daemon]\nstate_dir = \"/var/lib/healerd\"\nagent_allow = \"/etc/healerd/agent.toml\"\n\
         [control]\nsocket = \"/run/healerd.sock\"\n[metrics]\nenabled = false\n\
         [app.shop]\npath = \"{path}\"\nstack = \"express\"\nuser = \"{user}\"\nurl = \"{url}\"\n\
         vars = {{ manager = \"unit\", unit = \"{unit}\" }}\n",
        path = app.path.display(),
        user = lab.user.name,
        url = app.url,
        unit = app.unit,
    );
    let files = lab.dir().join("healerd");
    fs::create_dir(&files).unwrap();
    for (name, text) in [("healerd.toml", config.as_str()), ("agent.toml", ALLOW)] {
        fs::write(files.join(name), text).unwrap();
        set_mode(&files.join(name), 0o600);
    }
    app.machine.copy(&files, Path::new("/etc/healerd"));
    app.machine.copy(
        Path::new(env!("CARGO_BIN_EXE_healerd")),
        Path::new("/usr/local/bin/healerd"),
    );
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

fn said(app: &ExpressUnit) -> String {
    app.machine
        .run(&["journalctl", "-u", "healer-under-test", "-o", "cat"])
        .stdout
}

/// Shows what the daemon said when the test fails.
struct Shown<'a>(&'a ExpressUnit);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- healerd said:\n{}---", said(self.0));
        }
    }
}

#[test]
fn a_unit_that_died_is_started_again_and_no_other_is() {
    let programs = [machine::PROGRAMS, node::PROGRAMS].concat();
    let Some(lab) = Lab::open(&programs) else {
        return;
    };
    let Some(app) = lab.express_unit() else {
        return;
    };
    let shown = Shown(&app);
    install(&lab, &app);
    let journald = || {
        app.machine
            .run(&["systemctl", "show", "-P", "MainPID", "systemd-journald"])
            .stdout
    };
    let bystander = journald();
    crate::lab::wait_for("the first look is made", || {
        said(&app).contains("snapshot taken")
    });
    for (case, fault) in [
        ("stopped", ["systemctl", "stop", "shop.service"].as_slice()),
        (
            "killed",
            &["systemctl", "kill", "-s", "KILL", "shop.service"],
        ),
    ] {
        let healed = said(&app).matches("state=Cured").count();
        app.machine.run(fault).expect_success();
        crate::lab::wait_for(&format!("{case}: it is down"), || {
            app.machine.status(&app.url).is_none()
        });
        app.machine.wait_for_status(&app.url, 200);
        crate::lab::wait_for(&format!("{case}: the cure is verified"), || {
            said(&app).matches("state=Cured").count() > healed
        });
    }
    assert_eq!(journald(), bystander);
    drop(shown);
}
