//! `bytepool._bytepool.Read`, the awaitable that the read methods return: a coroutine without a Python frame. `step.rs`
//! has its steps.

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyString, PyType};
use pyo3::{PyTypeInfo, intern};

use super::state::{Reader, Want};
use super::work::{Progress, Work};
use crate::python::error::exception;
use crate::python::objects::string;
use crate::sync::Mutex;

/// A read that is to be awaited.
///
/// It is a ``collections.abc.Coroutine``: ``await`` it, or give it to ``asyncio.create_task``,
/// ``asyncio.wait_for`` and all else that takes a coroutine. Nothing is read before that.
#[pyclass(frozen, weakref, module = "bytepool._bytepool")]
pub(in crate::python) struct Read {
    reader: Py<Reader>,
    name: &'static str,
    stage: Mutex<Stage>,
}

enum Stage {
    New(PyResult<Work>),
    Waiting(Work, Wait),
    Running,
    Done,
}

/// The iterator of a suspended read.
enum Wait {
    /// The iterator of a future.
    Future(Py<PyIterator>),
    Coroutine(Py<PyAny>),
}

enum Outcome {
    Yield(Wait, Py<PyAny>),
    Return(Py<PyAny>),
}

impl Read {
    pub(in crate::python) fn new(
        reader: Bound<'_, Reader>,
        name: &'static str,
        work: PyResult<Work>,
    ) -> Self {
        Self {
            reader: reader.unbind(),
            name,
            stage: Mutex::new(Stage::New(work)),
        }
    }

    fn swap(&self, stage: Stage) -> Stage {
        std::mem::replace(&mut *self.stage.lock(), stage)
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let reader = self.reader.bind(py);
        let (mut work, wait) = match self.swap(Stage::Running) {
            Stage::New(Ok(work)) => (work, None),
            Stage::Waiting(work, wait) => (work, Some(wait)),
            Stage::New(Err(error)) => {
                self.swap(Stage::Done);
                return Err(error);
            }
            Stage::Running => return Err(exception::<PyValueError>("coroutine already executing")),
            Stage::Done => {
                self.swap(Stage::Done);
                return Err(reused());
            }
        };
        match run(reader, self.name, &mut work, wait) {
            Ok(Outcome::Yield(wait, yielded)) => {
                self.swap(Stage::Waiting(work, wait));
                Ok(yielded)
            }
            Ok(Outcome::Return(value)) => {
                self.swap(Stage::Done);
                // `PyErr::from_type` would box the value, and abort the process if there is no memory for that.
                let stop = py.get_type::<PyStopIteration>().call1((value,))?;
                Err(PyErr::from_value(stop))
            }
            Err(error) => {
                work.give_up(reader);
                self.swap(Stage::Done);
                Err(error)
            }
        }
    }
}

