//! Clean-up in a forked child: its parent's threads are gone, and so are the waits and buffers of those threads.

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
