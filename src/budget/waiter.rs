//! The queue of requests that wait for the budget: first come, first served. The budget's lock guards it.

use std::collections::VecDeque;
use std::{fmt, mem};

use crate::error::Error;
use crate::fallible::list;
use crate::storage::Storage;

/// A request that waits for the budget, or was granted its bytes.
#[derive(Debug)]
pub(crate) struct Waiter {
    id: u64,
    /// The cost of the request in bytes.
    need: usize,
}

impl Waiter {
    pub(super) fn need(&self) -> usize {
        self.need
    }
}

/// The grant of a waiter.
#[derive(Debug)]
pub(crate) enum Grant {
    /// The bytes are reserved for it in the budget.
    Reserved,
    /// A returned buffer of exactly the size it needs.
    Returned(Storage),
}

/// Tells a waiter that its request has ended. Called without any lock held.
pub(crate) struct Wake(Box<dyn Call>);

impl Wake {
    pub(crate) fn new(call: impl FnOnce() + Send + 'static) -> Result<Self, Error> {
        let mut one = list(1)?;
        one.push(Some(call));
        let one: Result<Box<[_; 1]>, _> = one.into_boxed_slice().try_into();
        let one = one.map_err(|one| Error::OutOfMemory {
            requested: size_of_val(&*one),
        })?;
        Ok(Self(one))
    }

    pub(crate) fn call(mut self) {
        self.0.call();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// A function that is called at most once. (`Box<dyn FnOnce()>` cannot be made without `Box::new`, which aborts the
/// process if there is no memory; a box of an array can be made from a list.)
trait Call: Send {
    fn call(&mut self);
}

impl<F: FnOnce() + Send> Call for [Option<F>; 1] {
    fn call(&mut self) {
        let [function] = self;
        if let Some(function) = function.take() {
            function();
        }
    }
}

/// The waiters of a budget, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of their ids. Granted requests come first, because requests are granted in this order.
    entries: VecDeque<Entry>,
    /// The number of requests that were granted and have not taken their grant yet.
    granted: usize,
    next_id: u64,
    /// Waiters before this one were forgotten, and stay as they are.
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    need: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Wake),
    Granted(Grant),
}

/// The state of a waiter when it left the queue.
#[derive(Debug)]
pub(super) enum Left {
    /// Nothing, and nobody will wake it any more.
    Waiting(Wake),
    Granted(Grant),
    /// It took its grant, or left before.
    Ended,
}

impl Queue {
    /// The number of waiting requests.
    pub(super) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.granted)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cost of the oldest waiting request in bytes.
    pub(super) fn next_need(&self) -> Option<usize> {
        self.entries.get(self.granted).map(|entry| entry.need)
    }

    pub(super) fn push(&mut self, need: usize, wake: Wake) -> Result<Waiter, Error> {
        let reserved = self.entries.try_reserve(1);
        reserved.map_err(|_| Error::OutOfMemory {
            requested: size_of::<Entry>(),
        })?;
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let state = State::Waiting(wake);
        self.entries.push_back(Entry { id, need, state });
        Ok(Waiter { id, need })
    }

    /// Grants the oldest waiting request. The caller calls `Wake`.
    pub(super) fn grant(&mut self, grant: Grant) -> Option<Wake> {
        let entry = self.entries.get_mut(self.granted)?;
        self.granted = self.granted.saturating_add(1);
        match mem::replace(&mut entry.state, State::Granted(grant)) {
            State::Waiting(wake) => Some(wake),
            State::Granted(_) => None,
        }
    }

    /// Takes the waiter's grant. `Some(None)`: the waiter no longer waits, and has no grant.
    pub(super) fn take(&mut self, waiter: &Waiter) -> Option<Option<Grant>> {
        if self.is_waiting(waiter) {
            return None;
        }
        match self.leave(waiter) {
            Left::Granted(grant) => Some(Some(grant)),
            Left::Waiting(_) | Left::Ended => Some(None),
        }
    }

    pub(super) fn is_waiting(&self, waiter: &Waiter) -> bool {
        match self.find(waiter) {
            Some(index) => index >= self.granted,
            None => waiter.id < self.forgotten,
        }
    }

    /// Removes a waiter.
    pub(super) fn leave(&mut self, waiter: &Waiter) -> Left {
        match self.find(waiter) {
            Some(index) => self.remove(index),
            None => Left::Ended,
        }
    }

    /// Removes the oldest waiting request.
    pub(super) fn pop(&mut self) -> Option<Wake> {
        match self.remove(self.granted) {
            Left::Waiting(wake) => Some(wake),
            Left::Granted(_) | Left::Ended => None,
        }
    }

    /// The waiters so far were removed by [`pop`](Self::pop), and wait for ever.
    #[cfg(feature = "python")]
    pub(super) fn forget(&mut self) {
        self.forgotten = self.next_id;
    }

    fn find(&self, waiter: &Waiter) -> Option<usize> {
        let found = self
            .entries
            .binary_search_by_key(&waiter.id, |entry| entry.id);
        found.ok()
    }

    fn remove(&mut self, index: usize) -> Left {
        match self.entries.remove(index).map(|entry| entry.state) {
            Some(State::Waiting(wake)) => Left::Waiting(wake),
            Some(State::Granted(grant)) => {
                self.granted = self.granted.saturating_sub(1);
                Left::Granted(grant)
            }
            None => Left::Ended,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn wake() -> Wake {
        Wake::new(|| {}).unwrap()
    }

    #[test]
    fn waiters_are_granted_in_their_order_and_leave_in_any() {
        let mut queue = Queue::default();
        let waiters: Vec<_> = (0..5)
            .map(|need| queue.push(need, wake()).unwrap())
            .collect();
        assert!(matches!(queue.leave(&waiters[1]), Left::Waiting(_)));
        for need in [0, 2] {
            assert_eq!(queue.next_need(), Some(need));
            assert!(queue.grant(Grant::Reserved).is_some());
        }
        assert_eq!(queue.len(), 2);
        assert!(queue.take(&waiters[3]).is_none());
        assert!(matches!(
            queue.take(&waiters[2]),
            Some(Some(Grant::Reserved))
        ));
        assert!(matches!(queue.take(&waiters[2]), Some(None)));
        assert!(matches!(queue.leave(&waiters[0]), Left::Granted(_)));
        assert!(matches!(queue.leave(&waiters[0]), Left::Ended));
        assert_eq!((queue.len(), queue.next_need()), (2, Some(3)));
        assert!(queue.pop().is_some() && queue.pop().is_some() && queue.pop().is_none());
        assert!(queue.is_empty() && queue.grant(Grant::Reserved).is_none());
    }
}
