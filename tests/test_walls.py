"""The walls of the house: who imports whom, read from the sources; ``docs/architecture.md`` says why they stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import fipsrelay

PACKAGE = Path(fipsrelay.__file__).parent
# Each wing imports only itself and the wings before it.
WINGS = (
    "__init__",
    "codes",
    "errors",
    "counters",
    "config",
    "crypto",
    "wire",
    "upstream",
    "relay",
    "observe",
    "demo",
    "parts",
    "service",
    "doors",
)
DOORS = frozenset({"launch", "tap", "cli", "__main__"})
PURE = (
    "__init__",
    "codes",
    "errors",
    "counters",
    "config",
    "crypto.offer",
    "crypto.policy",
    "wire.http1",
    "upstream.balance",
    "upstream.handshakes",
    "upstream.health",
    "relay.routes",
    "observe.agent",
    "observe.edit",
    "observe.findings",
    "observe.haproxy",
    "observe.history",
    "observe.html",
    "observe.text",
)
# What a pure module may import: nothing here reads a file or a clock, opens a socket or knows Twisted or OpenSSL.
PURE_IMPORTS = frozenset(
    {
        "__future__",
        "attrs",
        "bisect",
        "collections",
        "collections.abc",
        "contextlib",
        "csv",
        "difflib",
        "enum",
        "functools",
        "heapq",
        "html",
    }
    | {
        "ipaddress",
        "itertools",
        "math",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "urllib.parse",
        "yaml",
    }
)
# The edges of config: load reads the file and the presets, check prints; values knows dates, but no clock. CSV is
# written to a file that is none.
EDGES = {
    "config.values": frozenset({"datetime"}),
    "config.load": frozenset({"pathlib"}),
    "config.check": frozenset({"os", "sys"}),
    "observe.haproxy": frozenset({"io"}),
}


def sources() -> dict[str, str]:
    """Every module of the package: its name without ``fipsrelay.``, and its text."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def broken_walls(modules: Mapping[str, str]) -> list[str]:
    """One line for every wall that an import breaks."""
    graph = {name: list(imports(name, text, modules)) for name, text in modules.items()}
    broken: list[str] = []
    for name, targets in graph.items():
        for target in targets:
            broken += broken_by(name, target)
        broken += [f"{name} imports a reactor" for target in early_imports(modules[name]) if is_reactor(target)]
        if is_pure(name) and any(opens(node) for node in ast.walk(ast.parse(modules[name]))):
            broken.append(f"{name} opens files")
    inside = {
        name: {target for target in targets if target in graph and target != name} for name, targets in graph.items()
    }
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        broken.append(f"circle {' < '.join(error.args[1])}")
    return broken


def broken_by(name: str, target: str) -> Iterator[str]:
    """What is wrong with one import; ``target`` begins with a dot when it lies outside the package."""
    foreign = target.startswith(".")
    if not foreign and WINGS.index(wing(target)) > WINGS.index(wing(name)):
        yield f"{name} imports {target}, which stands above it"
    if not is_pure(name):
        return
    allowed = target[1:] in PURE_IMPORTS | EDGES.get(name, frozenset()) if foreign else is_pure(target)
    if not allowed:
        yield f"{name} is pure and imports {target.removeprefix('.')}"


def wing(name: str) -> str:
    first = name.partition(".")[0]
    return "doors" if first in DOORS else first


def is_pure(name: str) -> bool:
    return any(name == pure or name.startswith(f"{pure}.") for pure in PURE)


def is_reactor(target: str) -> bool:
    return f"{target}.".startswith("twisted.internet.reactor.")


def opens(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "__import__"}


