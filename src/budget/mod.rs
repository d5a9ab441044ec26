//! What the buckets of a pool share: how much may lie idle, how much there may be at all, and who
//! waits for it.
//!
//! - Idle bytes are bounded by *room*: a bucket keeps only what it was granted room for, and all rooms
//!   together are no more than `max_idle`. Granted room is used over and over without coming here.
//! - Bytes that exist, out or idle, are counted only where there is a bound, `max_bytes`: they change
//!   only when memory is allocated or freed.
//! - Who waits for bytes stands in a queue, first come, first served. As long as somebody does, no
//!   room is granted and none is left (the pool takes it all back), so nothing lies idle and every
//!   request and every return has to come here: nobody overtakes, and nothing that comes home is missed.

pub(crate) mod pool;

use std::collections::VecDeque;
use std::{fmt, mem, process};

use crate::config::Config;
use crate::error::Error;
use crate::storage::Storage;
use crate::sync::{Arc, Mutex};

/// Tells who waits that it is their turn. Called without any lock.
pub(crate) type Wake = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(crate) struct Budget {
    max_idle: usize,
    max_bytes: Option<usize>,
    /// The innermost lock of all.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that the buckets have room for.
    room: usize,
    /// Bytes that exist, or are promised to somebody who waited. 0 without `max_bytes`.
    used: usize,
    /// How many ever lined up.
    waits: u64,
    closed: bool,
    queue: VecDeque<Arc<Turn>>,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Turn {
    need: usize,
    /// Who waits in a process is not there in its fork.
    process: u32,
    progress: Mutex<Progress>,
}

enum Progress {
    Waiting(Wake),
    /// The bytes are promised, or here they are already, returned by somebody else.
    Ready(Option<Storage>),
    Closed,
    Over,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Ready(_) => "Ready",
            Self::Closed => "Closed",
            Self::Over => "Over",
        })
    }
}

