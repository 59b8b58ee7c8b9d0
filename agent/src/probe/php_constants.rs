//! The `php_constants` probe: what a PHP file defines, without running it; values leave the host only where the stack
//! reveals them.

use std::collections::BTreeMap;

use super::Context;
use super::deadline::wall_now_ms;
use super::found::{Found, ITEMS_MAX};
use super::php_text::{self, PhpText, Value};
use super::place::{is_absent, reason, stat};
use super::spec::{Fact, PhpConstantsProbe};
use crate::tree::TreePath;

/// No configuration is longer.
const FILE_BYTES_MAX: u64 = 512 << 10;

pub(super) fn probe(context: &Context, asked: &PhpConstantsProbe) -> Found {
    let unknown = |why: &str| Found::unknown("php_constants", why);
    let nowhere = || Found::absent("php_constants").with("exists", false);
    let path = match TreePath::parse(&asked.path) {
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
        Err(errno) if is_absent(errno) => return nowhere(),
        Err(errno) => return unknown(&reason(errno)),
    };
    let there = |found: Found| found.with("exists", true).with("size", size);
    match context.place.read(&path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => there(facts(&php_text::read(&bytes), asked, wall_now_ms())),
        Ok(None) => there(unknown("no regular file, or larger than 512 KiB")),
        Err(errno) if is_absent(errno) => nowhere(),
        Err(errno @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => {
            there(unknown(&reason(errno))).with("readable", false)
        }
        Err(errno) => there(unknown(&reason(errno))),
    }
}

/// The facts that follow from what the file says. A broken file says nothing for sure but that it is broken.
fn facts(text: &PhpText, asked: &PhpConstantsProbe, now_ms: i64) -> Found {
    if let Some(broken) = text.broken {
        return Found::unknown("php_constants", "the file breaks off")
            .with("readable", true)
            .with("parsed", false)
            .with("error", broken.to_string());
    }
    if text.values.len() > ITEMS_MAX {
        return Found::unknown("php_constants", "more constants than a configuration has")
            .with("readable", true);
    }
    let loads = asked.loads.as_ref().map(|file| {
        text.includes
            .iter()
            .flatten()
            .any(|end| end.ends_with(file))
    });
    // Another file may define what this one does not.
    let others = text
        .includes
        .iter()
        .any(|end| !matches!((end, &asked.loads), (Some(end), Some(file)) if end.ends_with(file)));
    let elsewhere = || Fact::Unknown("it may be defined in a file that is included".to_owned());
    let (mut missing, mut blank) = (Vec::new(), Vec::new());
    for key in &asked.need {
        match text.values.get(key) {
            None => missing.push(key.clone()),
            Some(Value::Null) => blank.push(key.clone()),
            Some(Value::Text(text)) if text.trim().is_empty() => blank.push(key.clone()),
            Some(Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Unclear) => {}
        }
    }
    if others {
        missing.clear();
    }
    let time = asked
        .time_of
        .as_ref()
        .and_then(|key| match text.values.get(key) {
            Some(Value::Int(seconds)) => Some(seconds.saturating_mul(1_000)),
            _ => None,
        });
    let mut found = Found::absent("php_constants")
        .with("readable", true)
        .with("parsed", true)
        .with("keys", text.values.keys().cloned().collect::<Vec<String>>())
        .with("missing", missing)
        .with("blank", blank)
        .with("compared", asked.known.is_some())
        .with(
            "changed",
            asked
                .known
                .as_ref()
                .map_or_else(Vec::new, |known| known.changed(text, &asked.unchanged)),
        )
        .with("loads", loads.map_or(Fact::Absent, Fact::Bool))
        // A time that is still to come has no age.
        .with(
            "time_age",
            time.map(|time| now_ms.saturating_sub(time).max(0)),
        );
    let mut values = BTreeMap::new();
    if others {
        for key in asked.need.iter().chain(&asked.reveal) {
            values.insert(key.clone(), elsewhere());
        }
    }
    for (key, value) in &text.values {
        let clear = match value {
            Value::Unclear => {
                let why = "it is no plain value in the file".to_owned();
                values.insert(key.clone(), Fact::Unknown(why));
                continue;
            }
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null => String::new(),
        };
        if asked.reveal.contains(key) {
            values.insert(key.clone(), Fact::Text(clear));
        } else {
            let length = clear.len() as u64;
            values.insert(key.clone(), Fact::Secret { length });
            found.keep_secret("values", key, clear);
        }
    }
    found.set("values", Fact::Map(values));
    found
}

#[cfg(test)]
mod tests {
    use super::super::known::KnownSettings;
    use super::*;

    const CONFIG: &str = include_str!("../../../tests/fixtures/wordpress/wp-config.php");

    fn asked() -> PhpConstantsProbe {
        PhpConstantsProbe {
            path: "wp-config.php".to_owned(),
            reveal: vec!["WP_DEBUG".to_owned()],
            need: vec![
                "DB_NAME".to_owned(),
                "DB_COLLATE".to_owned(),
                "X".to_owned(),
            ],
            loads: Some("wp-settings.php".to_owned()),
            time_of: Some("$upgrading".to_owned()),
            unchanged: vec!["AUTH_KEY".to_owned(), "DB_HOST".to_owned()],
            known: None,
        }
    }

    fn of(text: &str) -> Found {
        facts(
            &php_text::read(text.as_bytes()),
            &asked(),
            1_700_000_060_000,
        )
    }

    #[test]
    fn no_value_leaves_but_those_that_are_revealed() {
        let found = of(CONFIG);
        let shown = format!("{:?}", found.facts);
        assert!(!shown.contains("k3}q#eW0"), "{shown}");
        assert_eq!(found.clear("values", "DB_PASSWORD"), Some("fB7-mQ2x-lab"));
        let Some(Fact::Map(values)) = found.facts.get("values") else {
            panic!("{shown}");
        };
        assert_eq!(values["WP_DEBUG"], Fact::Text("false".to_owned()));
        assert_eq!(values["DB_PASSWORD"], Fact::Secret { length: 12 });
        assert!(matches!(values["ABSPATH"], Fact::Unknown(_)));
        let text = |key: &str| Fact::List(vec![Fact::Text(key.to_owned())]);
        assert_eq!(found.facts["missing"], text("X"));
        assert_eq!(found.facts["blank"], text("DB_COLLATE"));
        assert_eq!(found.facts["loads"], Fact::Bool(true));
        assert_eq!(found.facts["time_age"], Fact::Absent);
    }

    #[test]
    fn what_another_included_file_may_define_is_not_missing() {
        let found =
            of("<?php require 'secrets.php'; define('DB_NAME', 'x'); require 'wp-settings.php';");
        assert_eq!(found.facts["missing"], Fact::List(Vec::new()));
        assert_eq!(found.facts["loads"], Fact::Bool(true));
        let Some(Fact::Map(values)) = found.facts.get("values") else {
            panic!("{found:?}");
        };
        assert!(matches!(values["WP_DEBUG"], Fact::Unknown(_)));
        assert_eq!(values["DB_NAME"], Fact::Secret { length: 1 });
    }

    #[test]
    fn what_has_another_value_than_in_healthy_days_is_named_and_not_shown() {
        assert_eq!(of(CONFIG).facts["compared"], Fact::Bool(false));
        let asked = PhpConstantsProbe {
            known: Some(KnownSettings::of_php(CONFIG.as_bytes(), "salt")),
            ..asked()
        };
        for (case, text, want) in [
            ("unchanged", CONFIG.to_owned(), vec![]),
            (
                "one key",
                CONFIG.replace("k3}q#eW0", "somebody"),
                vec!["AUTH_KEY"],
            ),
        ] {
            let found = facts(&php_text::read(text.as_bytes()), &asked, 0);
            assert_eq!(found.facts["compared"], Fact::Bool(true), "{case}");
            assert_eq!(found.facts["changed"], Fact::from(want), "{case}");
            assert!(!format!("{:?}", found.facts).contains("somebody"), "{case}");
        }
    }

    #[test]
    fn a_broken_file_is_no_configuration_with_keys_missing() {
        let found = of(&CONFIG[..700]);
        assert_eq!(found.facts["parsed"], Fact::Bool(false));
        assert!(matches!(found.facts["missing"], Fact::Unknown(_)));
        assert!(matches!(&found.facts["error"], Fact::Text(text) if text.starts_with("line ")));
    }

    #[test]
    fn a_time_in_the_file_has_an_age_and_one_to_come_has_none() {
        let age = |text: &str| of(text).facts["time_age"].clone();
        assert_eq!(age("<?php $upgrading = 1700000000; ?>"), Fact::Int(60_000));
        assert_eq!(age("<?php $upgrading = 1800000000; ?>"), Fact::Int(0));
        assert_eq!(age("<?php $upgrading = time(); ?>"), Fact::Absent);
    }
}
