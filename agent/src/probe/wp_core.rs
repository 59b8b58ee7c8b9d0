//! The `wp_core` probe: are WordPress' own files there? It asks the installation itself what it needs.
//!
//! `wp-settings.php` and `wp-admin/includes/admin.php` name the files that every page loads; together with a few that no
//! version has done without they are a list that fits the installed version and needs no network. Contents are not
//! compared with anything: a file that was changed is not found here, only one that is missing, empty, or no longer whole
//! PHP. Reading some ten megabytes is not done twice: what was whole is whole until its times change. A file that cannot
//! be looked at hides no other one that is missing; only where nothing is wrong the answer is unknown then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rustix::fs::{OFlags, Statx};

use super::Context;
use super::deadline::{boot_now, wall_now_ms};
use super::found::{Found, cut};
use super::php_text::{self, Value};
use super::place::{is_absent, reason, stat};
use super::spec::Fact;
use crate::tree::TreePath;

/// What every version has.
const ALWAYS: [&str; 17] = [
    "index.php",
    "wp-admin/admin-ajax.php",
    "wp-admin/admin.php",
    "wp-admin/includes/admin.php",
    "wp-admin/includes/upgrade.php",
    "wp-admin/index.php",
    "wp-blog-header.php",
    "wp-comments-post.php",
    "wp-cron.php",
    "wp-includes/functions.php",
    "wp-includes/load.php",
    "wp-includes/plugin.php",
    "wp-includes/version.php",
    "wp-includes/wp-db.php",
    "wp-load.php",
    "wp-login.php",
    "wp-settings.php",
];

/// Files that name others.
const LISTS: [&str; 2] = ["wp-settings.php", "wp-admin/includes/admin.php"];

const FILE_BYTES_MAX: u64 = 1 << 20;
/// About four hundred are named by the versions of today.
const NAMES_MAX: usize = 5_000;
const SHOWN_MAX: usize = 50;
const VERSION_BYTES_MAX: usize = 50;
/// Files, of some hundred installations of one user; a few megabytes.
const REMEMBERED_MAX: usize = 40_000;
/// A file that changed this lately may change again within the same tick of its clock.
const SETTLED_MS: i64 = 2_000;

/// Which state of a file it was: device, inode, size, and time of the last change in seconds and nanoseconds.
type Seen = (u32, u32, u64, u64, i64, u32);

/// Whether files that were read broke off.
type Looked = BTreeMap<Seen, bool>;

/// What the latest look at an installation knew, by root and folder.
static REMEMBERED: Mutex<BTreeMap<String, Looked>> = Mutex::new(BTreeMap::new());

