"""The numbers we keep: sizes, imports, excepts, ignores, error pages.

Rules of this file:
1. First the files are found; a check that looked at nothing has proved nothing.
2. Each check is shown a planted violation and must complain about it, and a near miss and must not.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import grimp
import pytest

from tests.architecture import checks

ROOT = Path(__file__).parents[2]

# A file that adapts one optional dependency may import that package, and no other, inside a function.
ADAPTS: dict[str, str] = {}

Check = Callable[[str], list[str]]

EVERYWHERE: list[Check] = [
    checks.file_length,
    checks.line_width,
    checks.function_length,
    checks.positional_parameters,
    checks.bare_except,
    checks.unexplained_ignore,
]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def complaints_about(paths: list[Path], check: Check) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in paths
        for complaint in check(path.read_text(encoding="utf-8"))
    ]


OURS = python_files("agentdur", "examples", "benchmarks", "tests")
PACKAGE = python_files("agentdur")
SCRIPTS = sorted(path for path in (ROOT / "agentdur/ui/static").rglob("*.js") if path.parent.name != "vendor")
SCRIPT_LINES_MAX = 300


def test_there_are_files_to_look_at():
    """Every layer with an `__init__.py` is seen, and so is this very file."""
    packages = {path.parent.name for path in (ROOT / "agentdur").glob("*/__init__.py")}
    assert {"core", "runtime", "stores"} <= packages
    assert packages <= {path.relative_to(ROOT / "agentdur").parts[0] for path in PACKAGE}
    assert Path(__file__) in OURS


def test_our_sources_keep_the_numbers():
    """File by file, so that each is parsed once for all checks.

    The exemptions are spent one by one: each names a file that exists and the one package it adapts.
    """
    package = set(PACKAGE)
    complaints = []
    for path in OURS:
        adapts = ADAPTS.get(str(path.relative_to(ROOT)))
        late: Check = partial(checks.imports_inside_functions, adapts=adapts)
        for check in (*EVERYWHERE, late, *([checks.missing_docstring] if path in package else [])):
            complaints += complaints_about([path], check)
    assert complaints == []
    assert [name for name in ADAPTS if not (ROOT / name).is_file()] == []


def test_pages_of_the_web_ui_are_short():
    assert len(SCRIPTS) > 10, "no scripts were found"
    long = [path.name for path in SCRIPTS if len(path.read_text().splitlines()) >= SCRIPT_LINES_MAX]
    assert long == []
    assert complaints_about(SCRIPTS, checks.line_width) == []


def test_no_import_cycle():
    assert checks.import_cycle(direct_imports("agentdur")) == []


def test_every_error_code_has_its_page():
    if not (ROOT / "agentdur/core/errors.py").is_file():
        pytest.skip("agentdur/core/errors.py does not exist yet")
    claims = checks.error_codes(path.read_text(encoding="utf-8") for path in PACKAGE)
    assert claims, "no error class with a code was found"
    pages = {page.stem for page in (ROOT / "docs/errors").glob("*.md")}
    assert checks.undocumented_errors(claims, pages) == []


def direct_imports(package: str) -> dict[str, set[str]]:
    """Imports for type checking count too: what the types need from each other is a dependency.

    A package that imports a name of its own shows as importing itself, which is no circle.
    """
    graph = grimp.build_graph(package, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) - {module} for module in graph.modules}


def body(lines: int) -> str:
    """A function of so many lines, its `def` included."""
    return "def f():\n" + "    pass\n" * (lines - 1)


PLANTED = [
    (checks.file_length, "x = 1\n" * 500),
    (checks.line_width, "x = '" + "y" * 105 + "'"),
    (checks.function_length, body(60)),
    (checks.function_length, "class C:\n    async def f(self):\n" + "        pass\n" * 59),
    (checks.positional_parameters, "def f(a, b, c, d, e, g): ..."),
    (checks.positional_parameters, "class C:\n    def f(self, a, b, c, /, d, e, g): ..."),
    (checks.positional_parameters, "class C:\n    @staticmethod\n    def f(a, b, c, d, e, g): ..."),
    (checks.imports_inside_functions, "def f():\n    import json"),
    (checks.imports_inside_functions, "class C:\n    async def f(self):\n        from a.b import c"),
    (checks.bare_except, "try:\n    f()\nexcept:\n    raise"),
    (checks.unexplained_ignore, "x: int = f()  # type: ignore"),
    (checks.unexplained_ignore, "x: int = f()  # type: ignore  # because"),
    (checks.unexplained_ignore, "x: int = f()  # type: ignore[assignment]"),
    (checks.missing_docstring, "x = 1"),
]

NEAR_MISSES = [
    (checks.file_length, "x = 1\n" * 499),
    (checks.line_width, "x = '" + "y" * 104 + "'"),
    (checks.function_length, "@decorated(\n    by=1,\n)\n" + body(59)),
    (checks.positional_parameters, "class C:\n    def f(self, a, b, c, d, e, *, g, h): ..."),
    (checks.positional_parameters, "class C:\n    @override\n    def f(self, a, b, c, d, e, g): ..."),
    (checks.imports_inside_functions, "if TYPE_CHECKING:\n    import json"),
    (checks.bare_except, "try:\n    f()\nexcept ValueError:\n    raise"),
    (checks.unexplained_ignore, "x: int = f()  # type: ignore[assignment]  # f is typed as object upstream"),
    (checks.unexplained_ignore, "text = '# type: ignore'"),
    (checks.missing_docstring, '"""What it is for."""'),
]


@pytest.mark.parametrize(("check", "source"), PLANTED)
def test_a_planted_violation_is_seen(check: Check, source: str):
    assert len(check(source)) == 1


@pytest.mark.parametrize(("check", "source"), NEAR_MISSES)
def test_a_near_miss_is_let_through(check: Check, source: str):
    assert check(source) == []


def test_an_adapter_may_import_late_what_it_adapts_and_nothing_else():
    source = "def f():\n    import agents.models\n    import json\n    import agentspec"
    assert checks.imports_inside_functions(source, adapts="agents") == [
        "3: import of json inside f()",
        "4: import of agentspec inside f()",
    ]


def test_a_planted_cycle_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real package of three files, the last of which closes the circle."""
    package = tmp_path / "circle_of_three"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from circle_of_three import b\n")
    (package / "b.py").write_text("from circle_of_three.c import x\n")
    (package / "c.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert checks.import_cycle(direct_imports("circle_of_three")) == []

    (package / "c.py").write_text("import circle_of_three.a\nx = 1\n")
    [cycle] = checks.import_cycle(direct_imports("circle_of_three"))
    assert cycle.count(" imports ") == 3


def test_error_codes_are_found_through_the_class_tree():
    """Public errors count; empty codes, private classes and classes that are no errors do not."""
    base = 'class Base(Exception):\n    code = ""\n'
    leaves = 'class Wrong(base.Base):\n    code: ClassVar[str] = "AD1"\nclass _Own(Base):\n    code = "AD2"\n'
    other = 'class Country:\n    code = "SE"\nclass Odd(Base):\n    code = CODES[3]\n'
    assert checks.error_codes([leaves, other, base]) == {
        "AD1": ["Wrong"],
        "<the code of Odd is no literal>": ["Odd"],
    }


def test_a_code_without_page_and_a_code_claimed_twice_are_seen():
    claims = {"AD1": ["One"], "AD2": ["Two", "Three"]}
    assert checks.undocumented_errors(claims, pages={"AD2"}) == [
        "AD2 is claimed by Two, Three",
        "One: no page AD1.md",
    ]
