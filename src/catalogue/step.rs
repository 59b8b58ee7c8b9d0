//! The steps of an action as a stack file writes them, and how they become final.
//!
//! A step's kind is a Rust type of the agent; nothing can be expressed here that the agent would not check again.

use std::collections::BTreeMap;
use std::time::Duration;

use healer_agent::step::{Bits, Step};

use super::fact::{FactPath, Scope};
use super::fields::Fields;
use super::source::{Errors, Node, Value};
use super::template::{FillError, Template};
use crate::model::app::App;
use crate::model::{Digest, TreePath};

/// Permission bits of a file that `put_known_good` has to create, unless the snapshot says otherwise.
pub const PUT_MODE: u32 = 0o640;

/// Stands where a digest will be filled in from the newest known-good snapshot.
pub const NO_DIGEST: Digest = Digest::from_bytes([0; 32]);

/// One step with names still in it.
#[derive(Debug, Clone, PartialEq)]
pub enum StepSource {
    Run {
        argv: Vec<Template>,
        env: BTreeMap<String, Template>,
        ok: Vec<i32>,
        timeout: Option<Duration>,
    },
    /// To the application's user; nobody else can be named.
    Chown {
        paths: Vec<Template>,
        recursive: bool,
    },
    SetBits {
        paths: Vec<Template>,
        add: Bits,
        remove: Bits,
        recursive: bool,
    },
    /// A whole file from the newest known-good snapshot.
    PutKnownGood {
        path: Template,
    },
    EditKey {
        path: Template,
        key: Template,
        value: Template,
    },
    Remove {
        paths: Vec<Template>,
        recursive: bool,
    },
    SwapDirectory {
        path: Template,
        with: Template,
    },
    TrimLog {
        path: Template,
        keep_bytes: u64,
    },
    RestartUnit {
        unit: Template,
    },
    RestartPm2 {
        name: Template,
        home: Option<Template>,
    },
}

/// Why a step cannot be made final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error("`{0}` is not a path below the application's root: {1}")]
    Path(String, String),
    #[error("`{0}` holds a character that no argument may hold")]
    Argument(String),
    #[error("`{0}` is empty")]
    Empty(&'static str),
}

const KINDS: &[&str] = &[
    "run",
    "chown",
    "set_bits",
    "put_known_good",
    "edit_key",
    "remove",
    "swap_directory",
    "trim_log",
    "restart_unit",
    "restart_pm2",
];

