//! The configuration of a pool: the constructor's arguments, the environment variable that replaces every
//! pool by a null pool, and the call that `repr` shows.

use std::env;
use std::fmt;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::args::{Choice, Integer, Limit};
use super::error::exception;
use crate::config::{Config, Zero};
use crate::pool::Pool;

/// The value `null` turns every pool into a null pool.
const SWITCH: &str = "BYTEPOOL";

impl Choice for Zero {
    const PARAMETER: &'static str = "zero";
    const NAMES: [(&'static str, Self); 3] = [
        ("never", Self::Never),
        ("release", Self::Release),
        ("allocate", Self::Allocate),
    ];
}

/// Whether a pool keeps the buffers that are returned to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pool,
    Null,
}

/// The constructor's arguments that configure the core, as Python passed them.
pub(super) struct Arguments {
    pub(super) min_size: Integer,
    pub(super) max_size: Integer,
    pub(super) max_buffers: Integer,
    pub(super) max_idle_bytes: Option<Integer>,
    pub(super) max_bytes: Option<Integer>,
    pub(super) idle_timeout: Option<f64>,
    pub(super) zero: Zero,
    pub(super) poison: bool,
}

impl Arguments {
    /// A pool of the core, or a null pool in its place if the environment says so.
    pub(super) fn into_pool(self) -> PyResult<(Kind, Pool)> {
        let config = self.check()?;
        let pool = Pool::new(config)?;
        match env::var_os(SWITCH) {
            None => Ok((Kind::Pool, pool)),
            Some(value) if value.is_empty() => Ok((Kind::Pool, pool)),
            Some(value) if value == "null" => Ok((Kind::Null, Pool::null_for(config))),
            // A typo must not pass for a null pool: it would rule out a memory bug that was not tested for.
            Some(value) => Err(exception::<PyValueError>(format_args!(
                "the environment variable {SWITCH} must be 'null' or not set, not {value:?}"
            ))),
        }
    }

    fn check(self) -> PyResult<Config> {
        let optional = |value: Option<Integer>, parameter| {
            let value = value.map(|value| value.check(parameter, Limit::Platform));
            value.transpose()
        };
        Ok(Config {
            min_size: self.min_size.check("min_size", Limit::MaxSize)?,
            max_size: self.max_size.check("max_size", Limit::MaxSize)?,
            max_buffers: self.max_buffers.check("max_buffers", Limit::Platform)?,
            max_idle_bytes: optional(self.max_idle_bytes, "max_idle_bytes")?,
            max_bytes: optional(self.max_bytes, "max_bytes")?,
            idle_timeout: self.idle_timeout.map(duration).transpose()?,
            zero: self.zero,
            poison: self.poison,
        })
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        exception::<PyValueError>(format_args!(
            "idle_timeout must be a finite number of seconds, 0 or more and below 2^64, \
             or None to keep idle memory, not {seconds}"
        ))
    })
}

/// Shows the call that makes such a pool, without default arguments.
pub(super) struct ConstructorCall<'a> {
    pub(super) kind: Kind,
    pub(super) config: &'a Config,
    /// As Python's `repr` shows it.
    pub(super) name: Option<&'a str>,
}

impl fmt::Display for ConstructorCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, config, name } = self;
        f.write_str(match kind {
            Kind::Pool => "Pool",
            Kind::Null => "Pool.null",
        })?;
        let Config {
            min_size,
            max_size,
            max_buffers,
            ..
        } = config;
        write!(
            f,
            "(min_size={min_size}, max_size={max_size}, max_buffers={max_buffers}"
        )?;
        if let Some(name) = name {
            write!(f, ", name={name}")?;
        }
        if let Some(max_idle_bytes) = config.max_idle_bytes {
            write!(f, ", max_idle_bytes={max_idle_bytes}")?;
        }
        if let Some(max_bytes) = config.max_bytes {
            write!(f, ", max_bytes={max_bytes}")?;
        }
        if config.idle_timeout != Config::DEFAULT.idle_timeout {
            match config.idle_timeout {
                Some(timeout) => write!(f, ", idle_timeout={:?}", timeout.as_secs_f64())?,
                None => f.write_str(", idle_timeout=None")?,
            }
        }
        if config.zero != Config::DEFAULT.zero {
            write!(f, ", zero='{}'", config.zero.name())?;
        }
        if config.poison {
            f.write_str(", poison=True")?;
        }
        f.write_str(")")
    }
}
