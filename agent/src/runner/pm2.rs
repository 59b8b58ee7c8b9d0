//! Restarting one process of a pm2 daemon that is already there.
//!
//! pm2 starts its daemon by itself when it finds none, below whoever asked. Such a daemon would die with the step and
//! take every application of it along, so nothing is asked of pm2 before its daemon was seen alive elsewhere, and
//! only the one process that lies in the application's root is restarted, by its number.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::descendants;

/// A pm2 daemon that runs outside our tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    pub(super) home: PathBuf,
    pub(super) pid: i32,
    /// Where its node lies, and beside it usually the pm2 that belongs to it (a version manager's directory).
    pub(super) programs: Option<PathBuf>,
}

/// Looks for the daemon of this `PM2_HOME`, run by `uid`.
pub(super) fn daemon(home: &Path, uid: u32) -> Result<Daemon, String> {
    let shown = home.display();
    let absent = |why: &str| format!("the pm2 daemon of {shown} is not running: {why}");
    if !home.is_absolute() {
        return Err(format!("PM2_HOME {shown} is not an absolute path"));
    }
    let text = fs::read_to_string(home.join("pm2.pid"))
        .map_err(|error| absent(&format!("pm2.pid: {error}")))?;
    let pid: i32 = text
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| absent("pm2.pid holds no number"))?;
    let process = format!("/proc/{pid}");
    let meta = fs::metadata(&process).map_err(|_| absent(&format!("no process {pid}")))?;
    if meta.uid() != uid {
        return Err(format!("process {pid} of {shown} belongs to another user"));
    }
    let command =
        fs::read(format!("{process}/cmdline")).map_err(|_| absent(&format!("no process {pid}")))?;
    if !is_daemon(&command, home) {
        return Err(absent(&format!("process {pid} is something else")));
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if descendants::below(own)
        .iter()
        .any(|process| process.pid == pid)
    {
        return Err(absent("it runs only below this action"));
    }
    Ok(Daemon {
        home: home.to_owned(),
        pid,
        programs: fs::read_link(format!("{process}/exe"))
            .ok()
            .and_then(|node| node.parent().map(Path::to_owned)),
    })
}

/// Where users install pm2 for themselves: with the application, or below the home that `PM2_HOME` lies in.
pub(super) fn own_programs(root: &Path, home: &Path) -> Vec<String> {
    let below_home = home
        .parent()
        .into_iter()
        .flat_map(|user| [".npm-global/bin", ".local/bin"].map(|folder| user.join(folder)));
    std::iter::once(root.join("node_modules/.bin"))
        .chain(below_home)
        // A colon would be taken for the end of an entry.
        .filter_map(|folder| {
            folder
                .to_str()
                .filter(|text| !text.contains(':'))
                .map(str::to_owned)
        })
        .collect()
}

/// `PM2 v5.3.0: God Daemon (/home/shop/.pm2)`, padded with spaces or NULs.
fn is_daemon(command: &[u8], home: &Path) -> bool {
    let text = String::from_utf8_lossy(command);
    let text = text.trim_matches(|character: char| character == '\0' || character.is_whitespace());
    text.starts_with("PM2 ")
        && text
            .split_once("God Daemon (")
            .and_then(|(_, rest)| rest.split_once(')'))
            .is_some_and(|(shown, _)| Path::new(shown) == home)
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    pm_id: u32,
    #[serde(default)]
    pm2_env: Place,
}

#[derive(Default, Deserialize)]
struct Place {
    #[serde(default)]
    pm_cwd: Option<PathBuf>,
    #[serde(default)]
    pm_exec_path: Option<PathBuf>,
}

/// The numbers of the processes of that name in `pm2 jlist`; all must lie below one of `roots`.
pub(super) fn select(output: &[u8], name: &str, roots: &[PathBuf]) -> Result<Vec<u32>, String> {
    let unreadable = || "the answer of `pm2 jlist` is not understood".to_owned();
    // Notices of pm2 come in front of the list, each on lines of its own.
    let list = output
        .split_inclusive(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"[{") || line.trim_ascii() == b"[]")
        .ok_or_else(unreadable)?;
    let listed: Vec<Listed> = serde_json::from_slice(list).map_err(|_| unreadable())?;
    let named: Vec<&Listed> = listed
        .iter()
        .filter(|process| process.name == name)
        .collect();
    if named.is_empty() {
        return Err(format!("pm2 lists no process named {name}"));
    }
    let below = |path: &Option<PathBuf>| {
        path.as_deref()
            .and_then(|path| fs::canonicalize(path).ok())
            .is_some_and(|path| roots.iter().any(|root| path.starts_with(root)))
    };
    if let Some(stranger) = named
        .iter()
        .find(|process| !below(&process.pm2_env.pm_cwd) && !below(&process.pm2_env.pm_exec_path))
    {
        return Err(format!(
            "pm2's process {name} ({}) does not lie in the application's root",
            stranger.pm_id
        ));
    }
    Ok(named.iter().map(|process| process.pm_id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemon_of_this_home_counts() {
        let home = Path::new("/home/shop/.pm2");
        for (command, want) in [
            ("PM2 v5.3.0: God Daemon (/home/shop/.pm2)\0\0", true),
            ("PM2 v6.0.1: God Daemon (/home/shop/.pm2)   ", true),
            ("PM2 v5.3.0: God Daemon (/home/other/.pm2)\0", false),
            ("node\0/x/PM2 God Daemon (/home/shop/.pm2)\0", false),
            ("", false),
        ] {
            assert_eq!(is_daemon(command.as_bytes(), home), want, "{command}");
        }
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_plainly() {
        let home = tempfile::tempdir().unwrap();
        let told = || daemon(home.path(), rustix::process::geteuid().as_raw()).unwrap_err();
        assert!(told().contains("is not running"));
        fs::write(home.path().join("pm2.pid"), std::process::id().to_string()).unwrap();
        assert!(told().contains("something else"), "{}", told());
    }

    #[test]
    fn only_processes_of_the_application_are_selected() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let list = |cwd: &Path| {
            format!(
                "[PM2] notice\n[{{\"name\":\"web\",\"pm_id\":3,\"pm2_env\":{{\"pm_cwd\":{cwd:?}}}}},\
                 {{\"name\":\"web2\",\"pm_id\":4,\"pm2_env\":{{}}}}]\n"
            )
        };
        let roots = [root.clone()];
        assert_eq!(select(list(&root).as_bytes(), "web", &roots), Ok(vec![3]));
        assert!(select(list(Path::new("/")).as_bytes(), "web", &roots).is_err());
        assert!(select(list(&root).as_bytes(), "web2", &roots).is_err());
        assert!(select(list(&root).as_bytes(), "we", &roots).is_err());
        assert!(select(b"[]\n", "web", &roots).is_err());
        assert!(select(b"[{\"name\":", "web", &roots).is_err());
    }
}
