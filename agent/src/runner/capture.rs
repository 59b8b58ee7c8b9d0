//! A stream's first and last bytes: the rest is counted and thrown away.
//!
//! A program that writes gigabytes costs time, never memory or disk, and is never stopped by a full pipe.

use std::collections::VecDeque;
use std::io::{self, Read};

/// Kept from the beginning, and again from the end, of each stream.
pub(super) const KEPT_BYTES: usize = 32 << 10;

/// Longest message of a step's report.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// What was kept of one stream.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Kept from the beginning, and again from the end.
    end_bytes: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    pub(super) total: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self::new(KEPT_BYTES)
    }
}

impl Kept {
    pub(super) fn new(end_bytes: usize) -> Self {
        Self {
            end_bytes,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.end_bytes.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        bytes = &rest[rest.len().saturating_sub(self.end_bytes)..];
        let surplus = (self.tail.len() + bytes.len()).saturating_sub(self.end_bytes);
        self.tail.drain(..surplus);
        self.tail.extend(bytes);
    }

    /// Head, a line that tells what is missing, tail.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        let missing = self.total - (self.head.len() + self.tail.len()) as u64;
        if missing > 0 {
            bytes.extend_from_slice(format!("\n[… {missing} bytes not kept …]\n").as_bytes());
        }
        bytes.extend(&self.tail);
        bytes
    }

    /// The last lines, escaped, at most 1 KiB.
    pub(super) fn last_lines(&self) -> String {
        let bytes: Vec<u8> = self.head.iter().chain(&self.tail).copied().collect();
        message(&String::from_utf8_lossy(
            &bytes[bytes.len().saturating_sub(4 * MESSAGE_BYTES_MAX)..],
        ))
    }
}

/// Foreign text for a report: trimmed, control characters escaped, the last 1 KiB of it.
pub(super) fn message(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.trim().chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    let mut from = escaped.len().saturating_sub(MESSAGE_BYTES_MAX);
    while !escaped.is_char_boundary(from) {
        from += 1;
    }
    escaped.split_off(from)
}

/// Reads a stream to its end into `push`.
pub(super) fn drain(mut stream: impl Read, mut push: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => push(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ends_are_kept_and_the_rest_is_counted(
            chunks in prop::collection::vec((any::<u8>(), 0_usize..50_000), 0..12)
        ) {
            let mut kept = Kept::default();
            let mut all = Vec::new();
            for (byte, length) in chunks {
                let chunk = vec![byte; length];
                kept.push(&chunk);
                all.extend(chunk);
            }
            prop_assert_eq!(kept.total, all.len() as u64);
            let bytes = kept.bytes();
            prop_assert!(bytes.len() <= 2 * KEPT_BYTES + 64);
            let head = all.len().min(KEPT_BYTES);
            prop_assert_eq!(&bytes[..head], &all[..head]);
            let tail = (all.len() - head).min(KEPT_BYTES);
            prop_assert_eq!(&bytes[bytes.len() - tail..], &all[all.len() - tail..]);
        }

        #[test]
        fn a_message_is_short_and_harmless(text in ".{0,3000}") {
            let message = message(&text);
            prop_assert!(message.len() <= MESSAGE_BYTES_MAX);
            prop_assert!(!message.chars().any(char::is_control));
        }
    }
}
