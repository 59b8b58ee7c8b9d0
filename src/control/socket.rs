//! The socket's file: who may connect, and what is done about a file that is there already.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, chmod, chownat, unlink};
use tokio::net::{UnixListener, UnixStream};

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another daemon answers on `{0}`")]
    Taken(PathBuf),
    /// Only an own, dead socket is replaced.
    #[error("`{0}` is there and is not a socket of this daemon's user")]
    NotOurs(PathBuf),
    #[error("cannot {what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Opens the socket, 0660, for the group if one is named. A socket that nobody answers on is replaced; its directory is
/// made where only that is missing (under systemd it is there).
///
/// # Errors
/// When a daemon answers there, when something else lies there, or when the kernel refuses.
pub async fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketError> {
    let failed = |what: &'static str| {
        let path = path.to_owned();
        move |source: io::Error| SocketError::Io { what, path, source }
    };
    if let Some(folder) = path.parent() {
        match std::fs::DirBuilder::new().mode(0o755).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the directory of")(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) => {
            let own = found.uid() == rustix::process::geteuid().as_raw();
            if !found.file_type().is_socket() || !own {
                return Err(SocketError::NotOurs(path.to_owned()));
            }
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    unlink(path).map_err(|error| failed("remove the old")(error.into()))?;
                }
                Ok(_) => return Err(SocketError::Taken(path.to_owned())),
                // A full backlog answers too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(SocketError::Taken(path.to_owned()));
                }
                Err(error) => return Err(failed("ask who answers on")(error)),
            }
        }
    }
    let listener = UnixListener::bind(path).map_err(failed("bind"))?;
    if let Some(group) = group {
        chownat(
            CWD,
            path,
            None,
            Some(Gid::from_raw(group)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| failed("give its group to")(error.into()))?;
    }
    chmod(path, Mode::from_raw_mode(0o660))
        .map_err(|error| failed("set the mode of")(error.into()))?;
    Ok(listener)
}
