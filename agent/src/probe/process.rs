//! The `process` probe: live processes of the application's user, and who manages them.
//!
//! A process belongs to the application when its working directory, its program or a script among its arguments lies
//! below a real root. A person's shell, editor or `grep` that stands there does not count, and neither do we. Names
//! given as `any` are compared with whole base names of the program and, for interpreters, of its arguments: a
//! `grep artisan` is no artisan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Context;
use super::deadline::boot_now;
use super::found::Found;
use super::place::Place;
use super::procfs::{self, Process, base_name};

/// Programs whose arguments name the script that they run.
const INTERPRETERS: [&str; 17] = [
    "node", "nodejs", "npm", "npx", "yarn", "pnpm", "bun", "deno", "ruby", "perl", "sh", "bash",
    "dash", "env", "nice", "timeout", "flock",
];
/// What people run in an application's directory.
const TOOLS: [&str; 38] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "fish",
    "ksh",
    "su",
    "sudo",
    "ssh",
    "sshd",
    "sftp-server",
    "scp",
    "rsync",
    "vi",
    "vim",
    "nvim",
    "vim.basic",
    "nano",
    "emacs",
    "less",
    "more",
    "man",
    "grep",
    "rg",
    "find",
    "tail",
    "head",
    "cat",
    "watch",
    "top",
    "htop",
    "tmux",
    "screen",
    "git",
    "strace",
    "gdb",
    "journalctl",
    "mc",
];

/// `php8.2` → `php`, `python3.11` → `python`.
fn family(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

fn is_interpreter(name: &str) -> bool {
    INTERPRETERS.contains(&name) || matches!(family(name), "php" | "python" | "ruby" | "node")
}

/// How a process stands to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Belongs {
    Yes,
    No,
    /// The kernel did not tell.
    Unknown(String),
}

/// Names by which a process goes: of its program, of its first argument (which it may have rewritten), by the kernel.
fn own_names(process: &Process) -> Vec<String> {
    let mut names = vec![process.name.clone()];
    if let Ok(program) = process.program() {
        let text = program.to_string_lossy();
        names.push(base_name(text.trim_end_matches(" (deleted)")).to_owned());
    }
    if let Some(first) = process.arguments.first() {
        // A title that a process gave itself is one argument with blanks in it.
        let word = first.split(' ').next().unwrap_or(first);
        names.push(base_name(word).to_owned());
    }
    names
}

/// The arguments as words; a rewritten title is taken apart.
fn words(process: &Process) -> Vec<&str> {
    match process.arguments.as_slice() {
        [title] => title.split(' ').filter(|word| !word.is_empty()).collect(),
        arguments => arguments.iter().map(String::as_str).collect(),
    }
}

fn is_named(process: &Process, names: &[String], any: &[String]) -> bool {
    let wanted = |name: &str| any.iter().any(|any| any == name);
    if names.iter().any(|name| wanted(name)) {
        return true;
    }
    names.iter().any(|name| is_interpreter(name))
        && words(process)
            .into_iter()
            .skip(1)
            .any(|argument| wanted(base_name(argument)))
}

/// Does it run below a root?
pub(super) fn belongs(process: &Process, place: &Place) -> Belongs {
    let below = |path: &Path| place.holds(path);
    let directory = process.directory();
    let program = process.program();
    if directory.as_deref().is_ok_and(below) || program.as_deref().is_ok_and(below) {
        return Belongs::Yes;
    }
    if words(process)
        .iter()
        .any(|argument| argument.starts_with('/') && below(Path::new(argument)))
    {
        return Belongs::Yes;
    }
    match directory {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Belongs::Unknown(format!(
                "the directory of process {} cannot be read: permission denied",
                process.pid
            ))
        }
        _ => Belongs::No,
    }
}

/// Ourselves: this process, what it stands under, what it started, and any other agent.
fn ours(processes: &BTreeMap<i32, Process>) -> BTreeSet<i32> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let mut ours = BTreeSet::from([me]);
    let mut at = me;
    while let Some(process) = processes.get(&at) {
        if process.parent <= 1 || !ours.insert(process.parent) {
            break;
        }
        at = process.parent;
    }
    for process in processes.values() {
        let is_agent = |name: &str| matches!(name, "healer-agent" | "healerd" | "healerctl");
        if is_agent(&process.name) || descends(process, me, processes) {
            ours.insert(process.pid);
        }
    }
    ours
}

fn descends(process: &Process, from: i32, processes: &BTreeMap<i32, Process>) -> bool {
    let mut at = process.parent;
    for _ in 0..64 {
        if at == from {
            return true;
        }
        match processes.get(&at) {
            Some(process) => at = process.parent,
            None => return false,
        }
    }
    false
}

/// Who keeps it running, and under which name.
#[derive(Debug, Default)]
struct Manager {
    word: &'static str,
    pm2_name: Option<String>,
    unit: Option<String>,
}

