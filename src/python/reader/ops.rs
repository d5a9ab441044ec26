//! What a read does when it runs: take what has come, or say what to wait for.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::separators::Separators;
use super::state::{Want, incomplete, is_want_of_memory};
use super::{IN_PLACE, Reader};
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::PoolExhaustedError;
use crate::python::error::exception;

/// What is to be read.
pub(in crate::python) enum Op {
    Exactly(usize),
    /// What has come, at most so much.
    AtMost(usize),
    ToTheEnd,
    Until(Separators),
    Line(Separators),
    Into(Py<PyAny>),
    View(usize),
    /// Nothing: only wait for more.
    Anything,
}

/// A read, and how far it is.
pub(in crate::python) struct Work {
    pub(super) op: Op,
    /// What was asked for, if that is no size a buffer can have.
    huge: Option<Py<PyAny>>,
    /// The future that it waits for.
    pub(super) future: Option<Py<PyAny>>,
    /// What is filled in place.
    memory: Option<Py<ReceiveBuffer>>,
    /// The buffer of ``readinto``, until it is filled.
    buffer: Option<Py<ReceiveBuffer>>,
    /// The memoryview that is to be returned.
    pub(super) result: Option<Py<PyAny>>,
    /// How many bytes were searched in vain.
    pub(super) searched: usize,
}

pub(super) enum Progress {
    Ready(Py<PyAny>),
    Wait(Want),
    Await(Py<PyAny>),
}

impl Work {
    pub(in crate::python) fn new(op: Op) -> Self {
        Self {
            op,
            huge: None,
            future: None,
            memory: None,
            buffer: None,
            result: None,
            searched: 0,
        }
    }

    /// A read of exactly `n` bytes.
    pub(super) fn exactly(n: &Bound<'_, PyAny>) -> PyResult<Self> {
        match n.extract::<isize>() {
            Ok(size) => usize::try_from(size)
                .map(|size| Self::new(Op::Exactly(size)))
                .map_err(|_| {
                    exception::<PyValueError>("readexactly size can not be less than zero")
                }),
            Err(error) if error.is_instance_of::<PyOverflowError>(n.py()) => {
                if n.lt(0)? {
                    return Err(exception::<PyValueError>(
                        "readexactly size can not be less than zero",
                    ));
                }
                let mut work = Self::new(Op::Exactly(usize::MAX));
                work.huge = Some(n.clone().unbind());
                Ok(work)
            }
            Err(error) => Err(error),
        }
    }

    /// A read of at most `n` bytes, or of all if it is negative.
    pub(super) fn at_most(n: &Bound<'_, PyAny>) -> PyResult<Self> {
        match n.extract::<isize>() {
            Ok(size) => Ok(Self::new(
                usize::try_from(size).map_or(Op::ToTheEnd, Op::AtMost),
            )),
            Err(error) if error.is_instance_of::<PyOverflowError>(n.py()) => {
                let op = if n.lt(0)? {
                    Op::ToTheEnd
                } else {
                    Op::AtMost(usize::MAX)
                };
                Ok(Self::new(op))
            }
            Err(error) => Err(error),
        }
    }

    /// A view of exactly `n` pooled bytes.
    pub(super) fn view(
        reader: &Bound<'_, Reader>,
        n: &Bound<'_, PyAny>,
        max_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = n.py();
        if let Some(max_size) = max_size.filter(|max_size| !max_size.is_none())
            && n.gt(max_size)?
        {
            return Err(exception::<PyValueError>(format!(
                "a message of {n} bytes is above max_size ({max_size} bytes)"
            )));
        }
        match n.extract::<usize>() {
            Ok(size) if isize::try_from(size).is_ok() => Ok(Self::new(Op::View(size))),
            // The pool says what is wrong with it.
            _ => match reader.get().lend(py, n) {
                Ok(_) => Err(exception::<PyOverflowError>("n is not a size")),
                Err(error) => Err(error),
            },
        }
    }

    pub(super) fn attempt(
        &mut self,
        reader: &Bound<'_, Reader>,
        name: &str,
        first: bool,
    ) -> PyResult<Progress> {
        let (py, this) = (reader.py(), reader.get());
        this.absorb(py)?;
        if let Some(memory) = &self.memory {
            if !memory.get().is_full() {
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
        if n.saturating_sub(unread) >= IN_PLACE {
            match ReceiveBuffer::bytes(py, n) {
                Ok(memory) => return self.receive_in_place(this, py, name, memory),
                // There is no such memory: the bytes are read ahead as long as that goes well.
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
            // Little is waited for before any memory is taken for it.
            if n < IN_PLACE {
                self.check_going_on(this, py, n, first)?;
                this.follow(n);
                return Ok(Progress::Wait(Want::Unread(n)));
            }
            this.check_alone(name)?;
        }
        let Some(view) = self.result.as_ref().map(|view| view.bind(py).clone()) else {
            return match this.lend(py, n) {
                Ok(view) => {
                    self.result = Some(view);
                    self.read_view(reader, name, n, first)
                }
                Err(error) if error.is_instance_of::<PoolExhaustedError>(py) => {
                    let wait = reader.call_method1(intern!(py, "_wait_for_memory"), (n,))?;
                    Ok(Progress::Await(wait.unbind()))
                }
                Err(error) => Err(error),
            };
        };
        if unread >= n {
            this.take_into(py, &view, n)?;
            return self.finish(py);
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
        self.check_going_on(this, py, n, first)?;
        if n.saturating_sub(unread) >= IN_PLACE {
            return self.receive_in_place(this, py, name, buffer);
        }
        self.buffer = Some(buffer.unbind());
        this.follow(n);
        Ok(Progress::Wait(Want::Unread(n)))
    }

    fn receive_in_place(
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
        let memory = memory.get();
        let partial = memory.copy_out(py, 0, memory.filled())?;
        Err(incomplete(partial.into_any(), memory.len()))
    }

    /// The result of a read whose memory is full.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Progress> {
        let memory = self.memory.take().map(|memory| memory.into_bound(py));
        match (&self.op, memory, self.result.take()) {
            (Op::Exactly(_), Some(memory), _) => Ok(Progress::Ready(
                ReceiveBuffer::publish(memory)?.into_any().unbind(),
            )),
            (Op::Into(_), Some(memory), _) => ready(memory.get().len(), py),
            (_, _, Some(view)) => Ok(Progress::Ready(view)),
            _ => Ok(Progress::Ready(py.None())),
        }
    }

    /// Raises if the `n` bytes will never come.
    fn check_going_on(
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

    /// Ends a read without a result: what has come stays for the next one.
    pub(super) fn give_up(&mut self, reader: &Bound<'_, Reader>) {
        let (py, this) = (reader.py(), reader.get());
        if let Some(future) = self.future.take() {
            this.forget_waiter(&future);
        }
        (self.result, self.buffer) = (None, None);
        let Some(memory) = self.memory.take() else {
            return;
        };
        this.forget_target(&memory);
        // Nobody must read on behind a gap.
        if let Err(error) = this.put_back(py, memory.into_bound(py), &[]) {
            this.set_error(Some(error.into_value(py).into_any()));
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        visit.call(&self.result)?;
        match &self.op {
            Op::Into(buffer) => visit.call(buffer),
            _ => Ok(()),
        }
    }
}

fn ready(n: usize, py: Python<'_>) -> PyResult<Progress> {
    let n = n.into_pyobject(py)?;
    Ok(Progress::Ready(n.into_any().unbind()))
}
