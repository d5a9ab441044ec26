//! One step of a read: take received bytes, or name what to wait for.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Reader;
use super::state::{Want, incomplete, is_want_of_memory};
use super::work::{Op, Work};
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::PoolExhaustedError;

pub(super) enum Progress {
    Ready(Py<PyAny>),
    Wait(Want),
    Await(Py<PyAny>),
}

impl Work {
    pub(super) fn attempt(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this) = (reader.py(), reader.get());
        this.absorb(py)?;
        if let Some(memory) = &self.memory {
            if memory.get().filled() < memory.get().len() {
                return self.wait_for_target(py, this);
            }
            return self.finish(py);
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
            Op::Frame(frames) => {
                let frames = frames.clone_ref(py);
                self.read_frame(reader, name, frames.get(), first)
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
            if let Some(wait) = self.lend(reader, n)? {
                return Ok(wait);
            }
            return self.read_view(reader, name, n, first);
        };
        if unread >= n {
            this.take_into(py, &view, 0, n)?;
            return self.finish(py);
        }
        self.check_going_on(this, py, n, first)?;
        let memory = ReceiveBuffer::over(&view)?;
        self.receive_in_place(this, py, name, memory)
    }

    /// Takes a view of `n` pooled bytes for the result, or names what to wait for.
    pub(super) fn lend(
        &mut self,
        reader: &Bound<'_, Reader>,
        n: usize,
    ) -> PyResult<Option<Progress>> {
        let py = reader.py();
        match reader.get().lend(py, n) {
            Ok(view) => {
                self.result = Some(view);
                Ok(None)
            }
            Err(error) if error.is_instance_of::<PoolExhaustedError>(py) => {
                let wait = reader.call_method1(intern!(py, "_wait_for_memory"), (n,))?;
                Ok(Some(Progress::Await(wait.unbind())))
            }
            Err(error) => Err(error),
        }
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
        self.check_going_on(this, py, n, first)?;
        if n.saturating_sub(unread) >= this.in_place() {
            return self.receive_in_place(this, py, name, buffer);
        }
        self.buffer = Some(buffer.unbind());
        this.follow(n);
        Ok(Progress::Wait(Want::Unread(n)))
    }

    pub(super) fn receive_in_place(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        name: &str,
        memory: Bound<'_, ReceiveBuffer>,
    ) -> PyResult<Progress> {
        this.check_alone(name)?;
        this.follow(memory.get().len());
        this.move_to(py, memory.get())?;
        this.set_target(Some(memory.clone()));
        self.memory = Some(memory.unbind());
        Ok(Progress::Wait(Want::Target))
    }

    fn wait_for_target(&mut self, py: Python<'_>, this: &Reader) -> PyResult<Progress> {
        this.check_error(py)?;
        if !this.is_eof() {
            return Ok(Progress::Wait(Want::Target));
        }
        let Some(memory) = self.memory.take() else {
            return Ok(Progress::Wait(Want::Target));
        };
        this.set_target(None);
        let (memory, prefix) = (memory.get(), std::mem::take(&mut self.prefix));
        let mut partial = memory.copy_out(py, 0, memory.filled())?.into_any();
        if !prefix.is_empty() {
            partial = PyBytes::new(py, &prefix).add(partial)?;
        }
        let expected = memory.len().saturating_add(prefix.len());
        Err(incomplete(partial, expected))
    }

    /// The result of a read in place that is complete.
    pub(super) fn finish(&mut self, py: Python<'_>) -> PyResult<Progress> {
        let memory = self.memory.take().map(|memory| memory.into_bound(py));
        match (&self.op, memory, self.result.take()) {
            (Op::Exactly(_) | Op::Frame(_), Some(memory), None) => Ok(Progress::Ready(
                ReceiveBuffer::publish(memory)?.into_any().unbind(),
            )),
            (Op::Into(_), Some(memory), _) => ready(memory.get().len(), py),
            (_, _, Some(view)) => Ok(Progress::Ready(view)),
            _ => Ok(Progress::Ready(py.None())),
        }
    }

    /// Raises if the `n` bytes can no longer come.
    pub(super) fn check_going_on(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        n: usize,
        first: bool,
    ) -> PyResult<()> {
        if !first {
            this.check_error(py)?;
        }
        if !this.is_eof() {
            return Ok(());
        }
        let partial = this.take(py, this.unread())?;
        match self.huge.take() {
            Some(huge) => Err(incomplete(partial.into_any(), huge)),
            None => Err(incomplete(partial.into_any(), n)),
        }
    }
}

fn ready(n: usize, py: Python<'_>) -> PyResult<Progress> {
    let n = n.into_pyobject(py)?;
    Ok(Progress::Ready(n.into_any().unbind()))
}
