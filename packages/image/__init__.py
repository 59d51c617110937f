"""The container image's root: the packages' runtime on Debian's glibc, without a shell or a package manager.

``python -m packages.image ROOT`` puts it together without a container engine; the Dockerfile does nothing else.
"""
