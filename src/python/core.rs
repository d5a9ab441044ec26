//! The core's pool as a Python object, so that leases share it by Python's reference count: an `Arc`'s
//! would be two more atomic operations a buffer, on one counter for all threads.

use std::ops::Deref;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::pool::Pool;

static WATCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

// Its methods stay attached to the interpreter, even those that may take a while: a process forks
// while it is attached, and no lock may be held by another thread then.
/// What a ``Pool`` shares with the memory that it lent: its buckets and counters.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
struct CorePool(Pool);

#[pymethods]
impl CorePool {
    /// As ``Pool.decay``.
    fn decay(&self) -> usize {
        self.0.decay()
    }
}

/// A share of it.
pub(super) struct Core(Py<CorePool>);

impl Core {
    pub(super) fn new(py: Python<'_>, pool: Pool) -> PyResult<Self> {
        let decays = pool.config().idle_timeout.is_some();
        let core = Py::new(py, CorePool(pool))?;
        if decays {
            WATCH
                .import(py, "bytepool.decay", "_watch")?
                .call1((&core,))?;
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
