"""Shows the stub as users see its classes. griffe alone leaves out a part of it."""

from typing import Any

from griffe import Class, Extension, Function


class Stub(Extension):
    """Add overloaded functions and constructors to their classes."""

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        for name, overloads in cls.overloads.items():
            if name not in cls.members:
                cls.set_member(name, overloads[0])  # it has the docstring
        constructor = cls.members.get("__new__")
        if isinstance(constructor, Function):
            # A class shows the parameters of its `__init__`.
            constructor.name = "__init__"
            constructor.returns = None
            cls.del_member("__new__")
            cls.set_member("__init__", constructor)
