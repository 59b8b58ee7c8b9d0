//! Things that take long to make and are the same for every test: made once, kept between runs, copied for each lab.
//!
//! A prepared thing is named by a digest of what went into it, made beside its place under a lock, and moved there whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PATIENCE;
use super::process::run;

/// Where prepared things are kept.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("HEALERD_TESTS_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/healerd-tests"), PathBuf::from)
}

/// The directory that `make` fills, from the cache if somebody made it before.
pub(crate) fn prepared(kind: &str, inputs: &Path, salt: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let cache = cache();
    std::fs::create_dir_all(&cache).expect("root can make the cache");
    let lock = File::options()
        .create(true)
        .append(true)
        .open(cache.join(format!("{kind}.lock")))
        .expect("root can write to the cache");
    lock.lock().expect("a lock is given in the end");
    let place = cache.join(format!("{kind}-{}", digest(inputs, salt)));
    if !place.exists() {
        let making = tempfile::Builder::new()
            .prefix("making-")
            .tempdir_in(&cache)
            .expect("root can write to the cache");
        super::set_mode(making.path(), 0o755);
        make(making.path());
        std::fs::rename(making.keep(), &place).expect("same file system");
    }
    place
}

/// Copies a tree with all its attributes.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    run(
        Command::new("cp")
            .arg("-a")
            .arg("--reflink=auto")
            .arg("--")
            .arg(from)
            .arg(to),
        PATIENCE,
    )
    .expect_success();
}

fn digest(inputs: &Path, salt: &str) -> String {
    let mut files = Vec::new();
    collect(inputs, &mut files);
    files.sort();
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt.as_bytes());
    for file in files {
        hasher.update(file.to_string_lossy().as_bytes());
        hasher.update(&std::fs::read(&file).expect("fixtures can be read"));
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("fixtures can be read") {
        let path = entry.expect("fixtures can be read").path();
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push(path);
        }
    }
}
