"""The levers of the scheduler on what runs: one file a kind, all behind the interface of `actuator.py`."""
