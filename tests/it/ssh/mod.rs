//! Hosts over a real SSH server with default limits: trust, logins, the agent's way there, and what breaks on it.

mod agent;
mod contract;
mod crowd;
mod faults;
mod logins;
mod owners;
mod remote;
mod trust;
