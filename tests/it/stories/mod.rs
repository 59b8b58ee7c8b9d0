//! Stories: what an operator would see, told on the simulated world with the default times.

mod approval;
mod backup;
mod breaker;
mod crash;
mod cure;
mod hold;
mod patience;
mod person;
mod remote;
mod secrets;
mod shown;
mod time;
mod told;
mod undo;
mod unknown;
