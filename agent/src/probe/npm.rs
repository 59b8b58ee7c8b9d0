//! The `npm_lock` probe: `package.json`, `package-lock.json` and `node_modules` against each other.
//!
//! Reads what npm itself would read and runs nothing. What npm may leave out is not missing: optional packages, those
//! for another system, and whole groups (development, peers) of which not one is installed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Context;
use super::found::Found;
use super::place::{is_absent, reason};
use super::spec::Fact;
use crate::tree::TreePath;

const FILE_BYTES_MAX: u64 = 16 << 20;
const PACKAGE_BYTES_MAX: u64 = 4 << 20;
const PACKAGES_MAX: usize = 20_000;
const LISTED_MAX: usize = 50;
const DEPTH_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PackageJson {
    version: Option<serde_json::Value>,
    dependencies: BTreeMap<String, serde_json::Value>,
    dev_dependencies: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lock {
    packages: Option<BTreeMap<String, Locked>>,
    dependencies: BTreeMap<String, LockedOld>,
}

/// An entry of `packages` (lock file versions 2 and 3).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags of an npm lock file as they stand there"
)]
struct Locked {
    version: Option<String>,
    link: bool,
    dev: bool,
    optional: bool,
    dev_optional: bool,
    peer: bool,
    os: Vec<String>,
    cpu: Vec<String>,
}

/// An entry of `dependencies` (lock file version 1).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LockedOld {
    version: Option<String>,
    dev: bool,
    optional: bool,
    dependencies: BTreeMap<String, LockedOld>,
}

/// Which group a package belongs to; groups may be left out as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Needed,
    Dev,
    Peer,
    Optional,
}

/// One package that the lock file wants.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// Below package.json's directory: `node_modules/a`.
    path: String,
    version: Option<String>,
    link: bool,
    group: Group,
}

/// Does npm's list of systems (`linux`, `!win32`) admit this one?
fn admits(list: &[String], this: &str) -> bool {
    let denied = list.iter().any(|item| item.strip_prefix('!') == Some(this));
    let mut named = list.iter().filter(|item| !item.starts_with('!')).peekable();
    !denied && (named.peek().is_none() || named.any(|item| item == this || item == "any"))
}

fn this_cpu() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "x86" => "ia32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn wanted(lock: &Lock) -> Vec<Wanted> {
    let mut all = Vec::new();
    match &lock.packages {
        Some(packages) => {
            // Workspaces stand there twice: as a directory of their own, and as a link in node_modules.
            for (path, locked) in packages {
                if !path.starts_with("node_modules/") && !path.contains("/node_modules/") {
                    continue;
                }
                let here = admits(&locked.os, "linux") && admits(&locked.cpu, this_cpu());
                let group = if locked.optional || locked.dev_optional || !here {
                    Group::Optional
                } else if locked.dev {
                    Group::Dev
                } else if locked.peer {
                    Group::Peer
                } else {
                    Group::Needed
                };
                all.push(Wanted {
                    path: path.clone(),
                    version: locked.version.clone(),
                    link: locked.link,
                    group,
                });
            }
        }
        None => old(&lock.dependencies, "", DEPTH_MAX, &mut all),
    }
    all
}

fn old(
    dependencies: &BTreeMap<String, LockedOld>,
    above: &str,
    depth: usize,
    all: &mut Vec<Wanted>,
) {
    if depth == 0 {
        return;
    }
    for (name, locked) in dependencies {
        let path = format!("{above}node_modules/{name}");
        let group = if locked.optional {
            Group::Optional
        } else if locked.dev {
            Group::Dev
        } else {
            Group::Needed
        };
        // A version that names a place (`file:…`, `git+ssh:…`) says nothing to compare with.
        let version = locked
            .version
            .clone()
            .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        let link = locked
            .version
            .as_deref()
            .is_some_and(|version| version.starts_with("file:"));
        all.push(Wanted {
            path: path.clone(),
            version,
            link,
            group,
        });
        old(&locked.dependencies, &format!("{path}/"), depth - 1, all);
    }
}

/// A JSON file: not there, there and read, or there and not JSON.
enum File<T> {
    Absent,
    Parsed(T),
    Broken,
}

fn read<T: for<'a> Deserialize<'a>>(
    context: &Context,
    path: &TreePath,
    bytes_max: u64,
) -> Result<File<T>, String> {
    match context.place.read(path, bytes_max) {
        Ok(Some(bytes)) => Ok(serde_json::from_slice(&bytes).map_or(File::Broken, File::Parsed)),
        Ok(None) => Err(format!("{path}: no regular file, or too large")),
        Err(errno) if is_absent(errno) => Ok(File::Absent),
        Err(errno) => Err(format!("{path}: {}", reason(errno))),
    }
}

/// How one package was found.
enum Installed {
    Yes,
    No,
    Other,
}

