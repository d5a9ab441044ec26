//! Tracking: which buffers a pool records, and the record of each buffer: where it was allocated, and when.
//!
//! Taking records is most of the cost of tracking, so it is done here. `bytepool/tracking.py` turns a record
//! into text: it chooses the line that a leak report shows.

use std::env;
use std::marker::PhantomData;
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyModule};

use super::args::{Choice, NamesOf};
use super::error::exception;
use super::objects;
use super::once;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// The environment variable with the level of pools that are made without one.
const SWITCH: &str = "BYTEPOOL_TRACK";

/// `"sampled"` records one buffer in this many: enough to find a constant leak, at little cost.
const SAMPLE: u32 = 128;

/// How many frames a record has, innermost first.
const DEPTH: usize = 8;

/// Which buffers are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Off,
    Sampled,
    All,
}

impl Choice for Level {
    const PARAMETER: &'static str = "track";
    const NAMES: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("sampled", Self::Sampled),
        ("all", Self::All),
    ];
}

/// Decides which buffers of one pool are recorded.
pub(super) struct Tracker {
    level: AtomicU8,
    seen: AtomicU32,
    /// The pool's `bytepool.tracking._DropReport`, made with its first record.
    report: PyOnceLock<Py<PyAny>>,
}

impl Tracker {
    pub(super) fn new(level: Option<Level>) -> PyResult<Self> {
        let level = level.map_or_else(level_of_environment, Ok)?;
        Ok(Self {
            level: AtomicU8::new(level as u8),
            seen: AtomicU32::new(0),
            report: PyOnceLock::new(),
        })
    }

    pub(super) fn level(&self) -> Level {
        let level = self.level.load(Ordering::Relaxed);
        let mut levels = Level::NAMES.into_iter().map(|(_, level)| level);
        levels
            .find(|known| *known as u8 == level)
            .unwrap_or(Level::Off)
    }

    pub(super) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// The record of a buffer that is about to be handed out, if this buffer is to be recorded.
    #[inline]
    pub(super) fn record(
        &self,
        pool: &Bound<'_, PyAny>,
        size: usize,
        has_handle: bool,
    ) -> Option<Py<AllocationRecord>> {
        let level = self.level.load(Ordering::Relaxed);
        if level == Level::Off as u8 || (level == Level::Sampled as u8 && !self.is_sampled()) {
            return None;
        }
        self.record_or_report(pool, size, has_handle)
    }

    #[inline]
    fn is_sampled(&self) -> bool {
        // A `fetch_add` would double the cost. If two threads count at the same time, one count is lost,
        // which does not bias the sample.
        let seen = self.seen.load(Ordering::Relaxed);
        self.seen.store(seen.wrapping_add(1), Ordering::Relaxed);
        seen % SAMPLE == 0
    }

    #[cold]
    #[inline(never)]
    fn record_or_report(
        &self,
        pool: &Bound<'_, PyAny>,
        size: usize,
        has_handle: bool,
    ) -> Option<Py<AllocationRecord>> {
        let py = pool.py();
        let report = once::get_or_try_init(&self.report, py, || {
            let report = module(py)?.getattr(intern!(py, "_DropReport"))?;
            report.call1((pool.repr()?,)).map(Bound::unbind)
        });
        let record = report.and_then(|report| AllocationRecord::new(py, report, size, has_handle));
        // The user gets the buffer even if there is no memory for its record.
        record
            .map_err(|error| error.write_unraisable(py, Some(pool)))
            .ok()
    }

    /// A list of the records of this pool's buffers in use.
    pub(super) fn tracked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let report = self.report.get(py);
        module(py)?.call_method1(intern!(py, "_tracked_by"), (report,))
    }
}

fn level_of_environment() -> PyResult<Level> {
    let Some(value) = env::var_os(SWITCH).filter(|value| !value.is_empty()) else {
        return Ok(Level::Off);
    };
    value.to_str().and_then(Level::named).ok_or_else(|| {
        exception::<PyValueError>(format_args!(
            "the environment variable {SWITCH} must be {} or not set, not {value:?}",
            NamesOf::<Level>(PhantomData)
        ))
    })
}

/// Kept, because nothing can be imported while the interpreter shuts down.
fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = once::get_or_try_init(&MODULE, py, || {
        let module = py.import(intern!(py, "bytepool.tracking"));
        module.map(Bound::unbind)
    });
    module.map(|module| module.bind(py))
}

/// One tracked buffer: how large it is, which code allocated it, and what holds it.
///
/// ``Pool.tracked()`` and ``bytepool.tracking.tracked()`` list the records of the buffers in use. A record
/// stays valid when its buffer is returned. It equals only itself.
#[pyclass(frozen, module = "bytepool.tracking")]
pub(super) struct AllocationRecord {
    /// The `_DropReport` of its pool. All records of a pool have the same.
    report: Py<PyAny>,
    has_handle: bool,
    since: Instant,
    /// How many bytes were asked for.
    #[pyo3(get)]
    size: usize,
    /// Its number.
    thread: Py<PyAny>,
    frames: [Option<Frame>; DEPTH],
    lease: AtomicUsize,
    released: AtomicBool,
}

