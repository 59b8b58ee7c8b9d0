//! Metrics: all names in one list, typed setters, text for Prometheus.
//!
//! Labels come from closed sets, from the types of the model. Only three families have a series per application; past
//! [`APPS_MAX`] of them the further ones are folded into `app="other"`, so that all families together stay below 5,000
//! series at any number of applications. A scrape reads atomics and never waits for the store or a host.

mod list;
mod serve;
mod set;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "promtool judges what is exposed")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, TextEncoder,
};

pub use list::{Description, HealEnd, Health, Kind, METRICS, Success, Trigger};
pub use serve::{bind, serve};

use crate::model::breaker::BreakerState;
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::name::AppName;
use crate::model::reason::GuardName;
use crate::model::word::{HealingMode, Status};

/// Applications with series of their own; three families of them leave room for all others below 5,000.
pub const APPS_MAX: usize = 1_000;

/// Where the applications past [`APPS_MAX`] are counted; an application of this very name is counted with them.
const OTHER: &str = "other";

/// From a fast check to the longest action.
const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Metrics that cannot be made: a mistake in the list above, found by every test.
#[derive(Debug, thiserror::Error)]
#[error("the metric `{name}` cannot be made: {reason}")]
pub struct MetricsError {
    name: &'static str,
    reason: String,
}

/// All metrics. Cheap to clone; every clone is the same set.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    counters: BTreeMap<&'static str, IntCounterVec>,
    gauges: BTreeMap<&'static str, GaugeVec>,
    histograms: BTreeMap<&'static str, Histogram>,
    apps: Mutex<Apps>,
}

