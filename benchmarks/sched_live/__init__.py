"""The scheduler with real processes: jobs that come by chance, by several arms, and how long people wait."""
