//! The command line of `healerctl`, as clap reads it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Talks to healerd over its control socket, and looks at its decisions offline.
///
/// Exit codes: 0 fine, 1 failed, 2 usage, 3 something unhealthy found, 4 refused by a guard or waiting for approval,
/// 5 daemon unreachable, 6 permission. What was cured and is only watched counts as fine. Ids may be shortened to a
/// unique beginning.
///
/// Every command that changes something takes --reason, which is kept in the audit log. It must be given, or is asked
/// for at a terminal, wherever a person stops the daemon, overrules it, decides for it or takes something away: hold,
/// resume, mute, mode, breaker, approve, reject, decide, incidents close, backups rollback and delete, adopt, host
/// forget. Where the daemon is only asked to do its work it may be left away: heal, backups create and verify, unmute,
/// host enrol.
#[derive(Debug, Parser)]
#[command(name = "healerctl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Control socket of the daemon.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "HEALERD_SOCKET",
        default_value = "/run/healerd/control.sock"
    )]
    pub socket: PathBuf,
    /// Answer for programs; errors are objects too.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows health, open incidents and what comes next, holds, and what waits for a person.
    Status,
    /// Lists all applications.
    Apps,
    /// Shows one application's checks, as its latest round has them.
    Checks { app: String },
    /// Shows what could be done to an application, and what runs alone in which mode.
    Actions { app: String },
    /// Runs an application's checks now, and shows the results and the plan.
    Diagnose { app: String },
    /// Shows what would run alone, what must be asked, and what nothing can heal.
    Plan { app: String },
    /// Runs an action.
    Heal(HealArgs),
    /// Lists what waits for a person's approval.
    Approvals {
        /// Also what was decided, withdrawn or is expired.
        #[arg(long)]
        all: bool,
    },
    /// Shows the whole of a proposal, and approves it.
    ///
    /// The reason must have at least 10 characters, where `[approval] reason_characters_min` says nothing else.
    Approve {
        id: String,
        /// The digest that was seen; anything that changed since makes it stale.
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Shows the whole of a proposal, and rejects it; it is not made again for a while.
    Reject {
        id: String,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Shows an application's circuit breaker, or does something to it.
    Breaker {
        app: String,
        #[command(subcommand)]
        command: Option<BreakerCommand>,
    },
    /// Lists an application's backups, or does something with one.
    Backups {
        app: String,
        #[command(subcommand)]
        command: Option<BackupsCommand>,
    },
    /// Lists heals, newest first, or shows one whole.
    Heals {
        id: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Decides what becomes of a heal that was left for persons.
    Decide {
        id: String,
        choice: Choice,
        #[command(flatten)]
        why: Reason,
    },
    /// Lists open incidents and what comes next, or closes one.
    #[command(args_conflicts_with_subcommands = true)]
    Incidents {
        #[command(flatten)]
        which: Which,
        /// Also closed ones.
        #[arg(long)]
        all: bool,
        #[command(subcommand)]
        command: Option<IncidentsCommand>,
    },
    /// Stops automation; with a command, only while it runs.
    Hold {
        /// `all`, `host:NAME`, `app:NAME`, or the name of an application.
        #[arg(default_value = "all")]
        scope: String,
        /// How long, such as 20m; else until a resume.
        #[arg(long = "for", value_name = "TIME")]
        length: Option<String>,
        #[command(flatten)]
        why: Reason,
        /// A program and its arguments; its exit code is the answer.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Lets automation go on.
    Resume {
        /// `all`, `host:NAME`, `app:NAME`, or the name of an application.
        #[arg(default_value = "all")]
        scope: String,
        /// Leaves what heals did that the hold froze.
        #[arg(long, conflicts_with = "undo")]
        keep: bool,
        /// Takes back what heals did that the hold froze.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        why: Reason,
    },
    /// Lets a check's bad results lead to nothing for a while.
    Mute {
        app: String,
        check: String,
        /// A length of time, such as 2h, or a time such as 2027-01-31T08:00:00Z.
        #[arg(long, alias = "for", value_name = "TIME")]
        until: String,
        #[command(flatten)]
        why: Reason,
    },
    /// Ends a mute.
    Unmute {
        app: String,
        check: String,
        #[command(flatten)]
        why: Reason,
    },
    /// Shows the healing modes and where they come from, or sets or clears one.
    ///
    /// What is said of an application counts before what is said of everything, and in each what was set at run time
    /// before what is configured; nothing goes above `max_mode`.
    Mode {
        /// An application, a mode (`MANUAL`, `SEMI_AUTO`, `FULL_AUTO`), or both; without an application a mode is set
        /// for everything.
        #[arg(value_name = "APP|MODE", num_args = 0..=2)]
        words: Vec<String>,
        /// The application, as another way to name it.
        #[arg(long)]
        app: Option<String>,
        /// Lifts what was set at run time; what is configured counts again.
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        why: Reason,
    },
    /// Shows what happens, as it happens.
    Events,
    /// Shows the audit log, or verifies a copy of it.
    #[command(args_conflicts_with_subcommands = true)]
    Audit {
        #[command(subcommand)]
        command: Option<AuditCommand>,
        /// How many of the newest rows.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Takes a host's present machine as the right one.
    Adopt {
        host: String,
        #[command(flatten)]
        why: Reason,
    },
    /// Lists hosts, or does something with one.
    Host {
        #[command(subcommand)]
        command: Option<HostCommand>,
    },
    /// Looks after notices.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Tells all about an incident, a heal, an approval, or a check of an application as APP/CHECK.
    Explain { id: String },
    /// Looks at what would be decided; needs no daemon.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Judges a configuration; needs no daemon.
    CheckConfig {
        /// The main file; `conf.d` and `stacks.d` are looked for beside it.
        #[arg(default_value = "/etc/healerd/healerd.toml")]
        file: PathBuf,
    },
    /// Writes the completions of a shell.
    Completions { shell: clap_complete::Shell },
}

/// Why it is done.
#[derive(Debug, Clone, Default, Args)]
pub struct Reason {
    /// Why; kept in the audit log. `healerctl --help` says where it must be given.
    #[arg(long)]
    pub reason: Option<String>,
}

/// A reason, and whether to ask.
#[derive(Debug, Clone, Default, Args)]
pub struct Confirm {
    #[command(flatten)]
    pub why: Reason,
    /// Does not ask again.
    #[arg(long, short)]
    pub yes: bool,
}

/// Which rows of a list.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only of this application.
    #[arg(long)]
    pub app: Option<String>,
    /// How many of the newest rows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Arguments of `heal`.
#[derive(Debug, Clone, Args)]
pub struct HealArgs {
    pub app: String,
    pub action: String,
    /// A parameter as NAME=VALUE; JSON values are numbers and lists, everything else is text.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// An application that has this one as its parent.
    #[arg(long)]
    pub subdomain: Option<String>,
    #[command(flatten)]
    pub why: Reason,
    /// Only says what would run.
    #[arg(long)]
    pub dry_run: bool,
    /// Waits for the end.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
}

/// What to do with a circuit breaker.
#[derive(Debug, Subcommand)]
pub enum BreakerCommand {
    /// Closes it and forgets the failures.
    Reset {
        #[command(flatten)]
        why: Reason,
    },
    /// Forces it, or lifts the force.
    Force {
        state: Force,
        #[command(flatten)]
        why: Reason,
        /// How long, such as 20m; else until it is lifted.
        #[arg(long = "for", value_name = "TIME")]
        length: Option<String>,
    },
    /// Lists its transitions.
    History,
}

/// How to force a circuit breaker.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Force {
    /// Admits nothing.
    Open,
    /// Admits nothing unattended and counts nothing.
    ObserveOnly,
    /// Lifts the force.
    None,
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupsCommand {
    /// Takes one now.
    Create {
        #[command(flatten)]
        why: Reason,
    },
    /// Reads one back and compares.
    Verify {
        id: String,
        #[command(flatten)]
        why: Reason,
    },
    /// Shows what going back would do, and goes back.
    Rollback {
        id: String,
        /// Also shared files that are newer than the backup.
        #[arg(long)]
        exact: bool,
        /// Only this path; may be given more than once.
        #[arg(long, value_name = "PATH")]
        only: Vec<String>,
        /// The digest of the preview that was seen.
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Removes one that nothing needs.
    Delete {
        id: String,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// What to do with an incident.
#[derive(Debug, Subcommand)]
pub enum IncidentsCommand {
    /// Closes one.
    Close {
        id: String,
        #[command(flatten)]
        why: Reason,
    },
}

/// What becomes of a heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Leaves what it did.
    Keep,
    /// Takes back what it did.
    Undo,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Lists the newest rows.
    List {
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Recomputes the chain of a copied state database; needs no daemon.
    Verify {
        file: PathBuf,
        /// A head that was published before, as SEQ:HASH: finds a log that was cut off.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
    },
}

/// What to do with a host.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Shows the key that a host shows, and trusts it once it was compared.
    Enrol {
        host: String,
        /// The fingerprint, as the host's own console says it: SHA256:…; then nothing is asked.
        #[arg(long)]
        fingerprint: Option<String>,
        /// Keeps the key that was enrolled before, while the host changes its key.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        why: Reason,
    },
    /// Forgets the key that was enrolled; nothing is tried there any more.
    Forget {
        host: String,
        #[command(flatten)]
        why: Reason,
    },
    /// Goes to a host step by step and says what it lacks, with the lines to add.
    Doctor { host: String },
    /// Prints a host's table out of your own ssh configuration; needs no daemon.
    Import {
        /// Its name here.
        host: String,
        /// Its name in the ssh configuration; else the same.
        #[arg(long, value_name = "ALIAS")]
        from_ssh_config: Option<String>,
    },
}

/// What to do about notices.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Sends a test notice.
    Test,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Prints the plan for recorded check results.
    Eval {
        /// Kind of application, such as laravel.
        #[arg(long)]
        stack: String,
        /// `MANUAL`, `SEMI_AUTO` or `FULL_AUTO`.
        #[arg(long)]
        mode: String,
        /// JSON array of check results; `-` reads standard input.
        #[arg(long)]
        results: PathBuf,
        /// Folder of further stack files.
        #[arg(long)]
        stacks_dir: Option<PathBuf>,
        /// Configuration whose policy counts.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_that_changes_something_takes_a_reason() {
        for line in [
            "approve 01jd",
            "reject 01jd",
            "heal shop clear_cache",
            "breaker shop reset",
            "breaker shop force open",
            "backups shop create",
            "backups shop verify 01jd",
            "backups shop rollback 01jd",
            "backups shop delete 01jd",
            "decide 01jd keep",
            "incidents close 01jd",
            "hold",
            "resume",
            "mute shop cache --until 2h",
            "unmute shop cache",
            "mode shop MANUAL",
            "adopt web1",
            "host enrol web1",
            "host forget web1",
        ] {
            let line = format!("healerctl {line} --reason why");
            Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn words_may_stand_on_both_sides_of_a_command() {
        for line in [
            "healerctl --json breaker shop reset --reason x",
            "healerctl breaker shop reset --json",
            "healerctl hold app:shop --for 20m -- rsync -a x y",
            "healerctl hold -- true",
            "healerctl incidents close 01jd --reason done",
            "healerctl incidents --all",
            "healerctl backups shop rollback 01jd --only a --only b --yes --reason x",
            "healerctl decide 01jd keep",
            "healerctl audit verify state.db",
            "healerctl mode MANUAL --app shop",
            "healerctl mode shop --clear --reason x",
            "healerctl mode shop FULL_AUTO",
            "healerctl mode --clear",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap();
        }
    }
}
