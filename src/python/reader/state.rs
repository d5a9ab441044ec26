//! The class `Reader`: its fields, and simple queries of them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyWeakrefReference};

use super::ahead::{Ahead, Window};
use super::kept::Kept;
use crate::python::bytes::ReceiveBuffer;
use crate::python::error::exception;
use crate::sync::Mutex;

/// The native half of ``bytepool.streams.StreamReader``.
#[pyclass(subclass, frozen, module = "bytepool._bytepool")]
pub(in crate::python) struct Reader {
    pub(super) state: Mutex<State>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::default()),
        }
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ahead: Ahead,
    pub(super) window: Window,
    /// The memory that a waiting read wants filled.
    pub(super) target: Option<Py<ReceiveBuffer>>,
    /// Whether bytes were received for a read in place that has not returned yet.
    pub(super) has_begun: bool,
    /// The memory of a cancelled read.
    pub(super) kept: Option<Kept>,
    /// The memory that the transport was given to fill.
    pub(super) lent: Option<Lent>,
    /// The future of the waiting task, and the condition that it waits for.
    pub(super) waiter: Option<Py<PyAny>>,
    pub(super) want: Want,
    pub(super) eof: bool,
    pub(super) paused: bool,
    /// The transport receives nothing until tasks have run.
    pub(super) stopped: bool,
    /// The connection's error, and a function that copies it for raising.
    pub(super) error: Option<Py<PyAny>>,
    pub(super) transport: Option<Py<PyAny>>,
    pub(super) event_loop: Option<Py<PyAny>>,
    pub(super) pool: Option<Py<PyAny>>,
    pub(super) limit: usize,
    /// Whether the transport keeps receiving while buffers are full, before any task can run.
    pub(super) keeps_receiving: bool,
    /// Whether the transport delivers much more before any task can run, full buffers or not.
    pub(super) floods: bool,
    /// Whether a read was just completed, so that the header of the next message may be received with it.
    pub(super) may_follow: bool,
    /// Whether the Python half checks that reads in place make progress (`stall_timeout`).
    pub(super) is_watched: bool,
    /// The view that was returned last, if the pool has a budget.
    pub(super) last_view: Option<Py<PyWeakrefReference>>,
    /// The exposed ``_buffer``, see `exposed.rs`.
    pub(super) exposed: Option<Py<PyByteArray>>,
}

/// Memory that the transport was given to fill.
pub(super) struct Lent {
    pub(super) memory: Py<ReceiveBuffer>,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// Where received bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the target.
    Target,
    /// After the unread bytes.
    Ahead,
    /// In other memory, so they have to be copied.
    Elsewhere,
}

/// The condition that a task waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Want {
    #[default]
    Anything,
    /// This many unread bytes.
    Unread(usize),
    /// The target is full.
    Target,
    End,
}

impl State {
    /// The number of received bytes that no read has returned or waits for.
    pub(super) fn unread(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, Kept::came);
        self.ahead.unread().saturating_add(kept)
    }

    /// The waiter, if its condition holds.
    pub(super) fn waiter_to_wake(&mut self) -> Option<Py<PyAny>> {
        let is_over = self.eof || self.error.is_some();
        let is_there = match self.want {
            Want::Anything => true,
            Want::Unread(n) => self.ahead.unread() >= n,
            Want::Target => self.target.is_none(),
            Want::End => false,
        };
        self.waiter.take_if(|_| is_over || is_there)
    }

    pub(super) fn is_much_unread(&self) -> bool {
        self.unread() > self.limit.saturating_mul(2)
    }

    /// The transport, if it has to be paused: too many bytes are unread and no task waits for more.
    pub(super) fn transport_to_pause(&mut self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.is_much_unread() || self.paused || self.waiter.is_some() {
            return None;
        }
        self.paused = self.transport.is_some();
        self.transport
            .as_ref()
            .map(|transport| transport.clone_ref(py))
    }

    /// The transport, if it was paused and can be resumed with `unread` bytes.
    pub(super) fn transport_to_resume(
        &mut self,
        py: Python<'_>,
        even_if_much: bool,
    ) -> Option<Py<PyAny>> {
        if !self.paused || (self.unread() > self.limit && !even_if_much) {
            return None;
        }
        self.paused = false;
        self.transport
            .as_ref()
            .map(|transport| transport.clone_ref(py))
    }

    /// Where the lent memory is.
    pub(super) fn place_of(&self, lent: &Lent) -> Place {
        let target = self.target.as_ref();
        if target.is_some_and(|target| target.is(&lent.memory) && target.get().filled() == lent.at)
        {
            Place::Target
        } else if self.ahead.ends_at(&lent.memory, lent.at) {
            Place::Ahead
        } else {
            Place::Elsewhere
        }
    }
}

