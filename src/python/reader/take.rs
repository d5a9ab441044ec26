//! Removing unread bytes, and putting bytes back.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::ahead;
use super::state::Reader;
use crate::python::bytes::ReceiveBuffer;

impl Reader {
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

    /// Moves unread bytes to the memory of a read in place.
    pub(super) fn move_to(&self, py: Python<'_>, target: &ReceiveBuffer) -> PyResult<()> {
        if let (Some(buffer), start, end) = self.peek(py) {
            let at = target.filled();
            let n = end
                .saturating_sub(start)
                .min(target.len().saturating_sub(at));
            buffer.get().copy_to(start, target, at, n)?;
            target.set_filled(at.saturating_add(n));
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
            let all = ahead::memory(py, came.saturating_add(unread))?;
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
