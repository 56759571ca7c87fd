"""Fixtures of the conformance tests."""

from tests.support.third_party_install import dirstore_site

__all__ = ["dirstore_site"]
