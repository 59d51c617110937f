"""``twistd fipsrelay``: options, and the service once this process has passed the gate. Imports nothing of TLS."""

from __future__ import annotations

import sys

from twisted.application.service import IService
from twisted.python import usage

from fipsrelay import launch
from fipsrelay.errors import FipsrelayError


class Options(usage.Options):
    """What stands behind ``fipsrelay`` on twistd's command line."""

    optParameters = [
        ["config", "c", None, "The configuration file."],
        [
            "handover",
            None,
            "",
            "A Unix socket to take the listening sockets from the relay that runs, and to give them on.",
        ],
    ]


def makeService(options: Options) -> IService:
    """Twisted asks for the service; a process that has not passed the gate begins again here and does not return."""
    try:
        proven = launch.proof(options["config"])
        # Only a process that has passed the gate may load what speaks TLS.
        from twisted.internet import reactor

        from fipsrelay import service

        return service.make(proven.config, proven.evidence, reactor, proven.path, proven.given, options["handover"])
    except FipsrelayError as error:
        sys.exit(launch.refuse(error))
