//! The lease: the hidden object that owns a buffer and exports it. Memory goes home when it dies.
//! The only file with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::note::Note;
use super::shared::Core;
use crate::budget::Turn;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::pool::Pool;
use crate::sync::{AtomicU8, Ordering};

/// To zero so many bytes takes longer than to let go of the interpreter and take it again.
const LARGE: usize = 64 << 10;

/// Not with the user yet, or released.
const AT_HOME: u8 = 0;
/// The user has it and has not released it: if it dies now, it was dropped.
const HANDED_OUT: u8 = 1;
/// Released, and somebody else still has it.
const DEFERRED: u8 = 2;

/// What owns the memory behind the views of a pool.
///
/// Every memoryview, slice, array or queued write made from a pooled view holds a reference to one of
/// these (``view.obj``); the bytes go back to the pool when the last such reference is gone. It cannot
/// be created, copied or pickled, and has no methods: it only exports its bytes.
// No `__releasebuffer__`: exports are not counted, because some libraries keep a reference to the
// exporter and no export (`np.ndarray(buffer=...)`). The reference is what counts.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Lease {
    /// Where the buffer's bytes are, for views to share: no reference to the bytes may be formed while
    /// Python can write to them.
    bytes: Address,
    /// One of the states above.
    state: AtomicU8,
    /// What the pool noted of it, if it tracks this one.
    note: Option<Py<Note>>,
    /// Owns the bytes, and is not asked for them until `drop`.
    buffer: Buffer<Core>,
}

struct Address(*mut u8);

// SAFETY:
// - the pointer is into memory that `buffer` owns, which may be sent between threads;
// - this file never reads or writes through it: Python does, under the buffer protocol's own rules,
//   which leave data races between its threads to the users of a buffer, as with `bytearray`.
unsafe impl Send for Address {}

// SAFETY: as for `Send`; sharing the struct shares only the pointer's value.
unsafe impl Sync for Address {}

impl Lease {
    /// Borrows `n` bytes from the pool, for Python. `note` says what the pool noted of them, `refused` is
    /// told why there are none.
    #[inline]
    pub(super) fn create<'py>(
        py: Python<'py>,
        core: Core,
        n: usize,
        note: impl FnOnce() -> Option<Py<Note>>,
        refused: impl FnOnce(Error) -> PyResult<Bound<'py, Self>>,
    ) -> PyResult<Bound<'py, Self>> {
        let prepare = |buffer: &mut Buffer<Core>| at_length(py, buffer.len(), || buffer.prepare());
        match Pool::lend(core, n, prepare) {
            Ok(buffer) => Self::wrap(py, buffer, note()),
            Err(error) => refused(error),
        }
    }

    /// The same, for who waited in the queue. `None` as long as it is not their turn.
    pub(super) fn create_in_turn<'py>(
        py: Python<'py>,
        core: Core,
        n: usize,
        note: impl FnOnce() -> Option<Py<Note>>,
        turn: &Turn,
    ) -> Option<PyResult<Bound<'py, Self>>> {
        let prepare = |buffer: &mut Buffer<Core>| at_length(py, buffer.len(), || buffer.prepare());
        match Pool::lend_turn(core, n, turn, prepare)? {
            Ok(buffer) => Some(Self::wrap(py, buffer, note())),
            Err(error) => Some(Err(error.into())),
        }
    }

    #[inline]
    fn wrap(
        py: Python<'_>,
        mut buffer: Buffer<Core>,
        note: Option<Py<Note>>,
    ) -> PyResult<Bound<'_, Self>> {
        let lease = Bound::new(
            py,
            Self {
                bytes: Address(buffer.as_mut_ptr()),
                state: AtomicU8::new(AT_HOME),
                note,
                buffer,
            },
        )?;
        disown(&lease);
        if let Some(note) = &lease.get().note {
            note.get().set_lease(lease.as_ptr() as usize);
        }
        Ok(lease)
    }

    /// A new memoryview of the bytes, which holds a reference to the lease.
    pub(super) fn view(lease: &Bound<'_, Self>) -> PyResult<Py<PyMemoryView>> {
        Ok(PyMemoryView::from(lease.as_any())?.unbind())
    }

    /// The bytes asked for.
    pub(super) fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Notes that the user has it from now on.
    pub(super) fn hand_out(lease: &Bound<'_, Self>) {
        lease.get().state.store(HANDED_OUT, Ordering::Relaxed);
    }

    /// Gives up the owner's reference: the bytes are home when this returns, or, if somebody else
    /// still holds the lease, when that holder lets go.
    pub(super) fn release(lease: Bound<'_, Self>) {
        let this = lease.get();
        this.state.store(AT_HOME, Ordering::Relaxed);
        // One number on every build, see `disown`. If it is 1, nobody else has it or can get it any more.
        // SAFETY: `lease` is a valid reference to a live object, and the interpreter is attached.
        let references = unsafe { ffi::Py_REFCNT(lease.as_ptr()) };
        if references > 1 {
            this.state.store(DEFERRED, Ordering::Relaxed);
            this.buffer.pool().begin_deferral(this.buffer.capacity());
            if let Some(note) = &this.note {
                note.get().release();
            }
        }
    }
}

