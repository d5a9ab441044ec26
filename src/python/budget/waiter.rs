//! `bytepool._bytepool.Waiter`: a queued request of a task that waits in `bytepool/_budget.py`.

use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::wake::waker;
use crate::python::allocator::Allocator;
use crate::python::args::{Integer, Limit};
use crate::python::lease::Lease;
use crate::python::pool::Pool;
use crate::python::shared::{PoolRef, WaiterGuard};

/// A queued request for ``n`` bytes of a pool's budget.
///
/// ``wake()`` is called once, by any thread, when ``take()`` or ``view()`` can be called. At the end of the
/// ``with`` block the waiter leaves the queue. Bytes that it was granted and did not take pass to the next
/// waiter.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(crate) struct Waiter {
    pool: Py<Pool>,
    n: usize,
    guard: WaiterGuard<PoolRef>,
}

#[pymethods]
impl Waiter {
    #[new]
    fn new(py: Python<'_>, pool: Py<Pool>, n: Integer, wake: Py<PyAny>) -> PyResult<Self> {
        let n = n.check("n", Limit::Platform)?;
        let guard = WaiterGuard::enqueue(pool.get().core().share(py), n, waker(py, wake)?)?;
        Ok(Self { pool, n, guard })
    }

    /// Return an Allocator that holds the granted bytes.
    ///
    /// Raises PoolExhaustedError while nothing is granted, and PoolClosedError if the pool was closed or
    /// the bytes were already taken.
    fn take(&self, py: Python<'_>) -> PyResult<Py<Allocator>> {
        Allocator::holding(self.pool.bind(py).clone(), self.lease(py, true)?)
    }

    /// Return the granted bytes as a memoryview, without a handle.
    ///
    /// Raises what ``take()`` raises.
    fn view(&self, py: Python<'_>) -> PyResult<Py<PyMemoryView>> {
        let lease = self.lease(py, false)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        Ok(view)
    }

    /// Whether nothing was granted yet, and the pool is open.
    #[getter]
    fn waits(&self) -> bool {
        self.guard.is_waiting()
    }

    /// Leave the queue.
    fn leave(&self) {
        self.guard.leave();
    }

    /// Return the waiter itself.
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Leave the queue.
    fn __exit__(
        &self,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.guard.leave();
    }
}

impl Waiter {
    fn lease<'py>(&self, py: Python<'py>, has_handle: bool) -> PyResult<Bound<'py, Lease>> {
        let pool = self.pool.bind(py);
        let core = pool.get().core();
        match core.share(py).lend_to_waiter(py, self.n, &self.guard) {
            Some(lent) => Pool::lease_of(pool, lent?, has_handle),
            None => Err(core.exhausted(self.n).into()),
        }
    }
}
