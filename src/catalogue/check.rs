//! A check: named probes, and ordered rules that turn their facts into a result.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use healer_agent::probe::spec::{self, FactType};
use healer_agent::protocol::{CheckFacts, CheckProbes};
use serde_json::Value as Json;

use super::fact::{APP_FACTS, FactPath, RESERVED, Scope, escape, type_of};
use super::fields::{Fields, did_you_mean};
use super::predicate::{self, Predicate};
use super::source::{At, Errors, Key, Node, Value};
use super::template::{FillError, Template, fill_json, json_names};
use super::truth::Truth;
use crate::model::Fact;
use crate::model::app::App;
use crate::model::check::CheckResult;
use crate::model::name::{ActionName, CheckName};
use crate::model::word::{About, Category, Severity, Status};

/// The most probes of one check.
const PROBES_MAX: usize = 32;

/// A check as its stack file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub name: CheckName,
    pub title: String,
    pub category: Category,
    pub about: About,
    /// Does FAIL mean that the application is unavailable?
    pub availability: bool,
    /// Its own period, when it is not the application's.
    pub every: Option<Duration>,
    /// Surely false: there is nothing to check, and no result.
    pub applies: Option<Predicate>,
    pub probes: Probes,
    /// Probes that start the application to see what becomes of it: whatever it does when it is started, it does then.
    /// They are left out while nothing could follow from what they find.
    pub starts_app: BTreeSet<String>,
    pub rules: Vec<Rule>,
    pub suggested_fix: Option<String>,
    /// Actions in the author's order; `None`: not said, so that names and texts may match; empty: a person must.
    pub remedies: Option<Vec<ActionName>>,
    pub(super) at: At,
}

/// Named probes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probes(pub BTreeMap<String, Probe>);

/// One probe: its kind, and parameters with references still in.
#[derive(Debug, Clone)]
pub struct Probe {
    pub kind: &'static spec::Kind,
    pub params: Json,
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.kind.name == other.kind.name && self.params == other.params
    }
}

/// When it holds, this is the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub when: Predicate,
    pub status: Status,
    pub severity: Severity,
    pub message: Template,
}

impl Probes {
    /// Reads a table of probes.
    pub(super) fn parse(entries: &[(Key, Node)], path: &str, errors: &mut Errors) -> Self {
        let mut probes = BTreeMap::new();
        for (name, node) in entries {
            let key = format!("{path}.{}", name.text);
            let named = format!("{}.x", name.text);
            if FactPath::parse(&named).is_none() || RESERVED.contains(&name.text.as_str()) {
                errors.push(
                    &name.at,
                    &key,
                    "cannot be the name of a probe",
                    format!(
                        "use letters, digits, `_` and `-`, and none of {}",
                        RESERVED.join(", ")
                    ),
                );
                continue;
            }
            let Value::Table(kinds) = &node.value else {
                errors.push(
                    &node.at,
                    &key,
                    "a probe was expected",
                    "write `{ kind = { … } }`",
                );
                continue;
            };
            let [(kind_name, params)] = kinds.as_slice() else {
                errors.push(
                    &node.at,
                    &key,
                    "a probe has exactly one kind",
                    "write `{ kind = { … } }`",
                );
                continue;
            };
            let json = params.to_json();
            if let Err(message) = spec::check(&kind_name.text, &json) {
                errors.push(
                    &kind_name.at,
                    &format!("{key}.{}", kind_name.text),
                    message,
                    "",
                );
            }
            if let Some(kind) = spec::kind(&kind_name.text) {
                probes.insert(name.text.clone(), Probe { kind, params: json });
            }
        }
        let found = Self(probes);
        found.check_references(entries, path, errors);
        if let (true, Some((name, _))) = (found.0.len() > PROBES_MAX, entries.first()) {
            errors.push(
                &name.at,
                path,
                format!("more than {PROBES_MAX} probes"),
                "split the check",
            );
        }
        found
    }

