"""Training data of the language model: requests in English and Chinese with their canonical plans, made from a seed."""
