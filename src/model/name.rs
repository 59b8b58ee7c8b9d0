//! Names of applications, hosts, stacks, checks and actions: distinct types, so that none can stand for another.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot be {what}: use 1 to 64 of a-z, A-Z, 0-9, `_`, `-` and `.`, beginning with a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// When it is empty, longer than 64, or holds another character than letters, digits, `_`, `-`, `.`.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let mut bytes = text.bytes();
                let first_fits = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
                let rest_fits = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
                if first_fits && rest_fits && text.len() <= 64 {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, text: text.chars().take(80).flat_map(char::escape_default).collect() })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An application, by its key in the configuration.
    AppName, "an application's name"
);
name!(
    /// A host, by its key in the configuration; `local` is this machine.
    HostName, "a host's name"
);
name!(
    /// A stack, by its file.
    StackName, "a stack's name"
);
name!(
    /// A check, by its key in the stack file. Stable: it appears in configuration, audit and metrics.
    CheckName, "a check's name"
);
name!(
    /// An action, by its key in the stack file. Stable, as a check's.
    ActionName, "an action's name"
);

impl HostName {
    /// This machine.
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}
