//! The class `Target`: memory that a protocol has its transport fill.

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::args::{Integer, Limit};
use super::bytes::{Export, ReceiveBuffer};
use super::error::exception;
use crate::sync::Mutex;

/// Memory that a protocol has its transport fill, from the front to the back.
///
/// ``Target(n)`` is memory for a ``bytes`` object of ``n`` bytes, which ``finish()`` returns.
/// ``Target.over(buffer)`` is the memory of any writable, contiguous buffer. It keeps the buffer.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Target {
    /// `None` after `finish`.
    memory: Mutex<Option<Py<ReceiveBuffer>>>,
}

impl Target {
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, ReceiveBuffer>> {
        let memory = self.memory.lock();
        match &*memory {
            Some(memory) => Ok(memory.bind(py).clone()),
            None => Err(exception::<PyBufferError>("the target is finished")),
        }
    }

    fn with(memory: Bound<'_, ReceiveBuffer>) -> Self {
        Self {
            memory: Mutex::new(Some(memory.unbind())),
        }
    }
}

#[pymethods]
impl Target {
    #[new]
    fn new(py: Python<'_>, n: Integer) -> PyResult<Self> {
        let n = n.check("n", Limit::Platform)?;
        Ok(Self::with(ReceiveBuffer::bytes(py, n)?))
    }

    /// Return a target in the memory of ``buffer``.
    ///
    /// Raises TypeError if the buffer is not writable and contiguous.
    #[staticmethod]
    fn over(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::with(ReceiveBuffer::over(buffer)?))
    }

    /// Return a writable memoryview of the bytes that are not filled yet.
    fn rest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        let memory = self.memory(py)?;
        let (from, to) = (memory.get().filled(), memory.get().len());
        ReceiveBuffer::view(&memory, from, to)
    }

    /// Count ``n`` bytes at the start of ``rest()`` as filled, and return whether all bytes are.
    ///
    /// Raises ValueError if ``rest()`` is shorter.
    fn advance(&self, py: Python<'_>, n: usize) -> PyResult<bool> {
        let memory = self.memory(py)?;
        let memory = memory.get();
        let rest = memory.len().saturating_sub(memory.filled());
        if n > rest {
            return Err(exception::<PyValueError>(format_args!(
                "{n} bytes are more than the {rest} bytes that are not filled"
            )));
        }
        memory.set_filled(memory.filled().saturating_add(n));
        Ok(n == rest)
    }

    /// Copy the start of ``data`` to the start of ``rest()``, and return how many bytes fit.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let data = Export::readable(data)?;
        let memory = self.memory(py)?;
        let memory = memory.get();
        let n = data.len().min(memory.len().saturating_sub(memory.filled()));
        memory.fill(memory.filled(), &data, 0, n)?;
        memory.set_filled(memory.filled().saturating_add(n));
        Ok(n)
    }

    /// Return the filled bytes, and let go of the memory.
    ///
    /// They are not copied if this is memory for a ``bytes`` object, all of it is filled, and nothing holds a
    /// view of it. After this, all methods raise BufferError.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let memory = self.memory.lock().take();
        let Some(memory) = memory.map(|memory| memory.into_bound(py)) else {
            return Err(exception::<PyBufferError>("the target is finished"));
        };
        let (filled, len) = (memory.get().filled(), memory.get().len());
        if filled == len {
            ReceiveBuffer::publish(memory)
        } else {
            memory.get().copy_out(py, 0, filled)
        }
    }

    /// How many bytes are filled; 0 after ``finish()``.
    #[getter]
    fn filled(&self, py: Python<'_>) -> usize {
        self.memory(py).map_or(0, |memory| memory.get().filled())
    }
}
