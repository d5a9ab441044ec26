//! Which buffers a pool tracks. What is noted of them is `note.rs`'s.

use std::env;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};

use super::exception;
use super::note::{Note, Registry};
use super::pool::Pool;
use crate::sync::{AtomicU8, AtomicU32, Ordering};

/// Says what pools track that were not told.
const SWITCH: &str = "BYTEPOOL_TRACK";

/// One in so many is enough to find what leaks all the time, and costs little.
const SAMPLE: u32 = 128;

static REGISTRY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Off,
    Sampled,
    All,
}

impl Level {
    const ALL: [Self; 3] = [Self::Off, Self::Sampled, Self::All];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sampled => "sampled",
            Self::All => "all",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A level that the user gave.
pub(super) fn level(object: &Bound<'_, PyAny>) -> PyResult<Level> {
    let name = object.cast::<PyString>()?;
    let name = name.to_string_lossy();
    Level::named(&name).ok_or_else(|| {
        exception::<PyValueError>(format!(
            "track must be 'off', 'sampled' or 'all', not {name:?}"
        ))
    })
}

/// The same, or `None`.
pub(super) fn optional_level(object: &Bound<'_, PyAny>) -> PyResult<Option<Level>> {
    if object.is_none() {
        return Ok(None);
    }
    level(object).map(Some)
}

pub(super) struct Tracker {
    level: AtomicU8,
    seen: AtomicU32,
    /// What was noted, once there is anything.
    registry: PyOnceLock<Registry>,
}

impl Tracker {
    pub(super) fn new(level: Option<Level>) -> PyResult<Self> {
        let level = match (level, env::var_os(SWITCH)) {
            (Some(level), _) => level,
            (None, None) => Level::Off,
            (None, Some(value)) if value.is_empty() => Level::Off,
            (None, Some(value)) => value.to_str().and_then(Level::named).ok_or_else(|| {
                exception::<PyValueError>(format!(
                    "the environment variable {SWITCH} must be 'off', 'sampled', 'all' or not set, \
                     not {value:?}"
                ))
            })?,
        };
        Ok(Self {
            level: AtomicU8::new(level as u8),
            seen: AtomicU32::new(0),
            registry: PyOnceLock::new(),
        })
    }

    pub(super) fn level(&self) -> Level {
        let level = self.level.load(Ordering::Relaxed);
        let found = Level::ALL.into_iter().find(|known| *known as u8 == level);
        found.unwrap_or(Level::Off)
    }

    pub(super) fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// What is noted of the buffer that is about to be handed out, if it is one of those that are tracked.
    #[inline]
    pub(super) fn note(pool: &Bound<'_, Pool>, size: usize, has_handle: bool) -> Option<Py<Note>> {
        let this = pool.get().tracker();
        let level = this.level.load(Ordering::Relaxed);
        if level == Level::Off as u8 || (level == Level::Sampled as u8 && !this.is_sampled()) {
            return None;
        }
        this.tracked(pool, size, has_handle)
    }

    #[inline]
    fn is_sampled(&self) -> bool {
        // Not `fetch_add`, which would take as long as all the rest: if two threads count at the same
        // time, the sample is none the worse.
        let seen = self.seen.load(Ordering::Relaxed);
        self.seen.store(seen.wrapping_add(1), Ordering::Relaxed);
        seen.is_multiple_of(SAMPLE)
    }

    #[cold]
    #[inline(never)]
    fn tracked(&self, pool: &Bound<'_, Pool>, size: usize, has_handle: bool) -> Option<Py<Note>> {
        let tracked = self.track(pool, size, has_handle);
        // For want of memory, say: the buffer itself is there, and what is noted of it is not worth it.
        tracked
            .map_err(|error| error.write_unraisable(pool.py(), Some(pool)))
            .ok()
    }

    fn track(&self, pool: &Bound<'_, Pool>, size: usize, has_handle: bool) -> PyResult<Py<Note>> {
        let py = pool.py();
        let registry = self.registry.get_or_try_init(py, || {
            let registry = REGISTRY.import(py, "bytepool.tracking", "_Registry")?;
            let registry = registry.call1((pool.get().describe(py)?,))?;
            let out = registry.getattr(intern!(py, "out"))?.cast_into()?.unbind();
            PyResult::Ok(Registry {
                registry: registry.unbind(),
                out,
            })
        })?;
        Note::take(py, registry, size, has_handle)
    }

    pub(super) fn outstanding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.registry.get(py) {
            Some(Registry { registry, .. }) => {
                registry.bind(py).call_method0(intern!(py, "outstanding"))
            }
            None => Ok(PyList::empty(py).into_any()),
        }
    }
}
