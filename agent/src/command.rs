//! The agent's command line, the same for its own binary and for `healerd agent`.
//!
//! `[--identity app|root] [--uid N --gid N [--groups 1,2]] --state DIR [--allow FILE]` serves requests; `supervise` and
//! `exec` are how this program calls itself and not meant for people.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::identity::{self, Allowed, Identity};
use crate::runner::{Runner, descendants, helper, supervisor};
use crate::serve;
use crate::witness::Witness;

/// Exit code for a command line that is not understood.
const USAGE: u8 = 2;

/// Runs the agent. `prefix`: the words with which this binary is told to be an agent (`["agent"]` for the daemon's);
/// `arguments`: what follows them.
///
/// To be called while the process has one thread and has opened nothing.
pub fn main(prefix: &[&str], arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let prefix: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == "exec" => helper::main(rest.iter().cloned()),
        Some((verb, rest)) if verb == "supervise" => match rest {
            [state, heal] => match heal.to_str() {
                Some(heal) => {
                    identity::close_inherited();
                    supervisor::main(&prefix, &PathBuf::from(state), heal)
                }
                None => ExitCode::from(USAGE),
            },
            _ => ExitCode::from(USAGE),
        },
        _ => agent(prefix, arguments),
    }
}

fn agent(prefix: Vec<String>, arguments: Vec<OsString>) -> ExitCode {
    identity::close_inherited();
    let ready = identity::parse(arguments).and_then(|arguments| {
        identity::assume(&arguments)?;
        Ok(arguments)
    });
    let arguments = match ready {
        Ok(arguments) => arguments,
        Err(error) => return complain(&error),
    };
    let allowed = match arguments.identity {
        Identity::App => Ok(Allowed::default()),
        Identity::Root => Allowed::load(&arguments.allow),
    };
    // A bad list is told and allows nothing; reading and settling must go on, so the agent does too.
    let (allowed, complaint) = match allowed {
        Ok(allowed) => (allowed, None),
        Err(error) => {
            complain(&error);
            (Allowed::default(), Some(error.to_string()))
        }
    };
    let witness = match Witness::open(&arguments.state) {
        Ok(witness) => witness,
        Err(refusal) => return complain(&refusal),
    };
    let runner = Runner {
        prefix,
        identity: arguments.identity,
        allowed,
        witness,
    };
    let served = serve::serve(runner, complaint, std::io::stdin(), std::io::stdout());
    descendants::end_children_but(&served.supervisors);
    served.code
}

/// Says why on standard error, causes included.
fn complain(error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += "  cause: ";
        text += &error.to_string();
        text.push('\n');
        cause = error.source();
    }
    // With standard error gone there is nobody left to tell.
    drop(std::io::stderr().write_all(text.as_bytes()));
    ExitCode::FAILURE
}
