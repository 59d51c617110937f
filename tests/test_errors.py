"""Errors: their words, and that they behave as exceptions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import errors


class TextTests(SynchronousTestCase):
    def test_problems(self) -> None:
        for problem, text in (
            (errors.Problem("f.yaml", 3, "a.b", "no"), "f.yaml:3: a.b: no"),
            (errors.Problem("f.yaml", 0, "a.b", "no"), "f.yaml: a.b: no"),
            (errors.Problem("f.yaml", 3, "", "no"), "f.yaml:3: no"),
            (errors.Problem("f.yaml", 0, "", "no"), "f.yaml: no"),
        ):
            self.assertEqual(str(problem), text)

    def test_every_problem_has_its_line(self) -> None:
        problem = errors.Problem("f.yaml", 3, "a", "no")
        self.assertEqual(str(errors.ConfigError((problem, problem))), "f.yaml:3: a: no\nf.yaml:3: a: no")

    def test_ports(self) -> None:
        """The words that Agents' documentation knows from HAProxy."""
        port = errors.PortProblem("logs", "127.0.0.1", 9806, "Address already in use")
        line = "Starting frontend logs: cannot bind socket (Address already in use) [127.0.0.1:9806]"
        self.assertEqual(str(errors.PortsError((port, port))), f"{line}\n{line}")

    def test_fips(self) -> None:
        error = errors.FipsError("module-missing", "a file", "none", "build one")
        self.assertEqual(str(error), "FIPS check module-missing failed: expected a file; found none; build one")

    def test_peers(self) -> None:
        upstream = errors.UpstreamError("tls", 502, "logs", "192.0.2.1:443", "handshake", "bad record")
        self.assertEqual(str(upstream), "upstream logs (192.0.2.1:443) failed at handshake: bad record")
        self.assertEqual(str(errors.AgentError("head-timeout", 408, "too slow")), "request refused: too slow")
        self.assertEqual(str(errors.MessageError("bad-head", 400, "no")), "no")


class ExceptionTests(SynchronousTestCase):
    def test_frozen_values_can_be_raised_and_chained(self) -> None:
        for error in (
            errors.ConfigError(()),
            errors.FipsError("a", "b", "c", "d"),
            errors.UpstreamError("a", 502, "b", "c", "d", "e"),
            errors.AgentError("a", 400, "b"),
            errors.MessageError("a", 400, "b"),
            errors.PortsError(()),
        ):
            with self.assertRaises(errors.FipsrelayError) as caught:
                raise error from OSError()
            self.assertIs(caught.exception, error)
            self.assertIsInstance(error.__cause__, OSError)
