//! `bytepool.Pool`.

use std::env;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::allocator::Allocator;
use super::core::Core;
use super::lease::Lease;
use super::size::{Size, max_buffers, max_size, min_size};
use super::stats;
use crate::pool::{self, Config};

/// Set to `null`, it turns every pool into a null pool.
const SWITCH: &str = "BYTEPOOL";

/// A pool of reusable byte buffers, in size classes that are powers of two.
///
/// min_size: the smallest size class in bytes, rounded up to a power of two; a smaller request gets a
///     buffer of this size class (and still a view of exactly the bytes asked for).
/// max_size: the largest size that is pooled, in bytes. A larger request is *transient*: served
///     exactly, counted, freed when it comes back. Below 4096, give a ``min_size`` too.
/// max_buffers: how many idle buffers each size class keeps; 0 keeps none. The idle memory is at most
///     ``2 * max_size * max_buffers`` bytes if ``max_size`` is a power of two, else up to half as much
///     again.
///
/// Raises ValueError if a number is negative, ``min_size > max_size``, ``max_size`` is 2**40 or more,
/// or the environment variable ``BYTEPOOL`` is neither empty nor ``null``; TypeError for a number
/// that is no integer; OverflowError or MemoryError for more buffers than can be counted or listed.
///
/// With ``BYTEPOOL=null`` in the environment every ``Pool(...)`` is a null pool (see ``Pool.null()``),
/// so that a suspected memory bug is ruled out without touching code.
///
/// Every method may be called from any thread. Memory goes back to the pool when nothing refers to
/// it any more, and only then: a returned buffer does not change under anyone. (A view that you end
/// yourself, with its ``release()`` or ``with``, refers to nothing from then on.) Fresh memory is
/// zeroed, reused memory holds old bytes. When the pool itself goes, what is idle is freed, and what
/// is out stays valid.
#[pyclass(frozen, module = "bytepool")]
pub(super) struct Pool {
    core: Core,
}

impl Drop for Pool {
    /// What is out may keep the core for long, and should not keep what is idle.
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Pool {
    /// A new lease of `n` bytes.
    pub(super) fn lease<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, Lease>> {
        Ok(Lease::create(py, self.core.share(py), n)?.into_bound(py))
    }

    pub(super) fn describe(&self) -> String {
        let config = self.core.config();
        if config == Config::NULL {
            return "Pool.null()".to_owned();
        }
        let Config {
            min_size,
            max_size,
            max_buffers,
        } = config;
        format!("Pool(min_size={min_size}, max_size={max_size}, max_buffers={max_buffers})")
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
        ),
        text_signature = "(min_size=4096, max_size=16777216, max_buffers=16)"
    )]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = min_size)] min_size: usize,
        #[pyo3(from_py_with = max_size)] max_size: usize,
        #[pyo3(from_py_with = max_buffers)] max_buffers: usize,
    ) -> PyResult<Self> {
        let core = pool::Pool::new(Config {
            min_size,
            max_size,
            max_buffers,
        })?;
        let core = match env::var_os(SWITCH) {
            None => core,
            Some(value) if value.is_empty() => core,
            Some(value) if value == "null" => pool::Pool::null(),
            // A typo that went unnoticed would acquit the pool of a bug it was never tried for.
            Some(value) => {
                return Err(PyValueError::new_err(format!(
                    "the environment variable {SWITCH} must be 'null' or not set, not {value:?}"
                )));
            }
        };
        let core = Core::new(py, core)?;
        Ok(Self { core })
    }

    /// A pool that pools nothing, with exactly the same rules and errors.
    ///
    /// Every request is plain allocation and every return frees. Swap it in when you suspect that a
    /// pool is behind a bug: if the bug stays, it is not. ``min_size``, ``max_size`` and
    /// ``max_buffers`` are 0, and every request counts as transient.
    #[staticmethod]
    fn null(py: Python<'_>) -> PyResult<Self> {
        let core = Core::new(py, pool::Pool::null())?;
        Ok(Self { core })
    }

    /// A new Allocator, holding nothing yet.
    fn allocator(slf: Py<Self>) -> Allocator {
        Allocator::new(slf, None)
    }

    /// A new Allocator that already holds ``n`` bytes.
    ///
    /// ``with pool.allocate(n) as alloc:`` releases them at the end of the block.
    ///
    /// Raises TypeError if ``n`` is not an integer, ValueError if it is negative, OverflowError if it
    /// is above ``sys.maxsize``, and MemoryError if the system has no such memory. No bytes are out
    /// then that were not before. ``n`` may be 0.
    fn allocate(slf: Bound<'_, Self>, n: Size) -> PyResult<Py<Allocator>> {
        let py = slf.py();
        let lease = slf.get().lease(py, n.0)?;
        let held = Some(lease.clone().unbind());
        let allocator = Py::new(py, Allocator::new(slf.unbind(), held))?;
        Lease::hand_out(&lease);
        Ok(allocator)
    }

    /// A writable memoryview of exactly ``n`` pooled bytes: the drop-in for ``bytearray(n)``.
    ///
    /// There is no handle and nothing to release: the bytes go home when the view, and everything
    /// that was made from it, is gone. Unlike a bytearray they may hold old bytes, and cannot be resized.
    ///
    /// Raises what ``allocate`` raises.
    fn view(&self, py: Python<'_>, n: Size) -> PyResult<Py<PyMemoryView>> {
        let lease = self.lease(py, n.0)?;
        let view = Lease::view(&lease)?;
        Lease::hand_out(&lease);
        Ok(view)
    }

    /// What the pool has done so far: a frozen ``bytepool.Stats``.
    ///
    /// The counters are exact. While other threads use the pool, the snapshot may fall between two of
    /// their calls.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        stats::to_python(py, &self.core.stats())
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

    fn __repr__(&self) -> String {
        self.describe()
    }

    /// Raises TypeError: a pool cannot be pickled or copied.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle or copy a Pool: its memory is this process's alone; make another one",
        ))
    }
}
