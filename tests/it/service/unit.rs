//! The unit under a real systemd: it reaches READY, heals inside its sandbox, and reloads whole or not at all.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::host::{Host, site_table};
use crate::lab::process::run;
use crate::lab::{PATIENCE, find_program, set_mode, skip, wait_for};

const USER: &str = "www-data";

fn config() -> String {
    format!(
        "mode = \"FULL_AUTO\"\n{}\n{}\n{}",
        super::QUICK,
        site_table("blog", "/srv/blog", USER),
        site_table("shop", "/srv/shop", USER),
    )
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if find_program("systemd-analyze").is_none() {
        return skip("needs `systemd-analyze`");
    }
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/healerd.service");
    // The program that it names is looked for; here it is the built one.
    let text = std::fs::read_to_string(source)
        .unwrap()
        .replace("/usr/bin/healerd", env!("CARGO_BIN_EXE_healerd"));
    let unit = folder.path().join("healerd.service");
    std::fs::write(&unit, text).unwrap();
    let said = run(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit),
        PATIENCE,
    );
    let about_us: Vec<_> = said
        .stderr
        .lines()
        .filter(|line| line.contains("healerd.service"))
        .collect();
    assert_eq!((said.code, about_us), (Some(0), vec![]), "{}", said.stderr);
}

#[test]
fn the_unit_gets_ready_heals_in_its_sandbox_and_tells_the_journal() {
    let Some(host) = Host::open(&config()) else {
        return;
    };
    host.site("/srv/blog");
    host.site("/srv/shop");
    host.systemctl(&["start", "healerd.service"]);

    // `Type=notify`: start came back, so READY was told, and what it promises is there.
    assert_eq!(host.show("ActiveState"), "active");
    assert_eq!(host.show("Type"), "notify");
    assert_eq!(host.show("StatusText"), "watching 2 applications");
    let (_, status) = host.ctl(&["status"]);
    assert_eq!(status["applications"], 2, "{status:#}");

    // What its folders let others do, whatever the umask.
    let mode = |path: &str| host.outside(path).metadata().unwrap().mode() & 0o7777;
    wait_for("an agent's folder is there", || {
        host.outside("/var/lib/healerd/agents").exists()
    });
    assert_eq!(mode("/var/lib/healerd"), 0o711);
    assert_eq!(mode("/var/lib/healerd/vault"), 0o700);
    assert_eq!(mode("/var/lib/healerd/state.db"), 0o600);
    assert_eq!(mode("/run/healerd"), 0o755);
    assert_eq!(mode("/run/healerd/control.sock"), 0o660);
    wait_for("agents may go through to their own", || {
        mode("/var/lib/healerd/agents") == 0o711
    });

    // A file, and a folder that passes its group on, are writable by everybody: exactly that bit goes.
    let file = host.outside("/srv/blog/config.php");
    let folder = host.outside("/srv/blog/logs");
    set_mode(&folder, 0o2777);
    set_mode(&file, 0o666);
    let heal = host.ended("blog", 1);
    assert_eq!(
        (&heal["actionName"], &heal["state"]),
        (&"fix_permissions".into(), &"Cured".into()),
        "{heal:#}"
    );
    assert_eq!(mode("/srv/blog/config.php"), 0o664);
    assert_eq!(mode("/srv/blog/logs"), 0o2775);

    // A log has grown: its end stays, in its inode.
    let log = host.outside("/srv/shop/logs/php-errors.log");
    let line = "[24-Nov-2026 10:00:00 UTC] PHP Warning: something\n";
    std::fs::write(&log, line.repeat((3 << 20) / line.len())).unwrap();
    host.own("/srv/shop");
    let inode = log.metadata().unwrap().ino();
    let heal = host.ended("shop", 1);
    assert_eq!(
        (&heal["actionName"], &heal["state"]),
        (&"trim_error_log".into(), &"Cured".into()),
        "{heal:#}"
    );
    let found = log.metadata().unwrap();
    assert!(found.len() < 2 << 20, "{}", found.len());
    assert_eq!(
        (found.ino(), found.uid()),
        (inode, host.lab.user.uid),
        "the writer's file"
    );

    // Every event has its fields and its stable id, and the line alone says whom it is about and why.
    for (app, message, action) in [
        ("blog", "action started", "fix_permissions"),
        ("blog", "heal cured", "fix_permissions"),
        ("shop", "heal cured", "trim_error_log"),
    ] {
        let entries = host.told(message);
        let entry = entries
            .iter()
            .find(|entry| entry["HEALERD_APP"] == app)
            .unwrap_or_else(|| panic!("{app}: {message}: {entries:#?}"));
        assert_eq!(entry["HEALERD_ACTION"], action);
        assert_eq!(entry["HEALERD_HOST"], "local");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "healerd");
        assert_eq!(entry["_SYSTEMD_UNIT"], "healerd.service");
        let line = entry["MESSAGE"].as_str().unwrap();
        assert!(line.starts_with(&format!("{app}: {message}")), "{line}");
        let id = entry["HEALERD_HEAL"].as_str().unwrap();
        assert!(host.heals(app).iter().any(|heal| heal["healId"] == id));
    }
    let opened = host.told("incident opened");
    assert!(
        opened
            .iter()
            .any(|entry| entry["HEALERD_CHECK"] == "file_permissions"
                && entry["MESSAGE"].as_str().unwrap().contains("config.php")),
        "{opened:#?}"
    );
    assert_eq!(host.told("daemon ready").len(), 1);
    assert!(!host.told("audit head").is_empty());

    // A level, the place in the source, and no secret, though a mistake in the configuration repeats one.
    let cured = &host.told("heal cured")[0];
    assert_eq!(cured["PRIORITY"], "6");
    assert_eq!(cured["CODE_FILE"], "src/engine/life.rs");
    assert!(cured["CODE_LINE"].as_str().is_some(), "{cured:#}");
    host.write(
        "/etc/healerd/healerd.toml",
        "mode = \"password=tweety-in-a-cage\"\n",
    );
    host.systemctl(&["reload", "healerd.service"]);
    let mut refused = Vec::new();
    wait_for("the refusal is in the journal", || {
        refused = host.told("configuration refused");
        !refused.is_empty()
    });
    assert_eq!(refused[0]["PRIORITY"], "3", "{:#}", refused[0]);
    let said = refused[0].to_string();
    assert!(said.contains("[redacted]"), "{said}");
    let journal = host.journal();
    assert!(
        !journal
            .iter()
            .any(|entry| entry.to_string().contains("tweety")),
        "a secret is in the journal"
    );

    host.systemctl(&["stop", "healerd.service"]);
    assert_eq!(host.show("Result"), "success");
    assert_eq!(host.told("daemon stopping").len(), 1);
    assert!(!host.outside("/run/healerd/control.sock").exists());
}

