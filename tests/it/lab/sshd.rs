//! A real SSH server with users of its own, none of whom exist outside of it.
//!
//! It runs in a mount namespace in which /etc/passwd has more lines and in which homes may be mounted as a test wants
//! them (full, `noexec`), so that nothing of the machine changes. Its limits are the defaults: no test is helped by a
//! server that allows more.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use healerd::model::host::{ALLOW_FILE, Become, ROOT_STATE};
use rustix::process::Signal;

use super::user::User;
use super::{Lab, find_program, process, set_mode, skip, wait_for};

/// Numbers of the users that exist in here alone.
pub(crate) const UID: u32 = 47_001;

/// What a lab with a server needs.
pub(crate) const PROGRAMS: &[&str] = &["sshd", "ssh-keygen", "unshare", "mount", "sudo"];

/// The static agent that a daemon pushes, or none where `packaging/build-agent` did not make it.
pub(crate) fn agent() -> Option<PathBuf> {
    let folder = std::env::var_os("HEALERD_TESTS_AGENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents"),
        PathBuf::from,
    );
    let file = folder.join(format!("healer-agent-{}", std::env::consts::ARCH));
    if !file.is_file() {
        skip("needs the static agent: packaging/build-agent");
        return None;
    }
    Some(file)
}

/// One server.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    pub(crate) pid: u32,
    name: String,
    dir: PathBuf,
}

/// What a server is like.
#[derive(Default)]
pub(crate) struct Like {
    /// Kinds of host keys; empty: ed25519.
    pub(crate) host_keys: Vec<&'static str>,
    /// Further lines of its configuration.
    pub(crate) config: String,
    /// Names of users; all of them have the same number and home. Empty: `shop`.
    pub(crate) users: Vec<String>,
    /// A user of this machine who can log in as well, with a shell and the home of this server.
    pub(crate) also: Option<User>,
    /// Their login shell; empty: /bin/sh.
    pub(crate) shell: String,
    /// Their home; empty: a directory of the server's.
    pub(crate) home: Option<PathBuf>,
    /// Mount options of a small file system in the place of the home.
    pub(crate) home_mount: Option<&'static str>,
    /// Where it listens, when that is not a loopback port of this machine.
    pub(crate) place: Option<Place>,
    /// What it says that its machine is; empty: this machine.
    pub(crate) machine_id: String,
    /// The server whose host keys it has too.
    pub(crate) keys_of: Option<PathBuf>,
    /// The list of what a root agent may do that root installed there, in a place that only sessions of this server see,
    /// and the line in sudoers that lets its users start it; empty: there is none. See [`Sshd::root_agent`].
    pub(crate) allow: String,
}

/// A place in a network of the test's own.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// A process in its network namespace.
    pub(crate) net: u32,
    pub(crate) address: String,
    pub(crate) port: u16,
}

