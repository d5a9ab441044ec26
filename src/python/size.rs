//! A number of bytes, or of buffers, that comes from Python and is not to be trusted.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
use pyo3::{Borrowed, intern};

/// Anything with `__index__`, from 0 to `sys.maxsize`.
pub(super) struct Size(pub(super) usize);

impl FromPyObject<'_, '_> for Size {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.extract::<isize>() {
            Ok(n) => usize::try_from(n).map(Self).map_err(|_| negative(&n)),
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                Err(out_of_range(&object).unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }
}

#[cold]
fn negative(n: &dyn std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("must be 0 or more, not {n}"))
}

/// The error for an integer that a machine word does not hold; `None` where an `__index__` of the
/// caller's raised the overflow itself.
#[cold]
fn out_of_range(object: &Bound<'_, PyAny>) -> Option<PyErr> {
    let py = object.py();
    let number = object.cast::<PyInt>().ok()?;
    if number.lt(0).ok()? {
        return Some(negative(&"a huge negative number"));
    }
    let bits = number.call_method0(intern!(py, "bit_length")).ok()?;
    Some(PyOverflowError::new_err(format!(
        "an integer of {bits} bits is more than one buffer can have on this platform ({} bytes)",
        isize::MAX
    )))
}
