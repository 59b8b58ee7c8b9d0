//! The test bed: real applications on this machine, each in a directory of its own, made to be broken.
//!
//! A [`Lab`] owns everything that a test starts: it takes its ports from the kernel, runs its servers as an ordinary user,
//! waits for states with a bound, and ends what it started, by pid, when it is dropped. It knows nothing of the daemon's
//! insides: applications are seen through HTTP and the file system only. Labs share nothing, so tests run side by side.
//!
//! A test that cannot run here says SKIP with the reason; with `HEALERD_TESTS_REQUIRE_ALL=1` that is a failure.

pub(crate) mod daemon;
pub(crate) mod door;
pub(crate) mod ear;
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod laravel;
pub(crate) mod machine;
pub(crate) mod mariadb;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod php;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod relay;
pub(crate) mod sshd;
pub(crate) mod store;
pub(crate) mod tree;
pub(crate) mod user;
pub(crate) mod web;
pub(crate) mod wordpress;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use port::Port;
use process::Process;
use user::User;

/// How long anything that should come up is waited for. Far above what it takes, far below a hanging suite.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

type Ending = Box<dyn FnOnce() + Send>;

/// One test's directory and everything that runs in it.
pub(crate) struct Lab {
    dir: Option<tempfile::TempDir>,
    /// The user that applications run as.
    pub(crate) user: User,
    processes: Mutex<Vec<Process>>,
    ports: Mutex<Vec<Port>>,
    endings: Mutex<Vec<Ending>>,
}

impl Lab {
    /// A new lab, or none where root or one of `programs` is missing: then the test returns.
    pub(crate) fn open(programs: &[&str]) -> Option<Self> {
        let mut missing: Vec<String> = programs
            .iter()
            .filter(|name| find_program(name).is_none())
            .map(|name| format!("`{name}`"))
            .collect();
        if !rustix::process::geteuid().is_root() {
            missing.push("root".to_owned());
        }
        let user = User::named("www-data");
        if user.is_none() {
            missing.push("the user `www-data`".to_owned());
        }
        if !missing.is_empty() {
            skip(&format!("needs {}", missing.join(", ")));
            return None;
        }
        let base = base();
        std::fs::create_dir_all(&base).expect("root can make the labs' directory");
        let dir = tempfile::Builder::new()
            .prefix("lab-")
            .tempdir_in(&base)
            .expect("root can make a lab");
        let lab = Self {
            dir: Some(dir),
            user: user?,
            processes: Mutex::default(),
            ports: Mutex::default(),
            endings: Mutex::default(),
        };
        // The application's user walks through, and cannot write.
        set_mode(lab.dir(), 0o755);
        let home = lab.home();
        std::fs::create_dir(&home).expect("a new lab is empty");
        lab.user.own(&home);
        Some(lab)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().expect("taken only by drop").path()
    }

    /// The application user's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// A port that nobody else gets while the lab lives.
    pub(crate) fn port(&self) -> u16 {
        let port = Port::reserve();
        let number = port.number();
        locked(&self.ports).push(port);
        number
    }

    /// A program that will run as the application's user, with a small clean environment.
    pub(crate) fn as_user(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.as_root(program);
        self.user.drop_to(&mut command);
        command.env("HOME", self.home());
        command.env("USER", &self.user.name);
        command.env("PM2_HOME", self.pm2_home());
        // pm2 neither greets nor asks the world for a newer version.
        command.env("PM2_DISCRETE_MODE", "true");
        command.env("PM2_DISABLE_VERSION_CHECK", "true");
        command.env("COMPOSER_HOME", self.home().join(".composer"));
        command.env("COMPOSER_DISABLE_NETWORK", "1");
        command
    }

    /// The same as root.
    pub(crate) fn as_root(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("HOME", "/root");
        command.env("LANG", "C.UTF-8");
        // By this mark a killed suite's left-overs are found.
        command.env("HEALERD_LAB", self.dir());
        command.current_dir(self.dir());
        command
    }

    pub(crate) fn pm2_home(&self) -> PathBuf {
        self.dir().join("pm2")
    }

    /// Starts a server that lives until the lab ends. Its output is in `NAME.log`.
    pub(crate) fn spawn(&self, name: &str, command: &mut Command) -> u32 {
        let process = Process::start(name, &self.dir().join(format!("{name}.log")), command);
        let pid = process.pid();
        locked(&self.processes).push(process);
        pid
    }

    /// What a server has said so far.
    pub(crate) fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir().join(format!("{name}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a server that this lab started still runs.
    pub(crate) fn runs(&self, pid: u32) -> bool {
        locked(&self.processes)
            .iter_mut()
            .any(|process| process.pid() == pid && process.runs())
    }

    /// Ends one server before the lab ends.
    pub(crate) fn stop(&self, pid: u32) {
        let mut processes = locked(&self.processes);
        if let Some(at) = processes.iter().position(|process| process.pid() == pid) {
            drop(processes.remove(at));
        }
    }

    /// Something to do when the lab ends, before its servers are ended; last come, first done.
    pub(crate) fn at_end(&self, ending: impl FnOnce() + Send + 'static) {
        locked(&self.endings).push(Box::new(ending));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        while let Some(ending) = locked(&self.endings).pop() {
            ending();
        }
        while let Some(process) = locked(&self.processes).pop() {
            drop(process);
        }
        if let Some(dir) = self.dir.take() {
            if std::env::var_os("HEALERD_LAB_KEEP").is_some() {
                eprintln!("kept: {}", dir.keep().display());
            } else if let Err(error) = dir.close() {
                eprintln!("the lab's directory stays: {error}");
            }
        }
    }
}

/// A test that panicked inside a lock is already failing; what it started must be ended all the same.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where labs are: not below a temporary directory, because the daemon refuses to keep its state there.
fn base() -> PathBuf {
    std::env::var_os("HEALERD_LAB_BASE")
        .map_or_else(|| PathBuf::from("/var/lib/healerd-lab"), PathBuf::from)
}

/// Says that the running test cannot run here.
///
/// # Panics
/// Where nothing may be skipped.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var("HEALERD_TESTS_REQUIRE_ALL").as_deref() != Ok("1"),
        "{} may not be skipped here: {reason}",
        std::thread::current().name().unwrap_or("a test"),
    );
    say_skip(reason);
}

/// The same for what may be missing everywhere: seen by whoever reads, and no failure.
pub(crate) fn say_skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by `eprintln!`: the output of a test that passes is thrown away, and this must be seen. In one piece, because
    // tests speak all at once.
    let line = format!("SKIP {test}: {reason}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error is open");
}

/// The first of the usual directories that holds an executable of this name; `php-fpm` may carry its version.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    for folder in [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ] {
        let path = Path::new(folder).join(name);
        if path.is_file() {
            return Some(path);
        }
    }
    if name == "php-fpm" {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/sbin")
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with("php-fpm"))
            })
            .collect();
        versions.sort();
        return versions.pop();
    }
    None
}

/// Waits until `state` holds, looking again every few milliseconds.
///
/// # Panics
/// When it does not come within [`PATIENCE`]; `what` names it.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut state: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !state() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("chmod {}: {error}", path.display()));
}

/// A file of the tests' own fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}
