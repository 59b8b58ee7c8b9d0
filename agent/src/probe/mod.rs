//! Reading facts from this host: one round carries every probe of every check.
//!
//! [`spec`] says what can be asked. [`round`] evaluates each check's graph of probes: references between them are
//! filled in here, on the host, so that a port read from a `.env` costs no second round trip and a secret never
//! leaves. Equal probes run once. A probe that hangs delays its own check; at the deadline what did not finish is
//! unknown.
//!
//! Nothing here decides what a fact means, writes anything, or starts a long-lived process.

mod access;
mod bisect;
mod deadline;
mod env;
mod env_text;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod file;
mod found;
mod graph;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod http;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod http_text;
mod http_url;
mod json;
pub mod known;
mod log;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod mysql;
mod npm;
mod params;
mod php_constants;
mod php_log;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of tokens only those are named that mean something here; all others are plain text"
)]
mod php_text;
mod place;
mod pm2;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod port;
mod process;
mod procfs;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of errors, files and addresses are the system's; a new one is like any other"
)]
mod program;
mod reference;
mod socket;
pub mod spec;
mod system;
mod tls;
mod tree;
mod unit;
mod validate;
mod wp_core;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub use deadline::{Deadline, boot_now};

use crate::protocol::{CheckFacts, CheckProbes, Refusal, RefusalCode, Target};
use found::Found;
use graph::Asked;
use place::Place;
use spec::{Fact, Probe};

/// Checks that run side by side.
const THREADS_MAX: usize = 8;
/// Threads of this process that may hang in the kernel (a dead network mount) before rounds are refused.
const HANGING_MAX: usize = 64;
/// What all facts of a round may weigh, so that the answer fits into one frame.
const ROUND_BYTES_MAX: usize = 900 << 10;
/// How often a waiting round looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Threads of rounds that still run, in the whole process.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// What every probe of a round shares.
#[derive(Debug)]
struct Context {
    target: Target,
    place: Place,
    deadline: Deadline,
    cancelled: AtomicBool,
}

impl Context {
    /// Has the round ended, one way or the other?
    fn stopped(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.deadline.passed()
    }

    /// The earlier one of the round's end and a probe's own limit.
    fn within(&self, limit: Duration) -> Deadline {
        self.deadline.within(limit)
    }
}

/// Results of equal probes, by kind and final parameters.
type Shared = Mutex<BTreeMap<String, Arc<OnceLock<Found>>>>;

/// Counts a thread as running as long as it lives, also when it panics.
struct Running;