impl StepSource {
    /// Reads one step.
    pub(super) fn parse(node: &Node, path: &str, errors: &mut Errors) -> Option<Self> {
        let Value::Table(kinds) = &node.value else {
            errors.push(
                &node.at,
                path,
                "a step was expected",
                "write `{ kind = { … } }`",
            );
            return None;
        };
        let [(kind, inner)] = kinds.as_slice() else {
            errors.push(
                &node.at,
                path,
                "a step has exactly one kind",
                "write each step as its own `{ kind = { … } }`",
            );
            return None;
        };
        let key = format!("{path}.{}", kind.text);
        if !KINDS.contains(&kind.text.as_str()) {
            let near = super::fields::did_you_mean(&kind.text, KINDS.iter().copied());
            let remedy = if near.is_empty() {
                format!("known: {}", KINDS.join(", "))
            } else {
                near
            };
            errors.push(&kind.at, &key, "unknown kind of step", remedy);
            return None;
        }
        let before = errors.count();
        let mut fields = Fields::of(inner, &key, errors)?;
        let step = match kind.text.as_str() {
            "run" => Self::parse_run(&mut fields, errors),
            "chown" => {
                let to = fields.text("to", errors);
                if to != Some("app") {
                    errors.push(
                        &fields.at,
                        &fields.key("to"),
                        "only `app` can be named",
                        "write to = \"app\"",
                    );
                }
                Some(Self::Chown {
                    paths: paths(&mut fields, errors),
                    recursive: fields.flag("recursive", errors).unwrap_or(false),
                })
            }
            "set_bits" => {
                let mut bits = |name| match fields.text(name, errors) {
                    None => Bits::default(),
                    Some(text) => {
                        // `add = "u+rwX"` and `remove = "o+w"`, `"o-w"` say the same: the key gives the direction.
                        Bits::parse(text).unwrap_or_else(|| {
                            errors.push(
                                &fields.at,
                                &fields.key(name),
                                format!("`{text}` are no bits"),
                                "write for example \"u+rwX\" or \"o+w\"",
                            );
                            Bits::default()
                        })
                    }
                };
                let (add, remove) = (bits("add"), bits("remove"));
                if add == Bits::default() && remove == Bits::default() {
                    errors.push(
                        &fields.at,
                        &key,
                        "neither adds nor removes a bit",
                        "name `add` or `remove`",
                    );
                }
                if (add.plain | add.search) & 0o7002 != 0 {
                    errors.push(
                        &fields.at,
                        &fields.key("add"),
                        "would let everybody write, or set setuid, setgid or sticky",
                        "add less",
                    );
                }
                Some(Self::SetBits {
                    paths: paths(&mut fields, errors),
                    add,
                    remove,
                    recursive: fields.flag("recursive", errors).unwrap_or(false),
                })
            }
            "put_known_good" => {
                one_path(&mut fields, "path", errors).map(|path| Self::PutKnownGood { path })
            }
            "edit_key" => {
                let path = one_path(&mut fields, "path", errors);
                let (name, value) = (
                    template(&mut fields, "key", errors),
                    template(&mut fields, "value", errors),
                );
                (|| {
                    Some(Self::EditKey {
                        path: path?,
                        key: name?,
                        value: value?,
                    })
                })()
            }
            "remove" => Some(Self::Remove {
                paths: paths(&mut fields, errors),
                recursive: fields.flag("recursive", errors).unwrap_or(false),
            }),
            "swap_directory" => {
                let (path, with) = (
                    one_path(&mut fields, "path", errors),
                    one_path(&mut fields, "with", errors),
                );
                (|| {
                    Some(Self::SwapDirectory {
                        path: path?,
                        with: with?,
                    })
                })()
            }
            "trim_log" => {
                let path = one_path(&mut fields, "path", errors);
                fields.need(
                    "keep",
                    "say how much of the end stays, for example \"1MiB\"",
                    errors,
                );
                let keep = fields.bytes("keep", errors);
                (|| {
                    Some(Self::TrimLog {
                        path: path?,
                        keep_bytes: keep?,
                    })
                })()
            }
            "restart_unit" => {
                template(&mut fields, "unit", errors).map(|unit| Self::RestartUnit { unit })
            }
            _ => {
                let home = fields.text("home", errors).map(Template::parse);
                template(&mut fields, "name", errors).map(|name| Self::RestartPm2 { name, home })
            }
        };
        fields.finish(errors);
        step.filter(|_| errors.count() == before)
    }

