//! `bytepool.Pool`.

use std::env;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyMemoryView, PyString};

use super::allocator::Allocator;
use super::args::{
    Size, Timeout, idle_timeout, keep_bytes, max_buffers, max_bytes, max_idle_bytes, max_size,
    min_size, steps,
};
use super::lease::Lease;
use super::shared::Core;
use super::stats;
use super::tracking::{Level, Tracker, level, optional_level};
use super::{exception, string};
use crate::budget::pool::Place;
use crate::config::{Config, Zero};
use crate::error::Error;
use crate::pool;
use crate::sync::Parker;

/// Set to `null`, it turns every pool into a null pool.
const SWITCH: &str = "BYTEPOOL";

/// A pool of reusable byte buffers, in size classes that are powers of two (or finer).
///
/// min_size: the smallest size class in bytes, rounded up to a power of two; a smaller request gets a
///     buffer of this size class (and still a view of exactly the bytes asked for).
/// max_size: the largest size that is pooled, in bytes. A larger request is *transient*: served
///     exactly, counted, freed when it comes back. Below 4096, give a ``min_size`` too.
/// max_buffers: how many idle buffers each size class keeps; 0 keeps none.
/// name: what to call it where several are shown: in ``repr``, stats and metrics.
/// track: which buffers are noted with the line that allocated them, for ``outstanding()`` and for a
///     ResourceWarning when a handle is dropped without ``release()``: ``"off"``, ``"sampled"`` (one in
///     128) or ``"all"``. None is what the environment variable ``BYTEPOOL_TRACK`` says, else off.
/// steps: how many size classes a doubling has: 1, which is powers of two, 2 or 4. Finer ones waste less
///     of each buffer, and less often find an idle one of their own size.
/// max_idle_bytes: how many idle bytes the whole pool keeps, 0 none; None is 64 MiB, or four times
///     ``max_size`` if that is more. Room is made by what nobody has needed since room was last short.
/// max_bytes: the budget, how many bytes may be out and idle together, transient ones included; None is
///     no bound. Sizes count what the memory costs: the capacity of the size class.
/// idle_timeout: idle memory that nobody has needed for so many seconds is freed, at the latest after
///     twice as long, see ``decay``; None keeps it.
/// zero: what the next holder of a buffer can see of the last one's bytes. ``"never"``: all of them, as
///     reused memory is not zeroed. ``"release"``: none, bytes are zeroed when they come home, so that
///     none lie idle either. ``"allocate"``: none, as many bytes as are asked for are zeroed when they
///     are handed out. Large ones are zeroed while other threads run.
/// poison: for debugging; memory that comes home is filled with the byte 0xDB, and when it is handed out
///     again and somebody wrote to it meanwhile, that raises BytesOverwrittenError.
///
/// Raises ValueError if a number is negative, ``min_size > max_size``, ``max_size`` is 2**40 or more,
/// ``steps`` or ``zero`` is none of the three, or the environment variable ``BYTEPOOL`` is neither empty nor
/// ``null``; TypeError for a number that is no integer; OverflowError or MemoryError for more buffers
/// than can be counted or listed.
///
/// With ``BYTEPOOL=null`` in the environment every ``Pool(...)`` is a null pool (see ``Pool.null()``),
/// so that a suspected memory bug is ruled out without touching code. Its budget stays.
///
/// Every method may be called from any thread. Memory goes back to the pool when nothing refers to
/// it any more, and only then: a returned buffer does not change under anyone. (A view that you end
/// yourself, with its ``release()`` or ``with``, refers to nothing from then on.) Fresh memory is
/// zeroed. When the pool is closed, as ``with`` does at the end of the block, or goes, what is idle is
/// freed, and what is out stays valid.
#[pyclass(frozen, weakref, module = "bytepool")]
pub(super) struct Pool {
    core: Core,
    name: Option<String>,
    tracker: Tracker,
}

