"""The numbers we keep, as functions from source text to complaints.

Rules of this file:
1. A check takes text or plain data and returns complaints, one line each; an empty list means content.
2. Nothing here reads a file or imports agentdur, so that each check can be shown a planted violation.
"""

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

LINES_PER_FILE_MAX = 499
LINES_PER_FUNCTION_MAX = 59
POSITIONAL_PARAMETERS_MAX = 5
COLUMNS_MAX = 110

Function = ast.FunctionDef | ast.AsyncFunctionDef

IGNORE = re.compile(r"#\s*type:\s*ignore")
IGNORE_WITH_REASON = re.compile(r"#\s*type:\s*ignore\[[a-z][a-z0-9-]*(,\s*[a-z][a-z0-9-]*)*\]\s+#\s*\S+")


def file_length(source: str) -> list[str]:
    """A file stays under 500 lines."""
    lines = len(source.splitlines())
    return [f"1: {lines} lines in the file"] if lines > LINES_PER_FILE_MAX else []


def line_width(source: str) -> list[str]:
    """A line has at most 110 columns."""
    lines = enumerate(source.splitlines(), start=1)
    return [f"{number}: {len(line)} columns" for number, line in lines if len(line) > COLUMNS_MAX]


def function_length(source: str) -> list[str]:
    """A function stays under 60 lines, from its `def` to its end; decorators do not count."""
    complaints = []
    for function in _functions(source):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > LINES_PER_FUNCTION_MAX:
            complaints.append(f"{function.lineno}: {lines} lines in {function.name}()")
    return complaints


def positional_parameters(source: str) -> list[str]:
    """A signature has fewer than six positional parameters, self and cls excluded.

    An `@override` keeps the signature of its base class, whoever chose it.
    """
    methods = {id(item) for node in _nodes(source) if isinstance(node, ast.ClassDef) for item in node.body}
    complaints = []
    for function in _functions(source):
        decorators = {ast.unparse(each).rpartition(".")[2] for each in function.decorator_list}
        if "override" in decorators:
            continue
        bound = id(function) in methods and "staticmethod" not in decorators
        count = len(function.args.posonlyargs) + len(function.args.args) - bound
        if count > POSITIONAL_PARAMETERS_MAX:
            complaints.append(f"{function.lineno}: {count} positional parameters in {function.name}()")
    return complaints


def imports_inside_functions(source: str, adapts: str | None = None) -> list[str]:
    """Imports live at the top of the file; only the package which this file adapts may come late."""
    complaints: dict[int, str] = {}
    inside = {
        node for node in _nodes(source) if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset
    }
    for function in _functions(source) if inside else ():
        for node in ast.walk(function):
            for module in _imported(node):
                if adapts is None or not (module == adapts or module.startswith(f"{adapts}.")):
                    complaints[node.lineno] = f"{node.lineno}: import of {module} inside {function.name}()"
    return list(complaints.values())


def bare_except(source: str) -> list[str]:
    """Every `except` names what it catches."""
    handlers = (node for node in _nodes(source) if isinstance(node, ast.ExceptHandler))
    return [f"{handler.lineno}: bare except" for handler in handlers if handler.type is None]


def unexplained_ignore(source: str) -> list[str]:
    """`# type: ignore[code]  # reason`: the code and the reason are both there."""
    if not IGNORE.search(source):
        return []
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = (token for token in tokens if token.type == tokenize.COMMENT)
    return [
        f"{comment.start[0]}: {comment.string}"
        for comment in comments
        if IGNORE.search(comment.string) and not IGNORE_WITH_REASON.search(comment.string)
    ]


def missing_docstring(source: str) -> list[str]:
    """Every module opens with a docstring."""
    return [] if ast.get_docstring(_nodes(source)[0]) else ["1: no docstring"]


def import_cycle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """No module imports itself by way of others; the first cycle found is told as one complaint."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as found:
        return [" imports ".join(reversed(found.args[1]))]
    return []


def error_codes(sources: Iterable[str]) -> dict[str, list[str]]:
    """The codes of all public error classes in these sources, each with the classes that claim it.

    An error class has a built-in exception, or another error class of these sources, among its ancestors.
    """
    classes = [node for source in sources for node in _nodes(source) if isinstance(node, ast.ClassDef)]
    errors = _error_class_names(classes)
    claims: dict[str, list[str]] = {}
    for node in classes:
        code = _code(node)
        if node.name in errors and not node.name.startswith("_") and code:
            claims.setdefault(code, []).append(node.name)
    return claims


def undocumented_errors(claims: Mapping[str, list[str]], pages: set[str]) -> list[str]:
    """Each code belongs to one class and has its page."""
    complaints = [f"{code} is claimed by {', '.join(names)}" for code, names in claims.items() if names[1:]]
    return complaints + [
        f"{', '.join(claims[code])}: no page {code}.md" for code in claims if code not in pages
    ]


@lru_cache(maxsize=1)
def _nodes(source: str) -> tuple[ast.AST, ...]:
    """All there is in a source. Its checks share it; the next source takes its place."""
    return tuple(ast.walk(ast.parse(source)))


def _functions(source: str) -> Iterator[Function]:
    return (node for node in _nodes(source) if isinstance(node, Function))


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, level=level):
            return ["." * level + (module or "")]
        case _:
            return []


def _error_class_names(classes: list[ast.ClassDef]) -> set[str]:
    known = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    while True:
        found = {
            node.name
            for node in classes
            if any(ast.unparse(base).rpartition(".")[2] in known for base in node.bases)
        }
        if found <= known:
            return known
        known |= found


def _code(node: ast.ClassDef) -> str | None:
    """The literal text assigned to `code` in the class body; a base class that leaves it empty has none."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                return code
            case ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(code))):
                return code
            case ast.Assign(targets=[ast.Name(id="code")]):
                return f"<the code of {node.name} is no literal>"
    return None
