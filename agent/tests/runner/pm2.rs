//! Restarting through pm2: only when its daemon is alive elsewhere, only this application's process, nobody else's.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use healer_agent::protocol::How;
use healer_agent::step::Step;

use crate::client::{Agent, Place};

/// A stand-in for pm2: notes its arguments and starts a daemon of its own, as the real one does when it finds none.
const PM2: &str = r#"#!/bin/sh
echo "$*" >> "$PM2_HOME/asked"
case $1 in
  jlist) echo "[PM2] a notice"; cat "$PM2_HOME/list" ;;
  restart) setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo "restarted $2" ;;
esac
"#;

struct Pm2 {
    home: PathBuf,
    programs: PathBuf,
}

impl Pm2 {
    fn new(place: &Place) -> Self {
        let home = place.outside.join("pm2-home");
        let programs = place.outside.join("bin");
        std::fs::create_dir(&home).unwrap();
        std::fs::create_dir(&programs).unwrap();
        let pm2 = programs.join("pm2");
        std::fs::write(&pm2, PM2).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a program of the test's own")]
        std::fs::copy("/bin/sleep", programs.join("node")).unwrap();
        std::fs::set_permissions(&pm2, std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&home, Some(place.uid), Some(place.uid)).unwrap();
        }
        Self { home, programs }
    }

    fn daemon(&self, uid: u32) -> Child {
        let mut command = Command::new(self.programs.join("node"));
        command
            .arg0(format!("PM2 v5.3.0: God Daemon ({})", self.home.display()))
            .arg("1000");
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(uid);
        }
        let child = command.spawn().unwrap();
        std::fs::write(self.home.join("pm2.pid"), child.id().to_string()).unwrap();
        child
    }

    fn list(&self, directory: &Path) {
        let list = format!(
            "[{{\"name\":\"web\",\"pm_id\":3,\"pm2_env\":{{\"pm_cwd\":\"{}\"}}}},\
             {{\"name\":\"other\",\"pm_id\":4,\"pm2_env\":{{\"pm_cwd\":\"/\"}}}}]\n",
            directory.display()
        );
        std::fs::write(self.home.join("list"), list).unwrap();
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.home.join("asked")).unwrap_or_default()
    }

    fn restart(&self, name: &str) -> Step {
        Step::RestartPm2 {
            name: name.to_owned(),
            home: Some(self.home.display().to_string()),
        }
    }
}

#[test]
fn pm2_is_not_asked_for_anything_while_its_daemon_is_not_there() {
    let place = Place::new();
    let pm2 = Pm2::new(&place);
    pm2.list(&place.root);
    let mut agent = Agent::new(&place);
    agent
        .start(place.start("h1", vec![pm2.restart("web")]))
        .unwrap();
    let finished = agent.finished("h1");
    assert_eq!(finished.how, How::Failed);
    assert!(
        finished.steps[0].message.contains("is not running"),
        "{finished:?}"
    );
    assert_eq!(pm2.asked(), "");
}

#[test]
fn exactly_the_process_of_the_application_is_restarted_and_the_daemon_lives() {
    let place = Place::new();
    let pm2 = Pm2::new(&place);
    pm2.list(&place.root);
    let mut daemon = pm2.daemon(place.uid);
    let mut agent = Agent::new(&place);
    for (heal, name, how) in [
        ("h1", "web", How::Done),
        ("h2", "other", How::Failed), // lies elsewhere
        ("h3", "all", How::Failed),   // no process of that name
    ] {
        agent
            .start(place.start(heal, vec![pm2.restart(name)]))
            .unwrap();
        let finished = agent.finished(heal);
        assert_eq!(finished.how, how, "{finished:?}");
        // What the stand-in started below the step is gone, the daemon outside is not.
        assert_eq!(place.programs().len(), 1, "{:?}", place.programs());
        assert!(daemon.try_wait().unwrap().is_none(), "{name}");
    }
    assert_eq!(
        pm2.asked(),
        "jlist --silent\nrestart 3\njlist --silent\njlist --silent\n"
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
