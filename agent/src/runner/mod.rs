//! Running an action: admitted here, carried out by a supervisor of its own, settled by the record.
//!
//! [`start`] checks a start request, makes the intent durable and hands it to a [`supervisor`] process that outlives
//! this one. A step's programs run through [`helper`] and are ended by [`descendants`]. Nothing is ever run a second
//! time: what is unclear afterwards is read from the [`crate::witness`].

mod capture;
pub(crate) mod descendants;
mod files;
pub(crate) mod helper;
mod pm2;
mod program;
pub(crate) mod supervisor;

use std::process::{Child, Command, Stdio};

use crate::crash::point;
use crate::identity::{Allowed, Identity};
use crate::protocol::{Refusal, RefusalCode, Start};
use crate::step::Step;
use crate::witness::{Witness, refuse, system};

/// An action's longest time, and the most steps it may have: anything beyond is a mistake.
const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;
const STEPS_MAX: usize = 256;

/// Who starts actions here, and how its own program is called again.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Words before the sub-command: none for the agent's own binary, `agent` for the daemon's.
    pub prefix: Vec<String>,
    pub identity: Identity,
    pub allowed: Allowed,
    pub witness: Witness,
}

impl Runner {
    /// Starts an action, at most once per heal. The child is the supervisor, to be waited for and never killed.
    ///
    /// # Errors
    /// With the reason; nothing of the action has run then, and nothing will.
    pub fn start(&self, start: &Start) -> Result<Child, Refusal> {
        let real = crate::roots::Roots::open(&start.target)?.real();
        self.check(start, &real)?;
        let root = real.first().map(String::as_str).unwrap_or_default();
        // The supervisor opens what was admitted here, not what the declared names lead to by then.
        let mut admitted = start.clone();
        admitted.target.roots = real.get(1..).unwrap_or_default().to_vec();
        let begun = self.witness.begin(&admitted, root)?;
        point("run.begun");
        let mut command = Command::new("/proc/self/exe");
        command
            .args(&self.prefix)
            .arg("supervise")
            .arg(self.witness.path())
            .arg(&start.heal)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(begun.heal_lock))
            .stdout(Stdio::from(begun.target_lock))
            .stderr(Stdio::null());
        #[cfg(feature = "crash-points")]
        if let Ok(pipe) = std::env::var("HEALERD_CRASH_PIPE") {
            command.env("HEALERD_CRASH_PIPE", pipe);
        }
        let child = command
            .spawn()
            .map_err(|error| system("start the supervisor", &error))?;
        point("run.supervisor.spawned");
        Ok(child)
    }

    /// May this identity do all of these steps here?
    fn check(&self, start: &Start, real_roots: &[String]) -> Result<(), Refusal> {
        let steps = || start.steps.iter().chain(&start.finally);
        if steps().count() > STEPS_MAX || start.timeout_ms > TIMEOUT_MS_MAX {
            return Err(refuse(
                RefusalCode::Limit,
                "more steps or a longer time than an action may have".to_owned(),
            ));
        }
        let not_allowed = |message: String| refuse(RefusalCode::NotAllowed, message);
        for step in steps() {
            match self.identity {
                Identity::App if step.needs_root() => {
                    return Err(not_allowed(format!(
                        "`{}` needs a root agent; this one is the application's user",
                        step.name()
                    )));
                }
                Identity::Root if step.runs_program() => {
                    return Err(not_allowed(format!("`{}` never runs as root", step.name())));
                }
                Identity::Root => self.allowed.check(step, real_roots)?,
                Identity::App => {}
            }
            if let Step::Run { argv, env, .. } = step {
                program::check(argv, env)
                    .map_err(|message| refuse(RefusalCode::Malformed, message))?;
            }
        }
        // `-1` means "leave as it is" to chown: an action that gives files to nobody in particular is a mistake.
        if start.target.uid == u32::MAX || start.target.gid == u32::MAX {
            return Err(not_allowed(
                "the application's user is not known".to_owned(),
            ));
        }
        let uid = rustix::process::geteuid().as_raw();
        if self.identity == Identity::App && start.target.uid != uid {
            return Err(not_allowed(format!(
                "the application's user is {}, this agent is {uid}",
                start.target.uid
            )));
        }
        Ok(())
    }
}
