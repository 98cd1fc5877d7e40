"""The weights of a finished horizon, read back with model, tokenizer and plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.plans.find import find_run
from flows.runs.directory import RunDir
from flows.settings import Home
from llama_core.corpus.prepared import PreparedCorpus, find_corpus
from sweeps.spec import PlannedRun

if TYPE_CHECKING:
    from llama_core.layers.attention import AttentionBackend
    from llama_core.model import Llama


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights of one horizon of a run, with what their use needs.

    Attributes:
        tokens: the horizon.
    """

    run: RunDir
    planned: PlannedRun
    corpus: PreparedCorpus
    tokens: int
    weights_path: Path

    def load(self, attention: "AttentionBackend" = "sdpa") -> "tuple[Llama, str]":
        """The model and its weights' hash, checked against the one recorded with the loss.

        Raises:
            ValueError: the file is damaged or was changed.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from llama_core.checkpoints.state import tensors_sha256
        from llama_core.model import Llama

        net = Llama(self.planned.run.model, attention=attention)
        try:
            net.load_state_dict(load_file(self.weights_path))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{self.weights_path} cannot be read: {error}") from error
        digest = tensors_sha256(dict(net.named_parameters()))
        recorded = self.run.curve.evals().get(self.tokens, {}).get("weights_sha256", digest)
        if digest != recorded:
            raise ValueError(
                f"{self.weights_path} was changed: SHA-256 of its weights is {digest}, and the "
                f"training recorded {recorded}. Move {self.run.path} away and call "
                f"`isoflop sweep {self.planned.sweep}` to train it again."
            )
        return net, digest


def find_trained(reference: str, horizon: int | None, home: Home) -> Trained:
    """A finished horizon of the run with an id, the beginning of one, or a name.

    Args:
        horizon: a token budget; None: the largest finished one.

    Raises:
        ValueError: no such run, or no such horizon of it.
    """
    run = find_run(reference, home)
    planned = run.planned()
    corpus = find_corpus(home.root, planned.run.data.digest)
    finished = {
        int(path.stem.removeprefix("final_")): path for path in run.path.glob("final_*.safetensors")
    }
    if not finished:
        raise ValueError(f"run {run.id} has no finished horizon yet.")
    chosen = max(finished) if horizon is None else horizon
    if chosen not in finished:
        listed = ", ".join(map(str, sorted(finished)))
        raise ValueError(f"run {run.id} has no horizon of {chosen} tokens; it has {listed}.")
    return Trained(run, planned, corpus, chosen, finished[chosen])
