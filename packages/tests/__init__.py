"""What is true of the built packages. Slow, and as root: ``make test-packages``."""