fn installed(
    context: &Context,
    directory: &TreePath,
    wanted: &Wanted,
) -> Result<Installed, String> {
    let at = |path: &str| {
        let whole = [directory.as_bytes(), b"/", path.as_bytes()].concat();
        let whole = whole.strip_prefix(b"/").unwrap_or(&whole).to_vec();
        TreePath::from_bytes(&whole).map_err(|error| error.to_string())
    };
    if wanted.link {
        // A link into the same project; that it stands is all that npm looks at.
        return match context.place.link(&at(&wanted.path)?) {
            Ok(_) => Ok(Installed::Yes),
            Err(errno) if is_absent(errno) => Ok(Installed::No),
            Err(errno) => Err(format!("{}: {}", wanted.path, reason(errno))),
        };
    }
    let path = at(&format!("{}/package.json", wanted.path))?;
    match read::<PackageJson>(context, &path, PACKAGE_BYTES_MAX)? {
        File::Absent => Ok(Installed::No),
        File::Broken => Ok(Installed::Other),
        File::Parsed(package) => Ok(match (&wanted.version, package.version) {
            (Some(wanted), Some(serde_json::Value::String(found))) if !same(wanted, &found) => {
                Installed::Other
            }
            _ => Installed::Yes,
        }),
    }
}

/// Versions are equal up to what the registry cleans: a leading `v` and build metadata.
fn same(a: &str, b: &str) -> bool {
    let clean = |text: &str| {
        let text = text.trim().trim_start_matches(['v', '=']);
        text.split('+').next().unwrap_or(text).to_owned()
    };
    clean(a) == clean(b)
}

pub(super) fn probe(context: &Context, path: &str) -> Found {
    let unknown = |why: &str| Found::unknown("npm_lock", why);
    let directory = match TreePath::parse(path) {
        Ok(directory) => directory,
        Err(error) => return unknown(&error.to_string()),
    };
    match compare(context, &directory) {
        Ok(found) => found,
        Err(why) => unknown(&why),
    }
}

fn compare(context: &Context, directory: &TreePath) -> Result<Found, String> {
    let at = |name: &[u8]| directory.join(name).map_err(|error| error.to_string());
    let package: File<PackageJson> = read(context, &at(b"package.json")?, PACKAGE_BYTES_MAX)?;
    let lock: File<Lock> = read(context, &at(b"package-lock.json")?, FILE_BYTES_MAX)?;
    let modules = match context.place.open_at(
        &at(b"node_modules")?,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
    ) {
        Ok(_) => true,
        Err(errno) if is_absent(errno) => false,
        Err(errno) => return Err(format!("node_modules: {}", reason(errno))),
    };
    let parsed = |exists: bool, parsed: bool| {
        if exists {
            Fact::Bool(parsed)
        } else {
            Fact::Absent
        }
    };
    let found = Found::absent("npm_lock")
        .with("package_exists", !matches!(package, File::Absent))
        .with(
            "package_parsed",
            parsed(
                !matches!(package, File::Absent),
                matches!(package, File::Parsed(_)),
            ),
        )
        .with("lock_exists", !matches!(lock, File::Absent))
        .with(
            "lock_parsed",
            parsed(
                !matches!(lock, File::Absent),
                matches!(lock, File::Parsed(_)),
            ),
        )
        .with("modules_exist", modules);
    let File::Parsed(lock) = lock else {
        return Ok(found.with("complete", false));
    };
    let wanted = wanted(&lock);
    if wanted.len() > PACKAGES_MAX {
        return Err(format!(
            "the lock file names more than {PACKAGES_MAX} packages"
        ));
    }
    let (mut missing, mut mismatched) = (Vec::new(), Vec::new());
    let mut present: BTreeMap<Group, usize> = BTreeMap::new();
    for item in &wanted {
        if context.stopped() {
            return Err("deadline".to_owned());
        }
        match installed(context, directory, item)? {
            Installed::Yes => *present.entry(item.group).or_default() += 1,
            Installed::No => missing.push(item),
            Installed::Other => {
                *present.entry(item.group).or_default() += 1;
                mismatched.push(name_of(item));
            }
        }
    }
    let mut missing: Vec<String> = missing
        .into_iter()
        .filter(|item| match item.group {
            Group::Needed => true,
            // With nothing installed at all nobody has chosen to leave these out, but then the needed ones tell.
            Group::Dev | Group::Peer => present.contains_key(&item.group),
            Group::Optional => false,
        })
        .map(name_of)
        .collect();
    if let File::Parsed(package) = &package {
        missing.extend(unlocked(package, &wanted));
    }
    let complete = missing.is_empty()
        && mismatched.is_empty()
        && matches!(package, File::Parsed(_))
        && (modules || wanted.iter().all(|item| item.group == Group::Optional));
    missing.truncate(LISTED_MAX);
    mismatched.truncate(LISTED_MAX);
    Ok(found
        .with("checked", wanted.len())
        .with("missing", missing)
        .with("mismatched", mismatched)
        .with("complete", complete))
}

/// `node_modules/a/node_modules/@s/b` as people say it: `a/@s/b`.
fn name_of(item: &Wanted) -> String {
    let path = item.path.replace("/node_modules/", "/");
    path.strip_prefix("node_modules/")
        .unwrap_or(&path)
        .to_owned()
}

/// What package.json asks for and the lock file does not know: they are out of step.
fn unlocked(package: &PackageJson, wanted: &[Wanted]) -> Vec<String> {
    package
        .dependencies
        .keys()
        .chain(package.dev_dependencies.keys())
        .filter(|name| {
            let path = format!("node_modules/{name}");
            !wanted
                .iter()
                .any(|item| item.path == path || item.path.ends_with(&format!("/{path}")))
        })
        .cloned()
        .collect()
}

#[cfg(test)]
#[path = "npm_tests.rs"]
mod tests;
