//! The limits that all buckets of a pool share, and the queue of waiters.
//!
//! - Idle bytes are limited by *quota*: a bucket keeps only as many bytes as it was granted quota for, and all
//!   quotas together stay within `max_idle`. A bucket uses granted quota again and again without coming here.
//! - Existing bytes, in use or idle, are counted only if there is a limit, `max_bytes`. They change only when
//!   memory is allocated or freed.
//! - Requests that have to wait are queued, first come, first served. While there are waiters, no quota is
//!   granted and the pool takes all quota back. So nothing is idle, every request and every return comes here,
//!   no request overtakes a waiter, and no returned buffer is missed.

pub(crate) mod requests;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiter;

use crate::config::Config;
use crate::error::Error;
use crate::storage::Storage;
use crate::sync::Mutex;

pub(crate) use waiter::{Grant, Waiter, Wake};
use waiter::{Left, Queue};

#[derive(Debug)]
pub(crate) struct Budget {
    max_idle: usize,
    max_bytes: Option<usize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that the buckets have quota for.
    quota: usize,
    /// Bytes that exist, or are reserved for a waiter. 0 without `max_bytes`.
    used: usize,
    /// In a forked child: bytes that were in use at the fork. They do not count, because nobody may be left to
    /// return them.
    inherited: usize,
    /// How many requests have waited so far.
    waits: u64,
    closed: bool,
    waiters: Queue,
}

