//! Stack files: text in, checked and ready stacks out.
//!
//! Pure. The built-in files are compiled in; further ones arrive as text, reading them from disk is done elsewhere.
//! What is wrong is told all at once, each with file, line, key and what to do. Nothing here decides what to heal.

mod build;
mod index;
mod lint;
mod literal;

pub mod action;
pub mod check;
pub mod fact;
pub mod fields;
pub mod predicate;
pub mod resolve;
pub mod root;
pub mod source;
pub mod stack;
pub mod step;
pub mod template;
pub mod truth;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use action::Action;
pub use check::Check;
pub use resolve::ResolveError;
pub use root::RootNeeds;
pub use source::StackError;
pub use stack::Stack;
pub use truth::Truth;

use crate::model::name::StackName;

/// The built-in files, by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("web", include_str!("../../stacks/web.toml")),
    ("php", include_str!("../../stacks/php.toml")),
    ("laravel", include_str!("../../stacks/laravel.toml")),
    ("express", include_str!("../../stacks/express.toml")),
    ("wordpress", include_str!("../../stacks/wordpress.toml")),
];

/// All stacks.
#[derive(Debug, Clone)]
pub struct Catalogue {
    stacks: BTreeMap<StackName, Arc<Stack>>,
}

impl Catalogue {
    /// The built-in stacks and further files, each with its name (a trailing `.toml` and folders are left away).
    ///
    /// A file may add a stack. With `extends = "x"` it begins with everything of `x` and overrides single keys of
    /// checks and actions; when it bears the name of the stack it extends, it takes that stack's place.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub fn load(extra: &[(String, String)]) -> Result<Self, Vec<StackError>> {
        build::load(BUILT_IN, extra).map(|stacks| Self { stacks })
    }

    /// The built-in stacks alone.
    ///
    /// # Errors
    /// Never in a tested build.
    pub fn built_in() -> Result<Self, Vec<StackError>> {
        Self::load(&[])
    }

    /// A stack that applications can be of.
    pub fn get(&self, name: &StackName) -> Option<&Arc<Stack>> {
        self.stacks.get(name).filter(|stack| !stack.is_base)
    }

    /// All stacks that applications can be of, by name.
    pub fn stacks(&self) -> impl Iterator<Item = &Arc<Stack>> {
        self.stacks.values().filter(|stack| !stack.is_base)
    }
}

#[cfg(test)]
mod tests;
