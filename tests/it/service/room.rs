//! A full disk below the daemon's state: no backup, so no action; and it goes on when there is room again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::lab::daemon::app_table;
use crate::lab::process::{is_alive, run};
use crate::lab::tree::hash_tree;
use crate::lab::{Lab, PATIENCE, fixture, store, wait_for};

/// A small file system of its own at `at`, gone with the lab.
fn small_disk(lab: &Lab, at: &Path) {
    let image = lab.dir().join("disk.img");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(24 << 20).unwrap();
    std::fs::create_dir(at).unwrap();
    let program = |name: &str, arguments: &[&str]| {
        run(Command::new(name).args(arguments), PATIENCE).expect_success()
    };
    let (image, mount) = (image.to_string_lossy(), at.to_string_lossy().into_owned());
    program("mkfs.ext4", &["-q", "-F", "-m", "0", &image]);
    program("mount", &["-o", "loop", &image, &mount]);
    lab.at_end(move || {
        // Whoever still had it open ended with the test.
        run(Command::new("umount").args(["-l", &mount]), PATIENCE).expect_success();
    });
}

/// Leaves only so many bytes free.
fn fill(disk: &Path, leave: u64) -> std::path::PathBuf {
    let filler = disk.join("filler");
    let free = rustix::fs::statvfs(disk).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(leave);
    let file = std::fs::File::create(&filler).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    filler
}

#[test]
fn on_a_full_disk_nothing_is_backed_up_and_nothing_is_touched() {
    let Some(lab) = Lab::open(&["mkfs.ext4", "mount", "umount"]) else {
        return;
    };
    let state = lab.dir().join("state");
    small_disk(&lab, &state);
    let path = lab.dir().join("blog");
    store::copy_tree(&fixture("php"), &path);
    let log = path.join("logs/php-errors.log");
    std::fs::write(&log, "").unwrap();
    lab.user.own_all(&path);
    let vars = "vars = { error_log = \"logs/php-errors.log\", error_log_max = \"2MiB\" }\n";
    let table = super::files_only(&app_table(&lab, "blog", "php", &path, "", vars));
    let config = format!(
        "mode = \"FULL_AUTO\"\n{}[backup]\nroom = \"1 MiB\"\n{table}",
        super::QUICK
    );
    let daemon = lab.daemon(&config, "").unwrap();
    wait_for("it is well", || {
        daemon.ctl(&lab, &["apps"]).1["items"][0]["health"] == "HEALTHY"
    });

    let filler = fill(&state, 2 << 20);
    let line = "[24-Nov-2026 10:00:00 UTC] PHP Warning: something\n";
    std::fs::write(&log, line.repeat((3 << 20) / line.len())).unwrap();
    let before = hash_tree(&path, &[]);
    let (modified, inode) = (
        log.metadata().unwrap().mtime(),
        log.metadata().unwrap().ino(),
    );
    let mut heal = serde_json::Value::Null;
    wait_for("a heal ends", || {
        heal = daemon.ctl(&lab, &["heals"]).1["items"][0].clone();
        heal["details"]["ended"] == true
    });
    assert_eq!(heal["state"], "Aborted", "{heal:#}");
    assert_eq!(heal["actionName"], "trim_error_log");
    assert_eq!(
        heal["message"],
        "Backup failed: No room on the vault. Healing aborted for safety.",
    );
    assert!(heal["backupId"].is_null(), "{heal:#}");
    before.assert_same(&hash_tree(&path, &[]));
    let after = log.metadata().unwrap();
    assert_eq!((after.mtime(), after.ino()), (modified, inode));
    assert!(is_alive(daemon.pid));
    assert!(
        lab.log("healerd").contains("No room on the vault"),
        "{}",
        lab.log("healerd")
    );
    let (_, breaker) = daemon.ctl(&lab, &["breaker", "blog"]);
    assert_eq!(breaker["consecutiveFailures"], 1, "{breaker:#}");

    // With room, what a person asks for is done.
    std::fs::remove_file(filler).unwrap();
    let reason = "the disk has room again";
    let (code, said) = daemon.ctl(
        &lab,
        &[
            "heal",
            "blog",
            "trim_error_log",
            "--reason",
            reason,
            "--wait",
        ],
    );
    assert_eq!(
        (code, &said["state"]),
        (Some(0), &"Cured".into()),
        "{said:#}"
    );
    assert!(log.metadata().unwrap().len() < 2 << 20);
    daemon.stop(&lab);
}
