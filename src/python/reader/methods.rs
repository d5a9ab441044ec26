//! The Python methods and attributes of `Reader`: the reads, the calls of the protocol, and private attributes of
//! `asyncio.StreamReader` that other libraries use.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView, PyWeakrefMethods};

use super::format::Format;
use super::frames::Frames;
use super::read::Read;
use super::separators::Separators;
use super::state::Reader;
use super::transport::wake;
use super::work::{Op, Work};

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self::default()
    }

    /// Sets the parts that the reader works with.
    fn _begin(
        &self,
        limit: usize,
        event_loop: Py<PyAny>,
        pool: Option<Py<PyAny>>,
        is_watched: bool,
    ) {
        let mut state = self.state.lock();
        (state.is_watched, state.limit) = (is_watched, limit);
        (state.event_loop, state.pool) = (Some(event_loop), pool);
    }

    /// Where the transport is to receive to: ``least`` bytes or more.
    #[pyo3(signature = (least = 0))]
    fn _get_buffer<'py>(
        &self,
        py: Python<'py>,
        least: usize,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        self.get_buffer(py, least)
    }

    /// Takes the ``n`` bytes that the transport has received to where it was told.
    fn _buffer_updated(slf: &Bound<'_, Self>, n: usize) -> PyResult<()> {
        Self::buffer_updated(slf, n)
    }

    /// Goes on receiving after a pause for other tasks.
    fn _read_on(&self, py: Python<'_>) -> PyResult<()> {
        self.read_on(py)
    }

    /// Take data from the transport.
    fn feed_data(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.feed(py, data)
    }

    /// Note that nothing more will come.
    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.feed_end(py)
    }

    /// Whether the stream is over, and all of it was read.
    fn at_eof(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_at_end(py)
    }

    /// Read exactly ``n`` bytes, and return them as ``bytes``.
    ///
    /// Large reads are received straight into the object that is returned. Raises IncompleteReadError, which
    /// carries the received bytes, if the stream ends before; ValueError if ``n`` is negative. If this is cancelled,
    /// no byte is lost: the next read gets the received bytes.
    fn readexactly(slf: Bound<'_, Self>, n: &Bound<'_, PyAny>) -> Read {
        Read::new(slf, "readexactly", Work::exactly(n))
    }

    /// Read the received bytes: at least one, and at most ``n`` of them.
    ///
    /// If ``n`` is negative, read all until the stream ends. Empty bytes mean that the stream is over.
    #[pyo3(signature = (n = None), text_signature = "($self, n=-1)")]
    fn read(slf: Bound<'_, Self>, n: Option<&Bound<'_, PyAny>>) -> Read {
        let work = match n {
            Some(n) => Work::at_most(n),
            None => Ok(Work::new(Op::ToTheEnd)),
        };
        Read::new(slf, "read", work)
    }

    /// Read up to and including ``separator``, and return it with the bytes before it.
    ///
    /// From CPython 3.13 on ``separator`` may be a tuple of separators, of which the one that ends first
    /// counts.
    ///
    /// Raises LimitOverrunError if the separator is not within the reader's ``limit`` in bytes, and leaves
    /// the bytes in the reader; IncompleteReadError, which carries the received bytes, if the stream ends
    /// before; ValueError if the separator is empty.
    #[pyo3(signature = (separator = None), text_signature = "($self, separator=b'\\n')")]
    fn readuntil(slf: Bound<'_, Self>, separator: Option<&Bound<'_, PyAny>>) -> Read {
        let work = match separator {
            Some(separator) => Separators::new(separator).map(|all| Work::new(Op::Until(all))),
            None => Ok(Work::new(Op::Until(Separators::LINE_FEED))),
        };
        Read::new(slf, "readuntil", work)
    }

    /// Read a line with its line feed, or the rest of the stream if it has no line feed.
    ///
    /// Raises ValueError if the line is longer than the reader's ``limit`` in bytes, and drops it.
    fn readline(slf: Bound<'_, Self>) -> Read {
        Read::new(
            slf,
            "readline",
            Ok(Work::new(Op::Line(Separators::LINE_FEED))),
        )
    }

    /// Fill ``buffer`` completely, and return its size in bytes.
    ///
    /// ``buffer`` is anything writable and contiguous, of any shape and format. It must not be used while this
    /// waits.
    ///
    /// Raises IncompleteReadError if the stream ends before: the received bytes are in the buffer, and the error
    /// carries the first ``limit`` of them. Raises TypeError for a buffer that is read-only or not contiguous. If
    /// this is cancelled, no byte is lost: the next read gets the received bytes.
    fn readinto(slf: Bound<'_, Self>, buffer: Py<PyAny>) -> Read {
        Read::new(slf, "readinto", Ok(Work::new(Op::Into(buffer))))
    }

    /// Return a memoryview of exactly ``n`` pooled bytes, filled from the stream.
    ///
    /// ``max_size`` is for lengths that a peer has sent: if ``n`` is above it, ValueError is raised before
    /// anything is allocated.
    ///
    /// If the pool has a budget (``max_bytes``) that is used up, this waits until ``n`` bytes are free. What
    /// the peer sends meanwhile is read ahead up to twice the reader's limit, and then held back.
    ///
    /// Raises IncompleteReadError, which carries the first ``limit`` received bytes, if the stream ends before;
    /// and the errors of ``Pool.allocate_async``. If this is cancelled, no byte is lost. The received bytes stay in
    /// the pool's memory until the next read: the same read goes on there.
    #[pyo3(signature = (n, *, max_size = None), text_signature = "($self, n, *, max_size=None)")]
    fn readview(
        slf: Bound<'_, Self>,
        n: &Bound<'_, PyAny>,
        max_size: Option<&Bound<'_, PyAny>>,
    ) -> Read {
        let work = Work::view(&slf, n, max_size);
        Read::new(slf, "readview", work)
    }

    /// Iterate over length-prefixed messages: ``async for message in reader.frames():``.
    ///
    /// A message stands in the stream as ``offset`` bytes of a header, then its length in ``length_size``
    /// bytes (1 to 8, ``byteorder`` is ``"big"`` or ``"little"``), then the rest. ``adjustment`` is added to
    /// the length that the peer has sent, to make it the number of bytes behind the length field. The first
    /// ``strip`` bytes are left out of what is returned; None leaves out all up to the end of the length
    /// field.
    ///
    /// Each message is a memoryview of pooled bytes, as from ``readview``; with ``as_bytes=True`` it is
    /// ``bytes``. Let go of a message before the next one is read (``del message``) if the pool has a budget:
    /// else the reader waits for memory that its own loop holds.
    ///
    /// The iteration ends where the stream ends between two messages. In the middle of one IncompleteReadError
    /// is raised. With ``as_bytes=True`` it carries the received bytes, otherwise the first ``limit`` of them.
    /// ValueError is raised, before anything is allocated, for a message above ``max_size`` bytes, or for one that
    /// would end before its length field does; and by this call for parameters that make no sense.
    #[pyo3(
        signature = (
            *, length_size = 4, byteorder = "big", offset = 0, adjustment = 0, strip = None,
            max_size = 16 << 20, as_bytes = false
        ),
        text_signature = "($self, *, length_size=4, byteorder='big', offset=0, adjustment=0, \
                          strip=None, max_size=16777216, as_bytes=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
    fn frames(
        slf: Bound<'_, Self>,
        length_size: usize,
        byteorder: &str,
        offset: usize,
        adjustment: i64,
        strip: Option<usize>,
        max_size: usize,
        as_bytes: bool,
    ) -> PyResult<Frames> {
        let format = Format::new(length_size, byteorder, offset, adjustment, strip, max_size)?;
        Ok(Frames::new(slf.unbind(), format, as_bytes))
    }

    /// Waits until something has come, as asyncio's reader does for its own use.
    fn _wait_for_data(slf: Bound<'_, Self>, _func_name: &Bound<'_, PyAny>) -> Read {
        Read::new(slf, "_wait_for_data", Ok(Work::new(Op::Anything)))
    }

    fn _wakeup_waiter(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.state.lock().waiter.take();
        waiter.map_or(Ok(()), |waiter| wake(waiter.bind(py)))
    }

    /// An IncompleteReadError of a read into pooled memory, with what is unread.
    fn _incomplete<'py>(&self, py: Python<'py>, expected: usize) -> PyResult<Bound<'py, PyAny>> {
        self.absorb(py)?;
        let error = self.incomplete(py, self.limit(), expected)?;
        Ok(error.into_value(py).into_bound(py).into_any())
    }

    #[getter]
    fn _unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.absorb(py)?;
        Ok(self.state.lock().unread())
    }

    #[getter]
    fn _has_memory(&self) -> bool {
        let state = self.state.lock();
        state.ahead.has_memory() || state.target.is_some() || state.kept.is_some()
    }

    /// How many bytes of a read in place were received, and how many it needs; None if there is no such read.
    #[getter]
    fn _progress(&self) -> Option<(usize, usize)> {
        let state = self.state.lock();
        let target = state.target.as_ref()?.get();
        Some((target.filled(), target.len()))
    }

    /// The view that was returned last, if the pool has a budget and the view still exists.
    #[getter]
    fn _last_view<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let state = self.state.lock();
        let reference = state.last_view.as_ref().map(|last| last.bind(py).clone());
        drop(state);
        reference?.upgrade()
    }

    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.exposed(py)
    }

    #[getter]
    fn _limit(&self) -> usize {
        self.limit()
    }

    #[getter]
    fn _eof(&self) -> bool {
        self.is_eof()
    }

    #[setter(_eof)]
    fn set_eof(&self, eof: bool) {
        self.state.lock().eof = eof;
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.state.lock().paused
    }

    #[setter(_paused)]
    fn set_paused(&self, paused: bool) {
        self.state.lock().paused = paused;
    }

    /// Sets how the transport delivers bytes, see `State`.
    fn _expect(&self, keeps_receiving: bool, floods: bool) {
        let mut state = self.state.lock();
        (state.keeps_receiving, state.floods) = (keeps_receiving, floods);
    }

    /// The size of the read-ahead in bytes.
    #[setter(_ahead)]
    fn set_ahead(&self, size: usize) {
        self.state.lock().window.size = size.max(1);
    }

    /// A read that misses at least this many bytes is received in place.
    #[setter(_in_place)]
    fn set_in_place(&self, size: usize) {
        self.state.lock().window.in_place = size.max(1);
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.event_loop.as_ref().map(|known| known.clone_ref(py))
    }

    #[getter]
    fn _pool(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.pool.as_ref().map(|pool| pool.clone_ref(py))
    }

    #[getter]
    fn _waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.waiter.as_ref().map(|waiter| waiter.clone_ref(py))
    }

    #[setter(_waiter)]
    fn set_waiter_attribute(&self, waiter: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut self.state.lock().waiter, waiter);
        drop(before);
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.transport.as_ref().map(|known| known.clone_ref(py))
    }

    #[setter(_transport)]
    fn set_transport(&self, transport: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut self.state.lock().transport, transport);
        drop(before);
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.error.as_ref().map(|error| error.clone_ref(py))
    }

    #[setter(_exception)]
    fn set_exception_attribute(&self, error: Option<Py<PyAny>>) {
        self.set_error(error);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A locked state is in use, so nothing in it is garbage.
        let Some(state) = self.state.try_lock() else {
            return Ok(());
        };
        visit.call(&state.waiter)?;
        visit.call(&state.error)?;
        visit.call(&state.transport)?;
        visit.call(&state.event_loop)?;
        visit.call(&state.pool)
    }

    fn __clear__(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        drop(state);
    }
}
