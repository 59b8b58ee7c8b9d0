use std::collections::BTreeMap;

use super::*;
use crate::catalogue::fact::Scope;
use crate::catalogue::source;
use crate::catalogue::truth::Truth;
use crate::model::Facts;

fn types(path: &FactPath) -> Result<FactType, String> {
    match path.fact.as_str() {
        "int" => Ok(FactType::Int),
        "age" => Ok(FactType::Millis),
        "size" => Ok(FactType::Bytes),
        "mode" => Ok(FactType::Mode),
        "text" | "gone" => Ok(FactType::Text),
        "list" | "none" => Ok(FactType::ListOfText),
        "flag" => Ok(FactType::Bool),
        "any" | "dark" | "key" | "x" => Ok(FactType::Any),
        _ => Err(format!("no fact `{}`", path.fact)),
    }
}

fn facts() -> BTreeMap<String, Facts> {
    let text = |text: &str| Fact::Text(text.to_owned());
    let facts: Facts = [
        ("int", Fact::Int(500)),
        ("age", Fact::Int(90_000)),
        ("size", Fact::Int(2048)),
        ("mode", Fact::Int(0o646)),
        ("text", text("8.2.30")),
        ("gone", Fact::Absent),
        ("dark", Fact::Unknown("no permission".to_owned())),
        ("list", Fact::List(vec![text("a"), text("bb")])),
        ("none", Fact::List(vec![])),
        ("flag", Fact::Bool(true)),
        ("any", text("3000")),
        ("key", Fact::Secret { length: 12 }),
    ]
    .into_iter()
    .map(|(name, fact)| (name.to_owned(), fact))
    .collect();
    [("p".to_owned(), facts)].into()
}

fn read(condition: &str) -> Result<Predicate, Vec<String>> {
    let mut errors = Errors::default();
    let node = source::read("t", &format!("when = {condition}"), &mut errors).unwrap();
    let parsed = parse(node.get("when").unwrap(), "when", &types, &mut errors);
    let errors = errors.into_sorted();
    if errors.is_empty() {
        Ok(parsed.unwrap())
    } else {
        Err(errors.iter().map(ToString::to_string).collect())
    }
}

fn truth(condition: &str) -> Option<bool> {
    let facts = facts();
    let scope = Scope {
        probes: Some(&facts),
        ..Scope::default()
    };
    match read(condition).unwrap().holds(&scope) {
        Truth::True => Some(true),
        Truth::False => Some(false),
        Truth::Unknown(_) => None,
    }
}

#[test]
fn operators_mean_what_the_table_says() {
    for (condition, want) in [
        ("{ 'p.int' = 500 }", Some(true)),
        ("{ 'p.int' = { ge = 500, lt = 600 } }", Some(true)),
        ("{ 'p.int' = { ge = 500, lt = 500 } }", Some(false)),
        ("{ 'p.int' = { in = [401, 500] } }", Some(true)),
        ("{ 'p.int' = { ne = 500 } }", Some(false)),
        ("{ 'p.age' = { gt = '1m' } }", Some(true)),
        ("{ 'p.age' = { gt = '{vars.limit|2m}' } }", None),
        ("{ 'p.size' = { le = '2KiB' } }", Some(true)),
        ("{ 'p.size' = { gt = 0 } }", Some(true)),
        ("{ 'p.mode' = { has_bits = 'o+w' } }", Some(true)),
        ("{ 'p.mode' = { has_bits = 'g+w' } }", Some(false)),
        ("{ 'p.mode' = { has_bits = '0006' } }", Some(true)),
        ("{ 'p.mode' = { lacks_bits = '0111' } }", Some(true)),
        ("{ 'p.mode' = { eq = '0646' } }", Some(true)),
        ("{ 'p.text' = { satisfies = '>=8.1' } }", Some(true)),
        ("{ 'p.text' = { matches = '8.*' } }", Some(true)),
        ("{ 'p.text' = { contains = '.2.' } }", Some(true)),
        ("{ 'p.text' = { empty = false } }", Some(true)),
        ("{ 'p.text' = { length = { eq = 6 } } }", Some(true)),
        ("{ 'p.list' = { contains = 'bb' } }", Some(true)),
        ("{ 'p.list' = { count = { ge = 3 } } }", Some(false)),
        (
            "{ 'p.list' = { count = { where = { length = 2 }, eq = 1 } } }",
            Some(true),
        ),
        ("{ 'p.list' = { any_of = { matches = 'b*' } } }", Some(true)),
        (
            "{ 'p.list' = { all_of = { matches = 'b*' } } }",
            Some(false),
        ),
        ("{ 'p.list' = { not = { contains = 'c' } } }", Some(true)),
        ("{ 'p.none' = { empty = true } }", Some(true)),
        ("{ 'p.none' = { any_of = { eq = 'a' } } }", Some(false)),
        ("{ 'p.flag' = true }", Some(true)),
        ("{ 'p.any' = { eq = 3000 } }", Some(true)),
        ("{ 'p.any' = { gt = 80 } }", Some(true)),
        ("{ 'p.key' = { length = { lt = 32 } } }", Some(true)),
        ("{ 'p.key' = { empty = true } }", Some(false)),
        ("{ 'p.key' = { exists = true } }", Some(true)),
        ("{ 'p.int' = { eq = { fact = 'p.any' } } }", Some(false)),
        (
            "{ any = [{ 'p.int' = 1 }, { 'p.flag' = true }] }",
            Some(true),
        ),
        ("{ not = { 'p.int' = 1 } }", Some(true)),
    ] {
        if condition.contains("vars.") {
            // Types of vars are the caller's business; here they are not declared.
            assert!(read(condition).is_err(), "{condition}");
            continue;
        }
        assert_eq!(truth(condition), want, "{condition}");
    }
}

