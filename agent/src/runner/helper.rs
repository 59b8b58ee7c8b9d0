//! The last thing that runs of ours before a program: it sets on itself what the program is to inherit, and becomes it.
//!
//! A process of its own, so that none of this needs code between fork and exec: a session of its own, death with the
//! supervisor, no core files, no new privileges, and the confinement of writes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Rlimit, Signal};

use crate::confine;

/// Exit code of a helper that could not become the program.
pub(super) const NOT_STARTED: u8 = 126;

/// What the helper is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// The supervisor; where it is not the parent any more, nothing is started.
    pub(super) parent: i32,
    /// Give up new privileges (for the application's programs).
    pub(super) tame: bool,
    /// Confine writes to `writable`.
    pub(super) confine: bool,
    /// Do not start unless the kernel confines wholly.
    pub(super) required: bool,
    pub(super) writable: Vec<PathBuf>,
}

impl Orders {
    /// As arguments of the helper, in front of the program's.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--parent".into(), self.parent.to_string().into()];
        for (flag, set) in [
            ("--tame", self.tame),
            ("--confine", self.confine),
            ("--required", self.required),
        ] {
            if set {
                arguments.push(flag.into());
            }
        }
        for path in &self.writable {
            arguments.push("--write".into());
            arguments.push(path.into());
        }
        arguments.push("--".into());
        arguments
    }

    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<(Self, Vec<OsString>)> {
        let mut orders = Self::default();
        let mut arguments = arguments.into_iter();
        loop {
            let argument = arguments.next()?;
            match argument.to_str()? {
                "--parent" => orders.parent = arguments.next()?.to_str()?.parse().ok()?,
                "--tame" => orders.tame = true,
                "--confine" => orders.confine = true,
                "--required" => orders.required = true,
                "--write" => orders.writable.push(arguments.next()?.into()),
                "--" => break,
                _ => return None,
            }
        }
        let program: Vec<OsString> = arguments.collect();
        (!program.is_empty()).then_some((orders, program))
    }
}

/// Becomes the program: `exec ORDERS -- PATH ARGV0 ARGV1…`. Returns only when that failed.
#[expect(
    clippy::print_stderr,
    reason = "its standard error is the step's captured output, the one place where the reason is looked for"
)]
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some((orders, program)) = Orders::parse(arguments) else {
        eprintln!("exec: bad arguments");
        return ExitCode::from(NOT_STARTED);
    };
    let error = match prepare(&orders) {
        Ok(()) => {
            let (path, argv) = program.split_first().unwrap_or((&program[0], &[]));
            let mut command = Command::new(path);
            if let Some((name, rest)) = argv.split_first() {
                command.arg0(name).args(rest);
            }
            command.exec().to_string()
        }
        Err(error) => error,
    };
    eprintln!("cannot start {}: {error}", program[0].to_string_lossy());
    ExitCode::from(NOT_STARTED)
}

fn prepare(orders: &Orders) -> Result<(), String> {
    let told = |what: &'static str| move |error: rustix::io::Errno| format!("{what}: {error}");
    rustix::process::setsid().map_err(told("no session of its own"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(told("no death with the supervisor"))?;
    // Asked after the line above: a supervisor that died before it would never send the signal.
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent != orders.parent {
        return Err("the supervisor is gone".to_owned());
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none).map_err(told("core files stay on"))?;
    if orders.tame {
        rustix::thread::set_no_new_privs(true).map_err(told("new privileges stay possible"))?;
    }
    if orders.confine {
        confine::restrict(&orders.writable, orders.required)
            .map_err(|error| format!("cannot confine its writes: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_as_they_were() {
        let orders = Orders {
            parent: 7,
            tame: true,
            confine: true,
            required: false,
            writable: vec!["/a b".into(), "--".into()],
        };
        let mut arguments = orders.arguments();
        arguments.extend(["/bin/x".into(), "x".into(), "--parent".into()]);
        let (back, program) = Orders::parse(arguments).unwrap();
        assert_eq!(back, orders);
        assert_eq!(program, ["/bin/x", "x", "--parent"]);
        assert_eq!(Orders::parse(["--".into()]), None);
        assert_eq!(
            Orders::parse(["--other".into(), "--".into(), "x".into()]),
            None
        );
    }
}
