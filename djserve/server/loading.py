"""An application's name -> the application, or one message that says what is wrong.

The message of a module that cannot be imported has the traceback of the user's code
alone: neither importlib's frames nor ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import traceback
from typing import TYPE_CHECKING, Any

from djserve.errors import CHANNELS_HINT, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from djserve.asgi.types import Application


_USUAL_NAMES = ("application", "app", "asgi")


def load_application(name: str, *, is_factory: bool = False) -> Application:
    """Return the application that "module:attribute" names; imports the module.

    ``is_factory`` says that what is named has to be called to get it.
    Raises ConfigError with a single message.
    """
    module, separator, attribute = name.partition(":")
    if not (separator and module and attribute):
        raise ConfigError([_describe_bad_name(name)])
    if not is_factory:
        return import_application(module, attribute)
    return accept_application(_call(_import_attribute(module, attribute), name), name)


def import_application(module_name: str, attribute: str) -> Application:
    """Import a module and return an attribute of it, dotted or not, as ASGI 3.

    Raises ConfigError; if the module itself raised, that is the error's cause.
    """
    target = _import_attribute(module_name, attribute)
    return accept_application(target, f"{module_name}:{attribute}")


def _import_attribute(module_name: str, attribute: str) -> Any:
    target: Any = _import_module(module_name)
    for part in attribute.split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            problem = f"{module_name} has no attribute {attribute!r}"
            hint = _suggest(part, _public_names(target))
            raise ConfigError([problem + hint]) from None
    return target


def _call(factory: Any, name: str) -> Any:
    """Return what a factory makes. Raises ConfigError if it cannot be called, or fails.

    A coroutine function cannot be one: no loop runs yet.
    """
    if not callable(factory) or inspect.iscoroutinefunction(factory):
        raise ConfigError([f"{name} is not a function that returns an application"])
    if not _takes(factory, 0):
        signature = _name_signature(factory)
        raise ConfigError([f"{name} cannot be called without arguments: {signature}"])
    try:
        return factory()
    except (Exception, SystemExit) as error:
        problem = _describe_failure(name, error, what="Calling")
        raise ConfigError([problem]) from error


def accept_application(target: Any, name: str) -> Application:
    """Return what is to be served as ASGI 3. Raises ConfigError if it cannot be."""
    if not callable(target):
        kind = type(target).__name__
        problem = f"{name} is not an application but a {kind}"
        raise ConfigError([f"{problem}: it cannot be called"])
    problem = _find_wrong_interface(target)
    if problem:
        raise ConfigError([f"{name} {problem}"])
    application: Application = target
    if inspect.iscoroutinefunction(target):
        return application
    # Only now: a plain function needs none of it.
    from asgiref.compatibility import guarantee_single_callable

    # An ASGI 2 application takes the scope alone and returns what takes the rest.
    application = guarantee_single_callable(target)  # type: ignore[no-untyped-call]
    return application


def _find_wrong_interface(target: Callable[..., Any]) -> str:
    """Return why a callable is not an ASGI application, "" if it may be one."""
    if _takes(target, 3) or _takes(target, 1):
        return ""
    if _takes(target, 2) and not inspect.iscoroutinefunction(target):
        return (
            "is a WSGI application, it takes environ and start_response: name the ASGI "
            'application, as in "mysite.asgi:application"'
        )
    return (
        "is not an ASGI application: it has to take three arguments, scope, receive "
        f"and send, but is {_name_signature(target)}"
    )


def _takes(target: Callable[..., Any], number: int) -> bool:
    """Return whether a callable can be given so many arguments; True if unknown."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


def _name_signature(target: Callable[..., Any]) -> str:
    name = getattr(target, "__name__", type(target).__name__)
    parameters = inspect.signature(target).parameters
    return f"{name}({', '.join(map(str, parameters.values()))})"


