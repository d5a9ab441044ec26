//! Pooled memory for a read.

use pyo3::exceptions::PyOverflowError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::state::Reader;
use crate::python::args::Timeout;
use crate::python::error::exception;
use crate::python::lease::Lease;
use crate::python::pool::Pool;
use crate::python::pool::default::default_pool;

impl Reader {
    /// A memoryview of `n` bytes of the reader's pool.
    pub(super) fn lend(&self, py: Python<'_>, n: usize) -> PyResult<Py<PyAny>> {
        let pool = self.pool(py)?;
        let Ok(pool) = pool.cast::<Pool>() else {
            return pool
                .call_method1(intern!(py, "view"), (n,))
                .map(Bound::unbind);
        };
        let lease = Pool::lease(pool, n, Timeout::NO_WAIT, false)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        if pool.get().core().config().max_bytes.is_some() {
            self.note_view(view.bind(py))?;
        }
        Ok(view.into_any())
    }

    /// Remembers the view, without keeping it.
    pub(super) fn note_view(&self, view: &Bound<'_, PyAny>) -> PyResult<()> {
        let reference = PyWeakrefReference::new(view)?.unbind();
        let before = self.state.lock().last_view.replace(reference);
        drop(before);
        Ok(())
    }

    /// The error of the reader's pool for a size that no buffer can have.
    pub(super) fn refuse(&self, n: &Bound<'_, PyAny>) -> PyErr {
        let refused = self
            .pool(n.py())
            .and_then(|pool| pool.call_method1("view", (n,)));
        refused.map_or_else(
            |error| error,
            |_| exception::<PyOverflowError>("n is not a size"),
        )
    }

    fn pool<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let known = {
            let state = self.state.lock();
            state.pool.as_ref().map(|pool| pool.bind(py).clone())
        };
        match known {
            Some(pool) => Ok(pool),
            None => Ok(default_pool(py)?.into_bound(py).into_any()),
        }
    }
}