impl Budget {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_idle: config.idle_bytes_kept(),
            max_bytes: config.max_bytes,
            state: Mutex::new(State::default()),
        }
    }

    /// Room for up to `wanted` items of `size` bytes: for one, or for as many as half of what is left
    /// holds, for the others' sake.
    pub(crate) fn grant_room(&self, wanted: usize, size: usize) -> usize {
        let mut state = self.state.lock();
        if state.closed || !state.queue.is_empty() {
            return 0;
        }
        let left = self
            .max_idle
            .saturating_sub(state.room)
            .checked_div(size)
            .unwrap_or(0);
        let granted = wanted.min((left / 2).max(1)).min(left);
        state.room = state.room.saturating_add(granted.saturating_mul(size));
        granted
    }

    /// Takes back so many bytes of room, and so many of idle memory. It is up to the caller to free
    /// those, and then to `serve`.
    pub(crate) fn take_back(&self, room: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.room = state.room.saturating_sub(room);
        if self.max_bytes.is_some() {
            state.used = state.used.saturating_sub(bytes);
        }
    }

    /// Whether somebody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// Whether a buffer of `size` bytes could be kept, if others made room for it.
    pub(crate) fn could_keep(&self, size: usize) -> bool {
        let state = self.state.lock();
        size <= self.max_idle && !state.closed && state.queue.is_empty()
    }

    pub(crate) fn waits(&self) -> u64 {
        self.state.lock().waits
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Takes so many bytes for memory that is about to be allocated. Who does not wait comes after all
    /// who do.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(());
        };
        let mut state = self.state.lock();
        state.drop_lost();
        if !state.queue.is_empty() || bytes > max_bytes.saturating_sub(state.used) {
            return Err(state.exhausted(bytes, max_bytes));
        }
        state.used = state.used.saturating_add(bytes);
        Ok(())
    }

    /// Why so many bytes are not to be had now, or ever.
    pub(crate) fn exhausted(&self, bytes: usize) -> Error {
        let max_bytes = self.max_bytes.unwrap_or(usize::MAX);
        self.state.lock().exhausted(bytes, max_bytes)
    }

    /// Gives back so many bytes of memory that is freed by now.
    pub(crate) fn release(&self, bytes: usize) {
        if self.max_bytes.is_some() {
            let mut state = self.state.lock();
            state.used = state.used.saturating_sub(bytes);
            drop(state);
            self.serve();
        }
    }

    /// Lines up for so many bytes. The pool empties its buckets after this, and calls `serve`.
    pub(crate) fn join(&self, need: usize, wake: Wake) -> Result<Arc<Turn>, Error> {
        if self.max_bytes.is_some_and(|max_bytes| need > max_bytes) {
            return Err(self.exhausted(need)); // it would wait for ever, and everybody behind it
        }
        let turn = Arc::new(Turn {
            need,
            process: process::id(),
            progress: Mutex::new(Progress::Waiting(wake)),
        });
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed { requested: need });
        }
        let queue = &mut state.queue;
        queue.try_reserve(1).map_err(|_| Error::OutOfMemory {
            requested: size_of::<Arc<Turn>>(),
        })?;
        queue.push_back(Arc::clone(&turn));
        state.waits = state.waits.wrapping_add(1);
        Ok(turn)
    }

    /// Promises what is left to those who wait, in their order, until it does not do for the next.
    pub(crate) fn serve(&self) {
        while let Some(wake) = self.promise() {
            wake();
        }
    }

    fn promise(&self) -> Option<Wake> {
        let mut state = self.state.lock();
        state.drop_lost();
        let need = state.queue.front()?.need;
        let left = self.max_bytes?.saturating_sub(state.used);
        if need > left {
            return None;
        }
        state.used = state.used.saturating_add(need);
        state.queue.pop_front()?.ready(None)
    }

    /// Gives memory that came home to who is next, if it is just what they wait for. The caller wakes
    /// them.
    pub(crate) fn hand_over(&self, storage: Storage) -> Result<Option<Wake>, Storage> {
        let mut state = self.state.lock();
        state.drop_lost();
        let next = state.queue.pop_front_if(|turn| turn.need == storage.len());
        let Some(next) = next else {
            return Err(storage);
        };
        Ok(next.ready(Some(storage)))
    }

    /// What the turn has brought; `None` as long as it waits.
    pub(crate) fn take(&self, turn: &Turn) -> Option<Result<Option<Storage>, Error>> {
        let mut progress = turn.progress.lock();
        match mem::replace(&mut *progress, Progress::Over) {
            Progress::Ready(storage) => Some(Ok(storage)),
            Progress::Closed | Progress::Over => Some(Err(Error::Closed {
                requested: turn.need,
            })),
            waiting @ Progress::Waiting(_) => {
                *progress = waiting;
                None
            }
        }
    }

    /// Leaves the queue, or hands out again what was not taken.
    pub(crate) fn leave(&self, turn: &Arc<Turn>) -> Option<Storage> {
        let mut state = self.state.lock();
        state.queue.retain(|other| !Arc::ptr_eq(other, turn));
        drop(state);
        let before = mem::replace(&mut *turn.progress.lock(), Progress::Over);
        match before {
            Progress::Ready(Some(storage)) => return Some(storage),
            Progress::Ready(None) => self.release(turn.need),
            // Who came next may need less.
            Progress::Waiting(_) => self.serve(),
            Progress::Closed | Progress::Over => {}
        }
        None
    }

    /// Grants nothing from now on, and tells all who wait.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.drop_lost();
        let queue = mem::take(&mut state.queue);
        drop(state);
        for turn in queue {
            let before = mem::replace(&mut *turn.progress.lock(), Progress::Closed);
            if let Progress::Waiting(wake) = before {
                wake();
            }
        }
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
            used: self.used,
            max_bytes,
            waiting: self.queue.len(),
        }
    }

    /// Takes those out of the queue who wait in the process that this one was forked from.
    fn drop_lost(&mut self) {
        let lost = |turn: &mut Arc<Turn>| turn.process != process::id();
        while self.queue.pop_front_if(lost).is_some() {}
    }
}

impl Turn {
    /// Called under the budget's lock, so that nobody leaves the queue meanwhile.
    fn ready(&self, storage: Option<Storage>) -> Option<Wake> {
        let before = mem::replace(&mut *self.progress.lock(), Progress::Ready(storage));
        match before {
            Progress::Waiting(wake) => Some(wake),
            _ => None,
        }
    }
}
