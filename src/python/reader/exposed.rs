//! `reader._buffer`, for code that uses this private attribute of asyncio's reader. It is a `bytearray` that equals
//! the unread bytes as long as other code refers to it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use super::ahead;
use super::state::Reader;
use crate::python::bytes::{Export, is_alone};

impl Reader {
    /// Takes over changes of the exposed buffer, and forgets the buffer if no other code refers to it.
    ///
    /// redis-py gets the buffer before every command, only to check whether it is empty.
    pub(super) fn absorb(&self, py: Python<'_>) -> PyResult<()> {
        let Some(shown) = self.state.lock().exposed.take() else {
            return Ok(());
        };
        let shown = shown.into_bound(py);
        let bytes = Export::readable(&shown).and_then(|export| export.to_vec());
        if bytes.is_err() || !is_alone(&shown) {
            self.state.lock().exposed = Some(shown.unbind());
        }
        let bytes = bytes?;
        if self.look(py, usize::MAX, |unread| unread == bytes)? {
            return Ok(());
        }
        let changed = ahead::memory(py, bytes.len())?;
        changed.get().write(0, &bytes)?;
        self.replace_ahead(py, Some(changed), bytes.len());
        Ok(())
    }

    /// Sets the exposed buffer to the current unread bytes.
    pub(super) fn expose(&self, py: Python<'_>) -> PyResult<()> {
        let shown = self
            .state
            .lock()
            .exposed
            .as_ref()
            .map(|shown| shown.clone_ref(py));
        let Some(shown) = shown else { return Ok(()) };
        let updated = self.update(shown.bind(py));
        if updated.is_err() {
            // It would pass for unread bytes that other code has changed.
            let forgotten = self.state.lock().exposed.take();
            drop(forgotten);
        }
        updated
    }

    fn update(&self, shown: &Bound<'_, PyByteArray>) -> PyResult<()> {
        let py = shown.py();
        let unread = match self.peek(py) {
            (Some(buffer), start, end) => Some(buffer.get().copy_out(py, start, end)?),
            _ => None,
        };
        shown.call_method0(intern!(py, "clear"))?;
        if let Some(unread) = unread {
            shown.call_method1(intern!(py, "extend"), (unread,))?;
        }
        Ok(())
    }

    /// The unread bytes as a `bytearray`, as in asyncio's reader. Other code may change it.
    pub(super) fn exposed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.absorb(py)?;
        self.restore(py);
        let shown = self
            .state
            .lock()
            .exposed
            .as_ref()
            .map(|shown| shown.clone_ref(py));
        if let Some(shown) = shown {
            return Ok(shown.into_bound(py));
        }
        let shown = py.get_type::<PyByteArray>().call0()?;
        let shown = shown.cast_into::<PyByteArray>()?;
        self.state.lock().exposed = Some(shown.clone().unbind());
        self.expose(py)?;
        Ok(shown)
    }
}
