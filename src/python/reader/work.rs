//! A read: its kind, and its progress.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::format::Format;
use super::separators::Separators;
use super::state::{Reader, Want};
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::exception;

/// The kind of a read.
pub(in crate::python) enum Op {
    Exactly(usize),
    /// Any received bytes, up to this many.
    AtMost(usize),
    ToTheEnd,
    Until(Separators),
    Line(Separators),
    Into(Py<PyAny>),
    View(usize),
    /// Nothing: it only waits for more bytes.
    Anything,
    /// The next message.
    Frame {
        format: Format,
        as_bytes: bool,
    },
}

/// A read and its progress.
pub(in crate::python) struct Work {
    pub(super) op: Op,
    /// The requested size, if no buffer can have it.
    pub(super) huge: Option<Py<PyAny>>,
    /// The future that the read waits for.
    pub(super) future: Option<Py<PyAny>>,
    /// The memory that is filled in place.
    pub(super) memory: Option<Py<ReceiveBuffer>>,
    /// The argument of ``readinto``, until it is filled.
    pub(super) buffer: Option<Py<ReceiveBuffer>>,
    /// The memoryview to return.
    pub(super) result: Option<Py<PyAny>>,
    /// How many bytes were searched without finding a separator.
    pub(super) searched: usize,
    /// The stripped bytes of a message that is filled in place.
    pub(super) prefix: Vec<u8>,
}

/// The result of a step of a read.
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
            prefix: Vec::new(),
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
        if let Some(max_size) = max_size.filter(|max_size| !max_size.is_none()) {
            if n.gt(max_size)? {
                return Err(exception::<PyValueError>(format_args!(
                    "a message of {n} bytes is above max_size ({max_size} bytes)"
                )));
            }
        }
        match n.extract::<usize>() {
            Ok(size) if isize::try_from(size).is_ok() => Ok(Self::new(Op::View(size))),
            // The pool raises the error.
            _ => Err(reader.get().refuse(n)),
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
