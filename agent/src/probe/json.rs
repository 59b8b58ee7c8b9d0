//! The `json` probe: values out of a JSON file by pointer.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Context;
use super::file::PARSE_BYTES_MAX;
use super::found::{Found, json_fact};
use super::place::{is_absent, reason};
use super::spec::Fact;
use crate::tree::TreePath;

pub(super) fn probe(context: &Context, path: &str, pick: &BTreeMap<String, String>) -> Found {
    let unknown = |why: &str| Found::unknown("json", why);
    let path = match TreePath::parse(path) {
        Ok(path) => path,
        Err(error) => return unknown(&error.to_string()),
    };
    let bytes = match context.place.read(&path, PARSE_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return unknown("no regular file, or larger than 16 MiB").with("exists", true);
        }
        Err(errno) if is_absent(errno) => return Found::absent("json").with("exists", false),
        Err(errno) => return unknown(&reason(errno)),
    };
    let found = Found::absent("json").with("exists", true);
    // serde_json stops at a depth of 128 by itself.
    match serde_json::from_slice::<Value>(&bytes) {
        Err(error) => found.with("parsed", false).with("error", error.to_string()),
        Ok(value) => found.with("parsed", true).with(
            "values",
            Fact::Map(
                pick.iter()
                    .map(|(name, pointer)| {
                        let fact = value.pointer(pointer).map_or(Fact::Absent, json_fact);
                        (name.clone(), fact)
                    })
                    .collect(),
            ),
        ),
    }
}
