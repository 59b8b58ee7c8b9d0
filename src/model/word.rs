//! The closed sets of words: status, severity, risk, category, healing mode, match kind.

use serde::{Deserialize, Serialize};

/// A text that is none of the words it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; one of {known} was expected")]
pub struct UnknownWord {
    pub what: &'static str,
    pub text: String,
    pub known: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every word, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as it is written in files, tables, messages and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::model::word::UnknownWord;
            fn from_str(text: &str) -> Result<Self, $crate::model::word::UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::model::word::UnknownWord {
                        what: $what,
                        text: text.chars().take(80).collect(),
                        known: [$($text),+].join(", "),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a check found. `ERROR` means: could not be determined; it never leads to an action.
    Status, "status" { Pass = "PASS", Warn = "WARN", Fail = "FAIL", Error = "ERROR" }
}

impl Status {
    /// Is this positive evidence of a symptom?
    pub const fn is_bad(self) -> bool {
        match self {
            Self::Warn | Self::Fail => true,
            Self::Pass | Self::Error => false,
        }
    }
}

words! {
    /// How much a symptom hurts.
    Severity, "severity" { Low = "LOW", Medium = "MEDIUM", High = "HIGH", Critical = "CRITICAL" }
}

words! {
    /// How much an action can lose.
    Risk, "risk" { Low = "LOW", Medium = "MEDIUM", High = "HIGH", Critical = "CRITICAL" }
}

words! {
    /// What a check or action is about.
    Category, "category" {
        System = "SYSTEM", Security = "SECURITY", Performance = "PERFORMANCE", Configuration = "CONFIGURATION",
        Dependencies = "DEPENDENCIES", Database = "DATABASE",
    }
}

words! {
    /// What may run without a person.
    HealingMode, "healing mode" {
        /// Nothing runs alone.
        Manual = "MANUAL",
        /// LOW runs alone.
        SemiAuto = "SEMI_AUTO",
        /// LOW and MEDIUM run alone.
        FullAuto = "FULL_AUTO",
    }
}

impl HealingMode {
    /// May an action of this risk run unattended in this mode? HIGH and CRITICAL always ask.
    pub const fn allows(self, risk: Risk) -> bool {
        match (self, risk) {
            (Self::SemiAuto | Self::FullAuto, Risk::Low) | (Self::FullAuto, Risk::Medium) => true,
            (Self::Manual, Risk::Low)
            | (Self::Manual | Self::SemiAuto, Risk::Medium)
            | (_, Risk::High | Risk::Critical) => false,
        }
    }
}

words! {
    /// How an action came to a check, strongest first.
    MatchKind, "match kind" {
        /// The check names the action as its remedy.
        Declared = "declared",
        /// The action bears the check's name.
        Exact = "exact",
        /// The fix text names the action.
        Suggested = "suggested",
        /// Words of both names belong together.
        Category = "category",
    }
}

words! {
    /// What a check's verdict says something about; only `app` is charged to a heal.
    About, "subject of a check" { App = "app", Host = "host", Registry = "registry", Calendar = "calendar" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_low_and_medium_ever_run_alone() {
        let allowed: Vec<_> = HealingMode::ALL
            .iter()
            .flat_map(|mode| Risk::ALL.iter().map(move |risk| (*mode, *risk)))
            .filter(|(mode, risk)| mode.allows(*risk))
            .collect();
        assert_eq!(
            allowed,
            [
                (HealingMode::SemiAuto, Risk::Low),
                (HealingMode::FullAuto, Risk::Low),
                (HealingMode::FullAuto, Risk::Medium)
            ]
        );
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        assert_eq!(
            "AUTO".parse::<HealingMode>().unwrap_err().to_string(),
            "`AUTO` is not a healing mode; one of MANUAL, SEMI_AUTO, FULL_AUTO was expected"
        );
    }
}