/// A position in the code. A reference to the Python frame would keep its variables alive.
struct Frame {
    code: Py<PyAny>,
    last_instruction: i32,
}

/// Its keys are the records of all tracked buffers in use, oldest first.
static RECORDS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Return the dict whose keys are the records of all tracked buffers in use, oldest first.
// It is here and not in the Python module, which a program can import anew.
#[pyfunction]
pub(super) fn records(py: Python<'_>) -> &Py<PyDict> {
    if let Some(records) = RECORDS.get(py) {
        return records;
    }
    // Not inside `get_or_init`: a finalizer may run meanwhile and call this function. The first dict stays.
    let records = PyDict::new(py).unbind();
    RECORDS.get_or_init(py, || records)
}

impl AllocationRecord {
    fn new(
        py: Python<'_>,
        report: &Py<PyAny>,
        size: usize,
        has_handle: bool,
    ) -> PyResult<Py<Self>> {
        static GET_IDENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let get_ident = once::import(&GET_IDENT, py, "_thread", "get_ident")?;
        let record = Py::new(
            py,
            Self {
                report: report.clone_ref(py),
                has_handle,
                since: Instant::now(),
                size,
                thread: get_ident.call0()?.unbind(),
                frames: frames(py)?,
                lease: AtomicUsize::new(0),
                released: AtomicBool::new(false),
            },
        )?;
        records(py).bind(py).set_item(&record, py.None())?;
        Ok(record)
    }

    /// Stores the address of the lease, by which `holders()` recognizes the views of the buffer.
    pub(super) fn set_lease(&self, lease: usize) {
        self.lease.store(lease, Ordering::Relaxed);
    }

    /// The handle was released, and something else still holds the buffer.
    pub(super) fn set_released(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// The buffer is returned. `dropped`: nobody released it.
    pub(super) fn end(record: &Bound<'_, Self>, dropped: bool) -> PyResult<()> {
        let (py, this) = (record.py(), record.get());
        records(py).bind(py).del_item(record)?;
        if dropped && this.has_handle {
            let report = this.report.bind(py);
            report.call_method1(intern!(py, "warn"), (record,))?;
        }
        Ok(())
    }
}

#[pymethods]
impl AllocationRecord {
    /// Seconds since the buffer was allocated.
    #[getter]
    fn age(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// Whether the handle was released while something else still holds the buffer.
    #[getter]
    fn released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// The name of the thread that allocated the buffer; its number, if that thread has ended.
    #[getter]
    fn thread<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        module(py)?.call_method1(intern!(py, "_thread_name"), (&self.thread,))
    }

    /// The calls that allocated the buffer, innermost last: up to eight entries, formatted as in a traceback.
    ///
    /// Empty if the thread ran no Python code.
    #[getter]
    fn origin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let frames = || self.frames.iter().flatten();
        let codes = objects::list(py, frames().map(|frame| frame.code.bind(py).clone()))?;
        let size = codes.len().saturating_mul(size_of::<i32>());
        let last = PyBytes::new_with(py, size, |bytes| {
            for (bytes, frame) in bytes.chunks_exact_mut(size_of::<i32>()).zip(frames()) {
                bytes.copy_from_slice(&frame.last_instruction.to_ne_bytes());
            }
            Ok(())
        })?;
        module(py)?.call_method1(intern!(py, "_origin"), (codes, last))
    }

    /// Describe each object and variable that holds a view of the buffer, as far as CPython can tell.
    ///
    /// This looks at all objects of the process, which takes a while. It does not find holders that the
    /// garbage collector does not know (some libraries do not register their references), objects that
    /// ``gc.freeze()`` has put aside, or, in a free-threaded Python, local variables of other threads.
    fn holders<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lease = self.lease.load(Ordering::Relaxed);
        module(py)?.call_method1(intern!(py, "_holders"), (lease,))
    }

    #[getter(_report)]
    fn report(&self, py: Python<'_>) -> Py<PyAny> {
        self.report.clone_ref(py)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        module(py)?.call_method1(intern!(py, "_describe"), (slf,))
    }
}

fn frames(py: Python<'_>) -> PyResult<[Option<Frame>; DEPTH]> {
    static GET_FRAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let mut frames = [const { None }; DEPTH];
    // `_getframe` raises if the thread runs no Python code: `_thread` can start one in a method of ours.
    let mut next = once::import(&GET_FRAME, py, "sys", "_getframe")?
        .call0()
        .ok();
    for slot in &mut frames {
        let Some(frame) = next.filter(|frame| !frame.is_none()) else {
            break;
        };
        let code = frame.getattr(intern!(py, "f_code"))?;
        // CPython 3.15.0 does not raise in such a thread: it returns a frame that has no code.
        if code.is_none() {
            break;
        }
        *slot = Some(Frame {
            code: code.unbind(),
            last_instruction: frame.getattr(intern!(py, "f_lasti"))?.extract()?,
        });
        next = Some(frame.getattr(intern!(py, "f_back"))?);
    }
    Ok(frames)
}
