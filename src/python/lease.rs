//! The lease: the hidden object that owns a buffer and exports it. When it dies, its buffer is returned.
//!
//! Only this file and `bytes.rs` contain `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::shared::{PoolRef, detach_if_large};
use super::tracking::AllocationRecord;
use crate::buffer::{Buffer, Lender};
use crate::stats::ReturnedBy;
use crate::sync::{AtomicU8, Ordering};

/// Nobody has to release the lease: it was not handed out yet, or was released.
const RELEASED: u8 = 0;
/// The user has the lease and has not released it. If it dies now, it was dropped.
const HANDED_OUT: u8 = 1;
/// The user released the lease, and something else still holds it.
const DEFERRED: u8 = 2;

/// What owns the memory behind the views of a pool.
///
/// Every memoryview, slice, array or queued write made from a pooled view refers to a lease (``view.obj``).
/// When the last such reference is gone, the bytes are returned to the pool. A lease only exports its bytes:
/// it has no methods, and cannot be created, copied or pickled.
// No `__releasebuffer__`: exports are not counted, because some libraries keep a reference to the
// exporter and no export (`np.ndarray(buffer=...)`). The reference is what counts.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Lease {
    /// Where the buffer's bytes are, for views to share. Rust must not form a reference to the bytes while
    /// Python can write to them.
    bytes: Address,
    /// One of the constants above.
    state: AtomicU8,
    /// Present if the pool tracks this buffer.
    record: Option<Py<AllocationRecord>>,
    /// Owns the bytes, and does not touch them until `drop`.
    buffer: Buffer<PoolRef>,
}

/// Where the memory of an exporter is.
pub(super) struct Address(pub(super) *mut u8);

// SAFETY:
// - the pointer is into memory that its exporter owns, which may be sent between threads;
// - Python reads and writes through it, under the buffer protocol's own rules, which leave data races between
//   its threads to the users of a buffer, as with `bytearray`. Where Rust does (`bytes.rs`), a comment says why
//   it may.
unsafe impl Send for Address {}

// SAFETY: as for `Send`; sharing the struct shares only the pointer's value.
unsafe impl Sync for Address {}

impl Lease {
    /// A lease that owns the buffer.
    #[inline]
    pub(super) fn create(
        py: Python<'_>,
        mut buffer: Buffer<PoolRef>,
        record: Option<Py<AllocationRecord>>,
    ) -> PyResult<Bound<'_, Self>> {
        let lease = Bound::new(
            py,
            Self {
                bytes: Address(buffer.as_mut_ptr()),
                state: AtomicU8::new(RELEASED),
                record,
                buffer,
            },
        )?;
        disown(&lease);
        if let Some(record) = &lease.get().record {
            record.get().set_lease(lease.as_ptr() as usize);
        }
        Ok(lease)
    }

    /// A new memoryview of the bytes, which holds a reference to the lease.
    pub(super) fn view(lease: &Bound<'_, Self>) -> PyResult<Py<PyMemoryView>> {
        Ok(PyMemoryView::from(lease.as_any())?.unbind())
    }

    /// How many bytes were asked for.
    pub(super) fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The user has the lease from now on.
    pub(super) fn hand_out(lease: &Bound<'_, Self>) {
        lease.get().state.store(HANDED_OUT, Ordering::Relaxed);
    }

    /// Drops the owner's reference. The buffer is returned before this returns, or, if something else
    /// holds the lease, when the last holder drops its reference.
    pub(super) fn release(lease: Bound<'_, Self>) {
        let this = lease.get();
        this.state.store(RELEASED, Ordering::Relaxed);
        // The count is exact on every build, see `disown`. If it is 1, nobody else has the lease or can
        // get it any more.
        // SAFETY: `lease` is a valid reference to a live object, and the interpreter is attached.
        let references = unsafe { ffi::Py_REFCNT(lease.as_ptr()) };
        if references > 1 {
            this.state.store(DEFERRED, Ordering::Relaxed);
            this.buffer.lender().begin_deferral(this.buffer.capacity());
            if let Some(record) = &this.record {
                record.get().set_released();
            }
        }
    }
}

#[pymethods]
impl Lease {
    // A read-only view hashes the bytes once and keeps the hash, although the bytes can change. Python asks the
    // exporter first: writable memory must not be hashable, as with `bytearray`.
    #[classattr]
    const __hash__: Option<()> = None;

