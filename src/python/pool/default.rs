//! `bytepool.default_pool()`. The pool is here, because a program can import Python's modules anew.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;

use super::Pool;

/// Return the process's own pool, which is used wherever ``pool=`` is not given.
///
/// The first call creates it as ``Pool(name="default")``. Every caller and every thread gets the same pool.
/// Its ``stats()``, ``trim()``, ``track`` and ``tracked()`` work as for any pool. Closing it closes it for
/// all its users. If you need other parameters, create a pool of your own and pass it as ``pool=``.
#[pyfunction]
pub(crate) fn default_pool(py: Python<'_>) -> PyResult<Py<Pool>> {
    static POOL: PyOnceLock<Py<Pool>> = PyOnceLock::new();
    if let Some(pool) = POOL.get(py) {
        return Ok(pool.clone_ref(py));
    }
    // Not inside `get_or_init`: a finalizer may run meanwhile and call this function. The first pool stays.
    let options = [(intern!(py, "name"), "default")].into_py_dict(py)?;
    let pool = py.get_type::<Pool>().call((), Some(&options))?;
    let pool = pool.cast_into::<Pool>()?.unbind();
    let kept = POOL.get_or_init(py, || pool.clone_ref(py));
    Ok(kept.clone_ref(py))
}
