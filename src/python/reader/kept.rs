//! The pooled memory of a cancelled read. The reader keeps it, so that it still counts towards the budget of its pool.
//! `cancel.rs` keeps it, and gives it to the next read.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

use super::format::Format;
use crate::python::bytes::ReceiveBuffer;

/// The cells keep the compiler from encoding the `None` of an `Option<Kept>` in these fields: it is a null pointer then,
/// all zeros. If CPython has no memory left when it creates a reader, PyO3 frees one of which all bytes are zeros.
pub(super) struct Kept {
    reads: Cell<Reads>,
    pub(super) memory: Py<ReceiveBuffer>,
    pub(super) view: Py<PyAny>,
    prefix: RefCell<Vec<u8>>,
}

/// The kind of a read into pooled memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    View(usize),
    Frame(Format),
}

impl Kept {
    pub(super) fn new(
        reads: Reads,
        memory: Py<ReceiveBuffer>,
        view: Py<PyAny>,
        prefix: Vec<u8>,
    ) -> Self {
        Self {
            reads: Cell::new(reads),
            memory,
            view,
            prefix: RefCell::new(prefix),
        }
    }

    pub(super) fn reads(&self) -> Reads {
        self.reads.get()
    }

    /// The start of the message, which is not in the memory.
    pub(super) fn take_prefix(&self) -> Vec<u8> {
        self.prefix.take()
    }

    /// The number of bytes that had come.
    pub(super) fn came(&self) -> usize {
        let filled = self.memory.get().filled();
        self.prefix.borrow().len().saturating_add(filled)
    }
}
