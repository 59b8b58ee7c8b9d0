//! The probes of one check as a graph: which can run now, and with which parameters.
//!
//! Pure. A reference to something unknown makes the asking probe unknown, with the reason; so does one to something
//! absent without a default, a cycle, or a name that is nowhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::found::Found;
use super::reference::{Piece, Reference, pieces, references};
use super::spec::Fact;

/// A probe as it was sent: its kind and parameters, references still in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) kind: String,
    pub(super) params: Value,
}

/// Reads the one-key object; the error tells what it is instead.
pub(super) fn asked(value: &Value) -> Result<Asked, String> {
    match value {
        Value::Object(map) if map.len() == 1 => map
            .iter()
            .next()
            .map(|(kind, params)| Asked {
                kind: kind.clone(),
                params: params.clone(),
            })
            .ok_or_else(|| "a probe is a table with one kind".to_owned()),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Err("a probe is a table with one kind and its parameters".to_owned()),
    }
}

/// Order in which probes can run: every one after those that it refers to. What stands in a cycle, or refers into
/// one, comes with the reason why it cannot run. Names keep their order where nothing else is said.
pub(super) fn order(probes: &BTreeMap<String, Asked>) -> Vec<(String, Option<String>)> {
    let needs: BTreeMap<&str, BTreeSet<String>> = probes
        .iter()
        .map(|(name, asked)| {
            let needs = references(&asked.params)
                .into_iter()
                .map(|reference| reference.probe)
                .filter(|probe| probes.contains_key(probe))
                .collect();
            (name.as_str(), needs)
        })
        .collect();
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let next = needs.iter().find(|(name, needs)| {
            !done.contains(**name) && needs.iter().all(|need| done.contains(need.as_str()))
        });
        let Some((name, _)) = next else { break };
        done.insert(*name);
        order.push(((*name).to_owned(), None));
    }
    for name in probes.keys().filter(|name| !done.contains(name.as_str())) {
        let reason = format!("`{name}` stands in a cycle of references or needs one that does");
        order.push((name.clone(), Some(reason)));
    }
    order
}

/// Parameters with every reference filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Resolved {
    pub(super) params: Value,
    /// Clear secrets that went into the parameters.
    pub(super) secrets: Vec<String>,
}

/// Fills in every reference from what was found.
pub(super) fn resolve(params: &Value, found: &BTreeMap<String, Found>) -> Result<Resolved, String> {
    let mut secrets = Vec::new();
    let params = fill(params, found, &mut secrets)?;
    Ok(Resolved { params, secrets })
}

