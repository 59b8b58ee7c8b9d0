//! Stories: what an operator would see, told on the simulated world with the default times.

mod cure;