/// Values per application, kept so that folding and forgetting are exact.
#[derive(Default)]
struct Apps {
    own: BTreeSet<AppName>,
    values: BTreeMap<&'static str, BTreeMap<AppName, u64>>,
    /// Sums over the applications without series of their own.
    other: BTreeMap<&'static str, u64>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All metrics at zero, closed label sets filled in, so that a rate over a first event is right.
    ///
    /// # Errors
    /// When the list holds a name twice or one that is none.
    pub fn new() -> Result<Self, MetricsError> {
        let mut inner = Inner {
            registry: Registry::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
            apps: Mutex::default(),
        };
        for metric in METRICS {
            let failed = |error: prometheus::Error| MetricsError {
                name: metric.name,
                reason: error.to_string(),
            };
            let collector: Box<dyn Collector> = match metric.kind {
                Kind::Counter => {
                    let made =
                        IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)
                            .map_err(failed)?;
                    inner.counters.insert(metric.name, made.clone());
                    Box::new(made)
                }
                Kind::Gauge => {
                    let made = GaugeVec::new(Opts::new(metric.name, metric.help), metric.labels)
                        .map_err(failed)?;
                    inner.gauges.insert(metric.name, made.clone());
                    Box::new(made)
                }
                Kind::Seconds => {
                    let options =
                        HistogramOpts::new(metric.name, metric.help).buckets(BUCKETS.to_vec());
                    let made = Histogram::with_opts(options).map_err(failed)?;
                    inner.histograms.insert(metric.name, made.clone());
                    Box::new(made)
                }
            };
            inner.registry.register(collector).map_err(failed)?;
        }
        let metrics = Self(Arc::new(inner));
        metrics.fill();
        Ok(metrics)
    }

    /// Every series of a closed set at zero.
    fn fill(&self) {
        self.set("healerd_build_info", &[env!("CARGO_PKG_VERSION")], 1.0);
        for metric in METRICS.iter().filter(|metric| metric.labels.is_empty()) {
            match metric.kind {
                Kind::Counter => self.add(metric.name, &[], 0),
                Kind::Gauge => self.set(metric.name, &[], 0.0),
                Kind::Seconds => {}
            }
        }
        for health in Health::ALL {
            self.set_apps(*health, 0);
        }
        for mode in HealingMode::ALL {
            self.set_apps_in_mode(*mode, 0);
        }
        for status in Status::ALL {
            self.add("healerd_check_runs_total", &[status.as_str()], 0);
        }
        for name in METRICS
            .iter()
            .filter(|metric| metric.labels == ["result"])
            .map(|metric| metric.name)
        {
            for result in Success::ALL {
                self.add(name, &[result.as_str()], 0);
            }
        }
        for state in IncidentState::ALL
            .iter()
            .filter(|state| **state != IncidentState::Closed)
        {
            self.set_incidents(*state, 0);
        }
        for kind in IncidentKind::ALL {
            self.add("healerd_incidents_opened_total", &[kind.as_str()], 0);
        }
        for trigger in Trigger::ALL {
            self.add("healerd_heals_started_total", &[trigger.as_str()], 0);
        }
        for end in HealEnd::ALL {
            self.add("healerd_heals_total", &[end.as_str()], 0);
        }
        for guard in GuardName::ALL {
            self.add("healerd_guard_denials_total", &[guard.as_str()], 0);
        }
        for state in BreakerState::ALL {
            self.set_breakers(*state, 0);
            for to in BreakerState::ALL.iter().filter(|to| *to != state) {
                self.add(
                    "healerd_breaker_transitions_total",
                    &[state.as_str(), to.as_str()],
                    0,
                );
            }
        }
    }

    fn set(&self, name: &'static str, labels: &[&str], value: f64) {
        if let Some(series) = self
            .0
            .gauges
            .get(name)
            .and_then(|family| family.get_metric_with_label_values(labels).ok())
        {
            series.set(value);
        }
    }

    fn reset(&self, name: &'static str) {
        if let Some(family) = self.0.gauges.get(name) {
            family.reset();
        }
    }

    fn add(&self, name: &'static str, labels: &[&str], count: u64) {
        if let Some(series) = self
            .0
            .counters
            .get(name)
            .and_then(|family| family.get_metric_with_label_values(labels).ok())
        {
            series.inc_by(count);
        }
    }

    fn time(&self, name: &'static str, duration: Duration) {
        if let Some(histogram) = self.0.histograms.get(name) {
            histogram.observe(duration.as_secs_f64());
        }
    }

    fn set_app(&self, name: &'static str, app: &AppName, value: u64) {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.own.len() < APPS_MAX && app.as_str() != OTHER && !apps.is_folded(app) {
            apps.own.insert(app.clone());
        }
        let own = apps.own.contains(app);
        let before = apps
            .values
            .entry(name)
            .or_default()
            .insert(app.clone(), value);
        if own {
            self.set(name, &[app.as_str()], number(value));
        } else {
            let sum = apps.other.entry(name).or_default();
            *sum = sum
                .saturating_sub(before.unwrap_or(0))
                .saturating_add(value);
            let sum = *sum;
            self.set(name, &[OTHER], number(sum));
        }
    }

    /// Forgets the series of applications that are configured no more.
    pub fn keep_apps(&self, configured: &BTreeSet<AppName>) {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<AppName> = apps
            .own
            .iter()
            .filter(|app| !configured.contains(*app))
            .cloned()
            .collect();
        apps.own.retain(|app| configured.contains(app));
        for values in apps.values.values_mut() {
            values.retain(|app, _| configured.contains(app));
        }
        let sums: BTreeMap<&'static str, Option<u64>> = apps
            .values
            .iter()
            .map(|(name, values)| {
                let mut folded = values
                    .iter()
                    .filter(|(app, _)| !apps.own.contains(*app))
                    .map(|(_, value)| *value)
                    .peekable();
                let sum = folded.peek().is_some().then(|| folded.sum());
                (*name, sum)
            })
            .collect();
        for (name, sum) in sums {
            let Some(family) = self.0.gauges.get(name) else {
                continue;
            };
            // An absent series is as good as a removed one.
            for app in &gone {
                drop(family.remove_label_values(&[app.as_str()]));
            }
            if let Some(sum) = sum {
                apps.other.insert(name, sum);
                self.set(name, &[OTHER], number(sum));
            } else {
                apps.other.remove(name);
                drop(family.remove_label_values(&[OTHER]));
            }
        }
    }

    /// The text format 0.0.4.
    ///
    /// # Errors
    /// When the encoder fails, which it does on inconsistent families only.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut bytes = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&self.0.registry.gather(), &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Apps {
    /// Is it counted with the others already? It stays there, so that no count stands in two series.
    fn is_folded(&self, app: &AppName) -> bool {
        !self.own.contains(app) && self.values.values().any(|values| values.contains_key(app))
    }
}

/// A count as a gauge shows it. Exact up to 2^53, which no count here reaches.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}
