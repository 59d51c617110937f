"""A FIPS 140 TLS relay for the plaintext traffic of an observability agent."""

__version__ = "0.1.0"
