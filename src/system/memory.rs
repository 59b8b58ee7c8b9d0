//! Handing back memory that is not in use: pages of the program, and what the allocator keeps free.
//!
//! Reading configuration and stack files, migrating, setting up and healing run much code once or rarely; the kernel keeps
//! those pages mapped, with their neighbours, and counts them as this process's. Here they are unmapped; what is still
//! used is mapped again from the page cache when it is next touched, and nothing is lost. The allocator of each thread
//! keeps what a burst needed; its whole free pages go back to the kernel. Data in use is never touched here.

use std::ffi::c_void;

use rustix::mm::Advice;

/// A mapping, by its first address and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    begin: usize,
    length: usize,
}

/// Unmaps the pages of program files. Best effort: where it cannot be told what they are, they stay.
#[expect(
    unsafe_code,
    reason = "the kernel is told about addresses, and only the caller can know what stands there"
)]
pub fn hand_back_program() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for Mapping { begin, length } in untouched_program(&maps) {
        let place = std::ptr::with_exposed_provenance_mut::<c_void>(begin);
        // SAFETY: the mapping is a file's, cannot be written, and no page of it was ever written (not even by the
        // loader: none is anonymous), so every page reads the same from the file again.
        if let Err(error) = unsafe { rustix::mm::madvise(place, length, Advice::LinuxDontNeed) } {
            tracing::debug!(%error, "the pages of the program stay mapped");
        }
    }
}

/// Gives the kernel what the allocator holds free. Other allocators than glibc's are left alone.
#[cfg_attr(
    target_env = "gnu",
    expect(
        unsafe_code,
        reason = "the allocator is C's, and asks nothing of its caller"
    )
)]
pub fn hand_back_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no argument is a pointer, every arena is locked while it is trimmed, and only free pages are given away.
    let _given = unsafe { libc::malloc_trim(0) };
}

/// Mappings of files that cannot be written and of which no page was changed, as `/proc/self/smaps` shows them.
fn untouched_program(maps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in maps.lines() {
        if let Some(head) = head(line) {
            mapping = Some(head);
        } else if let Some(value) = line.strip_prefix("Anonymous:")
            && let Some((mapping, true)) = mapping.take()
            && value.trim() == "0 kB"
        {
            found.push(mapping);
        }
    }
    found
}

/// The first line of a mapping, and whether it is a file's that cannot be written.
fn head(line: &str) -> Option<(Mapping, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let (begin, end) = (hex(begin)?, hex(end)?);
    let may = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    let is_program = matches!(may, "r-xp" | "r--p") && path.starts_with('/');
    let length = end.checked_sub(begin)?;
    Some((Mapping { begin, length }, is_program))
}

fn hex(text: &str) -> Option<usize> {
    usize::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_the_same_from_its_file_is_handed_back() {
        let maps = "\
55d0a000-55d0c000 r--p 00000000 fd:00 131 /usr/bin/healerd
Size:                  8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d0c000-55d10000 r-xp 00002000 fd:00 131 /usr/bin/healerd
Anonymous:             0 kB
55d10000-55d11000 r--p 00006000 fd:00 131 /usr/bin/healerd
Anonymous:             4 kB
55d11000-55d12000 rw-p 00007000 fd:00 131 /usr/bin/healerd
Anonymous:             0 kB
55e00000-55e21000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
7f000000-7f001000 r--s 00000000 fd:00 132 /var/lib/healerd/state.db-shm
Anonymous:             0 kB
7f010000-7f012000 r-xp 00000000 00:00 0
Anonymous:             0 kB
7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(
            untouched_program(maps),
            [
                Mapping {
                    begin: 0x55d0_a000,
                    length: 0x2000
                },
                Mapping {
                    begin: 0x55d0_c000,
                    length: 0x4000
                }
            ]
        );
        assert_eq!(
            untouched_program("nothing of the kind\nAnonymous: 0 kB"),
            []
        );
    }

    #[test]
    fn the_program_goes_on_after_its_pages_were_handed_back() {
        let before = crate::model::Digest::of(b"the same code, the same constants");
        hand_back_program();
        assert_eq!(
            crate::model::Digest::of(b"the same code, the same constants"),
            before
        );
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(!untouched_program(&maps).is_empty());
    }
}
