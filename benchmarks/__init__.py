"""Benchmarks: each figure of the README is one of these, measured against a bare counterpart in the same run."""
