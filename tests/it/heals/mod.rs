//! The whole loop on real applications: a fault is injected, and the built daemon notices, heals and verifies it.
//!
//! Nothing of the daemon is replaced. HTTP answers and looks at the file system are the judges; the daemon's own store is
//! only read to tell which heal it was. Most stories are played twice, here and behind a real SSH server, and must tell the
//! same of both ([`place`], [`telling`]). Times are short, so that dwell, settle and soak pass within seconds.

mod journal;
mod place;
mod scene;
mod telling;

mod express;
mod fpm;
mod healthy;
mod laravel;
mod network;
mod php;
mod remote;
mod runaway;
mod undo;
mod unit;
mod wordpress;
mod wordpress_core;
mod wordpress_search;
