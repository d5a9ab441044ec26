//! The unread bytes of a connection, and how far to read ahead.

use std::sync::LazyLock;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Reader;
use crate::config::Config;
use crate::pool::Pool;
use crate::python::bytes::ReceiveBuffer;
use crate::sync::Arc;

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
/// Up to this many unread bytes are moved to the front of their memory, to use the space before them.
const FEW: usize = 4 << 10;

/// The pool of read-ahead memory. Its pages stay, so they are faulted in once. It holds as much as the connections
/// with unread bytes need.
static MEMORY: LazyLock<Arc<Pool>> = LazyLock::new(|| {
    let config = Config {
        min_size: LEAST,
        max_size: 1 << 20,
        max_idle_bytes: Some(4 << 20),
        ..Config::DEFAULT
    };
    Arc::new(Pool::new(config).unwrap_or_else(|_| Pool::null()))
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
    buffer: Option<Py<ReceiveBuffer>>,
    start: usize,
    end: usize,
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
    fn consume(&mut self, n: usize) -> Option<Py<ReceiveBuffer>> {
        self.start = self.start.saturating_add(n).min(self.end);
        if self.start < self.end {
            return None;
        }
        self.replace(None, 0, 0)
    }

    fn replace(
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

impl Reader {
    /// The memory for the next `n` bytes, and their offset in it.
    pub(super) fn room<'py>(
        &self,
        py: Python<'py>,
        n: usize,
    ) -> PyResult<(Bound<'py, ReceiveBuffer>, usize)> {
        let (buffer, start, end) = self.peek(py);
        let unread = end.saturating_sub(start);
        let needed = unread.saturating_add(n);
        if let Some(buffer) = buffer {
            let len = buffer.get().len();
            if start == 0 || (unread > FEW && len.saturating_sub(end) >= n) {
                if len.saturating_sub(end) >= n {
                    return Ok((buffer, end));
                }
            } else if len >= needed {
                buffer.get().copy_to(start, buffer.get(), 0, unread)?;
                let mut state = self.state.lock();
                (state.ahead.start, state.ahead.end) = (0, unread);
                return Ok((buffer, unread));
            }
            // At least doubled, so that many small pieces are not copied again and again.
            let larger = memory(py, needed.max(len.saturating_mul(2)))?;
            buffer.get().copy_to(start, larger.get(), 0, unread)?;
            self.replace_ahead(py, Some(larger.clone()), unread);
            return Ok((larger, unread));
        }
        let fresh = memory(py, n)?;
        self.replace_ahead(py, Some(fresh.clone()), 0);
        Ok((fresh, 0))
    }

    /// The unread bytes: their memory, their start and their end.
    pub(super) fn peek<'py>(
        &self,
        py: Python<'py>,
    ) -> (Option<Bound<'py, ReceiveBuffer>>, usize, usize) {
        let state = self.state.lock();
        let Ahead { buffer, start, end } = &state.ahead;
        let buffer = buffer.as_ref().map(|buffer| buffer.bind(py).clone());
        (buffer, *start, *end)
    }

    pub(super) fn unread(&self) -> usize {
        self.state.lock().ahead.unread()
    }

    /// Passes the first `n` unread bytes to `look`, or fewer if there are fewer.
    pub(super) fn look<R>(
        &self,
        py: Python<'_>,
        n: usize,
        look: impl FnOnce(&[u8]) -> R,
    ) -> PyResult<R> {
        // Under the lock and without another reference, so that the bytes need not be copied.
        let state = self.state.lock();
        let Ahead { buffer, start, end } = &state.ahead;
        match buffer {
            Some(buffer) => {
                let end = start.saturating_add(n).min(*end);
                ReceiveBuffer::read(buffer.bind(py), *start, end, look)
            }
            None => Ok(look(&[])),
        }
    }

    /// Removes and returns the next `n` unread bytes. There are at least `n`.
    pub(super) fn take<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (buffer, start, end) = self.peek(py);
        let Some(buffer) = buffer else {
            return Ok(empty(py));
        };
        if start == 0 && n == end && n == buffer.get().len() && buffer.get().is_bytes() {
            self.replace_ahead(py, None, 0);
            self.after_reading(py)?;
            return ReceiveBuffer::publish(buffer);
        }
        let bytes = buffer
            .get()
            .copy_out(py, start, start.saturating_add(n).min(end))?;
        drop(buffer);
        self.consume(py, n)?;
        Ok(bytes)
    }

    /// Returns the `n` bytes after the next `skip` ones. All of them are unread bytes.
    pub(super) fn take_after<'py>(
        &self,
        py: Python<'py>,
        skip: usize,
        n: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (Some(buffer), start, _) = self.peek(py) else {
            return Ok(empty(py));
        };
        let from = start.saturating_add(skip);
        let bytes = buffer.get().copy_out(py, from, from.saturating_add(n))?;
        drop(buffer);
        self.consume(py, skip.saturating_add(n))?;
        Ok(bytes)
    }

    /// Removes the next `n` unread bytes.
    pub(super) fn consume(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let done = self.state.lock().ahead.consume(n);
        drop(done);
        self.after_reading(py)
    }

    fn after_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.expose(py)?;
        self.resume(py, false)
    }

    /// Copies the `n` bytes after the next `skip` ones to a buffer of `n` bytes. All of them are unread bytes.
    pub(super) fn take_into(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        skip: usize,
        n: usize,
    ) -> PyResult<()> {
        if let (Some(buffer), start, _) = self.peek(py) {
            buffer.get().copy_into(start.saturating_add(skip), target)?;
        }
        self.consume(py, skip.saturating_add(n))
    }

    pub(super) fn replace_ahead(
        &self,
        py: Python<'_>,
        buffer: Option<Bound<'_, ReceiveBuffer>>,
        end: usize,
    ) {
        let buffer = buffer.map(Bound::unbind);
        let before = self.state.lock().ahead.replace(buffer, 0, end);
        drop(before.map(|before| before.into_bound(py)));
    }

    /// Moves unread bytes to the memory of a read in place.
    pub(super) fn move_to(&self, py: Python<'_>, target: &ReceiveBuffer) -> PyResult<()> {
        if let (Some(buffer), start, end) = self.peek(py) {
            let n = end.saturating_sub(start).min(target.len());
            buffer.get().copy_to(start, target, 0, n)?;
            target.set_filled(n);
            drop(buffer);
            self.consume(py, n)?;
        }
        Ok(())
    }

    /// Puts the filled part of a read in place back before the unread bytes.
    pub(super) fn put_back(
        &self,
        py: Python<'_>,
        memory: Bound<'_, ReceiveBuffer>,
        prefix: &[u8],
    ) -> PyResult<()> {
        let filled = memory.get().filled();
        let came = prefix.len().saturating_add(filled);
        if came == 0 {
            return Ok(());
        }
        let (buffer, start, end) = self.peek(py);
        let unread = end.saturating_sub(start);
        if unread == 0 && prefix.is_empty() && memory.get().is_bytes() {
            self.replace_ahead(py, Some(memory), filled);
        } else {
            let all = self::memory(py, came.saturating_add(unread))?;
            all.get().write(0, prefix)?;
            memory.get().copy_to(0, all.get(), prefix.len(), filled)?;
            if let Some(buffer) = buffer {
                buffer.get().copy_to(start, all.get(), came, unread)?;
            }
            self.replace_ahead(py, Some(all), came.saturating_add(unread));
        }
        self.expose(py)?;
        self.hold_back(py)
    }
}

fn empty(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &[])
}
