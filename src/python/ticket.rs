//! `bytepool._bytepool.Ticket`: a place in the queue for bytes of the budget. What waits with it, a
//! thread or a task, is in `bytepool/_waiting.py`.

use pyo3::prelude::*;

use super::allocator::Allocator;
use super::lease::Lease;
use super::pool::Pool;
use super::size::Size;
use crate::budget::{Turn, Wake};
use crate::sync::Arc;

/// A place in the queue for ``n`` bytes of a pool's budget.
///
/// ``wake()`` is called, by any thread, when it is worth while to call ``take()``. Leaving the context
/// leaves the queue, and what was granted and not taken goes to who comes next.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Ticket {
    pool: Py<Pool>,
    n: usize,
    turn: Arc<Turn>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.get().core().leave_queue(&self.turn);
    }
}

#[pymethods]
impl Ticket {
    #[new]
    fn new(pool: Py<Pool>, n: Size, wake: Py<PyAny>) -> PyResult<Self> {
        let turn = pool.get().core().join_queue(n.0, waker(wake))?;
        Ok(Self { pool, n: n.0, turn })
    }

    /// An allocator that holds the bytes. Raises PoolExhaustedError as long as they are not there, and
    /// PoolClosedError if the pool was closed, or they were taken already.
    fn take(&self, py: Python<'_>) -> PyResult<Py<Allocator>> {
        let pool = self.pool.get();
        match Lease::create_in_turn(py, pool.share(py), self.n, &self.turn) {
            Some(lease) => Allocator::holding(self.pool.bind(py).clone(), lease?),
            None => Err(pool.core().exhausted(self.n).into()),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Leaves the queue.
    fn __exit__(
        &self,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.pool.get().core().leave_queue(&self.turn);
    }
}

/// Calls `wake` once. Memory may come home while an exception is on its way up, and code that runs
/// then must not see it.
fn waker(wake: Py<PyAny>) -> Wake {
    Box::new(move || {
        // None: the interpreter is going down, and nobody waits any more.
        Python::try_attach(|py| {
            let pending = PyErr::take(py);
            if let Err(error) = wake.call0(py) {
                error.write_unraisable(py, Some(wake.bind(py)));
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    })
}
