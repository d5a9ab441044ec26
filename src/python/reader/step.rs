//! One step of a read: take received bytes, or name what to wait for.

use pyo3::prelude::*;

use super::error::is_want_of_memory;
use super::in_place::ready;
use super::state::{Reader, Want};
use super::work::{Op, Progress, Work};
use crate::python::bytes::ReceiveBuffer;

impl Work {
    pub(super) fn attempt(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this) = (reader.py(), reader.get());
        this.absorb(py)?;
        if first {
            self.go_on(py, this)?;
        }
        if let Some(memory) = &self.memory {
            if memory.get().filled() < memory.get().len() {
                return self.wait_for_target(py, this);
            }
            return self.finish(py, this);
        }
        if let Op::Into(buffer) = &self.op {
            if first {
                self.buffer = Some(ReceiveBuffer::over(buffer.bind(py))?.unbind());
            }
            return self.read_into(this, py, name, first);
        }
        if first {
            this.check_error(py)?;
            if !matches!(self.op, Op::Exactly(0) | Op::AtMost(0) | Op::View(0)) {
                this.check_not_all_is_read(name)?;
            }
        }
        match &self.op {
            &Op::Exactly(n) => self.read_exactly(this, py, name, n, first),
            &Op::View(n) => self.read_view(reader, name, n, first),
            &Op::AtMost(n) => match this.unread() {
                _ if n == 0 => Ok(Progress::Ready(this.take(py, 0)?.into_any().unbind())),
                0 if !this.is_eof() => {
                    if !first {
                        this.check_error(py)?;
                    }
                    Ok(Progress::Wait(Want::Anything))
                }
                unread => Ok(Progress::Ready(
                    this.take(py, n.min(unread))?.into_any().unbind(),
                )),
            },
            Op::ToTheEnd => {
                this.check_error(py)?;
                if this.is_eof() {
                    let all = this.take(py, this.unread())?;
                    return Ok(Progress::Ready(all.into_any().unbind()));
                }
                Ok(Progress::Wait(Want::End))
            }
            Op::Anything => {
                if !first {
                    this.check_error(py)?;
                    return Ok(Progress::Ready(py.None()));
                }
                Ok(Progress::Wait(Want::Anything))
            }
            Op::Into(_) => ready(0, py),
            Op::Until(_) | Op::Line(_) => self.read_until(this, py, first),
            &Op::Frame { format, as_bytes } => {
                self.read_frame(reader, name, format, as_bytes, first)
            }
        }
    }

    fn read_exactly(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        name: &str,
        n: usize,
        first: bool,
    ) -> PyResult<Progress> {
        let unread = this.unread();
        if unread >= n {
            return Ok(Progress::Ready(this.take(py, n)?.into_any().unbind()));
        }
        self.check_going_on(this, py, n, first)?;
        if n.saturating_sub(unread) >= this.in_place() {
            match ReceiveBuffer::bytes(py, n) {
                Ok(memory) => return self.receive_in_place(this, py, name, memory),
                // There is no memory for the whole result, so the bytes are read ahead as far as possible.
                Err(error) if is_want_of_memory(py, &error) => {}
                Err(error) => return Err(error),
            }
        }
        this.follow(n);
        Ok(Progress::Wait(Want::Unread(n)))
    }

    fn read_view(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        n: usize,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this) = (reader.py(), reader.get());
        let unread = this.unread();
        if unread < n && self.result.is_none() {
            // A few missing bytes are awaited before memory is taken.
            if n < this.in_place() {
                self.check_going_on(this, py, n, first)?;
                this.follow(n);
                return Ok(Progress::Wait(Want::Unread(n)));
            }
            this.check_alone(name)?;
        }
        let Some(view) = self.result.as_ref().map(|view| view.bind(py).clone()) else {
            if let Some(wait) = self.lend(reader, n, n)? {
                return Ok(wait);
            }
            return self.read_view(reader, name, n, first);
        };
        if unread >= n {
            this.take_into(py, &view, 0, n)?;
            return self.finish(py, this);
        }
        self.check_going_on(this, py, n, first)?;
        let memory = ReceiveBuffer::over(&view)?;
        self.receive_in_place(this, py, name, memory)
    }

    fn read_into(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        name: &str,
        first: bool,
    ) -> PyResult<Progress> {
        let Some(buffer) = self.buffer.take().map(|buffer| buffer.into_bound(py)) else {
            return ready(0, py);
        };
        let n = buffer.get().len();
        if n == 0 {
            return ready(0, py);
        }
        if first {
            this.check_error(py)?;
            this.check_not_all_is_read(name)?;
        }
        let unread = this.unread();
        if unread >= n {
            this.move_to(py, buffer.get())?;
            return ready(n, py);
        }
        if !first {
            this.check_error(py)?;
        }
        if this.is_eof() {
            // All that came is in the buffer then.
            this.move_to(py, buffer.get())?;
            self.memory = Some(buffer.unbind());
            return self.wait_for_target(py, this);
        }
        if n.saturating_sub(unread) >= this.in_place() {
            return self.receive_in_place(this, py, name, buffer);
        }
        self.buffer = Some(buffer.unbind());
        this.follow(n);
        Ok(Progress::Wait(Want::Unread(n)))
    }
}
