//! A MariaDB server as an ordinary user: one data directory, one loopback port, one Unix socket.
//!
//! Durability is off: a lab's data need not outlive it, and everything else behaves as it does in production.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::run;
use super::{Lab, PATIENCE, wait_for};

/// A server that this lab may stop and start again.
#[derive(Debug)]
pub(crate) struct MariaDb {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    data: PathBuf,
}

/// Fills a new data directory; `root` has no password, and nobody from outside reaches the lab.
pub(super) fn install(lab: &Lab, data: &Path) {
    run(
        lab.as_user("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=8M",
            ]),
        PATIENCE,
    )
    .expect_success();
}

impl MariaDb {
    /// Serves a data directory that is already filled. The socket lies in it.
    pub(super) fn serve(lab: &Lab, data: &Path) -> Self {
        let socket = data.join("mariadb.sock");
        let port = lab.port();
        let mut server = Self {
            pid: 0,
            port,
            socket,
            data: data.to_owned(),
        };
        server.start(lab);
        server
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&mut self, lab: &Lab) {
        self.pid = lab.spawn("mariadb", &mut self.command(lab));
        wait_for("mariadb answers", || {
            assert!(lab.runs(self.pid), "{}", lab.log("mariadb"));
            run(
                self.client(lab).args(["-e", "select 1"]).env("LANG", "C"),
                PATIENCE,
            )
            .code
                == Some(0)
        });
    }

    /// Ends it; its data stay.
    pub(crate) fn stop(&self, lab: &Lab) {
        lab.stop(self.pid);
    }

    /// Runs statements as the database's root.
    pub(crate) fn sql(&self, lab: &Lab, statements: &str) -> String {
        run(self.client(lab).args(["-N", "-e", statements]), PATIENCE)
            .expect_success()
            .stdout
    }

    fn client(&self, lab: &Lab) -> Command {
        let mut client = lab.as_user("mariadb");
        client
            .args(["--no-defaults", "-u", "root", "-S"])
            .arg(&self.socket);
        client
    }

    fn command(&self, lab: &Lab) -> Command {
        let mut server = lab.as_user("mariadbd");
        server
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data.display()))
            .arg(format!("--socket={}", self.socket.display()))
            .arg(format!("--port={}", self.port))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=32M",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
                "--performance-schema=OFF",
            ]);
        server
    }
}
