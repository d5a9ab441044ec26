//! `bytepool._bytepool`: the module, its exceptions, and the one mapping of core errors to Python's.
//!
//! In this folder `///` is for the Python reader: it becomes `help()`.

mod allocator;
mod args;
mod budget;
mod decay;
mod lease;
mod note;
mod pool;
mod shared;
mod stats;
mod tracking;

use pyo3::PyTypeInfo;
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Error;

create_exception!(
    bytepool,
    MisuseError,
    PyRuntimeError,
    "An allocator or a pool was used out of turn: the calling code has lost track of it.\n\n\
     Nothing is damaged and everything stays usable, but the caller has a bug."
);
create_exception!(
    bytepool,
    BytesAlreadyAllocatedError,
    MisuseError,
    "``allocate()`` was called on an allocator that holds bytes already."
);
create_exception!(
    bytepool,
    BytesAlreadyReturnedError,
    MisuseError,
    "``release()`` or ``bytes()`` was called on an allocator that holds nothing."
);

create_exception!(
    bytepool,
    PoolClosedError,
    MisuseError,
    "Bytes were asked of a pool that was closed.\n\n\
     Buffers that are out stay valid, and their memory is freed when they come home."
);
create_exception!(
    bytepool,
    BytesOverwrittenError,
    MisuseError,
    "Somebody wrote to bytes after they had come home, through an address that was kept.\n\n\
     A pool with ``poison=True`` raises it, at the next allocation of those bytes."
);
create_exception!(
    bytepool,
    PoolExhaustedError,
    PyMemoryError,
    "The pool's budget (``max_bytes``) is used up, or others wait for it already.\n\n\
     Give something back and ask again, or wait: ``allocate(n, timeout=...)``, ``allocate_async(n)``."
);

/// Bytes that any process has unless its memory is used up.
const LITTLE: usize = 64 << 10;

impl From<Error> for PyErr {
    #[cold]
    fn from(error: Error) -> Self {
        if let Error::OutOfMemory { requested } = error
            && requested < LITTLE
        {
            // Then there is no memory for a message either, and Rust would abort for want of it.
            return Python::attach(|py| {
                let bare = py.get_type::<PyMemoryError>().call0();
                bare.map_or_else(|error| error, PyErr::from_value)
            });
        }
        let message = error.to_string();
        match error {
            Error::MinSizeAboveMaxSize { .. }
            | Error::MaxSizeTooLarge { .. }
            | Error::Steps { .. } => exception::<PyValueError>(message),
            Error::TooLarge { .. } => exception::<PyOverflowError>(message),
            Error::OutOfMemory { .. } => exception::<PyMemoryError>(message),
            Error::Exhausted { .. } | Error::AboveBudget { .. } => {
                exception::<PoolExhaustedError>(message)
            }
            Error::Closed { .. } => exception::<PoolClosedError>(message),
            Error::Overwritten { .. } => exception::<BytesOverwrittenError>(message),
        }
    }
}

/// An exception, made here and now. PyO3 would make it later, where it aborts for want of memory.
#[cold]
fn exception<E: PyTypeInfo>(message: impl AsRef<str>) -> PyErr {
    Python::attach(|py| {
        let made = string(py, message).and_then(|text| py.get_type::<E>().call1((text,)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

/// Python's string. Where PyO3 makes one itself, it panics for want of memory.
fn string(py: Python<'_>, text: impl AsRef<str>) -> PyResult<Bound<'_, PyString>> {
    PyString::from_bytes(py, text.as_ref().as_bytes())
}

/// The compiled half of bytepool. Import its names from ``bytepool``.
// Everything here may be called by several threads at once: the classes are frozen, their state is
// behind locks and atomics, and no lock is held while Python runs.
#[pymodule(gil_used = false)]
mod _bytepool {
    #[pymodule_export]
    use super::{
        BytesAlreadyAllocatedError, BytesAlreadyReturnedError, BytesOverwrittenError, MisuseError,
        PoolClosedError, PoolExhaustedError, allocator::Allocator, budget::Ticket, lease::Lease,
        note::Note, pool::Pool,
    };
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);
}
