//! What runs on a host: the hands of healerd.
//!
//! The daemon decides; this package does. It answers framed requests on stdin/stdout ([`serve`]), reads facts in
//! batches ([`probe`]), walks and reads files out ([`walk`]), runs an action's steps under a supervisor of its own
//! ([`runner`]), keeps the record of what ran here ([`witness`]), and takes changes back exactly ([`restore`]).
//!
//! It holds no policy: nothing here knows modes, risks, approvals or breakers. Pure parts are [`protocol`], [`tree`],
//! [`step`] and [`probe::spec`]; everything else has effects on the host it runs on and nowhere else.
//!
//! The modules, in the order in which a heal meets them:

pub mod protocol;

pub mod tree;

pub mod step;

pub mod units;

pub mod roots;

pub mod probe;

pub mod walk;

pub mod witness;

pub mod identity;

pub mod confine;

pub mod command;

pub mod runner;

pub mod native;

pub mod restore;

pub mod serve;

pub mod crash;

#[cfg(test)]
mod skip;
