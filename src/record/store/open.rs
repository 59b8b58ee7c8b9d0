//! Opening the state directory: rights, lock, version of `SQLite`, copy before a migration, migration.
//!
//! Everything that makes the state unsafe to use is refused here with what to do about it; nothing is repaired.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::Limits;
use super::job::Head;
use super::lock::Lock;
use super::script::{int, row, rows, text};
use crate::model::time::Moment;
use crate::record::audit::Link;
use crate::seam::StoreError;

/// The oldest `SQLite` that is used: before it, a reset of the write-ahead log could corrupt the database.
const SQLITE_MIN: [u32; 3] = [3, 51, 3];

/// Copies made before migrations that are kept.
const COPIES: usize = 3;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its rights or its kind are not what they must be.
    #[error("`{path}` {why}")]
    Unsafe {
        path: PathBuf,
        why: String,
        remedy: String,
    },
    /// Another daemon works on it.
    #[error("the state directory `{dir}` is in use{}", pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked { dir: PathBuf, pid: Option<u32> },
    #[error("SQLite {found} is too old: versions before 3.51.3 can corrupt the database")]
    OldSqlite { found: String },
    /// It was written by a later release.
    #[error(
        "`{path}` was written by a later version: it has schema {found}, this program knows {known}"
    )]
    Future {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("cannot {operation} `{path}`")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {operation} `{path}`")]
    Database {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot bring `{path}` to the schema of this version")]
    Migrate {
        path: PathBuf,
        #[source]
        source: MigrateError,
    },
    /// A stored value that must be known at once cannot be read.
    #[error("`{path}` cannot be used")]
    Stored {
        path: PathBuf,
        #[source]
        source: StoreError,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::Unsafe { remedy, .. } => remedy.clone(),
            Self::Locked { .. } => {
                "stop the other daemon first; two on one state directory would heal twice"
                    .to_owned()
            }
            Self::OldSqlite { .. } => {
                "use the program as built, with the SQLite that is part of it".to_owned()
            }
            Self::Future { path, .. } => format!(
                "install the later version again, or restore a copy `{}.*.before-*` from before the upgrade",
                path.display()
            ),
            Self::Io { .. } => {
                "see to the rights and the free space of the state directory".to_owned()
            }
            Self::Database { path, .. }
            | Self::Migrate { path, .. }
            | Self::Stored { path, .. } => format!(
                "keep a copy of `{}` and of the files beside it, then restore the last copy that is known to be good",
                path.display()
            ),
        }
    }
}

/// What a store is made of.
pub(super) struct Opened {
    pub(super) lock: Arc<Lock>,
    pub(super) writer: SqliteConnection,
    pub(super) readers: Vec<SqliteConnection>,
    pub(super) head: Head,
}

/// The database file of a state directory.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("state.db")
}

pub(super) async fn open(dir: &Path, at: &Moment, limits: &Limits) -> Result<Opened, OpenError> {
    open_with(dir, at, limits, &MIGRATIONS).await
}

pub(super) async fn open_with(
    dir: &Path,
    at: &Moment,
    limits: &Limits,
    migrations: &Migrator,
) -> Result<Opened, OpenError> {
    sqlite_is_new_enough().await?;
    check_directory(dir)?;
    let lock = Arc::new(Lock::take(dir)?);
    let path = database(dir);
    check_file(&path)?;
    let options = options(&path, limits.busy_wait);
    let mut writer = connect(&options, &path).await?;
    migrate(&mut writer, &path, at, migrations).await?;
    let head = head(&mut writer)
        .await
        .map_err(|source| OpenError::Stored {
            path: path.clone(),
            source,
        })?;
    let mut readers = Vec::new();
    for _ in 0..limits.readers.max(1) {
        let options = options.clone().read_only(true);
        readers.push(connect(&options, &path).await?);
    }
    Ok(Opened {
        lock,
        writer,
        readers,
        head,
    })
}

