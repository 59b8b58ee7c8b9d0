//! The layers of a configuration: files in order, then the environment; merged, and still able to say where a key stood.
//!
//! Files are opened once, judged by their handle, and read from it. What the environment may not set is refused here,
//! because an environment is inherited and shown more widely than a root-owned file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Tag, Value};
use toml_edit::{Document, Item};

use super::problem::{Place, Problem, Warning, key_text, shown};

/// No configuration is larger; a larger file is not one.
const BYTES_MAX: u64 = 8 << 20;

/// Files below `conf.d` that are read at most.
const FILES_MAX: usize = 1000;

/// Variables of our prefix that are no settings.
const NO_SETTINGS: &[&str] = &["HEALERD_LOG", "HEALERD_SOCKET", "HEALERD_CONFIG"];

/// One file.
#[derive(Debug)]
struct Layer {
    path: PathBuf,
    document: Document<String>,
}

/// All of them, weakest first.
#[derive(Debug, Default)]
pub(super) struct Layers {
    files: Vec<Layer>,
    /// Path of the key → name of the variable and its text.
    environment: BTreeMap<Vec<String>, (String, String)>,
}

/// What reading found beside the layers.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) layers: Layers,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// A file could not be read or parsed: judging the rest would blame what it might have said.
    pub(super) incomplete: bool,
}

impl Found {
    fn refuse(&mut self, path: &Path, reason: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem {
            place: Place::File {
                path: path.to_owned(),
                position: None,
            },
            key: String::new(),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    fn warn(&mut self, path: &Path, reason: &str, remedy: &str) {
        self.warnings.push(Warning(Problem {
            place: Place::File {
                path: path.to_owned(),
                position: None,
            },
            key: String::new(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }));
    }
}

/// Reads the main file, the files of the folder in order of name, and the environment.
pub(super) fn read(
    main: &Path,
    folder: &Path,
    environment: &BTreeMap<String, String>,
    daemon_uid: u32,
) -> Found {
    let mut found = Found::default();
    match File::open(main) {
        Ok(file) => read_layer(&mut found, main, file, daemon_uid),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => found.warn(
            main,
            "does not exist; only defaults and conf.d count",
            "copy the sample configuration there",
        ),
        Err(error) => unreadable(&mut found, main, &error),
    }
    for path in folder_files(&mut found, folder) {
        match File::open(&path) {
            Ok(file) => read_layer(&mut found, &path, file, daemon_uid),
            Err(error) => unreadable(&mut found, &path, &error),
        }
    }
    let mut folders: Vec<&Path> = found
        .layers
        .files
        .iter()
        .filter_map(|layer| layer.path.parent())
        .collect();
    folders.dedup();
    let loose: Vec<PathBuf> = folders
        .into_iter()
        .filter(|folder| is_loose_folder(folder, daemon_uid))
        .map(Path::to_owned)
        .collect();
    for folder in loose {
        found.refuse(
            &folder,
            "can be written by others, so that a file in it can be replaced",
            format!("chown root: {0} && chmod go-w {0}", folder.display()),
        );
    }
    read_environment(&mut found, environment);
    found
}

fn unreadable(found: &mut Found, path: &Path, error: &std::io::Error) {
    found.incomplete = true;
    found.refuse(
        path,
        format!("cannot be read: {error}"),
        "let the daemon's user read it, or remove it",
    );
}

fn folder_files(found: &mut Found, folder: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            unreadable(found, folder, &error);
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => unreadable(found, folder, &error),
        }
    }
    files.sort();
    let (mut files, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    for other in others {
        let hidden = other
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            found.warn(
                &other,
                "is not read, because its name does not end in .toml",
                "rename or remove it",
            );
        }
    }
    if files.len() > FILES_MAX {
        found.incomplete = true;
        found.refuse(
            folder,
            format!("holds more than {FILES_MAX} files"),
            "join some of them",
        );
        files.clear();
    }
    files
}

/// May somebody else than root and the daemon put files there? A sticky folder lets nobody replace another's file.
fn is_loose_folder(folder: &Path, daemon_uid: u32) -> bool {
    std::fs::metadata(folder).is_ok_and(|about| {
        let sticky = about.mode() & 0o1000 != 0;
        (about.uid() != 0 && about.uid() != daemon_uid) || (about.mode() & 0o022 != 0 && !sticky)
    })
}

fn read_layer(found: &mut Found, path: &Path, file: File, daemon_uid: u32) {
    let about = match file.metadata() {
        Ok(about) => about,
        Err(error) => return unreadable(found, path, &error),
    };
    if !about.is_file() {
        found.incomplete = true;
        return found.refuse(
            path,
            "is not a regular file",
            "put a file there, or remove it",
        );
    }
    if about.uid() != 0 && about.uid() != daemon_uid {
        found.refuse(
            path,
            format!("belongs to the user {}, who could change it", about.uid()),
            format!("chown root: {}", path.display()),
        );
    }
    if about.mode() & 0o022 != 0 {
        found.refuse(
            path,
            format!(
                "has mode {:04o}, so that others can change it",
                about.mode() & 0o7777
            ),
            format!("chmod go-w {}", path.display()),
        );
    }
    let mut bytes = Vec::new();
    if let Err(error) = file.take(BYTES_MAX + 1).read_to_end(&mut bytes) {
        return unreadable(found, path, &error);
    }
    if bytes.len() as u64 > BYTES_MAX {
        found.incomplete = true;
        return found.refuse(
            path,
            "is larger than 8 MiB",
            "split it into files in conf.d",
        );
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            found.incomplete = true;
            return found.refuse(
                path,
                format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
                "save it as UTF-8",
            );
        }
    };
    match Document::parse(text.clone()) {
        Ok(document) => found.layers.files.push(Layer {
            path: path.to_owned(),
            document,
        }),
        Err(error) => {
            found.incomplete = true;
            let at = error.span().map_or(0, |span| span.start);
            found.problems.push(Problem {
                place: Place::File {
                    path: path.to_owned(),
                    position: Some(position(&text, at)),
                },
                key: String::new(),
                reason: format!("is not TOML: {}", shown(error.message().trim_end())),
                remedy: "mend the line; texts stand in double quotes".to_owned(),
            });
        }
    }
}

