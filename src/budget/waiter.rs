//! One request that waits for the budget, and how it ends: granted, closed, or given up. `mod.rs` has the queue and its
//! order.

use std::{fmt, mem};

use crate::error::Error;
use crate::storage::Storage;
use crate::sync::Mutex;

/// Tells a waiter that its request has ended. Called once, without any lock held.
pub(crate) type Wake = Box<dyn FnOnce() + Send>;

/// A queued request.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// What the request costs, in bytes.
    need: usize,
    state: Mutex<State>,
}

/// What a waiter was granted.
#[derive(Debug)]
pub(crate) enum Grant {
    /// The bytes are reserved for it in the budget.
    Reserved,
    /// A returned buffer of exactly the size it needs.
    Returned(Storage),
}

enum State {
    Waiting(Wake),
    Granted(Grant),
    Closed,
    /// The grant was taken, or the waiter left.
    Done,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Granted(_) => "Granted",
            Self::Closed => "Closed",
            Self::Done => "Done",
        })
    }
}

/// What a waiter had when it left the queue.
#[derive(Debug)]
pub(super) enum Left {
    Waiting,
    Granted(Grant),
    Ended,
}

impl Waiter {
    pub(super) fn new(need: usize, wake: Wake) -> Self {
        Self {
            need,
            state: Mutex::new(State::Waiting(wake)),
        }
    }

    pub(super) fn need(&self) -> usize {
        self.need
    }

    /// Called with the budget locked, so that the waiter does not leave the queue meanwhile.
    pub(super) fn grant(&self, grant: Grant) -> Option<Wake> {
        self.end(State::Granted(grant))
    }

    pub(super) fn close(&self) -> Option<Wake> {
        self.end(State::Closed)
    }

    fn end(&self, state: State) -> Option<Wake> {
        match mem::replace(&mut *self.state.lock(), state) {
            State::Waiting(wake) => Some(wake),
            _ => None,
        }
    }

    /// Takes the grant. `None`: there is none yet.
    pub(super) fn take(&self) -> Option<Result<Grant, Error>> {
        let mut state = self.state.lock();
        match mem::replace(&mut *state, State::Done) {
            State::Granted(grant) => Some(Ok(grant)),
            State::Closed | State::Done => Some(Err(Error::Closed {
                requested: self.need,
            })),
            waiting @ State::Waiting(_) => {
                *state = waiting;
                None
            }
        }
    }

    pub(super) fn leave(&self) -> Left {
        match mem::replace(&mut *self.state.lock(), State::Done) {
            State::Waiting(_) => Left::Waiting,
            State::Granted(grant) => Left::Granted(grant),
            State::Closed | State::Done => Left::Ended,
        }
    }
}
