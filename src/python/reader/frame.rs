//! One step of reading a message of `frames()`.

use pyo3::exceptions::{PyStopAsyncIteration, PyValueError};
use pyo3::prelude::*;

use super::format::{Extent, Format};
use super::state::{Reader, Want};
use super::work::{Progress, Work};
use crate::fallible::copy;
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::exception;

impl Work {
    pub(super) fn read_frame(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        format: Format,
        as_bytes: bool,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this) = (reader.py(), reader.get());
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
        if as_bytes {
            if missing == 0 {
                let bytes = this.take_after(py, format.strip, size)?;
                return Ok(Progress::Ready(bytes.into_any().unbind()));
            }
            let memory = ReceiveBuffer::bytes(py, size)?;
            return self.receive_rest(this, py, name, memory, format.strip);
        }
        if self.result.is_none() {
            if let Some(wait) = self.lend(reader, size, total)? {
                return Ok(wait);
            }
        }
        let Some(view) = self.result.as_ref().map(|view| view.bind(py).clone()) else {
            return Ok(Progress::Ready(py.None()));
        };
        if missing == 0 {
            this.take_into(py, &view, format.strip, size)?;
            return self.finish(py, this);
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
        self.prefix = this.look(py, strip, copy)??;
        this.consume(py, strip)?;
        self.receive_in_place(this, py, name, memory)
    }
}
