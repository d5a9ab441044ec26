//! Clean-up in a forked child: its parent's threads are gone, and so are the waits and buffers of those threads.

use pyo3::prelude::*;

use super::registry;

/// Adapt all pools to this process, a forked child.
///
/// Requests that the parent queued leave the queue. Buffers that the parent had in use no longer count
/// against ``max_bytes``: the threads that would return them may not exist here.
#[pyfunction]
pub(super) fn settle_after_fork(py: Python<'_>) -> PyResult<()> {
    for pool in registry::live(py)? {
        pool.get().settle_after_fork();
    }
    Ok(())
}
