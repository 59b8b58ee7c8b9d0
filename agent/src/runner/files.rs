//! What a step did to files: the state before and after it, merged over the steps of an action.
//!
//! Native steps tell each path themselves; around a program the application's root is walked twice. A walk that
//! fails makes the record incomplete and never smaller than it was.

use std::collections::BTreeMap;
use std::path::Path;

use crate::protocol::{Refusal, Target};
use crate::step::Step;
use crate::tree::{Effect, TreePath};

/// The application's files as one action sees them.
#[derive(Debug)]
pub(super) struct Files {
    real: Vec<String>,
    effects: BTreeMap<TreePath, Effect>,
    complete: bool,
}

/// The tree before a program.
#[derive(Debug)]
pub(super) struct Before;

pub(super) fn real_roots(target: &Target) -> Result<Vec<String>, Refusal> {
    Ok(vec![
        std::fs::canonicalize(&target.root)
            .map_err(|e| crate::witness::system("root", &e))?
            .display()
            .to_string(),
    ])
}

impl Files {
    pub(super) fn open(target: &Target) -> Result<Self, Refusal> {
        Ok(Self {
            real: real_roots(target)?,
            effects: BTreeMap::new(),
            complete: true,
        })
    }
    pub(super) fn root(&self) -> &str {
        self.real.first().map(String::as_str).unwrap_or_default()
    }
    pub(super) fn roots(&self) -> &[String] {
        &self.real
    }
    pub(super) fn before(&mut self) -> Result<Before, String> {
        Ok(Before)
    }
    pub(super) fn after(&mut self, _before: &Before) {}
    pub(super) fn native(&mut self, step: &Step, _stage: &Path) -> Result<(), String> {
        Err(format!("{} is not there yet", step.name()))
    }
    pub(super) fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.effects.values()
    }
    pub(super) fn complete(&self) -> bool {
        self.complete
    }
}
