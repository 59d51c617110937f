"""The memory that all TLS streams write to: what one of them wrote is never seen by another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL._util import ffi, lib
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.records import Records

LARGE = 1_200_000  # such a buffer is not kept
STEPS = st.lists(
    st.one_of(st.none(), st.integers(0, 70_000), st.just(LARGE), st.just("clear"), st.just("clear")), max_size=30
)


class RecordsTests(SynchronousTestCase):
    @given(STEPS)
    def test_only_what_was_written_since(self, steps: list[int | str | None]) -> None:
        """Looked at and forgotten in any order, twice too, and written of any size."""
        records, written = Records(), b""
        for number, step in enumerate(steps):
            if step == "clear":
                records.clear()
                written = b""
            elif isinstance(step, int):
                piece = bytes([number]) * step
                if step:
                    self.assertEqual(lib.BIO_write(records._bio, piece, step), step)
                written += piece
            self.assertTrue(bytes(records.view()) == written)

    def test_without_seek(self) -> None:
        """A memory BIO that does not know how is reset."""
        records = Records()
        control = records._ctrl
        self.patch(records, "_ctrl", lambda bio, command, *rest: 0 if command == 128 else control(bio, command, *rest))
        for piece in (b"one", b"two"):
            lib.BIO_write(records._bio, piece, 3)
            self.assertEqual(bytes(records.view()), piece)
            records.clear()
            self.assertEqual(bytes(records.view()), b"")

    def test_large_buffer(self) -> None:
        """What one write of a whole request took is free again; OpenSSL would keep it for good."""
        records = Records()

        def size() -> int:
            buffer = ffi.new("size_t **")  # a BUF_MEM: length, data, and how much there is room for
            self.assertEqual(records._ctrl(records._bio, 115, 0, buffer), 1)  # BIO_C_GET_BUF_MEM_PTR
            found: int = buffer[0][2]
            return found

        for piece in (bytes(70_000), bytes(LARGE)):
            lib.BIO_write(records._bio, piece, len(piece))
            self.assertEqual(bytes(records.view()), piece)
            self.assertGreaterEqual(size(), len(piece))
            records.clear()
        self.assertEqual(size(), 0)
