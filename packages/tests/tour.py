"""The guide's pages, followed word by word on a machine of their own: each command, and what it is said to print."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from docs.site.pages import Block, Order, Page, matches
from fipsrelay.crypto import module
from packages.tests.built import package
from packages.tests.hosted import BUNDLE, CONFIG
from packages.tests.machine import CHECKOUT
from packages.tests.packaged import UNIT, SystemdPackaged

AGENT = "/etc/datadog-agent/datadog.yaml"
_HOME = "/srv"
_END = "\x1e"
_SILENT = """
import signal, socket, sys
place = sys.argv[1], int(sys.argv[2])
server = socket.socket()
server.bind(place)
server.listen(0)
waiting = [socket.socket() for _ in range(4)]
for each in waiting:
    each.setblocking(False)
    each.connect_ex(place)
signal.pause()
"""


class Tour(SystemdPackaged):
    """A machine on which a page is followed."""

    def follow(self, page: Page) -> None:
        """Everything that a page orders and shows, in its order.

        Raises:
            AssertionError: something is not as the page has it, with the line.
        """
        for step in page.steps:
            if isinstance(step, Order):
                self.bring_about(step)
            elif not step.excuse:
                self.do(page, step)

    def do(self, page: Page, block: Block) -> None:
        """One block."""
        where = f"docs/{page.name}:{block.line}"
        if block.language == "console":
            self.assertTrue(block.text.startswith("$ "), f"{where}: no command")
            self._type(where, block)
        elif block.file:
            self._write(*block.file, block.text)

    def _type(self, where: str, block: Block) -> None:
        """Give the commands to one shell. One that fails is a mistake, unless the page asks for the status next."""
        commands = block.commands()
        script = "".join(
            f"( exit $status ); {each.words}\nstatus=$?; printf '{_END}%s{_END}' $status\n" for each in commands
        )
        done = self.machine.run("bash", "-c", f"cd {_HOME}; status=0; exec 2>&1\n{script}", check=None)
        parts = done.stdout.split(_END)
        self.assertEqual(len(parts), 2 * len(commands) + 1, f"{where}: {done.stdout}{done.stderr}")
        for number, command in enumerate(commands):
            output, status = parts[2 * number : 2 * number + 2]
            asked = number + 1 < len(commands) and commands[number + 1].words == "echo $?"
            if status != "0" and not asked:
                self.fail(f"{where}: {command.words}: status {status}\n{output}")
            if not matches(command.output, output):
                self.fail(f"{where}: {command.words}\n-- the page:\n{command.output}-- the machine:\n{output}")

    def _write(self, place: str, part: bool, text: str) -> None:
        path = self.path(place)
        if not part:
            self.machine.put(place, text)
            return
        path.write_text(yaml.safe_dump(_merged(yaml.safe_load(path.read_text()) or {}, yaml.safe_load(text))))

    # -- what a page's comments order

    def bring_about(self, order: Order) -> None:
        """Do what a page's comment orders."""
        getattr(self, f"order_{order.word}")(order.argument)

    def order_package(self, _: str) -> None:
        """The package and the suite's module, where whoever follows the page has them."""
        self.bring(package("deb"))
        self.bring(module.find("auto").path)
        self.start_intake()

    def order_certificate(self, _: str) -> None:
        """The suite's module has no certificate: the machine's configuration gets an entry for it."""
        facts = dict(line.split(": ", 1) for line in self.call("fipsrelay", "module").splitlines())
        entry = {"number": "0000", "standard": "FIPS 140-3", "source": "nobody", "build_info": facts["build_info"]}
        entry |= {name: facts[f"provider_{name}"] for name in ("name", "version")}
        self._write(CONFIG, True, yaml.safe_dump({"fips": {"certificates": [entry]}}))

    def order_installed(self, _: str) -> None:
        """A relay that runs, and an intake for every host."""
        self.order_package("")
        self.call("sh", "-c", f"dpkg --install {_HOME}/*.deb && fipsrelay module --install {_HOME}/fips.so")
        self.order_certificate("")
        self.call("systemctl", "start", UNIT)

    def order_agent(self, _: str) -> None:
        """The Agent's user and file, as its package leaves them."""
        self.call("sh", "-c", "id dd-agent >/dev/null 2>&1 || useradd --system dd-agent")
        self.machine.put(AGENT, "api_key: 0123456789abcdef0123456789abcdef\nsite: ddog-gov.com\n")

    def order_file(self, name: str) -> None:
        """A file of the checkout, where whoever follows the page has it."""
        self.bring(CHECKOUT / name)

    def order_run(self, words: str) -> None:
        """Whatever a shell takes."""
        self.call("sh", "-c", f"cd {_HOME}; {words}")

    def order_silent(self, endpoint: str) -> None:
        """An address that drops what asks for a connection, as a firewall would: its queue is full."""
        self.machine.popen("python3", "-c", _SILENT, *endpoint.split())

    def order_distrust(self, _: str) -> None:
        """The intakes' authority is no longer trusted, as if somebody else's certificate were shown."""
        self.path(BUNDLE).write_text(Path(BUNDLE).read_text())
        self.call("systemctl", "restart", UNIT)

    def order_start(self, words: str) -> None:
        """A program that goes on running."""
        self.machine.popen(*shlex.split(words))

    def order_until(self, words: str) -> None:
        """Wait until a shell's command succeeds."""
        self.call("timeout", "100", "sh", "-c", f"until {words} >/dev/null 2>&1; do sleep 0.2; done")


def _merged(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
