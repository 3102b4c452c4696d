"""The runtime: it carries plans out on real processes and supervises jobs."""