fn fill(
    value: &Value,
    found: &BTreeMap<String, Found>,
    secrets: &mut Vec<String>,
) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => match pieces(text).as_slice() {
            [Piece::Reference(reference)] => whole(reference, found, secrets)?,
            pieces => {
                let mut filled = String::with_capacity(text.len());
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => filled.push_str(text),
                        Piece::Reference(reference) => {
                            let Value::String(text) = whole(reference, found, secrets)? else {
                                return Err(format!(
                                    "{reference} is not one value and cannot stand inside a text"
                                ));
                            };
                            filled.push_str(&text);
                        }
                    }
                }
                Value::String(filled)
            }
        },
        Value::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                match (item, fill(item, found, secrets)?) {
                    // A whole list in a list gives its items.
                    (Value::String(_), Value::Array(inner)) => list.extend(inner),
                    (_, filled) => list.push(filled),
                }
            }
            Value::Array(list)
        }
        Value::Object(items) => Value::Object(
            items
                .iter()
                .map(|(key, item)| Ok((key.clone(), fill(item, found, secrets)?)))
                .collect::<Result<Map<_, _>, String>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn whole(
    reference: &Reference,
    found: &BTreeMap<String, Found>,
    secrets: &mut Vec<String>,
) -> Result<Value, String> {
    let probe = found.get(&reference.probe).ok_or_else(|| {
        format!(
            "needs {reference}, but no probe is named `{}`",
            reference.probe
        )
    })?;
    let fact = probe
        .facts
        .get(&reference.fact)
        .ok_or_else(|| format!("needs {reference}, but there is no such fact"))?;
    let fact = match (&reference.key, fact) {
        (Some(key), Fact::Map(map)) => map.get(key).unwrap_or(&Fact::Absent),
        (None, fact) | (Some(_), fact @ (Fact::Unknown(_) | Fact::Absent)) => fact,
        (Some(_), _) => return Err(format!("needs {reference}, but that fact has no keys")),
    };
    match (fact, &reference.default, &reference.key) {
        (Fact::Absent, Some(default), _) => Ok(Value::String(default.clone())),
        (Fact::Secret { .. }, _, Some(key)) => {
            let clear = probe
                .clear(&reference.fact, key)
                .ok_or_else(|| format!("needs {reference}, whose value is not at hand"))?;
            secrets.push(clear.to_owned());
            Ok(Value::String(clear.to_owned()))
        }
        (fact, _, _) => plain(fact).map_err(|why| format!("needs {reference}, which is {why}")),
    }
}

fn plain(fact: &Fact) -> Result<Value, String> {
    Ok(match fact {
        Fact::Unknown(reason) => return Err(format!("unknown: {reason}")),
        Fact::Absent => return Err("absent".to_owned()),
        Fact::Secret { .. } => return Err("a secret inside a larger value".to_owned()),
        Fact::Bool(value) => Value::String(value.to_string()),
        Fact::Int(value) => Value::String(value.to_string()),
        Fact::Text(text) => Value::String(text.clone()),
        Fact::List(items) => Value::Array(items.iter().map(plain).collect::<Result<_, _>>()?),
        Fact::Map(items) => Value::Object(
            items
                .iter()
                .map(|(key, item)| Ok((key.clone(), plain(item)?)))
                .collect::<Result<Map<_, _>, String>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Asked> {
        edges
            .iter()
            .map(|(name, needs)| {
                let argv: Vec<String> = needs
                    .iter()
                    .map(|need| format!("{{{need}.text}}"))
                    .collect();
                let asked = Asked {
                    kind: "program".into(),
                    params: json!({ "argv": argv }),
                };
                ((*name).to_owned(), asked)
            })
            .collect()
    }

    fn found() -> BTreeMap<String, Found> {
        let mut env = Found::absent("env")
            .with("error", Fact::Unknown("permission denied".into()))
            .with("keys", vec!["A", "B"])
            .with(
                "values",
                Fact::Map(
                    [
                        ("PORT".to_owned(), Fact::from("8080")),
                        ("KEY".to_owned(), Fact::Secret { length: 6 }),
                    ]
                    .into(),
                ),
            );
        env.keep_secret("values", "KEY", "hidden".into());
        [("env".to_owned(), env)].into()
    }

    #[test]
    fn references_are_filled_in_or_say_why_not() {
        for (given, want) in [
            (json!("{env.values.PORT}"), Ok(json!("8080"))),
            (
                json!("127.0.0.1:{env.values.PORT}"),
                Ok(json!("127.0.0.1:8080")),
            ),
            (json!("{env.values.NONE|3000}"), Ok(json!("3000"))),
            (
                json!("{env.values.NONE}"),
                Err("needs env.values.NONE, which is absent"),
            ),
            (json!("{env.size}"), Err("needs env.size, which is absent")),
            (json!("{env.size|1}"), Ok(json!("1"))),
            (json!("{env.error}"), Err("unknown: permission denied")),
            (json!("{env.error|x}"), Err("unknown: permission denied")),
            (json!("{env.keys}"), Ok(json!(["A", "B"]))),
            (json!(["x", "{env.keys}"]), Ok(json!(["x", "A", "B"]))),
            (json!("x{env.keys}"), Err("cannot stand inside a text")),
            (json!("{other.fact}"), Err("no probe is named `other`")),
            (json!("{env.nothing}"), Err("no such fact")),
            (json!("{env.values}"), Err("a secret inside")),
            (json!("{env.keys.x}"), Err("has no keys")),
            (
                json!({"a": ["{env.values.PORT}"], "b": 1}),
                Ok(json!({"a": ["8080"], "b": 1})),
            ),
        ] {
            match (resolve(&given, &found()), want) {
                (Ok(resolved), Ok(want)) => assert_eq!(resolved.params, want, "{given}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{given}: {error}"),
                (got, want) => panic!("{given}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_secret_is_used_and_named_as_one() {
        let resolved = resolve(&json!("x{env.values.KEY}"), &found()).unwrap();
        assert_eq!(resolved.params, json!("xhidden"));
        assert_eq!(resolved.secrets, ["hidden"]);
        assert!(!format!("{:?}", found()).contains("hidden"));
    }

    #[test]
    fn cycles_are_told_and_hold_up_only_what_needs_them() {
        let order = order(&graph(&[
            ("a", &["b"]),
            ("b", &["a"]),
            ("c", &["a"]),
            ("d", &["e"]),
            ("e", &["nowhere"]),
            ("f", &["f"]),
        ]));
        let runs: Vec<&str> = order
            .iter()
            .filter(|(_, why)| why.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(runs, ["e", "d"]);
        assert_eq!(order.len(), 6);
    }

    proptest! {
        #[test]
        fn every_probe_comes_once_and_after_its_needs(
            edges in proptest::collection::vec(proptest::collection::vec(0_usize..8, 0..3), 8)
        ) {
            let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
            let probes: BTreeMap<String, Asked> = edges.iter().enumerate().map(|(n, needs)| {
                let argv: Vec<String> = needs.iter().map(|need| format!("{{p{need}.text}}")).collect();
                (names[n].clone(), Asked { kind: "program".into(), params: json!({"argv": argv}) })
            }).collect();
            let order = order(&probes);
            prop_assert_eq!(order.len(), 8);
            let at = |name: &str| order.iter().position(|(other, _)| other == name).unwrap();
            for (n, needs) in edges.iter().enumerate() {
                if order[at(&names[n])].1.is_none() {
                    for need in needs {
                        prop_assert!(at(&names[*need]) < at(&names[n]));
                    }
                }
            }
        }
    }
}
