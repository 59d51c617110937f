"""What the guide says to type, and what comes of it: every page, on a machine of its own."""

from __future__ import annotations

from docs.site.pages import DOCS, read
from packages.tests.tour import Tour


class GuideTests(Tour):
    """Each page is followed from its beginning to its end."""

    def page(self, name: str) -> None:
        self.follow(read(DOCS / name))

    def test_install(self) -> None:
        self.page("install.md")

    def test_agent(self) -> None:
        self.page("agent.md")

    def test_verify(self) -> None:
        self.page("verify.md")

    def test_logs(self) -> None:
        self.page("logs.md")

    def test_operation(self) -> None:
        self.page("operation.md")

    def test_troubleshooting(self) -> None:
        self.page("troubleshooting.md")

    def test_packaging(self) -> None:
        self.page("packaging.md")

    def test_fips(self) -> None:
        self.page("fips.md")

    def test_security(self) -> None:
        self.page("security.md")

    def test_migration(self) -> None:
        self.page("migration.md")
