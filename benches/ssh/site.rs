//! The applications behind the hosts, and the world that looks at them: all of it the daemon's own code.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use healer_agent::protocol::Target;
use healerd::catalogue::{Catalogue, Check, Stack};
use healerd::host::SshHost;
use healerd::model::app::{App, Schedule};
use healerd::model::check::Round;
use healerd::model::id::IdMaker;
use healerd::model::policy::Policy;
use healerd::model::word::Status;
use healerd::observe::{Asked, Known, Starting};
use healerd::protect::vault::{DirVault, Place};
use healerd::record::store::SqliteStore;
use healerd::seam::{Clock, Host, World};
use healerd::system::{OsRandom, RealClock};

use crate::Failure;
use crate::server::UID;

/// Ten checks of the kinds that most rounds are made of, and one that starts a program.
const STACK: &str = r#"
[check.index_there]
category = "SYSTEM"
probes.index = { file = { path = "index.html" } }
rules = [{ when = { "index.exists" = false }, status = "FAIL", severity = "HIGH", message = "gone" }]
[check.upload_there]
category = "SYSTEM"
probes.upload = { file = { path = "uploads/1" } }
rules = [{ when = { "upload.exists" = false }, status = "FAIL", severity = "HIGH", message = "gone" }]
[check.no_maintenance]
category = "SYSTEM"
probes.flag = { file = { path = ".maintenance" } }
rules = [{ when = { "flag.exists" = true }, status = "FAIL", severity = "HIGH", message = "left on" }]
[check.settings_whole]
category = "CONFIGURATION"
probes.env = { env = { path = ".env", need = ["APP_KEY"] } }
rules = [{ when = { "env.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no .env" }]
[check.package_whole]
category = "DEPENDENCIES"
probes.package = { json = { path = "package.json" } }
rules = [{ when = { "package.exists" = false }, status = "FAIL", severity = "HIGH", message = "gone" }]
[check.uploads_writable]
category = "SECURITY"
probes.dirs = { access = { paths = ["uploads"], want = "write" } }
rules = [{ when = { "dirs.denied" = { empty = false } }, status = "FAIL", severity = "HIGH", message = "not writable" }]
[check.room_left]
category = "SYSTEM"
about = "host"
probes.disk = { disk = { path = "." } }
rules = [{ when = { "disk.used_percent" = { ge = 101 } }, status = "FAIL", severity = "HIGH", message = "full" }]
[check.memory_left]
category = "PERFORMANCE"
about = "host"
probes.memory = { memory = {} }
rules = [{ when = { "memory.used_percent" = { ge = 101 } }, status = "FAIL", severity = "HIGH", message = "full" }]
[check.robots_there]
category = "SYSTEM"
probes.robots = { file = { path = "robots.txt" } }
rules = [{ when = { "robots.exists" = false }, status = "FAIL", severity = "LOW", message = "gone" }]
[check.second_upload_there]
category = "SYSTEM"
probes.upload = { file = { path = "uploads/2" } }
rules = [{ when = { "upload.exists" = false }, status = "FAIL", severity = "LOW", message = "gone" }]
[check.program_runs]
category = "SYSTEM"
probes.ran = { program = { argv = ["true"], timeout = "10s" } }
rules = [{ when = { "ran.exit" = { ne = 0 } }, status = "FAIL", severity = "LOW", message = "it failed" }]
"#;

/// Which checks a round holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// The one that starts `true`, as the yardsticks do.
    Program,
    /// One that starts nothing.
    One,
    /// The ten that start nothing.
    Ten,
}

impl Which {
    fn holds(self, check: &Check) -> bool {
        let name = check.name.as_str();
        match self {
            Self::Program => name == "program_runs",
            Self::One => name == "index_there",
            Self::Ten => name != "program_runs",
        }
    }

    /// Checks of one round.
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::Program | Self::One => 1,
            Self::Ten => 10,
        }
    }
}

/// The stack.
///
/// # Errors
/// When it is wrong.
pub(crate) fn stack() -> Result<Arc<Stack>, Failure> {
    let catalogue = Catalogue::load(&[("bench".to_owned(), STACK.to_owned())])
        .map_err(|errors| format!("{errors:?}"))?;
    let stack = catalogue.get(&"bench".parse()?);
    Ok(Arc::clone(stack.ok_or("the stack is not there")?))
}

/// Makes the small application that is looked at.
///
/// # Errors
/// The system's.
pub(crate) fn plant_small(root: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(root.join("uploads"))?;
    for (name, text) in [
        ("index.html", "hello\n"),
        ("robots.txt", "User-agent: *\n"),
        (".env", "APP_KEY=0123456789abcdef\nAPP_DEBUG=false\n"),
        ("package.json", r#"{"name":"shop","version":"1.0.0"}"#),
        ("uploads/1", "one\n"),
        ("uploads/2", "two\n"),
    ] {
        std::fs::write(root.join(name), text)?;
    }
    crate::server::give_away(root)
}

/// An application of a host.
///
/// # Errors
/// When a name is none.
pub(crate) fn app(host: usize, user: &str, root: &Path) -> Result<App, Failure> {
    Ok(App {
        name: format!("shop{host}").parse()?,
        host: format!("web{host}").parse()?,
        stack: "bench".parse()?,
        target: Target {
            root: root.display().to_string(),
            roots: Vec::new(),
            uid: UID,
            gid: UID,
            volatile: Vec::new(),
        },
        user: user.to_owned(),
        url: None,
        origin: None,
        vars: BTreeMap::new(),
        schedule: Schedule::Every(Duration::from_mins(1)),
        policy: Policy::default(),
    })
}

/// A world of these hosts, with a store and an empty vault below `folder`.
///
/// # Errors
/// When one of them cannot be opened.
pub(crate) async fn world(folder: &Path, hosts: Vec<SshHost>) -> Result<World, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new()?);
    let place = Place {
        owner: rustix::process::getuid().as_raw(),
        web_roots: Vec::new(),
        allow_temp: true,
    };
    let hosts: BTreeMap<_, Arc<dyn Host>> = hosts
        .into_iter()
        .map(|host| (host.name().clone(), Arc::new(host) as Arc<dyn Host>))
        .collect();
    Ok(World {
        store: Arc::new(SqliteStore::open(folder, &clock.now()).await?),
        clock,
        random: Arc::new(OsRandom),
        hosts: hosts.into(),
        vault: Arc::new(DirVault::open(&folder.join("vault"), &place)?),
        owner: "bench".to_owned(),
        ids: Mutex::new(IdMaker::default()),
    })
}

/// One round, all of which passes.
///
/// # Errors
/// When the host cannot be seen, or something is not as it was planted.
pub(crate) async fn round(
    world: &World,
    app: &App,
    stack: &Stack,
    which: Which,
) -> Result<Round, Failure> {
    let wanted = |check: &Check| which.holds(check);
    let asked = Asked {
        starting: Starting::Allowed,
        known: &Known::default(),
        timeout: Duration::from_secs(30),
    };
    let round = healerd::observe::round(world, app, stack, &wanted, &asked).await?;
    let passed = round
        .results
        .iter()
        .filter(|result| result.status == Status::Pass)
        .count();
    if passed != which.count() {
        return Err(format!("{passed} checks passed: {:?}", round.results).into());
    }
    Ok(round)
}