    /// Exports exactly the bytes that were asked for, writable.
    // SAFETY (of the slot as a whole): CPython calls it with a `view` to fill in and the flags of the
    // request.
    unsafe fn __getbuffer__(
        lease: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = lease.get();
        // No wrap: the pool lends no more than `isize::MAX` bytes.
        let len = this.buffer.len() as ffi::Py_ssize_t;
        // SAFETY:
        // - `view` is the caller's, null or writable; `PyBuffer_FillInfo` raises for null;
        // - the memory is `len` bytes or longer, was initialised when it was allocated, is writable,
        //   and stays where it is as long as the lease lives, whose buffer owns it;
        // - the view gets its own strong reference to the lease, so the lease lives as long as the view;
        // - not promised: that nobody writes while somebody reads. That is up to the users of the
        //   view, as with every writable buffer in Python.
        let failed = unsafe {
            ffi::PyBuffer_FillInfo(view, lease.as_ptr(), this.bytes.0.cast(), len, 0, flags)
        };
        match failed {
            0 => Ok(()),
            _ => Err(PyErr::fetch(lease.py())),
        }
    }
}

impl Drop for Lease {
    /// The last reference to the lease is gone. Every view holds one, so no view is left, and the buffer
    /// may touch its bytes again. (Code that keeps a bare address, of a released export or by `ctypes`,
    /// breaks the contract of the buffer protocol, as it would with any exporter.)
    #[inline]
    fn drop(&mut self) {
        if self.buffer.lender().wipes() {
            wipe(&mut self.buffer);
        }
        let state = *self.state.get_mut();
        if state == HANDED_OUT {
            self.buffer.set_returned_by(ReturnedBy::Drop);
        }
        if state == DEFERRED || self.record.is_some() {
            self.end_special(state);
        }
    }
}

impl Lease {
    /// The end of a lease that was deferred or is tracked.
    #[cold]
    #[inline(never)]
    fn end_special(&mut self, state: u8) {
        if let Some(record) = self.record.take() {
            Python::attach(|py| end_record(py, &record, state == HANDED_OUT));
        }
        if state == DEFERRED {
            self.buffer.lender().end_deferral(self.buffer.capacity());
        }
    }
}

/// A lease can die while an exception propagates. The Python code called here must not see that exception.
fn end_record(py: Python<'_>, record: &Py<AllocationRecord>, dropped: bool) {
    let pending = PyErr::take(py);
    if let Err(error) = AllocationRecord::end(record.bind(py), dropped) {
        error.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

#[cold]
fn wipe(buffer: &mut Buffer<PoolRef>) {
    Python::attach(|py| detach_if_large(py, buffer.len(), || buffer.wipe()));
}

/// Makes a new object die as soon as its last reference is gone, whichever thread drops it.
///
/// A free-threaded Python counts the references of the thread that created an object apart from those of
/// all other threads. If another thread drops the last reference, the object is freed when its creator
/// next runs Python code, which may be never, and until then the count is not exact. An object without an
/// owning thread has one exact count. This function removes the owner. Other builds have no such owner.
#[inline]
#[cfg_attr(
    not(Py_GIL_DISABLED),
    expect(unused_variables, reason = "nothing to do")
)]
pub(super) fn disown<T>(object: &Bound<'_, T>) {
    // SAFETY:
    // - the object is alive and was just created by this thread, which has the only references to it, so
    //   no other thread reads or writes its counts now;
    // - its own count is moved to the shared one, which is marked as complete: what CPython itself
    //   leaves behind when it merges the two (`_Py_ExplicitMergeRefcount`), in the fields of `PyObject`.
    #[cfg(Py_GIL_DISABLED)]
    unsafe {
        const UNOWNED: usize = 0;
        const MERGED: isize = 0b11;
        const SHIFT: u32 = 2;
        let object = object.as_ptr();
        let references = (*object).ob_ref_local.swap(0, Ordering::Relaxed) as isize;
        (&raw mut (*object).ob_tid).write(UNOWNED);
        let merged = (references << SHIFT) | MERGED;
        (*object).ob_ref_shared.store(merged, Ordering::Relaxed);
    }
}
