//! Waiting in a greenlet of gevent. Its thread must not block, because other greenlets run in it.

use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;

use super::wake::waker;
use crate::budget::Wake;

/// The current greenlet, in a thread that gevent runs. It waits for an event, while others run.
pub(super) struct Greenlet<'py>(Bound<'py, PyAny>);

impl<'py> Greenlet<'py> {
    /// `None` in all other threads. There, this runs no bytecode, which a daemon thread must not do below a
    /// frame of Rust.
    pub(super) fn current(py: Python<'py>) -> PyResult<Option<Self>> {
        let modules = py
            .import(intern!(py, "sys"))?
            .getattr(intern!(py, "modules"))?;
        // gevent's `get_hub` would make a hub in a thread that has none.
        let gevent = intern!(py, "gevent._hub_local");
        if !modules.contains(gevent)? {
            return Ok(None);
        }
        let gevent = modules.get_item(gevent)?;
        let hub = gevent.call_method0(intern!(py, "get_hub_if_exists"))?;
        if hub.is_none() {
            return Ok(None);
        }
        let module = py.import(intern!(py, "bytepool._greenlets"))?;
        let event = module.call_method1(intern!(py, "Event"), (hub,))?;
        Ok(Some(Self(event)))
    }

    /// Ends the wait. Any thread may call it.
    pub(super) fn waker(&self) -> PyResult<Wake> {
        let py = self.0.py();
        waker(py, self.0.getattr(intern!(py, "send"))?.unbind())
    }

    /// Waits until it is woken, or until then.
    pub(super) fn park(&self, until: Option<Instant>) -> PyResult<()> {
        let seconds = until.map(|until| until.saturating_duration_since(Instant::now()));
        let seconds = seconds.map(|seconds| seconds.as_secs_f64());
        let wait = intern!(self.0.py(), "wait");
        self.0.call_method1(wait, (seconds,)).map(drop)
    }
}

impl Drop for Greenlet<'_> {
    fn drop(&mut self) {
        let py = self.0.py();
        let pending = PyErr::take(py);
        if let Err(error) = self.0.call_method0(intern!(py, "stop")) {
            error.write_unraisable(py, Some(&self.0));
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }
}
