//! `reader._buffer`: code that knows asyncio's reader may ask for its buffer, keep it and change it. As long as
//! somebody keeps it, it is equal to the unread bytes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::Reader;
use crate::python::bytes::is_alone;

impl Reader {
    /// Takes over what was changed in the buffer that is shown, and forgets the buffer if nobody keeps it.
    ///
    /// redis-py asks for it before every command, only to see whether it is empty.
    pub(super) fn absorb(&self, py: Python<'_>) -> PyResult<()> {
        let Some(shown) = self.state.lock().exposed.take() else {
            return Ok(());
        };
        let shown = shown.into_bound(py);
        let bytes = shown.to_vec();
        if !is_alone(&shown) {
            self.state.lock().exposed = Some(shown.unbind());
        }
        if self.look(py, usize::MAX, |unread| unread == bytes)? {
            return Ok(());
        }
        self.replace_ahead(py, None, 0);
        let (room, at) = self.room(py, bytes.len())?;
        room.get().write(at, &bytes)?;
        self.state.lock().ahead.add(bytes.len());
        Ok(())
    }

    /// Shows the unread bytes as they are now.
    pub(super) fn expose(&self, py: Python<'_>) -> PyResult<()> {
        let shown = self
            .state
            .lock()
            .exposed
            .as_ref()
            .map(|shown| shown.clone_ref(py));
        let Some(shown) = shown else { return Ok(()) };
        let unread = self.look(py, usize::MAX, <[u8]>::to_vec)?;
        let shown = shown.bind(py);
        shown.call_method0(intern!(py, "clear"))?;
        shown.call_method1(intern!(py, "extend"), (PyBytes::new(py, &unread),))?;
        Ok(())
    }

    /// The unread bytes as asyncio's reader has them: they may be changed.
    pub(super) fn exposed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.absorb(py)?;
        let shown = self
            .state
            .lock()
            .exposed
            .as_ref()
            .map(|shown| shown.clone_ref(py));
        if let Some(shown) = shown {
            return Ok(shown.into_bound(py));
        }
        let shown = PyByteArray::new(py, &[]);
        self.state.lock().exposed = Some(shown.clone().unbind());
        self.expose(py)?;
        Ok(shown)
    }
}
