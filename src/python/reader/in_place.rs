//! The common parts of several reads: memory for the result, receiving in place, and the early end of the stream.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::error::incomplete;
use super::state::{Reader, Want};
use super::work::{Op, Progress, Work};
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::PoolExhaustedError;
use crate::python::objects::integer;

impl Work {
    /// Takes a view of `n` pooled bytes for the result, or names what to wait for. The message has `total` bytes with
    /// its header.
    pub(super) fn lend(
        &mut self,
        reader: &Bound<'_, Reader>,
        n: usize,
        total: usize,
    ) -> PyResult<Option<Progress>> {
        let py = reader.py();
        match reader.get().lend(py, n) {
            Ok(view) => {
                self.result = Some(view);
                Ok(None)
            }
            Err(error) if error.is_instance_of::<PoolExhaustedError>(py) => {
                let wait = reader.call_method1(intern!(py, "_wait_for_memory"), (n, total))?;
                Ok(Some(Progress::Await(wait.unbind())))
            }
            Err(error) => Err(error),
        }
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
        let has_begun = memory.get().filled() > 0 || !self.prefix.is_empty();
        this.set_target(Some(memory.clone()), has_begun);
        self.memory = Some(memory.unbind());
        Ok(Progress::Wait(Want::Target))
    }

    pub(super) fn wait_for_target(&mut self, py: Python<'_>, this: &Reader) -> PyResult<Progress> {
        this.check_error(py)?;
        if !this.is_eof() {
            return Ok(Progress::Wait(Want::Target));
        }
        let Some(memory) = self.memory.take() else {
            return Ok(Progress::Wait(Want::Target));
        };
        this.set_target(None, false);
        let (memory, mut prefix) = (memory.get(), std::mem::take(&mut self.prefix));
        let expected = prefix.len().saturating_add(memory.len());
        let came = prefix.len().saturating_add(memory.filled());
        let carried = came.min(self.most_carried(this));
        prefix.truncate(carried);
        let mut partial = memory
            .copy_out(py, 0, carried.saturating_sub(prefix.len()))?
            .into_any();
        if !prefix.is_empty() {
            let fill = |bytes: &mut [u8]| {
                bytes.copy_from_slice(&prefix);
                Ok(())
            };
            partial = PyBytes::new_with(py, prefix.len(), fill)?.add(partial)?;
        }
        Err(incomplete(partial, came, integer(py, expected as u64)?))
    }

    /// How many bytes an IncompleteReadError carries at most. A message in pooled memory, or in memory of the user, is
    /// not copied to it as a whole, because no budget counts the copy.
    fn most_carried(&self, this: &Reader) -> usize {
        match self.op {
            Op::View(_)
            | Op::Into(_)
            | Op::Frame {
                as_bytes: false, ..
            } => this.limit(),
            _ => usize::MAX,
        }
    }

    /// The result of a read in place that is complete.
    pub(super) fn finish(&mut self, py: Python<'_>, this: &Reader) -> PyResult<Progress> {
        if let Some(memory) = &self.memory {
            this.forget_target(memory);
        }
        let memory = self.memory.take().map(|memory| memory.into_bound(py));
        match (&self.op, memory, self.result.take()) {
            (Op::Exactly(_) | Op::Frame { .. }, Some(memory), None) => Ok(Progress::Ready(
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
        let most = self.most_carried(this);
        match self.huge.take() {
            Some(huge) => Err(this.incomplete(py, most, huge)?),
            None => Err(this.incomplete(py, most, integer(py, n as u64)?)?),
        }
    }
}

impl Reader {
    /// An IncompleteReadError with the unread bytes, `most` at most. All of them are removed.
    pub(super) fn incomplete<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        expected: impl IntoPyObject<'py>,
    ) -> PyResult<PyErr> {
        let came = self.unread();
        let partial = self.take(py, came.min(most))?;
        self.consume(py, came.saturating_sub(most))?;
        Ok(incomplete(partial.into_any(), came, expected))
    }
}

pub(super) fn ready(n: usize, py: Python<'_>) -> PyResult<Progress> {
    Ok(Progress::Ready(integer(py, n as u64)?.unbind()))
}
