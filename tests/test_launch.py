"""How ``launch`` reads twistd's arguments, and what it says when there is no start."""

from __future__ import annotations

import contextlib
import io

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import launch
from fipsrelay.errors import ConfigError, FipsError, PortProblem, PortsError, Problem
from fipsrelay.tap import Options

WORDS = st.sampled_from(
    ["-c", "-cF", "--config", "--config=F", "--conf", "--conf=F", "F", "fipsrelay", "-x", "--", "-", "--handover=H"]
)


class ConfigFileTests(SynchronousTestCase):
    """``launch.config_file``."""

    def test_every_spelling(self) -> None:
        for words in ("-c F", "-cF", "--config F", "--config=F", "--conf=F", "-c E --config F", "--config E -cF"):
            self.assertEqual(launch.config_file(["-n", "fipsrelay", *words.split()]), "F", words)

    def test_twistds_own_options_are_not_ours(self) -> None:
        for words in ("-l fipsrelay fipsrelay -c F", "--pidfile fipsrelay -n fipsrelay -c F"):
            self.assertEqual(launch.config_file(words.split()), "F", words)

    def test_a_file_with_the_services_name(self) -> None:
        self.assertEqual(launch.config_file(["fipsrelay", "-c", "fipsrelay"]), "fipsrelay")

    def test_missing(self) -> None:
        for words in ("fipsrelay", "-c F fipsrelay"):
            error = self.assertRaises(ConfigError, launch.config_file, words.split())
            self.assertEqual(str(error), "twistd fipsrelay: the configuration is missing: -c FILE")

    def test_no_service_of_ours(self) -> None:
        for words in (
            "--help",
            "web",
            "fipsrelay --help",
            "fipsrelay --hel",
            "fipsrelay -c F --version",
            "--version fipsrelay",
        ):
            self.assertIsNone(launch.config_file(words.split()), words)

    def test_what_twistd_refuses(self) -> None:
        for words in ("fipsrelay -x", "fipsrelay -c", "fipsrelay -c F more"):
            self.assertIsNone(launch.config_file(words.split()), words)

    @settings(max_examples=200)
    @given(st.lists(WORDS, max_size=4))
    def test_agrees_with_twistd(self, words: list[str]) -> None:
        """Whatever Twisted's parser makes of the words, we make the same of them, or leave them to it."""
        options = Options()
        try:
            options.parseOptions(words)
        except UsageError:
            return
        try:
            found = launch.config_file(["fipsrelay", *words])
        except ConfigError:
            found = None
        self.assertEqual(found, options["config"])


class ReactorTests(SynchronousTestCase):
    """``launch.names_reactor``."""

    def test_named(self) -> None:
        for words in (
            "-r poll fipsrelay",
            "-nr poll fipsrelay",
            "-rpoll fipsrelay",
            "--reactor=poll fipsrelay",
            "--rea poll",
            "-l fipsrelay -r poll fipsrelay",
        ):
            self.assertTrue(launch.names_reactor(words.split()), words)

    def test_not_named(self) -> None:
        for words in (
            "-n fipsrelay",
            "-lrelay.log fipsrelay",
            "--rundir=x fipsrelay",
            "fipsrelay -r x",
            "fipsrelay -c fipsrelay",
        ):
            self.assertFalse(launch.names_reactor(words.split()), words)


class RefuseTests(SynchronousTestCase):
    """``launch.refuse``."""

    def test_statuses(self) -> None:
        for error, status, text in (
            (ConfigError((Problem("f", 1, "a", "b"), Problem("f", 2, "c", "d"))), 2, "f:1: a: b\nf:2: c: d\n"),
            (
                FipsError("code", "one", "two\nlines", "do"),
                3,
                "fipsrelay: FIPS check code failed: expected one; found two lines; do\n",
            ),
            (
                PortsError((PortProblem("logs", "::1", 1, "Taken"),)),
                4,
                "Starting frontend logs: cannot bind socket (Taken) [::1:1]\n",
            ),
        ):
            output = io.StringIO()
            with contextlib.redirect_stderr(output):
                found = launch.refuse(error)
            self.assertEqual((found, output.getvalue()), (status, text))
