"""Keepers of TLS streams: they hear once that the stream has been closed, by whomever."""

from __future__ import annotations

from fipsrelay.wire.tls import TlsStream
from tests.doubles import Recorder
from tests.test_streams import reset
from tests.test_tls import TlsStreams


class Keeper:
    """Who keeps account of a stream.

    Attributes:
        heard: for each call, whether the stream was open, and what its user had heard.
    """

    def __init__(self, stream: TlsStream, user: Recorder) -> None:
        self.heard: list[tuple[bool, list[str]]] = []
        self._stream = stream
        self._user = user

    def stream_closed(self) -> None:
        self.heard.append((self._stream.is_open, list(self._user.events)))
        self._stream.close()


class KeeperTests(TlsStreams):
    """When it is closed already, and before its user hears of it."""

    def setUp(self) -> None:
        super().setUp()
        self.shake_hands()
        self.keeper = Keeper(self.stream, self.user)
        self.stream.keeper = self.keeper

    def assert_told(self, *events: str) -> None:
        self.assertEqual((self.keeper.heard, self.user.events), ([(False, [])], list(events)))
        self.stream.close()
        self.stream.abort()
        self.assertEqual((len(self.keeper.heard), self.stream.keeper), (1, None))

    def test_we_do(self) -> None:
        for end in (TlsStream.close, TlsStream.abort):
            self.setUp()
            end(self.stream)
            self.assert_told()

    def test_the_peer_does(self) -> None:
        reset(self.peer.raw)
        self.reactor.run(lambda: self.user.events)
        self.assert_told("lost")

    def test_a_write_finds_it_broken(self) -> None:
        reset(self.peer.raw)
        self.stream.write(b"x")
        self.assert_told("lost")

    def test_the_end_of_the_peer_alone_is_none(self) -> None:
        self.peer.connection.shutdown()
        self.reactor.run(lambda: self.user.events)
        self.assertEqual((self.keeper.heard, self.user.events), ([], ["eof"]))
        self.stream.close()
        self.assertEqual(self.keeper.heard, [(False, ["eof"])])
