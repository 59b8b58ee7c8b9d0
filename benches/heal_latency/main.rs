//! From a symptom admitted to its action started: one heal of ten files through the real parts, with warm agents.
//!
//! The engine, the store, the vault and the agent are those of the daemon; only the seams are wrapped, to note when
//! each call began and ended. The time counts from the commit that admits the heal to the agent's answer that the
//! action's supervisor has its intent. Prints the median, the tail and where the time went; asserts nothing.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with the machine's clock and makes the trees that it needs"
)]

mod watched;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use healer_agent::protocol::Target;
use healerd::catalogue::Catalogue;
use healerd::engine::{Engine, HealAnswer, HealRequest, Outside, Setup};
use healerd::guard::mode::Modes;
use healerd::host::LocalHost;
use healerd::host::local::Launch;
use healerd::model::app::{App, Schedule};
use healerd::model::approval::Person;
use healerd::model::id::IdMaker;
use healerd::model::name::{AppName, HostName};
use healerd::model::policy::Policy;
use healerd::model::word::HealingMode;
use healerd::protect::vault::{DirVault, Place};
use healerd::record::store::SqliteStore;
use healerd::seam::{Clock, Host, World};
use healerd::system::{OsRandom, RealClock};
use healerd::telemetry::metrics::Metrics;
use healerd::telemetry::sd::Progress;
use watched::{Log, Noted, WatchedHost, WatchedStore, WatchedVault};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HEALS: usize = 50;
/// Heals before the counted ones, so that caches are as in a daemon that has been up for a while.
const WARM_UP: usize = 5;
const FILES: usize = 10;
/// `nobody`, when the bench runs as root.
const NOBODY: u32 = 65_534;
const OWNER: &str = "bench";

const STACK: &str = r#"
[check.flag_left]
category = "SYSTEM"
probes.flag = { file = { path = "pages/flag" } }
rules = [{ when = { "flag.exists" = true }, status = "FAIL", severity = "HIGH", message = "the flag is there" }]
remedies = ["remove_flag"]

