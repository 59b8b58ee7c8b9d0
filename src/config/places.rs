//! What `check-config` says about the folders of applications on this machine: whether they are there, and whether the
//! application's user can read them. It looks and changes nothing.
//!
//! Only warnings: a folder may be mounted or deployed later. Access is told by owner, group and mode; access lists and
//! read-only mounts are left to the checks of a running daemon.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::advice::{Advice, Weight};
use super::settings::Settings;
use super::users::Users;
use crate::model::app::App;
use crate::model::name::HostName;

/// Whom access is judged for.
struct Reader<'a> {
    name: &'a str,
    uid: u32,
    groups: Vec<u32>,
}

/// Judges every folder.
pub fn places(settings: &Settings, users: &Users) -> Vec<Advice> {
    settings
        .apps
        .values()
        .filter(|app| app.host == HostName::local())
        .flat_map(|app| of_app(app, users))
        .collect()
}

/// What keeps agents from their records: they lie below the state directory, and each agent runs as its app's user.
pub fn records(settings: &Settings, users: &Users, daemon_uid: u32) -> Vec<Advice> {
    let local = |app: &&App| app.host == HostName::local() && app.target.uid != daemon_uid;
    let mut found = Vec::new();
    for app in settings.apps.values().filter(local) {
        let reader = reader(app, users);
        let shut = settings.daemon.state_dir.ancestors().find_map(|folder| {
            let about = std::fs::metadata(folder).ok()?;
            (!may(&about, &reader, 0o1)).then(|| (folder, about.mode() & 0o7777))
        });
        if let Some((folder, mode)) = shut {
            found.push(Advice {
                weight: Weight::Refusal,
                text: format!(
                    "app `{}`: `{}`, as whom its agent runs, may not go through {} (mode {mode:04o}) to the agents' records below the state directory",
                    app.name, app.user, folder.display()
                ),
                lines: format!("chmod o+x {}", folder.display()),
            });
        }
    }
    found
}

fn reader<'a>(app: &'a App, users: &Users) -> Reader<'a> {
    Reader {
        name: &app.user,
        uid: app.target.uid,
        groups: users
            .groups_of(&app.user)
            .into_iter()
            .chain([app.target.gid])
            .collect(),
    }
}

fn of_app(app: &App, users: &Users) -> Vec<Advice> {
    let reader = reader(app, users);
    let main = std::iter::once(("path", &app.target.root));
    let more = app
        .target
        .roots
        .iter()
        .map(|root| ("one of its roots,", root));
    main.chain(more)
        .filter_map(|(what, root)| {
            let (weight, found) = judge(Path::new(root), &reader)?;
            Some(Advice {
                weight,
                text: format!("app `{}`: {what} {root} {found}", app.name),
                lines: String::new(),
            })
        })
        .collect()
}

/// What is odd about a folder.
fn judge(root: &Path, reader: &Reader<'_>) -> Option<(Weight, String)> {
    let about = match std::fs::metadata(root) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some((
                Weight::Warning,
                "does not exist; nothing can be seen of it until it does".to_owned(),
            ));
        }
        Err(error) => {
            return Some((Weight::Warning, format!("cannot be looked at: {error}")));
        }
    };
    if !about.is_dir() {
        return Some((
            Weight::Warning,
            "is not a folder; name the one that the application lies in".to_owned(),
        ));
    }
    // A link counts as what it leads to, which is what an agent opens.
    let real = std::fs::canonicalize(root).ok()?;
    for above in real.ancestors().skip(1) {
        if let Ok(about) = std::fs::metadata(above)
            && !may(&about, reader, 0o1)
        {
            return Some((
                Weight::Warning,
                format!(
                    "cannot be reached by `{}`, who may not enter {} (mode {:04o})",
                    reader.name,
                    above.display(),
                    about.mode() & 0o7777
                ),
            ));
        }
    }
    if !may(&about, reader, 0o5) {
        return Some((
            Weight::Warning,
            format!(
                "cannot be read by `{}` (it belongs to uid {} and has mode {:04o})",
                reader.name,
                about.uid(),
                about.mode() & 0o7777
            ),
        ));
    }
    (about.uid() != reader.uid).then(|| {
        (
            Weight::Warning,
            format!(
                "belongs to uid {} and not to `{}`, who may read it; what needs writing there will fail",
                about.uid(),
                reader.name
            ),
        )
    })
}

/// Does the mode give all these bits to the reader? Only the class that he falls into counts.
fn may(about: &std::fs::Metadata, reader: &Reader<'_>, bits: u32) -> bool {
    let mode = about.mode();
    let given = if about.uid() == reader.uid {
        mode >> 6
    } else if reader.groups.contains(&about.gid()) {
        mode >> 3
    } else {
        mode
    };
    given & bits == bits || reader.uid == 0
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make folders and set their modes"
)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_odd_about_a_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(folder.path(), 0o755);
        let me = std::fs::metadata(folder.path()).unwrap();
        let (owner, group) = (me.uid(), me.gid());
        let own = Reader {
            name: "shop",
            uid: owner,
            groups: vec![group],
        };
        let other = Reader {
            name: "shop",
            uid: owner + 4711,
            groups: Vec::new(),
        };
        let app = folder.path().join("app");
        let missing = judge(&app, &own).unwrap();
        assert!(missing.1.contains("does not exist"), "{missing:?}");

        std::fs::write(&app, "x").unwrap();
        let file = judge(&app, &own).unwrap();
        assert!(file.1.contains("is not a folder"), "{file:?}");

        std::fs::remove_file(&app).unwrap();
        std::fs::create_dir(&app).unwrap();
        set(&app, 0o750);
        assert_eq!(judge(&app, &own), None, "his own");
        let closed = judge(&app, &other).unwrap();
        assert!(closed.1.contains("cannot be read by `shop`"), "{closed:?}");

        set(&app, 0o755);
        let foreign = judge(&app, &other).unwrap();
        assert!(foreign.1.contains("and not to `shop`"), "{foreign:?}");

        set(folder.path(), 0o700);
        let shut = judge(&app, &other).unwrap();
        assert!(shut.1.contains("may not enter"), "{shut:?}");
        assert_eq!(shut.0, Weight::Warning);
    }
}
