//! Who an agent is: its arguments, the drop to the application's user, and what root may do.
//!
//! An agent has one identity for its whole life. An application's agent never runs as root and can never become
//! anything else; a root agent does nothing but the named operations of its host's [`allow`] list. Users are numbers
//! here: a static program must not ask the name service, so names are read from the text of `/etc/passwd`.

pub mod allow;
mod descriptors;
pub mod passwd;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};

pub use allow::Allowed;
pub use descriptors::close_inherited;

/// Where a root agent's list of allowed operations lies unless told otherwise.
pub const ALLOW_FILE: &str = "/etc/healerd/agent.toml";

/// What an agent may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The application's user: runs programs, writes what that user may write.
    App,
    /// Root: named operations of the allow list, nothing else.
    Root,
}

/// Start-up arguments of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    pub identity: Identity,
    /// User to drop to; absent: stay who we are.
    pub user: Option<User>,
    /// Persistent private directory of this agent's records.
    pub state: PathBuf,
    /// A root agent's allow list.
    pub allow: PathBuf,
}

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{0}")]
    Usage(String),
    #[error("an application's agent does not run as root; give `--uid` and `--gid`")]
    AppAsRoot,
    #[error("a root agent runs as root, not as uid {0}")]
    RootAsUser(u32),
    #[error("cannot become uid {uid}")]
    Drop {
        uid: u32,
        #[source]
        source: io::Error,
    },
    #[error("became uid {uid}, but could still take it back")]
    NotDropped { uid: u32 },
    #[error("cannot give up new privileges")]
    NoNewPrivileges(#[source] io::Error),
}

/// Reads the start-up arguments.
///
/// # Errors
/// When one is unknown, doubled, lacks its value, or does not fit the others.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, IdentityError> {
    let usage = |text: String| IdentityError::Usage(text);
    let mut given: std::collections::BTreeMap<String, OsString> = std::collections::BTreeMap::new();
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let name = name
            .into_string()
            .map_err(|_| usage("an argument is not text".to_owned()))?;
        if ![
            "--identity",
            "--uid",
            "--gid",
            "--groups",
            "--state",
            "--allow",
        ]
        .contains(&name.as_str())
        {
            return Err(usage(format!("unknown argument `{name}`")));
        }
        let value = arguments
            .next()
            .ok_or_else(|| usage(format!("`{name}` needs a value")))?;
        if given.insert(name.clone(), value).is_some() {
            return Err(usage(format!("`{name}` is given twice")));
        }
    }
    let text = |name: &str| -> Result<Option<&str>, IdentityError> {
        given
            .get(name)
            .map(|value| {
                value
                    .to_str()
                    .ok_or_else(|| usage(format!("`{name}` is not text")))
            })
            .transpose()
    };
    let number = |name: &str, value: &str| {
        value
            .parse::<u32>()
            .ok()
            .filter(|value| *value != u32::MAX)
            .ok_or_else(|| usage(format!("`{name}` is not a user or group number: `{value}`")))
    };
    let identity = match text("--identity")? {
        None | Some("app") => Identity::App,
        Some("root") => Identity::Root,
        Some(other) => return Err(usage(format!("unknown identity `{other}`: app or root"))),
    };
    let groups = match text("--groups")? {
        None | Some("") => Vec::new(),
        Some(list) => list
            .split(',')
            .map(|group| number("--groups", group))
            .collect::<Result<_, _>>()?,
    };
    let user = match (text("--uid")?, text("--gid")?) {
        (Some(uid), Some(gid)) => Some(User {
            uid: number("--uid", uid)?,
            gid: number("--gid", gid)?,
            groups,
        }),
        (None, None) if groups.is_empty() => None,
        _ => {
            return Err(usage(
                "`--uid` and `--gid` go together, and `--groups` with them".to_owned(),
            ));
        }
    };
    if identity == Identity::Root && user.is_some() {
        return Err(usage(
            "a root agent drops to nobody: leave `--uid` and `--gid` away".to_owned(),
        ));
    }
    let state = given
        .get("--state")
        .map(PathBuf::from)
        .ok_or_else(|| usage("`--state` is missing".to_owned()))?;
    Ok(Arguments {
        identity,
        user,
        state,
        allow: given
            .get("--allow")
            .map_or_else(|| PathBuf::from(ALLOW_FILE), PathBuf::from),
    })
}

/// Becomes who the arguments say, for good.
///
/// Must be called while the process has one thread: the kernel keeps credentials per thread, and a thread that was
/// started before would keep the old ones.
///
/// # Errors
/// When it cannot be done, or could be undone. The process must then end.
pub fn assume(arguments: &Arguments) -> Result<(), IdentityError> {
    // New files get exactly the modes that their writers name; nothing is ever writable by all by accident.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(user) = &arguments.user {
        drop_to(user)?;
    }
    let uid = rustix::process::geteuid().as_raw();
    match arguments.identity {
        Identity::App if uid == 0 => return Err(IdentityError::AppAsRoot),
        Identity::Root if uid != 0 => return Err(IdentityError::RootAsUser(uid)),
        Identity::App => {
            rustix::thread::set_no_new_privs(true)
                .map_err(|error| IdentityError::NoNewPrivileges(error.into()))?;
        }
        Identity::Root => {}
    }
    Ok(())
}

fn drop_to(user: &User) -> Result<(), IdentityError> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if user.uid == 0 {
        return Err(IdentityError::AppAsRoot);
    }
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let became = || -> rustix::io::Result<()> {
        if rustix::process::geteuid().is_root() {
            set_thread_groups(&groups)?;
        }
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    became().map_err(|error| IdentityError::Drop {
        uid: user.uid,
        source: error.into(),
    })?;
    let root = Uid::from_raw(0);
    let back = set_thread_res_uid(root, root, root).is_ok()
        || rustix::thread::set_thread_uid(root).is_ok()
        || (user.gid != 0 && rustix::thread::set_thread_gid(Gid::from_raw(0)).is_ok());
    let same = rustix::process::getuid() == uid
        && rustix::process::geteuid() == uid
        && rustix::process::getgid() == gid
        && rustix::process::getegid() == gid;
    let powerless = rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty()
    });
    if back || !same || !powerless {
        return Err(IdentityError::NotDropped { uid: user.uid });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Result<Arguments, IdentityError> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments_say_one_thing() {
        let fine = args("--uid 33 --gid 33 --groups 4,5 --state /var/lib/x").unwrap();
        assert_eq!(fine.identity, Identity::App);
        assert_eq!(fine.user.unwrap().groups, [4, 5]);
        for (text, word) in [
            ("", "--state"),
            ("--state /x --state /y", "twice"),
            ("--state /x --uid 1", "go together"),
            ("--state /x --groups 1", "go together"),
            ("--state /x --uid -1 --gid 1", "number"),
            ("--state /x --uid 4294967295 --gid 1", "number"),
            ("--state /x --identity admin", "identity"),
            (
                "--state /x --identity root --uid 1 --gid 1",
                "drops to nobody",
            ),
            ("--shell /bin/sh", "unknown argument"),
            ("--state", "value"),
        ] {
            let error = args(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
