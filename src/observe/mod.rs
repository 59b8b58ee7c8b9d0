//! One round of checks for one app: one request to its agent, facts back, results by the stack's rules.
//!
//! It decides nothing and stores nothing. A host that cannot be seen is told as such; it never makes a check bad.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use healer_agent::probe::known::KnownSettings;
use healer_agent::protocol::{Answer, CheckProbes, Request};

use crate::catalogue::{Check, Stack};
use crate::model::Fact;
use crate::model::app::App;
use crate::model::check::Round;
use crate::seam::{Call, HostError, Lane, Login, World};

/// The fact's name.
const KNOWN_GOOD: &str = "known_good";

/// May a round start the application to see what becomes of it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starting {
    Allowed,
    Spared,
}

/// What there is of healthy days.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// When the newest snapshot was taken, and the files that it holds. `None`: there is none.
    pub files: Option<Result<(String, BTreeSet<String>), String>>,
    /// What its files said, by path.
    pub settings: BTreeMap<String, KnownSettings>,
}

impl Known {
    /// The fact of one file: when the snapshot that holds it was taken.
    fn fact(&self, path: &str) -> Fact {
        match &self.files {
            Some(Ok((taken, files))) if files.contains(path) => Fact::Text(taken.clone()),
            Some(Ok(_)) | None => Fact::Absent,
            Some(Err(reason)) => Fact::Unknown(reason.clone()),
        }
    }
}

/// What a round rests on besides the stack.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub starting: Starting,
    /// The known-good snapshot, for checks that compare with it.
    pub known: &'a Known,
    pub timeout: Duration,
}

/// Why there is no round.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObserveError {
    #[error("host `{0}` is not in the configuration")]
    NoHost(String),
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Makes one round.
///
/// # Errors
/// When the host cannot be seen or answers nonsense.
pub async fn round(
    world: &World,
    app: &App,
    stack: &Stack,
    which: &(dyn Fn(&Check) -> bool + Sync),
    asked: &Asked<'_>,
) -> Result<Round, ObserveError> {
    let host = world
        .hosts
        .get(&app.host)
        .ok_or_else(|| ObserveError::NoHost(app.host.to_string()))?;
    let mut checks = stack.probes(app, which);
    if asked.starting == Starting::Spared {
        stack.spare(&mut checks);
    }
    checks
        .iter_mut()
        .flat_map(|check| check.probes.values_mut())
        .for_each(|probe| compare(probe, &asked.known.settings));
    let known = known_facts(&checks, asked.known);
    let timeout = asked.timeout;
    // The agent gives up a little before we do, so that what it has found arrives.
    let deadline_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let call = Call {
        login: Login::of_app(app),
        lane: Lane::Check,
        request: Request::Round {
            target: app.target.clone(),
            checks,
            deadline_ms,
        },
        body: Vec::new(),
        timeout: timeout + Duration::from_secs(5),
    };
    let Answer::Round { roots, mut checks } = host.call(call).await?.answer else {
        return Err(HostError::Protocol {
            host: app.host.clone(),
        }
        .into());
    };
    for check in &mut checks {
        for (name, facts) in &mut check.probes {
            if let Some(fact) = known.get(&(check.check.clone(), name.clone())) {
                facts.insert(KNOWN_GOOD.to_owned(), fact.clone());
            }
        }
    }
    let results = stack.evaluate(app, which, &checks);
    Ok(Round { results, roots })
}

/// The fact that only the daemon can tell, by check and probe: of every file that is looked at by its path.
fn known_facts(checks: &[CheckProbes], known: &Known) -> BTreeMap<(String, String), Fact> {
    let mut facts = BTreeMap::new();
    for check in checks {
        for (name, probe) in &check.probes {
            let params = ["file", "env"].iter().find_map(|kind| probe.get(*kind));
            if let Some(path) = params.and_then(|params| params.get("path")?.as_str()) {
                facts.insert((check.check.clone(), name.clone()), known.fact(path));
            }
        }
    }
    facts
}

/// Adds what a file said in healthy days to a probe that asks what has changed since.
fn compare(probe: &mut serde_json::Value, known: &BTreeMap<String, KnownSettings>) {
    let Some(params) = probe
        .get_mut("php_constants")
        .and_then(|params| params.as_object_mut())
    else {
        return;
    };
    let path = params.get("path").and_then(|path| path.as_str());
    let known = path.and_then(|path| known.get(path));
    let keys = params.get("unchanged").and_then(|keys| keys.as_array());
    let (Some(known), Some(keys)) = (known, keys) else {
        return;
    };
    // No digest goes to the host but those that are asked about: each could be guessed at there.
    let keys = keys.iter().filter_map(|key| key.as_str());
    let asked = KnownSettings {
        salt: known.salt.clone(),
        digests: keys
            .filter_map(|key| Some((key.to_owned(), known.digests.get(key)?.clone())))
            .collect(),
    };
    if let Ok(asked) = serde_json::to_value(asked) {
        params.insert("known".to_owned(), asked);
    }
}
