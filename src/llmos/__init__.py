"""llmos: a process supervisor that is spoken to in words.

Importing the package loads nothing else: the clients come when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncClient", "Client"):
        from llmos import client

        return getattr(client, name)
    raise AttributeError(f"module 'llmos' has no attribute {name!r}")