    fn parse_run(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Self> {
        fields.need(
            "argv",
            "name the program and its arguments as a list",
            errors,
        )?;
        let Some(Value::List(_)) = fields.take("argv").map(|node| &node.value) else {
            errors.push(
                &fields.at,
                &fields.key("argv"),
                "a list was expected; there is no shell",
                "write [\"php\", \"artisan\", \"up\"]",
            );
            return None;
        };
        let argv: Vec<_> = fields
            .texts("argv", errors)?
            .into_iter()
            .map(|(text, _)| Template::parse(text))
            .collect();
        let program = argv.first().and_then(Template::literal);
        match program.map(|program| program.rsplit('/').next().unwrap_or(program)) {
            None => errors.push(
                &fields.at,
                &fields.key("argv"),
                "the program must be written out",
                "put no {name} into the first entry",
            ),
            Some("") => errors.push(&fields.at, &fields.key("argv"), "names no program", ""),
            Some(
                "sh" | "bash" | "dash" | "zsh" | "ksh" | "csh" | "fish" | "busybox" | "env"
                | "sudo" | "su" | "doas",
            ) => {
                errors.push(
                    &fields.at,
                    &fields.key("argv"),
                    "no shell and no change of user is ever run",
                    "name the program itself",
                );
            }
            Some(_) => {}
        }
        let env = fields
            .entries("env", errors)
            .iter()
            .filter_map(|(key, node)| match &node.value {
                Value::Text(text) => Some((key.text.clone(), Template::parse(text))),
                other @ (Value::Bool(_) | Value::Int(_) | Value::List(_) | Value::Table(_)) => {
                    errors.push(
                        &node.at,
                        &key.text,
                        format!("is {}, a text was expected", other.kind()),
                        "",
                    );
                    None
                }
            })
            .collect();
        let ok = fields.list("ok", errors).map(|items| {
            items
                .iter()
                .filter_map(|item| match item.value {
                    Value::Int(code) => i32::try_from(code).ok(),
                    Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Table(_) => None,
                })
                .collect::<Vec<_>>()
        });
        Some(Self::Run {
            argv,
            env,
            ok: ok.unwrap_or_else(|| vec![0]),
            timeout: fields.duration("timeout", errors),
        })
    }

    /// Every template in it.
    pub(super) fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Run { argv, env, .. } => argv.iter().chain(env.values()).collect(),
            Self::Chown { paths, .. }
            | Self::SetBits { paths, .. }
            | Self::Remove { paths, .. } => paths.iter().collect(),
            Self::PutKnownGood { path } | Self::TrimLog { path, .. } => vec![path],
            Self::EditKey { path, key, value } => vec![path, key, value],
            Self::SwapDirectory { path, with } => vec![path, with],
            Self::RestartUnit { unit } => vec![unit],
            Self::RestartPm2 { name, home } => std::iter::once(name).chain(home).collect(),
        }
    }

    /// Paths it changes by itself, with whether only their metadata, and everything below.
    pub(super) fn changes(&self) -> Vec<(&Template, bool, bool)> {
        match self {
            Self::Chown { paths, recursive }
            | Self::SetBits {
                paths, recursive, ..
            } => paths.iter().map(|path| (path, true, *recursive)).collect(),
            Self::Remove { paths, recursive } => {
                paths.iter().map(|path| (path, false, *recursive)).collect()
            }
            Self::PutKnownGood { path }
            | Self::TrimLog { path, .. }
            | Self::EditKey { path, .. } => {
                vec![(path, false, false)]
            }
            Self::SwapDirectory { path, with } => vec![(path, false, true), (with, false, true)],
            Self::Run { .. } | Self::RestartUnit { .. } | Self::RestartPm2 { .. } => Vec::new(),
        }
    }

    /// A final step of the same kind with nothing in it, to ask the agent's own functions about the kind.
    pub(super) fn kind(&self) -> Step {
        let path = TreePath::root;
        match self {
            Self::Run { .. } => Step::Run {
                argv: Vec::new(),
                env: BTreeMap::new(),
                ok: Vec::new(),
                timeout_ms: 0,
            },
            Self::Chown { .. } => Step::Chown {
                paths: Vec::new(),
                uid: 0,
                gid: 0,
                recursive: false,
            },
            Self::SetBits { add, remove, .. } => Step::SetBits {
                paths: Vec::new(),
                add: *add,
                remove: *remove,
                recursive: false,
            },
            Self::PutKnownGood { .. } => Step::Put {
                path: path(),
                digest: NO_DIGEST,
                mode: PUT_MODE,
                owner: None,
            },
            Self::EditKey { .. } => Step::EditKey {
                path: path(),
                key: String::new(),
                value: String::new(),
            },
            Self::Remove { .. } => Step::Remove {
                paths: Vec::new(),
                recursive: false,
            },
            Self::SwapDirectory { .. } => Step::SwapDirectory {
                path: path(),
                with: path(),
            },
            Self::TrimLog { .. } => Step::TrimLog {
                path: path(),
                keep_bytes: 0,
            },
            Self::RestartUnit { .. } => Step::RestartUnit {
                unit: String::new(),
            },
            Self::RestartPm2 { .. } => Step::RestartPm2 {
                name: String::new(),
                home: None,
            },
        }
    }

    /// The final step.
    ///
    /// # Errors
    /// When a value is missing or does not fit.
    pub(super) fn resolve(
        &self,
        scope: &Scope<'_>,
        app: &App,
        action_timeout: Duration,
    ) -> Result<Step, StepError> {
        Ok(match self {
            Self::Run {
                argv,
                env,
                ok,
                timeout,
            } => {
                let mut arguments = Vec::with_capacity(argv.len());
                for template in argv {
                    let is_foreign = template.literal().is_none() && !template.names_an_option();
                    for argument in template.expand(scope)? {
                        // A value that looks like an option may only stand behind `--`.
                        let is_operand = arguments.iter().any(|earlier| earlier == "--");
                        if is_foreign && argument.starts_with('-') && !is_operand {
                            return Err(StepError::Argument(super::fact::escape(&argument, 80)));
                        }
                        arguments.push(plain(argument)?);
                    }
                }
                let timeout = timeout.unwrap_or(action_timeout).min(action_timeout);
                Step::Run {
                    argv: arguments,
                    env: env
                        .iter()
                        .map(|(name, value)| Ok((name.clone(), plain(value.fill(scope)?)?)))
                        .collect::<Result<_, StepError>>()?,
                    ok: ok.clone(),
                    timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                }
            }
            Self::Chown { paths, recursive } => Step::Chown {
                paths: tree_paths(paths, scope)?,
                uid: app.target.uid,
                gid: app.target.gid,
                recursive: *recursive,
            },
            Self::SetBits {
                paths,
                add,
                remove,
                recursive,
            } => Step::SetBits {
                paths: tree_paths(paths, scope)?,
                add: *add,
                remove: *remove,
                recursive: *recursive,
            },
            Self::PutKnownGood { path } => Step::Put {
                path: tree_path(path, scope)?,
                digest: NO_DIGEST,
                mode: PUT_MODE,
                owner: None,
            },
            Self::EditKey { path, key, value } => Step::EditKey {
                path: tree_path(path, scope)?,
                key: named("key", key.fill(scope)?)?,
                value: plain(value.fill(scope)?)?,
            },
            Self::Remove { paths, recursive } => Step::Remove {
                paths: tree_paths(paths, scope)?,
                recursive: *recursive,
            },
            Self::SwapDirectory { path, with } => Step::SwapDirectory {
                path: tree_path(path, scope)?,
                with: tree_path(with, scope)?,
            },
            Self::TrimLog { path, keep_bytes } => Step::TrimLog {
                path: tree_path(path, scope)?,
                keep_bytes: *keep_bytes,
            },
            Self::RestartUnit { unit } => Step::RestartUnit {
                unit: named("unit", unit.fill(scope)?)?,
            },
            Self::RestartPm2 { name, home } => Step::RestartPm2 {
                name: named("name", name.fill(scope)?)?,
                home: match home {
                    // Empty: the user's own.
                    Some(home) => Some(plain(home.fill(scope)?)?).filter(|home| !home.is_empty()),
                    None => None,
                },
            },
        })
    }
}

