//! Waking the waiting task, and pausing and resuming the transport.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::Reader;

impl Reader {
    /// Wakes the waiting task if its bytes are there.
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.state.lock().waiter_to_wake();
        match waiter {
            Some(waiter) => wake(waiter.bind(py)),
            None => Ok(()),
        }
    }

    /// Pauses the transport if too many bytes are unread.
    pub(super) fn hold_back(&self, py: Python<'_>) -> PyResult<()> {
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
    pub(super) fn resume(&self, py: Python<'_>, even_if_much: bool) -> PyResult<()> {
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

    /// Lets tasks run, which can start their next reads, before it is decided whether to receive more. With `stop`,
    /// nothing is received meanwhile.
    pub(super) fn let_tasks_run(slf: &Bound<'_, Self>, stop: bool) -> PyResult<()> {
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

pub(super) fn wake(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    waiter
        .call_method1(intern!(py, "set_result"), (py.None(),))
        .map(drop)
}