def _describe_bad_name(name: str) -> str:
    problem = f"Expected an application as module:attribute, got {name!r}"
    module = name.removesuffix(":")
    if module.endswith(".py"):
        path = os.path.normpath(module.removesuffix(".py")).replace(os.sep, ".")
        return f"{problem}; did you mean '{path}:{_guess_attribute(path)}'?"
    return f"{problem}; did you mean '{_guess_name(module)}'?"


def _guess_name(module: str) -> str:
    """Return what somebody may have meant who left the colon out."""
    if not module:
        return "mysite.asgi:application"
    if _exists(f"{module}.asgi"):
        return f"{module}.asgi:application"
    parent, _, last = module.rpartition(".")
    if parent and last != "asgi" and not _exists(module):
        return f"{parent}:{last}"
    return f"{module}:{_guess_attribute(module)}"


def _guess_attribute(module: str) -> str:
    """Return the application's name in a module, one of the usual ones."""
    # Only now: each start would pay for it.
    from djserve.server.source_names import read_names

    try:
        spec = importlib.util.find_spec(module)
        names = None if spec is None else read_names(spec)
    except Exception:
        # As above.
        names = None
    return next((name for name in _USUAL_NAMES if name in (names or ())), "application")


def _exists(module: str) -> bool:
    """Return whether there is such a module; imports the packages above it."""
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:
        # Whatever such a package raises is told when it is named rightly.
        return False


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if _is_missing(name, error):
            raise ConfigError([_describe_missing(name, error)]) from None
        if error.name == "channels" and CHANNELS_HINT not in _notes_of(error):
            error.add_note(CHANNELS_HINT)
        raise ConfigError([_describe_failure(name, error)]) from error
    except (Exception, SystemExit) as error:
        # A process that serves nothing must not end as if that were right.
        raise ConfigError([_describe_failure(name, error)]) from error


def _notes_of(error: BaseException) -> Sequence[str]:
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return notes


def _is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Tell a module that does not exist from one that imports what does not."""
    missing = error.name or ""
    return f"{name}.".startswith(f"{missing}.") and not _user_frames(error)


def _describe_missing(name: str, error: ModuleNotFoundError) -> str:
    missing = error.name or name
    parent, _, last = missing.rpartition(".")
    message = f"There is no module {missing!r}"
    if "not a package" in str(error):
        return f"{message}: {parent!r} is a module, not a package"
    if parent:
        paths = importlib.import_module(parent).__path__
        return message + _suggest(last, _module_names(paths))
    hint = _suggest(last, _module_names(None))
    return f"{message}{hint} (searched {os.getcwd()} and the Python path)"


def _describe_failure(
    name: str, error: BaseException, *, what: str = "Importing"
) -> str:
    lines = _word(error)
    frames = _user_frames(error)
    # A syntax error has no frames: its own lines say where it is.
    if frames:
        title = "Traceback (most recent call last):\n"
        lines = [title, *traceback.format_list(frames), *lines]
    return f"{what} {name!r} failed:\n\n{''.join(lines).rstrip()}"


def _word(error: BaseException) -> list[str]:
    """Return the lines that say what was raised, without where."""
    try:
        return traceback.format_exception_only(error)
    except Exception:
        # Python 3.15 imports the package of a missing module again to find the words,
        # and lets out what that raises.
        return [f"{type(error).__name__}: {error}"]


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames below the import machinery that we called."""
    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame
        for frame in frames
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]


def _module_names(paths: Iterable[str] | None) -> list[str]:
    import pkgutil

    return [found.name for found in pkgutil.iter_modules(paths)]


def _public_names(target: object) -> list[str]:
    return [name for name in dir(target) if not name.startswith("_")]


def _suggest(name: str, names: list[str]) -> str:
    # Long to import, for a mistake.
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    if not close and name in _USUAL_NAMES:
        close = [usual for usual in _USUAL_NAMES if usual in names]
    return f"; did you mean {close[0]!r}?" if close else ""