impl Lab {
    /// Starts a server and waits until it listens.
    pub(crate) fn sshd(&self, name: &str, like: &Like) -> Sshd {
        let dir = self.dir().join(name);
        std::fs::create_dir(&dir).expect("a server has a name of its own");
        std::fs::create_dir_all("/run/sshd").expect("root can make sshd's directory");
        let home = like.home.clone().unwrap_or_else(|| {
            let home = dir.join("home");
            std::fs::create_dir(&home).expect("root can make a home");
            std::os::unix::fs::chown(&home, Some(UID), Some(UID)).expect("root can give it away");
            set_mode(&home, 0o755);
            home
        });
        let mut passwd = String::new();
        if let Some(user) = &like.also {
            // The first line of a name counts.
            let User { name, uid, gid } = user;
            writeln!(passwd, "{name}:*:{uid}:{gid}::{}:/bin/sh", home.display())
                .expect("text grows");
        }
        passwd += &std::fs::read_to_string("/etc/passwd").expect("there are users");
        let one = ["shop".to_owned()];
        let users = if like.users.is_empty() {
            &one[..]
        } else {
            &like.users
        };
        let shell = if like.shell.is_empty() {
            "/bin/sh"
        } else {
            &like.shell
        };
        for user in users {
            writeln!(passwd, "{user}:*:{UID}:{UID}::{}:{shell}", home.display())
                .expect("text grows");
        }
        std::fs::write(dir.join("passwd"), passwd).expect("root can write");
        let (address, port) = match &like.place {
            Some(place) => (place.address.clone(), place.port),
            None => ("127.0.0.1".to_owned(), self.port()),
        };
        // The first word on a setting counts, so a test's own lines come first.
        let mut config = format!(
            "{}\nPort {port}\nListenAddress {address}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nAuthorizedKeysFile {dir}/authorized\nLogLevel VERBOSE\n\
             Subsystem sftp internal-sftp\n",
            like.config,
            dir = dir.display(),
        );
        let kinds = if like.host_keys.is_empty() {
            &["ed25519"][..]
        } else {
            &like.host_keys
        };
        for kind in kinds {
            let key = dir.join(format!("host_{kind}"));
            if let Some(other) = &like.keys_of {
                for end in ["", ".pub"] {
                    let name = format!("host_{kind}{end}");
                    std::fs::copy(other.join(&name), dir.join(&name)).expect("root can copy");
                }
            } else {
                self.ssh_key(&key, kind, "");
            }
            writeln!(config, "HostKey {}", key.display()).expect("text grows");
        }
        std::fs::write(dir.join("config"), config).expect("root can write");
        std::fs::write(dir.join("authorized"), "").expect("root can write");
        let mut script = Vec::new();
        if !like.allow.is_empty() {
            let also = like.also.iter().map(|user| user.name.clone());
            let users: Vec<String> = users.iter().cloned().chain(also).collect();
            script.push(install_root_agent(&dir, &like.allow, &users));
        }
        script.push(format!("mount --bind {}/passwd /etc/passwd", dir.display()));
        if !like.machine_id.is_empty() {
            std::fs::write(dir.join("machine-id"), &like.machine_id).expect("root can write");
            script.push(format!(
                "mount --bind {}/machine-id /etc/machine-id",
                dir.display()
            ));
        }
        if let Some(options) = like.home_mount {
            script.push(format!(
                "mount -t tmpfs -o {options},uid={UID},gid={UID},mode=755 none {}",
                home.display()
            ));
        }
        let program = find_program("sshd").expect("the lab was opened for it");
        script.push(format!(
            "exec {} -D -e -f {}/config",
            program.display(),
            dir.display()
        ));
        let script = script.join(" && ");
        let mut command = match &like.place {
            Some(place) => self.inside(place.net, "unshare"),
            None => self.as_root("unshare"),
        };
        let pid = self.spawn(name, command.args(["--mount", "sh", "-c", &script]));
        wait_for("sshd listens", || {
            assert!(self.runs(pid), "sshd ended: {}", self.log(name));
            self.log(name).contains("Server listening")
        });
        // Connections outlive the server that took them.
        self.at_end(move || drop(cut(pid)));
        Sshd {
            port,
            pid,
            name: name.to_owned(),
            dir,
        }
    }

    /// Makes a key pair with `ssh-keygen`.
    pub(crate) fn ssh_key(&self, path: &Path, kind: &str, passphrase: &str) {
        let output = self
            .as_root("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-f"])
            .arg(path)
            .output()
            .expect("the lab was opened for it");
        assert!(output.status.success(), "{output:?}");
    }
}

/// Where programs are that root put on the server.
fn root_programs(dir: &Path) -> PathBuf {
    dir.join("root-programs")
}

/// Where sudo is told of it, as the server's users see it.
const SUDOERS: &str = "/etc/sudoers.d/healerd";

