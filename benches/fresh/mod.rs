//! A file system of the bench's own, in which nothing was ever deleted.
//!
//! ext4 passes over inodes that were deleted in the last minutes, one by one, each time it makes a file. Where tests and
//! builds have just removed thousands of files, making a few thousand takes many times as long as on any host, so a
//! bench that makes files would measure its surroundings. Needs root; without it the bench runs in a plain directory and
//! says so.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that has mounts of its own.
const INSIDE: &str = "HEALERD_BENCH_INSIDE";

/// Sparse: only what is written takes room.
const IMAGE_BYTES: u64 = 4 << 30;

/// A place for the bench, gone when this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    mounted: bool,
    _outer: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.mounted {
            drop(
                Command::new("umount")
                    .arg("--lazy")
                    .arg(&self.path)
                    .status(),
            );
        }
    }
}

/// Starts the bench once more in a mount namespace of its own, where that is possible, and waits for it. Then there is
/// nothing left to do here.
///
/// # Errors
/// When the bench that was started fails.
pub(crate) fn goes_on_inside() -> io::Result<bool> {
    if std::env::var_os(INSIDE).is_some() || !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let status = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()?;
    if status.success() {
        Ok(true)
    } else {
        Err(io::Error::other(format!("the bench ended with {status}")))
    }
}

/// Makes the place.
///
/// # Errors
/// The system's.
pub(crate) fn folder() -> io::Result<Folder> {
    let outer = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()?;
    let path = outer.path().join("fs");
    fs::create_dir(&path)?;
    let mounted = std::env::var_os(INSIDE).is_some() && mount(outer.path(), &path)?;
    if !mounted {
        println!(
            "no file system of its own could be mounted: files are made in {}",
            path.display()
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(Folder {
        path,
        mounted,
        _outer: outer,
    })
}

fn mount(outer: &Path, at: &Path) -> io::Result<bool> {
    let image = outer.join("image");
    fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
    // Whole from the start: nothing is laid out in the background while the bench runs.
    let made = Command::new("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ])
        .arg(&image)
        .status();
    let mounted = Command::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(at)
        .status();
    Ok([made, mounted]
        .into_iter()
        .all(|status| status.is_ok_and(|status| status.success())))
}
