//! The `env` probe: a `.env` file's keys; values leave the host only where the stack reveals them.

use std::collections::BTreeMap;

use super::Context;
use super::env_text;
use super::found::{Found, ITEMS_MAX};
use super::place::{is_absent, reason, stat};
use super::spec::{Dialect, Fact};
use crate::tree::TreePath;

/// No `.env` file is longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn probe(
    context: &Context,
    path: &str,
    dialect: Dialect,
    reveal: &[String],
    need: &[String],
) -> Found {
    let unknown = |why: &str| Found::unknown("env", why);
    let path = match TreePath::parse(path) {
        Ok(path) => path,
        Err(error) => return unknown(&error.to_string()),
    };
    let size = context
        .place
        .open_at(&path, rustix::fs::OFlags::PATH)
        .and_then(stat)
        .map(|stat| stat.stx_size);
    let size = match size {
        Ok(size) => size,
        Err(errno) if is_absent(errno) => return Found::absent("env").with("exists", false),
        Err(errno) => return unknown(&reason(errno)),
    };
    let there = |found: Found| found.with("exists", true).with("size", size);
    match context.place.read(&path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => there(facts(&bytes, dialect, reveal, need)),
        Ok(None) => there(unknown("no regular file, or larger than 1 MiB")),
        Err(errno) if is_absent(errno) => Found::absent("env").with("exists", false),
        Err(errno @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => {
            there(unknown(&reason(errno))).with("readable", false)
        }
        Err(errno) => there(unknown(&reason(errno))),
    }
}

/// The facts that follow from the file's bytes.
fn facts(bytes: &[u8], dialect: Dialect, reveal: &[String], need: &[String]) -> Found {
    let entries = match env_text::parse(bytes, dialect) {
        Ok(entries) => entries,
        Err(error) => {
            return Found::unknown("env", "the file does not parse")
                .with("readable", true)
                .with("parsed", false)
                .with("error", error.to_string());
        }
    };
    if entries.len() > ITEMS_MAX {
        return Found::unknown("env", "more keys than a .env file has").with("readable", true);
    }
    let (mut missing, mut blank) = (Vec::new(), Vec::new());
    for key in need {
        match entries.get(key) {
            None => missing.push(key.clone()),
            Some(value) if value.trim().is_empty() => blank.push(key.clone()),
            Some(_) => {}
        }
    }
    let mut found = Found::absent("env")
        .with("readable", true)
        .with("parsed", true)
        .with("keys", entries.keys().cloned().collect::<Vec<String>>())
        .with("missing", missing)
        .with("blank", blank);
    let mut values = BTreeMap::new();
    for (key, value) in entries {
        if reveal.contains(&key) {
            values.insert(key, Fact::Text(value));
        } else {
            values.insert(
                key.clone(),
                Fact::Secret {
                    length: value.len() as u64,
                },
            );
            found.keep_secret("values", &key, value);
        }
    }
    found.with("values", Fact::Map(values))
}
