//! A throw-away host with a real systemd as PID 1 (`tests/box`), and a real Express application as one of its units.
//!
//! The host is an overlay of this machine's root: every program and file of this machine is there, nothing that happens
//! inside comes out, and its only network is its own loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::door::Door;
use super::process::{Output, run};
use super::{Lab, PATIENCE, find_program, store, wait_for, web, wordpress};

/// What a lab with a host of its own needs.
pub(crate) const PROGRAMS: &[&str] = &["systemd-nspawn", "nsenter", "setsid", "curl"];

/// A host that is up.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    /// The lab's directory, by which left-overs are found.
    lab: PathBuf,
}

/// WordPress inside a host, with its database, php-fpm and nginx as one systemd unit each.
#[derive(Debug)]
pub(crate) struct WordPressUnits {
    pub(crate) machine: Machine,
    pub(crate) fpm: &'static str,
    pub(crate) others: [&'static str; 2],
    pub(crate) path: PathBuf,
    pub(crate) url: String,
}

/// Express as a systemd unit inside a host.
#[derive(Debug)]
pub(crate) struct ExpressUnit {
    pub(crate) machine: Machine,
    /// Its unit, enabled, without `Restart=`.
    pub(crate) unit: String,
    /// Where it is, seen from inside.
    pub(crate) path: PathBuf,
    /// Where it answers, seen from inside. Ends in a slash.
    pub(crate) url: String,
}

impl Lab {
    /// Boots a host and waits until it has started everything. It ends with the lab.
    pub(crate) fn machine(&self) -> Machine {
        let name = self
            .dir()
            .file_name()
            .expect("a lab has a name")
            .to_string_lossy()
            .into_owned();
        let machine = Machine {
            name,
            lab: self.dir().to_path_buf(),
        };
        let mut down = machine.command(&["down"]);
        self.at_end(move || {
            let said = run(&mut down, PATIENCE);
            if said.code != Some(0) {
                eprintln!("the host stays: {}{}", said.stdout, said.stderr);
            }
        });
        machine.ask(&["up"]).expect_success();
        machine.ask(&["wait"]).expect_success();
        machine
    }

    /// A host with WordPress; `/` answers 200 inside. Nobody waits longer than two seconds for php-fpm there.
    pub(crate) fn wordpress_units(&self) -> WordPressUnits {
        let prepared = self.prepared_wordpress();
        let machine = self.machine();
        let (path, data, web) = (
            PathBuf::from("/srv/blog"),
            PathBuf::from("/srv/blog-data"),
            PathBuf::from("/srv/blog-web"),
        );
        machine.copy(&prepared.join("site"), &path);
        machine.copy(&prepared.join("database"), &data);
        let url = "http://127.0.0.1:8080/".to_owned();
        let inside = |path: &Path| {
            let below = path.strip_prefix("/").expect("an absolute path");
            machine.root().join(below)
        };
        wordpress::write_config_for(self, &inside(&path), "127.0.0.1:3306", &url);
        let files = inside(&web);
        std::fs::create_dir(&files).expect("root can write");
        let socket = web.join("fpm.sock");
        let log = path.join("wp-content/debug.log");
        let nginx = web::nginx_config(&web, &socket, 8080, &path)
            .replace("fastcgi_read_timeout 10;", "fastcgi_read_timeout 2;");
        std::fs::write(files.join("nginx.conf"), nginx).expect("root can write");
        std::fs::write(files.join("fpm.conf"), web::fpm_config(&web, &socket, &log))
            .expect("root can write");
        self.user.own_all(&files);
        let (fpm, others) = ("blog-fpm.service", ["blog-db.service", "blog-web.service"]);
        let (data, web) = (data.display(), web.display());
        for (unit, program, arguments) in [
            (
                others[0],
                "mariadbd",
                format!(
                    "--no-defaults --datadir={data} --socket={data}/mariadb.sock --port=3306 --bind-address=127.0.0.1 \
                     --skip-name-resolve --innodb-buffer-pool-size=32M --innodb-log-file-size=8M"
                ),
            ),
            (fpm, "php-fpm", format!("-F -y {web}/fpm.conf")),
            (others[1], "nginx", format!("-p {web} -c {web}/nginx.conf")),
        ] {
            let program = find_program(program).expect("checked when the lab opened");
            let text = format!(
                "[Service]\nUser={user}\nExecStart={program} {arguments}\n[Install]\nWantedBy=multi-user.target\n",
                user = self.user.name,
                program = program.display(),
            );
            let place = inside(Path::new("/etc/systemd/system")).join(unit);
            std::fs::write(place, text).expect("root can write");
        }
        machine
            .run(&["systemctl", "daemon-reload"])
            .expect_success();
        machine
            .run(&["systemctl", "enable", "--now", others[0], fpm, others[1]])
            .expect_success();
        let app = WordPressUnits {
            machine,
            fpm,
            others,
            path,
            url,
        };
        app.machine.wait_for_status(&app.url, 200);
        app
    }

