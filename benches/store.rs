//! Durable outcomes per second of the store against bare `SQLite` on the same disk, in pairs.
//!
//! An outcome is what a heal's move costs: its row compared and changed, a journal row, an audit row. The yardstick is one
//! connection with the same settings that commits one row of the same size at a time. Figures are ratios of one run:
//! machines differ. Run with `cargo bench --bench store`.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures with the real clock and prints what it found"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use healerd::cli::audit;
use healerd::model::action::{Identity, ResolvedAction};
use healerd::model::check::Evidence;
use healerd::model::heal::{Event, Heal, HealState, Origin};
use healerd::model::id::{FenceToken, HealId, IncidentId};
use healerd::model::time::Moment;
use healerd::model::word::{MatchKind, Risk};
use healerd::record::store::SqliteStore;
use healerd::seam::{Changes, Store as _, Write};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

const PAIRS: usize = 5;
const OUTCOMES: u64 = 2_000;
const AUDIT_ROWS: u64 = 1_000_000;

type Failure = Box<dyn std::error::Error>;

fn at(ms: i64) -> Moment {
    Moment {
        boot_id: "2f6c1d1e-5a0b-4a57-9f0e-3f8d6f3a8a11".to_owned(),
        boot_ms: ms,
        wall_ms: 1_700_000_000_000 + ms,
    }
}

fn heal(number: u64) -> Result<Heal, Failure> {
    Ok(Heal {
        id: HealId::from_raw(u128::from(number)),
        app: format!("app{}", number % 50).parse()?,
        host: "local".parse()?,
        origin: Origin::Unattended,
        action: ResolvedAction {
            name: "clear_cache".parse()?,
            version: "v1".to_owned(),
            params: BTreeMap::new(),
            risk: Risk::Low,
            identity: Identity::App,
            steps: Vec::new(),
            finally: Vec::new(),
            writes: Vec::new(),
            restarts: false,
            scratch: Vec::new(),
            timeout: Duration::from_mins(1),
            settle: Duration::from_mins(1),
            proves: vec!["laravel_cache".parse()?],
            known_good: Vec::new(),
            estimate_bytes: 0,
            raises: Vec::new(),
            estimate: Duration::from_secs(1),
        },
        matched: MatchKind::Declared,
        incident: IncidentId::from_raw(1),
        linked: Vec::new(),
        checks: vec!["laravel_cache".parse()?],
        evidence: Evidence::default(),
        before: Vec::new(),
        roots: vec!["/srv/shop/releases/20240101120000".to_owned()],
        machine: None,
        mode: None,
        trial: false,
        fence: FenceToken(number),
        admitted: at(0),
        state: HealState::Admitted,
        moved: at(0),
        message: "Healing action clear_cache was admitted".to_owned(),
        version: 0,
    })
}

fn admitted(heals: &[Heal]) -> Changes {
    heals
        .iter()
        .fold(Changes::new(at(0), "healerd"), |changes, heal| {
            let object = format!("heal:{}", heal.id);
            changes
                .write(Write::Heal {
                    heal: Box::new(heal.clone()),
                    event: None,
                })
                .audit(
                    "heal_admitted",
                    &object,
                    serde_json::json!({ "action": "clear_cache" }),
                )
        })
}

fn outcome(heal: &Heal) -> Result<Changes, Failure> {
    let event = Event::BackupVerified { backup: None };
    let mut next = heal.clone();
    next.version = 1;
    next.state = heal.state.next(event.clone(), &at(5))?;
    next.moved = at(5);
    let object = format!("heal:{}", heal.id);
    Ok(Changes::new(at(5), "healerd")
        .write(Write::Heal {
            heal: Box::new(next),
            event: Some(event),
        })
        .audit(
            "heal_moved",
            &object,
            serde_json::json!({ "to": "Protected" }),
        ))
}

/// Outcomes per second and the 99th percentile of one, with `parallel` callers.
async fn store(parallel: usize) -> Result<(f64, Duration), Failure> {
    let dir = tempfile::tempdir()?;
    let store = Arc::new(SqliteStore::open(dir.path(), &at(0)).await?);
    let heals = (1..=OUTCOMES).map(heal).collect::<Result<Vec<_>, _>>()?;
    for some in heals.chunks(200) {
        store.apply(admitted(some)).await?;
    }
    let mut lots: Vec<Vec<Changes>> = (0..parallel).map(|_| Vec::new()).collect();
    for (number, heal) in heals.iter().enumerate() {
        lots[number % parallel].push(outcome(heal)?);
    }
    let began = Instant::now();
    let callers: Vec<_> = lots
        .into_iter()
        .map(|lot| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(lot.len());
                for changes in lot {
                    let asked = Instant::now();
                    store.apply(changes).await?;
                    times.push(asked.elapsed());
                }
                Ok::<_, healerd::seam::StoreError>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    let rate = per_second(OUTCOMES, began.elapsed());
    store.close().await;
    Ok((rate, percentile(&mut times, 99)))
}

/// One row per commit on a bare connection: rate, and the median of one.
async fn bare() -> Result<(f64, Duration), Failure> {
    let dir = tempfile::tempdir()?;
    let mut connection = SqliteConnectOptions::new()
        .filename(dir.path().join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await?;
    sqlx::query("CREATE TABLE outcome (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT")
        .execute(&mut connection)
        .await?;
    let body = serde_json::to_string(&heal(1)?)?;
    let mut times = Vec::new();
    let began = Instant::now();
    for _ in 0..OUTCOMES {
        let asked = Instant::now();
        sqlx::query("INSERT INTO outcome (body) VALUES (?)")
            .bind(body.as_str())
            .execute(&mut connection)
            .await?;
        times.push(asked.elapsed());
    }
    let rate = per_second(OUTCOMES, began.elapsed());
    connection.close().await?;
    Ok((rate, percentile(&mut times, 50)))
}

/// Seconds to verify a log of [`AUDIT_ROWS`] rows.
async fn verify(dir: &Path) -> Result<Duration, Failure> {
    let store = SqliteStore::open(dir, &at(0)).await?;
    for _ in 0..AUDIT_ROWS / 1_000 {
        let mut changes = Changes::new(at(1), "alice(1000)");
        for number in 0..1_000 {
            let detail = serde_json::json!({ "to": "Protected", "number": number });
            changes = changes.audit("heal_moved", "heal:01hzzzzzzzzzzzzzzzzzzzzzzz", detail);
        }
        store.apply(changes).await?;
    }
    store.close().await;
    let began = Instant::now();
    let report = audit::verify(&dir.join("state.db"), None).await?;
    if report.rows != AUDIT_ROWS || !report.is_whole() {
        return Err(format!("the log is not whole: {report:?}").into());
    }
    Ok(began.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    for parallel in [1, 16, 100] {
        let mut ratios = Vec::new();
        let mut tails = Vec::new();
        for _ in 0..PAIRS {
            let (bare_rate, flush) = bare().await?;
            let (rate, p99) = store(parallel).await?;
            ratios.push(rate / bare_rate);
            tails.push(p99.as_secs_f64() / flush.as_secs_f64());
            println!(
                "{parallel:3} at once: {rate:7.0}/s, p99 {p99:9.1?}; bare {bare_rate:7.0}/s, one commit {flush:8.1?}"
            );
        }
        println!(
            "{parallel:3} at once: {:.2} x bare, p99 {:.1} x one commit",
            median(ratios),
            median(tails)
        );
    }
    let dir = tempfile::tempdir()?;
    let took = verify(dir.path()).await?;
    println!("audit verify: {AUDIT_ROWS} rows in {took:.2?}");
    Ok(())
}