impl Budget {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_idle: config.idle_limit(),
            max_bytes: config.max_bytes,
            state: Mutex::new(State::default()),
        }
    }

    /// Grants quota for up to `wanted` items of `size` bytes: at most half of what is left, so that something
    /// is left for other buckets, but for one item at least if it fits.
    pub(crate) fn grant_quota(&self, wanted: usize, size: usize) -> usize {
        let mut state = self.state.lock();
        if state.closed || !state.waiters.is_empty() {
            return 0;
        }
        let left = self
            .max_idle
            .saturating_sub(state.quota)
            .checked_div(size)
            .unwrap_or(0);
        let granted = wanted.min((left / 2).max(1)).min(left);
        state.quota = state.quota.saturating_add(granted.saturating_mul(size));
        granted
    }

    /// Takes back quota and evicted memory, both in bytes. The caller frees the memory, then calls
    /// [`grant_waiters`](Self::grant_waiters).
    pub(crate) fn take_back(&self, quota: usize, evicted: usize) {
        let mut state = self.state.lock();
        state.quota = state.quota.saturating_sub(quota);
        if self.max_bytes.is_some() {
            state.used = state.used.saturating_sub(evicted);
        }
    }

    pub(crate) fn has_waiters(&self) -> bool {
        !self.state.lock().waiters.is_empty()
    }

    /// Whether a buffer of `size` bytes could be kept after evicting others.
    pub(crate) fn could_keep(&self, size: usize) -> bool {
        let state = self.state.lock();
        size <= self.max_idle && !state.closed && state.waiters.is_empty()
    }

    pub(crate) fn waits(&self) -> u64 {
        self.state.lock().waits
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Reserves bytes for memory that is about to be allocated. Yields to queued waiters.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(());
        };
        let mut state = self.state.lock();
        if !state.waiters.is_empty() || bytes > max_bytes.saturating_sub(state.taken()) {
            return Err(state.exhausted(bytes, max_bytes));
        }
        state.used = state.used.saturating_add(bytes);
        Ok(())
    }

    /// The error for a request of `bytes` that does not fit.
    pub(crate) fn exhausted(&self, bytes: usize) -> Error {
        let max_bytes = self.max_bytes.unwrap_or(usize::MAX);
        self.state.lock().exhausted(bytes, max_bytes)
    }

    /// Returns the bytes of freed memory to the budget.
    pub(crate) fn release(&self, bytes: usize) {
        if self.max_bytes.is_some() {
            let mut state = self.state.lock();
            state.used = state.used.saturating_sub(bytes);
            drop(state);
            self.grant_waiters();
        }
    }

    /// Queues a request. After this the pool drains its buckets and calls
    /// [`grant_waiters`](Self::grant_waiters).
    pub(crate) fn enqueue(&self, need: usize, wake: Wake) -> Result<Waiter, Error> {
        if self.max_bytes.is_some_and(|max_bytes| need > max_bytes) {
            // It would wait for ever, and all waiters behind it as well.
            return Err(self.exhausted(need));
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed { requested: need });
        }
        let waiter = state.waiters.push(need, wake)?;
        state.waits = state.waits.wrapping_add(1);
        Ok(waiter)
    }

    /// Reserves free bytes for the waiters, in their order, until they do not suffice for the next one.
    pub(crate) fn grant_waiters(&self) {
        while let Some(wake) = self.grant_next() {
            wake.call();
        }
    }

    fn grant_next(&self) -> Option<Wake> {
        let mut state = self.state.lock();
        let need = state.waiters.next_need()?;
        let free = self.max_bytes?.saturating_sub(state.taken());
        if need > free {
            return None;
        }
        state.used = state.used.saturating_add(need);
        state.waiters.grant(Grant::Reserved)
    }

    /// Grants a returned buffer to the next waiter, if it has exactly the size that waiter needs. The caller
    /// calls `Wake`.
    pub(crate) fn hand_to_waiter(&self, storage: Storage) -> Result<Option<Wake>, Storage> {
        let mut state = self.state.lock();
        if state.waiters.next_need() != Some(storage.len()) {
            return Err(storage);
        }
        Ok(state.waiters.grant(Grant::Returned(storage)))
    }

    /// Takes the waiter's grant. `None`: it has none yet.
    pub(crate) fn take(&self, waiter: &Waiter) -> Option<Result<Grant, Error>> {
        let granted = self.state.lock().waiters.take(waiter)?;
        let requested = waiter.need();
        Some(granted.ok_or(Error::Closed { requested }))
    }

    #[cfg(feature = "python")]
    pub(crate) fn is_waiting(&self, waiter: &Waiter) -> bool {
        self.state.lock().waiters.is_waiting(waiter)
    }

    /// Removes the waiter from the queue. Its grant passes to the next waiter; if that is a buffer, the caller
    /// returns it to the pool.
    pub(crate) fn leave(&self, waiter: &Waiter) -> Option<Storage> {
        let left = self.state.lock().waiters.leave(waiter);
        match left {
            Left::Granted(Grant::Returned(storage)) => return Some(storage),
            Left::Granted(Grant::Reserved) => self.release(waiter.need()),
            // The next waiter may need less.
            Left::Waiting(_) => self.grant_waiters(),
            Left::Ended => {}
        }
        None
    }

    /// In a forked child: forgets the waiters of the parent, and all bytes in use. `idle` bytes are idle.
    #[cfg(feature = "python")]
    pub(crate) fn settle_after_fork(&self, idle: usize) {
        let mut state = self.state.lock();
        state.inherited = state.used.saturating_sub(idle);
        state.waiters.forget();
        drop(state);
        while let Some(wake) = self.pop_waiter() {
            drop(wake);
        }
    }

    /// Grants nothing from now on, and wakes all waiters.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        while let Some(wake) = self.pop_waiter() {
            wake.call();
        }
    }

    /// Removes the oldest waiting request. The caller calls or drops `Wake`, without the lock.
    fn pop_waiter(&self) -> Option<Wake> {
        self.state.lock().waiters.pop()
    }
}

impl State {
    fn exhausted(&self, requested: usize, max_bytes: usize) -> Error {
        if requested > max_bytes {
            return Error::AboveBudget {
                requested,
                max_bytes,
            };
        }
        Error::Exhausted {
            requested,
            used: self.taken(),
            max_bytes,
            waiters: self.waiters.len(),
        }
    }

    /// How much of the budget is taken.
    fn taken(&self) -> usize {
        self.used.saturating_sub(self.inherited)
    }
}
