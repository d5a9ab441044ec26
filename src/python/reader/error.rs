//! The errors of asyncio's reader.

use pyo3::exceptions::{PyMemoryError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// `asyncio.IncompleteReadError`, of which `partial` may have fewer bytes than `came`.
#[cold]
pub(super) fn incomplete<'py>(
    partial: Bound<'py, PyAny>,
    came: usize,
    expected: impl IntoPyObject<'py>,
) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = partial.py();
    let error = || {
        let carried = partial.len()?;
        let error = CLASS
            .import(py, "asyncio", "IncompleteReadError")?
            .call1((partial, expected))?;
        if carried < came {
            let expected = error.getattr("expected")?;
            let text = PyString::from_fmt(
                py,
                format_args!("{came} bytes read on a total of {expected} expected bytes"),
            )?;
            error.setattr("args", (text,))?;
        }
        Ok(error)
    };
    error().map_or_else(|error| error, PyErr::from_value)
}

/// `asyncio.LimitOverrunError`.
#[cold]
pub(super) fn overrun(py: Python<'_>, message: &str, consumed: usize) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let error = CLASS
        .import(py, "asyncio", "LimitOverrunError")
        .and_then(|class| class.call1((message, consumed)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// Whether the error means that there is no memory of that size.
pub(super) fn is_want_of_memory(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyMemoryError>(py) || error.is_instance_of::<PyOverflowError>(py)
}
