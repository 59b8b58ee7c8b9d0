//! Configuration from healthy days: taken while an app was well, and put back only where that cannot hurt.
//!
//! A snapshot is a backup of kind known-good over the stack's config members. Putting it back is an action like any
//! other; here it is only said what would differ, by key and never by value, and whether a person must look first.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::Pattern;

pub use self::settings::Dialect;
use self::settings::{Setting, read};
use super::capture::{Limits, Protect, VerifiedBackup, protect};
use super::error::ProtectError;
use crate::model::app::App;
use crate::model::backup::BackupKind;
use crate::model::id::BackupId;
use crate::seam::{Login, World};

/// Takes a snapshot of the stack's config members. The caller knows that the app is healthy.
///
/// # Errors
/// As [`protect`].
pub async fn take(
    world: &World,
    id: BackupId,
    app: &App,
    login: Login,
    members: Vec<Pattern>,
) -> Result<VerifiedBackup, ProtectError> {
    let request = Protect {
        id,
        kind: BackupKind::KnownGood,
        app,
        login,
        heal: None,
        action: None,
        members: members
            .into_iter()
            .map(|pattern| WriteMember {
                pattern,
                what: WriteKind::Content,
                shared: false,
            })
            .collect(),
        base: Vec::new(),
        limits: Limits::new(&app.policy.backup, 0),
    };
    protect(world, &request).await
}

/// Is a config file's text no longer one: emptied, cut off, or without anything that its kind must hold?
///
/// `known` is what the newest snapshot holds of it. Such a text never becomes known-good, however long the app has been
/// well with it: an app may not look at the file until it is started again, or have no check that does.
pub fn is_ruined(name: &str, text: &[u8], known: Option<&[u8]>, dialect: Dialect) -> bool {
    if text.trim_ascii().is_empty() {
        return true;
    }
    let is_json = |text: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let is_php = |text: &[u8]| text.windows(2).any(|pair| pair == b"<?");
    let had = |holds: &dyn Fn(&[u8]) -> bool| known.is_none_or(holds);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    // Of the files called `….lock` only composer's is surely JSON.
    let kind = match name {
        "composer.lock" => "json",
        _ => extension,
    };
    match (dialect, kind) {
        (Dialect::Opaque, "json") => !is_json(text) && had(&is_json),
        (Dialect::Opaque, "php") => !is_php(text) && had(&is_php),
        (Dialect::Opaque, _) => false,
        (Dialect::PhpEnv | Dialect::NodeEnv | Dialect::WpConfig, _) => {
            let settings = read(text, dialect);
            let is_cut = match dialect {
                // An unquoted last line without a line break is whole; a quoted one without its end is not.
                Dialect::PhpEnv | Dialect::NodeEnv => settings
                    .last()
                    .is_some_and(|last| last.torn && ends_in_quotes(text)),
                Dialect::WpConfig => settings.last().is_some_and(|last| last.torn),
                Dialect::Opaque => false,
            };
            is_cut || (settings.is_empty() && had(&|text| !read(text, dialect).is_empty()))
        }
    }
}

/// Does the last value of the text begin with a quote? Only asked of one that is torn.
fn ends_in_quotes(text: &[u8]) -> bool {
    let begun = |quote: u8| {
        let opened = [b'=', quote];
        text.windows(2)
            .rposition(|pair| pair == opened)
            .is_some_and(|at| !text[at + 2..].contains(&quote))
    };
    begun(b'"') || begun(b'\'')
}

/// How one key differs. Values are never told: most of these files are full of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyChange {
    /// Only the new text has it.
    Added,
    /// Only the old text has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}

/// Keys that differ between two texts, in order.
pub fn difference(old: &[u8], new: &[u8], dialect: Dialect) -> Vec<(String, KeyChange)> {
    let (old, new) = (last_values(old, dialect), last_values(new, dialect));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let change = match (old.get(key), new.get(key)) {
                (None, Some(_)) => KeyChange::Added,
                (Some(_), None) => KeyChange::Removed,
                (Some(old), Some(new)) if old != new => KeyChange::Changed,
                (Some(_), Some(_)) | (None, None) => return None,
            };
            Some((key.clone(), change))
        })
        .collect()
}

fn last_values(text: &[u8], dialect: Dialect) -> BTreeMap<String, Vec<u8>> {
    read(text, dialect)
        .into_iter()
        .map(|setting| (setting.key, setting.value))
        .collect()
}

/// Secret and database settings that are present with another value than the known-good text has: with any of them,
/// putting the known-good text back is a person's decision, because it could take a live site's data away from it.
///
/// Absent, empty or cut off is not a difference. A key that the known-good text does not have, but the present one does,
/// is one: it would be lost. Every occurrence of a key counts, whichever of them the application reads.
pub fn conflicts(known: &[u8], present: Option<&[u8]>, dialect: Dialect) -> Vec<String> {
    let Some(present) = present else {
        return Vec::new();
    };
    let mut values: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for setting in read(known, dialect) {
        values.entry(setting.key).or_default().push(setting.value);
    }
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for setting in read(present, dialect) {
        if !is_guarded(&setting.key) || setting.value.is_empty() {
            continue;
        }
        let same = values.get(&setting.key).is_some_and(|known| {
            known
                .iter()
                .any(|known| *known == setting.value || is_cut_off(&setting, known))
        });
        if !same {
            keys.insert(setting.key);
        }
    }
    keys.into_iter().collect()
}

fn is_cut_off(setting: &Setting, known: &[u8]) -> bool {
    setting.torn && known.starts_with(&setting.value)
}

/// Words in a key that make its value a secret or a way to data.
const GUARDED: [&str; 22] = [
    "KEY",
    "SECRET",
    "PASS",
    "PASSWORD",
    "PASSWD",
    "PWD",
    "TOKEN",
    "SALT",
    "DSN",
    "CREDENTIAL",
    "CREDENTIALS",
    "PRIVATE",
    "AUTH",
    "DB",
    "DATABASE",
    "MYSQL",
    "PG",
    "POSTGRES",
    "POSTGRESQL",
    "MONGO",
    "MONGODB",
    "REDIS",
];

/// Is it a secret or database setting, judged by its name?
fn is_guarded(key: &str) -> bool {
    let upper = key.to_ascii_uppercase();
    upper == "TABLE_PREFIX"
        || upper.ends_with("DATABASE_URL")
        || upper
            .split(|character: char| !character.is_ascii_alphanumeric())
            .any(|word| {
                GUARDED.contains(&word)
                    // APPKEY, PGPASSWORD, DBHOST: written together.
                    || ["PASSWORD", "SECRET", "TOKEN", "APIKEY", "APPKEY"]
                        .iter()
                        .any(|end| word.ends_with(end))
                    || ["PG", "DB", "MYSQL", "MONGO", "REDIS"]
                        .iter()
                        .any(|start| word.starts_with(start))
            })
}

#[cfg(test)]
mod tests;
