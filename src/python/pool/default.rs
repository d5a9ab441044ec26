//! `bytepool.default_pool()`. The pool is here, because a program can import Python's modules anew.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;

use super::Pool;
use crate::python::once;

/// Return the process's own pool, which is used wherever ``pool=`` is not given.
///
/// The first call creates it as ``Pool(name="default")``. Every caller and every thread gets the same pool.
/// Its ``stats()``, ``trim()``, ``track`` and ``tracked()`` work as for any pool. Closing it closes it for
/// all its users. If you need other parameters, create a pool of your own and pass it as ``pool=``.
#[pyfunction]
pub(crate) fn default_pool(py: Python<'_>) -> PyResult<Py<Pool>> {
    static POOL: PyOnceLock<Py<Pool>> = PyOnceLock::new();
    let pool = once::get_or_try_init(&POOL, py, || {
        let options = [(intern!(py, "name"), "default")].into_py_dict(py)?;
        let pool = py.get_type::<Pool>().call((), Some(&options))?;
        Ok(pool.cast_into::<Pool>()?.unbind())
    })?;
    Ok(pool.clone_ref(py))
}
