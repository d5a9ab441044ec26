//! The end of a cancelled read. Memory of a pool stays with the reader: the same read goes on in it when it is tried
//! again. For any other read, its bytes become unread bytes.

use pyo3::prelude::*;

use super::kept::{Kept, Reads};
use super::state::Reader;
use super::work::{Op, Work};
use crate::python::bytes::{ReceiveBuffer, is_alone};

impl Reads {
    fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::View(n) => Some(Self::View(n)),
            Op::Frame {
                format,
                as_bytes: false,
            } => Some(Self::Frame(format)),
            _ => None,
        }
    }
}

impl Work {
    /// Ends a read without a result. Its bytes stay for the next read.
    pub(super) fn give_up(&mut self, reader: &Bound<'_, Reader>) {
        let (py, this) = (reader.py(), reader.get());
        if let Some(future) = self.future.take() {
            this.forget_waiter(&future);
        }
        self.buffer = None;
        let view = self.result.take();
        let Some(memory) = self.memory.take() else {
            return;
        };
        this.forget_target(&memory);
        let prefix = std::mem::take(&mut self.prefix);
        match (Reads::of(&self.op), view) {
            (Some(reads), Some(view)) => {
                this.keep(py, Kept::new(reads, memory, view, prefix));
            }
            _ => this.put_back_or_break(py, memory, &prefix),
        }
    }

    /// Goes on where a cancelled read of the same kind stopped. The bytes of any other read become unread bytes.
    pub(super) fn go_on(&mut self, py: Python<'_>, this: &Reader) -> PyResult<()> {
        let Some(kept) = this.take_kept() else {
            return Ok(());
        };
        let prefix = kept.take_prefix();
        if Reads::of(&self.op) != Some(kept.reads()) {
            this.put_back_or_break(py, kept.memory, &prefix);
            return Ok(());
        }
        let memory = kept.memory.bind(py);
        this.set_target(Some(memory.clone()), true);
        this.move_to(py, memory.get())?;
        if memory.get().filled() == memory.get().len() {
            this.end_target();
        }
        (self.memory, self.result) = (Some(kept.memory), Some(kept.view));
        self.prefix = prefix;
        this.resume(py, false)
    }
}

impl Reader {
    fn keep(&self, py: Python<'_>, kept: Kept) {
        let is_shown = {
            let mut state = self.state.lock();
            // A broken connection is not read any more.
            if kept.came() == 0 || state.error.is_some() {
                drop(state);
                drop(kept);
                return;
            }
            state.kept = Some(kept);
            state.exposed.is_some()
        };
        if is_shown {
            self.restore(py);
        } else if let Err(error) = self.hold_back(py) {
            error.write_unraisable(py, None);
        }
    }

    fn take_kept(&self) -> Option<Kept> {
        self.state.lock().kept.take()
    }

    /// Makes what a cancelled read left behind unread bytes.
    pub(super) fn restore(&self, py: Python<'_>) {
        if let Some(kept) = self.take_kept() {
            let prefix = kept.take_prefix();
            self.put_back_or_break(py, kept.memory, &prefix);
        }
    }

    fn put_back_or_break(&self, py: Python<'_>, memory: Py<ReceiveBuffer>, prefix: &[u8]) {
        let result = self.put_back(py, memory.into_bound(py), prefix);
        // A transport may have asked for memory, received nothing, and let go of it.
        let unused = {
            let mut state = self.state.lock();
            state.lent.take_if(|lent| is_alone(lent.memory.bind(py)))
        };
        drop(unused);
        // The stream has a gap now, so no read may continue.
        if let Err(error) = result {
            self.set_error(Some(error.into_value(py).into_any()));
        }
    }
}
