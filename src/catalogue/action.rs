//! An action: typed parameters, write set, risk, steps, and the checks that prove it.

use std::time::Duration;

use healer_agent::protocol::WriteKind;

use super::check::names;
use super::fact::FactPath;
use super::fields::Fields;
use super::predicate::Predicate;
use super::source::{At, Errors, Key, Node, Value};
use super::step::{StepSource, checked_path};
use super::template::Template;
use crate::model::action::{Identity, RaiseHook};
use crate::model::name::{ActionName, CheckName};
use crate::model::word::Risk;

/// The most entries of a list parameter, unless the stack file says fewer or more.
const ITEMS_MAX: usize = 100;

/// Time that an action is expected to take when its stack file does not say.
const ESTIMATE: Duration = Duration::from_secs(10);

/// An action as its stack file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub name: ActionName,
    pub title: String,
    /// Catalogue risk; the effective one may be higher, never lower.
    pub risk: Risk,
    pub params: Vec<Param>,
    pub writes: Vec<Write>,
    pub scratch: Vec<Template>,
    /// Preconditions over facts of its checks, and over `checks.NAME`.
    pub requires: Option<Predicate>,
    pub conflicts: Vec<ActionName>,
    pub steps: Vec<StepSource>,
    pub finally: Vec<StepSource>,
    /// Checks that prove it, as declared; empty: the checks whose remedy it is.
    pub proves: Vec<CheckName>,
    pub timeout: Duration,
    pub settle: Option<Duration>,
    pub estimate: Duration,
    pub estimate_bytes: u64,
    pub raises: Vec<Raise>,
    pub identity: Identity,
    /// BLAKE3 of its definition.
    pub version: String,
    /// What it writes, as people read it.
    pub writes_text: Vec<String>,
    pub(super) at: At,
    /// The condition is read once the checks it speaks of are known.
    pub(super) requires_node: Option<Node>,
}

/// A parameter and where its value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: String,
    /// In order; the first that gives a value counts.
    pub sources: Vec<ParamSource>,
    /// A list must hold exactly one entry, which is the value.
    pub single: bool,
    /// Most entries of a list.
    pub items_max: usize,
    /// Bounds of a number.
    pub min: Option<i64>,
    pub max: Option<i64>,
}

/// Sources of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamSource {
    /// A fact of the check that it heals.
    Fact(FactPath),
    /// A text of the application's values.
    Value(Template),
}

/// One member of the write set.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Files {
        pattern: Template,
        kind: WriteKind,
        /// Overrides what the stack's `shared` says.
        shared: Option<bool>,
        at: At,
    },
    /// State of the application's own service or process: a restart.
    Service,
    /// Something that no backup of ours can bring back.
    External(String),
    /// Part of a database.
    Database(String),
}

/// What raises the risk of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Raise {
    pub when: RaiseWhen,
    pub risk: Risk,
}

/// When a risk is raised.
#[derive(Debug, Clone, PartialEq)]
pub enum RaiseWhen {
    /// Read later, as `requires`.
    Unread(Node),
    Facts(Predicate),
    /// Only the engine can tell.
    Hook(RaiseHook),
}

impl Write {
    /// Can undo take it back from a backup of files, or is it only the application's own restart?
    pub const fn is_undoable(&self) -> bool {
        match self {
            Self::Files { .. } | Self::Service => true,
            Self::External(_) | Self::Database(_) => false,
        }
    }
}

