//! A process that dies between two effects, at a place that is chosen by number.

use std::sync::Mutex;

/// On which side of the effect it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The effect did not happen.
    Before,
    /// It happened, and nobody heard of it.
    After,
}

/// Counts effects; past the chosen one nothing of this process happens any more.
#[derive(Debug, Default)]
pub(crate) struct Fuse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    places: Vec<(usize, Side)>,
    dead: bool,
    /// What each counted effect was, for messages.
    names: Vec<String>,
}

impl Fuse {
    /// Chooses places, counted from now; each one is for one life of the process.
    pub(crate) fn set(&self, places: &[(usize, Side)]) {
        *self.0.lock().unwrap() = State {
            places: places.to_vec(),
            ..State::default()
        };
    }

    /// Effects counted since the last life began.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().count
    }

    /// Is the process dead?
    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    /// A new process begins; the next chosen place counts from here.
    pub(crate) fn revive(&self) {
        let mut state = self.0.lock().unwrap();
        (state.dead, state.count) = (false, 0);
        state.names.clear();
    }

    /// The last effects, for messages.
    pub(crate) fn trail(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.names.iter().rev().take(6).rev().cloned().collect()
    }

    /// Asked before an effect; `None` when the process is dead now. Else whether it dies right after.
    pub(crate) fn enter(&self, name: &str) -> Option<bool> {
        let mut state = self.0.lock().unwrap();
        if state.dead {
            return None;
        }
        let place = state.count;
        state.count += 1;
        state.names.push(name.to_owned());
        match state.places.first().copied() {
            Some((at, side)) if at == place => {
                state.places.remove(0);
                state.dead = true;
                (side == Side::After).then_some(true)
            }
            _ => Some(false),
        }
    }
}
