//! The unread bytes: looking at them, and space for more.

use pyo3::prelude::*;

use super::ahead::{self, Ahead};
use super::state::Reader;
use crate::python::bytes::ReceiveBuffer;

/// Up to this many unread bytes are moved to the front of their memory, to use the space before them.
const FEW: usize = 4 << 10;

impl Reader {
    /// The memory for the next `n` bytes, and their offset in it.
    pub(super) fn space<'py>(
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
            let larger = ahead::memory(py, needed.max(len.saturating_mul(2)))?;
            buffer.get().copy_to(start, larger.get(), 0, unread)?;
            self.replace_ahead(py, Some(larger.clone()), unread);
            return Ok((larger, unread));
        }
        let fresh = ahead::memory(py, n)?;
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
}
