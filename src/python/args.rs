//! Numbers that come from Python, sizes in bytes, counts and seconds, and are not to be trusted.

use std::fmt;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
use pyo3::{Borrowed, intern};

use super::exception;

/// How many bytes are asked for: anything with `__index__`, from 0 to `sys.maxsize`.
pub(super) struct Size(pub(super) usize);

impl FromPyObject<'_, '_> for Size {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match read(&object)? {
            Number::Fits(n) => Ok(Self(n)),
            Number::Negative(n) => Err(negative("n", &n)),
            Number::TooLarge(n) => Err(exception::<PyOverflowError>(format!(
                "n ({n}) is more bytes than one buffer can have on this platform ({})",
                isize::MAX
            ))),
        }
    }
}

/// The configured `min_size`. Whether it makes sense is the core's to say.
pub(super) fn min_size(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    config_size("min_size", object)
}

/// The configured `max_size`.
pub(super) fn max_size(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    config_size("max_size", object)
}

fn config_size(name: &str, object: &Bound<'_, PyAny>) -> PyResult<usize> {
    match read(object)? {
        Number::Fits(n) => Ok(n),
        Number::Negative(n) => Err(negative(name, &n)),
        Number::TooLarge(n) => Err(exception::<PyValueError>(format!(
            "{name} ({n}) must be below 2^40 bytes"
        ))),
    }
}

/// The configured number of buffers that a size class keeps.
pub(super) fn max_buffers(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("max_buffers", object)
}

/// The configured number of size classes a doubling. Which make sense is the core's to say.
pub(super) fn steps(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    count("steps", object)
}

fn count(name: &str, object: &Bound<'_, PyAny>) -> PyResult<usize> {
    match read(object)? {
        Number::Fits(n) => Ok(n),
        Number::Negative(n) => Err(negative(name, &n)),
        Number::TooLarge(n) => Err(exception::<PyOverflowError>(format!(
            "{name} ({n}) is more than this platform can count ({})",
            isize::MAX
        ))),
    }
}

/// A configured number of bytes, or `None`.
pub(super) fn max_idle_bytes(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    bound("max_idle_bytes", object)
}

/// A configured number of bytes, or `None`.
pub(super) fn max_bytes(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    bound("max_bytes", object)
}

fn bound(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if object.is_none() {
        return Ok(None);
    }
    bytes(name, object).map(Some)
}

/// How many idle bytes are to stay.
pub(super) fn keep_bytes(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    bytes("keep_bytes", object)
}

fn bytes(name: &str, object: &Bound<'_, PyAny>) -> PyResult<usize> {
    match read(object)? {
        Number::Fits(n) => Ok(n),
        Number::Negative(n) => Err(negative(name, &n)),
        Number::TooLarge(n) => Err(exception::<PyOverflowError>(format!(
            "{name} ({n}) is more bytes than this platform can address ({})",
            isize::MAX
        ))),
    }
}

/// A configured number of seconds, or `None`.
pub(super) fn idle_timeout(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if object.is_none() {
        return Ok(None);
    }
    let seconds: f64 = object.extract()?;
    let timeout = Duration::try_from_secs_f64(seconds);
    timeout.map(Some).map_err(|_| {
        exception::<PyValueError>(format!(
            "idle_timeout must be a finite number of seconds, 0 or more and below 2^64, or None for ever, not {seconds}"
        ))
    })
}

/// How many seconds to wait for bytes of the budget, 0 or more; infinitely many for Python's `None`.
#[derive(Clone, Copy)]
pub(super) struct Timeout(pub(super) f64);

impl Timeout {
    pub(super) const AT_ONCE: Self = Self(0.0);
}

impl FromPyObject<'_, '_> for Timeout {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_none() {
            return Ok(Self(f64::INFINITY));
        }
        let seconds: f64 = object.extract()?;
        if seconds >= 0.0 {
            return Ok(Self(seconds));
        }
        Err(exception::<PyValueError>(format!(
            "timeout must be a number of seconds, 0 or more, or None, not {seconds}"
        )))
    }
}

enum Number {
    Fits(usize),
    Negative(String),
    TooLarge(String),
}

/// Raises only what the object's own `__index__` raises, or a TypeError where it has none.
fn read(object: &Bound<'_, PyAny>) -> PyResult<Number> {
    match object.extract::<isize>() {
        Ok(n) => {
            Ok(usize::try_from(n).map_or_else(|_| Number::Negative(n.to_string()), Number::Fits))
        }
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
            beyond_a_word(object).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// What kind of number a machine word did not hold; `None` where `__index__` raised that overflow.
/// Its digits are not shown: there may be millions.
#[cold]
fn beyond_a_word(object: &Bound<'_, PyAny>) -> Option<Number> {
    let py = object.py();
    let number = match object.cast::<PyInt>() {
        Ok(number) => number.clone(),
        Err(_) => object
            .call_method0(intern!(py, "__index__"))
            .ok()?
            .cast_into::<PyInt>()
            .ok()?,
    };
    if number.lt(0).ok()? {
        return Some(Number::Negative("a huge negative number".to_owned()));
    }
    let bits = number.call_method0(intern!(py, "bit_length")).ok()?;
    Some(Number::TooLarge(format!("an integer of {bits} bits")))
}

#[cold]
fn negative(name: &str, n: &dyn fmt::Display) -> PyErr {
    exception::<PyValueError>(format!("{name} must be 0 or more, not {n}"))
}
