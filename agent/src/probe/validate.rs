//! Is a probe written correctly? Asked when a stack file is loaded, before any reference can be filled in.
//!
//! Pure. Whatever does not depend on a reference is checked to the end: unknown kind or parameter, missing
//! parameter, wrong type, lengths of time, bytes, permission bits, paths that leave the root. Whether a reference
//! names a probe and a fact that exist is the caller's to say: it knows the check's other probes.

use serde_json::{Map, Value};

use super::http_url::{Origin, Url};
use super::params::WITHIN_MAX;
use super::reference::{Piece, Reference, has_reference, pieces, references};
use super::spec::{KINDS, Probe, kind};
use super::unit::is_unit_name;
use crate::step::Bits;
use crate::tree::{Pattern, TreePath};
use crate::units::{parse_bytes, parse_duration};

/// The most parameters given wholly by a reference that are tried out together.
const WHOLE_MAX: u32 = 6;

/// Checks one probe; answers the references that it holds.
///
/// # Errors
/// A sentence that names the parameter and what is wrong with it.
pub fn check(kind_name: &str, params: &Value) -> Result<Vec<Reference>, String> {
    if kind(kind_name).is_none() {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        return Err(format!(
            "unknown probe kind `{}`; known are {}",
            kind_name.chars().take(60).collect::<String>(),
            known.join(", ")
        ));
    }
    let Value::Object(map) = params else {
        return Err(format!("the parameters of `{kind_name}` must be a table"));
    };
    structure(kind_name, map)?;
    for (name, value) in map {
        literals(kind_name, name, value).map_err(|error| format!("`{name}`: {error}"))?;
    }
    Ok(references(params))
}

/// Reads a probe whose references are filled in, with its literals checked.
///
/// # Errors
/// As [`check`].
pub(super) fn read(kind_name: &str, params: &Value) -> Result<Probe, String> {
    if kind(kind_name).is_none() || !params.is_object() {
        check(kind_name, params)?;
    }
    let probe = parse(kind_name, params.clone())?;
    if let Value::Object(map) = params {
        for (name, value) in map {
            // What came out of a fact may look like a reference and is text all the same.
            literal(kind_name, name, value).map_err(|error| format!("`{name}`: {error}"))?;
        }
    }
    Ok(probe)
}

fn parse(kind_name: &str, params: Value) -> Result<Probe, String> {
    let mut outer = Map::new();
    outer.insert(kind_name.to_owned(), params);
    serde_json::from_value(Value::Object(outer)).map_err(|error| error.to_string())
}

/// Does the shape fit, whatever the references will give?
fn structure(kind_name: &str, map: &Map<String, Value>) -> Result<(), String> {
    let mut base = Map::new();
    let mut whole = Vec::new();
    for (name, value) in map {
        let is_whole = matches!(value, Value::String(text)
            if matches!(pieces(text).as_slice(), [Piece::Reference(_)]));
        if is_whole {
            whole.push(name.clone());
        }
        base.insert(name.clone(), placeholder(value));
    }
    let shapes = 4_u32.pow(WHOLE_MAX.min(u32::try_from(whole.len()).unwrap_or(u32::MAX)));
    let mut first = None;
    for shape in 0..shapes {
        let mut params = base.clone();
        let mut digits = shape;
        for name in &whole {
            let value = match digits % 4 {
                0 => Value::from("1"),
                1 => Value::from(vec!["1"]),
                2 => Value::Object(Map::new()),
                _ => Value::from("write"),
            };
            params.insert(name.clone(), value);
            digits /= 4;
        }
        match parse(kind_name, Value::Object(params)) {
            Ok(_) => return Ok(()),
            // A shape of ours that does not fit says nothing about what was written.
            Err(error) if first.is_none() || !error.starts_with("invalid type") => {
                first = Some(error);
            }
            Err(_) => {}
        }
    }
    Err(first.unwrap_or_else(|| "cannot be read".to_owned()))
}