/// Runs steps until there is a result or something to wait for.
fn run(
    reader: &Bound<'_, Reader>,
    name: &'static str,
    work: &mut Work,
    mut wait: Option<Wait>,
) -> PyResult<Outcome> {
    let py = reader.py();
    let mut first = wait.is_none();
    loop {
        match wait.take() {
            None => {}
            Some(Wait::Future(future)) => {
                if let Some(yielded) = future.bind(py).clone().next() {
                    return Ok(Outcome::Yield(Wait::Future(future), yielded?.unbind()));
                }
            }
            Some(Wait::Coroutine(coroutine)) => {
                match coroutine.call_method1(py, intern!(py, "send"), (py.None(),)) {
                    Ok(yielded) => return Ok(Outcome::Yield(Wait::Coroutine(coroutine), yielded)),
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                        let view = error.value(py).getattr(intern!(py, "value"))?;
                        reader.get().note_view(&view)?;
                        work.result = Some(view.unbind());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        wait = Some(match work.attempt(reader, name, first)? {
            Progress::Ready(value) => return Ok(Outcome::Return(value)),
            Progress::Wait(want) => Wait::Future(wait_for(reader, name, work, want)?),
            Progress::Await(coroutine) => Wait::Coroutine(coroutine),
        });
        first = false;
    }
}

/// A future that is done when the next step can make progress.
fn wait_for(
    reader: &Bound<'_, Reader>,
    name: &str,
    work: &mut Work,
    want: Want,
) -> PyResult<Py<PyIterator>> {
    let (py, this) = (reader.py(), reader.get());
    this.check_alone(name)?;
    this.resume(py, true)?;
    let event_loop = this.event_loop(py)?;
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    work.future = Some(future.clone().unbind());
    this.set_waiter(future.clone().unbind(), want);
    if want == Want::Target && this.is_watched() {
        reader.call_method1(intern!(py, "_watch"), (&future,))?;
    }
    Ok(future.try_iter()?.unbind())
}

#[pymethods]
impl Read {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    /// Begins or goes on, as a coroutine's ``send(None)``.
    #[expect(unused_variables, reason = "the protocol has it, and it is None")]
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    /// Ends the read with that error. The received bytes stay for the next read.
    #[pyo3(signature = (kind, value = None, traceback = None))]
    #[expect(
        unused_variables,
        reason = "the protocol has it, and the error has it too"
    )]
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = thrown(kind, value)?;
        match self.swap(Stage::Running) {
            Stage::Running => Err(exception::<PyValueError>("coroutine already executing")),
            Stage::Done => {
                self.swap(Stage::Done);
                Err(reused())
            }
            Stage::New(_) => {
                self.swap(Stage::Done);
                Err(error)
            }
            Stage::Waiting(mut work, wait) => {
                let error = match wait {
                    Wait::Future(_) => error,
                    // The inner coroutine leaves the queue of waiters, and raises the error.
                    Wait::Coroutine(coroutine) => {
                        let value = error.value(py).clone();
                        let left = coroutine.call_method1(py, intern!(py, "throw"), (value,));
                        left.err().unwrap_or(error)
                    }
                };
                work.give_up(self.reader.bind(py));
                self.swap(Stage::Done);
                Err(error)
            }
        }
    }

    /// Ends the read. The received bytes stay for the next read.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.swap(Stage::Done) {
            Stage::Running => Err(exception::<PyValueError>("coroutine already executing")),
            Stage::New(_) | Stage::Done => Ok(()),
            Stage::Waiting(mut work, wait) => {
                work.give_up(self.reader.bind(py));
                match wait {
                    Wait::Future(_) => Ok(()),
                    Wait::Coroutine(coroutine) => {
                        coroutine.call_method0(py, intern!(py, "close")).map(drop)
                    }
                }
            }
        }
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        string(py, format_args!("StreamReader.{}", self.name))
    }

    /// Whether it runs now.
    #[getter]
    fn cr_running(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Running)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        let Some(stage) = self.stage.try_lock() else {
            return Ok(());
        };
        match &*stage {
            Stage::New(Ok(work)) => work.traverse(&visit),
            Stage::Waiting(work, Wait::Future(future)) => {
                work.traverse(&visit)?;
                visit.call(future)
            }
            Stage::Waiting(work, Wait::Coroutine(coroutine)) => {
                work.traverse(&visit)?;
                visit.call(coroutine)
            }
            Stage::New(Err(_)) | Stage::Running | Stage::Done => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.swap(Stage::Done));
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut *self.stage.lock(), Stage::Done);
        match stage {
            Stage::Running | Stage::Done => {}
            Stage::New(_) => Python::attach(|py| quietly(py, || self.warn(py))),
            Stage::Waiting(mut work, _) => Python::attach(|py| {
                quietly(py, || {
                    work.give_up(self.reader.bind(py));
                    Ok(())
                });
            }),
        }
    }
}

impl Read {
    #[cold]
    fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let name = self.name;
        let text = string(
            py,
            format_args!("coroutine 'StreamReader.{name}' was never awaited"),
        )?;
        let kind = PyRuntimeWarning::type_object(py);
        let warnings = py.import(intern!(py, "warnings"))?;
        warnings.call_method1(intern!(py, "warn"), (text, kind))?;
        Ok(())
    }
}

/// Runs code that has no caller to raise an error to. Another error may be propagating meanwhile.
fn quietly(py: Python<'_>, call: impl FnOnce() -> PyResult<()>) {
    let pending = PyErr::take(py);
    if let Err(error) = call() {
        error.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

/// The error that ``throw`` was called with, in one of its forms.
fn thrown(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyResult<PyErr> {
    let Ok(class) = kind.cast::<PyType>() else {
        return Ok(PyErr::from_value(kind.clone()));
    };
    match value {
        Some(value) if value.is_instance(class)? => Ok(PyErr::from_value(value.clone())),
        Some(value) if !value.is_none() => Ok(PyErr::from_value(class.call1((value,))?)),
        _ => Ok(PyErr::from_value(class.call0()?)),
    }
}

#[cold]
fn reused() -> PyErr {
    exception::<PyRuntimeError>("cannot reuse already awaited coroutine")
}
