"""Fuzz targets: bytes in, assertions out. ``guided`` runs one of them, ``python -m tests.fuzz`` all for long."""