[check.settings_whole]
category = "CONFIGURATION"
probes.env = { env = { path = ".env", need = ["APP_KEY"] } }
rules = [{ when = { "env.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no .env" }]

[check.room_left]
category = "SYSTEM"
about = "host"
probes.disk = { disk = { path = "." } }
rules = [{ when = { "disk.used_percent" = { ge = 101 } }, status = "FAIL", severity = "HIGH", message = "full" }]

[action.remove_flag]
risk = "LOW"
writes = [{ content = "pages/**" }]
steps = [{ remove = { paths = ["pages/flag"] } }]
proves = "flag_left"
timeout = "30s"
settle = "60s"
"#;

/// An application of ten pages, one of which is the symptom.
fn plant(root: &Path, number: usize, owner: u32) -> Result<(), Failure> {
    fs::create_dir_all(root.join("pages"))?;
    fs::write(root.join(".env"), "APP_KEY=0123456789abcdef\n")?;
    for page in 1..FILES {
        let noise = blake3::hash(format!("{number}/{page}").as_bytes()).to_hex();
        fs::write(
            root.join(format!("pages/page{page}.html")),
            format!("<p>{noise}</p>\n").repeat(10 * page),
        )?;
    }
    fs::write(root.join("pages/flag"), "left behind\n")?;
    own(root, owner)
}

fn own(path: &Path, owner: u32) -> Result<(), Failure> {
    std::os::unix::fs::lchown(path, Some(owner), Some(owner))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

fn app(name: &AppName, root: &Path, uid: u32) -> Result<App, Failure> {
    Ok(App {
        name: name.clone(),
        host: HostName::local(),
        stack: "bench".parse()?,
        target: Target {
            root: root.display().to_string(),
            roots: Vec::new(),
            uid,
            gid: uid,
            volatile: Vec::new(),
        },
        user: "nobody".to_owned(),
        url: None,
        origin: None,
        vars: BTreeMap::new(),
        // Rounds of other applications would only stand in the way.
        schedule: Schedule::Every(Duration::from_hours(24)),
        policy: Policy {
            mode: HealingMode::SemiAuto,
            ..Policy::default()
        },
    })
}

struct Laid {
    setup: Setup,
    world: Arc<World>,
    log: Arc<Log>,
}

async fn lay(folder: &Path) -> Result<Laid, Failure> {
    let own_uid = rustix::process::getuid().as_raw();
    let uid = if own_uid == 0 { NOBODY } else { own_uid };
    let mut apps = BTreeMap::new();
    for number in 0..WARM_UP + HEALS {
        let name: AppName = format!("app{number}").parse()?;
        let root = folder.join(format!("apps/{name}"));
        plant(&root, number, uid)?;
        apps.insert(name.clone(), Arc::new(app(&name, &root, uid)?));
    }
    let state = folder.join("state");
    fs::create_dir(&state)?;
    fs::set_permissions(&state, Permissions::from_mode(0o711))?;
    let private = state.join("private");
    fs::create_dir(&private)?;
    fs::set_permissions(&private, Permissions::from_mode(0o700))?;

    let clock: Arc<dyn Clock> = Arc::new(RealClock::new()?);
    let log = Arc::new(Log::default());
    let name = HostName::local();
    let host: Arc<dyn Host> = Arc::new(LocalHost::new(
        name.clone(),
        Launch {
            answered: Arc::new(|| ()),
            program: PathBuf::from(env!("CARGO_BIN_EXE_healerd")),
            arguments: vec!["agent".to_owned()],
            state: state.join("agents"),
            allow: None,
            groups: Arc::new(|_| Vec::new()),
            owner: OWNER.to_owned(),
        },
    ));
    let store = SqliteStore::open(&private, &clock.now()).await?;
    let place = Place {
        owner: own_uid,
        web_roots: Vec::new(),
        allow_temp: true,
    };
    let vault = DirVault::open(&private.join("vault"), &place)?;
    let host: Arc<dyn Host> = Arc::new(WatchedHost(host, Arc::clone(&log)));
    let world = Arc::new(World {
        clock,
        random: Arc::new(OsRandom),
        hosts: [(name, host)].into(),
        store: Arc::new(WatchedStore(Arc::new(store), Arc::clone(&log))),
        vault: Arc::new(WatchedVault(Arc::new(vault), Arc::clone(&log))),
        owner: OWNER.to_owned(),
        ids: Mutex::new(IdMaker::default()),
    });
    let catalogue = Catalogue::load(&[("bench".to_owned(), STACK.to_owned())])
        .map_err(|errors| format!("{errors:?}"))?;
    let setup = Setup {
        apps,
        check_every: BTreeMap::new(),
        hosts: BTreeMap::new(),
        catalogue: Arc::new(catalogue),
        modes: Modes {
            mode: HealingMode::SemiAuto,
            max_mode: HealingMode::FullAuto,
            is_own: true,
        },
    };
    Ok(Laid { setup, world, log })
}

/// One heal's calls, from the commit that admitted it to the answer of its start.
fn of_one(noted: &[Noted]) -> Result<&[Noted], Failure> {
    let first = noted
        .iter()
        .position(|one| one.what == watched::ADMITTED)
        .ok_or("no heal was admitted")?;
    let last = noted
        .iter()
        .position(|one| one.what == watched::STARTED)
        .ok_or("no action was started")?;
    noted
        .get(first..=last)
        .ok_or_else(|| "it started before it was admitted".into())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn measure(folder: &Path) -> Result<(), Failure> {
    let Laid { setup, world, log } = lay(folder).await?;
    let outside = Outside {
        pulse: None,
        remotes: None,
        notices: None,
        metrics: Arc::new(Metrics::new()?),
        progress: Arc::new(Progress::new()),
    };
    let (engine, _fatal) = Engine::start(Arc::clone(&world), &setup, outside).await?;
    let handle = engine.handle();
    let person = Person {
        uid: 0,
        name: "bench".to_owned(),
    };
    let mut wholes = Vec::new();
    let mut stages: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    let mut calls: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (number, app) in setup.apps.keys().enumerate() {
        handle.diagnose(app).await?;
        log.take();
        let request = HealRequest {
            action: "remove_flag".parse()?,
            params: BTreeMap::new(),
            reason: "measuring how long it takes".to_owned(),
            dry_run: false,
        };
        let answer = handle.heal(app, request, person.clone()).await?;
        if !matches!(answer, HealAnswer::Started(_)) {
            return Err("the heal was not admitted".into());
        }
        log.wait_for(watched::STARTED).await;
        let noted = log.take();
        let one = of_one(&noted)?;
        let (Some(first), Some(last)) = (one.first(), one.last()) else {
            return Err("nothing was noted".into());
        };
        // The supervisor must be done before the next heal may use the host.
        log.wait_for(watched::ENDED).await;
        if number < WARM_UP {
            continue;
        }
        let whole = last.end - first.end;
        wholes.push(whole);
        let mut sums: BTreeMap<&'static str, Duration> = BTreeMap::new();
        let mut at: Instant = first.end;
        for step in one.get(1..).unwrap_or_default() {
            // Calls that run side by side count once, from where the last one ended.
            let (begin, end) = (step.begin.max(at), step.end.max(at));
            *sums.entry("between the calls").or_default() += begin - at;
            *sums.entry(step.what).or_default() += end - begin;
            *calls.entry(step.what).or_default() += 1;
            at = end;
        }
        for (what, time) in sums {
            stages.entry(what).or_default().push(time);
        }
    }
    let count = wholes.len();
    let half = median(&mut wholes);
    let tail = wholes[count * 99 / 100];
    println!(
        "admitted to started, {FILES} files, {count} heals: median {half:.1?}, p99 {tail:.1?}, least {:.1?}",
        wholes[0]
    );
    for (what, mut times) in stages {
        let number = calls.get(what).copied().unwrap_or(0).div_ceil(count);
        println!("  {what:24} {:9.1?}  ({number} calls)", median(&mut times));
    }
    engine.stop().await;
    world.store.close().await;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()?;
    // As in the daemon.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(folder.path()))
}
