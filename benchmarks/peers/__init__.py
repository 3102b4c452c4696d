"""llmosd side by side with other supervisors, and with the floor under all of them, in one run on one machine."""
