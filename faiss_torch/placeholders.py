"""Names that do nothing: what stands for a class or a function of faiss that is not offered.

A program may name a class that it never makes: in a tuple for `isinstance`, in an annotation, in an import. So the
name gives a class. Nothing is an instance of it, and making one raises with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


class NotOffered(AttributeError, NotImplementedError):
    """Something of faiss is not offered.

    It is an AttributeError, as what an older faiss lacks is one, and by NotImplementedError a RuntimeError, as faiss's
    own errors are: a program that is prepared for either goes on.
    """


def not_offered(name: str, reason: str) -> NotOffered:
    """Return the error that says what is not offered, and why."""
    return NotOffered(f"faiss_torch does not offer {name}: {reason}")


class _NotOfferedClass(type):
    """The class of these classes: their attributes are not offered either."""

    reason: str

    def __getattr__(cls, name: str) -> NoReturn:
        raise not_offered(f"{cls.__name__}.{name}", cls.reason)


def not_offered_class(name: str, module: str, reason: str) -> type:
    """Make a class that stands for one that is not offered.

    Parameters
    ----------
    name : str
    module : str
        The module in which programs find it.
    reason : str
        Why it is not offered.
    """

    def refuse(cls: type, *arguments: Any, **keywords: Any) -> NoReturn:
        raise not_offered(name, reason)

    body = {"__new__": refuse, "__module__": module, "__doc__": f"Not offered: {reason}."}
    cls = _NotOfferedClass(name, (), body)
    cls.reason = reason
    return cls


def not_offered_function(name: str, module: str, reason: str) -> Callable[..., NoReturn]:
    """Make a function that stands for one that is not offered: calling it raises with the reason."""

    def refuse(*arguments: Any, **keywords: Any) -> NoReturn:
        raise not_offered(name, reason)

    refuse.__name__, refuse.__qualname__, refuse.__module__ = name, name, module
    refuse.__doc__ = f"Not offered: {reason}."
    return refuse


def names_of_module(module: str, reason: str, classes: str, functions: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose names can be imported, and raise when they are used.

    Parameters
    ----------
    module : str
    reason : str
        Why they are not offered.
    classes, functions : str
        The names, with spaces between them.
    """
    names: dict[str, Any] = {name: not_offered_class(name, module, reason) for name in classes.split()}
    names |= {name: not_offered_function(name, module, reason) for name in functions.split()}

    def attribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return names[name]

    return attribute
