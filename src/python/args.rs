//! Conversion of arguments that come from Python: integers, seconds and named choices.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use pyo3::{Borrowed, intern};

use super::error::exception;
use super::objects::string;

/// Any object with `__index__`. [`Integer::check`] checks its range, and needs the parameter's name for it.
pub(super) enum Integer {
    Fits(usize),
    /// A negative integer, if it fits into a machine word.
    Negative(Option<isize>),
    /// How many bits it has.
    TooLarge(u64),
}

/// How large an integer may be, and which exception says that it is larger.
pub(super) enum Limit {
    /// `sys.maxsize`, or OverflowError.
    Platform,
    /// Below 2^40, or ValueError. The core applies this limit to integers that fit into a machine word.
    MaxSize,
}

impl Integer {
    #[inline]
    pub(super) fn check(self, parameter: &str, limit: Limit) -> PyResult<usize> {
        match self {
            Self::Fits(n) => Ok(n),
            Self::Negative(n) => Err(negative(parameter, n)),
            Self::TooLarge(bits) => Err(too_large(parameter, bits, limit)),
        }
    }
}

#[cold]
fn negative(parameter: &str, n: Option<isize>) -> PyErr {
    match n {
        Some(n) => {
            exception::<PyValueError>(format_args!("{parameter} must be 0 or more, not {n}"))
        }
        None => exception::<PyValueError>(format_args!(
            "{parameter} must be 0 or more, not a huge negative number"
        )),
    }
}

#[cold]
fn too_large(parameter: &str, bits: u64, limit: Limit) -> PyErr {
    match limit {
        Limit::Platform => exception::<PyOverflowError>(format_args!(
            "{parameter} (an integer of {bits} bits) must be at most sys.maxsize ({})",
            isize::MAX
        )),
        Limit::MaxSize => exception::<PyValueError>(format_args!(
            "{parameter} (an integer of {bits} bits) must be below 2^40 bytes"
        )),
    }
}

impl FromPyObject<'_, '_> for Integer {
    type Error = PyErr;

    /// Raises only what the object's own `__index__` raises, or TypeError if it has none.
    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.extract::<isize>() {
            Ok(n) => Ok(usize::try_from(n).map_or(Self::Negative(Some(n)), Self::Fits)),
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                larger_than_a_word(&object).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// An integer that does not fit into a machine word. `None` if `__index__` itself raised OverflowError.
/// The integer may have millions of digits, so the messages show its length instead.
#[cold]
fn larger_than_a_word(object: &Bound<'_, PyAny>) -> Option<Integer> {
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
        return Some(Integer::Negative(None));
    }
    let bits = number.call_method0(intern!(py, "bit_length")).ok()?;
    bits.extract::<u64>().ok().map(Integer::TooLarge)
}

/// How many seconds to wait for the budget: 0 or more, and infinity for Python's `None`.
#[derive(Clone, Copy)]
pub(super) struct Timeout(f64);

impl Timeout {
    pub(super) const NO_WAIT: Self = Self(0.0);

    pub(super) fn waits(self) -> bool {
        self.0 > 0.0
    }

    pub(super) fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0).unwrap_or(Duration::MAX)
    }
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
        Err(exception::<PyValueError>(format_args!(
            "timeout must be a number of seconds, 0 or more, or None, not {seconds}"
        )))
    }
}

/// A name, as a string of exactly this class: an object of a subclass could be part of a reference cycle.
pub(super) struct Name(pub(super) Py<PyString>);

impl FromPyObject<'_, '_> for Name {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let name = object.cast::<PyString>()?;
        Ok(Self(string(object.py(), name.to_str()?)?.unbind()))
    }
}

/// A parameter whose values are called by name in Python.
pub(super) trait Choice: Copy + PartialEq + 'static {
    const PARAMETER: &'static str;
    const NAMES: [(&'static str, Self); 3];

    fn named(name: &str) -> Option<Self> {
        let mut all = Self::NAMES.into_iter();
        all.find_map(|(known, value)| (known == name).then_some(value))
    }

    fn name(self) -> &'static str {
        let mut all = Self::NAMES.into_iter();
        all.find_map(|(name, known)| (known == self).then_some(name))
            .unwrap_or_default()
    }
}

/// Shows all names of a [`Choice`] in an error message: "'a', 'b' or 'c'".
pub(super) struct NamesOf<T>(pub(super) PhantomData<T>);

impl<T: Choice> fmt::Display for NamesOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(first, _), (second, _), (third, _)] = T::NAMES;
        write!(f, "'{first}', '{second}' or '{third}'")
    }
}

/// The argument for a [`Choice`].
pub(super) struct Chosen<T>(pub(super) T);

impl<T: Choice> FromPyObject<'_, '_> for Chosen<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let name = object.cast::<PyString>()?;
        let name = name.to_string_lossy();
        T::named(&name).map(Self).ok_or_else(|| {
            exception::<PyValueError>(format_args!(
                "{} must be {}, not {name:?}",
                T::PARAMETER,
                NamesOf::<T>(PhantomData)
            ))
        })
    }
}
