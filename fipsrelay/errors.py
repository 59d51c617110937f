"""What can go wrong, and whose fault it is. Errors carry data; their text is made from it."""

from __future__ import annotations

import attrs


class FipsrelayError(Exception):
    """The root of every error that this program raises on purpose."""


@attrs.frozen
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        file: the file's name as the operator gave it.
        line: counted from 1; 0 when the problem has no line (a missing key, an environment variable).
        path: the key path, such as ``intakes.logs.port``; empty for the whole file.
        message: what was found and what is allowed.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


@attrs.frozen(auto_exc=True, str=False)
class ConfigError(FipsrelayError):
    """The configuration cannot be used; every problem at once. Exit status 2."""

    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@attrs.frozen(auto_exc=True, str=False)
class FipsError(FipsrelayError):
    """The process cannot prove its FIPS state. Exit status 3.

    Attributes:
        code: of the failed check, one of ``codes.FIPS``.
        expected: what the check wanted.
        found: what it saw.
        remedy: what the operator does about it.
    """

    code: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"FIPS check {self.code} failed: expected {self.expected}; found {self.found}; {self.remedy}"


@attrs.frozen(auto_exc=True, str=False)
class UpstreamError(FipsrelayError):
    """An upstream could not be used or broke off.

    Attributes:
        code: one of ``codes.UPSTREAM``; sent as ``Fipsrelay-Error`` and counted.
        status: HTTP status of the answer that the agent gets: 502, 503 or 504.
        upstream: the upstream's name in the configuration.
        address: ``host:port`` or ``ip:port`` that was tried last.
        step: ``resolve``, ``connect``, ``handshake``, ``identity``, ``policy``, ``request`` or ``answer``.
        detail: one line, free of payload and of credentials.
    """

    code: str
    status: int
    upstream: str
    address: str
    step: str
    detail: str

    def __str__(self) -> str:
        return f"upstream {self.upstream} ({self.address}) failed at {self.step}: {self.detail}"


@attrs.frozen(auto_exc=True, str=False)
class AgentError(FipsrelayError):
    """The agent's side sent something that cannot be relayed.

    Attributes:
        code: one of ``codes.AGENT``; sent as ``Fipsrelay-Error`` and counted.
        status: HTTP status of the answer: 400, 408, 417, 431, 501 or 505.
        detail: one line, free of what the agent sent.
    """

    code: str
    status: int
    detail: str

    def __str__(self) -> str:
        return f"request refused: {self.detail}"


@attrs.frozen(auto_exc=True, str=False)
class MessageError(FipsrelayError):
    """Bytes that are not one unambiguous HTTP/1.1 message; whoever reads them knows whose fault it is.

    Attributes:
        code: one of ``codes.AGENT``, such as ``bad-head``.
        status: what an agent is answered when it sent them: 400, 417, 431, 501 or 505.
        detail: one line, free of what was sent.
    """

    code: str
    status: int
    detail: str

    def __str__(self) -> str:
        return self.detail


@attrs.frozen
class PortProblem:
    """One port that could not be bound.

    Attributes:
        frontend: the intake's name, or the statistics page.
        address: IP address.
        port: TCP port.
        reason: the system's words.
    """

    frontend: str
    address: str
    port: int
    reason: str

    def __str__(self) -> str:
        return f"Starting frontend {self.frontend}: cannot bind socket ({self.reason}) [{self.address}:{self.port}]"


@attrs.frozen(auto_exc=True, str=False)
class PortsError(FipsrelayError):
    """Ports could not be bound; every one at once. Exit status 4."""

    problems: tuple[PortProblem, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