fn options(path: &Path, busy_wait: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(busy_wait)
        // The database is a file that somebody may have put there: nothing in its schema may call functions.
        .pragma("trusted_schema", "OFF")
        // After a burst the log shrinks again.
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(200)
        .thread_name(|_| "store".to_owned())
        .disable_statement_logging()
}

async fn connect(
    options: &SqliteConnectOptions,
    path: &Path,
) -> Result<SqliteConnection, OpenError> {
    options
        .connect()
        .await
        .map_err(|source| OpenError::Database {
            operation: "open",
            path: path.to_owned(),
            source,
        })
}

async fn sqlite_is_new_enough() -> Result<(), OpenError> {
    let database = |source| OpenError::Database {
        operation: "ask SQLite for its version with",
        path: PathBuf::from(":memory:"),
        source,
    };
    let mut memory = SqliteConnectOptions::new()
        .in_memory(true)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(database)?;
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut memory)
        .await
        .map_err(database)?;
    memory.close().await.map_err(database)?;
    if is_new_enough(&found) {
        Ok(())
    } else {
        Err(OpenError::OldSqlite { found })
    }
}

/// A version that cannot be read is too old.
fn is_new_enough(version: &str) -> bool {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    parts.is_some_and(|parts| parts.len() >= 3 && parts[..] >= SQLITE_MIN[..])
}

/// It must be ours, and others may not write into it: what is decided from it is run as root. They may look into it; the
/// files themselves are closed to them.
fn check_directory(dir: &Path) -> Result<(), OpenError> {
    let io = |operation| {
        move |source| OpenError::Io {
            operation,
            path: dir.to_owned(),
            source,
        }
    };
    if let Err(error) = DirBuilder::new().mode(0o711).create(dir)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(io("make the directory")(error));
    }
    let metadata = fs::metadata(dir).map_err(io("look at"))?;
    if !metadata.is_dir() {
        return Err(OpenError::Unsafe {
            path: dir.to_owned(),
            why: "is not a directory".to_owned(),
            remedy: "name a directory of its own for the state".to_owned(),
        });
    }
    check_rights(dir, &metadata, 0o022)
}

/// What a start would refuse of a state directory, as far as that can be told without making it.
pub fn unfit(dir: &Path, own: u32) -> Option<String> {
    let Ok(metadata) = fs::metadata(dir) else {
        let parent = dir.parent()?;
        let is_gone =
            fs::metadata(parent).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        return is_gone.then(|| {
            format!(
                "the state directory {} cannot be made: there is no {}",
                dir.display(),
                parent.display()
            )
        });
    };
    let error = if metadata.is_dir() {
        check_rights_of(own, dir, &metadata, 0o022).err()?
    } else {
        return Some(format!("{} is not a directory", dir.display()));
    };
    Some(format!("the state directory {error}: {}", error.advice()))
}

fn check_rights(path: &Path, metadata: &fs::Metadata, denied: u32) -> Result<(), OpenError> {
    check_rights_of(rustix::process::geteuid().as_raw(), path, metadata, denied)
}

fn check_rights_of(
    own: u32,
    path: &Path,
    metadata: &fs::Metadata,
    denied: u32,
) -> Result<(), OpenError> {
    if metadata.uid() != own {
        return Err(OpenError::Unsafe {
            path: path.to_owned(),
            why: format!(
                "belongs to uid {}, and this program runs as {own}",
                metadata.uid()
            ),
            remedy: format!("chown {own} '{}'", path.display()),
        });
    }
    let found = metadata.permissions().mode() & 0o7777;
    if found & denied != 0 {
        return Err(OpenError::Unsafe {
            path: path.to_owned(),
            why: format!("gives others too much: its mode is {found:04o}"),
            remedy: format!("chmod {:o} '{}'", found & !denied, path.display()),
        });
    }
    Ok(())
}

