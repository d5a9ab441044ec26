//! The layout of a message that `frames()` reads.

use std::fmt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::python::error::exception;

/// More bytes than any header has. A header is read ahead as a whole.
const LONGEST_HEADER: usize = 4 << 10;

/// The layout of a message in the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::python) struct Format {
    length_size: usize,
    is_little: bool,
    offset: usize,
    adjustment: i64,
    pub(super) strip: usize,
    max_size: usize,
}

/// The size of one message, with and without the bytes that are stripped.
pub(super) struct Extent {
    pub(super) total: usize,
    pub(super) size: usize,
}

/// Why a message is refused.
pub(super) enum Invalid {
    /// The length in the header, and the adjustment.
    Length(u64, i64),
    /// The size of the message, and how many of its bytes are to be stripped.
    Strip(u128, usize),
    /// The size of the message without the stripped bytes, and the largest one that is allowed.
    Size(u128, usize),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length, adjustment) => write!(
                f,
                "a message of length {length} with adjustment {adjustment} would end before its length field"
            ),
            Self::Strip(total, strip) => {
                write!(
                    f,
                    "a message of {total} bytes has no {strip} bytes to strip"
                )
            }
            Self::Size(size, max_size) => write!(
                f,
                "a message of {size} bytes is above max_size ({max_size} bytes)"
            ),
        }
    }
}

impl Format {
    pub(super) fn new(
        length_size: usize,
        byteorder: &str,
        offset: usize,
        adjustment: i64,
        strip: Option<usize>,
        max_size: usize,
    ) -> PyResult<Self> {
        if !(1..=8).contains(&length_size) {
            return Err(exception::<PyValueError>(format_args!(
                "length_size must be 1 to 8 bytes, not {length_size}"
            )));
        }
        let is_little = match byteorder {
            "big" => false,
            "little" => true,
            _ => {
                return Err(exception::<PyValueError>(format_args!(
                    "byteorder must be 'big' or 'little', not {byteorder:?}"
                )));
            }
        };
        if offset > LONGEST_HEADER || strip.unwrap_or(0) > LONGEST_HEADER {
            return Err(exception::<PyValueError>(format_args!(
                "offset and strip must be at most {LONGEST_HEADER} bytes"
            )));
        }
        let mut format = Self {
            length_size,
            is_little,
            offset,
            adjustment,
            strip: 0,
            max_size,
        };
        format.strip = strip.unwrap_or_else(|| format.header());
        Ok(format)
    }

    /// The number of bytes up to the end of the length field.
    pub(super) fn header(&self) -> usize {
        self.offset.saturating_add(self.length_size)
    }

    /// Reads the size of the message from its header, or says why it is invalid.
    pub(super) fn extent(&self, header: &[u8]) -> Result<Extent, Invalid> {
        let field = header.get(self.offset..self.header()).unwrap_or_default();
        let digit = |length: u64, byte: &u8| (length << 8) | u64::from(*byte);
        let length = if self.is_little {
            field.iter().rev().fold(0, digit)
        } else {
            field.iter().fold(0, digit)
        };
        let behind = i128::from(length).saturating_add(i128::from(self.adjustment));
        let Ok(behind) = u128::try_from(behind) else {
            return Err(Invalid::Length(length, self.adjustment));
        };
        let total = behind.saturating_add(self.header() as u128);
        let Some(size) = total.checked_sub(self.strip as u128) else {
            return Err(Invalid::Strip(total, self.strip));
        };
        match (usize::try_from(total), usize::try_from(size)) {
            (Ok(total), Ok(size)) if size <= self.max_size => Ok(Extent { total, size }),
            _ => Err(Invalid::Size(size, self.max_size)),
        }
    }
}
