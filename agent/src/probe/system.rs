//! The `disk` and `memory` probes: room on the file system, memory, swap and load.

use rustix::fs::{OFlags, fstatvfs};

use super::Context;
use super::found::Found;
use super::place::{is_absent, reason};
use super::procfs::read_text;
use super::spec::Fact;
use crate::tree::TreePath;

/// Part of a whole in percent, rounded up; 0 of 0 is 0.
fn percent(part: u64, whole: u64) -> i64 {
    if whole == 0 {
        return 0;
    }
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole));
    i64::try_from(percent).unwrap_or(i64::MAX)
}

pub(super) fn disk(context: &Context, path: &str) -> Found {
    let unknown = |why: &str| Found::unknown("disk", why);
    let path = match TreePath::parse(path) {
        Ok(path) => path,
        Err(error) => return unknown(&error.to_string()),
    };
    let handle = match context.place.open_at(&path, OFlags::PATH) {
        Ok(handle) => handle,
        Err(errno) if is_absent(errno) => return Found::absent("disk"),
        Err(errno) => return unknown(&reason(errno)),
    };
    match fstatvfs(&handle) {
        Err(errno) => unknown(&reason(errno)),
        Ok(room) => {
            // As df counts: blocks kept for root are neither used nor available.
            let used = room.f_blocks.saturating_sub(room.f_bfree);
            let inodes_used = room.f_files.saturating_sub(room.f_ffree);
            Found::absent("disk")
                .with(
                    "used_percent",
                    percent(used, used.saturating_add(room.f_bavail)),
                )
                .with("free", room.f_bavail.saturating_mul(room.f_frsize))
                .with("inodes_used_percent", percent(inodes_used, room.f_files))
        }
    }
}

pub(super) fn memory() -> Found {
    let (meminfo, loadavg, stat) = match (
        read_text("/proc/meminfo"),
        read_text("/proc/loadavg"),
        read_text("/proc/stat"),
    ) {
        (Ok(meminfo), Ok(loadavg), Ok(stat)) => (meminfo, loadavg, stat),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            return Found::unknown("memory", &error.to_string());
        }
    };
    memory_facts(&meminfo, &loadavg, &stat)
}

fn memory_facts(meminfo: &str, loadavg: &str, stat: &str) -> Found {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(':'))
        })?;
        let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        kib.checked_mul(1024)
    };
    let or_unknown = |value: Option<Fact>| {
        value.unwrap_or_else(|| Fact::Unknown("the kernel does not say".to_owned()))
    };
    let (total, available) = (field("MemTotal"), field("MemAvailable"));
    let used = |total: Option<u64>, free: Option<u64>| {
        let (total, free) = (total?, free?);
        Some(Fact::Int(percent(total.saturating_sub(free), total)))
    };
    let cores = stat
        .lines()
        .filter(|line| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .count();
    let load = loadavg
        .split_ascii_whitespace()
        .next()
        .and_then(hundredths)
        .zip(u64::try_from(cores).ok().filter(|cores| *cores > 0))
        .map(|(load, cores)| Fact::from(load / cores));
    Found::absent("memory")
        .with("used_percent", or_unknown(used(total, available)))
        .with("available", or_unknown(available.map(Fact::from)))
        .with(
            "swap_used_percent",
            or_unknown(used(field("SwapTotal"), field("SwapFree"))),
        )
        .with("load_per_core_percent", or_unknown(load))
}

/// `1.25` as 125.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = part.get(..2)?.parse().ok()?;
    whole.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_load_are_read_from_the_kernels_text() {
        let found = memory_facts(
            "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable:  250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
            "3.10 1.00 0.50 1/100 4242\n",
            "cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n",
        );
        assert_eq!(found.facts["used_percent"], Fact::Int(75));
        assert_eq!(found.facts["available"], Fact::Int(256_000));
        assert_eq!(found.facts["swap_used_percent"], Fact::Int(0));
        assert_eq!(found.facts["load_per_core_percent"], Fact::Int(155));
        let found = memory_facts("MemTotal: x kB\n", "", "");
        assert!(
            found
                .facts
                .values()
                .all(|fact| matches!(fact, Fact::Unknown(_)))
        );
    }

    #[test]
    fn percent_rounds_up_and_survives_extremes() {
        for (part, whole, want) in [
            (0, 0, 0),
            (1, 1_000, 1),
            (50, 100, 50),
            (u64::MAX, u64::MAX, 100),
        ] {
            assert_eq!(percent(part, whole), want, "{part} of {whole}");
        }
    }
}
