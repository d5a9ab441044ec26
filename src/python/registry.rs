//! The registry of the pools of this process, for the garbage collector's callback and for leak checks.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyWeakrefMethods, PyWeakrefReference};

use super::objects;
use super::shared::SharedPool;
use crate::error::Error;
use crate::fallible::list;
use crate::sync::Mutex;

/// Weak references to all pools, oldest first, and to pools that are gone.
static POOLS: PyOnceLock<Mutex<Vec<Py<PyWeakrefReference>>>> = PyOnceLock::new();

fn pools(py: Python<'_>) -> &'static Mutex<Vec<Py<PyWeakrefReference>>> {
    POOLS.get_or_init(py, || Mutex::new(Vec::new()))
}

/// Registers a pool for as long as it, or a buffer that it lent, exists.
pub(super) fn add(pool: &Bound<'_, SharedPool>) -> PyResult<()> {
    let py = pool.py();
    let new = PyWeakrefReference::new(pool)?.unbind();
    let is_full = {
        let pools = pools(py).lock();
        pools.len() == pools.capacity()
    };
    if is_full {
        // The registry must not grow with the number of pools ever made.
        let mut dead = references(py)?;
        dead.retain(|pool| pool.bind(py).upgrade().is_none());
        let mut pools = pools(py).lock();
        pools.retain(|pool| !dead.iter().any(|dead| dead.is(pool)));
        drop(pools);
    }
    let mut pools = pools(py).lock();
    let reserved = pools.try_reserve(1);
    reserved.map_err(|_| Error::OutOfMemory { requested: 0 })?;
    pools.push(new);
    Ok(())
}

/// A copy of the registry, to look at without its lock: the drop of the last reference to a pool runs Python code.
fn references(py: Python<'_>) -> Result<Vec<Py<PyWeakrefReference>>, Error> {
    let pools = pools(py).lock();
    let mut references = list(pools.len())?;
    references.extend(pools.iter().map(|pool| pool.clone_ref(py)));
    Ok(references)
}

/// All pools that exist, oldest first.
pub(super) fn live(py: Python<'_>) -> PyResult<Vec<Bound<'_, SharedPool>>> {
    let references = references(py)?;
    let mut live = list(references.len())?;
    for pool in references {
        live.extend(pool.bind(py).upgrade_as::<SharedPool>()?);
    }
    Ok(live)
}

/// Return all pools of the process, oldest first.
///
/// These include closed pools, and pools that exist only because buffers of theirs are in use.
#[pyfunction]
pub(super) fn live_pools(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    objects::list(py, live(py)?.into_iter().map(Bound::into_any))
}
