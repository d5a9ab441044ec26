//! The core's pool as a Python object, and lending from it.

use std::ops::Deref;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::args::{Choice, Chosen};
use super::config::{ConstructorCall, Kind};
use super::malloc;
use super::objects::string;
use super::tracking::{Level, Tracker};
pub(super) use crate::budget::requests::WaiterGuard;
use crate::buffer::{Buffer, Lent};
use crate::error::Error;
use crate::pool::Pool;
use crate::storage::{self, Storage};
use crate::sync::{AtomicUsize, Ordering};

/// Preparing fewer bytes takes less time than detaching from the interpreter and attaching again.
const LARGE: usize = 64 << 10;

/// Freeing fewer bytes takes less time than detaching from the interpreter and attaching again.
const LARGE_FREE: usize = 1 << 20;

/// A thread that frees many small buffers detaches once per this many.
const FREED_ATTACHED: usize = 1024;

/// What a ``Pool`` shares with the buffers that it lent: its buckets, its counters and its tracking.
///
/// ``live_pools()`` lists these objects. They keep no pool open.
// Leases share it by Python's reference count. An `Arc` would cost two more atomic operations per buffer,
// on one counter that all threads share.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(super) struct SharedPool {
    core: Pool,
    kind: Kind,
    name: Option<Py<PyString>>,
    tracker: Tracker,
}

impl SharedPool {
    // Stays attached to the interpreter, except while it frees memory, see `free`. Under a GIL no other thread can
    // fork while this one is attached, so the child process never gets a lock that this thread holds.
    pub(super) fn decay(&self) -> usize {
        self.core.decay()
    }

    pub(super) fn settle_after_fork(&self) {
        self.core.settle_after_fork();
    }

    pub(super) fn name(&self) -> Option<&Py<PyString>> {
        self.name.as_ref()
    }

    #[inline]
    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// What `repr` shows.
    pub(super) fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let name = self.name().map(|name| name.bind(py).repr()).transpose()?;
        let name = name.as_ref().map(|name| name.to_str()).transpose()?;
        let (kind, config) = (self.kind, &self.core.config());
        string(py, ConstructorCall { kind, config, name })
    }
}

#[pymethods]
impl SharedPool {
    /// How many buffers are in use, tracked or not.
    #[getter]
    fn outstanding(&self) -> PyResult<u64> {
        Ok(self.core.try_stats()?.outstanding)
    }

    /// Return what ``Pool.tracked()`` returns.
    fn tracked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.tracker.tracked(py)
    }

    /// Which buffers are tracked; see ``Pool.track``.
    #[getter]
    fn track(&self) -> &'static str {
        self.tracker.level().name()
    }

    #[setter]
    fn set_track(&self, track: Chosen<Level>) {
        self.tracker.set_level(track.0);
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.describe(py)
    }
}

/// A strong reference to a [`SharedPool`].
pub(super) struct PoolRef(Py<SharedPool>);

impl PoolRef {
    pub(super) fn new(
        py: Python<'_>,
        kind: Kind,
        mut core: Pool,
        name: Option<Py<PyString>>,
        tracker: Tracker,
    ) -> PyResult<Self> {
        core.free = free;
        let shared = SharedPool {
            core,
            kind,
            name,
            tracker,
        };
        Py::new(py, shared).map(Self)
    }

    #[inline]
    pub(super) fn get(&self) -> &SharedPool {
        self.0.get()
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
        &self.get().core
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

/// Frees memory that left a pool. Other threads run meanwhile if that takes long: the system needs about 70 ms per
/// GiB. No lock is held, so a fork is safe. (The child does not have the memory that is being freed, because it
/// does not have this thread.)
fn free(storages: &mut [Option<Storage>]) {
    static SMALL: AtomicUsize = AtomicUsize::new(0);
    let count = storages.iter().flatten().count();
    let lengths = storages.iter().flatten().map(Storage::len);
    let detach = lengths.fold(0, usize::saturating_add) >= LARGE_FREE || {
        let before = SMALL.fetch_add(count, Ordering::Relaxed);
        before % FREED_ATTACHED >= FREED_ATTACHED.saturating_sub(count)
    };
    if detach {
        // Not in an interpreter that has ended.
        Python::try_attach(|py| py.detach(|| storage::free(storages)));
    }
    storage::free(storages);
    if storage::allocator_should_return_memory() {
        Python::try_attach(malloc::trim);
    }
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
