"""The machine as it is: what runs on it, what it has, and the levers that move it. Synchronous; llmosd calls it in threads."""