impl Action {
    /// Reads one action.
    pub(super) fn parse(name: &Key, node: &Node, errors: &mut Errors) -> Option<Self> {
        let path = format!("action.{}", name.text);
        let parsed_name: Option<ActionName> = match name.text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                errors.push(&name.at, &path, format!("{error}"), "");
                None
            }
        };
        let mut fields = Fields::of(node, &path, errors)?;
        let title = fields.text("title", errors).map(str::to_owned);
        fields.need(
            "risk",
            "say how much it can lose: LOW, MEDIUM, HIGH or CRITICAL",
            errors,
        );
        let risk = fields.word("risk", errors);
        let params = parse_params(fields.entries("params", errors), &path, errors);
        let writes = parse_writes(&mut fields, errors);
        let scratch = fields
            .texts("scratch", errors)
            .unwrap_or_default()
            .into_iter()
            .map(|(text, _)| Template::parse(text))
            .collect();
        let requires_node = fields.take("requires").cloned();
        let conflict_texts = fields.texts("conflicts", errors).unwrap_or_default();
        let conflicts = names(&conflict_texts, &fields.key("conflicts"), errors);
        fields.need("steps", "say what it does", errors);
        let steps = parse_steps(&mut fields, "steps", errors);
        let finally = parse_steps(&mut fields, "finally", errors);
        let prove_texts = fields.texts("proves", errors).unwrap_or_default();
        let proves = names(&prove_texts, &fields.key("proves"), errors);
        fields.need(
            "timeout",
            "name the longest time it may take, for example \"30s\"",
            errors,
        );
        let timeout = fields.duration("timeout", errors);
        if timeout.is_some_and(|timeout| timeout.is_zero() || timeout > Duration::from_hours(24)) {
            errors.push(
                &fields.at,
                &fields.key("timeout"),
                "must lie between 1ms and 24h",
                "",
            );
        }
        let settle = fields.duration("settle", errors);
        let estimate = fields.duration("estimate", errors).unwrap_or(ESTIMATE);
        let estimate_bytes = fields.bytes("estimate_bytes", errors).unwrap_or(0);
        let raises = parse_raises(&mut fields, errors);
        let at = fields.at.clone();
        fields.finish(errors);

        let kinds: Vec<_> = steps.iter().chain(&finally).map(StepSource::kind).collect();
        let needs_root = kinds.iter().any(healer_agent::step::Step::needs_root);
        if needs_root && kinds.iter().any(healer_agent::step::Step::runs_program) {
            errors.push(
                &at,
                &format!("{path}.steps"),
                "mixes programs of the application with operations of root; one action has one identity",
                "make two actions: what must follow is the next heal, by its own check",
            );
        }
        let name = parsed_name?;
        Some(Self {
            title: title.unwrap_or_else(|| name.to_string()),
            name,
            risk: risk.unwrap_or(Risk::Critical),
            params,
            writes_text: writes.iter().map(write_text).collect(),
            writes,
            scratch,
            requires: None,
            conflicts,
            steps,
            finally,
            proves,
            timeout: timeout.unwrap_or_default(),
            settle,
            estimate,
            estimate_bytes,
            raises,
            identity: if needs_root {
                Identity::Root
            } else {
                Identity::App
            },
            version: blake3::hash(node.canonical().as_bytes())
                .to_hex()
                .to_string(),
            at,
            requires_node,
        })
    }

    /// Does it restart something, or change what no file backup can bring back?
    pub fn restarts(&self) -> bool {
        self.writes
            .iter()
            .any(|write| !matches!(write, Write::Files { .. }))
    }
}

fn write_text(write: &Write) -> String {
    let plain = |template: &Template| {
        let mut shown = String::new();
        for text in template.shown() {
            shown.push_str(text);
        }
        shown
    };
    match write {
        Write::Files {
            pattern,
            kind: WriteKind::Content,
            ..
        } => plain(pattern),
        Write::Files {
            pattern,
            kind: WriteKind::Metadata,
            ..
        } => format!("{} (owner and mode)", plain(pattern)),
        Write::Service => "the application's own process".to_owned(),
        Write::External(what) => format!("external: {what}"),
        Write::Database(what) => format!("database: {what}"),
    }
}

