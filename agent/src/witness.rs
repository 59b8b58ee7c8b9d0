//! The target's own record of what ran here.
