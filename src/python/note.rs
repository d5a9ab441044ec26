//! What is noted of a buffer that is tracked. What a reader sees of it is in `bytepool/tracking.py`.

use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PySet;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How many frames are noted, the innermost.
const DEPTH: usize = 8;

static GET_FRAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static GET_IDENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// How many notes were taken before.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// What a pool tracks, and warns about.
pub(super) struct Registry {
    /// A `bytepool.tracking._Registry`.
    pub(super) registry: Py<PyAny>,
    /// Its set of notes, of what is out.
    pub(super) out: Py<PySet>,
}

impl Registry {
    fn share(&self, py: Python<'_>) -> Self {
        Self {
            registry: self.registry.clone_ref(py),
            out: self.out.clone_ref(py),
        }
    }
}

/// What is noted of a buffer: a ``bytepool.tracking.Tracked`` tells of it.
// Here and not in Python, because this is most of what tracking costs.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Note {
    registry: Registry,
    has_handle: bool,
    since: Instant,
    /// Its place in the order in which notes were taken.
    #[pyo3(get)]
    number: u64,
    /// How many bytes were asked for.
    #[pyo3(get)]
    size: usize,
    /// Python's number of the thread that took it.
    #[pyo3(get)]
    thread: u64,
    frames: [Option<Frame>; DEPTH],
    lease: AtomicUsize,
    released: AtomicBool,
}

/// Not the frame itself, which would keep its variables.
struct Frame {
    code: Py<PyAny>,
    last: i32,
}

impl Note {
    pub(super) fn take(
        py: Python<'_>,
        registry: &Registry,
        size: usize,
        has_handle: bool,
    ) -> PyResult<Py<Self>> {
        let get_ident = GET_IDENT.import(py, "_thread", "get_ident")?;
        let note = Py::new(
            py,
            Self {
                registry: registry.share(py),
                has_handle,
                since: Instant::now(),
                number: TAKEN.fetch_add(1, Ordering::Relaxed),
                size,
                thread: get_ident.call0()?.extract()?,
                frames: frames(py)?,
                lease: AtomicUsize::new(0),
                released: AtomicBool::new(false),
            },
        )?;
        registry.out.bind(py).add(&note)?;
        Ok(note)
    }

    /// Notes what exports the bytes, by its address.
    pub(super) fn set_lease(&self, lease: usize) {
        self.lease.store(lease, Ordering::Relaxed);
    }

    /// Its handle was released, and somebody else holds it.
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// It has gone home; `dropped`: without having been released.
    pub(super) fn end(note: &Bound<'_, Self>, dropped: bool) -> PyResult<()> {
        let (py, this) = (note.py(), note.get());
        this.registry.out.bind(py).discard(note)?;
        if dropped && this.has_handle {
            let registry = this.registry.registry.bind(py);
            registry.call_method1(intern!(py, "warn"), (note,))?;
        }
        Ok(())
    }
}

#[pymethods]
impl Note {
    /// Seconds since it was taken.
    #[getter]
    fn age(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// The id of what exports its bytes.
    #[getter]
    fn lease(&self) -> usize {
        self.lease.load(Ordering::Relaxed)
    }

    /// Whether its handle was released, so that somebody else holds it.
    #[getter]
    fn released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// Where it was taken: pairs of a code object and the offset of its last instruction, the innermost
    /// first.
    #[getter]
    fn frames(&self, py: Python<'_>) -> Vec<(Py<PyAny>, i32)> {
        let frames = self.frames.iter().flatten();
        frames
            .map(|frame| (frame.code.clone_ref(py), frame.last))
            .collect()
    }
}

fn frames(py: Python<'_>) -> PyResult<[Option<Frame>; DEPTH]> {
    let mut frames = [const { None }; DEPTH];
    // An error: nothing of Python is running, as in a thread that calls a method of the pool's and else
    // does nothing.
    let mut next = GET_FRAME.import(py, "sys", "_getframe")?.call0().ok();
    for place in &mut frames {
        let Some(frame) = next.filter(|frame| !frame.is_none()) else {
            break;
        };
        let (noted, outer) = note(&frame)?;
        *place = Some(noted);
        next = Some(outer);
    }
    Ok(frames)
}

/// A frame, and the one that called it.
fn note<'py>(frame: &Bound<'py, PyAny>) -> PyResult<(Frame, Bound<'py, PyAny>)> {
    let py = frame.py();
    let code = frame.getattr(intern!(py, "f_code"))?.unbind();
    let last = frame.getattr(intern!(py, "f_lasti"))?.extract()?;
    Ok((Frame { code, last }, frame.getattr(intern!(py, "f_back"))?))
}
