//! The daemon put together: configuration → world → engine → sockets, and its signals until the end.
//!
//! The order is a promise: READY is told only after migration, recovery and the bind of the socket; a bad reload
//! changes nothing; after TERM no new intent is written, and running actions go on under their own supervisors.

mod stacks;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::catalogue::Catalogue;
use crate::config::{self, ConfigErrors, Paths, Settings, Users};
use crate::control::{self, Access, ControlState, NotifierTest};
use crate::engine::{Engine, EngineError, Outside, Setup};
use crate::guard::mode::Modes;
use crate::host::LocalHost;
use crate::host::local::Launch;
use crate::host::ssh::{AgentFiles, SshLaunch, SshRemotes};
use crate::model::counted;
use crate::model::id::IdMaker;
use crate::model::name::HostName;
use crate::model::time::Moment;
use crate::protect::vault::{DirVault, Place};
use crate::record::store::{Limits, SqliteStore};
use crate::seam::notify::Notice;
use crate::seam::{Changes, Clock, Host, Notifier, Randomness, Remotes, Store, World, Write};
use crate::system::{self, CronPulse, OsRandom, RealClock, Signal, Signals};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::metrics::{self, Metrics, Success};
use crate::telemetry::sd::{self, Part, Progress};
use crate::telemetry::webhook::Webhook;

use tokio::sync::watch;

pub use stacks::{StacksError, read as read_stacks};

/// Longest time for desks to finish their turns. The unit's `TimeoutStopSec` leaves time behind it to close the store.
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// When code that is rarely used is handed back: once the first rounds are over, and from then on every hour, because
/// each time costs some thousand page faults.
const HAND_BACK: (Duration, Duration) = (Duration::from_secs(75), Duration::from_hours(1));

/// Why the daemon does not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Stacks(#[from] StacksError),
    #[error("{what}")]
    Start {
        what: String,
        /// What to do about it; empty where the cause says all.
        hint: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whether something was written is not known; the next start reads what is there.
    #[error("the engine stopped")]
    Engine(#[from] EngineError),
}

fn cannot<E: std::error::Error + Send + Sync + 'static>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> ServiceError {
    let what = what.into();
    move |source| ServiceError::Start {
        what,
        hint: String::new(),
        source: Box::new(source),
    }
}

/// As [`cannot`], with what to do about it.
fn cannot_but<E: std::error::Error + Send + Sync + 'static>(
    what: String,
    hint: &'static str,
) -> impl FnOnce(E) -> ServiceError {
    move |source| ServiceError::Start {
        what,
        hint: hint.to_owned(),
        source: Box::new(source),
    }
}

impl ServiceError {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Config(_) | Self::Stacks(_) => "`healerd check-config` shows all of it",
            Self::Start { hint, .. } => hint,
            Self::Engine(_) => "`journalctl -u healerd` shows what came before",
        }
    }
}

/// Everything that a start reads from files, checked whole.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub catalogue: Catalogue,
    pub warnings: Vec<config::Warning>,
}

/// Reads configuration and stack files.
///
/// # Errors
/// Every mistake in them.
pub fn load(paths: &Paths) -> Result<Loaded, ServiceError> {
    let catalogue = stacks::read(&paths.stacks_dir, paths.daemon_uid)?;
    let names: BTreeSet<_> = catalogue.stacks().map(|stack| stack.name.clone()).collect();
    let (settings, warnings) = config::load(paths, &config::environment(), Some(&names))?;
    Ok(Loaded {
        settings,
        catalogue,
        warnings,
    })
}

/// Why a start would refuse the folders that the configuration names, as far as that can be told without making them.
pub fn unfit(paths: &Paths, settings: &Settings) -> Vec<String> {
    let vault = settings.daemon.state_dir.join("vault");
    let refusal = place_of(paths, settings, paths.daemon_uid).refusal(&vault);
    let vault = refusal.map(|why| {
        format!(
            "the vault {} would be refused: {why}; set [daemon] state_dir to a folder that only the daemon's user can write",
            vault.display()
        )
    });
    let state = crate::record::store::unfit(&settings.daemon.state_dir, paths.daemon_uid);
    vault.into_iter().chain(state).collect()
}

fn place_of(paths: &Paths, settings: &Settings, owner: u32) -> Place {
    Place {
        owner,
        web_roots: settings
            .apps
            .values()
            .filter(|app| app.host == HostName::local())
            .map(|app| PathBuf::from(&app.target.root))
            .collect(),
        allow_temp: paths.temporary_state,
    }
}

