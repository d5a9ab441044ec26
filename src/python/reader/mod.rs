//! `bytepool._bytepool.Reader`, the native half of `bytepool.streams.StreamReader`. This file takes bytes and the end of
//! the stream from the transport. `state.rs` has the fields, `ahead.rs` the unread bytes, `work.rs`, `read.rs` and
//! `ops.rs` the reads, `methods.rs` the Python methods.
//!
//! The lock of the state is never held while Python code runs.

mod ahead;
mod exposed;
mod frames;
mod methods;
mod ops;
mod read;
mod separators;
mod state;
mod work;

use pyo3::exceptions::{PyAssertionError, PyNotImplementedError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::bytes::{Export, ReceiveBuffer};
use super::error::exception;
use crate::sync::Mutex;
use state::{Lent, Place, State};

/// The native half of ``bytepool.streams.StreamReader``.
#[pyclass(subclass, frozen, module = "bytepool._bytepool")]
pub(super) struct Reader {
    state: Mutex<State>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::default()),
        }
    }
}

impl Reader {
    /// Wakes the waiting task if its bytes are there.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.state.lock().waiter_to_wake();
        match waiter {
            Some(waiter) => wake(waiter.bind(py)),
            None => Ok(()),
        }
    }

    /// Pauses the transport if too many bytes are unread.
    fn hold_back(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.state.lock().transport_to_pause(py) else {
            return Ok(());
        };
        match transport.call_method0(py, intern!(py, "pause_reading")) {
            // The transport cannot be paused. It is forgotten, so that this is not tried again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                let mut state = self.state.lock();
                state.paused = false;
                let forgotten = state.transport.take();
                drop(state);
                drop(forgotten);
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Resumes the transport if it was paused.
    fn resume(&self, py: Python<'_>, even_if_much: bool) -> PyResult<()> {
        let transport = self.state.lock().transport_to_resume(py, even_if_much);
        let Some(transport) = transport else {
            return Ok(());
        };
        // In the task's context, asyncio would keep the values of the task's context variables.
        let context = py
            .import(intern!(py, "contextvars"))?
            .call_method0(intern!(py, "Context"))?;
        let resume = transport.getattr(py, intern!(py, "resume_reading"))?;
        context
            .call_method1(intern!(py, "run"), (resume,))
            .map(drop)
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
        let target = self
            .state
            .lock()
            .target
            .as_ref()
            .map(|target| target.clone_ref(py));
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
        let (room, at) = self.room(py, n)?;
        memory.copy_to(from, room.get(), at, n)?;
        self.state.lock().ahead.add(n);
        Ok(())
    }

    /// Counts `n` more bytes in the target, and ends the target when it is full.
    fn count_in_target(&self, py: Python<'_>, n: usize) {
        let mut state = self.state.lock();
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

    /// Lets tasks run, which can start their next reads, before it is decided whether to receive more. With `stop`,
    /// nothing is received meanwhile.
    fn let_tasks_run(slf: &Bound<'_, Self>, stop: bool) -> PyResult<()> {
        let py = slf.py();
        let (transport, event_loop) = {
            let state = slf.get().state.lock();
            match (&state.transport, &state.event_loop) {
                (Some(transport), Some(event_loop)) if !state.paused => {
                    (transport.clone_ref(py), event_loop.clone_ref(py))
                }
                _ => return Ok(()),
            }
        };
        if is_closing(transport.bind(py))? {
            return Ok(());
        }
        if stop {
            transport.call_method0(py, intern!(py, "pause_reading"))?;
            slf.get().state.lock().stopped = true;
        }
        let read_on = slf.getattr(intern!(py, "_read_on"))?;
        event_loop
            .call_method1(py, intern!(py, "call_soon"), (read_on,))
            .map(drop)
    }
}

/// Called by the transport through the protocol.
impl Reader {
    /// Where the transport is to receive to: ``least`` bytes or more.
    pub(super) fn get_buffer<'py>(
        &self,
        py: Python<'py>,
        least: usize,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        self.absorb(py)?;
        let target = self
            .state
            .lock()
            .target
            .as_ref()
            .map(|target| target.clone_ref(py));
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
                let (memory, at) = self.room(py, size)?;
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
            return Err(exception::<PyValueError>(format!(
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
        let (stop, is_much) = {
            let mut state = this.state.lock();
            let follows = state.may_follow && state.ahead.unread() == 0;
            let stop = state.greedy && was_full && state.target.is_none() && !follows;
            state.may_follow = follows;
            (stop, state.is_much_unread())
        };
        this.wake(py)?;
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
        let target = self
            .state
            .lock()
            .target
            .as_ref()
            .map(|target| target.clone_ref(py));
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
            let (room, at) = self.room(py, rest)?;
            room.get().fill(at, &export, taken, rest)?;
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
        Ok(state.eof && state.ahead.unread() == 0)
    }

    /// Goes on after `let_tasks_run`.
    pub(super) fn read_on(&self, py: Python<'_>) -> PyResult<()> {
        let (transport, stopped) = {
            let mut state = self.state.lock();
            let stopped = std::mem::take(&mut state.stopped);
            let transport = state.transport.as_ref().filter(|_| !state.paused);
            (transport.map(|transport| transport.clone_ref(py)), stopped)
        };
        match transport {
            Some(transport) if !is_closing(transport.bind(py))? => {
                self.hold_back(py)?;
                if stopped && !self.state.lock().paused {
                    transport.call_method0(py, intern!(py, "resume_reading"))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn is_closing(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    transport
        .call_method0(intern!(transport.py(), "is_closing"))?
        .is_truthy()
}

fn wake(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    waiter
        .call_method1(intern!(py, "set_result"), (py.None(),))
        .map(drop)
}
