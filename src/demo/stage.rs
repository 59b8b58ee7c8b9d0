//! The temporary folder with the applications, the stack files and the daemon's configuration.
//!
//! As root the applications belong to an unprivileged user, as on a real server; as anybody else everything is the
//! caller's own.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::config::Users;

/// Users that an application of the demonstration may belong to where root starts it; the first that exists.
const APP_USERS: &[&str] = &["www-data", "nobody", "daemon"];

/// Stack files by name.
const STACKS: &[(&str, &str)] = &[
    ("demo_shop.toml", include_str!("stacks/demo_shop.toml")),
    ("demo_blog.toml", include_str!("stacks/demo_blog.toml")),
    ("demo_wiki.toml", include_str!("stacks/demo_wiki.toml")),
    ("demo_forum.toml", include_str!("stacks/demo_forum.toml")),
];

/// Files of the applications.
const FILES: &[(&str, &str, u32)] = &[
    (
        "shop/index.html",
        "<h1>Shop</h1>\n<p>Open for you.</p>\n",
        0o644,
    ),
    ("shop/prices.csv", "bread;3.20\nmilk;1.10\n", 0o644),
    ("blog/index.html", "<h1>Blog</h1>\n", 0o644),
    (
        "blog/.env",
        "# written by hand\nAPP_KEY=base64:ZGVtb25zdHJhdGlvbiwgbm90IGEgc2VjcmV0IQ==\nDB_HOST=127.0.0.1\nDB_NAME=blog\n",
        0o640,
    ),
    (
        "wiki/settings.env",
        "SEARCH=off # a comment that must survive\nTHEME=plain\n",
        0o640,
    ),
    ("wiki/pages/home.html", "<h1>Wiki</h1>\n", 0o664),
    ("wiki/cache/results.txt", "fox\njumps\n", 0o600),
    ("wiki/search.index", "fox 1\n", 0o644),
    (
        "forum/settings.env",
        "MAIL_HOST=127.0.0.1\nMAIL_PORT=2525\n",
        0o640,
    ),
    ("forum/mail.sent", "yesterday\n", 0o644),
];

/// Folders of the applications.
const FOLDERS: &[&str] = &[
    "shop",
    "blog",
    "wiki",
    "wiki/pages",
    "wiki/cache",
    "wiki/uploads",
    "forum",
];

/// Who the applications belong to.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) name: String,
    uid: u32,
    gid: u32,
    /// Does the demonstration run as root?
    pub(super) by_root: bool,
}

/// The folder; it goes away with this value.
#[derive(Debug)]
pub(super) struct Stage {
    folder: TempDir,
    pub(super) owner: Owner,
}

impl Owner {
    fn find() -> anyhow::Result<Self> {
        let users = Users::read(Path::new("/etc/passwd"), Path::new("/etc/group"))
            .context("cannot read who the users of this machine are")?;
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            let Some(name) = users.name_of(uid) else {
                bail!(
                    "user {uid} has no name in /etc/passwd, and an application needs a named user"
                );
            };
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self {
                name: name.to_owned(),
                uid,
                gid,
                by_root: false,
            });
        }
        let user = APP_USERS
            .iter()
            .find_map(|name| users.user(name))
            .filter(|user| user.uid != 0);
        let Some(user) = user else {
            bail!("none of the users {} exists here", APP_USERS.join(", "));
        };
        Ok(Self {
            name: user.name.clone(),
            uid: user.uid,
            gid: user.gid,
            by_root: true,
        })
    }
}

impl Stage {
    /// Makes everything but the configuration, which needs the address of the site.
    pub(super) fn build() -> anyhow::Result<Self> {
        let owner = Owner::find()?;
        let above = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("healerd-demo-")
            .tempdir_in(&above)
            .with_context(|| format!("cannot make a folder below {}", above.display()))?;
        let stage = Self { folder, owner };
        stage.fill().context("cannot fill the temporary folder")?;
        if stage.owner.by_root
            && let Some(closed) = closed_above(stage.path())
        {
            bail!(
                "{} cannot be entered by {}; set TMPDIR to a folder that everybody may enter, such as /tmp",
                closed.display(),
                stage.owner.name
            );
        }
        Ok(stage)
    }

