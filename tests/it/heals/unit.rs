//! Express under a systemd unit, on a host of its own: the daemon is on it, or comes to it by SSH and Debian's sudo, whose
//! one line is what `healerctl host doctor` prints.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use super::journal::Journal;
use super::place::{Place, in_both_places};
use super::scene::{QUICK, Scene};
use super::telling;
use crate::lab::machine::{self, ExpressUnit};
use crate::lab::{Lab, node, set_mode, sshd, wait_for};

const ALLOW: &str = "[[restart]]\nunit = \"shop.service\"\n";

const MODE: &str = "mode = \"SEMI_AUTO\"\n";

/// Where root puts the agent when the configuration names no other place.
const ROOT_AGENT: &str = "usr/local/libexec/healer-agent";

/// Where the state of a daemon on the host is, below the host's root.
const STATE: &str = "var/lib/healerd";

fn table(lab: &Lab, app: &ExpressUnit, more: &str) -> String {
    format!(
        "[app.shop]\npath = \"{path}\"\nstack = \"express\"\nuser = \"{user}\"\nurl = \"{url}\"\n\
         vars = {{ manager = \"unit\", unit = \"{unit}\" }}\n{more}",
        path = app.path.display(),
        user = lab.user.name,
        url = app.url,
        unit = app.unit,
    )
}

