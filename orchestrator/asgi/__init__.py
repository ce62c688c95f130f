"""Alive while migrating: a gate before any ASGI application."""

from orchestrator.asgi.gate import Gate

__all__ = ["Gate"]
