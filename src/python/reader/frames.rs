//! `reader.frames()`: length-prefixed messages.

use pyo3::exceptions::{PyStopAsyncIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Reader;
use super::ops::Progress;
use super::read::Read;
use super::state::Want;
use super::work::{Op, Work};
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::exception;

/// The messages of a stream, one after the other. ``StreamReader.frames()`` says how they are read.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(in crate::python) struct Frames {
    reader: Py<Reader>,
    format: Format,
    as_bytes: bool,
}

/// The layout of a message in the stream.
pub(super) struct Format {
    length_size: usize,
    is_little: bool,
    offset: usize,
    adjustment: i64,
    strip: usize,
    max_size: usize,
}

/// The size of one message, with and without the bytes that are stripped.
struct Extent {
    total: usize,
    size: usize,
}

impl Format {
    pub(super) fn new(
        length_size: usize,
        byteorder: &str,
        offset: usize,
        adjustment: i64,
        strip: Option<usize>,
        max_size: usize,
    ) -> PyResult<Self> {
        if !(1..=8).contains(&length_size) {
            return Err(exception::<PyValueError>(format!(
                "length_size must be 1 to 8 bytes, not {length_size}"
            )));
        }
        let is_little = match byteorder {
            "big" => false,
            "little" => true,
            _ => {
                return Err(exception::<PyValueError>(format!(
                    "byteorder must be 'big' or 'little', not {byteorder:?}"
                )));
            }
        };
        if offset > LONGEST_HEADER || strip.unwrap_or(0) > LONGEST_HEADER {
            return Err(exception::<PyValueError>(format!(
                "offset and strip must be at most {LONGEST_HEADER} bytes"
            )));
        }
        let mut format = Self {
            length_size,
            is_little,
            offset,
            adjustment,
            strip: 0,
            max_size,
        };
        format.strip = strip.unwrap_or_else(|| format.header());
        Ok(format)
    }

    /// The number of bytes up to the end of the length field.
    fn header(&self) -> usize {
        self.offset.saturating_add(self.length_size)
    }

    /// Reads the size of the message from its header, or says why it is invalid.
    fn extent(&self, header: &[u8]) -> Result<Extent, String> {
        let field = header.get(self.offset..self.header()).unwrap_or_default();
        let digit = |length: u64, byte: &u8| (length << 8) | u64::from(*byte);
        let length = if self.is_little {
            field.iter().rev().fold(0, digit)
        } else {
            field.iter().fold(0, digit)
        };
        let behind = i128::from(length).saturating_add(i128::from(self.adjustment));
        let Ok(behind) = u128::try_from(behind) else {
            return Err(format!(
                "a message of length {length} with adjustment {} would end before its length field",
                self.adjustment
            ));
        };
        let total = behind.saturating_add(self.header() as u128);
        let Some(size) = total.checked_sub(self.strip as u128) else {
            return Err(format!(
                "a message of {total} bytes has no {} bytes to strip",
                self.strip
            ));
        };
        match (usize::try_from(total), usize::try_from(size)) {
            (Ok(total), Ok(size)) if size <= self.max_size => Ok(Extent { total, size }),
            _ => Err(format!(
                "a message of {size} bytes is above max_size ({} bytes)",
                self.max_size
            )),
        }
    }
}

/// More bytes than any header has. A header is read ahead as a whole.
const LONGEST_HEADER: usize = 4 << 10;

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

    fn __anext__(slf: Bound<'_, Self>) -> Read {
        let reader = slf.get().reader.bind(slf.py()).clone();
        Read::new(reader, "frames", Ok(Work::new(Op::Frame(slf.unbind()))))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)
    }
}

impl Work {
    pub(super) fn read_frame(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        frames: &Frames,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this, format) = (reader.py(), reader.get(), &frames.format);
        let (unread, header) = (this.unread(), format.header());
        if unread < header {
            if unread == 0 && this.is_eof() {
                this.check_error(py)?;
                return Err(exception::<PyStopAsyncIteration>(""));
            }
            self.check_going_on(this, py, header, first)?;
            return Ok(Progress::Wait(Want::Unread(header)));
        }
        let extent = this.look(py, header, |bytes| format.extent(bytes))?;
        let Extent { total, size } = extent.map_err(exception::<PyValueError>)?;
        let missing = total.saturating_sub(unread);
        if missing > 0 && self.result.is_none() {
            self.check_going_on(this, py, total, first)?;
            // A few missing bytes are awaited before memory is taken for the message.
            if missing < this.in_place() || unread < format.strip {
                this.follow(total);
                let wanted = if missing < this.in_place() {
                    total
                } else {
                    format.strip
                };
                return Ok(Progress::Wait(Want::Unread(wanted)));
            }
            this.check_alone(name)?;
        }
        if frames.as_bytes {
            if missing == 0 {
                let bytes = this.take_after(py, format.strip, size)?;
                return Ok(Progress::Ready(bytes.into_any().unbind()));
            }
            let memory = ReceiveBuffer::bytes(py, size)?;
            return self.receive_rest(this, py, name, memory, format.strip);
        }
        if self.result.is_none() {
            if let Some(wait) = self.lend(reader, size)? {
                return Ok(wait);
            }
        }
        let Some(view) = self.result.as_ref().map(|view| view.bind(py).clone()) else {
            return Ok(Progress::Ready(py.None()));
        };
        if missing == 0 {
            this.take_into(py, &view, format.strip, size)?;
            return self.finish(py);
        }
        self.check_going_on(this, py, total, first)?;
        let memory = ReceiveBuffer::over(&view)?;
        self.receive_rest(this, py, name, memory, format.strip)
    }

    /// Receives a message in place without its first `strip` bytes. Those are kept, to be put back if the read ends
    /// early.
    fn receive_rest(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        name: &str,
        memory: Bound<'_, ReceiveBuffer>,
        strip: usize,
    ) -> PyResult<Progress> {
        this.check_alone(name)?;
        self.prefix = this.look(py, strip, <[u8]>::to_vec)?;
        this.consume(py, strip)?;
        self.receive_in_place(this, py, name, memory)
    }
}