def imports(name: str, text: str, modules: Mapping[str, str]) -> Iterator[str]:
    """Everything that a module imports anywhere, for type checking and inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield resolve(alias.name, None, modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports are not read here"
            for alias in node.names:
                yield resolve(node.module or "", alias.name, modules)


def resolve(module: str, attribute: str | None, modules: Mapping[str, str]) -> str:
    if module != "fipsrelay" and not module.startswith("fipsrelay."):
        return f".{module}"
    inside = module.removeprefix("fipsrelay").removeprefix(".")
    longer = ".".join(filter(None, (inside, attribute)))
    return longer if longer in modules else inside or "__init__"


def early_imports(text: str) -> Iterator[str]:
    """Dotted names of what the import of a module imports, that is, outside functions."""
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


class WallTests(SynchronousTestCase):
    """The package as it stands."""

    def test_walls(self) -> None:
        self.assertEqual(broken_walls(sources()), [])

    def test_every_wing_is_known(self) -> None:
        self.assertLessEqual({wing(name) for name in sources()}, set(WINGS))

    def test_no_rule_is_for_nobody(self) -> None:
        """A module that is moved takes its rules along; an edge that is not used any more is closed."""
        modules = sources()
        self.assertLessEqual({*PURE, *EDGES}, set(modules))
        for name, edges in EDGES.items():
            self.assertLessEqual({f".{edge}" for edge in edges}, set(imports(name, modules[name], modules)), name)

    def test_nothing_of_tls_runs_before_the_gate(self) -> None:
        """hashlib, ssl and asyncio load the interpreter's libcrypto, which then owns the module."""
        code = (
            "import sys, fipsrelay.cli, fipsrelay.launch, fipsrelay.config.load\n"
            "from fipsrelay.crypto import gate\n"
            "fipsrelay.config.load.load_text('preset: datadog', 'relay.yaml')\n"
            "gate.refuse_early_imports()\n"
            "print([name for name in ('asyncio', 'hashlib', 'ssl', 'twisted') if name in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))

    def test_plugin(self) -> None:
        """It runs in every twistd of this Python, also in those that have nothing to do with us."""
        text = (PACKAGE.parent / "twisted" / "plugins" / "fipsrelay_plugin.py").read_text(encoding="utf-8")
        self.assertEqual(list(early_imports(text)), ["twisted.application.service.ServiceMaker"])


class BrokenWallTests(SynchronousTestCase):
    """That each wall is noticed when it is broken."""

    clean = {"__init__": "", "errors": "", "wire": "", "wire.http1": "import re", "wire.streams": "", "relay": ""}

    def broken(self, **texts: str) -> list[str]:
        return broken_walls({**self.clean, **{name.replace("__", "."): text for name, text in texts.items()}})

    def test_clean(self) -> None:
        self.assertEqual(self.broken(wire__streams="from fipsrelay import __version__, errors\nimport socket"), [])

    def test_wing_above(self) -> None:
        wanted = ["wire.streams imports relay.exchange, which stands above it"]
        for text in (
            "import fipsrelay.relay.exchange",
            "from fipsrelay.relay import exchange",
            "from fipsrelay.relay.exchange import Exchange",
            "def late():\n    from fipsrelay.relay import exchange",
            "if TYPE_CHECKING:\n    from fipsrelay.relay.exchange import Exchange",
        ):
            self.assertEqual(self.broken(wire__streams=text, relay__exchange=""), wanted, text)

    def test_door(self) -> None:
        self.assertEqual(
            self.broken(relay="from fipsrelay import launch", launch=""),
            ["relay imports launch, which stands above it"],
        )

    def test_circle(self) -> None:
        (line,) = self.broken(
            relay__answer="from fipsrelay.relay.exchange import Exchange",
            relay__exchange="if TYPE_CHECKING:\n    from fipsrelay.relay.answer import Answer",
        )
        self.assertRegex(line, "^circle .*relay.answer")

    def test_pure(self) -> None:
        for text, what in {
            "import socket": "socket",
            "from time import monotonic": "time",
            "def late():\n    import random": "random",
            "from twisted.internet import defer": "twisted.internet",
            "from fipsrelay.wire import streams": "wire.streams",
        }.items():
            self.assertEqual(self.broken(wire__http1=text), [f"wire.http1 is pure and imports {what}"])

    def test_pure_opens_no_files(self) -> None:
        self.assertEqual(self.broken(errors="def read():\n    return open('x')"), ["errors opens files"])

    def test_reactor(self) -> None:
        for text in (
            "from twisted.internet import reactor",
            "import twisted.internet.reactor",
            "from twisted.internet.reactor import callLater",
            "try:\n    from twisted.internet import reactor\nexcept ImportError:\n    pass",
            "class Page:\n    from twisted.internet import reactor",
        ):
            self.assertEqual(self.broken(relay=text), ["relay imports a reactor"], text)
        self.assertEqual(self.broken(relay="def run():\n    from twisted.internet import reactor"), [])
