use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::name::HostName;

const DAY_MS: i64 = 86_400_000;

fn at(day: i64) -> Moment {
    Moment {
        boot_id: "b".to_owned(),
        boot_ms: day * DAY_MS,
        wall_ms: day * DAY_MS,
    }
}

fn row(id: u128, app: &str, day: i64) -> BackupRow {
    BackupRow {
        id: BackupId::from_raw(id),
        kind: BackupKind::Heal,
        app: app.parse().unwrap(),
        host: HostName::local(),
        heal: None,
        action: None,
        taken: at(day),
        files: 1,
        bytes: 1,
        stored_bytes: 1,
        verified: at(day),
        damaged: None,
        pinned: false,
    }
}

fn removed(rows: &[BackupRow], needed: &[u128]) -> Vec<u128> {
    let needed = needed.iter().map(|id| BackupId::from_raw(*id)).collect();
    retain(rows, &at(100), &BackupPolicy::default(), &needed)
        .into_iter()
        .map(BackupId::raw)
        .collect()
}

#[test]
fn the_last_five_stay_and_what_is_young_and_what_is_needed() {
    let old: Vec<_> = (1..=8).map(|id| row(id, "shop", 1)).collect();
    assert_eq!(removed(&old, &[]), [1, 2, 3]);
    assert_eq!(removed(&old, &[2]), [1, 3], "an unfinished heal needs it");
    let mut pinned = old.clone();
    pinned[0].pinned = true;
    assert_eq!(removed(&pinned, &[]), [2, 3]);
    let young: Vec<_> = (1..=8).map(|id| row(id, "shop", 99)).collect();
    assert_eq!(removed(&young, &[]), [0; 0]);
    let mut two_apps = old.clone();
    two_apps.push(row(9, "blog", 1));
    assert_eq!(
        removed(&two_apps, &[]),
        [1, 2, 3],
        "each app has its own five"
    );
}

#[test]
fn damaged_backups_do_not_push_out_good_ones() {
    let mut rows: Vec<_> = (1..=8).map(|id| row(id, "shop", 1)).collect();
    for row in &mut rows[2..] {
        row.damaged = Some("object".to_owned());
    }
    assert_eq!(removed(&rows, &[]), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn the_two_newest_known_good_snapshots_stay_outside_of_all_counting() {
    let mut rows: Vec<_> = (1..=9).map(|id| row(id, "shop", 1)).collect();
    for row in &mut rows[..3] {
        row.kind = BackupKind::KnownGood;
    }
    assert_eq!(removed(&rows, &[]), [1, 4]);
}

#[test]
fn a_clock_that_jumped_years_ahead_after_a_boot_never_takes_the_last_good_one() {
    let now = Moment {
        boot_id: "other".to_owned(),
        boot_ms: 0,
        wall_ms: i64::MAX,
    };
    let policy = BackupPolicy {
        keep_last: 0,
        ..BackupPolicy::default()
    };
    let rows: Vec<_> = (1..=3).map(|id| row(id, "shop", 1)).collect();
    let gone = retain(&rows, &now, &policy, &BTreeSet::new());
    assert_eq!(gone, [BackupId::from_raw(1), BackupId::from_raw(2)]);
}

#[test]
fn a_backup_is_refused_before_the_disk_or_the_cap_is_full() {
    for (case, free, held, new, want) in [
        ("fits", 1000, 0, 500, true),
        ("the spare room would be used", 1000, 0, 901, false),
        ("over the cap", u64::MAX, 4500, 501, false),
        ("up to the cap", u64::MAX, 4500, 500, true),
        ("at the cap, nothing new", u64::MAX, 5000, 0, true),
        ("at the cap, one byte", u64::MAX, 5000, 1, false),
    ] {
        assert_eq!(admits(free, held, new, 100, 5000).is_ok(), want, "{case}");
    }
}

fn rows() -> impl Strategy<Value = Vec<BackupRow>> {
    let one = (
        0..3_usize,
        0..100_i64,
        0..4_usize,
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    prop::collection::vec(one, 0..40).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(id, (app, day, kind, damaged, pinned))| BackupRow {
                kind: BackupKind::ALL[kind],
                damaged: damaged.then(|| "x".to_owned()),
                pinned,
                ..row(id as u128, ["a", "b", "c"][app], day)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn retention_never_removes_what_must_stay(
        rows in rows(),
        keep_last in 0..7_u32,
        keep_days in 0..30_u64,
        needed in prop::collection::btree_set(0..40_u128, 0..5),
    ) {
        let policy = BackupPolicy {
            keep_last,
            keep_for: Duration::from_secs(keep_days * 86_400),
            ..BackupPolicy::default()
        };
        let needed: BTreeSet<_> = needed.into_iter().map(BackupId::from_raw).collect();
        let gone: BTreeSet<_> = retain(&rows, &at(100), &policy, &needed).into_iter().collect();
        for app in ["a", "b", "c"] {
            let of_app = || rows.iter().rev().filter(|row| row.app.as_str() == app);
            let good = || of_app().filter(|row| row.damaged.is_none());
            let known = || good().filter(|row| row.kind == BackupKind::KnownGood);
            for row in good().take((keep_last as usize).max(1)).chain(known().take(2)) {
                prop_assert!(!gone.contains(&row.id));
            }
            for row in of_app() {
                let young = 100 - row.taken.wall_ms / DAY_MS < i64::try_from(keep_days).unwrap();
                if young || row.pinned || needed.contains(&row.id) {
                    prop_assert!(!gone.contains(&row.id));
                }
            }
        }
        let left: Vec<_> = rows.iter().filter(|row| !gone.contains(&row.id)).cloned().collect();
        prop_assert_eq!(retain(&left, &at(100), &policy, &needed), [], "once is enough");
    }
}
