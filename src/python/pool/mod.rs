//! `bytepool.Pool`: what it consists of, and how a request becomes a lease. Its methods are in `methods.rs`.

pub(super) mod default;
mod methods;

use pyo3::prelude::*;

use super::args::{Name, Timeout};
use super::budget;
use super::config::Kind;
use super::decay::Collector;
use super::lease::Lease;
use super::registry;
use super::shared::PoolRef;
use super::tracking::{Level, Tracker};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::pool;

/// A pool of reusable byte buffers in size classes.
///
/// Args:
///     min_size: the smallest size class in bytes, rounded up to a power of two. A smaller request gets a
///         buffer of this class, and a view of exactly the bytes it asked for. Each doubling has two classes.
///     max_size: the largest pooled size in bytes. A larger request is *transient*: it is served with exactly
///         as many bytes, counted, and freed when it is returned. Below 4096, give a ``min_size`` too.
///     max_buffers: how many idle buffers each size class keeps. 0 keeps none.
///     name: the pool's name in ``repr``, stats and metrics.
///     track: which buffers are recorded: ``"off"``, ``"sampled"`` (one in 128) or ``"all"``. ``tracked()``
///         lists the records of the buffers in use. A recorded handle that is dropped without ``release()``
///         gives a ResourceWarning. None means the value of the environment variable ``BYTEPOOL_TRACK``, or
///         ``"off"``.
///     max_idle_bytes: how many idle bytes the whole pool keeps. 0 keeps none. None means 64 MiB, or four times
///         ``max_size`` if that is more, but at most half of the memory limit of a container (its cgroup). A
///         full pool evicts the buffers that were not used since the last eviction.
///     max_bytes: the budget: how many bytes may be in use and idle together, transient ones included. None
///         means no limit. Each buffer counts with the capacity of its size class. No class is larger than
///         the budget.
///     idle_timeout: idle memory that was not needed for this many seconds is freed, at the latest after twice
///         that time; see ``decay()``. None keeps idle memory.
///     zero: when reused memory is zeroed. ``"never"``: a buffer shows the bytes of its previous user.
///         ``"release"``: bytes are zeroed when they are returned, so idle memory holds no old bytes.
///         ``"allocate"``: the requested bytes are zeroed when they are allocated. Other threads run while
///         64 KiB or more are zeroed.
///     poison: for debugging. Returned memory is filled with the byte 0xDB. If it has changed when it is
///         allocated again, the allocation raises BytesOverwrittenError.
///
/// Raises ValueError if a number is negative, ``min_size > max_size``, ``max_size`` is 2**40 or more,
/// ``zero`` or ``track`` is not one of its three values, or the environment variable
/// ``BYTEPOOL`` is neither empty nor ``null``. Raises TypeError for a number that is not an integer,
/// OverflowError for one above ``sys.maxsize``, and MemoryError if both ``max_buffers`` and
/// ``max_idle_bytes`` are too large to reserve space for.
///
/// With ``BYTEPOOL=null`` in the environment every ``Pool(...)`` is ``Pool.null(...)``. That rules the pool
/// out as the cause of a memory bug, without a change to the code.
///
/// Any thread may call any method. A buffer is returned when nothing refers to it any more, and only then,
/// so memory never changes under a view. (After a view's own ``release()`` or ``with`` block, the view
/// refers to nothing.) Fresh memory is zeroed. When the pool is closed or garbage-collected, its idle memory
/// is freed, and buffers in use stay valid. A ``with`` block closes the pool at its end.
#[pyclass(frozen, weakref, module = "bytepool")]
pub(crate) struct Pool {
    core: PoolRef,
}

impl Drop for Pool {
    /// Buffers in use can keep the core alive for long. They must not keep its idle memory as well.
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Pool {
    fn create(
        py: Python<'_>,
        (kind, pool): (Kind, pool::Pool),
        name: Option<Name>,
        track: Option<Level>,
    ) -> PyResult<Self> {
        let tracker = Tracker::new(track)?;
        let idle_timeout = pool.config().idle_timeout;
        let core = PoolRef::new(py, kind, pool, name.map(|name| name.0), tracker)?;
        registry::add(core.bind(py))?;
        if let Some(idle_timeout) = idle_timeout {
            Collector::watch(py, idle_timeout)?;
        }
        Ok(Self { core })
    }

    /// A new lease of `n` bytes. If the budget is used up, this waits as long as `timeout` says.
    #[inline]
    pub(super) fn lease<'py>(
        slf: &Bound<'py, Self>,
        n: usize,
        timeout: Timeout,
        has_handle: bool,
    ) -> PyResult<Bound<'py, Lease>> {
        let (py, core) = (slf.py(), &slf.get().core);
        let buffer = match core.share(py).lend(py, n) {
            Ok(buffer) => buffer,
            Err(error @ Error::Exhausted { .. }) => {
                budget::lend_refused(py, core, n, timeout, error)?
            }
            Err(error) => return Err(error.into()),
        };
        Self::lease_of(slf, buffer, has_handle)
    }

    /// A new lease of a buffer that this pool lent. `has_handle`: an Allocator will release it.
    #[inline]
    pub(super) fn lease_of<'py>(
        slf: &Bound<'py, Self>,
        buffer: Buffer<PoolRef>,
        has_handle: bool,
    ) -> PyResult<Bound<'py, Lease>> {
        let tracker = slf.get().core.get().tracker();
        let record = tracker.record(slf.as_any(), buffer.len(), has_handle);
        Lease::create(slf.py(), buffer, record)
    }

    pub(super) fn core(&self) -> &PoolRef {
        &self.core
    }
}
