//! Stack files: what is known about each kind of application.
