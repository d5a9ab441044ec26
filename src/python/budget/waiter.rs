//! `bytepool._bytepool.Waiter`: a queued request of a task that waits in `bytepool/_budget.py`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyMemoryView;

use crate::budget::Wake;
use crate::python::allocator::Allocator;
use crate::python::args::{Integer, Limit};
use crate::python::lease::Lease;
use crate::python::once;
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

/// `_thread.start_new_thread`. Imported with the first waiter, because it may be needed when memory or the
/// stack is used up.
static START_THREAD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Calls `wake` once.
fn waker(py: Python<'_>, wake: Py<PyAny>) -> PyResult<Wake> {
    once::import(&START_THREAD, py, "_thread", "start_new_thread")?;
    Ok(Box::new(move || {
        // `None`: the interpreter shuts down, and no task waits any more.
        let failed = Python::try_attach(|py| call(py, &wake).err()).flatten();
        if let Some(error) = failed {
            Python::attach(|py| report(py, error, &wake));
            // The call failed because of this thread: it had to handle a signal, or its stack is used up.
            // The waiter must be woken all the same, so another thread does it.
            std::thread::spawn(move || Python::try_attach(|py| start_thread(py, &wake)));
        }
    }))
}

/// Calls `wake` in a Python thread, which a shutdown of the interpreter can end at any moment. Ending a
/// Rust thread like this would abort the process, so a Rust thread must not run Python code.
fn start_thread(py: Python<'_>, wake: &Py<PyAny>) {
    let started = START_THREAD
        .get(py)
        .map(|start| start.call1(py, (wake, ())));
    if let Some(Err(error)) = started {
        error.write_unraisable(py, Some(wake.bind(py)));
    }
}

/// A buffer can be returned while an exception propagates, and `wake` must not see that exception.
fn call(py: Python<'_>, wake: &Py<PyAny>) -> PyResult<()> {
    let pending = PyErr::take(py);
    let result = wake.call0(py).map(drop);
    if let Some(pending) = pending {
        pending.restore(py);
    }
    result
}

/// No caller can receive the error. A KeyboardInterrupt is sent to the main thread instead.
fn report(py: Python<'_>, error: PyErr, wake: &Py<PyAny>) {
    let pending = PyErr::take(py);
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        let module = py.import(intern!(py, "_thread"));
        let interrupted =
            module.and_then(|module| module.call_method0(intern!(py, "interrupt_main")));
        if let Err(error) = interrupted {
            error.write_unraisable(py, None);
        }
    } else {
        error.write_unraisable(py, Some(wake.bind(py)));
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}
