"""What the scheduler's trainers are made of."""
