//! An application's real directories, opened once, and paths opened beneath them.