impl Reader {
    /// Raises the connection's error, if there is one.
    pub(super) fn check_error(&self, py: Python<'_>) -> PyResult<()> {
        static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let error = self
            .state
            .lock()
            .error
            .as_ref()
            .map(|error| error.clone_ref(py));
        let Some(error) = error else { return Ok(()) };
        let copy = COPY.import(py, "bytepool.streams._errors", "copy_error")?;
        Err(PyErr::from_value(copy.call1((error,))?))
    }

    /// Raises if another task waits.
    pub(super) fn check_alone(&self, name: &str) -> PyResult<()> {
        if self.state.lock().waiter.is_none() {
            return Ok(());
        }
        Err(exception::<PyRuntimeError>(format_args!(
            "{name}() called while another coroutine is already waiting for incoming data"
        )))
    }

    /// Raises if a read to the end of the stream waits, because the unread bytes belong to it.
    pub(super) fn check_not_all_is_read(&self, name: &str) -> PyResult<()> {
        let want = self.state.lock().want;
        if want == Want::End {
            self.check_alone(name)
        } else {
            Ok(())
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.state.lock().limit
    }

    pub(super) fn is_eof(&self) -> bool {
        self.state.lock().eof
    }

    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state.lock();
        let event_loop = state
            .event_loop
            .as_ref()
            .map(|known| known.bind(py).clone());
        event_loop.ok_or_else(|| exception::<PyRuntimeError>("this reader has no event loop"))
    }

    pub(super) fn set_waiter(&self, waiter: Py<PyAny>, want: Want) {
        let mut state = self.state.lock();
        (state.want, state.may_follow) = (want, false);
        if want != Want::Target {
            state.window.wait();
        }
        let before = state.waiter.replace(waiter);
        drop(state);
        drop(before);
    }

    pub(super) fn forget_waiter(&self, waiter: &Py<PyAny>) {
        let forgotten = self.state.lock().waiter.take_if(|known| known.is(waiter));
        drop(forgotten);
    }

    pub(super) fn set_target(&self, target: Option<Bound<'_, ReceiveBuffer>>, has_begun: bool) {
        let target = target.map(Bound::unbind);
        let mut state = self.state.lock();
        state.has_begun = has_begun;
        let before = std::mem::replace(&mut state.target, target);
        drop(state);
        drop(before);
    }

    /// The target is full. Its read has not returned yet.
    pub(super) fn end_target(&self) {
        let full = self.state.lock().target.take();
        drop(full);
    }

    pub(super) fn forget_target(&self, target: &Py<ReceiveBuffer>) {
        let mut state = self.state.lock();
        let forgotten = state.target.take_if(|known| known.is(target));
        state.has_begun &= state.target.is_some();
        drop(state);
        drop(forgotten);
    }

    /// Nothing more is received: drops the memory that the transport was to fill.
    pub(super) fn forget_lent(&self) {
        let lent = self.state.lock().lent.take();
        drop(lent);
    }

    pub(super) fn set_error(&self, error: Option<Py<PyAny>>) {
        self.forget_lent();
        let mut state = self.state.lock();
        let before = (
            state.kept.take(),
            std::mem::replace(&mut state.error, error),
        );
        drop(state);
        drop(before);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.state.lock().is_watched
    }

    pub(super) fn in_place(&self) -> usize {
        self.state.lock().window.in_place
    }

    /// Adapts how far to read ahead to a read of `n` bytes.
    pub(super) fn follow(&self, n: usize) {
        self.state.lock().window.follow(n);
    }
}