    /// Each `{probe.fact}` in a parameter must name a probe and fact of the same check, and none may go in a circle.
    fn check_references(&self, entries: &[(Key, Node)], path: &str, errors: &mut Errors) {
        for (name, _) in entries {
            let Some(probe) = self.0.get(&name.text) else {
                continue;
            };
            let key = format!("{path}.{}", name.text);
            for (reference, _) in json_names(&probe.params) {
                if matches!(reference.scope.as_str(), "params" | "checks") {
                    errors.push(
                        &name.at,
                        &key,
                        format!("`{reference}` is not known where probes run"),
                        "",
                    );
                } else if let Err(message) = self.type_of(&reference) {
                    errors.push(&name.at, &key, message, "");
                }
            }
            if self.reaches(&name.text, &name.text, self.0.len()) {
                errors.push(
                    &name.at,
                    &key,
                    "depends on itself through its references",
                    "",
                );
            }
        }
    }

    fn reaches(&self, from: &str, to: &str, steps: usize) -> bool {
        let Some(probe) = self.0.get(from) else {
            return false;
        };
        steps > 0
            && json_names(&probe.params).iter().any(|(reference, _)| {
                reference.scope == to
                    || (reference.scope != from && self.reaches(&reference.scope, to, steps - 1))
            })
    }

    /// Type of anything that a condition or message of this check may name.
    ///
    /// # Errors
    /// A sentence when there is no such thing.
    pub(super) fn type_of(&self, path: &FactPath) -> Result<FactType, String> {
        match path.scope.as_str() {
            "app" if APP_FACTS.contains(&path.fact.as_str()) => Ok(FactType::Text),
            "app" => Err(format!(
                "`app` has no `{}`; known are {}",
                path.fact,
                APP_FACTS.join(", ")
            )),
            "vars" => Ok(FactType::Any),
            "checks" => Ok(FactType::Text),
            "params" => Err(format!("`{path}` can only stand in an action")),
            scope => match self.0.get(scope) {
                Some(probe) => type_of(probe.kind, path),
                None => Err(format!(
                    "no probe `{scope}` here; there are {}",
                    self.0.keys().cloned().collect::<Vec<_>>().join(", ")
                )),
            },
        }
    }

    /// What is sent to the agent: the application's values filled in, references between probes left.
    ///
    /// # Errors
    /// When a value of the application is absent.
    pub fn filled(&self, scope: &Scope<'_>) -> Result<BTreeMap<String, Json>, FillError> {
        self.0
            .iter()
            .map(|(name, probe)| {
                let params = fill_json(&probe.params, &["app", "vars"], scope)?;
                let mut outer = serde_json::Map::new();
                outer.insert(probe.kind.name.to_owned(), params);
                Ok((name.clone(), Json::Object(outer)))
            })
            .collect()
    }
}

