"""llmos: a process supervisor that is spoken to in words."""

__version__ = "0.1.0"
