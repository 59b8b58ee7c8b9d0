//! Five hosts, each behind a link of its own, and the daemon in the middle.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::heals::journal::{Heal, Journal};
use crate::heals::scene::QUICK;
use crate::lab::daemon::Daemon;
use crate::lab::ear::Ear;
use crate::lab::net::{self, Link};
use crate::lab::relay::Relay;
use crate::lab::sshd::{Like, Place, Sshd, UID};
use crate::lab::{Lab, set_mode, skip};

/// Above what the slowest of these faults takes: an agent that is frozen twice for half a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// How often each host is looked at. Long against what a round takes, so that a missed one is no accident.
pub(super) const PERIOD: Duration = Duration::from_secs(3);

/// What takes its time here; the rest is [`QUICK`].
const TIMES: &str = "
[timeout]
round = \"2s\"
[backup]
room = \"1 MiB\"
";

/// A site whose one action waits for a word of the test's, and then writes a file.
const STACK: &str = r#"
title = "Small"
extends = "web"

[check.marker]
title = "the marker is there"
category = "SYSTEM"
probes.marker = { file = { path = "data/marker" } }
rules = [{ when = { "marker.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no marker" }]
remedies = ["write_marker"]

[action.write_marker]
title = "Write the marker, when it is told to"
risk = "LOW"
writes = [{ content = "data/**" }]
steps = [{ run = { argv = ["php", "write.php"] } }]
timeout = "140s"
settle = "10s"
"#;

/// It tells the site's server that it begins: what is written there no undo takes back.
const PROGRAM: &str = "<?php
file_get_contents('http://127.0.0.1:8080/began?' . getmypid());
for ($i = 0; $i < 2600 && !file_exists('../go'); $i++) { usleep(50000); }
$done = @file_put_contents('data/new', str_repeat('x', 100000)) === 100000 && rename('data/new', 'data/marker');
if (!$done) { @unlink('data/new'); }
exit($done ? 0 : 1);
";

/// One host.
pub(super) struct Far {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) sshd: Sshd,
    /// In front of it, where its port is not 22.
    pub(super) relay: Option<Relay>,
    /// The user's home, as he sees it, and as it is seen from outside.
    pub(super) home: PathBuf,
    outside: PathBuf,
}

impl Far {
    /// A file of the user's, as it can be reached from outside.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.outside.join(path)
    }

    /// Processes as which the action has begun there, as the site's server has it.
    pub(super) fn began(&self, lab: &Lab) -> Vec<u32> {
        let log = lab.log(&format!("{}-web", self.name));
        log.lines()
            .filter_map(|line| line.split("GET /began?").nth(1)?.trim().parse().ok())
            .collect()
    }

    /// The action may go on.
    pub(super) fn release(&self) {
        fs::write(self.file("go"), "").expect("root can write");
    }

    /// The symptom goes, or comes.
    pub(super) fn set_marker(&self, there: bool) {
        let marker = self.file("site/data/marker");
        if there {
            fs::write(&marker, "x").expect("root can write");
            std::os::unix::fs::chown(&marker, Some(UID), Some(UID)).expect("root can give it away");
        } else {
            remove(&marker);
        }
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        let gone = error.kind() == std::io::ErrorKind::NotFound;
        assert!(gone, "{}: {error}", file.display());
    }
}

/// All of it. Dropped in a failing test, it shows what the daemon said.
pub(super) struct Farm {
    pub(super) daemon: Daemon,
    pub(super) ear: Ear,
    pub(super) hosts: Vec<Far>,
    key: PathBuf,
    pub(super) lab: Lab,
}

