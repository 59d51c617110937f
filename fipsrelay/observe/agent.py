"""Whether the Datadog Agent's configuration and the relay's fit together. Pure: text in, findings out.

Sources: datadog-agent, pkg/config/setup/config.go: the keys, their defaults and their environment variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fipsrelay.config.model import Config
from fipsrelay.observe.findings import FAIL, OK, SKIP, WARN, Finding

_DEFAULTS: Mapping[str, Any] = {
    "enabled": False,
    "https": True,
    "port_range_start": 9803,
    "local_address": "localhost",
}
_TOPIC = "agent"


def check(text: str, variables: Mapping[str, str], config: Config) -> Iterator[Finding]:
    """Compare.

    Args:
        text: of datadog.yaml.
        variables: that the Agent is started with.
        config: of the relay.
    """
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        yield Finding(_TOPIC, FAIL, f"datadog.yaml is not YAML{where}", "correct it; the Agent cannot read it either")
        return
    except (ValueError, OverflowError):  # PyYAML lets them pass
        found = "datadog.yaml has a value that cannot be read, such as a date that there is not"
        yield Finding(_TOPIC, SKIP, found, "put it in quotation marks")
        return
    except RecursionError:
        yield Finding(_TOPIC, SKIP, "datadog.yaml is nested too deeply", "see what the Agent makes of it: agent config")
        return
    if not isinstance(document, dict) or not isinstance(document.get("fips") or {}, dict):
        yield Finding(_TOPIC, FAIL, "datadog.yaml has no settings under fips", "set fips.enabled and fips.https there")
        return
    given = document.get("fips") or {}
    settings = {key: _value(variables, key, given.get(key, default)) for key, default in _DEFAULTS.items()}
    if not settings["enabled"]:
        remedy = "set fips.enabled: true in datadog.yaml, and restart the Agent"
        yield Finding(_TOPIC, FAIL, "fips.enabled is false: the Agent does not use the relay", remedy)
        return
    problems = [*_transport(settings, config), *_place(settings, config), *_ways_round(document)]
    if not problems:
        start, https = settings["port_range_start"], str(settings["https"]).lower()
        yield Finding(_TOPIC, OK, f"fips.enabled, fips.https: {https}, ports from {start}")
    yield from problems


def _value(variables: Mapping[str, str], key: str, default: Any) -> Any:
    """A setting, which its variable overrides."""
    word = variables.get(f"DD_FIPS_{key.upper()}")
    value = default if word is None else word
    if isinstance(_DEFAULTS[key], bool):
        return str(value).lower() in ("true", "1", "yes")
    return int(value) if isinstance(_DEFAULTS[key], int) and str(value).isdigit() else value


def _transport(settings: Mapping[str, Any], config: Config) -> Iterator[Finding]:
    https = settings["https"]
    wrong = [name for name, intake in config.intakes.items() if (intake.tls is not None) != https]
    if https and wrong:
        found = f"fips.https is true, but these intakes speak plaintext: {', '.join(wrong)}"
        yield Finding(_TOPIC, FAIL, found, "set fips.https: false in datadog.yaml, or tls for these intakes")
    elif wrong:
        found = f"fips.https is false, but these intakes speak TLS: {', '.join(wrong)}"
        yield Finding(_TOPIC, WARN, found, "only products whose Agents always speak TLS can use them: telemetry")


def _place(settings: Mapping[str, Any], config: Config) -> Iterator[Finding]:
    start, address, listen = settings["port_range_start"], str(settings["local_address"]), config.listen
    if start != listen.port_range_start:
        found = f"fips.port_range_start is {start}, but the relay's is {listen.port_range_start}"
        yield Finding(
            _TOPIC, FAIL, found, "make listen.port_range_start and the Agent's fips.port_range_start the same"
        )
    wanted = ("127.0.0.1", "::1") if address == "localhost" else (address,)
    missing = [each for each in wanted if not {each, "::" if ":" in each else "0.0.0.0"} & set(listen.addresses)]
    if missing:
        found = f"fips.local_address is {address}, but the relay does not listen on {', '.join(missing)}"
        state = FAIL if len(missing) == len(wanted) else WARN
        yield Finding(_TOPIC, state, found, f"add {', '.join(missing)} to listen.addresses")


def _ways_round(document: Mapping[str, Any]) -> Iterator[Finding]:
    if document.get("proxy"):
        found = "datadog.yaml has proxy settings, which the Agent ignores with fips.enabled"
        yield Finding(_TOPIC, WARN, found, "if the relay needs a proxy, name it under egress")
    where = sorted(_keys(document, "additional_endpoints"))
    if where:
        found = f"the Agent sends past the relay: {', '.join(where)}"
        yield Finding(
            _TOPIC, WARN, found, "such endpoints are not redirected by fips.enabled: remove what is not allowed"
        )


def _keys(document: Mapping[str, Any], name: str, path: str = "") -> Iterator[str]:
    for key, value in document.items():
        if key == name and value:
            yield f"{path}{key}"
        elif isinstance(value, dict):
            yield from _keys(value, name, f"{path}{key}.")
