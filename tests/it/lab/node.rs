//! A real Express application under a real pm2, which also keeps a bystander alive.
//!
//! Packages are installed by `tests/run` (`npm ci` from the fixtures' lock files) into the cache; each lab copies them,
//! and npm's own cache with them, so that a missing package can come back without a network.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::process::{Output, run};
use super::{Lab, PATIENCE, fixture, http, skip, store};

/// What a lab with Node needs.
pub(crate) const PROGRAMS: &[&str] = &["node", "npm"];

/// The running application.
#[derive(Debug)]
pub(crate) struct Express {
    /// Its name in pm2.
    pub(crate) name: String,
    /// Ends in a slash.
    pub(crate) url: String,
    pub(crate) port: u16,
    pub(crate) path: PathBuf,
    /// The other application under the same pm2; it answers with its pid.
    pub(crate) bystander_url: String,
    pm2: PathBuf,
}

/// One process as pm2 tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) name: String,
    /// `online`, `stopped`, `errored` …
    pub(crate) status: String,
    /// 0 while it does not run.
    pub(crate) pid: u32,
    pub(crate) restarts: u64,
}

/// The installed packages of a fixture, or none where `tests/run` has not installed those that its lock file names.
pub(crate) fn installed(kind: &str) -> Option<PathBuf> {
    let place = store::cache().join(format!("node-{kind}"));
    let lock = |folder: &Path| std::fs::read(folder.join("package-lock.json")).ok();
    let current = lock(&place).is_some() && lock(&place) == lock(&fixture(kind));
    if !current || !place.join("node_modules").is_dir() {
        skip(&format!(
            "needs the packages of tests/fixtures/{kind}; tests/run installs them"
        ));
        return None;
    }
    Some(place)
}

impl Lab {
    /// An Express application that is ready to start: packages, `.env` with a port of its own, owned by the user.
    pub(super) fn express_files(&self, path: &Path, port: u16) -> Option<()> {
        let packages = installed("express")?;
        store::copy_tree(&fixture("express"), path);
        store::copy_tree(&packages.join("node_modules"), path);
        let npm = self.home().join(".npm");
        if !npm.exists() {
            store::copy_tree(&packages.join("npm"), &npm);
            self.user.own_all(&npm);
        }
        let registry =
            std::fs::read_to_string(packages.join(".npmrc")).expect("tests/run writes it");
        let options = format!(
            "{registry}cache={}\naudit=false\nfund=false\nupdate-notifier=false\n",
            npm.display()
        );
        std::fs::write(path.join(".npmrc"), options).expect("root can write");
        std::fs::write(
            path.join(".env"),
            format!("NODE_ENV=production\nPORT={port}\n"),
        )
        .expect("root can write");
        super::set_mode(&path.join(".env"), 0o640);
        self.user.own_all(path);
        Some(())
    }

    /// Starts it under pm2; `/` and `/health` answer 200, and so does the bystander.
    pub(crate) fn express_pm2(&self) -> Option<Express> {
        let pm2 = installed("pm2")?.join("node_modules/.bin/pm2");
        let (port, bystander) = (self.port(), self.port());
        let path = self.dir().join("express");
        self.express_files(&path, port)?;
        std::fs::create_dir(self.pm2_home()).expect("one pm2 per lab");
        self.user.own(&self.pm2_home());
        let app = Express {
            name: "shop".to_owned(),
            url: format!("http://127.0.0.1:{port}/"),
            port,
            path,
            bystander_url: format!("http://127.0.0.1:{bystander}/"),
            pm2,
        };
        self.at_end(self.pm2_ending(&app.pm2));
        let other = self.dir().join("bystander");
        store::copy_tree(&fixture("express-bystander"), &other);
        self.user.own_all(&other);
        let script = app.path.join("server.js").display().to_string();
        // By itself pm2 counts only starts that fail within a second, which a busy machine does not manage.
        let process = serde_json::json!({
            "name": app.name,
            "script": script,
            "cwd": app.path,
            "min_uptime": 60_000,
            "max_restarts": 4,
        });
        let file = self.dir().join(format!("{}.pm2.json", app.name));
        std::fs::write(&file, process.to_string()).expect("the lab is ours");
        crate::lab::set_mode(&file, 0o644);
        app.pm2(self, &["start", &file.display().to_string()])
            .expect_success();
        let script = other.join("server.js").display().to_string();
        app.pm2(
            self,
            &[
                "start",
                &script,
                "--name",
                "bystander",
                "--",
                &bystander.to_string(),
            ],
        )
        .expect_success();
        http::wait_for_status(&app.url, 200);
        http::wait_for_status(&app.bystander_url, 200);
        Some(app)
    }

    /// pm2 ends its applications and itself; its pid file says whom to watch.
    fn pm2_ending(&self, pm2: &Path) -> impl FnOnce() + Send + 'static {
        let mut kill = self.as_user(pm2);
        kill.args(["kill"]);
        let pid_file = self.pm2_home().join("pm2.pid");
        move || {
            let pid: Option<u32> = std::fs::read_to_string(pid_file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            let said = run(&mut kill, PATIENCE);
            if let Some(pid) = pid
                && super::process::is_alive(pid)
            {
                eprintln!("pm2 lives on: {}{}", said.stdout, said.stderr);
                super::process::signal(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Express {
    /// Runs pm2 as the application's user.
    pub(crate) fn pm2(&self, lab: &Lab, arguments: &[&str]) -> Output {
        run(lab.as_user(&self.pm2).args(arguments), PATIENCE)
    }

    /// All that pm2 manages.
    pub(crate) fn managed(&self, lab: &Lab) -> Vec<Managed> {
        let said = self.pm2(lab, &["jlist"]).expect_success();
        let list: Vec<Value> = serde_json::from_str(&said.stdout).expect("pm2 speaks JSON");
        list.iter()
            .map(|process| Managed {
                name: process["name"].as_str().unwrap_or_default().to_owned(),
                status: process["pm2_env"]["status"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                pid: process["pid"]
                    .as_u64()
                    .and_then(|pid| u32::try_from(pid).ok())
                    .unwrap_or(0),
                restarts: process["pm2_env"]["restart_time"].as_u64().unwrap_or(0),
            })
            .collect()
    }

    /// The application itself as pm2 tells of it.
    pub(crate) fn process(&self, lab: &Lab) -> Managed {
        self.managed(lab)
            .into_iter()
            .find(|process| process.name == self.name)
            .expect("pm2 knows the application")
    }

    /// An npm command in the application's directory, as its user.
    pub(crate) fn npm(&self, lab: &Lab, arguments: &[&str]) -> Output {
        run(
            lab.as_user("npm").args(arguments).current_dir(&self.path),
            PATIENCE,
        )
    }
}
