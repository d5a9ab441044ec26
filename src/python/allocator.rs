//! `bytepool.Allocator`: the user's handle. It owns a reference to a lease and nothing else.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyString};

use super::args::{Integer, Limit, Timeout};
use super::error::{BytesAlreadyAllocatedError, BytesAlreadyReturnedError, exception};
use super::lease::{Lease, disown};
use super::objects::string;
use super::pool::Pool;
use crate::sync::Mutex;

/// A handle on bytes of a pool, from ``pool.allocator()`` or ``pool.allocate(n)``.
///
/// It holds one buffer or none, and can be reused any number of times: ``allocate``, ``release``,
/// ``allocate``... Pass it along with the data in its buffer, and let the last user release it. Releasing is
/// optional: if the handle is dropped, its bytes are returned as soon as no view of them is left.
///
/// As a context manager it releases at the end of the block, if it still holds bytes then.
///
/// Threads may share it. Each call is atomic: of two racing ``release()`` calls, one succeeds and the other
/// raises. It cannot be copied or pickled.
// It exports no buffer: the object that a library keeps alive must be the lease.
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
        disown(&allocator); // so that a dropped handle returns its bytes, whichever thread drops it
        Ok(allocator.unbind())
    }

    /// A new handle, handed out to the user, that holds the lease.
    #[inline]
    pub(super) fn holding(pool: Bound<'_, Pool>, lease: Bound<'_, Lease>) -> PyResult<Py<Self>> {
        let py = pool.py();
        let held = Some(lease.clone().unbind());
        let allocator = Self::new(py, pool.unbind(), held)?;
        Lease::hand_out(&lease);
        Ok(allocator)
    }

    /// A new reference to the lease that this handle holds.
    fn held<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Lease>> {
        let lease = self.lease.lock();
        lease.as_ref().map(|lease| lease.bind(py).clone())
    }

    /// Holds the lease, unless this handle already holds another.
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

    fn take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Lease>> {
        let lease = self.lease.lock().take();
        lease.map(|lease| lease.into_bound(py))
    }
}

#[pymethods]
impl Allocator {
    /// Take ``n`` bytes from the pool and return a writable memoryview of exactly these bytes.
    ///
    /// The allocator holds the bytes until ``release()``; ``bytes()`` returns more views of them. ``n`` may
    /// be 0. With a budget, ``timeout`` works as for ``Pool.allocate()``.
    ///
    /// Raises BytesAlreadyAllocatedError if the allocator already holds bytes, and what ``Pool.allocate()``
    /// raises. An error leaves the allocator and the pool unchanged.
    #[pyo3(
        signature = (n, *, timeout = Timeout::NO_WAIT),
        text_signature = "($self, n, *, timeout=0.0)"
    )]
    fn allocate(&self, py: Python<'_>, n: Integer, timeout: Timeout) -> PyResult<Py<PyMemoryView>> {
        let n = n.check("n", Limit::Platform)?;
        if let Some(lease) = self.held(py) {
            return Err(already_allocated(lease.get().size()));
        }
        let lease = Pool::lease(self.pool.bind(py), n, timeout, true)?;
        // The view is made first, so that a failure leaves this allocator empty. Making it can run other
        // code (another thread, a finalizer), which may be faster to store a lease here.
        let view = Lease::view(&lease)?;
        self.hold(&lease)?;
        Ok(view)
    }

    /// Return a new writable memoryview of the bytes held: the same memory, of the size first asked for.
    ///
    /// Raises BytesAlreadyReturnedError if the allocator holds no bytes.
    fn bytes(&self, py: Python<'_>) -> PyResult<Py<PyMemoryView>> {
        match self.held(py) {
            Some(lease) => Lease::view(&lease),
            None => Err(already_returned("bytes")),
        }
    }

    /// Release the bytes. The allocator can be used again.
    ///
    /// If nothing else holds a view of the bytes, they are returned to the pool before this returns.
    /// Otherwise the return is *deferred* until the last holder drops its view, and until then the bytes
    /// belong to the holders alone. Using a view after this is never an error.
    ///
    /// Raises BytesAlreadyReturnedError if the allocator holds no bytes.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self.take(py) {
            Some(lease) => {
                Lease::release(lease);
                Ok(())
            }
            None => Err(already_returned("release")),
        }
    }

    /// How many bytes were asked for; 0 if the allocator holds none.
    #[getter]
    fn size(&self) -> usize {
        self.lease
            .lock()
            .as_ref()
            .map_or(0, |lease| lease.get().size())
    }

    /// Return the allocator itself.
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Release the bytes held, if there are any.
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
        let pool = self.pool.get().core().get().describe(py)?;
        let pool = pool.to_str()?;
        match held {
            Some(size) => string(
                py,
                format_args!("<Allocator holding {size} bytes of {pool}>"),
            ),
            None => string(py, format_args!("<Allocator holding nothing of {pool}>")),
        }
    }

    /// Raise TypeError: an allocator cannot be pickled or copied.
    fn __reduce__(&self) -> PyResult<()> {
        Err(exception::<PyTypeError>(
            "cannot pickle or copy an Allocator: its bytes can have only one handle; \
             copy them with bytes(alloc.bytes())",
        ))
    }
}

#[cold]
fn already_allocated(size: usize) -> PyErr {
    exception::<BytesAlreadyAllocatedError>(format_args!(
        "allocate() called while this allocator holds {size} bytes; release() them first"
    ))
}

#[cold]
fn already_returned(method: &str) -> PyErr {
    exception::<BytesAlreadyReturnedError>(format_args!(
        "{method}() called while this allocator holds no bytes; allocate() some first"
    ))
}
