"""TLS servers of every kind for the handshake scenarios: what they are configured with, and what they do.

They take a payload, keep it, and answer it; or they are no TLS servers at all.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

from OpenSSL import SSL

from fipsrelay.demo.certificates import Paths
from tests.scenarios.stage import TIMEOUT, read_all

PAYLOAD = b"a payload that only an intake may see"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET, which Python's ssl does not name


def suites_of_tls_1_3(paths: Paths, suites: bytes) -> SSL.Context:
    """What Python's ssl cannot be told before its 3.15."""
    context = server_of(paths)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(suites)
    return context


def server_of(paths: Paths) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.use_certificate_file(str(paths.certificate))
    context.use_privatekey_file(str(paths.key))
    return context


def receive(seen: bytearray) -> Callable[[ssl.SSLSocket], None]:
    """Keep what is received, and answer when it is all there."""

    def serve(connection: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):  # a reset is one way to be refused
            while data := connection.recv(65536):
                seen.extend(data)
                if data.endswith(PAYLOAD):
                    connection.sendall(ANSWER)

    return serve


def receive_with(context: SSL.Context, seen: bytearray) -> Callable[[socket.socket], None]:
    """The same by pyOpenSSL."""

    def serve(plain: socket.socket) -> None:
        plain.settimeout(None)
        connection = SSL.Connection(context, plain)
        connection.set_accept_state()
        with contextlib.suppress(SSL.Error):
            while True:
                seen.extend(connection.recv(65536))
                if seen.endswith(PAYLOAD):
                    connection.sendall(ANSWER)

    return serve


def reply(data: bytes, seen: bytearray, until_eof: bool = True) -> Callable[[socket.socket], None]:
    """Answer the ClientHello with some bytes, and keep whatever comes then."""

    def serve(plain: socket.socket) -> None:
        plain.recv(65536)
        with contextlib.suppress(OSError):
            plain.sendall(data)
            if until_eof:
                seen.extend(read_all(plain))

    return serve


def server_hello(suite: int = 0xC02B, compression: int = 0) -> bytes:
    """A ServerHello of TLS 1.2 (RFC 5246 §7.4.1.3) with extended master secret and secure renegotiation."""
    extensions = b"\xff\x01\x00\x01\x00\x00\x17\x00\x00"
    body = b"\x03\x03" + b"\x17" * 32 + b"\x00" + suite.to_bytes(2, "big") + bytes([compression])
    body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


def sign_with_sha1(stem: Path, authority: Path) -> bytes:
    """Sign a certificate again, with a hash that the library for Python refuses to sign with."""
    own = ["-in", stem.with_suffix(".pem"), "-signkey", stem.with_suffix(".key")]
    signer = ["-sha1", "-days", "7", "-CA", authority.with_suffix(".pem"), "-CAkey", authority.with_suffix(".key")]
    certificate = b""
    for words in (own, signer):
        command = ["openssl", "x509", *map(str, words)]
        certificate = subprocess.run(
            command, input=certificate, check=True, capture_output=True, timeout=TIMEOUT
        ).stdout
    return certificate