/// Puts the daemon on the host as a unit of its own, and waits for its first look.
fn install(lab: &Lab, app: &ExpressUnit) {
    let config = format!(
        "{MODE}{QUICK}\n\
         [daemon]\nstate_dir = \"/{STATE}\"\nagent_allow = \"/etc/healerd/agent.toml\"\n\
         [control]\nsocket = \"/run/healerd.sock\"\n[metrics]\nenabled = false\n{}",
        table(lab, app, ""),
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
    wait_for("the first look is made", || {
        said(app).contains("snapshot taken")
    });
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

/// Lets the application's user log in to the host, where root has put an agent, and nothing that lets him start it.
/// Starts a daemon here that goes there.
fn reach(lab: Lab, app: &ExpressUnit) -> Scene {
    let (machine, user) = (&app.machine, &lab.user);
    let home = machine.disk().join("home/shop");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(user.uid), Some(user.gid)).unwrap();
    // The first line of a name counts.
    let passwd = machine.read("etc/passwd");
    let line = format!(
        "{}:*:{}:{}::/home/shop:/bin/sh\n",
        user.name, user.uid, user.gid
    );
    machine.write("etc/passwd", &(line + &passwd));
    machine.write(
        "etc/ssh/lab_config",
        "HostKey /etc/ssh/lab_key\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nAuthorizedKeysFile /etc/ssh/lab_authorized\nSubsystem sftp internal-sftp\n",
    );
    let [key, host_key] = [lab.dir().join("id"), machine.disk().join("etc/ssh/lab_key")];
    for key in [&key, &host_key] {
        lab.ssh_key(key, "ed25519", "");
    }
    let public = fs::read_to_string(lab.dir().join("id.pub")).unwrap();
    machine.write("etc/ssh/lab_authorized", &public);
    let program = machine.disk().join(ROOT_AGENT);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(sshd::agent().unwrap(), &program).unwrap();
    set_mode(&program, 0o755);

    let door = machine.ssh_door(&lab, "/etc/ssh/lab_config");
    let host_key = machine.read("etc/ssh/lab_key.pub");
    let host_key: Vec<_> = host_key.split_whitespace().take(2).collect();
    let host = format!(
        "host = \"web1\"\n[host.web1]\nssh = \"{}@127.0.0.1:{}\"\nhost_key = \"{}\"\nkey = \"{}\"\nbecome = \"sudo\"\n",
        user.name,
        door.port(),
        host_key.join(" "),
        key.display(),
    );
    let tables = table(&lab, app, &host);
    let scene = Scene::start(lab, MODE, &tables, "");
    scene.adopted("shop");
    scene
}

/// What a person reads of root on the host: found well or not, and the lines to add there.
fn root_found(scene: &Scene) -> (bool, String, String) {
    let (_, found) = scene.daemon.ctl(&scene.lab, &["host", "doctor", "web1"]);
    let found = found["items"].as_array().cloned().unwrap_or_default();
    let root = found.iter().find(|one| one["step"] == "root operations");
    let root = root.unwrap_or_else(|| panic!("root is looked for: {found:#?}"));
    let text = |name: &str| root[name].as_str().unwrap_or_default().to_owned();
    (root["found"] == "fine", text("text"), text("lines"))
}

/// Nothing is restarted until root there has added exactly what he is told to add.
fn let_root_in(scene: &Scene, app: &ExpressUnit) {
    let machine = &app.machine;
    let line = format!(
        "{} ALL=(root) NOPASSWD: /{ROOT_AGENT} --identity root --state /var/lib/healerd-agent",
        scene.lab.user.name
    );
    let (fine, text, lines) = root_found(scene);
    assert!(!fine && text.contains("a password is required"), "{text}");
    assert!(text.contains(&line), "{text}");
    machine
        .run(&["systemctl", "stop", &app.unit])
        .expect_success();
    wait_for("the heal waits for sudo, and says for what", || {
        let (_, heals) = scene.daemon.ctl(&scene.lab, &["heals"]);
        let waits = heals["items"][0]["details"]["waitsFor"]
            .as_str()
            .unwrap_or_default();
        waits.contains(&line)
    });
    assert_eq!(machine.status(&app.url), None);

    let (sudoers, list) = lines
        .split_once("# /etc/healerd/agent.toml\n")
        .unwrap_or_else(|| panic!("both are printed: {lines}"));
    assert!(sudoers.contains(&line), "{sudoers}");
    machine.write("etc/sudoers.d/healerd", sudoers);
    set_mode(&machine.disk().join("etc/sudoers.d/healerd"), 0o440);
    machine.run(&["visudo", "-c"]).expect_success();
    // sudo alone is not enough: root's own list comes on top.
    let (fine, text, _) = root_found(scene);
    assert!(!fine && text.contains("allows nothing"), "{text}");
    fs::create_dir_all(machine.disk().join("etc/healerd")).unwrap();
    machine.write("etc/healerd/agent.toml", list);
    set_mode(&machine.disk().join("etc/healerd/agent.toml"), 0o600);
    let (fine, text, _) = root_found(scene);
    assert!(fine && text.contains("restart shop.service"), "{text}");
    // And no other words than these.
    for words in [
        "--identity root --state /tmp/elsewhere",
        "--identity root --state /var/lib/healerd-agent --allow /tmp/list",
    ] {
        let asked = format!("sudo -n /{ROOT_AGENT} {words} < /dev/null");
        let ended = machine.run(&[
            "setpriv",
            "--reuid",
            &scene.lab.user.name,
            "--init-groups",
            "sh",
            "-c",
            &asked,
        ]);
        assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
    }
    // What waited goes on by itself.
    scene.ends("shop", "restart_service", "unattended", "Cured");
    machine.wait_for_status(&app.url, 200);
    scene.nothing_else_began("shop");
    wait_for("the cure has lasted", || scene.journal.watched("shop") == 0);
}

#[test]
fn a_unit_that_died_is_started_again_and_no_other_is() {
    in_both_places(unit_that_died);
}

fn unit_that_died(place: Place) -> Option<Vec<String>> {
    let lab = place.open(&[machine::PROGRAMS, node::PROGRAMS, &["setpriv"]].concat())?;
    let app = lab.express_unit()?;
    match place {
        Place::Here => {
            let shown = Shown(&app);
            install(&lab, &app);
            let journal = Journal::open(&app.machine.disk().join(STATE));
            let told = dies_twice(&app, &journal);
            drop(shown);
            Some(told)
        }
        Place::OverSsh => {
            let scene = reach(lab, &app);
            let_root_in(&scene, &app);
            Some(dies_twice(&app, &scene.journal))
        }
    }
}

fn dies_twice(app: &ExpressUnit, journal: &Journal) -> Vec<String> {
    let main_pid = |unit: &str| {
        let words = ["systemctl", "show", "-P", "MainPID", unit];
        app.machine.run(&words).expect_success().stdout
    };
    let bystander = main_pid("systemd-journald");
    let cured = || {
        let told = telling::heals(journal, "shop", "restart_service");
        told.into_iter()
            .filter(|line| line.contains(" Cured: "))
            .collect::<Vec<_>>()
    };
    let earlier = cured().len();
    for (case, fault) in [
        ("stopped", ["systemctl", "stop", "shop.service"].as_slice()),
        (
            "killed",
            &["systemctl", "kill", "-s", "KILL", "shop.service"],
        ),
    ] {
        let (healed, before) = (cured().len(), main_pid(&app.unit));
        app.machine.run(fault).expect_success();
        wait_for(&format!("{case}: the cure is verified"), || {
            cured().len() > healed
        });
        app.machine.wait_for_status(&app.url, 200);
        assert_ne!(main_pid(&app.unit), before, "{case}");
        wait_for("the cure has lasted", || journal.watched("shop") == 0);
    }
    assert_eq!(main_pid("systemd-journald"), bystander);
    assert_eq!(cured().len(), earlier + 2);
    let mut checks = Vec::new();
    wait_for("nothing is wrong any more", || {
        checks = journal.checks("shop");
        checks.iter().all(|(_, status, _)| status != "FAIL")
    });
    let checks = checks.into_iter();
    checks
        .map(|(check, status, message)| format!("{check} {status}: {message}"))
        .chain(cured().split_off(earlier))
        .collect()
}
