//! The registry of the pools of this process, for the garbage collector's callback and for leak checks.

use std::mem;
use std::sync::Weak;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::shared::SharedPool;
use crate::error::Error;
use crate::sync::Mutex;

static POOLS: PyOnceLock<Mutex<Vec<Entry>>> = PyOnceLock::new();

struct Entry {
    pool: Py<PyWeakrefReference>,
    /// Tells whether the pool exists, without a reference to it: the drop of the last one runs Python code.
    alive: Weak<()>,
}

fn pools(py: Python<'_>) -> &'static Mutex<Vec<Entry>> {
    POOLS.get_or_init(py, || Mutex::new(Vec::new()))
}

/// Registers a pool for as long as it, or a buffer that it lent, exists.
pub(super) fn add(pool: &Bound<'_, SharedPool>) -> PyResult<()> {
    let py = pool.py();
    let entry = Entry {
        pool: PyWeakrefReference::new(pool)?.unbind(),
        alive: pool.get().alive(),
    };
    let mut dead = Vec::new(); // dropped after the lock
    let mut pools = pools(py).lock();
    if pools.len() == pools.capacity() {
        // The registry must not grow with the number of pools ever made.
        let entries = mem::take(&mut *pools).into_iter();
        (*pools, dead) = entries.partition(|entry| entry.alive.strong_count() > 0);
        let room = pools.len().saturating_add(1);
        pools.reserve(room);
    }
    pools.push(entry);
    drop(pools);
    drop(dead);
    Ok(())
}

/// All pools that exist, oldest first; `None` if there is no memory for the list.
pub(super) fn live(py: Python<'_>) -> Option<Vec<Bound<'_, SharedPool>>> {
    let mut weak = Vec::new();
    let mut live = Vec::new();
    {
        let pools = pools(py).lock();
        weak.try_reserve_exact(pools.len()).ok()?;
        live.try_reserve_exact(pools.len()).ok()?;
        weak.extend(pools.iter().map(|entry| entry.pool.clone_ref(py)));
    }
    for pool in weak {
        live.extend(pool.bind(py).upgrade_as::<SharedPool>().ok()?);
    }
    Some(live)
}

/// Return all pools of the process, oldest first.
///
/// These include closed pools, and pools that exist only because buffers of theirs are in use.
#[pyfunction]
pub(super) fn live_pools(py: Python<'_>) -> PyResult<Vec<Bound<'_, SharedPool>>> {
    live(py).ok_or_else(|| Error::OutOfMemory { requested: 0 }.into())
}
