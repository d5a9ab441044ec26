//! Waking a waiter by a call into Python.

use std::thread;

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::budget::Wake;
use crate::python::once;

/// `_thread.start_new_thread`. Imported with the first waiter, because it may be needed when memory or the
/// stack is used up.
static START_THREAD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Calls `wake` once.
pub(super) fn waker(py: Python<'_>, wake: Py<PyAny>) -> PyResult<Wake> {
    once::import(&START_THREAD, py, "_thread", "start_new_thread")?;
    let woken = Wake::new(move || {
        // `None`: the interpreter shuts down, and no task waits any more.
        let failed = Python::try_attach(|py| call(py, &wake).err()).flatten();
        if let Some(error) = failed {
            let no_memory = Python::attach(|py| {
                let no_memory = error.is_instance_of::<PyMemoryError>(py);
                report(py, error, &wake);
                no_memory
            });
            // Otherwise the call failed because of this thread: it had to handle a signal, or its stack is used
            // up. The waiter must be woken all the same, so another thread does it. Without memory, starting a
            // thread would abort the process. The waiting task looks from time to time (`bytepool/_budget.py`).
            if !no_memory {
                let thread = thread::Builder::new();
                let _ = thread.spawn(move || Python::try_attach(|py| start_thread(py, &wake)));
            }
        }
    });
    Ok(woken?)
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
