//! `readuntil` and `readline`: the search for a separator.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Reader;
use super::ops::Progress;
use super::state::{Want, incomplete, overrun};
use super::work::{Op, Work};
use crate::python::bytes::Export;
use crate::python::error::exception;

/// One or several separators, shortest first.
pub(in crate::python) struct Separators {
    all: Vec<Vec<u8>>,
    shortest: usize,
    longest: usize,
}

impl Separators {
    pub(super) fn line_end() -> Self {
        Self {
            all: vec![b"\n".to_vec()],
            shortest: 1,
            longest: 1,
        }
    }

    /// Converts the argument: bytes, or a tuple of bytes where asyncio's reader takes one.
    pub(super) fn new(separator: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = separator.py();
        let mut all = Vec::new();
        match separator.cast::<PyTuple>() {
            Ok(several) if py.version_info() >= (3, 13) => {
                for one in several {
                    all.push(Export::readable(&one)?.to_vec());
                }
                if all.is_empty() {
                    return Err(exception::<PyValueError>(
                        "Separator should contain at least one element",
                    ));
                }
            }
            Ok(_) => {
                return Err(exception::<PyTypeError>(
                    "a tuple of separators needs CPython 3.13 or newer",
                ));
            }
            Err(_) => all.push(Export::readable(separator)?.to_vec()),
        }
        all.sort_by_key(Vec::len);
        let shortest = all.first().map_or(0, Vec::len);
        let longest = all.last().map_or(0, Vec::len);
        if shortest == 0 {
            return Err(exception::<PyValueError>(
                "Separator should be at least one-byte string",
            ));
        }
        Ok(Self {
            all,
            shortest,
            longest,
        })
    }

    /// The start and the end of the separator that ends first.
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for separator in &self.all {
            if let Some(start) = find(bytes, separator, from) {
                let end = start.saturating_add(separator.len());
                if found.is_none_or(|(_, first)| end < first) {
                    found = Some((start, end));
                }
            }
        }
        found
    }
}

impl Work {
    pub(super) fn read_until(
        &mut self,
        this: &Reader,
        py: Python<'_>,
        first: bool,
    ) -> PyResult<Progress> {
        let (separators, is_line) = match &self.op {
            Op::Until(separators) => (separators, false),
            Op::Line(separators) => (separators, true),
            _ => return Ok(Progress::Ready(py.None())),
        };
        let (unread, limit) = (this.unread(), this.limit());
        if unread.saturating_sub(self.searched) >= separators.shortest {
            let from = self.searched;
            let found = this.look(py, unread, |bytes| separators.find(bytes, from))?;
            if let Some((start, end)) = found {
                if start <= limit {
                    return Ok(Progress::Ready(this.take(py, end)?.into_any().unbind()));
                }
                let message = "Separator is found, but chunk is longer than limit";
                if is_line {
                    this.consume(py, end)?;
                    return Err(exception::<PyValueError>(message));
                }
                return Err(overrun(py, message, start));
            }
            self.searched = unread.saturating_add(1).saturating_sub(separators.longest);
            if self.searched > limit {
                let message = "Separator is not found, and chunk exceed the limit";
                if is_line {
                    this.consume(py, unread)?;
                    return Err(exception::<PyValueError>(message));
                }
                return Err(overrun(py, message, self.searched));
            }
        }
        if !first {
            this.check_error(py)?;
        }
        if !this.is_eof() {
            return Ok(Progress::Wait(Want::Anything));
        }
        let partial = this.take(py, unread)?.into_any();
        if is_line {
            return Ok(Progress::Ready(partial.unbind()));
        }
        Err(incomplete(partial, py.None()))
    }
}

/// The first position of `separator`, which is not empty, at or after `from`.
fn find(bytes: &[u8], separator: &[u8], mut from: usize) -> Option<usize> {
    let first = *separator.first()?;
    loop {
        let rest = bytes.get(from..)?;
        let start = from.saturating_add(find_byte(rest, first)?);
        if bytes.get(start..)?.starts_with(separator) {
            return Some(start);
        }
        from = start.saturating_add(1);
    }
}

/// How many bytes are compared at a time. The compiler uses vector instructions for them.
fn find_byte(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut passed = 0_usize;
    for chunk in bytes.chunks(64) {
        if chunk
            .iter()
            .fold(false, |found, &byte| found | (byte == wanted))
        {
            let offset = chunk.iter().position(|&byte| byte == wanted)?;
            return Some(passed.saturating_add(offset));
        }
        passed = passed.saturating_add(chunk.len());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Separators, find, find_byte};

    #[test]
    fn every_position_of_a_separator_is_found() {
        for len in 0..200 {
            for at in 0..len {
                let mut bytes = vec![b'a'; len];
                bytes[at] = b'b';
                assert_eq!(find_byte(&bytes, b'b'), Some(at));
                assert_eq!(find(&bytes, b"ab", 0), at.checked_sub(1));
                assert_eq!(find(&bytes, b"b", at + 1), None);
            }
        }
    }

    #[test]
    fn the_separator_that_ends_first_wins() {
        let separators = Separators {
            all: vec![b"c".to_vec(), b"bcd".to_vec()],
            shortest: 1,
            longest: 3,
        };
        assert_eq!(separators.find(b"abcd", 0), Some((2, 3)));
        assert_eq!(separators.find(b"abcd", 3), None);
    }
}