impl Drop for Pool {
    /// What is out may keep the core for long, and should not keep what is idle.
    fn drop(&mut self) {
        self.core.close();
    }
}

/// How long a thread that waits can keep a signal waiting.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(50);

/// What it waits for may come home, in a free-threaded Python, as soon as it looks.
const FIRST_TURN: Duration = if cfg!(Py_GIL_DISABLED) {
    Duration::from_millis(1)
} else {
    LOOK_FOR_SIGNALS
};

static WAIT_ASYNC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl Pool {
    /// A new lease of `n` bytes.
    pub(super) fn lease<'py>(
        slf: &Bound<'py, Self>,
        n: usize,
        timeout: Timeout,
        has_handle: bool,
    ) -> PyResult<Bound<'py, Lease>> {
        let note = || Tracker::note(slf, n, has_handle);
        let refused = |error| Self::refused(slf, n, timeout, error);
        Lease::create(slf.py(), slf.get().share(slf.py()), n, note, refused)
    }

    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Waits if that helps and is wanted.
    #[cold]
    #[inline(never)]
    fn refused<'py>(
        slf: &Bound<'py, Self>,
        n: usize,
        timeout: Timeout,
        error: Error,
    ) -> PyResult<Bound<'py, Lease>> {
        if timeout.0 == 0.0 || !matches!(error, Error::Exhausted { .. }) {
            return Err(error.into());
        }
        Self::wait(slf, n, timeout)
    }

    /// Waits for bytes of the budget, in Rust, where a thread may be ended while it is detached; and in
    /// short turns, between which it looks for signals.
    fn wait<'py>(
        slf: &Bound<'py, Self>,
        n: usize,
        timeout: Timeout,
    ) -> PyResult<Bound<'py, Lease>> {
        let (py, pool) = (slf.py(), slf.get());
        let timeout = Duration::try_from_secs_f64(timeout.0).unwrap_or(Duration::MAX);
        let begin = Instant::now();
        let deadline = begin.checked_add(timeout);
        let parker = Parker::default();
        let place = Place::join(pool.share(py), n, parker.waker())?;
        let mut turn = FIRST_TURN;
        loop {
            let note = || Tracker::note(slf, n, true);
            if let Some(lease) = Lease::create_in_turn(py, pool.share(py), n, note, &place.turn) {
                return lease;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                place.leave();
                return Err(pool.core().exhausted(n).into());
            }
            let end = now.checked_add(turn);
            let until = end.min(deadline.or(end));
            py.detach(|| parker.park(until));
            py.check_signals()?;
            if cfg!(Py_GIL_DISABLED) {
                free_what_others_made(py, begin.elapsed())?;
            }
            turn = turn.saturating_mul(2).min(LOOK_FOR_SIGNALS);
        }
    }

    pub(super) fn core(&self) -> &pool::Pool {
        &self.core
    }

    pub(super) fn share(&self, py: Python<'_>) -> Core {
        self.core.share(py)
    }

    /// As it was made, without what is as always.
    pub(super) fn describe(&self, py: Python<'_>) -> PyResult<String> {
        let config = self.core.config();
        let name = self.name.as_ref().map(|name| string(py, name)?.repr());
        let name = name.transpose()?;
        if config.is_null() {
            return Ok(match name {
                Some(name) => format!("<Pool.null() in place of {name}>"),
                None => "Pool.null()".to_owned(),
            });
        }
        let Config {
            min_size,
            max_size,
            max_buffers,
            ..
        } = config;
        let mut text =
            format!("Pool(min_size={min_size}, max_size={max_size}, max_buffers={max_buffers}");
        if let Some(name) = name {
            text += &format!(", name={name}");
        }
        if config.steps != Config::DEFAULT.steps {
            text += &format!(", steps={}", config.steps);
        }
        if let Some(max_idle_bytes) = config.max_idle_bytes {
            text += &format!(", max_idle_bytes={max_idle_bytes}");
        }
        if let Some(max_bytes) = config.max_bytes {
            text += &format!(", max_bytes={max_bytes}");
        }
        if config.idle_timeout != Config::DEFAULT.idle_timeout {
            let seconds = config.idle_timeout.map(|timeout| timeout.as_secs_f64());
            let seconds = seconds.map_or("None".to_owned(), |seconds| format!("{seconds:?}"));
            text += &format!(", idle_timeout={seconds}");
        }
        if config.zero != Config::DEFAULT.zero {
            text += &format!(", zero='{}'", zero_name(config.zero));
        }
        if config.poison {
            text += ", poison=True";
        }
        Ok(text + ")")
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(
        signature = (
            min_size = Config::DEFAULT.min_size,
            max_size = Config::DEFAULT.max_size,
            max_buffers = Config::DEFAULT.max_buffers,
            *,
            name = None,
            track = None,
            steps = Config::DEFAULT.steps,
            max_idle_bytes = None,
            max_bytes = None,
            idle_timeout = Config::DEFAULT.idle_timeout,
            zero = Config::DEFAULT.zero,
            poison = Config::DEFAULT.poison,
        ),
        text_signature = "(min_size=4096, max_size=16777216, max_buffers=16, *, name=None, track=None, steps=1, \
                          max_idle_bytes=None, max_bytes=None, idle_timeout=30.0, zero='never', \
                          poison=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = min_size)] min_size: usize,
        #[pyo3(from_py_with = max_size)] max_size: usize,
        #[pyo3(from_py_with = max_buffers)] max_buffers: usize,
        name: Option<String>,
        #[pyo3(from_py_with = optional_level)] track: Option<Level>,
        #[pyo3(from_py_with = steps)] steps: usize,
        #[pyo3(from_py_with = max_idle_bytes)] max_idle_bytes: Option<usize>,
        #[pyo3(from_py_with = max_bytes)] max_bytes: Option<usize>,
        #[pyo3(from_py_with = idle_timeout)] idle_timeout: Option<Duration>,
        #[pyo3(from_py_with = zero)] zero: Zero,
        poison: bool,
    ) -> PyResult<Self> {
        let config = Config {
            min_size,
            max_size,
            max_buffers,
            steps,
            max_idle_bytes,
            max_bytes,
            idle_timeout,
            zero,
            poison,
        };
        let core = pool::Pool::new(config)?;
        let core = match env::var_os(SWITCH) {
            None => core,
            Some(value) if value.is_empty() => core,
            Some(value) if value == "null" => pool::Pool::null_for(&config),
            // A typo that went unnoticed would acquit the pool of a bug it was never tried for.
            Some(value) => {
                return Err(exception::<PyValueError>(format!(
                    "the environment variable {SWITCH} must be 'null' or not set, not {value:?}"
                )));
            }
        };
        let tracker = Tracker::new(track)?;
        let core = Core::new(py, core)?;
        Ok(Self {
            core,
            name,
            tracker,
        })
    }

    /// A pool that pools nothing, with exactly the same rules and errors.
    ///
    /// Every request is plain allocation and every return frees. Swap it in when you suspect that a
    /// pool is behind a bug: if the bug stays, it is not. ``min_size``, ``max_size`` and
    /// ``max_buffers`` are 0, and every request counts as transient. Its memory is always zeroed.
    #[staticmethod]
    fn null(py: Python<'_>) -> PyResult<Self> {
        let core = Core::new(py, pool::Pool::null())?;
        Ok(Self {
            core,
            name: None,
            tracker: Tracker::new(None)?,
        })
    }

    /// A new Allocator, holding nothing yet.
    fn allocator(slf: Bound<'_, Self>) -> PyResult<Py<Allocator>> {
        let py = slf.py();
        Allocator::new(py, slf.unbind(), None)
    }

    /// A new Allocator that already holds ``n`` bytes.
    ///
    /// ``with pool.allocate(n) as alloc:`` releases them at the end of the block.
    ///
    /// With a budget (``max_bytes``) that is used up, ``timeout`` says how many seconds to wait for
    /// bytes that come home: 0.0 not at all, None as long as it takes. First come, first served: who
    /// asks for much is not starved by who asks for little. Then it raises PoolExhaustedError; at once
    /// if the budget can never hold ``n``.
    ///
    /// Raises TypeError if ``n`` is not an integer, ValueError if it is negative, OverflowError if it
    /// is above ``sys.maxsize``, MemoryError if the system has no such memory, and PoolClosedError if
    /// the pool is closed. No bytes are out then that were not before. ``n`` may be 0.
    #[pyo3(
        signature = (n, *, timeout = Timeout::AT_ONCE),
        text_signature = "($self, n, *, timeout=0.0)"
    )]
    fn allocate(slf: Bound<'_, Self>, n: Size, timeout: Timeout) -> PyResult<Py<Allocator>> {
        let lease = Self::lease(&slf, n.0, timeout, true)?;
        Allocator::holding(slf, lease)
    }

    /// As ``allocate``, for asyncio: waits for bytes of the budget, as long as it takes, while the event
    /// loop runs on. Put ``asyncio.timeout(seconds)`` around it for an end.
    ///
    /// A task that is cancelled meanwhile leaves the queue, and nothing is lost. Raises what
    /// ``allocate`` raises; PoolExhaustedError only if the budget can never hold ``n``.
    fn allocate_async<'py>(
        slf: &Bound<'py, Self>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wait = WAIT_ASYNC.import(slf.py(), "bytepool._budget", "allocate_async")?;
        wait.call1((slf, n))
    }

    /// A writable memoryview of exactly ``n`` pooled bytes: the drop-in for ``bytearray(n)``.
    ///
    /// There is no handle and nothing to release: the bytes go home when the view, and everything
    /// that was made from it, is gone. Unlike a bytearray they may hold old bytes, and cannot be resized.
    ///
    /// Raises what ``allocate`` raises that does not wait.
    fn view(slf: &Bound<'_, Self>, n: Size) -> PyResult<Py<PyMemoryView>> {
        let lease = Self::lease(slf, n.0, Timeout::AT_ONCE, false)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        Ok(view)
    }

    /// Frees idle memory now, and says how many bytes it freed.
    ///
    /// keep_bytes: how many idle bytes may stay. What nobody has needed since room was last short goes
    ///     first, and of that the largest.
    ///
    /// Buffers of 64 KiB and more go back to the system; what is smaller goes back to the allocator,
    /// which may keep it. Buffers that are out stay out. Raises TypeError, ValueError or OverflowError
    /// for a number that is no size.
    #[pyo3(signature = (keep_bytes = 0), text_signature = "($self, keep_bytes=0)")]
    fn trim(&self, #[pyo3(from_py_with = keep_bytes)] keep_bytes: usize) -> usize {
        self.core.trim(keep_bytes)
    }

    /// Frees idle memory that nobody has needed since the last time that this did something, and says
    /// how many bytes it freed.
    ///
    /// It does something once every ``idle_timeout`` seconds, and else returns 0, so call it as often as
    /// you like. Python's garbage collector calls it when it runs, and so does every 1,024th buffer that
    /// comes home to a size class; a process that does neither has ``bytepool.decay``.
    fn decay(&self) -> usize {
        self.core.decay()
    }

    /// Frees what is idle, and from now on lends nothing and keeps nothing.
    ///
    /// Buffers that are out stay valid, and are freed when they come home. Who waits for bytes, and who
    /// asks for some from now on, gets PoolClosedError. Closing twice is fine.
    fn close(&self) {
        self.core.close();
    }

    /// Whether ``close()`` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Returns the pool itself, which is closed at the end of the block.
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Closes the pool.
    fn __exit__(
        &self,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close();
    }

    /// What the pool has done so far: a frozen ``bytepool.Stats``.
    ///
    /// The counters are exact. While other threads use the pool, the snapshot may fall between two of
    /// their calls.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        stats::to_python(py, self.name.as_deref(), &self.core.stats())
    }

    /// The buffers that are out and tracked, longest first: a list of ``bytepool.tracking.Tracked``.
    ///
    /// Each has its ``size``, ``age``, ``thread`` and ``origin``, the lines that allocated it, and
    /// ``holders()``. Without tracking there is nothing to list; see ``track``.
    fn outstanding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.tracker.outstanding(py)
    }

    /// Which buffers are tracked: ``"off"``, ``"sampled"`` (one in 128) or ``"all"``. It may be set,
    /// for those that are allocated from then on.
    #[getter]
    fn track(&self) -> &'static str {
        self.tracker.level().name()
    }

    #[setter]
    fn set_track(&self, #[pyo3(from_py_with = level)] track: Level) {
        self.tracker.set(track);
    }

    /// What it was named; None if it was not.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The smallest size class in bytes, as configured; 0 for the null pool.
    #[getter]
    fn min_size(&self) -> usize {
        self.core.config().min_size
    }

    /// The largest size that is pooled, in bytes; 0 for the null pool. A larger request is transient.
    #[getter]
    fn max_size(&self) -> usize {
        self.core.config().max_size
    }

    /// How many idle buffers each size class keeps; 0 for the null pool.
    #[getter]
    fn max_buffers(&self) -> usize {
        self.core.config().max_buffers
    }

    /// How many size classes a doubling has.
    #[getter]
    fn steps(&self) -> usize {
        self.core.config().steps
    }

    /// How many idle bytes the whole pool keeps; 0 for the null pool.
    #[getter]
    fn max_idle_bytes(&self) -> usize {
        self.core.config().idle_bytes_kept()
    }

    /// How many bytes may be out and idle together; None if there is no bound.
    #[getter]
    fn max_bytes(&self) -> Option<usize> {
        self.core.config().max_bytes
    }

    /// Idle memory that nobody has needed for so many seconds is freed; None if it is kept.
    #[getter]
    fn idle_timeout(&self) -> Option<f64> {
        let timeout = self.core.config().idle_timeout;
        timeout.map(|timeout| timeout.as_secs_f64())
    }

    /// Whether memory that comes home is filled with a pattern, and checked when it is handed out again.
    #[getter]
    fn poison(&self) -> bool {
        self.core.config().poison
    }

    /// When reused memory is zeroed: ``"never"``, ``"release"`` or ``"allocate"``.
    #[getter]
    fn zero(&self) -> &'static str {
        zero_name(self.core.config().zero)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        string(py, self.describe(py)?)
    }

    /// Raises TypeError: a pool cannot be pickled or copied.
    fn __reduce__(&self) -> PyResult<()> {
        Err(exception::<PyTypeError>(
            "cannot pickle or copy a Pool: its memory is this process's alone; make another one",
        ))
    }
}

#[cold]
fn free_what_others_made(py: Python<'_>, waited: Duration) -> PyResult<()> {
    static FREE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let free = FREE.import(py, "bytepool._free_threading", "free_what_others_made")?;
    free.call1((waited.as_secs_f64(),)).map(drop)
}

const ZERO_NAMES: [(&str, Zero); 3] = [
    ("never", Zero::Never),
    ("release", Zero::Release),
    ("allocate", Zero::Allocate),
];

fn zero(object: &Bound<'_, PyAny>) -> PyResult<Zero> {
    let name = object.cast::<PyString>()?;
    let name = name.to_string_lossy();
    let found = ZERO_NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, zero)| *zero).ok_or_else(|| {
        exception::<PyValueError>(format!(
            "zero must be 'never', 'release' or 'allocate', not {name:?}"
        ))
    })
}

fn zero_name(zero: Zero) -> &'static str {
    let found = ZERO_NAMES.iter().find(|(_, known)| *known == zero);
    found.map_or("never", |(name, _)| name)
}
