//! Three-valued truth: unknown stays unknown unless it cannot matter (Kleene's strong logic).

/// Truth of a predicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// Cannot be told, with the first reason.
    Unknown(String),
}

impl Truth {
    /// Surely true?
    pub const fn is_true(&self) -> bool {
        matches!(self, Self::True)
    }

    /// Surely false?
    pub const fn is_false(&self) -> bool {
        matches!(self, Self::False)
    }

    /// False when one is false, else unknown when one is unknown.
    pub fn all(items: impl IntoIterator<Item = Self>) -> Self {
        let mut unknown = None;
        for item in items {
            match item {
                Self::True => {}
                Self::False => return Self::False,
                Self::Unknown(reason) => _ = unknown.get_or_insert(reason),
            }
        }
        unknown.map_or(Self::True, Self::Unknown)
    }

    /// True when one is true, else unknown when one is unknown.
    pub fn any(items: impl IntoIterator<Item = Self>) -> Self {
        let mut unknown = None;
        for item in items {
            match item {
                Self::True => return Self::True,
                Self::False => {}
                Self::Unknown(reason) => _ = unknown.get_or_insert(reason),
            }
        }
        unknown.map_or(Self::False, Self::Unknown)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{False, True};
    use super::*;

    #[test]
    fn unknown_matters_only_where_it_can() {
        let dark = || Truth::Unknown("x".to_owned());
        assert_eq!(Truth::all([dark(), False]), False);
        assert_eq!(Truth::all([True, dark()]), dark());
        assert_eq!(Truth::all([]), True);
        assert_eq!(Truth::any([dark(), True]), True);
        assert_eq!(Truth::any([False, dark()]), dark());
        assert_eq!(Truth::any([]), False);
        assert_eq!(!dark(), dark());
    }
}
