//! Random transactions against a model that fits on a page.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fixture::*;
use crate::model::heal::Event;
use crate::model::id::{BackupId, HealId, HoldId};
use crate::model::stop::Scope;
use crate::seam::store::Lease;
use crate::seam::{Changes, Store as _, Write};

/// What may be written; numbers are small so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Admit { id: u8, fence: u8 },
    Abort { id: u8, version: u8 },
    Take { key: u8, heal: u8 },
    Release { key: u8, heal: u8 },
    Hold { id: u8 },
    EndHold { id: u8 },
    Backup { id: u8 },
    Pin { id: u8, pinned: bool },
    Remove { id: u8 },
    Setting { key: u8, value: u8 },
}

fn steps() -> impl Strategy<Value = Vec<(Vec<Step>, bool)>> {
    let small = || 0_u8..4;
    let one = prop_oneof![
        (small(), 1_u8..12).prop_map(|(id, fence)| Step::Admit { id, fence }),
        (small(), 0_u8..3).prop_map(|(id, version)| Step::Abort { id, version }),
        (small(), small()).prop_map(|(key, heal)| Step::Take { key, heal }),
        (small(), small()).prop_map(|(key, heal)| Step::Release { key, heal }),
        small().prop_map(|id| Step::Hold { id }),
        small().prop_map(|id| Step::EndHold { id }),
        small().prop_map(|id| Step::Backup { id }),
        (small(), any::<bool>()).prop_map(|(id, pinned)| Step::Pin { id, pinned }),
        small().prop_map(|id| Step::Remove { id }),
        (small(), small()).prop_map(|(key, value)| Step::Setting { key, value }),
    ];
    proptest::collection::vec((proptest::collection::vec(one, 1..4), any::<bool>()), 1..25)
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    /// By id: fence and version; version 2 is aborted.
    heals: BTreeMap<u8, (u8, u8)>,
    highest: u8,
    leases: BTreeMap<String, u8>,
    /// By id: active.
    holds: BTreeMap<u8, bool>,
    /// By id: pinned.
    backups: BTreeMap<u8, bool>,
    settings: BTreeMap<String, String>,
}

impl Model {
    /// Whether one write is allowed, and its effect.
    fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Admit { id, fence } => {
                let fits = !self.heals.contains_key(&id) && fence > self.highest;
                if fits {
                    self.highest = fence;
                    self.heals.insert(id, (fence, 1));
                }
                fits
            }
            Step::Abort { id, version } => match self.heals.get_mut(&id) {
                Some((_, stored)) if *stored == version && *stored == 1 => {
                    *stored = 2;
                    true
                }
                _ => false,
            },
            Step::Take { key, heal } => {
                *self.leases.entry(format!("app:{key}")).or_insert(heal) == heal
            }
            Step::Release { key, heal } => {
                let key = format!("app:{key}");
                if self.leases.get(&key) == Some(&heal) {
                    self.leases.remove(&key);
                }
                true
            }
            Step::Hold { id } => *self.holds.entry(id).or_insert(true),
            Step::EndHold { id } => self.holds.insert(id, false) == Some(true),
            Step::Backup { id } => {
                self.backups.entry(id).or_insert(false);
                true
            }
            Step::Pin { id, pinned } => match self.backups.get_mut(&id) {
                Some(stored) => {
                    *stored = pinned;
                    true
                }
                None => !pinned,
            },
            Step::Remove { id } => match self.backups.get(&id) {
                Some(false) => self.backups.remove(&id).is_some(),
                Some(true) | None => false,
            },
            Step::Setting { key, value } => {
                self.settings.insert(key.to_string(), value.to_string());
                true
            }
        }
    }
}

fn write(step: &Step, model: &Model) -> Write {
    match *step {
        Step::Admit { id, fence } => heal_write(&heal(u128::from(id), u64::from(fence)), None),
        Step::Abort { id, version } => {
            let fence = model.heals.get(&id).map_or(1, |(fence, _)| *fence);
            let mut stored = heal(u128::from(id), u64::from(fence));
            stored.version = u64::from(version);
            let aborted = moved(&stored, &Event::SymptomGone, 1);
            // On a heal that is not there version 0 would be a new one, which an event may not abort at once.
            if version == 0 {
                stored.version = 99;
                return heal_write(&stored, None);
            }
            heal_write(&aborted, Some(Event::SymptomGone))
        }
        Step::Take { key, heal } => Write::LeaseTaken(Lease {
            key: format!("app:{key}"),
            heal: HealId::from_raw(u128::from(heal)),
            since: at(0),
        }),
        Step::Release { key, heal } => Write::LeaseReleased {
            key: format!("app:{key}"),
            heal: HealId::from_raw(u128::from(heal)),
        },
        Step::Hold { id } => Write::Hold(hold(u128::from(id), Scope::Everything)),
        Step::EndHold { id } => Write::HoldEnded {
            id: HoldId::from_raw(u128::from(id)),
        },
        Step::Backup { id } => Write::Backup(Box::new(backup(u128::from(id)))),
        Step::Pin { id, pinned } => Write::Pin {
            backup: BackupId::from_raw(u128::from(id)),
            by: "test".to_owned(),
            pinned,
        },
        Step::Remove { id } => Write::BackupRemoved(BackupId::from_raw(u128::from(id))),
        Step::Setting { key, value } => Write::Setting {
            key: key.to_string(),
            value: value.to_string(),
        },
    }
}

async fn stored(store: &crate::record::store::SqliteStore) -> Model {
    let restart = store.restart().await.unwrap();
    let small = |raw: u128| u8::try_from(raw).unwrap();
    let mut model = Model {
        highest: restart
            .fences
            .first()
            .map_or(0, |(_, token)| u8::try_from(*token).unwrap()),
        ..Model::default()
    };
    let all = crate::seam::store::Query {
        limit: 100,
        ..Default::default()
    };
    for heal in store.heals(all).await.unwrap() {
        let fence = u8::try_from(heal.fence.0).unwrap();
        let version = u8::try_from(heal.version).unwrap();
        model.heals.insert(small(heal.id.raw()), (fence, version));
    }
    for lease in restart.leases {
        model.leases.insert(lease.key, small(lease.heal.raw()));
    }
    for hold in restart.holds {
        model.holds.insert(small(hold.id.raw()), true);
    }
    for backup in restart.backups {
        model.backups.insert(small(backup.id.raw()), backup.pinned);
    }
    model.settings = restart.settings.into_iter().collect();
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(transactions in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = open(&dir).await;
            let mut model = Model::default();
            let mut audited = BTreeSet::new();
            for (number, (steps, reopens)) in transactions.iter().enumerate() {
                let mut after = model.clone();
                let mut changes: Changes = changes(i64::try_from(number).unwrap());
                let mut allowed = true;
                for step in steps {
                    changes = changes.write(write(step, &after));
                    allowed = allowed && after.take(step);
                }
                let written = store.apply(changes).await;
                prop_assert_eq!(written.is_ok(), allowed, "{:?} gave {:?}", steps, written);
                if allowed {
                    model = after;
                    audited.insert(number);
                }
                if *reopens {
                    let mut want = model.clone();
                    want.holds.retain(|_, active| *active);
                    prop_assert_eq!(stored(&store).await, want);
                }
            }
            prop_assert_eq!(store.audit(0, 1_000).await.unwrap().len(), audited.len());
            Ok(())
        })?;
    }
}
