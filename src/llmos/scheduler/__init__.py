"""The scheduler: who gets how much of the machine. For now a fixed boost for what a person favours."""
