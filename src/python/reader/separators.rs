//! The search for a separator.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::fallible::list;
use crate::python::bytes::Export;
use crate::python::error::exception;

/// One or several separators, shortest first. None: the line feed.
pub(in crate::python) struct Separators(Vec<Vec<u8>>);

impl Separators {
    pub(super) const LINE_FEED: Self = Self(Vec::new());

    /// Converts the argument: bytes, or a tuple of bytes where asyncio's reader takes one.
    pub(super) fn new(separator: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = separator.py();
        let all = match separator.cast::<PyTuple>() {
            Ok(several) if py.version_info() >= (3, 13) => {
                let mut all = list(several.len())?;
                for one in several {
                    all.push(Export::readable(&one)?.to_vec()?);
                }
                all.sort_unstable_by_key(Vec::len);
                all
            }
            Ok(_) => {
                return Err(exception::<PyTypeError>(
                    "a tuple of separators needs CPython 3.13 or newer",
                ));
            }
            Err(_) => {
                let mut one = list(1)?;
                one.push(Export::readable(separator)?.to_vec()?);
                one
            }
        };
        match all.first() {
            None => Err(exception::<PyValueError>(
                "Separator should contain at least one element",
            )),
            Some(shortest) if shortest.is_empty() => Err(exception::<PyValueError>(
                "Separator should be at least one-byte string",
            )),
            Some(_) => Ok(Self(all)),
        }
    }

    pub(super) fn shortest(&self) -> usize {
        self.0.first().map_or(1, Vec::len)
    }

    pub(super) fn longest(&self) -> usize {
        self.0.last().map_or(1, Vec::len)
    }

    /// The start and the end of the separator that ends first.
    pub(super) fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        if self.0.is_empty() {
            let start = from.saturating_add(find_byte(bytes.get(from..)?, b'\n')?);
            return Some((start, start.saturating_add(1)));
        }
        let mut found: Option<(usize, usize)> = None;
        for separator in &self.0 {
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
        let separators = Separators(vec![b"c".to_vec(), b"bcd".to_vec()]);
        assert_eq!(separators.find(b"abcd", 0), Some((2, 3)));
        assert_eq!(separators.find(b"abcd", 3), None);
    }

    #[test]
    fn a_line_ends_at_the_next_line_feed() {
        assert_eq!(Separators::LINE_FEED.find(b"a\nb\n", 0), Some((1, 2)));
        assert_eq!(Separators::LINE_FEED.find(b"a\nb\n", 2), Some((3, 4)));
        assert_eq!(Separators::LINE_FEED.find(b"a\nb", 2), None);
    }
}