/// Made here with its rights, because `SQLite` would make it with those of the umask; the files beside it inherit them.
fn check_file(path: &Path) -> Result<(), OpenError> {
    let io = |operation| {
        move |source| OpenError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(io("open"))?;
    let metadata = file.metadata().map_err(io("look at"))?;
    if !metadata.is_file() {
        return Err(OpenError::Unsafe {
            path: path.to_owned(),
            why: "is not a plain file".to_owned(),
            remedy: "move it away".to_owned(),
        });
    }
    check_rights(path, &metadata, 0o077)?;
    // SQLite syncs the entries of files that it makes; this one was made here.
    sync_directory(path).map_err(io("sync the directory of"))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)?.sync_all()
}

async fn migrate(
    writer: &mut SqliteConnection,
    path: &Path,
    at: &Moment,
    migrations: &Migrator,
) -> Result<(), OpenError> {
    let stored = |source| OpenError::Stored {
        path: path.to_owned(),
        source,
    };
    let applied = applied(writer).await.map_err(stored)?;
    let known: Vec<i64> = migrations
        .iter()
        .map(|migration| migration.version)
        .collect();
    let newest = known.iter().copied().max().unwrap_or(0);
    if let Some(found) = applied
        .iter()
        .copied()
        .find(|version| !known.contains(version))
    {
        return Err(OpenError::Future {
            path: path.to_owned(),
            found,
            known: newest,
        });
    }
    if !applied.is_empty() && applied.len() < known.len() {
        copy(writer, path, at, newest).await?;
    }
    migrations
        .run(writer)
        .await
        .map_err(|source| OpenError::Migrate {
            path: path.to_owned(),
            source,
        })
}

async fn applied(writer: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let table = row(
        writer,
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
        [],
    )
    .await?;
    if table.is_none() {
        return Ok(Vec::new());
    }
    rows(
        writer,
        "SELECT version FROM _sqlx_migrations ORDER BY version DESC",
        [],
    )
    .await?
    .iter()
    .map(|row| int(row, 0))
    .collect()
}

/// `state.db.TIME.before-NNNN`, whole and synced before the migration begins.
async fn copy(
    writer: &mut SqliteConnection,
    path: &Path,
    at: &Moment,
    version: i64,
) -> Result<(), OpenError> {
    let name = format!("state.db.{:013}.before-{version:04}", at.wall_ms.max(0));
    let target = path.with_file_name(name);
    let io = |operation| {
        let path = target.clone();
        move |source| OpenError::Io {
            operation,
            path,
            source,
        }
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)
        .map_err(io("make"))?;
    let database = |source| OpenError::Database {
        operation: "copy the state to",
        path: target.clone(),
        source,
    };
    let text = target
        .to_str()
        .ok_or_else(|| database(sqlx::Error::Protocol("the path is not UTF-8".to_owned())))?;
    // Into an empty file this is a plain copy; it reads through the write-ahead log.
    sqlx::query("VACUUM INTO ?")
        .bind(text)
        .execute(writer)
        .await
        .map_err(database)?;
    file.sync_all().map_err(io("sync"))?;
    sync_directory(&target).map_err(io("sync the directory of"))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    remove_old_copies(dir).map_err(io("remove what is older than"))
}

fn remove_old_copies(dir: &Path) -> io::Result<()> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str()
            && name.starts_with("state.db.")
            && name.contains(".before-")
        {
            copies.push(name.to_owned());
        }
    }
    copies.sort();
    let surplus = copies.len().saturating_sub(COPIES);
    for name in copies.into_iter().take(surplus) {
        #[expect(
            clippy::disallowed_methods,
            reason = "old copies of the state are the store's own files"
        )]
        fs::remove_file(dir.join(name))?;
    }
    Ok(())
}

async fn head(writer: &mut SqliteConnection) -> Result<Head, StoreError> {
    let newest = row(
        writer,
        "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
        [],
    )
    .await?;
    let Some(row) = newest else {
        return Ok(Head {
            seq: 0,
            link: Link::START,
        });
    };
    let link = Link::from_hex(text(&row, 1)?).ok_or_else(|| StoreError::Damaged {
        what: "audit hash",
        reason: "it is not 64 hex digits".to_owned(),
    })?;
    Ok(Head {
        seq: int(&row, 0)?,
        link,
    })
}
