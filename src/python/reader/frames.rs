//! `reader.frames()`: the class `Frames`, which makes a read for each message.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::format::Format;
use super::read::Read;
use super::state::Reader;
use super::work::{Op, Work};

/// The messages of a stream, one after the other. ``StreamReader.frames()`` says how they are read.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(in crate::python) struct Frames {
    reader: Py<Reader>,
    format: Format,
    as_bytes: bool,
}

impl Frames {
    pub(super) fn new(reader: Py<Reader>, format: Format, as_bytes: bool) -> Self {
        Self {
            reader,
            format,
            as_bytes,
        }
    }
}

#[pymethods]
impl Frames {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> Read {
        let Self {
            format, as_bytes, ..
        } = *self;
        let work = Work::new(Op::Frame { format, as_bytes });
        Read::new(self.reader.bind(py).clone(), "frames", Ok(work))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)
    }
}
