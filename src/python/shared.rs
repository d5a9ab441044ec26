//! The core's pool as a Python object, so that leases share it by Python's reference count: an `Arc`'s
//! would be two more atomic operations a buffer, on one counter for all threads.

use std::ops::Deref;

use pyo3::prelude::*;

use super::decay::Collector;
use crate::pool::Pool;

/// What a ``Pool`` shares with the memory that it lent: its buckets and counters.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(super) struct CorePool(Pool);

impl CorePool {
    // Stays attached to the interpreter, though it may take a while: a process forks while it is
    // attached, and no lock may be held by another thread then.
    pub(super) fn decay(&self) -> usize {
        self.0.decay()
    }
}

/// A share of it.
pub(super) struct Core(Py<CorePool>);

impl Core {
    pub(super) fn new(py: Python<'_>, pool: Pool) -> PyResult<Self> {
        let idle_timeout = pool.config().idle_timeout;
        let core = Py::new(py, CorePool(pool))?;
        if let Some(idle_timeout) = idle_timeout {
            Collector::watch(core.bind(py), idle_timeout)?;
        }
        Ok(Self(core))
    }

    pub(super) fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }
}

impl Deref for Core {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.0.get().0
    }
}