impl Check {
    /// Reads one check.
    pub(super) fn parse(name: &Key, node: &Node, errors: &mut Errors) -> Option<Self> {
        let path = format!("check.{}", name.text);
        let parsed_name = match name.text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                errors.push(&name.at, &path, format!("{error}"), "");
                None
            }
        };
        let mut fields = Fields::of(node, &path, errors)?;
        let title = fields.text("title", errors).map(str::to_owned);
        let category = fields.word("category", errors);
        let about = fields.word("about", errors);
        let availability = fields.flag("availability", errors);
        let every = fields.duration("every", errors);
        let probe_nodes = fields.entries("probes", errors);
        let probes = Probes::parse(probe_nodes, &format!("{path}.probes"), errors);
        let starts_app = starts_app(&mut fields, &probes, errors);
        let types = |path: &FactPath| probes.type_of(path);
        let applies = match fields.take("applies") {
            Some(node) => predicate::parse(node, &format!("{path}.applies"), &types, errors),
            None => None,
        };
        let rule_nodes = match fields.need(
            "rules",
            "add at least one rule; no rule that matches means PASS",
            errors,
        ) {
            Some(_) => fields.list("rules", errors).unwrap_or_default(),
            None => &[],
        };
        let rules = rule_nodes
            .iter()
            .enumerate()
            .filter_map(|(place, node)| {
                Rule::parse(node, &format!("{path}.rules[{place}]"), &types, errors)
            })
            .collect();
        let suggested_fix = fields.text("suggested_fix", errors).map(str::to_owned);
        let remedy_texts = fields.texts("remedies", errors);
        let remedies = remedy_texts.map(|texts| names(&texts, &format!("{path}.remedies"), errors));
        if category.is_none() && fields.take("category").is_none() {
            errors.push(
                &fields.at,
                &fields.key("category"),
                "is missing",
                "say what the check is about, for example \"SYSTEM\"",
            );
        }
        if probes.0.is_empty() && probe_nodes.is_empty() {
            errors.push(
                &fields.at,
                &fields.key("probes"),
                "is missing",
                "a check needs at least one probe",
            );
        }
        let at = fields.at.clone();
        fields.finish(errors);
        let name: CheckName = parsed_name?;
        Some(Self {
            title: title.unwrap_or_else(|| name.to_string()),
            name,
            category: category.unwrap_or(Category::System),
            about: about.unwrap_or(About::App),
            availability: availability.unwrap_or(false),
            every,
            applies,
            probes,
            starts_app,
            rules,
            suggested_fix,
            remedies,
            at,
        })
    }

    /// Does it compare the present with the known-good snapshot? What it finds is no illness: if it kept the application
    /// from being called healthy, the snapshot could never move on.
    pub fn compares_with_known_good(&self) -> bool {
        self.probes.0.values().any(|probe| {
            probe.kind.name == "php_constants" && probe.params.get("unchanged").is_some()
        })
    }

    /// Takes the probes that start the application out of what is asked.
    pub fn spare(&self, asked: &mut CheckProbes) {
        asked
            .probes
            .retain(|name, _| !self.starts_app.contains(name));
    }

    /// Everything that a probe which was left out would tell is absent: `found = { exists = false }` holds of it.
    fn with_spared<'a>(&self, facts: &'a CheckFacts) -> Cow<'a, CheckFacts> {
        let mut facts = Cow::Borrowed(facts);
        for name in &self.starts_app {
            if let (false, Some(probe)) = (facts.probes.contains_key(name), self.probes.0.get(name))
            {
                let absent = |(name, _): &(&str, FactType)| ((*name).to_owned(), Fact::Absent);
                let all = probe.kind.facts.iter().map(absent).collect();
                facts.to_mut().probes.insert(name.clone(), all);
            }
        }
        facts
    }

    /// Its probes for one application; `None` when it surely does not apply there.
    ///
    /// # Errors
    /// When a value that the probes need is absent.
    pub fn probes_for(
        &self,
        app: &App,
        defaults: &BTreeMap<String, String>,
    ) -> Result<Option<CheckProbes>, FillError> {
        let scope = Scope {
            app: Some(app),
            defaults: Some(defaults),
            ..Scope::default()
        };
        if let Some(applies) = &self.applies
            && applies.holds(&scope).is_false()
        {
            return Ok(None);
        }
        Ok(Some(CheckProbes {
            check: self.name.to_string(),
            probes: self.probes.filled(&scope)?,
        }))
    }

    /// Turns facts into a result; `None` when the check surely does not apply.
    ///
    /// The first rule that matches decides, none means PASS. A rule that cannot be decided, before any that surely
    /// matches, makes the result ERROR: whether it would have been the first cannot be known.
    pub fn evaluate(
        &self,
        facts: &CheckFacts,
        app: &App,
        defaults: &BTreeMap<String, String>,
    ) -> Option<CheckResult> {
        let facts = &*self.with_spared(facts);
        let scope = Scope {
            app: Some(app),
            defaults: Some(defaults),
            probes: Some(&facts.probes),
            ..Scope::default()
        };
        let result = |status, severity, message: String, rule| CheckResult {
            check: self.name.clone(),
            category: self.category,
            status,
            severity,
            message,
            suggested_fix: matches!(status, Status::Warn | Status::Fail)
                .then(|| self.suggested_fix.clone())
                .flatten(),
            execution_ms: facts.time_us.div_ceil(1000),
            rule,
            about: self.about,
            availability: self.availability,
            facts: facts.probes.clone(),
        };
        let error = |reason: &str, rule| {
            let message = escape(
                &format!("could not be determined: {reason}"),
                super::fact::MESSAGE_CHARS_MAX,
            );
            result(Status::Error, Severity::Medium, message, rule)
        };
        match self.applies.as_ref().map(|applies| applies.holds(&scope)) {
            Some(Truth::False) => return None,
            Some(Truth::Unknown(reason)) => return Some(error(&reason, None)),
            Some(Truth::True) | None => {}
        }
        for (place, rule) in (0_u32..).zip(&self.rules) {
            match rule.when.holds(&scope) {
                Truth::False => {}
                Truth::Unknown(reason) => return Some(error(&reason, None)),
                Truth::True => {
                    let message = rule
                        .message
                        .message(&scope, &|path| self.probes.type_of(path).ok());
                    let severity = if rule.status == Status::Pass {
                        Severity::Low
                    } else {
                        rule.severity
                    };
                    return Some(result(rule.status, severity, message, Some(place)));
                }
            }
        }
        Some(result(
            Status::Pass,
            Severity::Low,
            self.title.clone(),
            None,
        ))
    }

    /// The result of a check whose probes could not even be written for this application.
    pub fn unasked(
        &self,
        why: &FillError,
        app: &App,
        defaults: &BTreeMap<String, String>,
    ) -> Option<CheckResult> {
        let facts = CheckFacts {
            check: self.name.to_string(),
            probes: BTreeMap::new(),
            time_us: 0,
        };
        let mut result = self.evaluate(&facts, app, defaults)?;
        result.status = Status::Error;
        result.severity = Severity::Medium;
        result.rule = None;
        result.suggested_fix = None;
        result.message = format!("could not be determined: {why}");
        Some(result)
    }
}

