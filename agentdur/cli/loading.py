"""Finding the App: `agent.py`, `agent.py:app`, `package.module`, `package.module:app`.

Rules of this file:
1. The module is imported as Python would import it from where it lies, so that its own imports work.
2. When there is no App, or more than one, the error says what there is.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from agentdur.core.errors import AgentdurError, AppNotFound
from agentdur.sdk.service import BaseService
from agentdur.server import App

T = TypeVar("T")

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Place(NamedTuple):
    """Where a module is imported from, its name, and the attribute that was asked for."""

    folder: Path
    module: str
    attribute: str | None


def load_app(target: str) -> App:
    """The App `target` names; AppNotFound with what was found instead."""
    place = find(target)
    module = _import(place)
    if place.attribute is not None:
        return _attribute(module, place.attribute)
    return _only_app(module)


def find(target: str) -> Place:
    """Where `target` points to, without importing it."""
    path_text, attribute = _split(target)
    path = Path(path_text)
    if path.suffix == ".py" or path.exists():
        return Place(*_locate(path), attribute)
    if _DOTTED.fullmatch(path_text):
        return Place(Path.cwd(), path_text, attribute)
    raise AppNotFound(f"{path_text!r} is neither a file nor a module name")


def _split(target: str) -> tuple[str, str | None]:
    head, colon, tail = target.rpartition(":")
    if colon and _DOTTED.fullmatch(tail) and len(head) != 1:  # not the letter of a drive
        return head, tail
    return target, None


def _locate(path: Path) -> tuple[Path, str]:
    """(folder to import from, dotted name) of a file, or of a package's folder."""
    if not path.exists():
        near = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise AppNotFound(
            f"there is no file {path}" + (f"; there are {', '.join(near[:10])}" if near else "")
        )
    if path.is_dir() and not (path / "__init__.py").is_file():
        raise AppNotFound(f"{path} is a folder, not a file or a package")
    path = path.resolve()
    names = [path.stem] if path.name != "__init__.py" else []
    folder = path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names)


def _import(place: Place) -> ModuleType:
    folder = str(place.folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(place.module)
    except AgentdurError:
        raise  # it says what is wrong, and where
    except ModuleNotFoundError as error:
        if error.name is not None and (place.module + ".").startswith(error.name + "."):
            raise AppNotFound(f"there is no module {place.module}") from error
        raise AppNotFound(_why(place, error)) from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise AppNotFound(_why(place, error)) from error


def _why(place: Place, error: Exception) -> str:
    """The error and the last line of the user's own that led to it."""
    if isinstance(error, SyntaxError):
        return f"{place.module} cannot be imported: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(str(place.folder))]
    line = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{place.module} cannot be imported: {type(error).__name__}: {error}{line}"


def _attribute(module: ModuleType, name: str) -> App:
    found: object = module
    for step in name.split("."):
        if not hasattr(found, step):
            raise AppNotFound(f"{module.__name__} has no {name}; {_inventory(module)}")
        found = getattr(found, step)
    if not isinstance(found, App):
        raise AppNotFound(f"{module.__name__}:{name} is a {type(found).__name__}, not an App")
    return found


def _only_app(module: ModuleType) -> App:
    apps = _of_type(module, App)
    if isinstance(named := vars(module).get("app"), App):
        return named
    if len({id(one) for one in apps.values()}) == 1:
        return next(iter(apps.values()))
    raise AppNotFound(f"{module.__name__}: {_inventory(module)}")


def _inventory(module: ModuleType) -> str:
    if apps := _of_type(module, App):
        return f"its Apps are {', '.join(apps)}"
    services = _of_type(module, BaseService)
    if services:
        return f"it has no App, but services: app = App([{', '.join(services)}])"
    return "it has no App and no services"


def _of_type(module: ModuleType, kind: type[T]) -> dict[str, T]:
    return {name: value for name, value in vars(module).items() if isinstance(value, kind)}