impl Farm {
    /// Hosts that are like these, and the daemon that has found them well; none where it cannot run.
    pub(super) fn open(likes: impl FnOnce(&Lab) -> Vec<Like>) -> Option<Self> {
        let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents");
        if !agents
            .join(format!("healer-agent-{}", std::env::consts::ARCH))
            .is_file()
        {
            skip("needs the static agent: packaging/build-agent");
            return None;
        }
        let programs = [
            &net::PROGRAMS[..],
            &["sshd", "ssh-keygen", "mount", "php"][..],
        ];
        let lab = Lab::open(&programs.concat())?;
        lab.stack_file("small", STACK);
        let key = lab.dir().join("id");
        lab.ssh_key(&key, "ed25519", "");
        let hub = lab.hub();
        let ear = Ear::open(hub.net);
        let mut tables = String::new();
        let mut hosts = Vec::new();
        for (number, like) in (1_u8..).zip(likes(&lab)) {
            let name = format!("w{number}");
            let link = lab.link(hub, number);
            let far = far(&lab, &name, link, like);
            tables.push_str(&host_table(&far, &key));
            hosts.push(far);
        }
        let config = format!(
            "mode = \"FULL_AUTO\"\n{}{TIMES}[notify]\nwebhook = {{ url = \"{}\" }}\n{tables}",
            QUICK.replace("interval = \"1s\"", "interval = \"3s\""),
            ear.url
        );
        let daemon = lab
            .daemon_in(Some(hub.net), &config, "")
            .unwrap_or_else(|said| panic!("the daemon does not start:\n{said}"));
        let farm = Self {
            daemon,
            ear,
            hosts,
            key,
            lab,
        };
        let journal = farm.journal();
        for far in &farm.hosts {
            for check in ["http", "marker"] {
                wait(&format!("{check} of {} is well", far.name), || {
                    let said = journal.check(&far.name, check);
                    said.is_some_and(|(status, _)| status == "PASS")
                });
            }
            // A busy machine may have kept it from being seen at first; that is over, and told.
            let outages = usize::try_from(journal.unknowns(&far.name)).expect("they are few");
            wait(&format!("nothing is left to tell of {}", far.name), || {
                let told = |event| farm.told(&far.name, event, "be seen");
                told("incident_opened") == outages && told("host_seen") == outages
            });
        }
        farm.ear.forget();
        Some(farm)
    }

    /// A reader for one thread.
    pub(super) fn journal(&self) -> Journal {
        Journal::open(&self.daemon.state_dir)
    }

    /// Lets the daemon in at a server that was started later.
    pub(super) fn authorize(&self, sshd: &Sshd) {
        sshd.authorize("", &self.key.with_extension("pub"));
    }