#[pymethods]
impl Lease {
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
        // - the view gets its own strong reference to the lease, so the lease lives as long as it;
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
    /// No view is left: each holds a reference to the lease, whose last one is gone. (Whoever keeps a
    /// bare address beyond that, an export given back or a `ctypes` pointer, has broken the buffer
    /// protocol's contract, as it would with any exporter.) So the buffer has its bytes to itself again.
    #[inline]
    fn drop(&mut self) {
        if self.buffer.pool().wipes() {
            wipe(&mut self.buffer);
        }
        let state = *self.state.get_mut();
        if state == HANDED_OUT {
            self.buffer.mark_dropped();
        }
        if state == DEFERRED || self.note.is_some() {
            self.end_unusually(state);
        }
    }
}

impl Lease {
    #[cold]
    #[inline(never)]
    fn end_unusually(&mut self, state: u8) {
        if let Some(note) = self.note.take() {
            let dropped = state == HANDED_OUT;
            Python::attach(|py| tell(py, || Note::end(note.bind(py), dropped)));
        }
        if state == DEFERRED {
            self.buffer.pool().end_deferral(self.buffer.capacity());
        }
    }
}

/// Has a new object die at once when the last reference is gone, whichever thread lets go of it.
///
/// A free-threaded Python counts the references of the thread that made an object apart from all others'.
/// An object that another thread lets go of is freed when the one that made it next runs Python code, which
/// may be never, and until then its count is not to be relied on. So it belongs to no thread, from the
/// start. Elsewhere this does nothing.
#[inline]
#[cfg_attr(
    not(Py_GIL_DISABLED),
    expect(unused_variables, reason = "nothing to do")
)]
pub(super) fn disown<T>(object: &Bound<'_, T>) {
    // SAFETY:
    // - the object is alive and was just made by this thread, which has the only references to it, so
    //   nobody else reads or writes its counts now;
    // - its own count is moved to the shared one, and that is marked as all there is: what CPython itself
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

#[cold]
fn wipe(buffer: &mut Buffer<Core>) {
    Python::attach(|py| at_length(py, buffer.len(), || buffer.wipe()));
}

/// Calls code of ours in Python, perhaps while an exception is on its way up, which it must not see.
#[cold]
fn tell(py: Python<'_>, call: impl FnOnce() -> PyResult<()>) {
    let pending = PyErr::take(py);
    if let Err(error) = call() {
        error.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

/// Does the work, which is to zero or check so many bytes, and lets other threads run meanwhile if it takes
/// long.
fn at_length<R: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    if bytes < LARGE {
        work()
    } else {
        py.detach(work)
    }
}
