"""The command ``fipsrelay check``: the start's own reading of a configuration, without the start."""

from __future__ import annotations

import os
import sys

import attrs
import yaml

from fipsrelay.config import proxies, sections, values
from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.errors import ConfigError


def main(file: str, expand: bool) -> int:
    """Check a file as the service would read it, environment included.

    Args:
        file: its path.
        expand: whether to print the complete configuration instead of a summary.

    Returns:
        0, or 2 after one line on standard error for every problem.
    """
    try:
        config = load_file(file, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(expanded(config) if expand else f"{file}: OK, {summary(config)}")
    return 0


def summary(config: Config) -> str:
    """One line for people."""
    ports = sorted(intake.port for intake in config.intakes.values())
    addresses = ", ".join(config.listen.addresses)
    return f"{len(ports)} intakes on {addresses}, ports {ports[0]} to {ports[-1]}, site {config.site}"


def expanded(config: Config) -> str:
    """A configuration as YAML that needs neither preset nor environment: loaded again it is the same.

    But for the proxy's password: ``***`` stands there instead, so that the text can be shown.
    """
    document = attrs.asdict(config)
    for section in ("upstreams", "intakes"):
        for entry in document[section].values():
            del entry["name"]
    egress = config.egress
    document["fips"]["certificates"] = [
        {key: value for key, value in entry.items() if key in sections.CERTIFICATE and value is not None}
        for entry in document["fips"]["certificates"]
    ]
    document["resolver"]["nameservers"] = [values.joined(*server) for server in config.resolver.nameservers]
    document["egress"]["proxy"] = proxies.written(egress.proxy) if egress.proxy else None
    document["tls"]["crl"] = config.tls.crl or None
    document["log"]["socket"] = config.log.socket or None
    document["egress"]["password_file"] = egress.password_file or None
    return yaml.safe_dump(document, sort_keys=False).rstrip()