    /// State and note of a host, as a person sees them.
    pub(super) fn state(&self, host: &str) -> (String, String) {
        let (_, hosts) = self.daemon.ctl(&self.lab, &["host"]);
        let hosts = hosts["items"].as_array().cloned().unwrap_or_default();
        let found = hosts.iter().find(|one| one["host"] == host);
        let text = |key: &str| {
            found
                .and_then(|one| one[key].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        (text("state"), text("note"))
    }

    /// Waits until a host's note says this.
    #[track_caller]
    pub(super) fn note_says(&self, host: &str, part: &str) {
        wait(&format!("`{part}` is said of {host}"), || {
            self.state(host).1.contains(part)
        });
    }

    /// How often this was told about a host.
    pub(super) fn told(&self, host: &str, event: &str, part: &str) -> usize {
        let heard = self.ear.about(host);
        heard
            .iter()
            .filter(|(word, title)| word == event && title.contains(part))
            .count()
    }

    /// Breaks the site: its action begins and waits. Gives how often it had begun before.
    #[track_caller]
    pub(super) fn begin(&self, far: &Far, journal: &Journal) -> Begun {
        let name = &far.name;
        wait(&format!("{name} is at rest"), || {
            journal.unclosed(name) == 0 && journal.heals(name).iter().all(|heal| heal.is_over)
        });
        let begun = Begun {
            heals: journal.heals(name).len(),
            began: far.began(&self.lab).len(),
        };
        remove(&far.file("go"));
        far.set_marker(false);
        wait(&format!("the action has begun on {name}"), || {
            far.began(&self.lab).len() > begun.began
        });
        begun
    }

    /// Waits until the heal that was begun is over, and gives it: there was one, and its action began once.
    #[track_caller]
    pub(super) fn ended(&self, far: &Far, journal: &Journal, begun: &Begun) -> Heal {
        let name = &far.name;
        wait_or(
            || {
                let heals = journal.heals(name);
                heals.len() > begun.heals && heals.iter().all(|heal| heal.is_over)
            },
            |_| panic!("no end on {name}: {:#?}", journal.heals(name).last()),
        );
        let heals = journal.heals(name);
        assert_eq!(heals.len(), begun.heals + 1, "{heals:#?}");
        let runs = far.began(&self.lab).len();
        assert_eq!(runs, begun.began + 1, "{name} ran once");
        heals.last().cloned().expect("counted")
    }

    /// The heal that was begun is a cure, and its action ran once.
    #[track_caller]
    pub(super) fn cured(&self, far: &Far, journal: &Journal, begun: &Begun) {
        let heal = self.ended(far, journal, begun);
        assert_eq!(heal.state, "Cured", "{}: {}", far.name, heal.message);
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- told: {:#?}", self.ear.all());
            eprintln!("--- healerd said:\n{}---", self.lab.log("healerd"));
        }
    }
}

/// What there was when an action began.
pub(super) struct Begun {
    heals: usize,
    began: usize,
}

/// What a host says that its machine is.
pub(super) fn machine_id(host: &str) -> String {
    format!(
        "{}\n",
        blake3::hash(host.as_bytes()).to_hex().split_at(32).0
    )
}

fn far(lab: &Lab, name: &str, link: Link, like: Like) -> Far {
    let home = lab.dir().join(name).join("home");
    let port = like.place.as_ref().map_or(22, |place| place.port);
    let is_mounted = like.home_mount.is_some();
    let like = Like {
        place: Some(Place {
            net: link.net,
            address: link.address.clone(),
            port,
        }),
        machine_id: machine_id(name),
        ..like
    };
    let sshd = lab.sshd(name, &like);
    sshd.authorize("", &lab.dir().join("id.pub"));
    let socket = |port| {
        let address: IpAddr = link.address.parse().expect("it is an address");
        SocketAddr::new(address, port)
    };
    let far = Far {
        name: name.to_owned(),
        relay: (port != 22).then(|| Relay::open(link.net, socket(22), socket(port))),
        outside: if is_mounted {
            sshd.seen(&home)
        } else {
            home.clone()
        },
        link,
        sshd,
        home,
    };
    let site = far.file("site");
    fs::create_dir_all(site.join("data")).expect("root can write");
    for (file, text) in [
        ("index.html", "<p>all is well</p>"),
        ("write.php", PROGRAM),
        ("data/marker", "x"),
    ] {
        fs::write(site.join(file), text).expect("root can write");
    }
    for path in ["", "data", "index.html", "write.php", "data/marker"] {
        let path = site.join(path);
        std::os::unix::fs::chown(&path, Some(UID), Some(UID)).expect("root can give it away");
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    let ids = [UID.to_string(), far.sshd.pid.to_string()];
    let mut server = lab.as_root("nsenter");
    server
        .args(["--net", "--mount", "--target", &ids[1]])
        .args(["--setuid", &ids[0], "--setgid", &ids[0], "--", "php", "-S"])
        .arg("0.0.0.0:8080")
        .arg("-t")
        .arg(far.home.join("site"));
    lab.spawn(&format!("{name}-web"), &mut server);
    far
}

fn host_table(far: &Far, key: &Path) -> String {
    let mut table = String::new();
    let (name, address) = (&far.name, &far.link.address);
    write!(
        table,
        "[host.{name}]\nssh = \"shop@{address}:22\"\nkey = \"{}\"\nhost_key = \"{}\"\n",
        key.display(),
        far.sshd.host_key("ed25519"),
    )
    .expect("text grows");
    if far.relay.is_some() {
        table.push_str("connect_within = \"5s\"\n");
    }
    write!(
        table,
        "[app.{name}]\nhost = \"{name}\"\npath = \"{}\"\nstack = \"small\"\nuser = \"shop\"\n\
         url = \"http://{address}:8080/\"\n",
        far.home.join("site").display(),
    )
    .expect("text grows");
    table
}

/// Waits until `state` holds, looking again every few milliseconds.
#[track_caller]
pub(super) fn wait(what: &str, state: impl FnMut() -> bool) {
    wait_or(state, |_| panic!("waited in vain: {what}"));
}

#[track_caller]
fn wait_or(mut state: impl FnMut() -> bool, give_up: impl FnOnce(Duration)) {
    let begun = Instant::now();
    while !state() {
        if begun.elapsed() > PATIENCE {
            give_up(begun.elapsed());
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
