"""Which version this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("glom-apm")
except PackageNotFoundError:  # a checkout on the path, not installed
    VERSION = "0+unknown"
