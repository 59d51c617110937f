"""The words of the command line; what the commands do is tested with them."""

from __future__ import annotations

import subprocess

from tests.commands import run
from tests.folders import Folders


class CommandLineTests(Folders):
    """``cli.main``."""

    def test_check(self) -> None:
        path = self.put(self.folder() / "relay.yaml", "preset: datadog\n")
        for words in (["-c", str(path)], ["--config", str(path)], [f"-c{path}"]):
            status, output, errors = run("check", *words)
            self.assertEqual((status, errors), (0, ""))
            self.assertTrue(output.startswith(f"{path}: OK, "), output)
        _, output, _ = run("check", "--expand", "-c", str(path))
        self.assertIn("port_range_start: ", output)

    def test_check_of_a_broken_file(self) -> None:
        path = self.put(self.folder() / "relay.yaml", "nonsense: 1\n")
        status, output, errors = run("check", "-c", str(path))
        self.assertEqual((status, output), (2, ""))
        self.assertIn(f"{path}:1: nonsense: ", errors)

    def test_usage(self) -> None:
        for words, wanted in (
            ([], "COMMAND"),
            (["nonsense"], "nonsense"),
            (["check"], "-c/--config"),
            (["module", "-c", "relay.yaml"], "--prove only"),
            (["module", "--install", "a", "--source", "b"], "not allowed with"),
        ):
            status, output, errors = run(*words)
            self.assertEqual((status, output), (2, ""))
            self.assertIn(wanted, errors)

    def test_help(self) -> None:
        status, output, _ = run("--help")
        self.assertEqual(status, 0)
        for command in ("twistd", "demo", "run", "status", "top", "reload", "check", "doctor", "evidence", "agent"):
            self.assertIn(f"\n    {command} ", output)

    def test_completion(self) -> None:
        """bash itself finds the commands, and their options."""
        status, script, _ = run("completion", "bash")
        self.assertEqual(status, 0)
        path = self.put(self.folder() / "completion", script)
        for words, wanted in ((("st",), ["status"]), (("check", "--e"), ["--expand"]), (("agent", "e"), ["enable"])):
            typed = " ".join(("fipsrelay", *words))
            ask = f"source {path}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _shtab_fipsrelay; "
            done = subprocess.run(
                ["bash", "-c", ask + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True
            )
            self.assertEqual(done.stdout.split(), wanted, typed)

    def test_it_refuses_to_prove_here(self) -> None:
        """This process loaded OpenSSL long ago."""
        status, output, errors = run("module", "--prove")
        self.assertEqual((status, output), (3, ""))
        self.assertIn("FIPS check early-import failed", errors)

    def test_prove_with_a_broken_configuration(self) -> None:
        status, _, errors = run("module", "--prove", "-c", "nowhere.yaml")
        self.assertEqual((status, errors), (2, "nowhere.yaml: cannot be read: No such file or directory\n"))
