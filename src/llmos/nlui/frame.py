"""The frame a request stands in for a model that was trained for this job: two control tokens and nothing else.

    <|im_start|>REQUEST<|im_end|>PLAN<|im_end|>

The trainer and the model worker both take it from here, since an adapter is worth nothing in another frame. `OPENING`
is the same for every request, so it stays in the KV cache; every token more would cost time at each request and each
training step. A model without an adapter gets the few-shot prompt of `llmos.nlui.prompt` instead.
"""

OPENING = "<|im_start|>"
CLOSING = "<|im_end|>"
END = "<|im_end|>"
"""What the model writes after the last line of a plan."""
