//! Where a vault may lie.
//!
//! It holds secrets and must outlive the machine's next boot, so a place that others can read, that is emptied at
//! boot, or that a web server hands out is refused before anything is written there.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::files::{self, FOLDER_MODE, Folder};
use crate::seam::VaultError;

/// What the vault's place is held to.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The user that everything in the vault must belong to.
    pub owner: u32,
    /// Directories that web servers hand out; the vault lies below none of them.
    pub web_roots: Vec<PathBuf>,
    /// Accepts a temporary directory. Only for demonstrations and tests.
    pub allow_temp: bool,
}

/// Folders that are emptied by age or at boot.
const TEMP: [&str; 5] = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/var/run"];
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Opens the directory, making it where it is absent, and refuses one that does not fit.
pub(super) fn open(path: &Path, place: &Place) -> Result<Folder, VaultError> {
    let refuse = |reason: String| VaultError::Refused {
        path: path.display().to_string(),
        reason,
    };
    if !path.is_absolute() {
        return Err(refuse("it is not an absolute path".to_owned()));
    }
    make(path)?;
    let io = |operation, source| files::error(operation, path.display().to_string(), source);
    let link = path
        .symlink_metadata()
        .map_err(|source| io("look at", source))?;
    if link.is_symlink() {
        return Err(refuse("it is a symbolic link".to_owned()));
    }
    if !link.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    let real = path
        .canonicalize()
        .map_err(|source| io("resolve", source))?;
    let folder = Folder::open(&real)?;
    let stat = rustix::fs::fstat(folder.handle()).map_err(|errno| io("look at", errno.into()))?;
    if (stat.st_dev, stat.st_ino) != (link.dev(), link.ino()) {
        return Err(refuse("it was exchanged while it was opened".to_owned()));
    }
    let refused = place.rights(stat.st_uid, stat.st_mode & 0o7777);
    if let Some(reason) = refused.or_else(|| place.handed_out(&real)) {
        return Err(refuse(reason));
    }
    if !place.allow_temp {
        persistent(&real, &folder).map_err(refuse)?;
        parents(&real, place.owner).map_err(refuse)?;
    }
    Ok(folder)
}

impl Place {
    /// Why owner and mode of the directory do not fit.
    fn rights(&self, uid: u32, mode: u32) -> Option<String> {
        if uid != self.owner {
            return Some(format!(
                "it belongs to user {uid} and not to {}; run `chown -R` on it",
                self.owner
            ));
        }
        (mode & 0o077 != 0)
            .then(|| format!("its mode {mode:04o} lets others in; run `chmod 0700` on it"))
    }

    /// Why a web server might hand it out, or it what a web server hands out.
    fn handed_out(&self, real: &Path) -> Option<String> {
        let within = |root: &&PathBuf| {
            let root = root.canonicalize().unwrap_or_else(|_| (*root).clone());
            real.starts_with(&root) || root.starts_with(real)
        };
        let root = self.web_roots.iter().find(within)?;
        Some(format!(
            "it and the web root {} lie within each other",
            root.canonicalize().as_ref().unwrap_or(root).display()
        ))
    }

    /// Why a vault would be refused there, as far as that can be told without making anything. What cannot be looked at
    /// is not judged.
    pub fn refusal(&self, path: &Path) -> Option<String> {
        let there = path.ancestors().find(|above| above.exists())?;
        let real = there.canonicalize().ok()?;
        let rest = path.strip_prefix(there).ok()?;
        let is_there = rest.as_os_str().is_empty();
        let real = real.join(rest);
        if is_there {
            let link = path.symlink_metadata().ok()?;
            if link.is_symlink() || !link.is_dir() {
                return Some("it is not a directory of its own".to_owned());
            }
            if let Some(reason) = self.rights(link.uid(), link.mode() & 0o7777) {
                return Some(reason);
            }
        }
        if let Some(reason) = self.handed_out(&real) {
            return Some(reason);
        }
        if self.allow_temp {
            return None;
        }
        if let Some(reason) = temporary(&real) {
            return Some(reason);
        }
        let below = there.canonicalize().ok()?;
        parents(&below.join("vault"), self.owner).err()
    }
}

