"""Checkpoints hold all state without pickle; a broken or foreign one is refused with advice."""

import errno
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from wsis.core.errors import CheckpointError, DiskSpaceError
from wsis.models.weights import save_weights
from wsis.training import checkpoint

PACKAGE = Path(checkpoint.__file__).parents[1]


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
}


def trained(kind, steps=2, seed=0):
    torch.manual_seed(seed)
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def tensors(state):
    """All tensors of nested state, by name."""
    if isinstance(state, torch.Tensor):
        return [state]
    children = [state[k] for k in sorted(state)] if isinstance(state, dict) else []
    return [t for child in children for t in tensors(child)]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_comes_back_exactly(tmp_path, kind):
    saved, fresh = trained(kind), trained(kind, steps=0, seed=1)
    checkpoint.save(tmp_path, "net", 2, *saved, key="k")
    (path,) = checkpoint.checkpoints(tmp_path, "net")
    assert checkpoint.restore(path, *fresh, key="k") == 2
    for a, b in zip(saved, fresh, strict=True):
        pairs = list(zip(tensors(a.state_dict()), tensors(b.state_dict()), strict=True))
        assert all(torch.equal(x, y) for x, y in pairs)


def test_two_newest_are_kept(tmp_path):
    state = trained("sgd")
    for step in (4, 8, 12):
        checkpoint.save(tmp_path, "net", step, *state, key="k")
    checkpoint.save(tmp_path, "net2", 1, *state, key="k")
    names = [p.name for p in checkpoint.checkpoints(tmp_path, "net")]
    assert names == ["net-00000008.safetensors", "net-00000012.safetensors"]


def test_truncated_is_refused_with_the_last_good_one(tmp_path):
    state = trained("sgd")
    for step in (4, 8):
        checkpoint.save(tmp_path, "net", step, *state, key="k")
    old, new = checkpoint.checkpoints(tmp_path, "net")
    new.write_bytes(new.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"delete it to resume from {old.name}"):
        checkpoint.restore(new, *state, key="k")
    old.unlink()
    with pytest.raises(CheckpointError, match="delete it to start again"):
        checkpoint.restore(new, *state, key="k")


def test_another_run_is_refused(tmp_path):
    state = trained("sgd")
    checkpoint.save(tmp_path, "net", 4, *state, key="mine")
    with pytest.raises(CheckpointError, match="other settings, data or seed"):
        checkpoint.restore(checkpoint.checkpoints(tmp_path, "net")[0], *state, key="theirs")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    state = trained("sgd")
    checkpoint.save(tmp_path, "net", 4, *state, key="k")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskSpaceError):
        checkpoint.save(tmp_path, "net", 8, *state, key="k")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["net-00000004.safetensors"]
    assert checkpoint.restore(checkpoint.checkpoints(tmp_path, "net")[0], *state, key="k") == 4


def test_weights_in_half_precision(tmp_path):
    model = network()
    save_weights(tmp_path / "w.safetensors", model, half=True)
    stored = load_file(tmp_path / "w.safetensors")
    assert stored["0.weight"].dtype == torch.float16
    assert stored["1.num_batches_tracked"].dtype == torch.int64
    assert set(stored) == set(model.state_dict())


def test_the_package_runs_no_code_from_files():
    words = r"torch\.save\b|import pickle|pickle\.load|allow_pickle=True|load_from_checkpoint"
    unsafe = re.compile(r"torch\.load\b(?!\(.*weights_only=True)|" + words)
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    assert [f"{f.name}: {m.group()}" for f in files for m in unsafe.finditer(f.read_text())] == []
