"""llmos: a process supervisor that is spoken to in words.

Importing the package loads nothing else: the clients come when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.async_client import AsyncClient
    from llmos.client import Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from llmos.client import Client

        return Client
    if name == "AsyncClient":
        from llmos.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(f"module 'llmos' has no attribute {name!r}")
