//! What a root agent may do on this host: a root-owned list that the daemon cannot write.
//!
//! ```toml
//! [[chown]]
//! below = "/srv/shop"
//! to = ["shop", 1002]
//!
//! [[modes]]
//! below = "/srv/shop"
//!
//! [[restart]]
//! unit = "shop.service"
//! ```
//!
//! No list means nothing is allowed, and so does a bad one: an agent never runs with half of what was written.
//! A path is judged after the roots were resolved, together with every declared root that a link could lead into;
//! the operation itself then never leaves those roots ([`crate::roots`]).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::passwd;
use crate::protocol::{Refusal, RefusalCode};
use crate::step::Step;
use crate::tree::TreePath;

/// A list is short; a longer file is not one.
const BYTES_MAX: u64 = 1 << 20;

/// Named operations that are allowed here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    chown: Vec<Chown>,
    modes: Vec<PathBuf>,
    restart: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chown {
    below: PathBuf,
    to: Vec<Owner>,
}

/// Whom things are given to: a user, and no other group than his own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Why a list allows nothing.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    #[error("cannot read the allow list {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the allow list {path} must be a regular file of root's that nobody else can write")]
    Loose { path: PathBuf },
    #[error("the allow list is not understood: {0}")]
    Syntax(String),
    #[error(
        "the allow list names `{0}`, which is not an absolute path without `..`, or the whole machine"
    )]
    Path(String),
    #[error("the allow list names the user `{0}`, who is not in /etc/passwd")]
    User(String),
    #[error("the allow list names `{0}`, which is not a unit's name")]
    Unit(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    chown: Vec<ChownInput>,
    #[serde(default)]
    modes: Vec<ModesInput>,
    #[serde(default)]
    restart: Vec<RestartInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChownInput {
    below: String,
    to: Vec<UserInput>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UserInput {
    Uid(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModesInput {
    below: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestartInput {
    unit: String,
}

/// Is this a unit's name, and nothing that a program could take for an option or a pattern?
pub fn is_unit_name(unit: &str) -> bool {
    (1..=255).contains(&unit.len())
        && !unit.starts_with(['-', '.'])
        && unit.contains('.')
        && unit
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

fn directory(text: &str) -> Result<PathBuf, AllowError> {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path.components().count() > 1 {
        Ok(path.components().collect())
    } else {
        Err(AllowError::Path(text.to_owned()))
    }
}

impl Allowed {
    /// Reads the list; a file that is not there allows nothing.
    ///
    /// # Errors
    /// When it is there and cannot be read, is not root's alone, or is not understood.
    pub fn load(path: &Path) -> Result<Self, AllowError> {
        use std::io::Read as _;
        let failed = |source| AllowError::Read {
            path: path.to_owned(),
            source,
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || meta.uid() != 0 || meta.mode() & 0o022 != 0 || meta.len() > BYTES_MAX
        {
            return Err(AllowError::Loose {
                path: path.to_owned(),
            });
        }
        let mut text = String::new();
        file.take(BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let users = passwd::text().map_err(failed)?;
        Self::parse(&text, &users)
    }

    /// Reads the text of a list; `users` is the text of `/etc/passwd`.
    ///
    /// # Errors
    /// When anything in it is not understood.
    pub fn parse(text: &str, users: &str) -> Result<Self, AllowError> {
        let input: Input =
            toml_edit::de::from_str(text).map_err(|error| AllowError::Syntax(error.to_string()))?;
        let user = |user: UserInput| match user {
            // Of a number that no name stands for the group of the same number is believed to be its own.
            UserInput::Uid(uid) => Ok(Owner {
                uid,
                gid: passwd::find(users, |entry| entry.uid == uid).map_or(uid, |entry| entry.gid),
            }),
            UserInput::Name(name) => passwd::find(users, |entry| entry.name == name)
                .map(|entry| Owner {
                    uid: entry.uid,
                    gid: entry.gid,
                })
                .ok_or(AllowError::User(name)),
        };
        let chown = input
            .chown
            .into_iter()
            .map(|rule| {
                Ok(Chown {
                    below: directory(&rule.below)?,
                    to: rule.to.into_iter().map(user).collect::<Result<_, _>>()?,
                })
            })
            .collect::<Result<_, AllowError>>()?;
        let modes = input
            .modes
            .into_iter()
            .map(|rule| directory(&rule.below))
            .collect::<Result<_, _>>()?;
        let restart = input
            .restart
            .into_iter()
            .map(|rule| {
                is_unit_name(&rule.unit)
                    .then_some(rule.unit.clone())
                    .ok_or(AllowError::Unit(rule.unit))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            chown,
            modes,
            restart,
        })
    }

    /// The list as lines, for a person to read.
    pub fn lines(&self) -> Vec<String> {
        let chown = self.chown.iter().map(|rule| {
            let to: Vec<u32> = rule.to.iter().map(|owner| owner.uid).collect();
            format!("chown below {} to {to:?}", rule.below.display())
        });
        let modes = self
            .modes
            .iter()
            .map(|below| format!("modes below {}", below.display()));
        let restart = self.restart.iter().map(|unit| format!("restart {unit}"));
        chown.chain(modes).chain(restart).collect()
    }

    /// May root do this step here? `roots` are the real directories, the application's own first.
    ///
    /// # Errors
    /// [`RefusalCode::NotAllowed`] with the reason.
    pub fn check(&self, step: &Step, roots: &[String]) -> Result<(), Refusal> {
        let (fine, what) = match step {
            Step::Chown {
                paths, uid, gid, ..
            } => {
                let owner = Owner {
                    uid: *uid,
                    gid: *gid,
                };
                let rules: Vec<&Path> = self
                    .chown
                    .iter()
                    .filter(|rule| rule.to.contains(&owner))
                    .map(|rule| rule.below.as_path())
                    .collect();
                (
                    *uid != 0 && *gid != 0 && all_below(&rules, roots, paths.iter()),
                    format!("chown to {uid}:{gid}"),
                )
            }
            Step::SetBits { paths, add, .. } => {
                let rules: Vec<&Path> = self.modes.iter().map(PathBuf::as_path).collect();
                (
                    add.plain & 0o6000 == 0 && all_below(&rules, roots, paths.iter()),
                    "set_bits".to_owned(),
                )
            }
            Step::RestartUnit { unit } => {
                (self.restart.contains(unit), format!("restart of {unit}"))
            }
            Step::Run { .. }
            | Step::Put { .. }
            | Step::EditKey { .. }
            | Step::Remove { .. }
            | Step::SwapDirectory { .. }
            | Step::TrimLog { .. }
            | Step::RestartPm2 { .. } => (false, format!("`{}` as root", step.name())),
        };
        if fine {
            return Ok(());
        }
        Err(Refusal {
            code: RefusalCode::NotAllowed,
            message: format!("{what} is not in this host's allow list"),
        })
    }

    /// May root look at, or give back the metadata of, these paths?
    pub fn covers<'a>(&self, roots: &[String], paths: impl Iterator<Item = &'a TreePath>) -> bool {
        let rules: Vec<&Path> = self
            .chown
            .iter()
            .map(|rule| rule.below.as_path())
            .chain(self.modes.iter().map(PathBuf::as_path))
            .collect();
        all_below(&rules, roots, paths)
    }
}

/// Is every path below a rule, and every other declared root too?
fn all_below<'a>(
    rules: &[&Path],
    roots: &[String],
    paths: impl Iterator<Item = &'a TreePath>,
) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Some((root, others)) = roots.split_first() else {
        return false;
    };
    let below = |path: &Path| rules.iter().any(|rule| path.starts_with(rule));
    others.iter().all(|other| below(Path::new(other)))
        && paths
            .map(|path| Path::new(root).join(std::ffi::OsStr::from_bytes(path.as_bytes())))
            .all(|path| below(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Bits;

    const LIST: &str = r#"
        [[chown]]
        below = "/srv/shop"
        to = ["shop", 1002]
        [[modes]]
        below = "/srv/shop/storage"
        [[restart]]
        unit = "shop.service"
    "#;
    const USERS: &str = "shop:x:1001:1001::/srv/shop:/bin/sh\n";

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    fn chown(text: &str, uid: u32) -> Step {
        Step::Chown {
            paths: vec![path(text)],
            uid,
            gid: uid,
            recursive: true,
        }
    }

    #[test]
    fn root_does_what_the_list_names_and_nothing_else() {
        let list = Allowed::parse(LIST, USERS).unwrap();
        let bits = |text: &str, plain| Step::SetBits {
            paths: vec![path(text)],
            add: Bits { plain, search: 0 },
            remove: Bits::default(),
            recursive: false,
        };
        let unit = |unit: &str| Step::RestartUnit {
            unit: unit.to_owned(),
        };
        let run = Step::Run {
            argv: vec!["id".to_owned()],
            env: std::collections::BTreeMap::new(),
            ok: vec![0],
            timeout_ms: 1,
        };
        let shop: &[&str] = &["/srv/shop"];
        for (case, step, roots, want) in [
            ("named user", chown("storage", 1001), shop, true),
            ("number", chown("", 1002), shop, true),
            ("another user", chown("storage", 1003), shop, false),
            ("to root", chown("storage", 0), shop, false),
            (
                "another root",
                chown("storage", 1001),
                &["/srv/shopping"],
                false,
            ),
            ("above", chown("shop", 1001), &["/srv"], true),
            ("beside", chown("other", 1001), &["/srv"], false),
            (
                "a shared root that is not named",
                chown("storage", 1001),
                &["/srv/shop", "/etc"],
                false,
            ),
            ("bits", bits("storage/x", 0o600), shop, true),
            ("bits elsewhere", bits("public", 0o600), shop, false),
            ("setuid", bits("storage/x", 0o4000), shop, false),
            ("unit", unit("shop.service"), shop, true),
            ("another unit", unit("ssh.service"), shop, false),
            ("a program", run, shop, false),
            ("no root", chown("storage", 1001), &[], false),
        ] {
            let roots: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
            assert_eq!(list.check(&step, &roots).is_ok(), want, "{case}");
        }
    }

    #[test]
    fn nothing_is_allowed_without_a_list() {
        let list = Allowed::load(Path::new("/nonexistent/agent.toml")).unwrap();
        assert!(list.lines().is_empty());
        assert!(
            list.check(&chown("x", 1), &["/srv/shop".to_owned()])
                .is_err()
        );
    }

    #[test]
    fn a_bad_list_is_an_error_that_names_its_line() {
        for (text, word) in [
            ("[[chown]]\nbelow = \"/srv\"\ntoo = [1]\n", "line 3"),
            ("[[restart]]\nunit = 7\n", "line 2"),
            ("[[chown]]\nbelow = \"srv\"\nto = [1]\n", "srv"),
            ("[[modes]]\nbelow = \"/\"\n", "whole machine"),
            ("[[modes]]\nbelow = \"/srv/../etc\"\n", "`..`"),
            ("[[chown]]\nbelow = \"/srv\"\nto = [\"ghost\"]\n", "ghost"),
            ("[[restart]]\nunit = \"--all\"\n", "--all"),
            ("[[restart]]\nunit = \"*.service\"\n", "*.service"),
        ] {
            let error = Allowed::parse(text, USERS).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, LIST.replace("\"shop\", ", "")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(
            Allowed::load(&path),
            Err(AllowError::Loose { .. })
        ));
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(Allowed::load(&path).unwrap().lines().len(), 3);
        }
    }
}
