//! The ordinary user that applications run as. Read from /etc/passwd; nobody is created.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    pub(crate) fn named(name: &str) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let mut ids = fields.skip(1);
            Some(Self {
                name: name.to_owned(),
                uid: ids.next()?.parse().ok()?,
                gid: ids.next()?.parse().ok()?,
            })
        })
    }

    /// Gives one path to this user.
    pub(crate) fn own(&self, path: &Path) {
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }

    /// Gives a whole tree to this user.
    pub(crate) fn own_all(&self, path: &Path) {
        self.own(path);
        if path.is_dir() && !path.is_symlink() {
            for entry in std::fs::read_dir(path).expect("root can read") {
                self.own_all(&entry.expect("root can read").path());
            }
        }
    }

    /// Makes the command run as this user, without any other group.
    pub(crate) fn drop_to(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}
