//! Open heals as the writer committed them last, so that moving one needs no look at its row before.
//!
//! The writer is the only one that writes them. A heal is taken out for the transaction that moves it and comes back with
//! the commit, so what is remembered was committed, always. And it is trusted for the preparation alone: the statement
//! that moves a heal compares the version once more in the database, inside its transaction.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteRow;

use crate::model::heal::Heal;
use crate::model::id::HealId;
use crate::seam::{Changes, Write};

/// Far more than are ever open at once; of what is beyond, rows are read.
const HEALS_MAX: usize = 2_048;

/// A heal before a job changes it.
pub(super) enum Ahead {
    /// As it was committed last.
    Known(Box<Heal>),
    /// Read inside the transaction.
    Row(SqliteRow),
    /// The same: there is none.
    Absent,
}

/// It was not read ahead, or what was read may be old by now.
pub(super) struct NotRead;

/// What the writer remembers.
#[derive(Debug, Default)]
pub(super) struct Known {
    heals: BTreeMap<HealId, Box<Heal>>,
}

impl Known {
    /// Takes out what is known of the heals that these changes write. The second list is of those whose rows must be
    /// read; a write without an event leaves no row that would prove that its heal is there.
    pub(super) fn take<'c>(
        &mut self,
        all: impl Iterator<Item = &'c Changes>,
    ) -> (BTreeMap<HealId, Ahead>, Vec<HealId>) {
        let (mut ahead, mut unknown) = (BTreeMap::new(), Vec::new());
        for write in all.flat_map(|changes| &changes.writes) {
            let Write::Heal { heal, event } = write else {
                continue;
            };
            if ahead.contains_key(&heal.id) {
                continue;
            }
            let known = self.heals.remove(&heal.id).filter(|_| event.is_some());
            let known = known.map_or_else(
                || {
                    unknown.push(heal.id);
                    Ahead::Absent
                },
                Ahead::Known,
            );
            ahead.insert(heal.id, known);
        }
        (ahead, unknown)
    }

    /// Remembers the heals of changes that were committed.
    pub(super) fn committed(&mut self, changes: Changes) {
        for write in changes.writes {
            let Write::Heal { mut heal, .. } = write else {
                continue;
            };
            heal.version += 1;
            self.heals.remove(&heal.id);
            if !heal.state.is_end() && self.heals.len() < HEALS_MAX {
                self.heals.insert(heal.id, heal);
            }
        }
    }
}
