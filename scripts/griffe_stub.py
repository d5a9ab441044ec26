"""Shows functions of the stub that have overloads only. griffe alone leaves them out."""

from typing import Any

from griffe import Class, Extension


class Overloads(Extension):
    """Add the first overload of each such function, which has the docstring, to its class."""

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        for name, overloads in cls.overloads.items():
            if name not in cls.members:
                cls.set_member(name, overloads[0])
