//! Hosts by SSH as the engine asks for them: opened by name, scanned for enrolment, examined for a person.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::dial::{self, Route};
use super::error::SshError;
use super::keys::{self, Credentials};
use super::pins::fingerprint;
use super::pool::Pool;
use super::{SshHost, SshLaunch, examine as steps};
use crate::model::host::{Finding, Found, OfferedKey, SshSettings};
use crate::model::name::HostName;
use crate::seam::{BoxFuture, Host, HostError, Remotes};

/// Makes hosts that are reached by SSH.
pub struct SshRemotes {
    launch: SshLaunch,
    /// What was opened last under each name, so that a person who examines a host need not wait for its patience.
    opened: Mutex<BTreeMap<HostName, Weak<Pool>>>,
}

impl std::fmt::Debug for SshRemotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshRemotes")
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}

impl SshRemotes {
    /// All hosts that it makes share `launch`.
    pub fn new(launch: SshLaunch) -> Self {
        Self {
            launch,
            opened: Mutex::default(),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostName, Weak<Pool>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remotes for SshRemotes {
    fn open(&self, name: &HostName, settings: &SshSettings) -> Arc<dyn Host> {
        let host = SshHost::new(name.clone(), settings.clone(), self.launch.clone());
        let mut opened = self.opened();
        opened.retain(|_, pool| pool.strong_count() > 0);
        opened.insert(name.clone(), Arc::downgrade(&host.pool));
        Arc::new(host)
    }

    fn scan<'a>(
        &'a self,
        name: &'a HostName,
        settings: &'a SshSettings,
    ) -> BoxFuture<'a, Result<OfferedKey, HostError>> {
        Box::pin(async move {
            let keys = scan(settings, &self.launch).await;
            let keys = keys.map_err(|error| told(name, &error))?;
            let first = keys.into_iter().next();
            first.ok_or_else(|| HostError::Unreachable {
                host: name.clone(),
                reason: "it offered no host key".to_owned(),
            })
        })
    }

    fn examine<'a>(
        &'a self,
        name: &'a HostName,
        settings: &'a SshSettings,
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            if let Some(pool) = self.opened().get(name).and_then(Weak::upgrade) {
                pool.forgive();
            }
            examine(settings, &self.launch).await
        })
    }

    fn public_keys(&self, settings: &SshSettings) -> Vec<String> {
        keys::public_halves(settings)
    }
}

/// The error that the seam has for it.
pub(super) fn told(host: &HostName, error: &SshError) -> HostError {
    let (host, reason) = (host.clone(), error.to_string());
    if error.is_doubt() {
        HostError::Untrusted { host, reason }
    } else if error.is_not_ours() {
        HostError::NotOurs { host, reason }
    } else {
        HostError::Unreachable { host, reason }
    }
}

/// Asks a host for its keys, without any login there; its jumps are logged in to, with their own pins. The one to pin
/// comes first.
///
/// # Errors
/// When it cannot be reached, or has no key that can be used.
pub async fn scan(settings: &SshSettings, launch: &SshLaunch) -> Result<Vec<OfferedKey>, SshError> {
    let credentials = if settings.jumps.is_empty() {
        Credentials::default()
    } else {
        Credentials::load(settings, launch.clock.now().wall_ms)?
    };
    let keys = dial::offered(route(settings, launch, &credentials)).await?;
    Ok(keys
        .into_iter()
        .filter_map(|key| {
            Some(OfferedKey {
                key: key.to_openssh().ok()?,
                fingerprint: fingerprint(&key),
            })
        })
        .collect())
}

fn route<'a>(
    settings: &'a SshSettings,
    launch: &'a SshLaunch,
    credentials: &'a Credentials,
) -> Route<'a> {
    Route {
        jumps: &settings.jumps,
        target: &settings.target,
        credentials,
        pacer: &launch.pacer,
        within: settings.connect_within,
    }
}

/// Own keys, the way there, and the host key; ends with the first thing that is wrong.
async fn examine(settings: &SshSettings, launch: &SshLaunch) -> Vec<Finding> {
    let finding = |step: &str, found, text: String| Finding {
        step: step.to_owned(),
        found,
        text,
        lines: String::new(),
    };
    let credentials = match Credentials::load(settings, launch.clock.now().wall_ms) {
        Ok(credentials) => credentials,
        Err(error) => return vec![finding("own keys", Found::Wrong, error.to_string())],
    };
    let agent = if credentials.agent.is_some() {
        ", and what the ssh-agent holds"
    } else {
        ""
    };
    let mut own = finding(
        "own keys",
        Found::Fine,
        format!(
            "{} to offer{agent}; authorized_keys there needs it",
            credentials.offers.len()
        ),
    );
    own.lines = keys::public_halves(settings).join("\n");
    let mut list = vec![own];
    list.extend(steps::way(settings).await);
    if list.iter().any(|step| step.found == Found::Wrong) {
        return list;
    }
    let shown = dial::shown(route(settings, launch, &credentials)).await;
    list.push(match shown {
        Ok(key) => finding(
            "host key",
            Found::Fine,
            format!("{} shows the pinned {key}", settings.target.address),
        ),
        Err(error) => {
            let step = if error.is_doubt() { "host key" } else { "way" };
            finding(step, Found::Wrong, error.to_string())
        }
    });
    list
}
