"""AdamW with decay on matrices only, and Muon with it as a partner."""

import inspect
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from llama_core.config import AdamW, Muon, Optimizer
from llama_core.model import Llama, stacked_rows

AnyOptimizer: TypeAlias = "torch.optim.AdamW | MuonWithAdamW"


def optimizer_of(net: Llama, cfg: Optimizer) -> AnyOptimizer:
    """The optimizer of a recipe. The caller sets `lr` of each group before every step.

    Tied weights appear once. Its `state` has every weight from the start.
    """
    return adamw(net, cfg) if isinstance(cfg, AdamW) else MuonWithAdamW(net, cfg)


def adamw(model: nn.Module, cfg: AdamW) -> torch.optim.AdamW:
    """Fused AdamW over two groups: matrices decay, norms and biases do not."""
    return _adamw([weight for weight in model.parameters() if weight.requires_grad], cfg)


def _adamw(weights: list[nn.Parameter], cfg: AdamW | Muon) -> torch.optim.AdamW:
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = _AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=cfg.eps, fused=True)
    for weight in weights:
        # torch would create this state at the first step; a copy taken before needs it too.
        optimizer.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer


class MuonWithAdamW:
    """torch's Muon on the matrices of the layers, AdamW on embeddings, output layer and vectors.

    Matrices that are stacked in one weight (queries, keys and values; gate and up) are
    orthogonalised one by one: Muon steps views of the weight.

    Attributes:
        param_groups: of both.
        state: moments and momenta of the model's weights, as torch's optimizers hold them.
    """

    def __init__(self, net: Llama, cfg: Muon) -> None:
        hidden = {
            name: weight
            for name, weight in net.layers.named_parameters(prefix="layers")
            if weight.ndim == 2
        }
        others = [weight for name, weight in net.named_parameters() if name not in hidden]
        self._adamw = _adamw(others, cfg)
        self._views: list[tuple[nn.Parameter, tuple[Tensor, ...]]] = []
        self.state: dict[Tensor, dict[str, Tensor]] = dict(self._adamw.state)
        momenta: dict[Tensor, Tensor] = {}
        for name, weight in hidden.items():
            rows = stacked_rows(net.config, name) or [len(weight)]
            views = torch.split(weight.detach(), rows)
            self._views.append((weight, views))
            momentum = torch.zeros_like(weight, requires_grad=False)
            self.state[weight] = {"momentum_buffer": momentum}
            momenta |= zip(views, torch.split(momentum, rows), strict=True)
        self._muon = _Muon(
            list(momenta),
            lr=cfg.lr,
            momentum=cfg.momentum,
            weight_decay=cfg.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        for view, momentum in momenta.items():
            self._muon.state[view] = {"momentum_buffer": momentum}
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]

    def step(self) -> None:
        """Update all weights from their gradients."""
        for weight, views in self._views:
            assert weight.grad is not None
            gradients = torch.split(weight.grad, [len(view) for view in views])
            for view, gradient in zip(views, gradients, strict=True):
                view.grad = gradient
        self._muon.step()
        for _, views in self._views:
            for view in views:
                view.grad = None  # else the weights' gradients would outlive `zero_grad`
        self._adamw.step()


_add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
_adamw_step = inspect.unwrap(torch.optim.AdamW.step)
_muon_step = inspect.unwrap(torch.optim.Muon.step)


class _AdamW(torch.optim.AdamW):
    """torch's AdamW without the wrappers that exclude it from compilation.

    They import torch's whole compiler, which takes longer than a short training. A step that is
    not compiled does not need them.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        _adamw_step(self)


class _Muon(torch.optim.Muon):
    """torch's Muon without those wrappers."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        _muon_step(self)
