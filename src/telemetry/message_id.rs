//! Stable message ids of the journal, one per kind of event, for `journalctl MESSAGE_ID=…` and its catalogues.
//!
//! An id is found by the event's message, which is a constant in the code. An id is never given a second time, and never
//! changes; a message that is not here has none.

/// Message and id, in order of the loop.
pub const MESSAGE_IDS: &[(&str, &str)] = &[
    ("daemon ready", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c02"),
    ("daemon stopping", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c03"),
    ("configuration reloaded", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c04"),
    ("configuration refused", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c05"),
    ("round failed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c14"),
    ("incident opened", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c11"),
    ("incident closed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c12"),
    ("incident escalated", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c13"),
    ("heal denied", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c2a"),
    ("heal admitted", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c21"),
    ("backup verified", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c22"),
    ("backup failed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c23"),
    ("action started", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c24"),
    ("action ended", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c25"),
    ("heal moved", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c2b"),
    ("heal cured", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c26"),
    ("heal undone", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c27"),
    ("undo failed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c28"),
    ("heal ended", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c29"),
    ("approval needed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c30"),
    ("approval granted", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c31"),
    ("approval rejected", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c32"),
    ("approval expired", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c33"),
    ("breaker opened", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c40"),
    ("breaker closed", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c41"),
    ("audit head", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c50"),
    ("notice not delivered", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c51"),
    (
        "desk panicked and begins again",
        "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c53",
    ),
    ("watchdog held back", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c52"),
];

/// The id of an event's message.
pub fn message_id(message: &str) -> Option<&'static str> {
    MESSAGE_IDS
        .iter()
        .find(|(known, _)| *known == message)
        .map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_once_and_are_128_bits_in_hex() {
        let ids: std::collections::BTreeSet<_> = MESSAGE_IDS.iter().map(|(_, id)| id).collect();
        let messages: std::collections::BTreeSet<_> =
            MESSAGE_IDS.iter().map(|(message, _)| message).collect();
        assert_eq!(ids.len(), MESSAGE_IDS.len());
        assert_eq!(messages.len(), MESSAGE_IDS.len());
        assert!(ids.iter().all(|id| {
            id.len() == 32
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        }));
    }
}
