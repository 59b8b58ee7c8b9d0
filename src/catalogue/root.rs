//! What the actions of a stack do as root for one app, and the lines of the root agent's list that let them.

use std::fmt::Write as _;

use super::Stack;
use super::fact::Scope;
use super::resolve::params_of;
use super::step::StepSource;
use crate::model::action::Identity;
use crate::model::app::App;

/// What root operations the actions of an app's stack hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootNeeds {
    /// Giving files back to the app's user, and mending modes as root.
    pub files: bool,
    /// Units that are restarted, as far as the app's values name them.
    pub units: Vec<String>,
}

impl RootNeeds {
    /// Reads it off the stack's actions.
    pub fn of(stack: &Stack, app: &App) -> Self {
        let mut needs = Self::default();
        let root = |action: &&super::Action| action.identity == Identity::Root;
        for action in stack.actions.iter().filter(root) {
            let scope = Scope {
                app: Some(app),
                defaults: Some(&stack.vars),
                ..Scope::default()
            };
            let params = params_of(stack, action, &[], &scope);
            let scope = Scope {
                params: Some(&params),
                ..scope
            };
            for step in action.steps.iter().chain(&action.finally) {
                if let StepSource::RestartUnit { unit } = step {
                    needs.units.extend(unit.fill(&scope));
                } else {
                    needs.files = true;
                }
            }
        }
        needs.units.sort();
        needs.units.dedup();
        needs
    }

    /// In words; `None`: nothing.
    pub fn work(&self, app: &App) -> Option<String> {
        let mut work = Vec::new();
        if self.files {
            work.push(format!("give files back to `{}`, mend modes", app.user));
        }
        if !self.units.is_empty() {
            work.push(format!("restart {}", self.units.join(", ")));
        }
        (!work.is_empty()).then(|| work.join("; "))
    }

    /// The lines of the list: owner and modes below the app's roots, and its units.
    pub fn lines(&self, app: &App) -> String {
        let mut lines = String::new();
        // Debug of a text is a TOML basic string for all that a checked path or a unit's name can hold.
        if self.files {
            for root in std::iter::once(&app.target.root).chain(&app.target.roots) {
                let written = write!(
                    lines,
                    "[[chown]]\nbelow = {root:?}\nto = [{:?}]\n\n[[modes]]\nbelow = {root:?}\n\n",
                    app.user
                );
                debug_assert!(written.is_ok(), "writing to a text never fails");
            }
        }
        for unit in &self.units {
            let written = write!(lines, "[[restart]]\nunit = {unit:?}\n\n");
            debug_assert!(written.is_ok(), "writing to a text never fails");
        }
        lines
    }
}
