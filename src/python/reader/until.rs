//! One step of `readuntil` and `readline`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::error::{incomplete, overrun};
use super::state::{Reader, Want};
use super::work::{Op, Progress, Work};
use crate::python::error::exception;

impl Work {
    pub(super) fn read_until(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        first: bool,
    ) -> PyResult<Progress> {
        let (separators, is_line) = match &self.op {
            Op::Until(separators) => (separators, false),
            Op::Line(separators) => (separators, true),
            _ => return Ok(Progress::Ready(py.None())),
        };
        let (unread, limit) = (this.unread(), this.limit());
        if unread.saturating_sub(self.searched) >= separators.shortest() {
            let from = self.searched;
            let found = this.look(py, unread, |bytes| separators.find(bytes, from))?;
            if let Some((start, end)) = found {
                if start <= limit {
                    return Ok(Progress::Ready(this.take(py, end)?.into_any().unbind()));
                }
                let message = "Separator is found, but chunk is longer than limit";
                if is_line {
                    this.consume(py, end)?;
                    return Err(exception::<PyValueError>(message));
                }
                return Err(overrun(py, message, start));
            }
            self.searched = unread
                .saturating_add(1)
                .saturating_sub(separators.longest());
            if self.searched > limit {
                let message = "Separator is not found, and chunk exceed the limit";
                if is_line {
                    this.consume(py, unread)?;
                    return Err(exception::<PyValueError>(message));
                }
                return Err(overrun(py, message, self.searched));
            }
        }
        if !first {
            this.check_error(py)?;
        }
        if !this.is_eof() {
            return Ok(Progress::Wait(Want::Anything));
        }
        let partial = this.take(py, unread)?.into_any();
        if is_line {
            return Ok(Progress::Ready(partial.unbind()));
        }
        Err(incomplete(partial, unread, py.None()))
    }
}
