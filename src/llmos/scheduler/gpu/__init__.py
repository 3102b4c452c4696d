"""Cards: who is given which, who waits for one and in what order, and how that does in a replay of recorded pods."""
