"""The way out: what becomes of the configured proxy, and of its password."""

from __future__ import annotations

import traceback
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from fipsrelay.config.model import Egress, Proxy
from fipsrelay.errors import ConfigError
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.egress import gateway
from tests.folders import Folders


def credentials(found: Gateway | None) -> str:
    """``user:password`` of what is sent."""
    assert found is not None
    assert found.authorization is not None
    scheme, encoded = found.authorization.split(b" ")
    assert scheme == b"Basic"
    return b64decode(encoded).decode()


class GatewayTests(Folders):
    def test_none(self) -> None:
        self.assertIsNone(gateway(Egress()))

    def test_without_credentials(self) -> None:
        self.assertEqual(gateway(Egress(Proxy("proxy.example", 3128))), Gateway("proxy.example", 3128, None))

    def test_with_a_password(self) -> None:
        found = gateway(Egress(Proxy("2001:db8::9", 8080, "agent", "p:ä ß")))
        self.assertEqual((str(found), credentials(found)), ("[2001:db8::9]:8080", "agent:p:ä ß"))

    def test_with_a_user_alone(self) -> None:
        self.assertEqual(credentials(gateway(Egress(Proxy("proxy.example", 3128, "agent")))), "agent:")

    def test_nothing_shows_the_password(self) -> None:
        egress = Egress(Proxy("proxy.example", 3128, "agent", "swordfish"))
        found = gateway(egress)
        assert found is not None
        assert found.authorization is not None
        for text in (repr(egress), repr(found), str(found)):
            self.assertNotIn("swordfish", text)
            self.assertNotIn(found.authorization.decode()[6:], text)


class PasswordFileTests(Folders):
    def setUp(self) -> None:
        self.file = self.folder() / "password"
        self.egress = Egress(Proxy("proxy.example", 3128, "agent"), str(self.file))

    def assert_refused(self, *words: str) -> None:
        """One problem of this key, in these words; neither it nor its traceback shows what the file holds."""
        with self.assertRaises(ConfigError) as caught:
            gateway(self.egress)
        [problem] = caught.exception.problems
        self.assertEqual((problem.file, problem.line, problem.path), ("configuration", 0, "egress.password_file"))
        for word in (str(self.file), *words):
            self.assertIn(word, problem.message)
        self.assertNotIn("swordfish", "".join(traceback.format_exception(caught.exception)))

    def test_first_line(self) -> None:
        """As editors write it: whatever ends the line, and a byte order mark, are no part of the password."""
        for content in ("swordfish", "swordfish\n", "swordfish\r\n", "swordfish\n# of June\n", "\ufeffswordfish\n"):
            self.file.write_bytes(content.encode())
            self.assertEqual(credentials(gateway(self.egress)), "agent:swordfish", repr(content))

    def test_blanks_count(self) -> None:
        self.file.write_text(" sword fish \n")
        self.assertEqual(credentials(gateway(self.egress)), "agent: sword fish ")

    @given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1))
    def test_any_text(self, password: str) -> None:
        """Also with what Unicode calls a line's end, which a password may hold."""
        self.setUp()
        password = password.lstrip("\ufeff") or "x"
        self.file.write_text(f"{password}\nmore\n", encoding="utf-8")
        self.assertEqual(credentials(gateway(self.egress)), f"agent:{password}")

    def test_control_characters(self) -> None:
        """RFC 7617 §2 forbids them."""
        for character in "\0\t\x0b\x1b\x1f\x7f\x80\x85\x9f":
            self.file.write_text(f"sword{character}swordfish\n", encoding="utf-8")
            self.assert_refused("no password in its first line, or one with control characters")

    def test_empty(self) -> None:
        for content in ("", "\n", "\nswordfish\n", "\r\nswordfish", "\ufeff"):
            self.file.write_bytes(content.encode())
            self.assert_refused("no password in its first line")

    def test_not_utf_8(self) -> None:
        self.file.write_bytes(b"swordfish\xff\n")
        self.assert_refused("is not UTF-8")

    def test_missing(self) -> None:
        self.assert_refused("cannot be read: No such file or directory")

    def test_a_folder(self) -> None:
        self.file.mkdir()
        self.assert_refused("cannot be read: Is a directory")
