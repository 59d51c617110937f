"""YAML text to ``Config``, in layers, with every problem at once. The later layers win:

1. the defaults of ``model``;
2. the preset that the file names, data in ``presets/``;
3. the file, laid on the preset key by key; lists are replaced whole. What the preset has and the file gives no value
   (``network_devices_netflow_frontend: null``) is taken away; a whole section without a value counts as not written;
4. DD_FIPS_PORT_RANGE_START and DD_FIPS_LOCAL_ADDRESS. They win because a container may get nothing else, and because
   they are the Agent's own: with the same two in both containers the Agent finds the relay. An empty one is not set.

Runs before the FIPS gate: nothing here may import OpenSSL, hashlib or Twisted. Only ``_read`` opens files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs

from fipsrelay.config import sections, values
from fipsrelay.config.foreign import refuse_haproxy
from fipsrelay.config.model import Config, Fips, Limits, Log, Probes, Resolver, Timeouts, Tls
from fipsrelay.config.nodes import Node, merge, parse
from fipsrelay.config.values import Readers, one_of, settings
from fipsrelay.errors import ConfigError, Problem

DEFAULT_SITE: Final = "ddog-gov.com"
PRESETS: Final = Path(__file__).with_name("presets")
MAXIMUM_BYTES: Final = 256 * 1024
NO_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({})
_SECTIONS: Final = tuple(field.name for field in attrs.fields(Config) if field.name != "site")


def load_file(path: str, environ: Mapping[str, str] = NO_ENVIRONMENT) -> Config:
    """The configuration in a file.

    Args:
        path: of a file in UTF-8.
        environ: the process's environment where it counts; by default it does not.

    Raises:
        ConfigError: with every problem, in the order of lines.
    """
    return load_text(_read(Path(path), path), path, environ)


def load_text(text: str, file: str, environ: Mapping[str, str] = NO_ENVIRONMENT) -> Config:
    """The configuration in a text; ``file`` is its name for messages. Otherwise as ``load_file``."""
    problems: list[Problem] = []
    try:
        refuse_haproxy(text, file, _presets())
        root = _with_preset(parse(text, file, problems), problems)
        config = _config(root, environ, problems)
    except ConfigError as error:
        raise ConfigError(_in_order([*problems, *error.problems], file)) from error
    if problems:
        raise ConfigError(_in_order(problems, file))
    return config


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
        if len(data) > MAXIMUM_BYTES:
            raise ConfigError((Problem(name, 0, "", f"longer than {MAXIMUM_BYTES} bytes"),))
        return data.decode("utf-8")
    except OSError as error:
        raise ConfigError((Problem(name, 0, "", f"cannot be read: {error.strerror}"),)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{error.object[error.start]:02x}"
        raise ConfigError((Problem(name, line, "", message),)) from error


def _in_order(problems: list[Problem], file: str) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.file != file, problem.file, problem.line)))


def _presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _preset_name(node: Node) -> str:
    return one_of(*_presets())(node)


def _with_preset(root: Node, problems: list[Problem]) -> Node:
    written = {key: node for key, node in root.entries().items() if node.content is not None}
    if "preset" not in written:
        return root
    try:
        name = _preset_name(written["preset"])
    except ConfigError as error:
        problems.extend(error.problems)
        # Most names in these sections mean the preset's; without it they cannot be judged.
        kept = {key: node for key, node in written.items() if key not in ("preset", "upstreams", "intakes")}
        return attrs.evolve(root, content=kept)
    base = parse(_read(PRESETS / f"{name}.yaml", name), f"preset {name}", problems)
    return merge(base, attrs.evolve(root, content=written))


def _config(root: Node, environ: Mapping[str, str], problems: list[Problem]) -> Config:
    readers: Readers = {
        "preset": _preset_name,
        "site": values.site,
        **dict.fromkeys(_SECTIONS, values.mapping),
        # The proxy's URL may stand there by mistake.
        "egress": values.private(values.mapping, "a mapping (KEY: VALUE)"),
    }
    top = settings(root, readers, problems)
    site = top.get("site", DEFAULT_SITE)
    nodes = {name: top.get(name, Node(None, root.file, 0, name)) for name in _SECTIONS}
    listen = sections.listen(nodes["listen"], environ, problems)
    return Config(
        site=site,
        listen=listen,
        fips=Fips(**settings(nodes["fips"], sections.FIPS, problems)),
        tls=Tls(**settings(nodes["tls"], sections.TLS, problems)),
        resolver=Resolver(**settings(nodes["resolver"], sections.RESOLVER, problems)),
        egress=sections.egress(nodes["egress"], problems),
        probes=Probes(**settings(nodes["probes"], sections.PROBES, problems)),
        upstreams=sections.upstreams(nodes["upstreams"], site, problems),
        intakes=sections.intakes(nodes["intakes"], nodes["upstreams"], listen.port_range_start, problems),
        timeouts=Timeouts(**settings(nodes["timeouts"], sections.TIMEOUTS, problems)),
        limits=Limits(**settings(nodes["limits"], sections.LIMITS, problems)),
        log=Log(**settings(nodes["log"], sections.LOG, problems)),
    )
