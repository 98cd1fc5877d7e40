"""The state of several trainings on a device: weights, gradients and moments, a row for each."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from llama_core.ahead import to_device
from llama_core.checkpoints.state import Tensors
from llama_core.config import AdamW, ModelConfig, TrainConfig
from llama_core.layers.attention import AttentionBackend
from llama_core.model import Llama
from llama_core.stacked.kernels import cross_entropy
from llama_core.stacked.model import StackedLlama
from llama_core.stacked.optim import StackedAdamW, clip


class Stack:
    """Trainings of one shape; each is known by its number, also after others have left.

    Attributes:
        members: numbers of the trainings, in the order of rows.
    """

    def __init__(
        self,
        model: ModelConfig,
        configs: Sequence[TrainConfig],
        attention: AttentionBackend,
        device: torch.device,
    ) -> None:
        self.members = list(range(len(configs)))
        self._configs, self._device = list(configs), device
        self._net = StackedLlama(model, attention, len(configs), device)
        self._optimizer = StackedAdamW(
            [cfg.optimizer for cfg in configs if isinstance(cfg.optimizer, AdamW)],
            *(self._net.weights, self._net.layout.matrices),
        )
        self._nats = torch.zeros(len(configs), device=device)

    def leave(self, member: int) -> None:
        """Forget a training."""
        rows = [row for row, number in enumerate(self.members) if number != member]
        self.members = [self.members[row] for row in rows]
        self._net.keep(rows)
        self._optimizer.keep(rows)
        self._nats = self._nats[rows]

    def add_gradients(self, parts: Sequence[Tensor], rows: int) -> None:
        """Add the gradients of some rows of tokens to those of every training.

        Args:
            parts: each training's rows, up to `rows` of them; fewer are filled up with copies
                that do not count.
        """
        count, cfg = len(parts), self._configs[0]
        t = cfg.seq_len
        ids = to_device(torch.stack([_filled(part, rows) for part in parts]), self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
            logits = self._net.forward(ids[:, :, :-1])
        flat = logits.flatten(0, 1)
        nats = cross_entropy(flat, ids[:, :, 1:].flatten()).view(count, rows, t)
        objective = nats
        if cfg.z_loss:
            normaliser = flat.float().logsumexp(dim=-1).square().view(count, rows, t)
            objective = nats + cfg.z_loss * normaliser
        share = [
            [float(row < own) / self._configs[member].batch_tokens for row in range(rows)]
            for member, own in zip(self.members, map(len, parts), strict=True)
        ]
        weight = torch.tensor(share).to(self._device).unsqueeze(2)
        self._net.backward((objective * weight).sum())
        self._nats += (nats.detach() * weight).sum((1, 2))

    def measure(self, members: Sequence[int]) -> list[tuple[float, float]]:
        """Loss and gradient norm of trainings whose batch is complete; clips their gradients."""
        rows = [self.members.index(member) for member in members]
        limits = [self._configs[member].clip_norm for member in members]
        gradients = self._net.gradients if len(rows) == len(self.members) else None
        own = self._net.gradients[rows] if gradients is None else gradients
        norms = clip(own, torch.tensor(limits).to(self._device))
        if gradients is None:
            self._net.gradients[rows] = own
        losses = self._nats[rows]
        self._nats[rows] = 0.0
        both: list[list[float]] = torch.stack((losses, norms)).T.tolist()
        return [(loss, norm) for loss, norm in both]

    def step(self, rates: Mapping[int, float]) -> None:
        """A step of the optimizer for each training with a learning rate."""
        by_row = [rates.get(member) for member in self.members]
        self._optimizer.step(self._net.weights, self._net.gradients, by_row)
        if len(rates) == len(self.members):
            self._net.gradients.zero_()
        else:
            self._net.gradients[[rate is not None for rate in by_row]] = 0.0

    def state(self, member: int) -> Tensors:
        """A copy of a training's state, as `llama_core.checkpoints.state.capture` names it."""
        return {name: tensor.clone() for name, tensor in self._state(member)}

    def load(self, member: int, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` copied, or what a checkpoint holds, in place."""
        for name, tensor in self._state(member):
            tensor.copy_(tensors[name])
        first = next(iter(self._net.layout.places))
        self._optimizer.steps[self.members.index(member)] = int(tensors[f"step.{first}"])

    @torch.no_grad()
    def start(self, member: int, net: Llama) -> None:
        """Give a training the weights of a model."""
        for name, weight in self._weights(member):
            weight.copy_(net.get_parameter(name))

    @torch.no_grad()
    def write(self, member: int, net: Llama) -> None:
        """Write a training's weights into a model."""
        for name, weight in self._weights(member):
            net.get_parameter(name).copy_(weight)

    def _weights(self, member: int) -> Iterator[tuple[str, Tensor]]:
        row = self.members.index(member)
        return self._net.layout.views(self._net.weights[row])

    def _state(self, member: int) -> Iterator[tuple[str, Tensor]]:
        row, layout = self.members.index(member), self._net.layout
        averages = dict(layout.views(self._optimizer.exp_avg[row]))
        squares = dict(layout.views(self._optimizer.exp_avg_sq[row]))
        steps = torch.tensor(float(self._optimizer.steps[row]), device=self._device)
        for name, weight in layout.views(self._net.weights[row]):
            yield f"weight.{name}", weight
            yield f"step.{name}", steps
            yield f"exp_avg.{name}", averages[name]
            yield f"exp_avg_sq.{name}", squares[name]


def _filled(part: Tensor, rows: int) -> Tensor:
    """A batch's part with as many rows, the last ones copies of its first."""
    missing = rows - len(part)
    return torch.cat((part, part[:1].expand(missing, -1))) if missing else part