fn manager(process: &Process, processes: &BTreeMap<i32, Process>) -> Manager {
    let mut at = process.parent;
    for _ in 0..16 {
        let Some(above) = processes.get(&at) else {
            break;
        };
        if is_pm2_daemon(above) {
            let environment = process.environment(&["pm_id", "name"]);
            let pm2_name = match environment.as_slice() {
                [Some(_), Some(name)] => Some(name.clone()),
                _ => None,
            };
            return Manager {
                word: "pm2",
                pm2_name,
                unit: None,
            };
        }
        if above.name == "supervisord" || words(above).iter().any(|w| base_name(w) == "supervisord")
        {
            return Manager {
                word: "supervisor",
                ..Manager::default()
            };
        }
        at = above.parent;
    }
    match process.control_group().as_deref().and_then(unit_of) {
        Some(unit) => Manager {
            word: "systemd",
            pm2_name: None,
            unit: Some(unit),
        },
        None => Manager {
            word: "other",
            ..Manager::default()
        },
    }
}

/// The system service that a control group path names; a person's session and its own services are none.
fn unit_of(group: &str) -> Option<String> {
    if group.starts_with("/user.slice") {
        return None;
    }
    group
        .split('/')
        .rfind(|part| part.ends_with(".service"))
        .map(str::to_owned)
}

/// pm2's daemon, by the title that it gives itself or by its script.
pub(super) fn is_pm2_daemon(process: &Process) -> bool {
    process
        .arguments
        .first()
        .is_some_and(|first| first.starts_with("PM2 ") && first.contains("God Daemon"))
        || words(process)
            .iter()
            .any(|word| word.ends_with("/pm2/lib/Daemon.js"))
}

/// Was it told one of `except` right after one of `any`? Options between the two do not count.
fn is_excepted(process: &Process, any: &[String], except: &[String]) -> bool {
    let mut words = words(process)
        .into_iter()
        .skip_while(|word| !any.iter().any(|name| name == base_name(word)))
        .skip(1)
        .skip_while(|word| word.starts_with('-'));
    let told = words.next();
    told.is_some_and(|told| except.iter().any(|except| except == told))
}

pub(super) fn probe(
    context: &Context,
    any: &[String],
    except: &[String],
    below_root: bool,
) -> Found {
    let unknown = |why: &str| Found::unknown("process", why);
    let me = rustix::process::geteuid();
    let uid = context.target.uid;
    if !me.is_root() && me.as_raw() != uid {
        return unknown(&format!(
            "runs as uid {}, not as the application's {uid}",
            me.as_raw()
        ));
    }
    let processes: BTreeMap<i32, Process> = match procfs::all() {
        Ok(all) => all
            .into_iter()
            .map(|process| (process.pid, process))
            .collect(),
        Err(error) => return unknown(&error.to_string()),
    };
    let ours = ours(&processes);
    let mut matched = Vec::new();
    for process in processes.values() {
        if process.uid != uid || process.arguments.is_empty() || ours.contains(&process.pid) {
            continue;
        }
        let names = own_names(process);
        let fits = if any.is_empty() {
            // Bare shells and tools are a person's; an interpreter that runs a script is not bare.
            !names
                .iter()
                .all(|name| TOOLS.contains(&name.trim_start_matches('-')))
                && !is_pm2_daemon(process)
        } else {
            is_named(process, &names, any) && !is_excepted(process, any, except)
        };
        if !fits {
            continue;
        }
        match below_root.then(|| belongs(process, &context.place)) {
            None | Some(Belongs::Yes) => matched.push(process),
            // Only where it was named by what it runs could it be the application's.
            Some(Belongs::Unknown(why)) if !any.is_empty() => return unknown(&why),
            Some(Belongs::No | Belongs::Unknown(_)) => {}
        }
    }
    let since_boot = boot_now();
    let ages: Vec<i64> = matched
        .iter()
        .map(|process| process.age_ms(since_boot))
        .collect();
    let names: BTreeSet<String> = matched.iter().map(|process| process.name.clone()).collect();
    let (mut managers, mut pm2_names, mut units) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for process in &matched {
        let manager = manager(process, &processes);
        managers.insert(manager.word);
        pm2_names.extend(manager.pm2_name);
        units.extend(manager.unit);
    }
    let texts = |set: BTreeSet<String>| set.into_iter().collect::<Vec<String>>();
    Found::absent("process")
        .with("count", matched.len())
        .with(
            "pids",
            matched
                .iter()
                .map(|process| i64::from(process.pid))
                .collect::<Vec<_>>(),
        )
        .with("oldest", ages.iter().max().copied())
        .with("youngest", ages.iter().min().copied())
        .with("names", texts(names))
        .with("managers", managers.into_iter().collect::<Vec<_>>())
        .with("pm2_names", texts(pm2_names))
        .with("units", texts(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_system_services_are_units() {
        for (group, want) in [
            (
                "/system.slice/php8.2-fpm.service",
                Some("php8.2-fpm.service"),
            ),
            (
                "/system.slice/system-app.slice/app@1.service/x",
                Some("app@1.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
                None,
            ),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/", None),
        ] {
            assert_eq!(unit_of(group).as_deref(), want, "{group}");
        }
    }

    #[test]
    fn versions_do_not_hide_an_interpreter() {
        for (name, want) in [
            ("php8.2", true),
            ("php", true),
            ("python3.11", true),
            ("node", true),
            ("grep", false),
            ("vim", false),
        ] {
            assert_eq!(is_interpreter(name), want, "{name}");
        }
    }
}
