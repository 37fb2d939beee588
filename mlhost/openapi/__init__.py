"""API documents: those of single services, and the two of the server itself; pure functions on plain data."""

from mlhost.openapi.service import service_document

__all__ = ["service_document"]