#[test]
fn a_reload_takes_the_new_configuration_whole_or_not_at_all() {
    let Some(host) = Host::open(&config()) else {
        return;
    };
    for path in ["/srv/blog", "/srv/shop", "/srv/wiki"] {
        host.site(path);
    }
    host.systemctl(&["start", "healerd.service"]);
    let pid = host.show("MainPID");
    let names = || {
        let (_, said) = host.ctl(&["apps"]);
        let mut names: Vec<_> = said["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|app| {
                let text = |field: &str| app[field].as_str().unwrap_or_default().to_owned();
                (text("applicationId"), text("healingMode"))
            })
            .collect();
        names.sort();
        names
    };
    let app = |name: &str, mode: &str| (name.to_owned(), mode.to_owned());
    let before = [app("blog", "FULL_AUTO"), app("shop", "FULL_AUTO")];
    wait_for("both are on the board", || names() == before);

    // A good change and a bad one in one file: neither is taken.
    let wiki = site_table("wiki", "/srv/wiki", USER);
    let good = config().replace("FULL_AUTO", "SEMI_AUTO") + &wiki;
    let line = good.lines().count() + 1;
    host.write(
        "/etc/healerd/healerd.toml",
        &format!("{good}modus = \"MANUAL\"\n"),
    );
    host.systemctl(&["reload", "healerd.service"]);
    let mut refused = Vec::new();
    wait_for("the refusal is in the journal", || {
        refused = host.told("configuration refused");
        !refused.is_empty()
    });
    let said = refused[0]["MESSAGE"].as_str().unwrap();
    assert!(
        said.contains(&format!("/etc/healerd/healerd.toml:{line}:")) && said.contains("modus"),
        "{said}"
    );
    assert_eq!(host.show("ActiveState"), "active");
    assert_eq!(host.show("MainPID"), pid);
    assert_eq!(host.show("StatusText"), "watching 2 applications");
    assert_eq!(names(), before);

    // A stack file is part of it.
    host.write("/etc/healerd/healerd.toml", &good);
    host.write(
        "/etc/healerd/stacks.d/own.toml",
        "title = \"Own\"\nchecks = 1\n",
    );
    host.systemctl(&["reload", "healerd.service"]);
    wait_for("the second refusal is in the journal", || {
        host.told("configuration refused").len() >= 2
    });
    // One record for each mistake.
    let refused = host.told("configuration refused");
    let said = refused[1..]
        .iter()
        .filter_map(|record| record["MESSAGE"].as_str())
        .find(|said| said.contains("own.toml:2"))
        .unwrap_or_else(|| panic!("{refused:#?}"));
    assert!(said.contains("checks"), "{said}");
    assert_eq!(names(), before);

    std::fs::remove_file(host.outside("/etc/healerd/stacks.d/own.toml")).unwrap();
    host.systemctl(&["reload", "healerd.service"]);
    let after = ["blog", "shop", "wiki"].map(|name| app(name, "SEMI_AUTO"));
    wait_for("the new application is looked after", || names() == after);
    assert_eq!(host.show("MainPID"), pid, "the same process");
    wait_for("the status follows", || {
        host.show("StatusText") == "watching 3 applications"
    });
    assert_eq!(host.told("configuration reloaded").len(), 1);
}
