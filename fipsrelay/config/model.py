"""The configuration as frozen values. No reading, no defaults from the environment: see ``load``."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Listen:
    """Where agents connect.

    Attributes:
        addresses: IP addresses, every intake listens on each of them.
        port_range_start: port of the statistics page; intakes stand at offsets from it.
        allow_remote_plaintext: whether addresses outside loopback are accepted.
    """

    addresses: tuple[str, ...] = ("127.0.0.1", "::1")
    port_range_start: int = 9803
    allow_remote_plaintext: bool = False


@attrs.frozen
class Certificate:
    """A CMVP certificate, and the module that it covers by the words in which that reports itself.

    Attributes:
        number: the certificate's.
        name, version, build_info: the module's words; None where they are not known, which matches nothing.
        standard: ``FIPS 140-2`` or ``FIPS 140-3``.
        source: where all this is said.
        status: ``active``, ``historical`` (may not be procured anew) or ``unconfirmed``.
        sunset: ISO date of the day on which it becomes historical; None if that is not known.
        vendor: of a vendor's build; None for OpenSSL's own.
        checked: ISO date on which this was last compared with its source; None for never.
    """

    number: str
    name: str | None
    version: str
    build_info: str | None
    standard: str
    source: str
    status: str = "active"
    sunset: str | None = None
    vendor: str | None = None
    checked: str | None = None

    def status_on(self, day: str) -> str:
        """Its status on a day, an ISO date: what was active becomes historical by itself."""
        over = self.sunset is not None and day >= self.sunset
        return "historical" if over and self.status == "active" else self.status


@attrs.frozen
class Fips:
    """The FIPS module that is required.

    Attributes:
        module: a ``fips.so``; ``auto`` looks where platforms have it, and where ``fipsrelay module`` puts it.
        sha256: hexadecimal digest that the file must have; None for any.
        unlisted_module: what to do with a module without an active certificate.
        certificates: the operator's own entries, which win over the program's.
    """

    module: str = "auto"
    sha256: str | None = None
    unlisted_module: str = "refuse"
    certificates: tuple[Certificate, ...] = ()


@attrs.frozen
class Tls:
    """How upstreams are trusted.

    Attributes:
        trust: the certificate authorities that count: the platform's, or those of a PEM bundle.
        minimum_version: of TLS.
        profile: ``sp800-52``, or ``cnsa`` for AES-256 and P-384 only.
        hybrid_groups: whether groups with ML-KEM are offered, which no module's certificate covers yet.
        crl: absolute path of a PEM file with a revocation list of every issuer; empty for no such check.
        ocsp_stapling: ``ignore``, or ``require`` to refuse servers that staple no good OCSP answer.
    """

    trust: str = "system"
    minimum_version: str = "1.2"
    profile: str = "sp800-52"
    hybrid_groups: bool = False
    crl: str = ""
    ocsp_stapling: str = "ignore"


@attrs.frozen
class Resolver:
    """How names are looked up.

    Attributes:
        refresh: from an answer to the next question, in seconds.
        nameservers: whom to ask, as (IP address, port), instead of the system's resolver; empty for the system's.
    """

    refresh: float = 30.0
    nameservers: tuple[tuple[str, int], ...] = ()


@attrs.frozen
class Probes:
    """How servers are checked while no request does it, and what counts as up and down.

    Attributes:
        enabled: whether servers are checked.
        interval: seconds between two checks of a server.
        fall: failures in a row that take a server down.
        rise: successes in a row that bring it up again.
    """

    enabled: bool = True
    interval: float = 10.0
    fall: int = 3
    rise: int = 1


@attrs.frozen
class Proxy:
    """A forward proxy that is asked with CONNECT.

    Attributes:
        host: name or IP address.
        port: TCP port.
        user: for Basic authentication; empty for none.
        password: its password, unless it stands in a file.
    """

    host: str
    port: int
    user: str = ""
    password: str = attrs.field(default="", repr=False)


@attrs.frozen
class Egress:
    """The way out of the network.

    Attributes:
        proxy: that everything goes through; None to go straight.
        password_file: absolute path of a file whose first line is the proxy's password; empty for none.
        no_proxy: host names (with all below them), IP addresses and networks that need no proxy, or ``*`` for all.
    """

    proxy: Proxy | None = None
    password_file: str = ""
    no_proxy: tuple[str, ...] = ()


@attrs.frozen
class Retries:
    """Which requests may be sent again.

    Attributes:
        replay: also those that an upstream may have read; it may then get them twice.
        replay_size: bytes of a request that are kept for it; larger ones are not sent again.
    """

    replay: bool = False
    replay_size: int = 256 * 1024


@attrs.frozen
class Upstream:
    """One destination.

    Attributes:
        name: as in the configuration and in logs.
        host: resolved, sent as SNI and Host, and verified in the certificate.
        port: TCP port.
        addresses: IP addresses that replace DNS; empty to resolve ``host``.
        outside_site: the operator's word that ``host`` may lie outside the site.
        retries: which of its requests may be sent again.
        pins: SHA-256 digests, in hexadecimal, of public keys (SubjectPublicKeyInfo, RFC 7469 §2.4), one of which must
            stand in the verified chain; empty for any.
    """

    name: str
    host: str
    port: int = 443
    addresses: tuple[str, ...] = ()
    outside_site: bool = False
    retries: Retries = Retries()
    pins: tuple[str, ...] = ()


@attrs.frozen
class Route:
    """Requests that go to another upstream than the intake's others.

    Attributes:
        path_prefix: their path is this one, or lies below it.
        upstream: name of the upstream that they go to.
    """

    path_prefix: str
    upstream: str


@attrs.frozen
class LocalTls:
    """What an intake speaks TLS with to its agents, as absolute paths of PEM files.

    Attributes:
        certificate: the chain, the intake's own certificate first.
        key: its private key, without a password.
    """

    certificate: str
    key: str


@attrs.frozen
class Intake:
    """One port for one product.

    Attributes:
        name: as in the configuration, logs and counters.
        port: TCP port; offsets are resolved when the file is loaded.
        protocol: HTTP requests, or a stream of bytes.
        upstream: name of the default upstream.
        routes: exceptions by path (http only); the longest prefix wins.
        tls: with the agents; None for plaintext.
    """

    name: str
    port: int
    protocol: str
    upstream: str
    routes: tuple[Route, ...] = ()
    tls: LocalTls | None = None


@attrs.frozen
class Timeouts:
    """How long what may take, in seconds.

    Attributes:
        connect: until a server accepts a TCP connection.
        handshake: until TLS with it is finished.
        request_head: from the first byte of a request's head to its last.
        body: silence within a request's or an answer's body.
        answer: from the end of a request to its answer.
        agent_keep_alive: idle connections of agents, who keep theirs for 90 seconds.
        upstream_keep_alive: idle connections to intakes, which close theirs after 60 seconds.
        tunnel: silence of a raw TCP connection.
        drain: requests under way after the order to stop; 0 stops at once.
    """

    connect: float = 5.0
    handshake: float = 5.0
    request_head: float = 10.0
    body: float = 30.0
    answer: float = 60.0
    agent_keep_alive: float = 120.0
    upstream_keep_alive: float = 45.0
    tunnel: float = 3600.0
    drain: float = 15.0


@attrs.frozen
class Limits:
    """What one client, and all together, may take.

    Attributes:
        head_size: bytes of a request's or an answer's head.
        header_lines: lines of a head.
        connections: of agents, that may be open at the same time.
    """

    head_size: int = 65536
    header_lines: int = 128
    connections: int = 4096


@attrs.frozen
class Log:
    """What is logged, and how.

    Attributes:
        level: what is less than that is not logged.
        format: ``text`` or ``json``, to where twistd logs; ``journald`` or ``syslog``, to their sockets.
        socket: absolute path of another one; empty for the usual one.
    """

    level: str = "info"
    format: str = "text"
    socket: str = ""


@attrs.frozen
class Config:
    """The whole configuration, complete and consistent."""

    site: str
    listen: Listen
    fips: Fips
    tls: Tls
    resolver: Resolver
    egress: Egress
    probes: Probes
    upstreams: Mapping[str, Upstream]
    intakes: Mapping[str, Intake]
    timeouts: Timeouts
    limits: Limits
    log: Log
