//! Taking bytes, and the end of the stream, from the transport.

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::ahead;
use super::state::{Lent, Place, Reader};
use crate::python::bytes::{Export, ReceiveBuffer};
use crate::python::error::exception;

/// Called by the transport through the protocol.
impl Reader {
    /// Where the transport is to receive to: ``least`` bytes or more.
    pub(super) fn get_buffer<'py>(
        &self,
        py: Python<'py>,
        least: usize,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        self.absorb(py)?;
        let target = self.target(py);
        let (memory, at, len) = match target.map(|target| target.into_bound(py)) {
            Some(target) => {
                let at = target.get().filled();
                let rest = target.get().len().saturating_sub(at);
                if rest >= least {
                    (target, at, rest)
                } else {
                    // All decrypted bytes have to be taken in one call, also those past the target's end.
                    (ahead::memory(py, least)?, 0, least)
                }
            }
            None => {
                let window = self.state.lock().window.size;
                let size = window
                    .saturating_sub(self.unread())
                    .max(ahead::LEAST)
                    .max(least);
                let (memory, at) = self.space(py, size)?;
                let len = memory.get().len().saturating_sub(at).min(size);
                (memory, at, len)
            }
        };
        let view = ReceiveBuffer::view(&memory, at, at.saturating_add(len))?;
        let lent = Lent {
            memory: memory.unbind(),
            at,
            len,
        };
        let before = self.state.lock().lent.replace(lent);
        drop(before);
        Ok(view)
    }

    /// Takes the ``n`` bytes that the transport has received to where it was told.
    pub(super) fn buffer_updated(slf: &Bound<'_, Self>, n: usize) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let Some(lent) = this.state.lock().lent.take() else {
            return Err(exception::<PyRuntimeError>(
                "buffer_updated() called without a buffer from get_buffer()",
            ));
        };
        if n > lent.len {
            return Err(exception::<PyValueError>(format_args!(
                "buffer_updated({n}) for a buffer of {} bytes",
                lent.len
            )));
        }
        let place = {
            let mut state = this.state.lock();
            let place = state.place_of(&lent);
            if place == Place::Ahead {
                state.ahead.add(n);
                state.window.is_full = n == lent.len;
            }
            place
        };
        match place {
            Place::Ahead => {}
            Place::Target => this.count_in_target(py, n),
            Place::Elsewhere => this.take_in(py, lent.memory.get(), lent.at, n)?,
        }
        let was_full = n == lent.len;
        drop(lent);
        this.expose(py)?;
        let (stop, is_much, floods) = {
            let mut state = this.state.lock();
            let follows = state.may_follow && state.ahead.unread() == 0;
            let stop = state.keeps_receiving && was_full && state.target.is_none() && !follows;
            state.may_follow = follows;
            (stop, state.is_much_unread(), state.floods)
        };
        this.wake(py)?;
        if is_much && floods {
            return this.hold_back(py);
        }
        // The tasks that were woken mostly read all of it, so that the transport need not be paused.
        if stop || is_much {
            Self::let_tasks_run(slf, stop)
        } else {
            Ok(())
        }
    }

    /// Take data from the transport.
    pub(super) fn feed(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.state.lock().eof {
            return Err(exception::<PyAssertionError>("feed_data after feed_eof"));
        }
        let export = Export::readable(data)?;
        if export.len() == 0 {
            return Ok(());
        }
        self.absorb(py)?;
        let mut taken = 0;
        let target = self.target(py);
        if let Some(target) = target {
            let target = target.get();
            taken = export
                .len()
                .min(target.len().saturating_sub(target.filled()));
            target.fill(target.filled(), &export, 0, taken)?;
            self.count_in_target(py, taken);
        }
        let rest = export.len().saturating_sub(taken);
        if rest > 0 {
            let (space, at) = self.space(py, rest)?;
            space.get().fill(at, &export, taken, rest)?;
            self.state.lock().ahead.add(rest);
        }
        self.expose(py)?;
        self.wake(py)?;
        self.hold_back(py)
    }

    /// Note that nothing more will come.
    pub(super) fn feed_end(&self, py: Python<'_>) -> PyResult<()> {
        self.state.lock().eof = true;
        self.forget_lent();
        self.wake(py)
    }

    /// Whether the stream is over, and all of it was read.
    pub(super) fn is_at_end(&self, py: Python<'_>) -> PyResult<bool> {
        self.absorb(py)?;
        let state = self.state.lock();
        Ok(state.eof && state.unread() == 0 && !state.has_begun)
    }
}

impl Reader {
    /// The memory that a waiting read wants filled.
    fn target(&self, py: Python<'_>) -> Option<Py<ReceiveBuffer>> {
        let state = self.state.lock();
        state.target.as_ref().map(|target| target.clone_ref(py))
    }

    /// Takes `n` bytes at `from` of memory that does not belong to the target.
    fn take_in(
        &self,
        py: Python<'_>,
        memory: &ReceiveBuffer,
        from: usize,
        n: usize,
    ) -> PyResult<()> {
        let mut taken = 0;
        let target = self.target(py);
        if let Some(target) = target {
            let target = target.get();
            taken = n.min(target.len().saturating_sub(target.filled()));
            memory.copy_to(from, target, target.filled(), taken)?;
            self.count_in_target(py, taken);
        }
        let (from, n) = (from.saturating_add(taken), n.saturating_sub(taken));
        if n == 0 {
            return Ok(());
        }
        let (space, at) = self.space(py, n)?;
        memory.copy_to(from, space.get(), at, n)?;
        self.state.lock().ahead.add(n);
        Ok(())
    }

    /// Counts `n` more bytes in the target, and ends the target when it is full.
    fn count_in_target(&self, py: Python<'_>, n: usize) {
        let mut state = self.state.lock();
        state.has_begun |= n > 0;
        let Some(target) = &state.target else { return };
        let filled = target.get().filled().saturating_add(n);
        target.get().set_filled(filled);
        if target.get().filled() == target.get().len() {
            let full = state.target.take();
            state.may_follow = true;
            drop(state);
            drop(full.map(|full| full.into_bound(py)));
        }
    }
}
