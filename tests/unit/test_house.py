"""The house rules, each as a test."""

import ast
import re
from pathlib import Path

import pytest
from mongoengine import Document, EmbeddedDocument

from billing_service import documents, errors
from billing_service.access import PERMISSIONS, ROLES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "billing_service"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
PRODUCT = [path for path in MODULES if "sandbox" not in path.relative_to(PACKAGE).parts]

FLOORS = {
    "settings": 0,
    "secret_files": 0,
    "documents": 0,
    "errors": 1,
    "observability": 1,
    "access": 0,
    "group_commit": 0,
    "stripe_gateway": 2,
    "plans": 2,
    "asked": 3,
    "identity": 3,
    "operations": 3,
    "extras": 3,
    "outbox": 3,
    "refunds": 3,
    "reconciliation": 3,
    "monitoring": 3,
    "importing": 3,
    "scans": 3,
    "overview": 3,
    "search": 3,
    "timeline": 3,
    "usage": 3,
    "subscriptions": 3,
    "webhooks": 3,
    "runtime": 4,
    "tokens": 4,
    "startup": 5,
    "jobs": 5,
    "doctor": 6,
    "blueprints": 6,
    "gunicorn_hooks": 7,
    "cli": 7,
    "": 7,
}

# Who alone may import a library.
RESERVED = {
    "mongoengine": {
        "documents",
        "identity",
        "extras",
        "monitoring",
        "outbox",
        "refunds",
        "subscriptions",
        "operations",
        "reconciliation",
        "scans",
        "search",
        "timeline",
        "usage",
        "webhooks",
        "startup",
        "blueprints",
        "jobs",
    },
    "stripe": {"stripe_gateway"},
    "argon2": {"identity"},
    "rq": {"jobs"},
    "rq_scheduler": {"jobs"},
    "flask_smorest": {"blueprints"},
    "flask_jwt_extended": {"blueprints", "tokens", ""},
}

FORBIDDEN_NAMES = ("utils", "helpers", "common", "manager", "base")


def room(path: Path) -> str:
    """The room a module is in; the package's own `__init__` is ''."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(path: Path) -> list[tuple[str, int]]:
    """What a module imports, as absolute dotted names with the line."""
    package = ["billing_service", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.append((module, node.lineno))
            if module == "billing_service":
                found += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def test_imports_point_down():
    wrong = []
    for path in PRODUCT:
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] != "billing_service" or len(parts) < 2 or parts[1] not in FLOORS:
                continue
            if FLOORS[parts[1]] > FLOORS[room(path)]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_every_room_has_a_floor():
    rooms = {room(path) for path in PRODUCT}
    assert rooms <= set(FLOORS), rooms - set(FLOORS)


def test_nobody_but_the_command_line_knows_the_sandbox():
    users = {
        str(path.relative_to(PACKAGE))
        for path in PRODUCT
        for name, _ in imports(path)
        if name.startswith("billing_service.sandbox")
    }
    assert users == {"cli/processes.py"}


@pytest.mark.parametrize("library", sorted(RESERVED))
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {room(path) for path in PRODUCT for name, _ in imports(path) if name.split(".")[0] == library}
    assert users <= RESERVED[library], users - RESERVED[library]


def test_only_the_factory_and_the_command_line_read_the_environment():
    readers = {
        str(path.relative_to(PACKAGE)) for path in PRODUCT if re.search(r"\bos\.(environ|getenv)", path.read_text())
    }
    assert readers <= {"__init__.py", "cli/processes.py", "startup.py", "gunicorn_hooks.py", "blueprints/health.py"}


def test_names_say_what_they_are():
    wrong = [str(path) for path in MODULES if path.stem in FORBIDDEN_NAMES]
    functions = [
        f"{path.name}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and re.match(r"(process|do)_", node.name)
    ]
    assert wrong + functions == []


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and code_lines(node) > 40
    ]
    assert long == []


def code_lines(node: ast.FunctionDef) -> int:
    """A function's lines without its decorators, signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_files_are_short():
    long = {
        str(path.relative_to(ROOT)): count for path in MODULES if (count := len(path.read_text().splitlines())) > 320
    }
    assert long == {}


def test_modules_say_what_lives_there():
    silent = [str(path.relative_to(ROOT)) for path in MODULES if path.read_text().strip() and not docstring(path)]
    assert silent == []


def docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text()))


def test_tests_count_what_is_there():
    # MongoDB's own count of a whole collection is an estimate that is off while a killed process's transaction ends.
    estimate = re.compile(r"\.objects(\(\))?\.count" + r"\(\)")
    estimates = [path.name for path in (ROOT / "tests").rglob("*.py") if estimate.search(path.read_text())]
    assert estimates == []


def test_nothing_of_ours_is_patched_in_tests():
    words = re.compile(
        "monkeypatch" + r"\.setattr|" + "unittest" + r"\.mock|" + "Magic" + "Mock|mongo" + "mock|fake" + "redis"
    )
    wrong = [str(path) for path in (ROOT / "tests").rglob("*.py") if words.search(path.read_text())]
    assert wrong == []


def test_every_error_has_its_own_code():
    kinds = [kind for kind in errors.KINDS if kind is not errors.BillingError]
    codes = [kind.code for kind in kinds]
    assert len(codes) > 30
    assert sorted(set(codes)) == sorted(codes)
    assert all(kind.title and 400 <= kind.status < 600 for kind in kinds)


def test_every_error_is_in_the_docs():
    documented = (ROOT / "docs" / "errors.md").read_text()
    missing = [kind.code for kind in errors.KINDS if f"`{kind.code}`" not in documented]
    assert missing == []


def test_roles_are_made_of_permissions():
    assert all(granted <= set(PERMISSIONS) for granted in ROLES.values())
    assert ROLES["admin"] == set(PERMISSIONS)
    assert "user:write" not in ROLES["billing-ops"]
    assert not ROLES["service"] & {"customer:read", "cancel:create", "refund:create"}


def test_the_package_declares_no_look_alikes():
    declared = (ROOT / "setup.cfg").read_text()
    for name in ("mongo" + "mock", "fake" + "redis", "flask-mongoengine", "flask-rq2"):
        assert name not in declared


def test_documents_read_what_a_later_version_wrote():
    """Two versions run side by side during an upgrade: the earlier one meets fields that it does not know."""
    kinds = [*Document.__subclasses__(), *EmbeddedDocument.__subclasses__()]
    ours = [each for each in kinds if each.__module__.startswith(documents.__name__)]
    assert len(ours) > 30
    for each in ours:
        assert each._from_son({"later": {"of": "another version"}}) is not None, each
        assert each._meta.get("strict") is False, each.__name__
