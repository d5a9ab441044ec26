//! What a read into pooled memory leaves behind when it is cancelled: that memory, so that it still counts towards the
//! budget of its pool. `cancel.rs` says what becomes of it.

use pyo3::prelude::*;

use super::format::Format;
use crate::python::bytes::ReceiveBuffer;

pub(super) struct Kept {
    pub(super) reads: Reads,
    pub(super) memory: Py<ReceiveBuffer>,
    pub(super) view: Py<PyAny>,
    pub(super) prefix: Vec<u8>,
}

/// What a read into pooled memory reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    View(usize),
    Frame(Format),
}

impl Kept {
    /// The number of bytes that had come.
    pub(super) fn came(&self) -> usize {
        let filled = self.memory.get().filled();
        self.prefix.len().saturating_add(filled)
    }
}
