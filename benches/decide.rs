//! Deciding one check at 20 and at 2,000 actions: a quarter each by exact name, by fix text, by category, and with no
//! answer. The figures are nanoseconds for a whole round of 100 bad results; divide by 100.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use healerd::catalogue::{Catalogue, Stack};
use healerd::decide::{DecisionInput, decide};
use healerd::model::check::CheckResult;
use healerd::model::policy::Policy;
use healerd::model::word::{About, Category, HealingMode, Severity, Status};

const KINDS: [&str; 6] = [
    "cache",
    "permission",
    "database",
    "update",
    "restart",
    "build",
];
const VERBS: [&str; 9] = [
    "clear", "repair", "restart", "rebuild", "update", "reset", "rotate", "reindex", "fix",
];
const RISKS: [&str; 3] = ["LOW", "MEDIUM", "HIGH"];

fn name(place: usize) -> String {
    format!("{}_{}_{place}", KINDS[place % 6], VERBS[place % 9])
}

fn stack(actions: usize) -> Arc<Stack> {
    let mut text = String::new();
    for place in 0..actions {
        writeln!(
            text,
            "[action.{}{}]\nrisk = \"{}\"\nwrites = [{{ content = \"x\" }}]\nsteps = [{{ remove = {{ paths = [\"x\"] }} }}]\ntimeout = \"30s\"",
            name(place),
            if place % 3 == 0 { "_fix" } else { "" },
            RISKS[place % 3],
        )
        .expect("writing to a String does not fail");
    }
    let catalogue = Catalogue::load(&[("bench".to_owned(), text)]).expect("a sound stack");
    let name = "bench".parse().expect("a name");
    catalogue.get(&name).expect("it was just loaded").clone()
}

fn results(actions: usize) -> Vec<CheckResult> {
    (0..100)
        .map(|place| {
            let action = place * 7919 % actions;
            let (check, fix) = match place % 4 {
                0 => (name(action), None),
                1 => (
                    format!("health_probe_{place}"),
                    Some(format!(
                        "The last deploy left stale state behind; run `{}` and look again",
                        name(action)
                    )),
                ),
                2 => (
                    format!(
                        "php_{}_state_{place}",
                        ["cache", "permissions", "database"][place % 3]
                    ),
                    None,
                ),
                _ => (
                    format!("tls_certificate_expiry_{place}"),
                    Some(
                        "renew the certificate by hand with the registrar of the domain".to_owned(),
                    ),
                ),
            };
            CheckResult {
                check: check.parse().expect("a name"),
                category: Category::System,
                status: Status::Fail,
                severity: Severity::High,
                message: String::new(),
                suggested_fix: fix,
                execution_ms: 0,
                rule: None,
                about: About::App,
                availability: false,
                facts: BTreeMap::new(),
            }
        })
        .collect()
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide 100 checks");
    group.throughput(Throughput::Elements(100));
    for actions in [20, 2000] {
        let (stack, results, policy) = (stack(actions), results(actions), Policy::default());
        let tried = BTreeMap::new();
        group.bench_function(format!("{actions} actions"), |bencher| {
            bencher.iter(|| {
                decide(black_box(&DecisionInput {
                    stack: &stack,
                    mode: HealingMode::FullAuto,
                    policy: &policy,
                    results: &results,
                    tried: &tried,
                    bars: &[],
                    muted: &[],
                    app: None,
                }))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, deciding);
criterion_main!(benches);