#[test]
fn absent_is_not_empty_and_unknown_is_neither() {
    for (condition, want) in [
        ("{ 'p.gone' = { exists = false } }", Some(true)),
        ("{ 'p.gone' = { exists = true } }", Some(false)),
        ("{ 'p.gone' = { empty = true } }", Some(false)),
        ("{ 'p.gone' = { empty = false } }", Some(false)),
        ("{ 'p.gone' = { eq = 'x' } }", Some(false)),
        ("{ 'p.gone' = { ne = 'x' } }", Some(true)),
        ("{ 'p.dark' = { exists = false } }", None),
        ("{ 'p.dark' = { ne = 'x' } }", None),
        ("{ not = { 'p.dark' = 1 } }", None),
        ("{ 'p.dark' = 1, 'p.int' = 1 }", Some(false)),
        (
            "{ any = [{ 'p.dark' = 1 }, { 'p.int' = 500 }] }",
            Some(true),
        ),
        ("{ 'q.int' = 1 }", None),
        ("{ 'p.x' = 1 }", None),
        ("{ 'p.key' = { eq = 'guess' } }", None),
        ("{ 'p.key' = { ne = 'guess' } }", None),
    ] {
        assert_eq!(truth(condition), want, "{condition}");
    }
}

#[test]
fn mistakes_are_found_at_load() {
    for (condition, want) in [
        ("{ 'p.nope' = 1 }", "no fact `nope`"),
        ("{ 'p.age' = { gt = 90 } }", "a length of time was expected"),
        ("{ 'p.age' = { gt = '2KiB' } }", "is not a length of time"),
        ("{ 'p.size' = { gt = '2m' } }", "is not a number of bytes"),
        ("{ 'p.int' = { gt = '5' } }", "leave the quotes away"),
        (
            "{ 'p.text' = { gt = 5 } }",
            "`gt` cannot be asked of a text",
        ),
        ("{ 'p.int' = { greater = 5 } }", "unknown operator"),
        ("{ 'p.int' = { mathces = 5 } }", "did you mean `matches`?"),
        ("{ 'p.list' = 'a' }", "cannot be equal"),
        ("{ 'p.mode' = { has_bits = 'w' } }", "is no mode"),
        ("{ 'p.text' = { satisfies = 'lts/*' } }", "not a range"),
        (
            "{ 'p.int' = { eq = { fact = 'p.age' } } }",
            "compare facts of one type",
        ),
        ("{ 'p.int' = { eq = {} } }", "names no other side"),
        ("{ 'p.int' = {} }", "an empty test always holds"),
        ("{}", "always holds"),
        ("{ all = [] }", "is empty"),
        ("{ 'p' = 1 }", "is not the name of a fact"),
        ("1", "a condition was expected"),
    ] {
        let errors = read(condition).expect_err(condition);
        assert!(
            errors.iter().any(|error| error.contains(want)),
            "{condition}: {errors:?}"
        );
    }
}
