//! Requests to the C library's malloc: to return free memory to the system, or to keep it.

use pyo3::intern;
use pyo3::prelude::*;

use crate::malloc;

/// Lets glibc keep the memory of freed blocks of at least ``n`` bytes for the next ones.
///
/// Without this, it returns each of them to the system, and every page of the next one is faulted in anew.
/// Nothing happens below 128 KiB, after the first time, and with another C library.
#[pyfunction]
pub(super) fn expect_large_blocks(n: usize) {
    malloc::expect_large_blocks(n);
}

/// Returns the free memory of malloc to the system, if this is glibc: others have no such call or need none.
///
/// glibc itself returns only what is free above the last block in use, however small that is. This call returns
/// each free page. It goes through ctypes, so that this crate needs no unsafe code for it.
pub(super) fn trim(py: Python<'_>) {
    if !cfg!(target_env = "gnu") {
        return;
    }
    // Memory may be freed because an exception ends a function.
    let raised = PyErr::take(py);
    // Where ctypes is missing or the interpreter is ending, the memory stays with malloc, which reuses it.
    let _ = malloc_trim(py);
    if let Some(raised) = raised {
        raised.restore(py);
    }
}

fn malloc_trim(py: Python<'_>) -> PyResult<()> {
    let ctypes = py.import(intern!(py, "ctypes"))?;
    let library = ctypes.call_method1(intern!(py, "CDLL"), (py.None(),))?;
    library.call_method1(intern!(py, "malloc_trim"), (0,))?;
    Ok(())
}
