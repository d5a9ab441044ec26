//! Garbage collection on behalf of requests that a budget refuses.
//!
//! A view can stay in use although no code can reach it any more. In a reference cycle it stays until the garbage
//! collector runs. In a Python without a GIL, an object that is dropped by another thread than its creator is
//! freed when its creator next runs Python code, which may be much later, or when the garbage collector runs.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::once;
use crate::sync::{AtomicU64, Ordering};

/// How long to wait after a collection, in multiples of its duration: so collections take at most 5 % of the time.
const PAUSE: f64 = 20.0;

/// When the last collection ended, and how long it took: the bits of seconds.
static END: AtomicU64 = AtomicU64::new(0);
static DURATION: AtomicU64 = AtomicU64::new(0);

/// Collects garbage, and returns whether this happened.
///
/// Nothing happens if the last collection ended less than ``min_pause`` seconds ago, or 20 times its
/// duration.
// Here and not in Python, because this must run no bytecode, see `free_dropped`.
#[pyfunction]
pub(super) fn collect_garbage(py: Python<'_>, min_pause: f64) -> PyResult<bool> {
    let seconds = |of: &AtomicU64| f64::from_bits(of.load(Ordering::Relaxed));
    let begin = now(py)?;
    // Below 0 if a test has moved the clock since then, as `freezegun` does.
    let since = begin - seconds(&END);
    if since >= 0.0 && since < (PAUSE * seconds(&DURATION)).max(min_pause) {
        return Ok(false);
    }
    let gc = py.import(intern!(py, "gc"))?;
    gc.call_method0(intern!(py, "collect"))?;
    let end = now(py)?;
    END.store(end.to_bits(), Ordering::Relaxed);
    DURATION.store((end - begin).to_bits(), Ordering::Relaxed);
    Ok(true)
}

/// Frees the objects of this thread that other threads have dropped. A Python without a GIL does this when a function
/// begins.
///
/// With a GIL this must not be called: a daemon thread that runs bytecode below a frame of Rust aborts the process if
/// the interpreter shuts down meanwhile. A free-threaded Python halts such a thread (3.14 and later).
pub(super) fn free_dropped(py: Python<'_>) -> PyResult<()> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let function = once::get_or_try_init(&FUNCTION, py, || {
        Ok(py.eval(c"lambda: None", None, None)?.unbind())
    })?;
    function.call0(py)?;
    Ok(())
}

fn now(py: Python<'_>) -> PyResult<f64> {
    let time = py.import(intern!(py, "time"))?;
    time.call_method0(intern!(py, "monotonic"))?.extract()
}