fn make(path: &Path) -> Result<(), VaultError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE.as_raw_mode())
        .create(path)
        .map_err(|source| files::error("make the folder", path.display().to_string(), source))?;
    // A vault whose name is lost with the power is no vault.
    if let Some(parent) = path.parent() {
        Folder::open(&parent.canonicalize().unwrap_or_else(|_| parent.to_owned()))?.sync()?;
    }
    Ok(())
}

fn temporary(real: &Path) -> Option<String> {
    let temp = TEMP.iter().find(|temp| real.starts_with(temp))?;
    Some(format!("{temp} is a temporary directory"))
}

fn persistent(real: &Path, folder: &Folder) -> Result<(), String> {
    if let Some(reason) = temporary(real) {
        return Err(reason);
    }
    let kind = rustix::fs::fstatfs(folder.handle())
        .map_err(|errno| format!("its file system cannot be asked: {errno}"))?
        .f_type;
    if u64::try_from(kind).is_ok_and(|kind| MEMORY.contains(&(kind & 0xffff_ffff))) {
        return Err("its file system lives in memory".to_owned());
    }
    Ok(())
}

/// Whoever can write to a folder above can put another vault in this one's place.
fn parents(real: &Path, owner: u32) -> Result<(), String> {
    for parent in real.ancestors().skip(1) {
        let meta = parent
            .symlink_metadata()
            .map_err(|error| format!("{} cannot be looked at: {error}", parent.display()))?;
        let trusted = meta.uid() == 0 || meta.uid() == owner;
        if !trusted || (meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0) {
            return Err(format!(
                "others can exchange it, because they may write to {}",
                parent.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn me() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn what_a_start_would_refuse_is_told_without_making_anything() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            owner: me(),
            web_roots: vec![folder.path().join("site")],
            allow_temp: true,
        };
        let told = |path: &str| place.refusal(&folder.path().join(path));
        assert_eq!(told("state/vault"), None);
        assert!(!folder.path().join("state").exists());
        let inside = told("site/state/vault");
        assert!(inside.is_some_and(|why| why.contains("within each other")));
        let vault = folder.path().join("vault");
        fs::create_dir(&vault).unwrap();
        fs::set_permissions(&vault, Permissions::from_mode(0o755)).unwrap();
        assert!(told("vault").is_some_and(|why| why.contains("chmod 0700")));
        let strict = Place {
            allow_temp: false,
            ..place.clone()
        };
        let temporary = strict.refusal(Path::new("/tmp/healerd/vault"));
        assert!(temporary.is_some_and(|why| why.contains("temporary directory")));
    }

    fn reason(path: &Path, place: &Place) -> String {
        match open(path, place) {
            Err(VaultError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_place_that_others_reach_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("vault");
        let place = Place {
            owner: me(),
            allow_temp: true,
            web_roots: Vec::new(),
        };
        open(&path, &place).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o700
        );

        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        assert!(reason(&path, &place).contains("0750"), "loose mode");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();

        let link = temp.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(reason(&link, &place), "it is a symbolic link");

        let foreign = Place {
            owner: me() + 1,
            ..place.clone()
        };
        assert!(reason(&path, &foreign).contains("belongs to user"));

        let file = temp.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(reason(&file, &place), "it is not a directory");
        assert_eq!(
            reason(Path::new("var/vault"), &place),
            "it is not an absolute path"
        );
    }

    #[test]
    fn a_temporary_directory_is_refused_unless_it_is_allowed() {
        let temp = tempfile::tempdir_in("/tmp").unwrap();
        let place = Place {
            owner: me(),
            ..Place::default()
        };
        assert_eq!(
            reason(&temp.path().join("vault"), &place),
            "/tmp is a temporary directory"
        );
    }

    #[test]
    fn a_place_within_a_web_root_or_around_one_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let site = temp.path().join("site");
        fs::create_dir(&site).unwrap();
        for (vault, root) in [
            (site.join("vault"), site.clone()),
            (site.clone(), site.join("public")),
        ] {
            fs::set_permissions(&site, Permissions::from_mode(0o700)).unwrap();
            let place = Place {
                owner: me(),
                allow_temp: true,
                web_roots: vec![root],
            };
            assert!(reason(&vault, &place).contains("web root"), "{vault:?}");
        }
    }
}
