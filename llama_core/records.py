"""The records that the training loop yields: plain frozen data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step.

    Attributes:
        step: optimizer steps done on this path, counted from the start of the trunk.
        tokens: training tokens seen on this path, step · batch_tokens.
        horizon: None on the trunk; on a cooldown branch the token budget it ends at.
        loss: mean training loss of the step's batch, nats per token, without z-loss.
        lr: learning rate used.
        grad_norm: global gradient norm before clipping.
        tokens_per_s: throughput of this step.
        mfu: counted FLOP/s over the device's dense peak; None where the peak is unknown.
        memory_gib: peak device memory (CUDA) or resident set (CPU) so far.
        at: Unix time at which the step ended, seconds.
    """

    step: int
    tokens: int
    horizon: int | None
    loss: float
    lr: float
    grad_norm: float
    tokens_per_s: float
    mfu: float | None
    memory_gib: float
    at: float


@dataclass(frozen=True, slots=True)
class SourceLoss:
    """Loss on one source's part of the fixed validation set.

    Attributes:
        name: the source's.
        share: its share of the training tokens.
        val_tokens: tokens of the validation set that are its own. The pooled loss is the mean of
            the sources' losses with these as weights.
        loss: nats per token; None where the validation set has nothing of it.
        bpb: bits per byte; None where the bytes are unknown too.
    """

    name: str
    share: float
    val_tokens: int
    loss: float | None
    bpb: float | None


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """Loss on the fixed validation set at the end of a horizon.

    Attributes:
        horizon: the token budget just finished; one observation of the law.
        val_loss: nats per token.
        val_bpb: bits per byte of the validation text, the nats of begin and end tokens included;
            None where the bytes are unknown.
        weights_sha256: hash of the weights evaluated.
        sources: the loss of each source; empty of a corpus of one source, whose loss is `val_loss`.
    """

    step: int
    tokens: int
    horizon: int
    val_loss: float
    val_bpb: float | None
    weights_sha256: str
    at: float
    sources: tuple[SourceLoss, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint is durable: every record before this one survives a crash."""

    step: int
    tokens: int
    horizon: int | None
    path: str
    at: float


@dataclass(frozen=True, slots=True)
class ResumeRecord:
    """First record of a resumed run. Records yielded after the checkpoint named are void.

    Attributes:
        step: steps done on this path, counted from the start of the trunk.
        steps_taken: optimizer steps taken in all, branches included.
        checkpoint: name of the checkpoint resumed from; a listener keeps exactly the records it
            received up to that checkpoint's CheckpointRecord.
        skipped: names of newer checkpoints that are damaged, each with the reason.
    """

    step: int
    steps_taken: int
    horizon: int | None
    checkpoint: str
    skipped: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class DivergedRecord:
    """The loss became non-finite or exploded; the last good checkpoint is kept."""

    step: int
    tokens: int
    horizon: int | None
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class StoppedRecord:
    """The caller asked training to stop; it resumes from the checkpoint of this step."""

    step: int
    tokens: int
    horizon: int | None
    at: float


Record = StepRecord | EvalRecord | CheckpointRecord | ResumeRecord | DivergedRecord | StoppedRecord
