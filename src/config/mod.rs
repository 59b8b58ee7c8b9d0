//! From files to settings.
