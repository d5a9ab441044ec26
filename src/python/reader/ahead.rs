//! Memory that is read ahead, and how far to read ahead.

use std::sync::LazyLock;

use pyo3::prelude::*;

use crate::config::Config;
use crate::pool::Pool;
use crate::python::bytes::ReceiveBuffer;

/// How much is read ahead of large messages: their headers. The rest is received in place.
pub(super) const LEAST: usize = 4 << 10;
/// How much is read ahead otherwise: as much as asyncio's transports receive at a time. For less, the event loop's
/// own work for each `recv` costs more.
const MOST: usize = 256 << 10;
/// Messages from this size on are large.
const LARGE: usize = 192 << 10;
/// A read that misses at least this many bytes is received straight into its result. For fewer bytes, another
/// `recv` and another wake-up of the task cost more than a copy.
const IN_PLACE: usize = 64 << 10;

/// The pool of read-ahead memory. Its pages stay, so they are faulted in once. It holds as much as the connections
/// with unread bytes need.
static MEMORY: LazyLock<Pool> = LazyLock::new(|| {
    let config = Config {
        min_size: LEAST,
        max_size: 1 << 20,
        max_idle_bytes: Some(4 << 20),
        ..Config::DEFAULT
    };
    Pool::new(config).unwrap_or_else(|_| Pool::null())
});

/// Read-ahead memory of at least `n` bytes.
pub(super) fn memory(py: Python<'_>, n: usize) -> PyResult<Bound<'_, ReceiveBuffer>> {
    let size = n.max(LEAST).checked_next_power_of_two().unwrap_or(n);
    if size <= MEMORY.config().max_size {
        ReceiveBuffer::pooled(py, &MEMORY, size)
    } else {
        ReceiveBuffer::bytes(py, size)
    }
}

/// The unread bytes, from `start` to `end`.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) buffer: Option<Py<ReceiveBuffer>>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Ahead {
    pub(super) fn unread(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    pub(super) fn has_memory(&self) -> bool {
        self.buffer.is_some()
    }

    /// Whether the next bytes are to be appended here.
    pub(super) fn ends_at(&self, memory: &Py<ReceiveBuffer>, at: usize) -> bool {
        let buffer = self.buffer.as_ref();
        self.end == at && buffer.is_some_and(|buffer| buffer.is(memory))
    }

    /// Appends `n` bytes that are in the memory already.
    pub(super) fn add(&mut self, n: usize) {
        let len = self.buffer.as_ref().map_or(0, |buffer| buffer.get().len());
        self.end = self.end.saturating_add(n).min(len);
    }

    /// Removes `n` bytes from the front, and returns the memory if no byte is left.
    pub(super) fn consume(&mut self, n: usize) -> Option<Py<ReceiveBuffer>> {
        self.start = self.start.saturating_add(n).min(self.end);
        if self.start < self.end {
            return None;
        }
        self.replace(None, 0, 0)
    }

    pub(super) fn replace(
        &mut self,
        buffer: Option<Py<ReceiveBuffer>>,
        start: usize,
        end: usize,
    ) -> Option<Py<ReceiveBuffer>> {
        (self.start, self.end) = (start, end);
        std::mem::replace(&mut self.buffer, buffer)
    }
}

/// How far to read ahead. This follows the traffic.
pub(super) struct Window {
    pub(super) size: usize,
    /// Whether the last read-ahead filled its window.
    pub(super) is_full: bool,
    /// A read that misses at least this many bytes is received in place.
    pub(super) in_place: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: MOST,
            is_full: false,
            in_place: IN_PLACE,
        }
    }
}

impl Window {
    /// Adapts to a message of `n` bytes.
    pub(super) fn follow(&mut self, n: usize) {
        if n >= LARGE {
            self.size = LEAST;
            self.is_full = false;
        } else if n > self.size / 2 {
            self.size = MOST;
        }
    }

    /// Adapts to a wait for a few bytes: the window grows if it was too small for the previous ones.
    pub(super) fn wait(&mut self) {
        if std::mem::take(&mut self.is_full) {
            self.size = self.size.saturating_mul(4).min(MOST);
        }
    }
}