    fn fill(&self) -> io::Result<()> {
        set_mode(self.path(), 0o755)?;
        for (folder, mode) in [
            ("etc", 0o755),
            ("etc/conf.d", 0o755),
            ("etc/stacks.d", 0o755),
            ("run", 0o755),
            // The agents of other users keep their witnesses below it.
            ("state", 0o711),
            ("apps", 0o755),
        ] {
            let folder = self.path().join(folder);
            std::fs::create_dir(&folder)?;
            set_mode(&folder, mode)?;
        }
        for (name, text) in STACKS {
            write(&self.path().join("etc/stacks.d").join(name), text, 0o644)?;
        }
        for folder in FOLDERS {
            let folder = self.path().join("apps").join(folder);
            std::fs::create_dir(&folder)?;
            set_mode(&folder, 0o755)?;
            self.give(&folder)?;
        }
        for (file, text, mode) in FILES {
            let file = self.path().join("apps").join(file);
            write(&file, text, *mode)?;
            self.give(&file)?;
        }
        Ok(())
    }

    /// Writes the daemon's configuration: everything as in production, only every wait is short.
    pub(super) fn configure(&self, shop_url: &str) -> io::Result<()> {
        let folder = self.path().display();
        let roles = if self.owner.by_root {
            String::new()
        } else {
            format!("[control.roles.admin]\nusers = [\"{}\"]\n", self.owner.name)
        };
        let mut text = format!(
            r#"mode = "SEMI_AUTO"
[daemon]
state_dir = "{folder}/state"
[control]
socket = "{folder}/run/control.sock"
{roles}
[metrics]
enabled = false
[check]
interval = "5s"
jitter = 0
look = "1s"
[dwell]
time = "1s"
looks = 2
critical_time = "1s"
critical_looks = 2
[grace]
time = "0s"
[settle]
time = "3s"
restart = "1s"
verdict_deadline = "30s"
[soak]
time = "2s"
recurrence = "10s"
[pause]
app = "0s"
action = "0s"
[backup]
room = "1MiB"
base_bytes_max = "1MiB"
vault_bytes_max = "64MiB"
"#
        );
        for app in ["shop", "blog", "wiki", "forum"] {
            writeln!(text, "[app.{app}]\npath = \"{folder}/apps/{app}\"\nstack = \"demo_{app}\"\nuser = \"{}\"",
                self.owner.name).ok();
            if app == "shop" {
                writeln!(text, "url = \"{shop_url}\"").ok();
            }
        }
        write(&self.config(), &text, 0o600)
    }

    /// Writes a file of an application as its user would, with `text` and the bits of any new file.
    pub(super) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let file = self.app(name);
        if file.exists() {
            std::fs::write(&file, text)
        } else {
            write(&file, text, 0o644)?;
            self.give(&file)
        }
    }

    /// Removes a file of an application.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.app(name))
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        if self.owner.by_root {
            std::os::unix::fs::chown(path, Some(self.owner.uid), Some(self.owner.gid))?;
        }
        Ok(())
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path of an application: `shop/index.html`.
    pub(super) fn app(&self, name: &str) -> PathBuf {
        self.path().join("apps").join(name)
    }

    /// The daemon's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.path().join("etc/healerd.toml")
    }

    /// The control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.path().join("run/control.sock")
    }

    /// Removes everything.
    pub(super) fn close(self) -> io::Result<()> {
        self.folder.close()
    }
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    std::fs::write(path, text)?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The first folder above `path` that others may not enter.
fn closed_above(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .filter(|folder| !folder.as_os_str().is_empty())
        .find(|folder| {
            folder
                .metadata()
                .is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
        })
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::config::{self, Paths};

    #[test]
    fn the_stack_files_of_the_demonstration_are_valid() {
        let extra: Vec<_> = STACKS
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let catalogue = Catalogue::load(&extra).unwrap();
        assert_eq!(
            catalogue
                .stacks()
                .filter(|stack| stack.name.as_str().starts_with("demo_"))
                .count(),
            STACKS.len()
        );
    }

    #[test]
    fn the_configuration_is_valid_and_nothing_stays() {
        let stage = Stage::build().unwrap();
        stage.configure("http://127.0.0.1:8080/").unwrap();
        let paths = Paths {
            file: stage.config(),
            temporary_state: true,
            ..Paths::below(&stage.path().join("etc"))
        };
        let stacks: BTreeSet<_> = ["shop", "blog", "wiki", "forum"]
            .iter()
            .map(|app| format!("demo_{app}").parse().unwrap())
            .collect();
        let loaded = config::load(&paths, &std::collections::BTreeMap::new(), Some(&stacks));
        let (settings, _) = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(settings.apps.len(), 4);
        let folder = stage.path().to_owned();
        stage.close().unwrap();
        assert!(!folder.exists());
    }
}
