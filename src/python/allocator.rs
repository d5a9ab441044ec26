//! `bytepool.Allocator`: the user's handle. It owns a reference to a lease and nothing else.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyString};

use super::args::{Size, Timeout};
use super::lease::{Lease, disown};
use super::pool::Pool;
use super::{BytesAlreadyAllocatedError, BytesAlreadyReturnedError, exception, string};
use crate::sync::Mutex;

/// A handle on bytes of a pool, from ``pool.allocator()`` or ``pool.allocate(n)``.
///
/// It holds one buffer at a time or none, and can be used again for ever: ``allocate``, ``release``,
/// ``allocate``... Pass it along with what belongs to its bytes; whoever is last releases it. Releasing is
/// optional: the bytes of a handle that is dropped go home by themselves, when nobody has a view of
/// them any more.
///
/// As a context manager it releases at the end of the block, if it still holds bytes then.
///
/// It may be shared between threads: each call happens as a whole, so of two racing ``release()``
/// calls one wins and the other raises. It cannot be copied or pickled.
// The memoryviews are of the lease, not of this: what libraries keep alive must be the lease.
#[pyclass(frozen, module = "bytepool")]
pub(super) struct Allocator {
    pool: Py<Pool>,
    /// Locked only to look, put or take: never while Python creates or frees an object.
    lease: Mutex<Option<Py<Lease>>>,
}

impl Allocator {
    #[inline]
    pub(super) fn new(
        py: Python<'_>,
        pool: Py<Pool>,
        lease: Option<Py<Lease>>,
    ) -> PyResult<Py<Self>> {
        let lease = Mutex::new(lease);
        let allocator = Bound::new(py, Self { pool, lease })?;
        // Whichever thread drops it: what it holds goes home then.
        disown(&allocator);
        Ok(allocator.unbind())
    }

    /// A new handle for the user, on that lease.
    #[inline]
    pub(super) fn holding(pool: Bound<'_, Pool>, lease: Bound<'_, Lease>) -> PyResult<Py<Self>> {
        let py = pool.py();
        let held = Some(lease.clone().unbind());
        let allocator = Self::new(py, pool.unbind(), held)?;
        Lease::hand_out(&lease);
        Ok(allocator)
    }

    /// A reference of one's own to the lease held.
    fn held<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Lease>> {
        let lease = self.lease.lock();
        lease.as_ref().map(|lease| lease.bind(py).clone())
    }

    /// Puts a reference to the lease in place, unless there is one already.
    fn hold(&self, lease: &Bound<'_, Lease>) -> PyResult<()> {
        let mut held = self.lease.lock();
        let Some(other) = &*held else {
            // Under the lock, so that no release comes in between.
            Lease::hand_out(lease);
            *held = Some(lease.clone().unbind());
            return Ok(());
        };
        let size = other.get().size();
        drop(held);
        Err(already_allocated(size))
    }

    pub(super) fn take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Lease>> {
        let lease = self.lease.lock().take();
        lease.map(|lease| lease.into_bound(py))
    }
}

#[pymethods]
impl Allocator {
    /// Takes ``n`` bytes from the pool and returns a writable memoryview of exactly those.
    ///
    /// The bytes stay with this allocator until ``release()``; ``bytes()`` returns more views of them.
    ///
    /// Raises BytesAlreadyAllocatedError if it holds bytes already, TypeError if ``n`` is not an
    /// integer, ValueError if it is negative, OverflowError if it is above ``sys.maxsize``, and
    /// MemoryError if the system has no such memory. With a budget, ``timeout`` and PoolExhaustedError are
    /// as for ``Pool.allocate``. The allocator stays as it was, and no bytes are out that were not
    /// before. ``n`` may be 0.
    #[pyo3(
        signature = (n, *, timeout = Timeout::AT_ONCE),
        text_signature = "($self, n, *, timeout=0.0)"
    )]
    fn allocate(&self, py: Python<'_>, n: Size, timeout: Timeout) -> PyResult<Py<PyMemoryView>> {
        if let Some(lease) = self.held(py) {
            return Err(already_allocated(lease.get().size()));
        }
        let lease = Pool::lease(self.pool.bind(py), n.0, timeout, true)?;
        // The view comes first, so that a failure leaves this allocator empty. While it is made other
        // code may run, another thread or a collector's finalizer, and be faster to put a lease here.
        let view = Lease::view(&lease)?;
        self.hold(&lease)?;
        Ok(view)
    }

    /// A new writable memoryview of the bytes held: the same memory, the size first asked for.
    ///
    /// Raises BytesAlreadyReturnedError if nothing is held.
    fn bytes(&self, py: Python<'_>) -> PyResult<Py<PyMemoryView>> {
        match self.held(py) {
            Some(lease) => Lease::view(&lease),
            None => Err(already_returned("bytes")),
        }
    }

    /// Gives the bytes back; the allocator can be used again.
    ///
    /// If nobody else holds a view of them, they are home when this returns. Otherwise they go home when
    /// the last holder lets go, and until then they are that holder's alone (counted as *deferred*). It
    /// is never an error to use a view after this.
    ///
    /// Raises BytesAlreadyReturnedError if nothing is held.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self.take(py) {
            Some(lease) => {
                Lease::release(lease);
                Ok(())
            }
            None => Err(already_returned("release")),
        }
    }

    /// The bytes asked for; 0 when nothing is held.
    #[getter]
    fn size(&self) -> usize {
        self.lease
            .lock()
            .as_ref()
            .map_or(0, |lease| lease.get().size())
    }

    /// Returns the allocator itself.
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Releases what is held; happy if it was released already.
    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        if let Some(lease) = self.take(py) {
            Lease::release(lease);
        }
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let held = self.lease.lock().as_ref().map(|lease| lease.get().size());
        let pool = self.pool.get().describe(py)?;
        let described = match held {
            Some(size) => format!("<Allocator holding {size} bytes of {pool}>"),
            None => format!("<Allocator holding nothing of {pool}>"),
        };
        string(py, described)
    }

    /// Raises TypeError: an allocator cannot be pickled or copied.
    fn __reduce__(&self) -> PyResult<()> {
        Err(exception::<PyTypeError>(
            "cannot pickle or copy an Allocator: its bytes can have only one handle; \
             copy them with bytes(alloc.bytes())",
        ))
    }
}

#[cold]
fn already_allocated(size: usize) -> PyErr {
    exception::<BytesAlreadyAllocatedError>(format!(
        "allocate() called while this allocator holds {size} bytes; release() them first"
    ))
}

#[cold]
fn already_returned(method: &str) -> PyErr {
    exception::<BytesAlreadyReturnedError>(format!(
        "{method}() called while this allocator holds no bytes; allocate() some first"
    ))
}
