//! The `file` probe: one path.
//!
//! A link that leads into a declared root is reported with what it leads to; any other link with itself.

use std::ffi::OsStr;

use rustix::fs::{Access, FileType, OFlags, Statx};
use rustix::io::Errno;

use super::Context;
use super::deadline::wall_now_ms;
use super::found::Found;
use super::place::{handle_path, is_absent, may, reason, stat};
use super::spec::{Fact, FileFormat};
use crate::tree::TreePath;
use crate::tree::path::escape;

/// The longest file that is parsed.
pub(super) const PARSE_BYTES_MAX: u64 = 16 << 20;

/// Milliseconds since the epoch of the last change of content.
pub(super) fn mtime_ms(stat: &Statx) -> i64 {
    stat.stx_mtime
        .tv_sec
        .saturating_mul(1_000)
        .saturating_add(i64::from(stat.stx_mtime.tv_nsec / 1_000_000))
}

pub(super) fn probe(context: &Context, path: &str, parse: Option<FileFormat>) -> Found {
    let unknown = |why: &str| Found::unknown("file", why);
    let path = match TreePath::parse(path) {
        Ok(path) => path,
        Err(error) => return unknown(&error.to_string()),
    };
    let link = match context.place.link(&path) {
        Ok(link) => link,
        Err(errno) if is_absent(errno) => return Found::absent("file").with("exists", false),
        Err(errno) => return unknown(&reason(errno)),
    };
    let found = Found::absent("file").with("link_target", link.as_deref().map(escape));
    let handle = match context.place.open_at(&path, OFlags::PATH) {
        Ok(handle) => handle,
        Err(errno) if link.is_some() => return dangling(found, errno),
        Err(errno) if is_absent(errno) => return found.with("exists", false),
        Err(errno) => return unknown(&reason(errno)),
    };
    let stat = match stat(&handle) {
        Ok(stat) => stat,
        Err(errno) => return unknown(&reason(errno)),
    };
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let asked = match kind {
        FileType::Directory => Access::READ_OK | Access::EXEC_OK,
        _ => Access::READ_OK,
    };
    let readable = may(&handle, OsStr::new(&handle_path(&handle)), asked);
    let mtime = mtime_ms(&stat);
    let mut found = found
        .with("exists", true)
        .with(
            "kind",
            match kind {
                FileType::RegularFile => "file",
                FileType::Directory => "directory",
                FileType::Symlink => "link",
                _ => "other",
            },
        )
        .with(
            "readable",
            readable.map_or_else(|errno| Fact::Unknown(reason(errno)), Fact::Bool),
        )
        .with("size", stat.stx_size)
        .with("mode", u32::from(stat.stx_mode & 0o7777))
        .with("uid", stat.stx_uid)
        .with("gid", stat.stx_gid)
        .with("owned_by_app", stat.stx_uid == context.target.uid)
        .with("mtime", mtime)
        .with("age", wall_now_ms().saturating_sub(mtime).max(0));
    if parse == Some(FileFormat::Json) {
        found.set("json_error", json_error(context, &path));
    }
    found
}

/// A link that leads nowhere, or out of the roots: it is there, and that is all that can be said.
fn dangling(found: Found, errno: Errno) -> Found {
    let readable = if is_absent(errno) {
        Fact::Bool(false)
    } else {
        Fact::Unknown(reason(errno))
    };
    let beyond = |found: Found, name| found.with(name, readable_reason(errno));
    let found = found
        .with("exists", true)
        .with("kind", "link")
        .with("readable", readable);
    [
        "size",
        "mode",
        "uid",
        "gid",
        "owned_by_app",
        "age",
        "mtime",
        "json_error",
    ]
    .into_iter()
    .fold(found, beyond)
}

fn readable_reason(errno: Errno) -> Fact {
    if is_absent(errno) {
        Fact::Absent
    } else {
        Fact::Unknown(reason(errno))
    }
}

fn json_error(context: &Context, path: &TreePath) -> Fact {
    match context.place.read(path, PARSE_BYTES_MAX) {
        Ok(Some(bytes)) => match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
            Ok(_) => Fact::Absent,
            Err(error) => Fact::Text(error.to_string()),
        },
        Ok(None) => Fact::Unknown("no regular file, or larger than 16 MiB".to_owned()),
        Err(errno) => Fact::Unknown(reason(errno)),
    }
}