fn paths(fields: &mut Fields<'_>, errors: &mut Errors) -> Vec<Template> {
    fields.need("paths", "name the paths", errors);
    let found = fields.texts("paths", errors).unwrap_or_default();
    let mut templates = Vec::with_capacity(found.len());
    for (text, at) in found {
        templates.push(checked_path(text, at, &fields.key("paths"), errors));
    }
    templates
}

fn one_path(fields: &mut Fields<'_>, name: &'static str, errors: &mut Errors) -> Option<Template> {
    let node = fields.need(name, "name the path", errors)?;
    let text = fields.text(name, errors)?;
    Some(checked_path(text, &node.at, &fields.key(name), errors))
}

/// A path template; one without names is checked whole, one with names as far as it goes.
pub(super) fn checked_path(
    text: &str,
    at: &super::source::At,
    key: &str,
    errors: &mut Errors,
) -> Template {
    let template = Template::parse(text);
    let probe = template
        .literal()
        .map_or_else(|| text.replace(['{', '}', '|'], "_"), str::to_owned);
    if let Err(error) = TreePath::parse(&probe) {
        errors.push(
            at,
            key,
            format!("{error}"),
            "name a path below the application's root",
        );
    }
    template
}

fn template(fields: &mut Fields<'_>, name: &'static str, errors: &mut Errors) -> Option<Template> {
    fields.need(name, "", errors)?;
    fields.text(name, errors).map(Template::parse)
}

fn plain(text: String) -> Result<String, StepError> {
    if text.contains('\0') || text.contains('\n') || text.contains('\r') {
        Err(StepError::Argument(super::fact::escape(&text, 80)))
    } else {
        Ok(text)
    }
}

fn named(what: &'static str, text: String) -> Result<String, StepError> {
    if text.is_empty() {
        return Err(StepError::Empty(what));
    }
    plain(text)
}

fn tree_path(template: &Template, scope: &Scope<'_>) -> Result<TreePath, StepError> {
    let text = template.fill(scope)?;
    parse_path(&text)
}

fn parse_path(text: &str) -> Result<TreePath, StepError> {
    TreePath::parse(text)
        .map_err(|error| StepError::Path(super::fact::escape(text, 120), error.to_string()))
}

fn tree_paths(templates: &[Template], scope: &Scope<'_>) -> Result<Vec<TreePath>, StepError> {
    let mut paths = Vec::new();
    for template in templates {
        for text in template.expand(scope)? {
            paths.push(parse_path(&text)?);
        }
    }
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Err(StepError::Empty("paths"));
    }
    Ok(paths)
}

/// Which names a step may hold: parameters, the application, its vars.
pub(super) fn is_final_name(path: &FactPath) -> bool {
    matches!(path.scope.as_str(), "params" | "app" | "vars")
}
