//! `bytepool._bytepool.Ticket`: a place in the queue for bytes of the budget. The task that waits with
//! it is in `bytepool/_waiting.py`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyMemoryView;

use super::allocator::Allocator;
use super::args::Size;
use super::lease::Lease;
use super::pool::Pool;
use super::shared::Core;
use super::tracking::Tracker;
use crate::budget::Wake;
use crate::budget::pool::Place;

/// A place in the queue for ``n`` bytes of a pool's budget.
///
/// ``wake()`` is called, by any thread, when it is worth while to call ``take()``. Leaving the context
/// leaves the queue, and what was granted and not taken goes to who comes next.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(super) struct Ticket {
    pool: Py<Pool>,
    n: usize,
    place: Place<Core>,
}

#[pymethods]
impl Ticket {
    #[new]
    fn new(py: Python<'_>, pool: Py<Pool>, n: Size, wake: Py<PyAny>) -> PyResult<Self> {
        let place = Place::join(pool.get().share(py), n.0, waker(py, wake)?)?;
        Ok(Self {
            pool,
            n: n.0,
            place,
        })
    }

    /// An allocator that holds the bytes. Raises PoolExhaustedError as long as they are not there, and
    /// PoolClosedError if the pool was closed, or they were taken already.
    fn take(&self, py: Python<'_>) -> PyResult<Py<Allocator>> {
        Allocator::holding(self.pool.bind(py).clone(), self.lease(py, true)?)
    }

    /// The same as a memoryview, without a handle.
    fn view(&self, py: Python<'_>) -> PyResult<Py<PyMemoryView>> {
        let lease = self.lease(py, false)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        Ok(view)
    }

    /// Leaves the queue.
    fn leave(&self) {
        self.place.leave();
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
        self.place.leave();
    }
}

impl Ticket {
    fn lease<'py>(&self, py: Python<'py>, handle: bool) -> PyResult<Bound<'py, Lease>> {
        let pool = self.pool.bind(py);
        let note = || Tracker::note(pool, self.n, handle);
        let core = pool.get().share(py);
        match Lease::create_in_turn(py, core, self.n, note, &self.place.turn) {
            Some(lease) => lease,
            None => Err(pool.get().core().exhausted(self.n).into()),
        }
    }
}

/// Starts a thread of Python's. Imported before it is needed, which may be in the worst of circumstances.
static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Calls `wake` once.
fn waker(py: Python<'_>, wake: Py<PyAny>) -> PyResult<Wake> {
    START.import(py, "_thread", "start_new_thread")?;
    Ok(Box::new(move || {
        // None: the interpreter is going down, and nobody waits any more.
        let failed = Python::try_attach(|py| call(py, &wake).err()).flatten();
        if let Some(error) = failed {
            Python::attach(|py| report(py, error, &wake));
            // What stood in its way was this thread's: a signal that it had to handle, a stack that was
            // used up. Who waits must not suffer for it.
            std::thread::spawn(move || Python::try_attach(|py| start(py, &wake)));
        }
    }))
}

/// Calls `wake` in a thread of Python's, which the interpreter can end at any moment when it goes down. In
/// one of Rust's that would abort the process, so such a one must not run any code in Python.
fn start(py: Python<'_>, wake: &Py<PyAny>) {
    let started = START.get(py).map(|start| start.call1(py, (wake, ())));
    if let Some(Err(error)) = started {
        error.write_unraisable(py, Some(wake.bind(py)));
    }
}

/// Memory may come home while an exception is on its way up, and code that runs then must not see it.
fn call(py: Python<'_>, wake: &Py<PyAny>) -> PyResult<()> {
    let pending = PyErr::take(py);
    let result = wake.call0(py).map(drop);
    if let Some(pending) = pending {
        pending.restore(py);
    }
    result
}

/// Nobody is there to raise it to; but an interrupt is not to be lost.
fn report(py: Python<'_>, error: PyErr, wake: &Py<PyAny>) {
    let pending = PyErr::take(py);
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        let interrupted = py.import(intern!(py, "_thread"));
        let again =
            interrupted.and_then(|module| module.call_method0(intern!(py, "interrupt_main")));
        if let Err(error) = again {
            error.write_unraisable(py, None);
        }
    } else {
        error.write_unraisable(py, Some(wake.bind(py)));
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}
