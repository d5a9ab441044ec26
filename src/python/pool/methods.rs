//! The methods and properties of `bytepool.Pool`, as Python sees them.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyString, PyTuple};

use super::Pool;
use crate::config::{Config, Zero};
use crate::pool;
use crate::python::allocator::Allocator;
use crate::python::args::{Choice, Chosen, Integer, Limit, Name, Timeout};
use crate::python::budget;
use crate::python::config::{Arguments, Kind};
use crate::python::error::exception;
use crate::python::lease::Lease;
use crate::python::stats;
use crate::python::tracking::Level;

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(
        signature = (
            min_size = Integer::Fits(Config::DEFAULT.min_size),
            max_size = Integer::Fits(Config::DEFAULT.max_size),
            max_buffers = Integer::Fits(Config::DEFAULT.max_buffers),
            *,
            name = None,
            track = None,
            max_idle_bytes = None,
            max_bytes = None,
            idle_timeout = Config::DEFAULT.idle_timeout.map(|timeout| timeout.as_secs_f64()),
            zero = Chosen(Config::DEFAULT.zero),
            poison = Config::DEFAULT.poison,
        ),
        text_signature = "(min_size=4096, max_size=16777216, max_buffers=16, *, name=None, track=None, \
                          max_idle_bytes=None, max_bytes=None, idle_timeout=30.0, zero='never', \
                          poison=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
    fn new(
        py: Python<'_>,
        min_size: Integer,
        max_size: Integer,
        max_buffers: Integer,
        name: Option<Name>,
        track: Option<Chosen<Level>>,
        max_idle_bytes: Option<Integer>,
        max_bytes: Option<Integer>,
        idle_timeout: Option<f64>,
        zero: Chosen<Zero>,
        poison: bool,
    ) -> PyResult<Self> {
        let arguments = Arguments {
            min_size,
            max_size,
            max_buffers,
            max_idle_bytes,
            max_bytes,
            idle_timeout,
            zero: zero.0,
            poison,
        };
        let track = track.map(|level| level.0);
        Self::create(py, arguments.into_pool()?, name, track)
    }

    /// Return a pool that pools nothing, with exactly the same rules and errors.
    ///
    /// It allocates memory for every request, and frees it when it is returned. Use it in place of a pool
    /// that you suspect to cause a bug: if the bug stays, the pool is not the cause. It takes the arguments of
    /// ``Pool(...)``, and its properties have their values, so code that compares a size with ``max_size``,
    /// or needs an ``idle_timeout``, works as with the pool. The budget and ``track`` hold as well. Every
    /// request counts as transient, and its memory is always zeroed.
    ///
    /// Raises what ``Pool(...)`` raises.
    #[staticmethod]
    #[pyo3(
        signature = (*arguments, **options),
        text_signature = "(min_size=4096, max_size=16777216, max_buffers=16, *, name=None, track=None, \
                          max_idle_bytes=None, max_bytes=None, idle_timeout=30.0, zero='never', \
                          poison=False)"
    )]
    fn null(arguments: &Bound<'_, PyTuple>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let py = arguments.py();
        let replaced = py.get_type::<Self>().call(arguments, options)?;
        let replaced = replaced.cast_into::<Self>()?;
        let replaced = &replaced.get().core;
        let null = pool::Pool::null_for(replaced.config());
        let name = replaced.get().name().map(|name| Name(name.clone_ref(py)));
        let track = replaced.get().tracker().level();
        Self::create(py, (Kind::Null, null), name, Some(track))
    }

    /// Return a new Allocator that holds no bytes yet.
    fn allocator(slf: Bound<'_, Self>) -> PyResult<Py<Allocator>> {
        let py = slf.py();
        Allocator::new(py, slf.unbind(), None)
    }

    /// Return a new Allocator that holds ``n`` bytes.
    ///
    /// ``with pool.allocate(n) as alloc:`` releases them at the end of the block. ``n`` may be 0.
    ///
    /// With a budget (``max_bytes``) that is used up, ``timeout`` is how many seconds to wait for buffers
    /// to be returned. 0.0 does not wait, None waits without limit. Waiters are served in their order, so
    /// small requests do not starve a large one. After the timeout this raises PoolExhaustedError. It
    /// raises immediately if ``n`` is more than the whole budget.
    /// A thread that waits blocks. In a greenlet of gevent, the other greenlets of the thread run meanwhile
    /// (eventlet's do not).
    ///
    /// Raises TypeError if ``n`` is not an integer, ValueError if it is negative, OverflowError if it is
    /// above ``sys.maxsize``, MemoryError if the system does not have the memory, and PoolClosedError if
    /// the pool is closed. An error leaves the pool unchanged.
    #[pyo3(
        signature = (n, *, timeout = Timeout::NO_WAIT),
        text_signature = "($self, n, *, timeout=0.0)"
    )]
    fn allocate(slf: Bound<'_, Self>, n: Integer, timeout: Timeout) -> PyResult<Py<Allocator>> {
        let n = n.check("n", Limit::Platform)?;
        let lease = Self::lease(&slf, n, timeout, true)?;
        Allocator::holding(slf, lease)
    }

    /// Wait for a new Allocator that holds ``n`` bytes, while the event loop of asyncio runs on.
    ///
    /// It waits for the budget without limit; use ``asyncio.timeout(seconds)`` around it. A task that is
    /// cancelled meanwhile leaves the queue, and no bytes are lost.
    ///
    /// Raises what ``allocate()`` raises, but PoolExhaustedError only if ``n`` is more than the whole
    /// budget. Without a running event loop of asyncio (under trio, for example) it raises RuntimeError.
    fn allocate_async<'py>(
        slf: &Bound<'py, Self>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        budget::allocate_async(slf, n)
    }

    /// Return a writable memoryview of exactly ``n`` pooled bytes, for use in place of ``bytearray(n)``.
    ///
    /// There is no handle and nothing to release: the bytes are returned when the view, and everything
    /// made from it, is gone. Unlike a bytearray, the view may show old bytes, has a fixed size and none of the
    /// methods for text, and ``in`` does not search. The guide on views lists all differences.
    ///
    /// ``timeout`` and the errors are those of ``allocate()``.
    #[pyo3(
        signature = (n, *, timeout = Timeout::NO_WAIT),
        text_signature = "($self, n, *, timeout=0.0)"
    )]
    fn view(slf: &Bound<'_, Self>, n: Integer, timeout: Timeout) -> PyResult<Py<PyMemoryView>> {
        let n = n.check("n", Limit::Platform)?;
        let lease = Self::lease(slf, n, timeout, false)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        Ok(view)
    }

    /// Free idle memory now, and return how many bytes it freed.
    ///
    /// Args:
    ///     keep_bytes: how many idle bytes may stay. Buffers that were not used since the last eviction are
    ///         freed first, the largest of them first.
    ///
    /// Buffers of 64 KiB and more go back to the system. Smaller ones go back to the allocator of the C
    /// library, which may keep them. Buffers in use are not touched.
    ///
    /// Raises TypeError, ValueError or OverflowError if ``keep_bytes`` is not a size.
    #[pyo3(
        signature = (keep_bytes = Integer::Fits(0)),
        text_signature = "($self, keep_bytes=0)"
    )]
    fn trim(&self, keep_bytes: Integer) -> PyResult<usize> {
        let keep_bytes = keep_bytes.check("keep_bytes", Limit::Platform)?;
        Ok(self.core.trim(keep_bytes))
    }

    /// Free idle memory that was not needed for ``idle_timeout`` seconds, and return how many bytes.
    ///
    /// It works once per ``idle_timeout`` and otherwise returns 0, so you may call it as often as you like.
    /// Python's garbage collector calls it when it runs, and so does every 1,024th return of a buffer to a
    /// size class. ``bytepool.decay`` has timers for processes that do neither.
    fn decay(&self) -> usize {
        self.core.decay()
    }

    /// Close the pool: free its idle memory, and lend and keep no buffers from now on.
    ///
    /// Buffers in use stay valid, and are freed when they are returned. Waiters and new requests get
    /// PoolClosedError. A pool may be closed more than once.
    fn close(&self) {
        self.core.close();
    }

    /// Whether the pool was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Return the pool itself.
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Close the pool.
    fn __exit__(
        &self,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close();
    }

    /// Return a frozen ``bytepool.Stats`` of what the pool has done so far.
    ///
    /// Every counter is exact. While other threads use the pool, the snapshot may lie between two of their
    /// calls.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        stats::to_python(py, self.core.get().name(), &self.core.try_stats()?)
    }

    /// Return the records of the tracked buffers in use, oldest first.
    ///
    /// Each is a ``bytepool.tracking.AllocationRecord``. Only buffers that were allocated while ``track``
    /// was on have one; ``stats().outstanding`` counts all buffers in use.
    fn tracked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.get().tracker().tracked(py)
    }

    /// Which buffers are tracked: ``"off"``, ``"sampled"`` (one in 128) or ``"all"``.
    ///
    /// It can be set, and holds for the buffers that are allocated from then on.
    #[getter]
    fn track(&self) -> &'static str {
        self.core.get().tracker().level().name()
    }

    #[setter]
    fn set_track(&self, track: Chosen<Level>) {
        self.core.get().tracker().set_level(track.0);
    }

    /// The pool's name; None if it has none.
    #[getter]
    fn name(&self) -> Option<&Py<PyString>> {
        self.core.get().name()
    }

    /// The configured smallest size class in bytes.
    #[getter]
    fn min_size(&self) -> usize {
        self.core.config().min_size
    }

    /// The largest pooled size in bytes. Larger requests are transient.
    #[getter]
    fn max_size(&self) -> usize {
        self.core.config().max_size
    }

    /// How many idle buffers each size class keeps.
    #[getter]
    fn max_buffers(&self) -> usize {
        self.core.config().max_buffers
    }

    /// How many idle bytes the whole pool keeps.
    #[getter]
    fn max_idle_bytes(&self) -> usize {
        self.core.config().idle_limit()
    }

    /// The budget: how many bytes may be in use and idle together. None means no limit.
    #[getter]
    fn max_bytes(&self) -> Option<usize> {
        self.core.config().max_bytes
    }

    /// After how many seconds unneeded idle memory is freed. None means never.
    #[getter]
    fn idle_timeout(&self) -> Option<f64> {
        let timeout = self.core.config().idle_timeout;
        timeout.map(|timeout| timeout.as_secs_f64())
    }

    /// Whether returned memory is filled with a pattern, which is checked when it is allocated again.
    #[getter]
    fn poison(&self) -> bool {
        self.core.config().poison
    }

    /// When reused memory is zeroed: ``"never"``, ``"release"`` or ``"allocate"``.
    #[getter]
    fn zero(&self) -> &'static str {
        self.core.config().zero.name()
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.core.get().describe(py)
    }

    /// Raise TypeError: a pool cannot be pickled or copied.
    fn __reduce__(&self) -> PyResult<()> {
        Err(exception::<PyTypeError>(
            "cannot pickle or copy a Pool: its memory belongs to this process; create another pool",
        ))
    }
}
