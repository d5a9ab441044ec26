//! What a forked child settles: the threads of its parent are gone, with all that they had or waited for.

use pyo3::prelude::*;

use super::registry;
use crate::error::Error;

/// Adapt all pools to this process, a forked child.
///
/// Requests that the parent queued leave the queue. Buffers that the parent had in use no longer count
/// against ``max_bytes``: the threads that would return them may not exist here.
#[pyfunction]
pub(super) fn settle_after_fork(py: Python<'_>) -> PyResult<()> {
    let pools = registry::live(py).ok_or(Error::OutOfMemory { requested: 0 })?;
    for pool in pools {
        pool.get().settle_after_fork();
    }
    Ok(())
}
