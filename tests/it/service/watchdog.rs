//! The watchdog: fed while the daemon makes progress, also when nothing is due; a hang is ended by systemd.

use super::host::{Host, site_table};
use crate::lab::process::signal;
use crate::lab::wait_for;
use rustix::process::Signal;

/// Shorter than delivered, and still above the slowest part's own rhythm.
const DROP_IN: &str = "[Service]\nWatchdogSec=12\nTimeoutAbortSec=1\nRestartSec=100ms\n";

fn config(interval: &str) -> String {
    format!(
        "mode = \"FULL_AUTO\"\n{}\n{}every = \"{interval}\"\n",
        super::QUICK,
        site_table("blog", "/srv/blog", "www-data"),
    )
}

fn open(interval: &str) -> Option<Host> {
    let host = Host::open(&config(interval))?;
    host.site("/srv/blog");
    host.run(&["mkdir", "-p", "/etc/systemd/system/healerd.service.d"])
        .expect_success();
    host.write(
        "/etc/systemd/system/healerd.service.d/watchdog.conf",
        DROP_IN,
    );
    host.systemctl(&["daemon-reload"]);
    host.systemctl(&["start", "healerd.service"]);
    Some(host)
}

/// Its process, as this side of the host's wall numbers it.
fn pid_outside(host: &Host) -> u32 {
    let inside = host.show("MainPID");
    let leader = host.machine.root();
    let leader: u32 = leader
        .to_string_lossy()
        .split('/')
        .nth(2)
        .and_then(|pid| pid.parse().ok())
        .expect("/proc/PID/root");
    let mut queue = vec![leader];
    while let Some(pid) = queue.pop() {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let innermost = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .and_then(|pids| pids.split_whitespace().last());
        if pid != leader && innermost == Some(&inside) {
            return pid;
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        queue.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    panic!("process {inside} of the host is not found outside");
}

#[track_caller]
fn restarted(host: &Host, pid: &str) {
    wait_for("the watchdog restarts it", || {
        let now = host.show("MainPID");
        now != pid && now != "0" && host.show("ActiveState") == "active"
    });
    assert_eq!(host.show("NRestarts"), "1");
    let ended = host.journal().iter().any(|entry| {
        entry["MESSAGE"]
            .as_str()
            .is_some_and(|text| text.contains("result 'watchdog'"))
    });
    assert!(ended, "it was the watchdog");
}

#[test]
fn a_frozen_daemon_is_restarted_and_its_state_goes_on() {
    let Some(host) = open("1s") else { return };
    let reason = "people are at work here";
    let (code, said) = host.ctl(&["hold", "app:blog", "--reason", reason]);
    assert_eq!(code, Some(0), "{said:#}");
    let pid = host.show("MainPID");
    signal(pid_outside(&host), Signal::STOP);
    restarted(&host, &pid);
    let (_, status) = host.ctl(&["status"]);
    assert_eq!(status["holds"][0]["reason"], reason, "{status:#}");
    wait_for("it looks again", || {
        let (_, apps) = host.ctl(&["apps"]);
        apps["items"][0]["looked"].is_string()
    });
}

#[test]
fn a_daemon_with_nothing_to_do_is_left_alone() {
    let Some(host) = open("6h") else { return };
    let pid = host.show("MainPID");
    let fed = || host.show("WatchdogTimestampMonotonic");
    // Three pings take longer than one period.
    for _ in 0..3 {
        let last = fed();
        wait_for("the watchdog is fed", || fed() != last);
    }
    assert_eq!(host.show("MainPID"), pid);
    assert_eq!(host.show("NRestarts"), "0");
}