/// Runs until a signal or a failure that ends the daemon.
///
/// # Errors
/// Why it did not start, or had to end.
pub async fn run(paths: Paths) -> Result<(), ServiceError> {
    let loaded = load(&paths)?;
    warn_all(&loaded.warnings);
    let settings = Arc::new(loaded.settings);
    let metrics = Arc::new(Metrics::new().map_err(cannot("metrics cannot be made"))?);
    let progress = Arc::new(Progress::new());
    let clock: Arc<dyn Clock> =
        Arc::new(RealClock::new().map_err(cannot("the clocks cannot be read"))?);
    let mut signals = Signals::new().map_err(cannot("signals cannot be taken"))?;
    let moved = Arc::clone(&progress);
    let answered: Arc<dyn Fn() + Send + Sync> = Arc::new(move || moved.advance(Part::Scheduler));
    let world = world(&paths, &settings, Arc::clone(&clock), Arc::clone(&answered)).await?;
    let remotes: Arc<dyn Remotes> = Arc::new(SshRemotes::new(SshLaunch {
        agents: agents(),
        owner: world.owner.clone(),
        answered,
        clock: Arc::clone(&clock),
        random: Arc::clone(&world.random),
        pacer: Arc::default(),
    }));
    let notifier = notifier(&settings)?;

    let pulse = match CronPulse::start().await {
        Ok(pulse) => Some(Arc::new(pulse) as Arc<dyn crate::seam::Pulse>),
        Err(error) => {
            tracing::warn!(reason = %error, "no pulse; the engine's own timer does it all");
            None
        }
    };
    let outside = Outside {
        pulse,
        remotes: Some(remotes),
        notices: notifier
            .clone()
            .map(|notifier| (notifier, settings.notify.repeat)),
        metrics: Arc::clone(&metrics),
        progress: Arc::clone(&progress),
    };
    let setup = setup(&settings, loaded.catalogue);
    let (mut engine, mut fatal) = Engine::start(Arc::clone(&world), &setup, outside).await?;
    metrics.set_start(clock.now().wall_ms);

    let mut helpers = Vec::new();
    if let Some(address) = settings.metrics.listen {
        let listener = metrics::bind(address).await.map_err(cannot_but(
            format!("metrics cannot be served on {address}"),
            "end what listens there, or set [metrics] listen to another address",
        ))?;
        helpers.push(tokio::spawn(drop_result(metrics::serve(
            listener,
            Metrics::clone(&metrics),
        ))));
    }
    let path = &settings.control.socket;
    let socket = control::bind(path, settings.control.group)
        .await
        .map_err(cannot_but(
            format!("the control socket {} cannot be opened", path.display()),
            "see that no other daemon runs and that its folder can be made, or set [control] socket",
        ))?;
    let (access, latest_access) = watch::channel(Arc::new(Access::of(&settings)));
    let (text, moved) = (Arc::clone(&metrics), Arc::clone(&progress));
    let state = ControlState {
        backend: Arc::new(engine.handle()),
        access: latest_access,
        metrics_text: Arc::new(move || text.text().unwrap_or_default()),
        notifier_test: notifier_test(notifier, Arc::clone(&clock)),
        progress: Arc::new(move || moved.advance(Part::Socket)),
        started: clock.now(),
    };
    let (close, mut closed) = watch::channel(false);
    let server = tokio::spawn(control::serve(socket, state, async move {
        drop(closed.wait_for(|closed| *closed).await); // the sender lives as long as the daemon
    }));
    if let Some(heartbeat) = &settings.heartbeat {
        let beat = Heartbeat::new(heartbeat.url.reveal())
            .map_err(cannot("the heartbeat cannot be set up"))?;
        let (clock, progress, every) = (Arc::clone(&clock), Arc::clone(&progress), heartbeat.every);
        helpers.push(tokio::spawn(async move {
            beat.run(clock.as_ref(), &progress, every).await;
        }));
    }
    if let Some(interval) = sd::watchdog_interval() {
        let (clock, progress) = (Arc::clone(&clock), Arc::clone(&progress));
        helpers.push(tokio::spawn(async move {
            sd::feed_watchdog(clock.as_ref(), &progress, interval).await;
        }));
    }
    helpers.push(tokio::spawn(hand_back_memory(Arc::clone(&clock))));
    let status = |count: usize| format!("watching {}", counted(count as u64, "application"));
    sd::ready(&status(setup.apps.len()));
    tracing::info!(apps = setup.apps.len(), "daemon ready");

    let mut ended = Ok(());
    let mut present = Arc::clone(&settings);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => {
                    sd::reloading();
                    match reload(&paths, &present, &mut engine, &access).await {
                        Ok(new) => {
                            metrics.reloaded(Success::Ok);
                            present = new;
                        }
                        Err(error @ ServiceError::Engine(_)) => {
                            ended = Err(error);
                            break;
                        }
                        Err(error) => {
                            metrics.reloaded(Success::Failed);
                            log_refusal(&error);
                        }
                    }
                    sd::ready(&status(present.apps.len()));
                }
            },
            error = fatal.recv() => {
                if let Some(error) = error {
                    ended = Err(error.into());
                }
                break;
            }
        }
    }
    sd::stopping("finishing what is under way");
    tracing::info!("daemon stopping");
    close.send_replace(true);
    if tokio::time::timeout(STOP_WITHIN, engine.stop())
        .await
        .is_err()
    {
        tracing::warn!("desks did not finish in time; the next start goes on from the store");
    }
    for helper in helpers {
        helper.abort();
    }
    server.abort();
    world.store.close().await;
    tracing::info!("healerd has stopped");
    ended
}

