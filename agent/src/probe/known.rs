//! Settings as they were when the application was well, told by digests: what was changed since can be named, and no
//! value is ever sent.
//!
//! Pure. The daemon makes the digests from its snapshot with the same reader that the host uses, so that two ways to
//! write one value are one value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::php_text::{self, PhpText, Value};

/// Keeps these digests apart from all others that are made of the same text.
const CONTEXT: &str = "healerd settings of a known-good snapshot";

/// Digests of the plain values that a PHP file defined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSettings {
    /// Goes into every digest, so that equal values of two applications do not look alike.
    pub salt: String,
    /// In hexadecimal, by constant, and variable as `$name`.
    pub digests: BTreeMap<String, String>,
}

impl KnownSettings {
    /// Of the text of a PHP file. A broken one says nothing for sure, and has none.
    pub fn of_php(text: &[u8], salt: &str) -> Self {
        let text = php_text::read(text);
        let values = if text.broken.is_some() {
            BTreeMap::new()
        } else {
            text.values
        };
        let digests = values
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), digest(salt, key, value)?)))
            .collect();
        Self {
            salt: salt.to_owned(),
            digests,
        }
    }

    /// Those of `keys` that have another plain value now. Absent, empty and what is no plain value is not told here.
    pub(super) fn changed(&self, now: &PhpText, keys: &[String]) -> Vec<String> {
        let has_changed = |key: &&String| {
            let is_blank =
                |value: &Value| matches!(value, Value::Text(text) if text.trim().is_empty());
            let now = now.values.get(*key).filter(|value| !is_blank(value));
            let now = now.and_then(|value| digest(&self.salt, key, value));
            matches!((self.digests.get(*key), now), (Some(known), Some(now)) if *known != now)
        };
        keys.iter().filter(has_changed).cloned().collect()
    }
}

fn digest(salt: &str, key: &str, value: &Value) -> Option<String> {
    let (kind, value) = match value {
        Value::Text(text) => ("text", text.clone()),
        Value::Int(number) => ("number", number.to_string()),
        Value::Bool(flag) => ("flag", flag.to_string()),
        Value::Null | Value::Unclear => return None,
    };
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in [salt, key, kind, &value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[u8] = b"<?php
define( 'AUTH_KEY', 'a\\'b' );
define( 'DB_NAME', 'shop' );
define( 'DB_HOST', getenv( 'DB_HOST' ) );
define( 'PORT', 3306 );
$table_prefix = 'wp_';
";

    #[test]
    fn only_another_plain_value_is_a_change() {
        let known = KnownSettings::of_php(KNOWN, "1");
        let keys: Vec<String> = ["AUTH_KEY", "DB_NAME", "DB_HOST", "$table_prefix", "NEW"]
            .map(str::to_owned)
            .into();
        for (case, now, want) in [
            ("the same", KNOWN, &[][..]),
            (
                "the same, written otherwise",
                b"<?php define(\"AUTH_KEY\", \"a'b\"); const DB_NAME = 'shop'; $table_prefix='wp_';",
                &[],
            ),
            (
                "others",
                b"<?php define('AUTH_KEY', 'c'); define('DB_NAME', 'live'); $table_prefix = 'x_';",
                &["AUTH_KEY", "DB_NAME", "$table_prefix"],
            ),
            (
                "gone, empty or no plain value",
                b"<?php define('AUTH_KEY', ''); define('DB_NAME', getenv('DB')); define('NEW', 'x');",
                &[],
            ),
            (
                "not known then",
                b"<?php define('DB_HOST', 'db');",
                &[],
            ),
            (
                "not asked for",
                b"<?php define('PORT', 3307);",
                &[],
            ),
        ] {
            let changed = known.changed(&php_text::read(now), &keys);
            assert_eq!(changed, want, "{case}");
        }
    }

    #[test]
    fn no_value_can_be_read_off_and_a_broken_file_says_nothing() {
        let known = KnownSettings::of_php(KNOWN, "1");
        let shown = serde_json::to_string(&known).unwrap();
        assert!(!shown.contains("shop") && !shown.contains("a'b"), "{shown}");
        let other = KnownSettings::of_php(KNOWN, "2");
        assert_ne!(known.digests["DB_NAME"], other.digests["DB_NAME"]);
        assert_eq!(
            KnownSettings::of_php(&KNOWN[..60], "1").digests,
            BTreeMap::new()
        );
    }
}
