"""Tests of ``fipsrelay.config.proxies``."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config import proxies
from fipsrelay.config.model import Proxy
from fipsrelay.config.nodes import Node, parse
from fipsrelay.errors import ConfigError

CANARY = "tweety"
_WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)


def read(text: str) -> Proxy:
    return proxies.read(Node(text, "f.yaml", 1, "egress.proxy"))


class ReadTests(SynchronousTestCase):
    """``read``."""

    def refusal(self, text: str) -> str:
        """Why a URL is refused; it is not to be seen there, nor in what a traceback would show."""
        error = self.assertRaises(ConfigError, read, text)
        [problem] = error.problems
        self.assertTrue(problem.message.endswith("(what was found is not shown)"), problem.message)
        self.assertTrue(error.__cause__ is None and (error.__context__ is None or error.__suppress_context__), text)
        self.assertNotIn(CANARY, str(error), text)
        return str(problem.message)

    def test_right(self) -> None:
        for text, expected in {
            "http://proxy.example.com:3128": Proxy("proxy.example.com", 3128),
            "HTTP://Proxy:1/": Proxy("proxy", 1),
            "http://192.0.2.1:65535": Proxy("192.0.2.1", 65535),
            "http://[2001:DB8::1]:3128": Proxy("2001:db8::1", 3128),
            "http://user@proxy:3128": Proxy("proxy", 3128, "user"),
            "http://user:@proxy:3128": Proxy("proxy", 3128, "user"),
            "http://@proxy:3128": Proxy("proxy", 3128),
            "http://user:secret@proxy:3128": Proxy("proxy", 3128, "user", "secret"),
            "http://user:se:cr:et@[::1]:3128/": Proxy("::1", 3128, "user", "se:cr:et"),
            "http://do%6dain%5Cuser:p%40%2F%3a%25@proxy:3128": Proxy("proxy", 3128, "domain\\user", "p@/:%"),
            "http://jos%C3%A9:%E2%82%AC+%20@proxy:3128": Proxy("proxy", 3128, "josé", "€+ "),
            "http://a!$&'()*+,;=-._~:b\\^`{|}\"<>@proxy:3128": Proxy("proxy", 3128, "a!$&'()*+,;=-._~", 'b\\^`{|}"<>'),
        }.items():
            self.assertEqual(read(text), expected, text)

    def test_https(self) -> None:
        for scheme in ("https", "HTTPS"):
            message = self.refusal(f"{scheme}://user:{CANARY}@proxy:3128")
            self.assertIn("TLS runs end to end inside the tunnel, and only http:// proxies are supported", message)

    def test_no_port(self) -> None:
        for text in ("http://proxy", f"http://user:{CANARY}@proxy/", f"http://user:{CANARY}@[::1]"):
            self.assertTrue(self.refusal(text).startswith("the port is missing; allowed: http://HOST:PORT"), text)

    def test_wrong_place(self) -> None:
        for place in (
            "",
            ":3128",
            "proxy:",
            "proxy:0",
            "proxy:65536",
            "proxy:080",
            "proxy:1a",
            "proxy:1:2",
            "proxy :3128",
            "pro_xy:1",
            "127.1:1",
            "192.0.2.256:1",
            "0.0.0.0:1",
            "[::]:1",
            "[ff02::1]:1",
            "[proxy]:1",
            "[192.0.2.1]:1",
            "[fe80::1%25eth0]:1",
            "2001:db8::1:3128",
            f"{CANARY}_:1",
            f"proxy:{CANARY}",
        ):
            for user in ("", f"user:{CANARY}@"):
                self.refusal(f"http://{user}{place}")

    def test_more_than_a_place(self) -> None:
        for more in (f"/{CANARY}", "//", f"?{CANARY}", f"#{CANARY}", "/?", f"/#{CANARY}", "\n", f" {CANARY}"):
            self.refusal(f"http://user:{CANARY}@proxy:3128{more}")

    def test_other_texts(self) -> None:
        for text in (
            "",
            CANARY,
            f"user:{CANARY}@proxy:3128",
            f"//user:{CANARY}@proxy:3128",
            f"http:/user:{CANARY}@proxy:3128",
            f"http:user:{CANARY}@proxy:3128",
            f"http:\\\\user:{CANARY}@proxy:3128",
            f"socks5://user:{CANARY}@proxy:3128",
            f"{CANARY}://user:{CANARY}@proxy:3128",
            f" http://user:{CANARY}@proxy:3128",
            f"http://user:{CANARY}",
            f"http://user:{CANARY}:3128",
            f"http://user {CANARY}@proxy:3128",
        ):
            self.refusal(text)

    def test_delimiters_that_are_not_encoded(self) -> None:
        for mark in "@/?#[]% \t\r\n\0é":
            for text in (f"http://us{mark}er:{CANARY}@proxy:3128", f"http://user:{CANARY}{mark}{CANARY}@proxy:3128"):
                self.assertIn("are written %2F and so on", self.refusal(text))
        for mark in ("%", "%4", "%4g", "%u0041"):
            self.refusal(f"http://user:{CANARY}{mark}@proxy:3128")

    def test_what_basic_authentication_cannot_send(self) -> None:
        for code in ("%00", "%0D%0A", "%0a", "%09", "%1F", "%7F", "%C2%85"):
            for text in (f"http://us{code}er:{CANARY}@proxy:3128", f"http://user:{CANARY}{code}@proxy:3128"):
                self.assertIn("control character", self.refusal(text))
        self.assertIn("colon", self.refusal(f"http://us%3Aer:{CANARY}@proxy:3128"))
        for code in ("%FF", "%C3", "%ED%A0%80"):
            self.assertIn("not UTF-8", self.refusal(f"http://user:{CANARY}{code}@proxy:3128"))

    def test_password_without_user(self) -> None:
        self.assertIn("without a user", self.refusal(f"http://:{CANARY}@proxy:3128"))

    def test_no_text(self) -> None:
        for text in (f"{{http://user:{CANARY}@proxy:3128: 1}}", f"['http://user:{CANARY}@proxy:3128']", ""):
            error = self.assertRaises(ConfigError, proxies.read, parse(text, "f.yaml", []))
            self.assertNotIn(CANARY, str(error))

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.integers(0, 30), st.sampled_from("@:/?#[]% \\\n\0h%é"), st.booleans())
    @example(7, "/", True)
    def test_any_slip_of_the_pen(self, place: int, mark: str, insert: bool) -> None:
        """One character too many, or another one, anywhere: the URL is right, or it is not shown."""
        text = f"http://user:{CANARY}@proxy:3128"
        try:
            read(text[:place] + mark + text[place + (not insert) :])
        except ConfigError as error:
            self.assertNotIn(CANARY[1:-1], str(error))


class WrittenTests(SynchronousTestCase):
    """``written``."""

    def test_password(self) -> None:
        self.assertEqual(proxies.written(Proxy("proxy", 3128, "us@er", CANARY)), "http://us%40er:***@proxy:3128")
        self.assertEqual(proxies.written(Proxy("2001:db8::1", 1, "user")), "http://user@[2001:db8::1]:1")
        self.assertEqual(proxies.written(Proxy("192.0.2.1", 80)), "http://192.0.2.1:80")

    @settings(derandomize=True, database=None, deadline=None)
    @given(_WORDS.filter(lambda user: user and ":" not in user), _WORDS, st.sampled_from(["proxy", "192.0.2.1", "::1"]))
    def test_round_trip(self, user: str, password: str, host: str) -> None:
        """What is written is read as the same, but for the password; with that it would be too."""
        proxy = Proxy(host, 3128, user, password)
        text = proxies.written(proxy)
        self.assertEqual(read(text), Proxy(host, 3128, user, "***" if password else ""))
        if password:
            self.assertEqual(read(text.replace("***", quote(password, safe=""), 1)), proxy)
