"""What the scheduler's trainer is made of; needs the extra `train`."""
