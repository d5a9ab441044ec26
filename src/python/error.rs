//! The exceptions of `bytepool`, and the one mapping of core errors to them.

use std::fmt;

use pyo3::PyTypeInfo;
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::objects::{no_memory, string};
use crate::error::Error;

create_exception!(
    bytepool,
    MisuseError,
    PyRuntimeError,
    "An allocator or a pool was used in a state that does not allow it.\n\n\
     Nothing is damaged and every object stays usable, but the calling code has a bug."
);
create_exception!(
    bytepool,
    BytesAlreadyAllocatedError,
    MisuseError,
    "``allocate()`` was called on an allocator that already holds bytes."
);
create_exception!(
    bytepool,
    BytesAlreadyReturnedError,
    MisuseError,
    "``release()`` or ``bytes()`` was called on an allocator that holds no bytes."
);
create_exception!(
    bytepool,
    PoolClosedError,
    MisuseError,
    "A closed pool was asked for bytes.\n\n\
     Buffers in use stay valid. Their memory is freed when they are returned."
);
create_exception!(
    bytepool,
    BytesOverwrittenError,
    MisuseError,
    "An idle buffer was written to, through an address that was kept after its return.\n\n\
     Only a pool with ``poison=True`` raises this, when it is about to lend the buffer again."
);
create_exception!(
    bytepool,
    PoolExhaustedError,
    PyMemoryError,
    "The pool's budget (``max_bytes``) is used up, or other requests already wait for it.\n\n\
     Release buffers and try again, or wait: ``allocate(n, timeout=...)``,\n\
     ``allocate_async(n)``."
);

/// An allocation of fewer bytes than this fails only when the process has no memory left at all.
const SMALL_ALLOCATION: usize = 64 << 10;

impl From<Error> for PyErr {
    #[cold]
    fn from(error: Error) -> Self {
        if matches!(error, Error::OutOfMemory { requested } if requested < SMALL_ALLOCATION) {
            // No memory is left for a message.
            return Python::attach(no_memory);
        }
        match error {
            Error::MinSizeAboveMaxSize { .. } | Error::MaxSizeTooLarge { .. } => {
                exception::<PyValueError>(error)
            }
            Error::TooLarge { .. } => exception::<PyOverflowError>(error),
            Error::OutOfMemory { .. } => exception::<PyMemoryError>(error),
            Error::Exhausted { .. } | Error::AboveBudget { .. } => {
                exception::<PoolExhaustedError>(error)
            }
            Error::Closed { .. } => exception::<PoolClosedError>(error),
            Error::Overwritten { .. } => exception::<BytesOverwrittenError>(error),
        }
    }
}

/// Creates an exception immediately. PyO3 creates exceptions later, where it aborts if memory is short.
#[cold]
pub(super) fn exception<E: PyTypeInfo>(message: impl fmt::Display) -> PyErr {
    Python::attach(|py| {
        let made = string(py, message).and_then(|text| py.get_type::<E>().call1((text,)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
