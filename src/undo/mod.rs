//! Planning the way back.
