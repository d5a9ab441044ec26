"""Errors of a connection, and why they are copied.

An error that is raised holds the frames that it went through, by its traceback. Those are the
frames of your handler, with the messages in them and the reader. If the connection kept that same
error, it would keep the messages, and itself, until the garbage collector runs. So:

- what a connection keeps has no traceback (the event loop's frames hold memory too);
- what is raised is a copy, a new one for each read that fails.

Futures keep errors, too: a future gets a copy, and its waiters raise copies of that.
"""

from __future__ import annotations

import types
from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)

# Attributes that the copy gets in another way, or must not have.
_NOT_COPIED = ("__traceback__", "__context__", "__dict__", "__weakref__", "args")
_DESCRIPTORS: tuple[type, ...] = (types.MemberDescriptorType, types.GetSetDescriptorType)


def copy_error(error: _Error) -> _Error:
    """Return an error of the same type, text, attributes and cause, without a traceback.

    Its ``__init__`` is not run. An error that cannot be copied is returned itself.
    """
    try:
        kind = type(error)
        copy: _Error = kind.__new__(kind, *error.args)
        # The base that is written in C keeps some of its arguments outside of ``args``.
        base = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
        base.__init__(copy, *error.args)  # type: ignore[misc]
        copy.args = error.args
        vars(copy).update(vars(error))
        for base in kind.__mro__:
            for name, descriptor in vars(base).items():
                if isinstance(descriptor, _DESCRIPTORS) and name not in _NOT_COPIED:
                    _copy_attribute(error, copy, name)
    except Exception:
        return error.with_traceback(None)
    return copy


_HEAP_TYPE = 1 << 9


def _copy_attribute(error: BaseException, copy: BaseException, name: str) -> None:
    try:
        value = getattr(error, name)
    except AttributeError:
        return  # it has none
    if getattr(copy, name, None) is not value:
        setattr(copy, name, value)
