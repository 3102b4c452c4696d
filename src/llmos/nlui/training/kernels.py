"""Differentiable steps of the network, written so that few passes over memory are made besides the matrix products.

On a CPU these products run near the machine's peak; what a general implementation adds around them (a dropout mask as
wide as the input, scaled copies of the adapter's output, casts kept for the backward pass) costs about as much again.
"""

from typing import Any

import torch
from torch.nn import functional


class _AdaptedLinear(torch.autograd.Function):
    """x W' + b + (x D') U', with W and b frozen; rows of x are tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        dropout: float,
    ) -> torch.Tensor:
        inner, keep = x @ down.T, None
        if dropout:
            keep = torch.empty_like(inner).bernoulli_(1 - dropout).div_(1 - dropout)
            inner = inner.mul_(keep)
        result = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
        result.addmm_(inner, up.T)
        ctx.save_for_backward(x, weight, down, up, inner, keep)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, down, up, inner, keep = ctx.saved_tensors
        inner_gradient = gradient @ up
        if keep is not None:
            inner_gradient.mul_(keep)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (gradient @ weight).addmm_(inner_gradient, down)
        return x_gradient, None, None, inner_gradient.T @ x, gradient.T @ inner, None


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * w in float32, with w frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
        scale = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        gradient, unit = gradient * weight, x * scale
        along = (gradient * unit).mean(-1, keepdim=True)
        return gradient.sub_(unit.mul_(along)).mul_(scale), None, None, None


class _Gated(torch.autograd.Function):
    """silu(gate) * value, of a matrix that holds gate and value side by side."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both)
        gate, value = both.chunk(2, dim=-1)
        return functional.silu(gate).mul_(value)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (both,) = ctx.saved_tensors
        gate, value = both.chunk(2, dim=-1)
        result = torch.empty_like(both)
        gate_gradient, value_gradient = result.chunk(2, dim=-1)
        torch.mul(gradient, functional.silu(gate), out=value_gradient)
        gate_gradient.copy_(torch.ops.aten.silu_backward(gradient * value, gate))
        return result


def adapted_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    dropout: float = 0.0,
) -> torch.Tensor:
    """A frozen linear layer with a low-rank adapter (LoRA, https://arxiv.org/abs/2106.09685).

    Dropout falls on the adapter's inner values, which are few, rather than on its input.

    Args:
        x: (tokens, columns). weight: (rows, columns). bias: (rows,). down: (rank, columns). up: (rows, rank), scaled.
    """
    return _AdaptedLinear.apply(x, weight, bias, down, up, dropout)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
    """Root-mean-square norm (https://arxiv.org/abs/1910.07467) of float32 rows, given back as `dtype`."""
    return _RmsNorm.apply(x, weight, epsilon, dtype)


def gated(both: torch.Tensor) -> torch.Tensor:
    """SwiGLU (https://arxiv.org/abs/2002.05202) of (tokens, 2 * hidden): silu of the first half times the second."""
    return _Gated.apply(both)