pub(super) fn probe(context: &Context, folder: &str) -> Found {
    let unknown = |why: &str| Found::unknown("wp_core", why);
    let folder = match TreePath::parse(folder) {
        Ok(folder) => folder,
        Err(error) => return unknown(&error.to_string()),
    };
    let read = |name: &str| match below(&folder, name) {
        None => Err(format!("`{name}` is no path")),
        Some(path) => match context.place.read(&path, FILE_BYTES_MAX) {
            Ok(text) => Ok(text),
            Err(errno) if is_absent(errno) => Ok(None),
            Err(errno) => Err(format!("{path}: {}", reason(errno))),
        },
    };
    let mut unreadable = Vec::new();
    let version = match read("wp-includes/version.php") {
        Err(why) => {
            unreadable.push(why.clone());
            Fact::Unknown(why)
        }
        Ok(text) => Fact::from(text.and_then(|text| version(&text))),
    };
    let mut names: BTreeSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    for list in LISTS {
        match read(list) {
            Err(why) => unreadable.push(why),
            Ok(text) => names.extend(named(&text.unwrap_or_default())),
        }
    }
    let (mut missing, mut empty, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    let mut checked = 0_usize;
    let site = format!("{} {folder}", context.target.root);
    let mut before = recall(&site);
    let mut looked = Looked::new();
    for name in names.iter().take(NAMES_MAX) {
        if context.stopped() {
            // The next look goes on from here.
            before.extend(looked);
            remember(site, before);
            return unknown("deadline");
        }
        let Some(path) = below(&folder, name) else {
            continue;
        };
        checked += 1;
        let found = context.place.open_at(&path, OFlags::PATH).and_then(stat);
        match found {
            Ok(stat) if stat.stx_size == 0 => empty.push(name.clone()),
            Ok(stat) => match breaks_off(context, &path, &stat, &before, &mut looked) {
                Ok(true) => broken.push(name.clone()),
                Ok(false) => {}
                Err(why) => unreadable.push(format!("{path}: {why}")),
            },
            Err(errno) if is_absent(errno) => missing.push(name.clone()),
            Err(errno) => unreadable.push(format!("{path}: {}", reason(errno))),
        }
    }
    remember(site, looked);
    let complete = missing.is_empty() && empty.is_empty() && broken.is_empty();
    if complete && let Some(why) = unreadable.first() {
        return unknown(why);
    }
    missing.truncate(SHOWN_MAX);
    empty.truncate(SHOWN_MAX);
    broken.truncate(SHOWN_MAX);
    Found::absent("wp_core")
        .with("version", version)
        .with("checked", checked)
        .with("missing", missing)
        .with("empty", empty)
        .with("broken", broken)
        .with("complete", complete)
}

/// Is it no longer whole PHP? What is larger than any file of WordPress, or no file, is not judged.
///
/// `before` is what is known, and `looked` gets what is known now.
fn breaks_off(
    context: &Context,
    path: &TreePath,
    stat: &Statx,
    before: &Looked,
    looked: &mut Looked,
) -> Result<bool, String> {
    let seen = (
        stat.stx_dev_major,
        stat.stx_dev_minor,
        stat.stx_ino,
        stat.stx_size,
        stat.stx_ctime.tv_sec,
        stat.stx_ctime.tv_nsec,
    );
    if let Some(&broken) = before.get(&seen) {
        looked.insert(seen, broken);
        return Ok(broken);
    }
    let broken = match context.place.read(path, FILE_BYTES_MAX) {
        Ok(Some(text)) => php_text::breaks_off(&text),
        Ok(None) => false,
        // Gone since it was looked at a moment ago: the next look says so.
        Err(errno) if is_absent(errno) => return Err("it has just changed".to_owned()),
        Err(errno) => return Err(reason(errno)),
    };
    let age = wall_now_ms().saturating_sub(stat.stx_ctime.tv_sec.saturating_mul(1_000));
    if age > SETTLED_MS {
        looked.insert(seen, broken);
    }
    Ok(broken)
}

fn recall(site: &str) -> Looked {
    let remembered = REMEMBERED.lock().ok();
    remembered
        .and_then(|remembered| remembered.get(site).cloned())
        .unwrap_or_default()
}

fn remember(site: String, looked: Looked) {
    if let Ok(mut remembered) = REMEMBERED.lock() {
        let any = usize::try_from(boot_now().subsec_nanos()).unwrap_or(0);
        keep(&mut remembered, site, looked, REMEMBERED_MAX, any);
    }
}

/// Keeps this look in place of the one before. Where there is no room for it, others are forgotten one by one, whichever
/// `any` falls on: with the oldest first, one installation too many would have them all read again in turn.
fn keep(
    remembered: &mut BTreeMap<String, Looked>,
    site: String,
    looked: Looked,
    files_max: usize,
    any: usize,
) {
    remembered.remove(&site);
    if looked.is_empty() || looked.len() > files_max {
        return;
    }
    let mut files: usize = remembered.values().map(BTreeMap::len).sum();
    while files + looked.len() > files_max {
        let at = any.checked_rem(remembered.len()).unwrap_or(0);
        let Some(other) = remembered.keys().nth(at).cloned() else {
            break;
        };
        let forgotten = remembered.remove(&other);
        files = files.saturating_sub(forgotten.as_ref().map_or(0, BTreeMap::len));
    }
    remembered.insert(site, looked);
}

fn below(folder: &TreePath, name: &str) -> Option<TreePath> {
    let name = TreePath::parse(name).ok()?;
    if folder.is_root() {
        return Some(name);
    }
    TreePath::parse(&format!("{folder}/{name}")).ok()
}

fn version(text: &[u8]) -> Option<String> {
    match php_text::read(text).values.get("$wp_version")? {
        Value::Text(version) => Some(cut(version, VERSION_BYTES_MAX)),
        Value::Int(_) | Value::Bool(_) | Value::Null | Value::Unclear => None,
    }
}

/// What `require ABSPATH . WPINC . '/file.php';` and `require_once ABSPATH . 'wp-admin/includes/file.php';` name, as
/// whole lines of their own.
fn named(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .filter_map(|line| {
            let line = line.trim().strip_prefix("require")?;
            let line = line.strip_prefix("_once").unwrap_or(line).trim_start();
            let rest = line
                .strip_prefix("ABSPATH")?
                .trim_start()
                .strip_prefix('.')?;
            let rest = rest.trim_start();
            let (folder, rest) = match rest.strip_prefix("WPINC") {
                Some(rest) => (
                    "wp-includes",
                    rest.trim_start().strip_prefix('.')?.trim_start(),
                ),
                None => ("", rest),
            };
            let quote = rest
                .chars()
                .next()
                .filter(|quote| matches!(quote, '\'' | '"'))?;
            let (name, end) = rest[1..].split_once(quote)?;
            let is_plain = end.trim_start().starts_with(';') && !name.contains(['$', '\\']);
            is_plain.then(|| format!("{folder}{name}"))
        })
        .take(NAMES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_requirements_of_core_are_named() {
        let text = b"<?php
require ABSPATH . WPINC . '/version.php';
	require_once ABSPATH . WPINC . \"/l10n.php\" ;
require_once ABSPATH . 'wp-admin/includes/file.php';
require ABSPATH . WPINC . '/x-' . $y . '.php';
require ABSPATH . WPINC . \"/$z.php\";
require WP_CONTENT_DIR . '/advanced-cache.php';
// require ABSPATH . WPINC . '/comment.php';
include ABSPATH . WPINC . '/optional.php';
";
        assert_eq!(
            named(text),
            [
                "wp-includes/version.php",
                "wp-includes/l10n.php",
                "wp-admin/includes/file.php"
            ]
        );
    }

    #[test]
    fn one_installation_too_many_costs_only_as_many_others_as_need_be() {
        let looked = |files: u64| -> Looked {
            (0..files)
                .map(|file| ((0, 0, file, 1, 0, 0), false))
                .collect()
        };
        let mut remembered = BTreeMap::new();
        for site in 0..40_usize {
            keep(&mut remembered, format!("{site:02}"), looked(10), 100, site);
            assert_eq!(remembered.len(), (site + 1).min(10), "{site}");
            assert!(remembered.contains_key(&format!("{site:02}")), "{site}");
        }
        // A look takes the place of the one before, and nobody else's.
        let others: Vec<String> = remembered.keys().cloned().collect();
        keep(&mut remembered, "39".to_owned(), looked(9), 100, 0);
        assert_eq!(remembered["39"].len(), 9);
        let now: Vec<String> = remembered.keys().cloned().collect();
        assert_eq!(now, others);
        keep(&mut remembered, "big".to_owned(), looked(25), 100, 7);
        assert_eq!(remembered.len(), 8, "three of ten went");
        // What would never fit, and what is nothing, takes no place.
        keep(&mut remembered, "huge".to_owned(), looked(101), 100, 0);
        keep(&mut remembered, "none".to_owned(), looked(0), 100, 0);
        keep(&mut remembered, "big".to_owned(), looked(0), 100, 0);
        assert_eq!(remembered.len(), 7);
    }

    #[test]
    fn the_version_is_a_plain_text_or_not_known() {
        let of = |text: &str| version(text.as_bytes());
        assert_eq!(
            of("<?php\n$wp_version = '6.1.9';\n"),
            Some("6.1.9".to_owned())
        );
        assert_eq!(of("<?php\n$wp_version = f();\n"), None);
        assert_eq!(of(""), None);
    }
}
