//! Ids of what is stored: unique, ordered by time of making, and of distinct types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Letters of Crockford's base 32, lower case: no i, l, o, u.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes ids that grow, also within one millisecond and when the clock steps back.
///
/// 48 bits of wall milliseconds (never below the last one used), 16 bits counted within it, 64 random bits.
/// Source: the layout of ULID, with its monotonic rule carried over restarts by [`IdMaker::after`].
#[derive(Debug, Default)]
pub struct IdMaker {
    last: u64,
}

impl IdMaker {
    /// Every id will be greater than `last`.
    pub fn after(last: u128) -> Self {
        Self {
            last: u64::try_from(last >> 64).unwrap_or(u64::MAX - (1 << 32)),
        }
    }

    /// The next raw id.
    pub fn make(&mut self, wall_ms: i64, random: u64) -> u128 {
        let now = u64::try_from(wall_ms).unwrap_or(0).min((1 << 48) - 1) << 16;
        self.last = if now > self.last {
            now
        } else {
            self.last.saturating_add(1)
        };
        (u128::from(self.last) << 64) | u128::from(random)
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 26 letters and digits (0-9, a-z without i, l, o, u)")]
pub struct IdError;

fn encode(value: u128) -> String {
    (0..26)
        .rev()
        .map(|place| char::from(LETTERS[(value >> (place * 5)) as usize & 31]))
        .collect()
}

fn decode(text: &str) -> Result<u128, IdError> {
    if text.len() != 26 {
        return Err(IdError);
    }
    text.bytes().try_fold(0_u128, |value, byte| {
        let digit = LETTERS
            .iter()
            .position(|letter| *letter == byte)
            .ok_or(IdError)?;
        if value >> 123 != 0 {
            return Err(IdError); // 26 letters hold 130 bits; the first may only use three
        }
        Ok(value << 5 | digit as u128)
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// Takes a raw id that [`IdMaker::make`] made.
            pub const fn from_raw(raw: u128) -> Self {
                Self(raw)
            }

            /// The raw id.
            pub const fn raw(self) -> u128 {
                self.0
            }

            /// The wall clock's milliseconds when it was made, or later where many were made at once.
            pub const fn wall_ms(self) -> i64 {
                (self.0 >> 80) as i64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                encode(id.0)
            }
        }
    };
}

id!(
    /// One heal.
    HealId
);
id!(
    /// One incident.
    IncidentId
);
id!(
    /// One backup in the vault.
    BackupId
);
id!(
    /// One proposal that waits for persons.
    ApprovalId
);
id!(
    /// One hold.
    HoldId
);

/// Grows with every heal of a target; store and witness refuse a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FenceToken(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_over_a_clock_that_steps_back() {
        let mut maker = IdMaker::default();
        let ids: Vec<_> = [5, 5, 5, 4, -9, 6]
            .map(|ms| HealId::from_raw(maker.make(ms, u64::MAX)))
            .to_vec();
        assert!(
            ids.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string()),
            "{ids:?}"
        );
        let next = IdMaker::after(ids[5].raw()).make(0, 0);
        assert!(HealId::from_raw(next) > ids[5]);
    }

    #[test]
    fn text_and_id_are_the_same() {
        let id = HealId::from_raw(u128::MAX - 12345);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            "z".repeat(26).parse::<HealId>(),
            Err(IdError),
            "more than 128 bits"
        );
        assert_eq!("short".parse::<HealId>(), Err(IdError));
    }
}
