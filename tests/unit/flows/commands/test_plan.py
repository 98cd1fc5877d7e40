"""The options of a plan say which slots it is made for."""

import pytest

from flows.commands.limits import UNLIMITED, Limits
from flows.commands.plan import as_given, needs_a_gpu, plan, planned_slots
from sweeps.load import load_spec

H100 = Limits(gpu="h100")


def spec_of(*settings):
    return load_spec("smoke", settings)


def test_devices_are_shared_out_to_trainings_by_their_ranks():
    assert len(planned_slots(spec_of(), None, 8, H100)) == 8
    assert len(planned_slots(spec_of("placement.ranks=4"), None, 8, H100)) == 2
    assert len(planned_slots(spec_of("placement.ranks=3"), None, 8, H100)) == 2


def test_without_devices_a_gpu_has_the_given_slots_or_the_specs_or_one():
    assert planned_slots(spec_of(), 3, None, H100) == [{}] * 3
    assert planned_slots(spec_of("slots=5"), None, None, H100) == [{}] * 5
    assert planned_slots(spec_of("slots=null"), None, None, H100) == [{}]


@pytest.mark.parametrize(
    ("settings", "slots", "devices", "limits", "words"),
    [
        ((), 0, None, UNLIMITED, "--slots 0 is less than one"),
        ((), 0, None, H100, "--slots 0 is less than one"),
        ((), None, 0, H100, "--devices 0 is less than one"),
        (
            ("placement.ranks=4",),
            None,
            3,
            H100,
            r"--devices 3 is less than the 4 .*placement.ranks",
        ),
        ((), 2, 2, H100, "--devices and --slots were given"),
        ((), None, 8, UNLIMITED, "name them, as --gpu h100"),
    ],
)
def test_slots_that_cannot_be_are_refused(settings, slots, devices, limits, words):
    with pytest.raises(ValueError, match=words):
        planned_slots(spec_of(*settings), slots, devices, limits)


def test_a_spec_for_cuda_needs_a_gpu_only_where_there_is_none(monkeypatch):
    cuda = spec_of("placement.device=cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert needs_a_gpu(cuda)
    assert not needs_a_gpu(spec_of("placement.device=auto"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not needs_a_gpu(cuda)


def test_timing_this_machine_again_is_refused_for_another_gpu(capsys):
    with pytest.raises(SystemExit):
        plan("smoke", retime=True, limits=H100)
    assert "--retime times this machine, and the plan is for --gpu h100" in capsys.readouterr().err


def test_the_words_that_named_a_spec_are_quoted_for_a_shell():
    assert as_given("demo", (), None) == "demo"
    given = as_given("my spec.yaml", ("grid.budgets=[1e12, 2e12]",), "text.jsonl")
    assert given == "'my spec.yaml' --set 'grid.budgets=[1e12, 2e12]' --corpus text.jsonl"
