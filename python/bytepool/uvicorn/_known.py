"""The private parts of uvicorn that this package uses, and a check that they still exist.

Known with uvicorn 0.54. If a later version differs, ``Protocol`` is uvicorn's own, with a warning.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from collections.abc import Callable

_Protocol, _Cycle = httptools_impl.HttpToolsProtocol, httptools_impl.RequestResponseCycle

# Names that the code of these functions must contain.
_USED: list[tuple[Callable[..., object], set[str]]] = [
    (_Protocol.__init__, {"app", "loop", "flow", "headers", "cycle", "transport"}),
    # What comes after a request with Connection: close is dropped.
    (_Protocol.__init__, {"parser", "HttpRequestParser", "set_dangerous_leniencies"}),
    (_Protocol.connection_made, {"transport", "flow"}),
    (_Protocol.data_received, {"parser", "feed_data", "_unset_keepalive_if_required"}),
    (_Protocol.on_header, {"headers"}),
    # It starts the application that stands in ``app``, at once or later.
    (
        _Protocol.on_headers_complete,
        {"parser", "app", "cycle", "RequestResponseCycle", "transport"},
    ),
    # It adds to the body of the cycle, which is a bytearray.
    (_Protocol.on_body, {"cycle", "body"}),
    (_Cycle.__init__, {"body", "bytearray", "more_body", "message_event", "on_response"}),
    (_Cycle.__init__, {"waiting_for_100_continue", "response_complete"}),
    # It resumes reading, so that the rest of a body that nobody wants can be dropped.
    (_Protocol.on_response_complete, {"flow", "resume_reading"}),
    (_Protocol.handle_websocket_upgrade, {"transport", "set_protocol"}),
    (_Protocol.connection_lost, {"cycle", "disconnected", "message_event"}),
    # It writes a head that begins with the version, and the body after it.
    (_Cycle.send, {"transport", "write", "STATUS_LINE"}),
    # The application gets the cycle's own bound ``receive``.
    (_Cycle.run_asgi, {"scope", "receive", "send"}),
    # It answers Expect: 100-continue, waits for the event, and tells the end.
    (
        _Cycle.receive,
        {"flow", "resume_reading", "message_event", "disconnected", "response_complete"},
    ),
    (FlowControl.__init__, {"read_paused"}),
    (FlowControl.pause_reading, {"read_paused"}),
    (FlowControl.resume_reading, {"read_paused"}),
]


def differences() -> list[str]:
    """Say what is not as known; nothing if all is."""
    parameters = [*inspect.signature(_Protocol).parameters]
    found = []
    if parameters != ["config", "server_state", "app_state", "_loop"]:
        found.append(f"HttpToolsProtocol({', '.join(parameters)})")
    for function, names in _USED:
        code = getattr(function, "__code__", None)
        missing = names - set(code.co_names) if code is not None else names
        found += [f"{function.__qualname__} without {name}" for name in sorted(missing)]
    return found
