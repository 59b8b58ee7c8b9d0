//! Reads the daemon's state file from outside, and judges what it says about heals.

use std::path::Path;

use healerd::model::heal::{Event, Heal, HealState, Outcome};
use healerd::model::time::Moment;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

/// One heal with its journal.
#[derive(Debug)]
pub(crate) struct Healed {
    pub(crate) heal: Heal,
    /// Over, but a person must still decide.
    pub(crate) waits: bool,
    journal: Vec<(Moment, Event)>,
}

/// What the file says at one moment.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// In order of admission.
    pub(crate) heals: Vec<Healed>,
    pub(crate) pending_approvals: Vec<String>,
    leases: Vec<String>,
    pins: Vec<String>,
    /// Subjects of notices to people.
    notices: Vec<String>,
}

/// Runs SQL in a file that may not be there yet.
pub(crate) fn read(state_dir: &Path) -> Option<Record> {
    let file = state_dir.join("state.db");
    if !file.exists() {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new()
            .filename(&file)
            .read_only(true)
            .connect()
            .await
            .ok()?;
        // A daemon that is just making its tables, or was killed while it did, has no record yet.
        let record = query(&mut connection).await.ok();
        connection.close().await.ok()?;
        record
    })
}

async fn query(connection: &mut SqliteConnection) -> Result<Record, sqlx::Error> {
    let mut connection = connection.begin().await?;
    let mut record = Record::default();
    let rows: Vec<(String, String, bool)> =
        sqlx::query_as("SELECT id, body, waits FROM heal ORDER BY id")
            .fetch_all(&mut *connection)
            .await?;
    for (id, body, waits) in rows {
        let events: Vec<(String, String)> =
            sqlx::query_as("SELECT at, body FROM heal_event WHERE heal = ? ORDER BY seq")
                .bind(&id)
                .fetch_all(&mut *connection)
                .await?;
        record.heals.push(Healed {
            heal: parse(&body),
            waits,
            journal: events
                .iter()
                .map(|(at, body)| (parse(at), parse(body)))
                .collect(),
        });
    }
    let mut list = async |sql: &'static str| {
        sqlx::query_scalar::<_, String>(sql)
            .fetch_all(&mut *connection)
            .await
    };
    record.pending_approvals =
        list("SELECT id FROM approval WHERE state = 'PENDING' ORDER BY id").await?;
    record.leases = list("SELECT key || ' of heal ' || heal FROM lease").await?;
    record.pins = list("SELECT by FROM backup_pin WHERE by LIKE 'heal:%'").await?;
    record.notices = list("SELECT key || ' ' || event FROM outbox").await?;
    Ok(record)
}

/// # Panics
/// When the daemon wrote what its own types cannot read.
fn parse<T: serde::de::DeserializeOwned>(body: &str) -> T {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

impl Record {
    /// Is every heal over?
    pub(crate) fn rests(&self) -> bool {
        self.heals.iter().all(|healed| healed.heal.state.is_end())
    }

    /// Everything that no crash may leave: arrows that are none, leases, pins and silence about what waits.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .leases
            .iter()
            .map(|lease| format!("lease left: {lease}"))
            .collect();
        for healed in &self.heals {
            let heal = &healed.heal;
            if let Err(why) = healed.replay() {
                faults.push(format!("heal {}: {why}", heal.id));
            }
            let pinned = self.pins.contains(&format!("heal:{}", heal.id));
            let needs = healed.waits || matches!(heal.state, HealState::UndoFailed { .. });
            if pinned && !needs {
                faults.push(format!(
                    "heal {} is over and still pins its backup",
                    heal.id
                ));
            }
            let is_told = self
                .notices
                .iter()
                .any(|notice| notice.contains(&format!(":{}", heal.action.name)));
            if needs && !is_told {
                faults.push(format!(
                    "heal {} waits for a person whom nobody told",
                    heal.id
                ));
            }
        }
        faults
    }

    /// Did the supervisor of the last heal die before it could say what it had changed?
    pub(crate) fn was_interrupted(&self) -> bool {
        let course = self
            .heals
            .last()
            .and_then(|healed| healed.heal.state.course());
        course.is_some_and(|course| course.outcome == Outcome::Interrupted)
    }

    /// For people who read a failed test.
    pub(crate) fn shown(&self) -> String {
        self.heals
            .iter()
            .map(|healed| {
                let events: Vec<_> = healed
                    .journal
                    .iter()
                    .map(|(_, event)| event.name())
                    .collect();
                format!(
                    "  {} {}: {} ({})\n    {}\n",
                    healed.heal.action.name,
                    healed.heal.state.name(),
                    healed.heal.message,
                    if healed.waits { "waits" } else { "over" },
                    events.join(" → ")
                )
            })
            .collect::<Vec<_>>()
            .concat()
    }
}

impl Healed {
    /// The journal, replayed through the one function that moves heals, leads to the stored state.
    fn replay(&self) -> Result<(), String> {
        let mut state = HealState::Admitted;
        for (at, event) in &self.journal {
            state = state
                .next(event.clone(), at)
                .map_err(|illegal| illegal.to_string())?;
        }
        if state.name() == self.heal.state.name() {
            Ok(())
        } else {
            Err(format!(
                "its journal leads to {}, it is stored as {}",
                state.name(),
                self.heal.state.name()
            ))
        }
    }
}