/// The probes that the author says start the application.
fn starts_app(fields: &mut Fields<'_>, probes: &Probes, errors: &mut Errors) -> BTreeSet<String> {
    let texts = fields.texts("starts_app", errors).unwrap_or_default();
    for (name, at) in &texts {
        if !probes.0.contains_key(*name) {
            let known = probes.0.keys().map(String::as_str);
            errors.push(
                at,
                &fields.key("starts_app"),
                format!("there is no probe `{name}` here"),
                did_you_mean(name, known),
            );
        }
    }
    texts.iter().map(|(name, _)| (*name).to_owned()).collect()
}

impl Rule {
    fn parse(
        node: &Node,
        path: &str,
        types: predicate::TypeOf<'_>,
        errors: &mut Errors,
    ) -> Option<Self> {
        let mut fields = Fields::of(node, path, errors)?;
        let when = fields
            .need("when", "say what must hold", errors)
            .and_then(|node| predicate::parse(node, &format!("{path}.when"), types, errors));
        fields.need("status", "one of PASS, WARN, FAIL, ERROR", errors);
        let status: Option<Status> = fields.word("status", errors);
        let severity = fields.word("severity", errors);
        let message = fields.text("message", errors).map(Template::parse);
        if status.is_some_and(Status::is_bad) && fields.take("severity").is_none() {
            errors.push(
                &fields.at,
                &fields.key("severity"),
                "is missing",
                "say how much it hurts: LOW, MEDIUM, HIGH or CRITICAL",
            );
        }
        if message.is_none() && fields.take("message").is_none() {
            errors.push(
                &fields.at,
                &fields.key("message"),
                "is missing",
                "say in one sentence what was found",
            );
        }
        for (name, _) in message.iter().flat_map(Template::names) {
            if let Err(error) = types(name) {
                errors.push(&fields.at, &fields.key("message"), error, "");
            }
        }
        fields.finish(errors);
        Some(Self {
            when: when?,
            status: status?,
            severity: severity.unwrap_or(Severity::Medium),
            message: message?,
        })
    }
}

/// Texts as names; what is no name is an error.
pub(super) fn names<T>(texts: &[(&str, &At)], path: &str, errors: &mut Errors) -> Vec<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let mut found = Vec::with_capacity(texts.len());
    for (text, at) in texts {
        match text.parse() {
            Ok(name) => found.push(name),
            Err(error) => errors.push(at, path, format!("{error}"), ""),
        }
    }
    found
}
