"""Words to plans: models, the worker that hosts one, and the grammar that bounds it."""