/// The line that puts the agent there and lets the machine's own sudo start it: its list and sudoers lie in an `/etc` that
/// only the server's own namespace has, and so do its records.
fn install_root_agent(dir: &Path, allow: &str, users: &[String]) -> String {
    let place = root_programs(dir);
    let become_root = Become {
        program: place.join("healer-agent"),
    };
    let lines: Vec<_> = users
        .iter()
        .map(|user| become_root.sudoers_line(user) + "\n")
        .collect();
    let etc = dir.join("etc");
    for folder in [&place, &etc, Path::new(ROOT_STATE)] {
        std::fs::create_dir_all(folder).expect("root can write");
    }
    // Only a place to mount something over, which stays as empty as it is. Other labs see it through their root.
    set_mode(Path::new(ROOT_STATE), 0o700);
    for (name, text) in [("agent.toml", allow), ("sudoers", &lines.concat())] {
        std::fs::write(dir.join(name), text).expect("root can write");
    }
    let agent = agent().expect("looked for when the lab was opened");
    let (dir, place, etc) = (dir.display(), place.display(), etc.display());
    [
        format!("mount -t tmpfs -o mode=755 none {etc}"),
        format!("mkdir {etc}/upper {etc}/work {etc}/all"),
        format!("mount -t overlay -o lowerdir=/etc,upperdir={etc}/upper,workdir={etc}/work none {etc}/all"),
        // What is mounted on a file there does not show through.
        format!("{{ cp /etc/hosts /etc/resolv.conf {etc}/all/ || true; }}"),
        format!("install -D -m 0600 {dir}/agent.toml {etc}/all{ALLOW_FILE}").replace("/all/etc/", "/all/"),
        format!("install -m 0440 {dir}/sudoers {etc}/all{SUDOERS}").replace("/all/etc/", "/all/"),
        format!("mount --bind {etc}/all /etc"),
        format!("mount -t tmpfs -o mode=755 none {place}"),
        format!("install -m 0755 {} {place}/healer-agent", agent.display()),
        format!("mount -t tmpfs -o mode=700 none {ROOT_STATE}"),
    ]
    .join(" && ")
}

impl Sshd {
    /// The program that root operations go to, where the server has one.
    pub(crate) fn root_agent(&self) -> PathBuf {
        root_programs(&self.dir).join("healer-agent")
    }

    /// Puts this in the place of what sudo was told of the root agent.
    pub(crate) fn tell_sudo(&self, lines: &str) {
        let file = self.seen(Path::new(SUDOERS));
        std::fs::write(&file, lines).expect("root can write");
        set_mode(&file, 0o440);
    }

    /// Lets a key in; `options` stand before it.
    pub(crate) fn authorize(&self, options: &str, public: &Path) {
        let key = std::fs::read_to_string(public).expect("a public key was made");
        let line = if options.is_empty() {
            key
        } else {
            format!("{options} {key}")
        };
        std::fs::write(self.dir.join("authorized"), line).expect("root can write");
    }

    /// The server's public key of that kind, as it is pinned.
    pub(crate) fn host_key(&self, kind: &str) -> String {
        let path = self.dir.join(format!("host_{kind}.pub"));
        let text = std::fs::read_to_string(path).expect("a host key was made");
        text.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The users' home as everybody sees it (not when something is mounted there).
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Its own directory, where its keys are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path as the server's users see it, whatever is mounted there.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(inside)
    }

    /// What the server has said.
    pub(crate) fn log(&self, lab: &Lab) -> String {
        lab.log(&self.name)
    }

    /// Logins that were accepted so far.
    pub(crate) fn logins(&self, lab: &Lab) -> usize {
        self.log(lab).matches("Accepted publickey").count()
    }

    /// Kills every connection's process, and nothing that runs in it.
    pub(crate) fn cut(&self) {
        cut(self.pid);
    }
}

/// Kills the processes of a server's connections, and nothing that runs in them. Gives those that it killed.
pub(crate) fn cut(server: u32) -> Vec<u32> {
    let mut connections = descendants(server);
    connections.retain(|child| {
        let command = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        command.starts_with(b"sshd: ")
    });
    for child in &connections {
        process::signal(*child, Signal::KILL);
    }
    connections
}

/// All processes below one, the nearest first.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at) {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok()),
        );
        at += 1;
    }
    found.remove(0);
    found
}
