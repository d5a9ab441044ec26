//! The core's pool as a Python object, so that leases share it by Python's reference count: an `Arc`'s
//! would be two more atomic operations a buffer, on one counter for all threads.

use std::ops::Deref;

use pyo3::prelude::*;

use crate::pool::Pool;

/// What a ``Pool`` shares with the memory that it lent: its buckets and counters.
#[pyclass(frozen, module = "bytepool._bytepool")]
struct CorePool(Pool);

/// A share of it.
pub(super) struct Core(Py<CorePool>);

impl Core {
    pub(super) fn new(py: Python<'_>, pool: Pool) -> PyResult<Self> {
        Ok(Self(Py::new(py, CorePool(pool))?))
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
