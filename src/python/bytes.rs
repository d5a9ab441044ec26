//! Memory that a transport receives into, and `bytes` objects that are made in it. One of two files with `unsafe`.
//!
//! CPython lets a `bytes` object be written to as long as nobody else has seen it: reference count 1, no hash
//! yet. These are the rules by which this file makes use of that:
//!
//! 1. A new object is created without contents, by [`ReceiveBuffer::bytes`], and its only reference stays in
//!    the field `owner`. It is never cloned, hashed, exported or shown there.
//! 2. Transports see a memoryview of the `ReceiveBuffer`, never of the object. Every such view, and every slice
//!    or array made from the view, holds a reference to the `ReceiveBuffer`.
//! 3. The object leaves `owner` in one place, [`ReceiveBuffer::publish`], and only if the whole of it was asked
//!    for and the caller has the only reference to the `ReceiveBuffer`: then no view of the memory exists, and
//!    none can be made any more, because an empty `owner` exports nothing.
//! 4. In every other case (a transport kept a view, the stream ended early, the task was cancelled) the bytes
//!    are copied, and the object is freed with its `ReceiveBuffer`, when no view of it is left.
//!
//! Reference counts are exact on free-threaded builds too, see `disown`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::{ptr, slice};

use allocator_api2::boxed::Box;
use pyo3::exceptions::{PyBufferError, PyException, PyMemoryError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::error::exception;
use super::lease::{Address, disown};
use crate::buffer::Buffer;
use crate::fallible::{boxed, zeros};
use crate::malloc::expect_large_blocks;
use crate::pool::Pool;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Memory that a transport receives into. It only exports the part of it that is to be filled next.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct ReceiveBuffer {
    /// Into memory that `owner` keeps alive and in place.
    start: Address,
    len: usize,
    /// The start and the end of the part that the next export shows.
    window: Mutex<(usize, usize)>,
    /// The number of received bytes, counted by the reader.
    filled: AtomicUsize,
    owner: Mutex<Owner>,
}

/// The owner of the memory.
enum Owner {
    /// A `bytes` object that nobody else has seen.
    Bytes(Py<PyBytes>),
    /// Read-ahead memory.
    Pooled(#[expect(dead_code, reason = "it is only kept")] Buffer<&'static Pool>),
    /// A buffer of the user's.
    Export(#[expect(dead_code, reason = "it is only kept")] Export),
    /// The object was published.
    Nobody,
}

impl ReceiveBuffer {
    /// Memory for a `bytes` object of `n` bytes, which [`publish`](Self::publish) returns.
    pub(super) fn bytes(py: Python<'_>, n: usize) -> PyResult<Bound<'_, Self>> {
        expect_large_blocks(n);
        let size = ffi::Py_ssize_t::try_from(n).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: for a null pointer CPython returns a new `bytes` object of that size (a shared one of size
        // 0, of which no byte can be written), or null with an exception set. Its memory stays in place.
        let (object, start) = unsafe {
            let object = ffi::PyBytes_FromStringAndSize(ptr::null(), size);
            let object: Bound<'_, PyBytes> =
                Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked();
            let start = ffi::PyBytes_AsString(object.as_ptr());
            (object.unbind(), start.cast())
        };
        Self::new(py, start, n, Owner::Bytes(object))
    }

    /// Memory of a pool that this crate keeps for itself.
    pub(super) fn pooled<'py>(
        py: Python<'py>,
        pool: &'static Pool,
        n: usize,
    ) -> PyResult<Bound<'py, Self>> {
        let mut buffer = pool.acquire(n)?;
        let start = buffer.as_mut_ptr();
        Self::new(py, start, n, Owner::Pooled(buffer))
    }

    /// The memory of any writable, contiguous buffer, of whatever shape and format.
    pub(super) fn over<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let export = Export::get(object, ffi::PyBUF_WRITABLE)?;
        let (start, len) = (export.start(), export.len());
        Self::new(object.py(), start, len, Owner::Export(export))
    }

    fn new(py: Python<'_>, start: *mut u8, len: usize, owner: Owner) -> PyResult<Bound<'_, Self>> {
        let this = Self {
            start: Address(start),
            len,
            window: Mutex::new((0, len)),
            filled: AtomicUsize::new(0),
            owner: Mutex::new(owner),
        };
        let this = Bound::new(py, this)?;
        // Its reference count is what `publish` relies on.
        disown(&this);
        Ok(this)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn filled(&self) -> usize {
        self.filled.load(Ordering::Relaxed)
    }

    pub(super) fn set_filled(&self, filled: usize) {
        self.filled.store(filled.min(self.len), Ordering::Relaxed);
    }

    /// Whether this is memory for a `bytes` object.
    pub(super) fn is_bytes(&self) -> bool {
        matches!(*self.owner.lock(), Owner::Bytes(_))
    }

    /// A memoryview of the bytes from `from` to `to`, for a transport to fill.
    pub(super) fn view<'py>(
        this: &Bound<'py, Self>,
        from: usize,
        to: usize,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        *this.get().window.lock() = (from, to);
        PyMemoryView::from(this.as_any())
    }

    /// The whole memory as `bytes`: without a copy if it is memory for a `bytes` object that nobody else refers to.
    pub(super) fn publish(this: Bound<'_, Self>) -> PyResult<Bound<'_, PyBytes>> {
        let py = this.py();
        if is_alone(&this) {
            let mut owner = this.get().owner.lock();
            if let Owner::Bytes(_) = *owner {
                if let Owner::Bytes(object) = std::mem::replace(&mut *owner, Owner::Nobody) {
                    return Ok(object.into_bound(py));
                }
            }
        }
        this.get().copy_out(py, 0, this.get().len)
    }

    /// A copy of the bytes from `from` to `to`.
    pub(super) fn copy_out<'py>(
        &self,
        py: Python<'py>,
        from: usize,
        to: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let n = to.saturating_sub(from);
        let source = self.at(from, n)?;
        // SAFETY: `source` points to `n` readable bytes, see `at`; CPython copies them, and returns a new
        // reference to a `bytes` object, or null with an exception set.
        unsafe {
            let copy = ffi::PyBytes_FromStringAndSize(source.cast(), n as ffi::Py_ssize_t);
            Ok(Bound::from_owned_ptr_or_err(py, copy)?.cast_into_unchecked())
        }
    }

    /// Copies the `n` bytes at `from` to `target`, at `to`.
    pub(super) fn copy_to(&self, from: usize, target: &Self, to: usize, n: usize) -> PyResult<()> {
        let (source, target) = (self.at(from, n)?, target.at(to, n)?);
        // SAFETY: both point to `n` bytes, see `at`; they may overlap.
        unsafe { ptr::copy(source, target, n) };
        Ok(())
    }

    /// Copies the `n` bytes at `from` into a writable buffer of just that size.
    pub(super) fn copy_into(&self, from: usize, target: &Bound<'_, PyAny>) -> PyResult<()> {
        let export = Export::get(target, ffi::PyBUF_WRITABLE)?;
        let source = self.at(from, export.len())?;
        // SAFETY: `source` points to as many bytes as the export has, see `at`, and the export is writable;
        // they may overlap.
        unsafe { ptr::copy(source, export.start(), export.len()) };
        Ok(())
    }

    /// Copies what `export` has from `from` on, `n` bytes, to `to`.
    pub(super) fn fill(&self, to: usize, export: &Export, from: usize, n: usize) -> PyResult<()> {
        let target = self.at(to, n)?;
        let source = check(export.start(), export.len(), from, n)?;
        // SAFETY: both point to `n` bytes, and they may overlap.
        unsafe { ptr::copy(source, target, n) };
        Ok(())
    }

    /// Copies `data` to `to`.
    pub(super) fn write(&self, to: usize, data: &[u8]) -> PyResult<()> {
        let target = self.at(to, data.len())?;
        // SAFETY: `target` points to as many bytes as `data` has, see `at`; they may overlap.
        unsafe { ptr::copy(data.as_ptr(), target, data.len()) };
        Ok(())
    }

    /// Looks at the bytes from `from` to `to`: at a copy of them if somebody else may write to them.
    pub(super) fn read<R>(
        this: &Bound<'_, Self>,
        from: usize,
        to: usize,
        look: impl FnOnce(&[u8]) -> R,
    ) -> PyResult<R> {
        let n = to.saturating_sub(from);
        let source = this.get().at(from, n)?;
        if is_alone(this) {
            // SAFETY:
            // - `source` points to `n` bytes that live as long as `this`, see `at`;
            // - nobody writes to them meanwhile: no view exists, `look` runs no Python code (it gets nothing to
            //   do so), and this thread is attached and uses the one reference there is;
            // - bytes that a transport has not written, though it said so, are whatever was in the memory that
            //   CPython's allocator returned, which is opaque to the compiler.
            return Ok(look(unsafe { slice::from_raw_parts(source, n) }));
        }
        let mut copy = zeros(n)?;
        // SAFETY: both point to `n` bytes, and the copy is new.
        unsafe { ptr::copy_nonoverlapping(source, copy.as_mut_ptr(), n) };
        Ok(look(&copy))
    }

    /// Where `n` bytes at `offset` are.
    ///
    /// The pointer is good for `n` bytes as long as this lives: `owner` keeps `len` bytes, unless they were published.
    fn at(&self, offset: usize, n: usize) -> PyResult<*mut u8> {
        if matches!(*self.owner.lock(), Owner::Nobody) {
            return Err(exception::<PyBufferError>("these bytes were handed out"));
        }
        check(self.start.0, self.len, offset, n)
    }
}

#[pymethods]
impl ReceiveBuffer {
    /// Exports the part that is to be filled next, writable.
    // SAFETY (of the slot as a whole): CPython calls it with a `view` to fill in and the flags of the request.
    unsafe fn __getbuffer__(
        this: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (from, to) = *this.get().window.lock();
        let n = to.saturating_sub(from);
        let start = this.get().at(from, n)?;
        // SAFETY:
        // - `view` is the caller's, null or writable; `PyBuffer_FillInfo` raises for null;
        // - `start` points to `n` writable bytes, see `at`, and the view gets a strong reference to this object:
        //   as long as it exists the memory stays, is not published, and `read` looks at a copy.
        let failed = unsafe {
            let n = n as ffi::Py_ssize_t;
            ffi::PyBuffer_FillInfo(view, this.as_ptr(), start.cast(), n, 0, flags)
        };
        match failed {
            0 => Ok(()),
            _ => Err(PyErr::fetch(this.py())),
        }
    }
}

/// An export of another object's memory.
pub(super) struct Export(Box<ffi::Py_buffer>);

// SAFETY: an export may be used and given back by any thread that is attached to the interpreter, and that is
// how it is given back (`drop`); its memory is only reached by functions of this file.
unsafe impl Send for Export {}

// SAFETY: nothing is done to it through a shared reference.
unsafe impl Sync for Export {}

impl Export {
    /// Memory to be read.
    pub(super) fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    fn get(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut buffer = boxed(ffi::Py_buffer::new())?;
        // SAFETY: `object` is alive, and `buffer` is an empty `Py_buffer` that stays where it is, in its box.
        let failed = unsafe {
            let buffer = ptr::from_mut(&mut *buffer);
            ffi::PyObject_GetBuffer(object.as_ptr(), buffer, flags)
        };
        match failed {
            0 => Ok(Self(buffer)),
            _ => Err(refused(object, PyErr::fetch(object.py()))),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// A copy of the bytes.
    pub(super) fn to_vec(&self) -> PyResult<Vec<u8>> {
        let mut copy = zeros(self.len())?;
        // SAFETY: the export has as many readable bytes, and the copy is new.
        unsafe { ptr::copy_nonoverlapping(self.start(), copy.as_mut_ptr(), copy.len()) };
        Ok(copy)
    }

    fn start(&self) -> *mut u8 {
        self.0.buf.cast()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // SAFETY: `get` filled it in, and it is given back once. Python is there as long as objects that hold
        // exports are freed.
        Python::attach(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.0) });
    }
}

/// Whether the caller has the only reference.
pub(super) fn is_alone<T>(this: &Bound<'_, T>) -> bool {
    // SAFETY: a valid reference to a live object, and the interpreter is attached. The count is one number on
    // every build, see `disown`. If it is 1, nobody else has the object or can get it.
    unsafe { ffi::Py_REFCNT(this.as_ptr()) == 1 }
}

/// Where `n` bytes at `offset` are, within `len` bytes from `start`.
fn check(start: *mut u8, len: usize, offset: usize, n: usize) -> PyResult<*mut u8> {
    match offset.checked_add(n) {
        Some(end) if end <= len => Ok(start.wrapping_add(offset)),
        _ => Err(exception::<PyValueError>(format_args!(
            "{n} bytes at {offset} are beyond the {len} bytes of this buffer"
        ))),
    }
}

/// A TypeError, as `file.readinto` raises it, whatever kind of error the object raised.
#[cold]
fn refused(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    if error.is_instance_of::<PyMemoryError>(py) || !error.is_instance_of::<PyException>(py) {
        return error;
    }
    let refused = exception::<PyTypeError>(format_args!(
        "a buffer is needed that is contiguous and, to receive into, writable; not {}",
        object.get_type()
    ));
    refused.set_cause(py, Some(error));
    refused
}