fn read_environment(found: &mut Found, environment: &BTreeMap<String, String>) {
    for (name, text) in environment {
        let Some(key) = name.strip_prefix("HEALERD_") else {
            continue;
        };
        if NO_SETTINGS.contains(&name.as_str()) || key.starts_with("TESTS_") {
            continue;
        }
        if cfg!(feature = "crash-points") && name == healer_agent::crash::PIPE {
            continue;
        }
        let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
        if is_security_key(&path) {
            found.problems.push(Problem {
                place: Place::Environment(shown(name)),
                key: key_text(&path),
                reason: "cannot be set by the environment, because it decides who may do what"
                    .to_owned(),
                remedy: "write it in a configuration file".to_owned(),
            });
        } else {
            found
                .layers
                .environment
                .insert(path, (name.clone(), text.clone()));
        }
    }
}

/// Does the key say who may do what, to what, or what runs without a person?
fn is_security_key(path: &[String]) -> bool {
    let below: Vec<&str> = match path {
        [app, _name, rest @ ..] if app == "app" => rest.iter().map(String::as_str).collect(),
        path => path.iter().map(String::as_str).collect(),
    };
    let first = below.first().copied().unwrap_or_default();
    let always = [
        "mode", "max_mode", "policy", "approval", "control", "notify", "host", "path", "roots",
        "stack", "user", "vars", "parent", "app",
    ];
    let exactly = [
        ["daemon", "agent_allow"],
        ["metrics", "expose"],
        ["check", "disabled"],
    ];
    always.contains(&first) || exactly.iter().any(|key| below == key)
}

impl Layers {
    /// All layers as one value, weaker ones first.
    ///
    /// # Errors
    /// A file that one TOML reader takes and the other does not.
    pub(super) fn merged(&self) -> Result<Value, Problem> {
        let mut figment = Figment::new();
        for layer in &self.files {
            figment = figment.merge(Toml::string(layer.document.raw()));
        }
        let mut environment = Dict::new();
        for (path, (_, text)) in &self.environment {
            // Never fails: what is no number, truth value or list is a text.
            let value: Value = text.parse().unwrap_or_else(|_| Value::from(text.clone()));
            insert(&mut environment, path, value);
        }
        figment
            .merge(Serialized::defaults(Value::Dict(Tag::Default, environment)))
            .extract::<Value>()
            .map_err(|error| Problem {
                place: Place::Nowhere,
                key: key_text(&error.path),
                reason: format!("cannot be read: {}", shown(&error.to_string())),
                remedy: "write plain TOML 1.0".to_owned(),
            })
    }

    /// Is the key itself written anywhere?
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.environment.contains_key(path)
            || self
                .files
                .iter()
                .any(|layer| deepest(layer.document.as_item(), path).0 == path.len())
    }

    /// Where the key stands, or else the nearest table around it; the strongest layer where several say it.
    pub(super) fn place(&self, path: &[String]) -> Place {
        if let Some((name, _)) = self.environment.get(path) {
            return Place::Environment(shown(name));
        }
        let mut best: Option<(usize, &Layer, usize)> = None;
        for layer in self.files.iter().rev() {
            let (depth, offset) = deepest(layer.document.as_item(), path);
            if depth > 0 && best.is_none_or(|(known, _, _)| depth > known) {
                best = Some((depth, layer, offset));
            }
        }
        best.map_or(Place::Nowhere, |(_, layer, offset)| Place::File {
            path: layer.path.clone(),
            position: Some(position(layer.document.raw(), offset)),
        })
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = dict
                .entry(first.clone())
                .or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            } else {
                let mut fresh = Dict::new();
                insert(&mut fresh, rest, value);
                *inner = Value::Dict(Tag::Default, fresh);
            }
        }
    }
}

/// How many parts of the path are there, and the byte where the last of them stands.
fn deepest(root: &Item, path: &[String]) -> (usize, usize) {
    let mut item = root;
    let mut found = (0, 0);
    for (depth, part) in path.iter().enumerate() {
        let (offset, next) = if let Some(table) = item.as_table_like() {
            let Some((key, value)) = table.get_key_value(part) else {
                break;
            };
            // A table named by its header is where the header is, not where another table first mentions it.
            let header = value.as_table().and_then(toml_edit::Table::span);
            let span = if header.is_some() { header } else { key.span() };
            (span.map(|span| span.start), value)
        } else {
            let element = part.parse().ok().and_then(|index: usize| {
                let value = item.as_array()?.get(index)?;
                value.span()
            });
            if let Some(span) = element {
                found = (depth + 1, span.start);
            }
            break;
        };
        found = (depth + 1, offset.unwrap_or(found.1));
        item = next;
    }
    found
}

/// Line and column, from 1, of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    (line, column)
}

/// The known word that was probably meant.
pub(super) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
