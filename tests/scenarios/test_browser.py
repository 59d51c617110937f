"""The statistics page in a real browser: headless Chromium, which reaches loopback only."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.modules import CACHE
from tests.scenarios.stage import EMPTY, Stage, read_head

SCREENSHOTS = CACHE / "screenshots"
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)
TIMEOUT = 30.0


class PageTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(self.answer)
        probes = {"enabled": True, "interval": 1, "fall": 1}
        self.relay = self.start_relay(self.peer.port, probes=probes)
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (*ARGUMENTS, f"--user-data-dir={self.folder / 'browser'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
        self.addCleanup(self.browser.quit)

    def answer(self, connection: ssl.SSLSocket) -> None:
        connection.settimeout(None)  # how long it is idle is the browser's affair
        while read_head(connection):
            connection.sendall(EMPTY)

    def open(self, width: int, height: int) -> None:
        self.browser.set_window_size(width, height)
        self.browser.get(f"http://localhost:{self.page_port}/")

    def wait(self, condition: Callable[[], object]) -> None:
        """Until it holds."""
        WebDriverWait(self.browser, TIMEOUT, 0.1).until(lambda browser: condition())

    def cells(self, table: str) -> list[str]:
        # In one step: the page may renew itself between two.
        script = "return Array.from(document.querySelectorAll(arguments[0]), cell => cell.innerText.trim())"
        return list(self.browser.execute_script(script, f"#{table} tbody td"))

    def state(self) -> tuple[str, str]:
        """Words and colour of the server's state."""
        script = (
            "const cell = document.querySelector(arguments[0]); return [cell.innerText, getComputedStyle(cell).color]"
        )
        text, color = self.browser.execute_script(script, "#servers tbody td:nth-child(3) span")
        return text, color

    def keep(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.assertTrue(self.browser.save_screenshot(str(SCREENSHOTS / f"{name}.png")))

    def test_page(self) -> None:
        self.open(1280, 900)
        self.assertEqual(self.browser.title, "ready - fipsrelay")
        text = self.browser.execute_script("return document.querySelector('main').innerText")
        self.assertIn("FIPS module in force, without an active certificate", text)
        self.assertEqual(self.cells("intakes")[3], "0")
        self.wait(lambda: self.state()[0] == "✔ UP")
        _, good = self.state()
        agent = self.agent()
        for _ in range(5):
            agent.request("GET", "/x")
            self.assertEqual(agent.getresponse().read(), b"")
        # By itself, without a reload.
        self.wait(lambda: self.cells("intakes")[3] == "5")
        self.assertIn("200: 5", self.cells("intakes")[11])
        self.assertRegex(self.cells("servers")[7], "TLSv1.3 TLS_AES_256_GCM_SHA384 P-256")
        self.keep("up")
        self.peer.stop()
        self.wait(lambda: self.state()[0] == "✖ DOWN")
        self.assertNotEqual(self.state()[1], good)
        self.wait(lambda: self.browser.title == "1 DOWN - fipsrelay")
        self.keep("down")
        self.assertEqual(self.browser.get_log("browser"), [])

    def test_phone(self) -> None:
        """Only the tables scroll sideways."""
        self.open(400, 800)
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        content, window = self.browser.execute_script(widths)
        self.assertLessEqual(content, window)
        self.keep("phone")
        self.assertEqual(self.browser.get_log("browser"), [])

    def test_relay_is_gone(self) -> None:
        """What stands there is marked as old, and comes to life again."""
        self.open(1280, 900)
        stale = self.browser.find_element(By.ID, "stale")
        self.assertFalse(stale.is_displayed())
        self.assertEqual(self.relay.stop(), 0)
        self.wait(stale.is_displayed)
        document = self.document(self.peer.port)
        document["listen"]["port_range_start"], self.page_port = self.relay_port(), self.relay_port()
        self.run_relay(document)
        self.wait(lambda: not stale.is_displayed())

    def relay_port(self) -> int:
        return int(self.browser.execute_script("return location.port"))
