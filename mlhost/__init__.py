"""mlhost: from a Python variable to an authenticated, versioned REST service, in one small server."""

__version__ = "0.1.0"
