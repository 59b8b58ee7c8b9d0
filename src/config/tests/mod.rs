//! Real files in a folder of their own, read as the daemon reads them.

mod hosts;
mod refusals;
mod rows;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::{ConfigErrors, Paths, Settings, Warning, load};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nshop:x:1001:1001::/srv/shop:/bin/false\nblog:x:1002:1002::/srv/blog:/bin/false\nanna:x:2001:2001::/home/anna:/bin/sh\nbert:x:2002:2002::/home/bert:/bin/sh\n";
const GROUP: &str = "root:x:0:\nshop:x:1001:\nblog:x:1002:\nops:x:3001:anna,bert\n";

/// The least that one application needs.
const SHOP: &str = "[app.shop]\npath = \"/srv/shop\"\nstack = \"laravel\"\nuser = \"shop\"\n";

struct Etc {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Etc {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("passwd"), PASSWD).unwrap();
        std::fs::write(folder.path().join("group"), GROUP).unwrap();
        Self {
            folder,
            environment: BTreeMap::new(),
        }
    }

    fn with(self, name: &str, text: &str) -> Self {
        self.with_mode(name, text, 0o644)
    }

    fn with_mode(self, name: &str, text: &str, mode: u32) -> Self {
        let path = self.path(name);
        let above = path.parent().unwrap();
        std::fs::create_dir_all(above).unwrap();
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
        let stacks: BTreeSet<_> = ["laravel", "wordpress", "php"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let paths = Paths {
            passwd: self.path("passwd"),
            group: self.path("group"),
            ..Paths::below(self.folder.path())
        };
        load(&paths, &self.environment, Some(&stacks))
    }

    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|errors| panic!("{errors}")).0
    }

    /// The text of all problems, the folder's own path left away.
    fn refusal(&self) -> String {
        let text = self.load().expect_err("was not refused").to_string();
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn settings_of(text: &str) -> Settings {
    Etc::new().with("healerd.toml", text).settings()
}

fn refusal_of(text: &str) -> String {
    Etc::new().with("healerd.toml", text).refusal()
}
