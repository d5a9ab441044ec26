//! The core's pool as a Python object, and lending from it.

use std::ops::Deref;

use pyo3::prelude::*;

pub(super) use crate::budget::pool::WaiterGuard;
use crate::buffer::{Buffer, Lent};
use crate::error::Error;
use crate::pool::Pool;

/// Preparing fewer bytes takes less time than detaching from the interpreter and attaching again.
const LARGE: usize = 64 << 10;

/// What a ``Pool`` shares with the buffers that it lent: its buckets and counters.
// Leases share it by Python's reference count. An `Arc` would cost two more atomic operations per buffer,
// on one counter that all threads share.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(super) struct SharedPool(Pool);

impl SharedPool {
    // Stays attached to the interpreter, although it may take a while. Under a GIL no other thread can fork
    // meanwhile, so the child process never gets a lock that this thread holds.
    pub(super) fn decay(&self) -> usize {
        self.0.decay()
    }
}

/// A strong reference to a [`SharedPool`].
pub(super) struct PoolRef(Py<SharedPool>);

impl PoolRef {
    pub(super) fn new(py: Python<'_>, pool: Pool) -> PyResult<Self> {
        Py::new(py, SharedPool(pool)).map(Self)
    }

    pub(super) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, SharedPool> {
        self.0.bind(py)
    }

    pub(super) fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// A buffer of `n` bytes, ready for its user.
    #[inline]
    pub(super) fn lend(self, py: Python<'_>, n: usize) -> Result<Buffer<Self>, Error> {
        prepared(py, Pool::lend(self, n)?)
    }

    /// The buffer of `n` bytes that the waiter was granted; `None` while it still waits.
    pub(super) fn lend_to_waiter(
        self,
        py: Python<'_>,
        n: usize,
        waiter: &WaiterGuard<Self>,
    ) -> Option<Result<Buffer<Self>, Error>> {
        let lent = Pool::lend_to_waiter(self, n, &waiter.waiter)?;
        Some(lent.and_then(|lent| prepared(py, lent)))
    }
}

impl Deref for PoolRef {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.0.get().0
    }
}

#[inline]
fn prepared(py: Python<'_>, lent: Lent<PoolRef>) -> Result<Buffer<PoolRef>, Error> {
    match lent {
        Lent::Ready(buffer) => Ok(buffer),
        Lent::Unprepared(buffer) => prepare(py, buffer),
    }
}

#[cold]
fn prepare(py: Python<'_>, mut buffer: Buffer<PoolRef>) -> Result<Buffer<PoolRef>, Error> {
    detach_if_large(py, buffer.len(), || buffer.prepare())?;
    Ok(buffer)
}

/// Does work that reads or writes so many bytes. Other threads run meanwhile if that takes long.
pub(super) fn detach_if_large<R: Send>(
    py: Python<'_>,
    bytes: usize,
    work: impl FnOnce() -> R + Send,
) -> R {
    if bytes < LARGE {
        work()
    } else {
        py.detach(work)
    }
}
