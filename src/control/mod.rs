//! The control socket.

pub mod wire;
mod words;