/// The value with something harmless in place of each reference.
fn placeholder(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(
            pieces(text)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text,
                    Piece::Reference(_) => "1".to_owned(),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(placeholder).collect()),
        Value::Object(items) => Value::Object(
            items
                .iter()
                .map(|(key, item)| (key.clone(), placeholder(item)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// As [`literal`], leaving out everything that a reference will fill in.
fn literals(kind_name: &str, name: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Array(items) => {
            if items.is_empty() && matches!(name, "paths" | "argv") {
                return Err("must not be empty".to_owned());
            }
            items
                .iter()
                .try_for_each(|item| literals(kind_name, name, item))
        }
        Value::Object(items) => items
            .values()
            .try_for_each(|item| literals(kind_name, name, item)),
        Value::String(_) if has_reference(value) => Ok(()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            literal(kind_name, name, value)
        }
    }
}

/// Checks the texts of one parameter whose type is already right.
fn literal(kind_name: &str, name: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Array(items) => {
            return items
                .iter()
                .try_for_each(|item| literal(kind_name, name, item));
        }
        Value::Object(items) => {
            return items
                .values()
                .try_for_each(|item| literal(kind_name, name, item));
        }
        Value::Number(number) if (kind_name, name) == ("port", "port") => {
            return port(&number.to_string()).map(drop);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return Ok(()),
    };
    if text.contains('\0') {
        return Err("must not hold a NUL byte".to_owned());
    }
    match (kind_name, name) {
        (_, "timeout") | ("bisect", "within") => {
            let time = parse_duration(text).map_err(|error| error.to_string())?;
            if time.is_zero() {
                return Err("must be longer than nothing".to_owned());
            }
            if name == "within" && time > WITHIN_MAX {
                return Err("must not be longer than 2m".to_owned());
            }
        }
        ("log" | "php_log", "tail") => _ = parse_bytes(text).map_err(|error| error.to_string())?,
        ("log", "count") | ("http", "find") | ("bisect", "expect") if text.is_empty() => {
            return Err("must not be empty".to_owned());
        }
        ("mode", "forbid" | "need") => {
            Bits::parse(text)
                .ok_or_else(|| format!("`{text}` is not of the form `o+w` or `u+rX,g+r`"))?;
        }
        ("tree" | "access" | "mode", "paths") => {
            _ = Pattern::parse(text).map_err(|error| error.to_string())?;
        }
        (
            "file" | "env" | "json" | "npm_lock" | "php_constants" | "wp_core" | "php_log" | "disk"
            | "log",
            "path",
        )
        | ("php_log", "below") => {
            _ = TreePath::parse(text).map_err(|error| error.to_string())?;
        }
        ("json", "pick") if !text.is_empty() && !text.starts_with('/') => {
            return Err(format!(
                "`{text}` is not a JSON pointer; it must begin with `/`"
            ));
        }
        ("http", "url") => _ = Url::parse(text)?,
        ("http", "path") => Url::check_path(text)?,
        ("http", "origin") => _ = Origin::parse(text)?,
        ("port", "port") => _ = port(text)?,
        ("port", "address") => {
            text.parse::<std::net::IpAddr>()
                .map_err(|_| format!("`{text}` is not an IP address"))?;
        }
        ("unit", "name") if !is_unit_name(text) => {
            return Err(format!("`{text}` is not the name of a unit"));
        }
        ("pm2", "home") if !text.starts_with('/') => {
            return Err("must be an absolute path".to_owned());
        }
        _ => {}
    }
    Ok(())
}

/// A TCP port from its text.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.trim()
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            format!(
                "`{}` is not a port",
                text.chars().take(20).collect::<String>()
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_probe_is_refused_by_name() {
        for (kind, params, want) in [
            ("htp", json!({}), "unknown probe kind `htp`"),
            ("file", json!({}), "missing field `path`"),
            (
                "file",
                json!({"path": "a", "pth": 1}),
                "unknown field `pth`",
            ),
            ("memory", json!({"x": 1}), "unknown field `x`"),
            ("memory", json!([]), "must be a table"),
            ("file", json!({"path": "../etc"}), "cannot hold `..`"),
            ("file", json!({"path": "/etc/passwd"}), "cannot be absolute"),
            ("file", json!({"path": 7}), "invalid type"),
            ("tree", json!({"paths": []}), "must not be empty"),
            (
                "http",
                json!({"url": "http://a/", "timeout": "10"}),
                "not a length of time",
            ),
            (
                "http",
                json!({"url": "http://a/", "timeout": "0s"}),
                "longer than nothing",
            ),
            ("http", json!({"url": "ftp://a/"}), "`url`"),
            (
                "http",
                json!({"url": "http://a/", "path": "/a\r\nX: y"}),
                "`path`",
            ),
            (
                "http",
                json!({"url": "http://a/", "origin": "example.org:80"}),
                "`origin`",
            ),
            ("mode", json!({"paths": ["a"], "forbid": "w"}), "`forbid`"),
            (
                "log",
                json!({"path": "a", "tail": "64"}),
                "not a number of bytes",
            ),
            ("port", json!({"port": 70000}), "not a port"),
            ("port", json!({"port": "x"}), "not a port"),
            ("unit", json!({"name": "-x"}), "name of a unit"),
            (
                "json",
                json!({"path": "a", "pick": {"x": "a"}}),
                "JSON pointer",
            ),
            ("program", json!({"argv": []}), "must not be empty"),
            (
                "bisect",
                json!({"items": [], "argv": ["php"], "expect": "ok", "within": "3m"}),
                "longer than 2m",
            ),
            (
                "access",
                json!({"paths": "{a.b}", "want": "execute"}),
                "unknown variant",
            ),
            ("file", json!({"path": ["{a.b}"]}), "invalid type"),
        ] {
            let error = check(kind, &params).expect_err(kind);
            assert!(error.contains(want), "{kind} {params}: {error}");
        }
    }

    #[test]
    fn references_are_listed_and_leave_the_rest_checked() {
        let found = check(
            "http",
            &json!({"url": "http://a/", "origin": "127.0.0.1:{env.values.PORT|3000}"}),
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key.as_deref(), Some("PORT"));
        assert_eq!(found[0].default.as_deref(), Some("3000"));
        for (kind, params) in [
            ("access", json!({"paths": "{a.list}", "want": "{b.c}"})),
            (
                "access",
                json!({"paths": ["x", "{a.list}"], "want": "read"}),
            ),
            ("port", json!({"port": "{env.values.PORT}"})),
            ("json", json!({"path": "{a.b}", "pick": "{a.c}"})),
            ("http", json!({"url": "{a.b}", "timeout": "{a.c}"})),
        ] {
            assert!(!check(kind, &params).expect(kind).is_empty(), "{params}");
        }
    }

    #[test]
    fn every_kind_can_be_written() {
        for (kind, params) in [
            ("http", json!({"url": "https://shop.example/"})),
            ("file", json!({"path": ".env", "parse": "json"})),
            ("tree", json!({"paths": ["storage/**", "config/*.php"]})),
            (
                "access",
                json!({"paths": ["storage"], "want": "write", "recursive": true}),
            ),
            (
                "mode",
                json!({"paths": ["."], "forbid": "o+w", "need": "u+rX"}),
            ),
            (
                "env",
                json!({"path": ".env", "reveal": ["PORT"], "need": ["APP_KEY"]}),
            ),
            (
                "json",
                json!({"path": "package.json", "pick": {"n": "/name"}}),
            ),
            ("npm_lock", json!({})),
            (
                "php_constants",
                json!({"path": "wp-config.php", "need": ["DB_NAME"], "time_of": "$upgrading"}),
            ),
            ("wp_core", json!({})),
            (
                "mysql",
                json!({"host": "localhost:/run/mysqld/mysqld.sock"}),
            ),
            (
                "php_log",
                json!({"path": "wp-content/debug.log", "below": "wp-content/plugins"}),
            ),
            (
                "bisect",
                json!({"items": ["akismet"], "argv": ["php", "wp", "--skip-plugins=%left_out%"], "expect": "ok"}),
            ),
            ("process", json!({"any": ["artisan"]})),
            ("port", json!({"port": 3000})),
            ("pm2", json!({})),
            ("unit", json!({"name": "php8.2-fpm.service"})),
            ("disk", json!({"path": ""})),
            ("memory", json!({})),
            (
                "log",
                json!({"path": "storage/logs/laravel.log", "count": {"e": "ERROR"}}),
            ),
            (
                "program",
                json!({"argv": ["php", "artisan"], "output": "json"}),
            ),
        ] {
            assert_eq!(check(kind, &params), Ok(vec![]), "{kind}");
        }
        assert_eq!(KINDS.len(), 21);
    }
}