/// Now and then takes away from this process what it does not use.
async fn hand_back_memory(clock: Arc<dyn Clock>) {
    let mut wait = HAND_BACK.0;
    loop {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let next_ms = clock.now().boot_ms.saturating_add(wait_ms);
        clock.sleep_until(next_ms).await;
        system::hand_back_program();
        system::hand_back_free();
        wait = HAND_BACK.1;
    }
}

/// Where static agents for other machines lie: in the package's folder, or in `agents/` beside the folder of a program
/// that was built by hand, which whoever can change it could change as well.
fn agents() -> AgentFiles {
    let mut files = AgentFiles::default();
    let built = std::env::current_exe().ok();
    let beside = built
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent);
    files
        .directories
        .extend(beside.map(|folder| folder.join("agents")));
    files
}

/// Each warning is a record of its own: a record is one line.
fn warn_all(warnings: &[config::Warning]) {
    for warning in warnings {
        let (reason, hint) = warning.0.lines();
        tracing::warn!(%reason, hint, "configuration warning");
    }
}

/// Logs why a configuration is not taken: one record for each thing that is wrong, so that every one can be read.
pub fn log_refusal(error: &ServiceError) {
    match error {
        ServiceError::Config(errors) => {
            for problem in &errors.0 {
                let (reason, hint) = problem.lines();
                tracing::error!(%reason, hint, "configuration refused");
            }
        }
        ServiceError::Stacks(_) | ServiceError::Start { .. } | ServiceError::Engine(_) => {
            for reason in chain(error).lines().filter(|line| !line.is_empty()) {
                tracing::error!(reason = reason.trim(), "configuration refused");
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

async fn drop_result<E: std::fmt::Display>(work: impl Future<Output = Result<(), E>>) {
    if let Err(error) = work.await {
        tracing::error!(reason = %error, "a server of the daemon ended");
    }
}

/// Checks the new configuration whole, then swaps; a bad one changes nothing.
async fn reload(
    paths: &Paths,
    present: &Settings,
    engine: &mut Engine,
    access: &watch::Sender<Arc<Access>>,
) -> Result<Arc<Settings>, ServiceError> {
    let loaded = load(paths)?;
    warn_all(&loaded.warnings);
    for key in present.needs_restart(&loaded.settings) {
        tracing::warn!(
            setting = key,
            "this setting takes effect at the next restart"
        );
    }
    let settings = Arc::new(loaded.settings);
    engine.reload(&setup(&settings, loaded.catalogue)).await?;
    access.send_replace(Arc::new(Access::of(&settings)));
    tracing::info!(apps = settings.apps.len(), "configuration reloaded");
    Ok(settings)
}

fn setup(settings: &Settings, catalogue: Catalogue) -> Setup {
    let volatile = |app: &crate::model::app::App| {
        let mut app = app.clone();
        if let Some(stack) = catalogue.get(&app.stack) {
            app.target
                .volatile
                .extend(stack.volatile.iter().chain(&stack.shared).cloned());
        }
        Arc::new(app)
    };
    Setup {
        apps: settings
            .apps
            .iter()
            .map(|(name, app)| (name.clone(), volatile(app)))
            .collect(),
        check_every: settings.check_every.clone(),
        modes: Modes {
            mode: settings.policy.mode,
            max_mode: settings.policy.max_mode,
            is_own: true,
        },
        catalogue: Arc::new(catalogue),
        hosts: settings.hosts.clone(),
    }
}

/// The real side of every seam.
async fn world(
    paths: &Paths,
    settings: &Settings,
    clock: Arc<dyn Clock>,
    answered: Arc<dyn Fn() + Send + Sync>,
) -> Result<Arc<World>, ServiceError> {
    let random: Arc<dyn Randomness> = Arc::new(OsRandom);
    let dir = &settings.daemon.state_dir;
    let now = clock.now();
    let limits = Limits {
        history_of_guards: settings.policy.rate.window.max(Duration::from_hours(24)),
        notice_repeat: settings.notify.repeat,
        ..Limits::default()
    };
    let store = SqliteStore::open_with(dir, &now, limits)
        .await
        .map_err(|error| ServiceError::Start {
            what: "the state cannot be opened".to_owned(),
            hint: error.advice(),
            source: Box::new(error),
        })?;
    let store: Arc<dyn Store> = Arc::new(store);
    let vault_dir = dir.join("vault");
    let place = place_of(paths, settings, rustix::process::geteuid().as_raw());
    let vault = DirVault::open(&vault_dir, &place).map_err(cannot_but(
        format!("the vault {} cannot be opened", vault_dir.display()),
        "`healerd check-config` says what its folder must be",
    ))?;
    let restart = store
        .restart()
        .await
        .map_err(cannot("the stored state cannot be read"))?;
    let owner = owner(store.as_ref(), &restart.settings, random.as_ref(), &now).await?;
    let name = HostName::local();
    let launch = Launch {
        program: PathBuf::from("/proc/self/exe"),
        arguments: vec!["agent".to_owned()],
        state: dir.join("agents"),
        allow: Some(settings.daemon.agent_allow.clone()),
        groups: groups_of(paths.passwd.clone(), paths.group.clone()),
        answered,
        owner: owner.clone(),
    };
    let local: Arc<dyn Host> = Arc::new(LocalHost::new(name.clone(), launch));
    Ok(Arc::new(World {
        clock,
        random,
        hosts: [(name, local)].into(),
        store,
        vault: Arc::new(vault),
        owner,
        ids: Mutex::new(IdMaker::after(restart.last_id)),
    }))
}

/// The installation's own name, made once.
async fn owner(
    store: &dyn Store,
    settings: &[(String, String)],
    random: &dyn Randomness,
    now: &Moment,
) -> Result<String, ServiceError> {
    if let Some((_, owner)) = settings.iter().find(|(key, _)| key == "owner") {
        return Ok(owner.clone());
    }
    let owner = format!("healerd-{:016x}{:016x}", random.next(), random.next());
    let changes = Changes::new(now.clone(), "healerd")
        .write(Write::Setting {
            key: "owner".to_owned(),
            value: owner.clone(),
        })
        .audit("installed", "daemon", serde_json::json!({"owner": owner}));
    store
        .apply(changes)
        .await
        .map_err(cannot("the installation's name cannot be stored"))?;
    Ok(owner)
}

/// Supplementary groups of a user, read when an agent of his is started.
fn groups_of(passwd: PathBuf, group: PathBuf) -> Arc<dyn Fn(u32) -> Vec<u32> + Send + Sync> {
    Arc::new(move |uid| {
        let Ok(users) = Users::read(&passwd, &group) else {
            return Vec::new();
        };
        users
            .name_of(uid)
            .map(|name| users.groups_of(name))
            .unwrap_or_default()
    })
}

fn notifier(settings: &Settings) -> Result<Option<Arc<dyn Notifier>>, ServiceError> {
    let Some(webhook) = &settings.notify.webhook else {
        return Ok(None);
    };
    let secret = webhook.secret.as_ref().map(config::Secret::reveal);
    let webhook = Webhook::new(webhook.url.reveal(), secret, webhook.timeout)
        .map_err(cannot("the webhook cannot be set up"))?;
    Ok(Some(Arc::new(webhook)))
}

/// Sends a notice that says it is a test.
fn notifier_test(notifier: Option<Arc<dyn Notifier>>, clock: Arc<dyn Clock>) -> NotifierTest {
    Arc::new(move || {
        let (notifier, at) = (notifier.clone(), clock.now());
        Box::pin(async move {
            let notifier = notifier.ok_or("no notifier is configured; add `[notify.webhook]`")?;
            let notice = Notice {
                event: "test".to_owned(),
                app: None,
                host: None,
                title: "healerd: a test notice".to_owned(),
                text: "Somebody asked for it; nothing happened.".to_owned(),
                key: format!("test:{}", at.wall_ms),
                at,
            };
            notifier
                .send(&notice)
                .await
                .map_err(|error| error.to_string())?;
            Ok("the notice was delivered".to_owned())
        })
    })
}

/// The folder of a configuration file: everything else lies beside it.
pub fn paths_of(file: &Path) -> Paths {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Paths {
        file: file.to_owned(),
        ..Paths::below(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_ends_well_before_systemd_ends_it() {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/healerd.service");
        let unit = std::fs::read_to_string(unit).unwrap();
        let stop = unit
            .lines()
            .find_map(|line| line.strip_prefix("TimeoutStopSec="))
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs)
            .expect("the unit says it in seconds");
        assert!(STOP_WITHIN + Duration::from_secs(10) <= stop, "{stop:?}");
    }
}
