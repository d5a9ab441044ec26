//! `reader._buffer`, for code that uses this private attribute of asyncio's reader. It is a `bytearray` that equals
//! the unread bytes as long as other code refers to it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::Reader;
use crate::python::bytes::is_alone;

impl Reader {
    /// Takes over changes of the exposed buffer, and forgets the buffer if no other code refers to it.
    ///
    /// redis-py gets the buffer before every command, only to check whether it is empty.
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

    /// Sets the exposed buffer to the current unread bytes.
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

    /// The unread bytes as a `bytearray`, as in asyncio's reader. Other code may change it.
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