impl Running {
    fn start() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Evaluates every check's probes; answers the real directories and the facts, in the order of `checks`.
///
/// Returns at the deadline at the latest, or shortly after `cancel` is set; what did not finish is unknown then.
///
/// # Errors
/// When a root cannot be opened, the round is cancelled, or too many earlier probes still hang in the kernel.
pub fn round(
    target: &Target,
    checks: &[CheckProbes],
    deadline: Deadline,
    cancel: &AtomicBool,
) -> Result<(Vec<String>, Vec<CheckFacts>), Refusal> {
    if RUNNING.load(Ordering::Relaxed) >= HANGING_MAX {
        return Err(Refusal {
            code: RefusalCode::Limit,
            message: format!("{HANGING_MAX} earlier probes still hang on this host"),
        });
    }
    let place = Place::open(target)?;
    let roots = place.real();
    let context = Arc::new(Context {
        target: target.clone(),
        place,
        deadline,
        cancelled: AtomicBool::new(false),
    });
    let mut results: Vec<Option<CheckFacts>> = Vec::new();
    results.resize_with(checks.len(), || None);
    let todo = Arc::new(Mutex::new(
        checks
            .iter()
            .cloned()
            .enumerate()
            .rev()
            .collect::<Vec<(usize, CheckProbes)>>(),
    ));
    let shared = Arc::new(Shared::default());
    let (send, receive) = channel();
    for _ in 0..THREADS_MAX.min(checks.len()) {
        let (context, todo, shared, send) =
            (context.clone(), todo.clone(), shared.clone(), send.clone());
        let work = move || {
            let _running = Running::start();
            loop {
                let next = todo.lock().ok().and_then(|mut todo| todo.pop());
                let Some((at, check)) = next else { break };
                if context.stopped() || send.send((at, one(&context, &shared, &check))).is_err() {
                    break;
                }
            }
        };
        // Without a thread the check stays undone and is reported as such.
        if std::thread::Builder::new()
            .name("probe".to_owned())
            .spawn(work)
            .is_err()
        {
            break;
        }
    }
    drop(send);
    let mut open = checks.len();
    while open > 0 {
        if cancel.load(Ordering::Relaxed) {
            context.cancelled.store(true, Ordering::Relaxed);
            return Err(Refusal {
                code: RefusalCode::Limit,
                message: "the round was cancelled".to_owned(),
            });
        }
        let left = deadline.left();
        match receive.recv_timeout(left.min(LOOK)) {
            Ok((at, facts)) => {
                if let Some(slot) = results.get_mut(at) {
                    *slot = Some(facts);
                    open -= 1;
                }
            }
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    context.cancelled.store(true, Ordering::Relaxed);
    let reason = if deadline.passed() {
        "deadline"
    } else {
        "the probe ended without an answer"
    };
    let mut facts: Vec<CheckFacts> = results
        .into_iter()
        .zip(checks)
        .map(|(result, check)| result.unwrap_or_else(|| unfinished(check, reason)))
        .collect();
    fit(&mut facts);
    Ok((roots, facts))
}

/// Every fact of a check that gave no answer.
fn unfinished(check: &CheckProbes, reason: &str) -> CheckFacts {
    CheckFacts {
        check: check.check.clone(),
        probes: check
            .probes
            .iter()
            .map(|(name, value)| {
                let kind = graph::asked(value).map_or_else(|_| String::new(), |asked| asked.kind);
                (name.clone(), Found::unknown(&kind, reason).facts)
            })
            .collect(),
        time_us: 0,
    }
}

/// Takes out the heaviest facts until the answer fits into a frame.
fn fit(checks: &mut [CheckFacts]) {
    let mut weights = Vec::new();
    let mut total = 0;
    for (at, check) in checks.iter().enumerate() {
        for (name, facts) in &check.probes {
            for (fact, value) in facts {
                let weight = found::weight(value) + fact.len();
                total += weight;
                weights.push((weight, at, name.clone(), fact.clone()));
            }
        }
    }
    weights.sort_by(|a, b| b.cmp(a));
    for (weight, at, name, fact) in weights {
        if total <= ROUND_BYTES_MAX {
            break;
        }
        let facts = checks
            .get_mut(at)
            .and_then(|check| check.probes.get_mut(&name));
        if let Some(value) = facts.and_then(|facts| facts.get_mut(&fact)) {
            *value = Fact::Unknown("the round's answer would be too large".to_owned());
            total = total.saturating_sub(weight.saturating_sub(100));
        }
    }
}

/// Evaluates the probes of one check.
fn one(context: &Context, shared: &Shared, check: &CheckProbes) -> CheckFacts {
    let start = boot_now();
    let mut found = BTreeMap::new();
    let mut probes = BTreeMap::new();
    for (name, value) in &check.probes {
        match graph::asked(value) {
            Ok(asked) => _ = probes.insert(name.clone(), asked),
            Err(reason) => _ = found.insert(name.clone(), Found::unknown("", &reason)),
        }
    }
    for (name, reason) in graph::order(&probes) {
        let Some(asked) = probes.get(&name) else {
            continue;
        };
        let facts = match reason {
            Some(reason) => Found::unknown(&asked.kind, &reason),
            None if context.stopped() => Found::unknown(&asked.kind, "deadline"),
            None => ask(context, shared, asked, &found),
        };
        found.insert(name, facts);
    }
    let secrets: Vec<String> = found
        .values()
        .flat_map(Found::named_secrets)
        .map(str::to_owned)
        .collect();
    CheckFacts {
        check: check.check.clone(),
        probes: found
            .into_iter()
            .map(|(name, mut found)| {
                found.redact(&secrets);
                (name, found.facts)
            })
            .collect(),
        time_us: u64::try_from(boot_now().saturating_sub(start).as_micros()).unwrap_or(u64::MAX),
    }
}

/// Fills in one probe's references, and runs it unless an equal one did.
fn ask(
    context: &Context,
    shared: &Shared,
    asked: &Asked,
    found: &BTreeMap<String, Found>,
) -> Found {
    let unknown = |reason: &str| Found::unknown(&asked.kind, reason);
    let resolved = match graph::resolve(&asked.params, found) {
        Ok(resolved) => resolved,
        Err(reason) => return unknown(&reason),
    };
    let mut answer = match validate::read(&asked.kind, &resolved.params) {
        Err(reason) => unknown(&reason),
        Ok(probe) if !resolved.secrets.is_empty() && shows_arguments(&probe) => {
            unknown("a secret cannot be put on a command line")
        }
        Ok(probe) => {
            let key = format!("{} {}", asked.kind, resolved.params);
            let cell = match shared.lock() {
                Ok(mut shared) => shared.entry(key).or_default().clone(),
                Err(_) => Arc::default(),
            };
            cell.get_or_init(|| run(context, &probe)).clone()
        }
    };
    answer.redact(&resolved.secrets);
    answer
}

/// Would its parameters be seen by every user of the host?
fn shows_arguments(probe: &Probe) -> bool {
    matches!(
        probe,
        Probe::Program { .. } | Probe::Bisect(_) | Probe::Pm2 { .. } | Probe::Unit { .. }
    )
}

/// Runs one probe with final parameters.
fn run(context: &Context, probe: &Probe) -> Found {
    match probe {
        Probe::Http(probe) => http::probe(context, probe),
        Probe::File { path, parse } => file::probe(context, path, *parse),
        Probe::Tree { paths, entries_max } => tree::probe(context, paths, *entries_max),
        Probe::Access {
            paths,
            want,
            recursive,
            entries_max,
        } => access::access(context, paths, *want, *recursive, *entries_max),
        Probe::Mode {
            paths,
            forbid,
            need,
            recursive,
            entries_max,
        } => {
            let bits = (forbid.as_deref(), need.as_deref());
            access::mode(context, paths, bits, *recursive, *entries_max)
        }
        Probe::Env {
            path,
            dialect,
            reveal,
            need,
        } => env::probe(context, path, *dialect, reveal, need),
        Probe::Json { path, pick } => json::probe(context, path, pick),
        Probe::NpmLock { path } => npm::probe(context, path),
        Probe::Process {
            any,
            except,
            below_root,
        } => process::probe(context, any, except, *below_root),
        Probe::Port { port, address } => port::probe(context, port, address.as_deref()),
        Probe::Pm2 { home, timeout } => pm2::probe(context, home.as_deref(), timeout),
        Probe::Unit { name } => unit::probe(context, name),
        Probe::Disk { path } => system::disk(context, path),
        Probe::Memory {} => system::memory(),
        Probe::Log { path, tail, count } => log::probe(context, path, tail, count),
        Probe::PhpConstants(probe) => php_constants::probe(context, probe),
        Probe::WpCore { path } => wp_core::probe(context, path),
        Probe::Mysql {
            host,
            when: _,
            timeout,
        } => mysql::probe(context, host, timeout),
        Probe::PhpLog { path, tail, below } => php_log::probe(context, path, tail, below),
        Probe::Bisect(probe) => bisect::probe(context, probe),
        Probe::Program {
            argv,
            timeout,
            output,
        } => program::probe(context, argv, timeout, *output),
    }
}
