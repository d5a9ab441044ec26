//! Python objects, or MemoryError. PyO3's own functions for these panic if memory is short, and a `String` of Rust
//! aborts the process.

use std::fmt::{self, Write};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString};

/// A string of what `text` shows.
pub(super) fn string(py: Python<'_>, text: impl fmt::Display) -> PyResult<Bound<'_, PyString>> {
    let mut bytes = Text(Vec::new());
    write!(bytes, "{text}").map_err(|_| no_memory(py))?;
    PyString::from_bytes(py, &bytes.0)
}

/// An integer. (CPython has those up to 256 already.)
pub(super) fn integer(py: Python<'_>, n: u64) -> PyResult<Bound<'_, PyAny>> {
    if n <= 256 {
        return Ok(n.into_pyobject(py)?.into_any());
    }
    py.get_type::<PyInt>().call1((string(py, n)?,))
}

pub(super) fn list<'py>(
    py: Python<'py>,
    items: impl IntoIterator<Item = Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let list = py.get_type::<PyList>().call0()?.cast_into::<PyList>()?;
    for item in items {
        list.append(item)?;
    }
    Ok(list)
}

/// A MemoryError without a message.
#[cold]
pub(super) fn no_memory(py: Python<'_>) -> PyErr {
    let bare = py.get_type::<PyMemoryError>().call0();
    bare.map_or_else(|error| error, PyErr::from_value)
}

/// Text that grows as long as there is memory.
struct Text(Vec<u8>);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