fn parse_params(entries: &[(Key, Node)], path: &str, errors: &mut Errors) -> Vec<Param> {
    let mut params = Vec::new();
    for (name, node) in entries {
        let key = format!("{path}.params.{}", name.text);
        if FactPath::parse(&format!("params.{}", name.text)).is_none() || name.text.contains('.') {
            errors.push(
                &name.at,
                &key,
                "cannot be the name of a parameter",
                "use letters, digits and `_`",
            );
            continue;
        }
        let Some(mut fields) = Fields::of(node, &key, errors) else {
            continue;
        };
        let (from, value) = (fields.text("from", errors), fields.text("value", errors));
        let items_max = fields
            .int("items_max", errors)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(ITEMS_MAX)
            .clamp(1, 1000);
        let (min, max) = (fields.int("min", errors), fields.int("max", errors));
        let single = fields.flag("single", errors).unwrap_or(false);
        fields.finish(errors);
        let mut sources = Vec::new();
        if let Some(value) = value {
            sources.push(ParamSource::Value(Template::parse(value)));
        }
        match from.map(FactPath::parse) {
            None => {}
            Some(Some(path)) if !path.is_reserved() => sources.push(ParamSource::Fact(path)),
            Some(_) => errors.push(
                &node.at,
                &key,
                "`from` is not the name of a probe's fact",
                "write from = \"probe.fact\"",
            ),
        }
        if from.is_none() && value.is_none() {
            errors.push(
                &node.at,
                &key,
                "has no source",
                "write `{ from = \"probe.fact\" }` or `{ value = \"{vars.name}\" }`",
            );
        }
        params.push(Param {
            name: name.text.clone(),
            sources,
            single,
            items_max,
            min,
            max,
        });
    }
    params
}

fn parse_writes(fields: &mut Fields<'_>, errors: &mut Errors) -> Vec<Write> {
    let path = fields.key("writes");
    let mut writes = Vec::new();
    for (place, node) in fields
        .list("writes", errors)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let key = format!("{path}[{place}]");
        let Some(mut inner) = Fields::of(node, &key, errors) else {
            continue;
        };
        let content = inner.text("content", errors);
        let metadata = inner.text("metadata", errors);
        let service = inner.text("service", errors);
        let external = inner.text("external", errors);
        let database = inner.text("database", errors);
        let shared = inner.flag("shared", errors);
        inner.finish(errors);
        let given = [content, metadata, service, external, database];
        if given.iter().flatten().count() != 1 {
            errors.push(
                &node.at,
                &key,
                "names not exactly one thing",
                "write one of content, metadata, service, external, database",
            );
            continue;
        }
        let mut file = |text: &str, kind, errors: &mut Errors| {
            let pattern = checked_path(text, &node.at, &key, errors);
            writes.push(Write::Files {
                pattern,
                kind,
                shared,
                at: node.at.clone(),
            });
        };
        if let Some(text) = content {
            file(text, WriteKind::Content, errors);
        } else if let Some(text) = metadata {
            file(text, WriteKind::Metadata, errors);
        } else if let Some(text) = service {
            if text == "app" {
                writes.push(Write::Service);
            } else {
                errors.push(
                    &node.at,
                    &key,
                    "only the application's own service can be named",
                    "write service = \"app\", or external = \"…\" with risk HIGH",
                );
            }
        } else if let Some(text) = external {
            writes.push(Write::External(text.to_owned()));
        } else if let Some(text) = database {
            writes.push(Write::Database(text.to_owned()));
        }
    }
    writes
}

fn parse_steps(
    fields: &mut Fields<'_>,
    name: &'static str,
    errors: &mut Errors,
) -> Vec<StepSource> {
    let path = fields.key(name);
    fields
        .list(name, errors)
        .unwrap_or_default()
        .iter()
        .enumerate()
        .filter_map(|(place, node)| StepSource::parse(node, &format!("{path}[{place}]"), errors))
        .collect()
}

fn parse_raises(fields: &mut Fields<'_>, errors: &mut Errors) -> Vec<Raise> {
    let path = fields.key("raises");
    let mut raises = Vec::new();
    for (place, node) in fields
        .list("raises", errors)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let key = format!("{path}[{place}]");
        let Some(mut inner) = Fields::of(node, &key, errors) else {
            continue;
        };
        inner.need("when", "say what raises the risk", errors);
        inner.need("risk", "say to which risk", errors);
        let risk = inner.word("risk", errors);
        let when = match inner.take("when") {
            None => None,
            Some(when) => match &when.value {
                Value::Text(_) => inner.word::<RaiseHook>("when", errors).map(RaiseWhen::Hook),
                Value::Bool(_) | Value::Int(_) | Value::List(_) | Value::Table(_) => {
                    Some(RaiseWhen::Unread(when.clone()))
                }
            },
        };
        inner.finish(errors);
        if let (Some(when), Some(risk)) = (when, risk) {
            raises.push(Raise { when, risk });
        }
    }
    raises
}