    /// A host with Express as the unit `shop.service`; `/` and `/health` answer 200 inside.
    pub(crate) fn express_unit(&self) -> Option<ExpressUnit> {
        let files = self.dir().join("shop");
        self.express_files(&files, 3000)?;
        let machine = self.machine();
        machine.copy(&files, Path::new("/srv/shop"));
        let service = format!(
            "[Unit]\nDescription=Shop\n\
             [Service]\nUser={user}\nWorkingDirectory=/srv/shop\nExecStart={node} server.js\n\
             [Install]\nWantedBy=multi-user.target\n",
            user = self.user.name,
            node = find_program("node")
                .expect("checked when the lab opened")
                .display(),
        );
        std::fs::write(
            machine.root().join("etc/systemd/system/shop.service"),
            service,
        )
        .expect("root can write");
        machine
            .run(&["systemctl", "daemon-reload"])
            .expect_success();
        machine
            .run(&["systemctl", "enable", "--now", "shop.service"])
            .expect_success();
        let app = ExpressUnit {
            machine,
            unit: "shop.service".to_owned(),
            path: PathBuf::from("/srv/shop"),
            url: "http://127.0.0.1:3000/".to_owned(),
        };
        app.machine.wait_for_status(&app.url, 200);
        Some(app)
    }
}

impl Machine {
    fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/box");
        let mut command = Command::new(script);
        command.env("HEALERD_LAB", &self.lab);
        command
            .arg(arguments[0])
            .arg(&self.name)
            .args(&arguments[1..]);
        command
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments), PATIENCE)
    }

    /// Runs a program inside, as root, to its end.
    pub(crate) fn run(&self, argv: &[&str]) -> Output {
        self.ask(&[&["run"], argv].concat())
    }

    /// Its root directory, seen from outside, as long as it is up.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(self.ask(&["root"]).expect_success().stdout.trim())
    }

    /// Its disk, seen from outside, whether it is up or not.
    pub(crate) fn disk(&self) -> PathBuf {
        let state = std::env::var_os("BOX_STATE").unwrap_or_else(|| "/run/healerd-box".into());
        PathBuf::from(state).join(&self.name).join("fs/root")
    }

    /// A text file by its path below the root.
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.disk().join(path)).expect("root can read")
    }

    /// Writes one.
    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.disk().join(path), text).expect("root can write");
    }

    /// Lets SSH clients on this machine's loopback come in. The server's configuration lies inside.
    pub(crate) fn ssh_door(&self, lab: &Lab, config: &str) -> Door {
        // The directory does not outlive a boot.
        let script = format!("mkdir -p /run/sshd && exec /usr/sbin/sshd -i -e -f {config}");
        let machine = Self {
            name: self.name.clone(),
            lab: self.lab.clone(),
        };
        Door::open(lab, move || machine.command(&["run", "sh", "-c", &script]))
    }

    /// Copies a tree into it, with all attributes.
    pub(crate) fn copy(&self, from: &Path, to: &Path) {
        let to = self
            .root()
            .join(to.strip_prefix("/").expect("an absolute path"));
        store::copy_tree(from, &to);
    }

    /// The status that a URL answers with inside; none where nobody answers.
    pub(crate) fn status(&self, url: &str) -> Option<u16> {
        let said = self.run(&[
            "curl",
            "-s",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            url,
        ]);
        said.stdout.parse().ok().filter(|status| *status != 0)
    }

    /// Waits for a status inside.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, url: &str, want: u16) {
        wait_for(&format!("{url} answers {want} inside"), || {
            self.status(url) == Some(want)
        });
    }

    /// Power cut: every process is gone at once, the disk stays.
    pub(crate) fn cut(&self) {
        self.ask(&["cut"]).expect_success();
    }

    /// Boots it again after a power cut.
    pub(crate) fn start(&self) {
        self.ask(&["start"]).expect_success();
        self.ask(&["wait"]).expect_success();
    }
}
