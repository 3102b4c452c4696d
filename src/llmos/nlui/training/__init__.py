"""Fine-tuning a model for turning requests into plans: a low-rank adapter on every linear layer of the GGUF that is
served, trained on CPU or CUDA, exported as a GGUF adapter or merged into the model. Needs the extra `train`."""
