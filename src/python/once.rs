//! Values that are made once, by Python code that may need the same value again while it runs.
//!
//! `PyOnceLock::get_or_try_init` and `import` hold the lock while they make the value. Making a Python object
//! can start the garbage collector, and a finalizer can call the pool, which would then wait for itself for
//! ever. The functions here make the value without a lock. If several are made, the first one stays.

use pyo3::PyTypeCheck;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub(super) fn get_or_try_init<'a, T>(
    cell: &'a PyOnceLock<T>,
    py: Python<'_>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    if let Some(value) = cell.get(py) {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(py, || value))
}

/// The attribute of a module, imported by the first call.
pub(super) fn import<'a, 'py, T: PyTypeCheck>(
    cell: &'a PyOnceLock<Py<T>>,
    py: Python<'py>,
    module: &str,
    attribute: &str,
) -> PyResult<&'a Bound<'py, T>> {
    let value = get_or_try_init(cell, py, || {
        let value = py.import(module)?.getattr(attribute)?;
        Ok(value.cast_into()?.unbind())
    })?;
    Ok(value.bind(py))
}
