//! Stack files from disk: read here, understood by the catalogue.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::catalogue::{Catalogue, StackError};

/// A stack file is no larger than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum StacksError {
    #[error("{path} cannot be read: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Stacks(Vec<StackError>),
}

/// The built-in stacks and every `*.toml` of a folder, by name. No folder means none.
///
/// # Errors
/// When a file cannot be read, may be written by others, or is wrong; all mistakes at once.
pub fn read(folder: &Path, daemon_uid: u32) -> Result<Catalogue, StacksError> {
    let mut extra = Vec::new();
    for path in files(folder)? {
        let text = text(&path, daemon_uid).map_err(|reason| StacksError::Read {
            path: path.clone(),
            reason,
        })?;
        extra.push((path.display().to_string(), text));
    }
    Catalogue::load(&extra).map_err(StacksError::Stacks)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StacksError> {
    let failed = |error: std::io::Error| StacksError::Read {
        path: folder.to_owned(),
        reason: error.to_string(),
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What runs as an application's user is written here, so nobody else may write it.
fn text(path: &Path, daemon_uid: u32) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    if found.uid() != 0 && found.uid() != daemon_uid {
        return Err(format!(
            "it belongs to user {}; give it to root",
            found.uid()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!(
            "its mode {:04o} lets others write it; run `chmod 0644` on it",
            found.mode() & 0o7777
        ));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Ok(text)
}
