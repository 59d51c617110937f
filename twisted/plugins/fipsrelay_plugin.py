"""Makes ``twistd fipsrelay`` known. Twisted finds this file by its place; it must import nothing of TLS."""

from twisted.application.service import ServiceMaker

fipsrelay = ServiceMaker(
    "fipsrelay",
    "fipsrelay.tap",
    "A FIPS 140 TLS relay for the plaintext traffic of an observability agent.",
    "fipsrelay",
)
