//! Waiting for a pool's budget: a thread or a greenlet waits here, a task of an event loop in
//! `bytepool/_budget.py`.

mod greenlet;
pub(super) mod waiter;
mod wake;

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::args::Timeout;
use super::garbage::{collect_garbage, free_dropped};
use super::once;
use super::shared::{PoolRef, WaiterGuard};
use crate::budget::Wake;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::sync::Parker;
use greenlet::Greenlet;

/// A thread that waits handles signals at least this often.
const MAX_PARK: Duration = Duration::from_millis(50);

/// gevent handles the signals while a greenlet waits.
const GREENLET_PARK: Duration = Duration::from_secs(1);

/// In a free-threaded Python the thread itself may have to free the memory that it waits for, see
/// `garbage.rs`, so it first looks after a shorter time.
const FIRST_PARK: Duration = if cfg!(Py_GIL_DISABLED) {
    Duration::from_millis(1)
} else {
    MAX_PARK
};

/// Seconds between two garbage collections while a request waits, if collections are fast (see `garbage.rs`). In a
/// free-threaded Python only a collection frees objects of a third thread, which runs no Python code either.
const COLLECT_EVERY: f64 = if cfg!(Py_GIL_DISABLED) { 0.05 } else { 1.0 };

/// Serves a request that the budget refused. A reference cycle may hold the memory, so this collects garbage
/// before it waits as long as `timeout` says.
#[cold]
#[inline(never)]
pub(super) fn lend_refused(
    py: Python<'_>,
    pool: &PoolRef,
    n: usize,
    timeout: Timeout,
    refusal: Error,
) -> PyResult<Buffer<PoolRef>> {
    let mut refused = Err(refusal);
    if collect_garbage(py, 0.0)? {
        refused = pool.share(py).lend(py, n);
    }
    match refused {
        Err(Error::Exhausted { .. }) if timeout.waits() => wait(py, pool, n, timeout),
        result => Ok(result?),
    }
}

/// Blocks the thread or the greenlet until the budget has `n` bytes for it, and returns the buffer.
///
/// A thread waits in Rust, detached from the interpreter, which may end a detached thread at any time. It parks
/// for short times and handles signals between them.
fn wait(py: Python<'_>, pool: &PoolRef, n: usize, timeout: Timeout) -> PyResult<Buffer<PoolRef>> {
    let deadline = Instant::now().checked_add(timeout.duration());
    let parker = Parker::default();
    let greenlet = Greenlet::current(py)?;
    let wake = match &greenlet {
        Some(greenlet) => greenlet.waker()?,
        None => Wake::new(parker.waker())?,
    };
    let waiter = WaiterGuard::enqueue(pool.share(py), n, wake)?;
    let mut park = FIRST_PARK;
    loop {
        if let Some(lent) = pool.share(py).lend_to_waiter(py, n, &waiter) {
            return Ok(lent?);
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            waiter.leave();
            return Err(pool.exhausted(n).into());
        }
        let until = |end: Option<Instant>| end.min(deadline.or(end));
        match &greenlet {
            Some(greenlet) => greenlet.park(until(now.checked_add(GREENLET_PARK)))?,
            None => {
                py.detach(|| parker.park(until(now.checked_add(park))));
            }
        }
        py.check_signals()?;
        if cfg!(Py_GIL_DISABLED) {
            free_dropped(py)?;
        }
        collect_garbage(py, COLLECT_EVERY)?;
        park = park.saturating_mul(2).min(MAX_PARK);
    }
}

/// The coroutine of `Pool.allocate_async`.
pub(super) fn allocate_async<'py>(
    pool: &Bound<'py, PyAny>,
    n: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static ALLOCATE_ASYNC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let allocate = once::import(
        &ALLOCATE_ASYNC,
        pool.py(),
        "bytepool._budget",
        "allocate_async",
    )?;
    allocate.call1((pool, n))
}
