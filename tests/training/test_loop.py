"""The loop: the same steps whether killed or not, alone or shared; what goes wrong is told."""

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn, optim
from torch.nn.functional import cross_entropy

from wsis.core.config import changed, seed_of
from wsis.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from wsis.core.types import Sample
from wsis.data.transforms import Augment
from wsis.training.loop import LoopOptions, TrainingData, batches, make_accelerator, order, train
from wsis.training.schedule import Schedule, learning_rate, make_optimizer

AUGMENT = Augment(crop=8, long_side=None)
PLAIN = Augment(crop=8, long_side=None, scale=(1, 1), scale_step=0, flip=0, color_probability=0)
SCHEDULE = Schedule(steps=14, batch_size=4, lr=0.01, new_lr=2.0, weight_decay=0.1, warmup=3, clip=1.0)


class Toy:
    """Random 8 x 8 images whose tags say which of two colours is the stronger."""

    classes = ("red", "green")

    def __init__(self, length=6):
        self.images = torch.randint(
            0, 256, (length, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        red, green = image[:2].float().mean((1, 2))
        return Sample(image=image, image_id=100 + index, tags=torch.stack((red >= green, red < green)))


class Network(nn.Module):
    """All that has state or chance: batch norm, dropout, a backbone of its own rate, an unread layer."""

    def __init__(self, regular=True):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8) if regular else nn.Identity()
        self.drop = nn.Dropout(0.3 if regular else 0.0)
        self.head = nn.Linear(8, 2)
        self.unread = nn.Linear(8, 1)

    def forward(self, images):
        return self.head(self.drop(self.norm(self.backbone(images)).relu().mean((2, 3))))


@pytest.fixture(scope="module")
def toy():
    return Toy()


def loss(model, batch, step):
    entropy = cross_entropy(model(batch.images), batch.tags.long().argmax(1))
    return {"entropy": entropy, "total": entropy}


def network(seed=1, regular=True):
    torch.manual_seed(seed)
    return Network(regular)


def plain(dataset):
    return TrainingData(dataset=dataset, augment=PLAIN)


def indices(dataset, *order_of):
    """The images of all steps, in order."""
    return [index for groups in order(plain(dataset), *order_of) for ((index, _, _),) in groups]


def run(options, toy, step_loss=loss, schedule=SCHEDULE, augment=AUGMENT, key="key", seed=1):
    return train("net", network(seed), step_loss, TrainingData(dataset=toy, augment=augment), schedule, options, key)


def killed_at(step):
    def broken(model, batch, now):
        if now == step:
            raise KeyboardInterrupt
        return loss(model, batch, now)

    return broken


def rows(folder, column="step"):
    with (folder / "net.csv").open() as file:
        return [row[column] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def uninterrupted(cpu, toy, tmp_path_factory):
    options = LoopOptions(
        accelerator=cpu, seed=7, folder=tmp_path_factory.mktemp("whole"), log_every=3, checkpoint_every=4
    )
    return run(options, toy).state_dict(), rows(options.folder, "total")


@pytest.mark.parametrize("step", [2, 4, 11])
def test_a_killed_run_resumes_bit_identically(options, toy, uninterrupted, step):
    with pytest.raises(KeyboardInterrupt):
        run(options, toy, killed_at(step))
    torch.manual_seed(99)
    seed = 1 if step < 4 else 2  # without a checkpoint the first weights are made again
    resumed = run(options, toy, seed=seed).state_dict()
    weights, totals = uninterrupted
    assert all(torch.equal(resumed[k], v) for k, v in weights.items())
    assert rows(options.folder) == [str(i) for i in range(SCHEDULE.steps)]
    assert rows(options.folder, "total") == totals


def test_rows_are_on_disk_before_the_checkpoint(options, toy):
    options = dataclasses.replace(options, log_every=100)
    with pytest.raises(KeyboardInterrupt):
        run(options, toy, killed_at(6))
    run(options, toy)
    assert rows(options.folder) == [str(i) for i in range(SCHEDULE.steps)]


def test_another_seed_is_another_run(options, toy, uninterrupted):
    other = run(dataclasses.replace(options, seed=8), toy).state_dict()
    assert not torch.equal(other["head.weight"], uninterrupted[0]["head.weight"])


def test_resume_false_starts_again(options, toy, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        run(options, toy, killed_at(6), schedule=changed(SCHEDULE, lr=1.0))
    again = run(dataclasses.replace(options, resume=False), toy).state_dict()
    assert all(torch.equal(again[k], v) for k, v in uninterrupted[0].items())


def test_a_checkpoint_of_another_key_is_refused(options, toy):
    with pytest.raises(KeyboardInterrupt):
        run(options, toy, killed_at(6))
    with pytest.raises(CheckpointError, match="other settings"):
        run(options, toy, key="another")


def test_workers_change_nothing(options, toy):
    def content(workers):
        loader = batches(
            TrainingData(dataset=toy, augment=AUGMENT), SCHEDULE, dataclasses.replace(options, workers=workers), start=5
        )
        return torch.cat([b.images for b in loader])

    assert torch.equal(content(0), content(1))


def test_training_learns_and_returns_the_model_in_eval_mode(options, toy):
    schedule = changed(SCHEDULE, steps=60, lr=0.02)
    model = run(options, toy, schedule=schedule, augment=PLAIN)
    assert not model.training
    totals = [float(t) for t in rows(options.folder, "total")]
    assert sum(totals[-10:]) < 0.6 * sum(totals[:10])


def test_nan_stops_with_step_images_and_term(options, toy):
    def bad(model, batch, step):
        terms = loss(model, batch, step)
        return {**terms, "offset": terms["entropy"].detach() * (float("nan") if step == 5 else 1)}

    ids = [100 + index for index in indices(toy, 4, options.seed, 5, 6)]
    with pytest.raises(TrainingError, match=r"offset=nan at step 5") as raised:
        run(options, toy, bad)
    assert str(ids) in str(raised.value)
    assert [p.name for p in options.folder.glob("*.safetensors")] == ["net-00000004.safetensors"]


def test_infinity_stops_before_it_is_saved(options, toy):
    def bad(model, batch, step):
        return {"total": loss(model, batch, step)["total"] + (float("inf") if step == 7 else 0)}

    with pytest.raises(TrainingError, match="total=inf at step 7"):
        run(options, toy, bad)
    assert [p.name for p in options.folder.glob("*.safetensors")] == ["net-00000004.safetensors"]


def test_no_loss_sees_the_truth(options, world):
    loader = batches(
        TrainingData(dataset=world, augment=Augment(crop=32, long_side=None)),
        changed(SCHEDULE, steps=1),
        options,
        start=0,
    )
    sample = loader.dataset[0, 0, 0]
    assert (sample.truth, sample.true_semantic) == (None, None)
    assert sample.points is not None


def test_an_empty_data_set(options):
    with pytest.raises(ConfigError, match="no images"):
        run(options, [])


def test_mixed_annotations_are_told(options, toy):
    class Mixed:
        classes = toy.classes

        def __len__(self):
            return len(toy)

        def __getitem__(self, index):
            return dataclasses.replace(toy[index], tags=toy[index].tags if index else None)

    with pytest.raises(DataError, match="image 100 has no tags"):
        run(options, Mixed())


# Order


def test_every_epoch_is_a_permutation():
    keys = indices(range(5), 2, 0, 0, 10)
    epochs = [keys[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(e) for e in epochs}) > 1


def test_order_does_not_depend_on_where_it_starts():
    data = plain(range(7))
    assert list(order(data, 4, 3, 0, 12))[5:] == list(order(data, 4, 3, 5, 12))


def test_companions_follow_their_image_and_stay_in_its_process(cpu, options):
    class OfTwo:
        device, process_index, num_processes = torch.device("cpu"), 1, 2

    data = TrainingData(dataset=Toy(), augment=PLAIN, companions=lambda i, seed: (i + 100, i + 200), group=3)
    (groups,) = order(data, 12, 0, 0, 1)
    assert [[key[0] for key in group] for group in groups] == [[g[0][0] + k for k in (0, 100, 200)] for g in groups]
    assert [key[2] for group in groups for key in group] == list(range(12))
    seconds = dataclasses.replace(options, accelerator=OfTwo())
    share = next(iter(batches(data, changed(SCHEDULE, batch_size=12), seconds, start=0).batch_sampler))
    (groups,) = order(data, 12, options.seed, 0, 1)
    assert share == groups[1] + groups[3]


def test_seeds_are_fixed_and_apart():
    assert seed_of(0, "a", 1) == 1497209822362405998
    assert len({seed_of(0, s, i) for s in "ab" for i in range(50)}) == 100


# Schedule


def test_poly():
    schedule = Schedule(steps=100, decay="poly")
    assert learning_rate(schedule, 0) == 1
    assert learning_rate(schedule, 50) == pytest.approx(0.5**0.9)
    assert learning_rate(schedule, 100) == 0


def test_steps():
    schedule = Schedule(steps=90, decay="step", milestones=(1 / 3, 2 / 3))
    factors = [learning_rate(schedule, s) for s in (0, 29, 30, 59, 60, 89)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_starts_after_the_warm_up():
    """As in MAL's release: half a period from the end of the warm-up to the floor."""
    schedule = Schedule(steps=110, decay="cosine", warmup=10, floor=0.2)
    assert [learning_rate(schedule, s) for s in (5, 10, 60, 110)] == pytest.approx([0.5005, 1, 0.6, 0.2])


def test_warm_up_is_linear_from_a_thousandth():
    schedule = Schedule(steps=100, decay="constant", warmup=10)
    assert learning_rate(schedule, 0) == pytest.approx(0.001)
    assert learning_rate(schedule, 5) == pytest.approx(0.5005)
    assert [learning_rate(schedule, s) for s in (10, 60)] == [1, 1]


@pytest.mark.parametrize("name, kind", [("sgd", optim.SGD), ("adam", optim.Adam), ("adamw", optim.AdamW)])
def test_new_layers_have_their_own_rate(name, kind):
    model = network()
    optimizer = make_optimizer(model, changed(SCHEDULE, optimizer=name, new_lr=10.0))
    assert type(optimizer) is kind
    backbone, new = optimizer.param_groups
    assert {id(p) for p in backbone["params"]} == {id(p) for p in model.backbone.parameters()}
    assert len(new["params"]) == 6
    assert (backbone["lr"], new["lr"]) == (0.01, pytest.approx(0.1))


class Blocks(nn.Module):
    """The names of a transformer with two blocks and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.backbone.cls_token = nn.Parameter(torch.zeros(1, 1, 2))
        self.head = nn.Linear(2, 2)


def test_rates_fall_by_layer():
    model = Blocks()
    groups = make_optimizer(model, changed(SCHEDULE, lr=1.0, new_lr=1.0, layer_decay=0.5)).param_groups
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    named = {
        "backbone.cls_token": 0.125,
        "backbone.blocks.0.weight": 0.25,
        "backbone.blocks.1.weight": 0.5,
        "head.weight": 1.0,
    }
    assert {n: rates[id(p)] for n, p in model.named_parameters() if n in named} == named


@pytest.mark.parametrize(("everything", "expected"), [(True, set()), (False, {"cls_token", "bias"})])
def test_what_weight_decay_spares(everything, expected):
    model = Blocks()
    schedule = changed(SCHEDULE, weight_decay=0.1, decay_all=everything)
    groups = make_optimizer(model, schedule).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert {n.split(".")[-1] for n, p in model.named_parameters() if decay[id(p)] == 0} == expected


def test_the_rate_of_each_step_is_logged(options, toy):
    run(options, toy)
    expected = [SCHEDULE.lr * learning_rate(SCHEDULE, s) for s in range(SCHEDULE.steps)]
    assert [float(v) for v in rows(options.folder, "lr")] == pytest.approx(expected, rel=1e-5)


def test_frozen_layers_are_left_out():
    model = network()
    model.backbone.requires_grad_(False)
    assert len(make_optimizer(model, SCHEDULE).param_groups) == 1


def test_devices():
    with pytest.raises(ConfigError, match="choose auto, cpu or cuda"):
        make_accelerator("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="sees no GPU"):
            make_accelerator("cuda")


def test_a_model_trained_in_bf16_is_in_fp32_afterwards(options, toy, monkeypatch):
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    mixed = dataclasses.replace(options, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    model, images = network(0, regular=False), torch.rand(2, 3, 8, 8)
    trained = train("net", model, loss, plain(toy), changed(SCHEDULE, steps=2), mixed, "key")
    again = network(0, regular=False).eval()
    again.load_state_dict(trained.state_dict())
    assert torch.equal(trained(images), again(images))


# Two processes

TWO = """
import sys
from pathlib import Path
from wsis.models.weights import save_weights
from wsis.core.config import changed
from wsis.training.loop import LoopOptions, TrainingData, make_accelerator, train
from tests.training.test_loop import PLAIN, SCHEDULE, Toy, loss, network

folder = Path(sys.argv[1])
accelerator = make_accelerator("cpu")
assert accelerator.num_processes == 2
options = LoopOptions(accelerator=accelerator, seed=7, folder=folder, log_every=3, checkpoint_every=4)
model = network(accelerator.process_index, regular=False)
model = train("net", model, loss, TrainingData(dataset=Toy(), augment=PLAIN), changed(SCHEDULE, steps=6), options, "key")
save_weights(folder / f"rank{accelerator.process_index}.safetensors", model)
"""


@pytest.mark.timeout(600)  # two processes on a busy machine
def test_two_processes_learn_what_one_learns(options, toy, tmp_path):
    script, shared = tmp_path / "two.py", tmp_path / "shared"
    script.write_text(TWO)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(shared)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *launch], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(shared / f"rank{r}.safetensors") for r in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
    alone = train("net", network(0, regular=False), loss, plain(toy), changed(SCHEDULE, steps=6), options, "key")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-5)
    assert not torch.equal(first["head.weight"], network(0, regular=False).head.weight)
    assert rows(shared) == [str(i) for i in range(6)]


def test_a_batch_that_cannot_be_shared(options, toy):
    class Three:
        process_index, num_processes = 0, 3

    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        batches(plain(toy), SCHEDULE, dataclasses.replace(options, accelerator=Three()), start=0)


def test_companions_are_chosen_as_steps_come(options):
    chosen = []

    def companions(index, seed):
        chosen.append(index)
        return (index,)

    data = TrainingData(dataset=Toy(), augment=PLAIN, companions=companions, group=2)
    next(iter(batches(data, SCHEDULE, options, start=0)))
    assert len(chosen) < SCHEDULE.steps * SCHEDULE.batch_size // 2


def test_a_mistake_met_in_a_worker_is_one_line(options):
    class Broken(Toy):
        def __getitem__(self, index):
            raise DataError(f"image {index}.jpg cannot be read")

    data = TrainingData(dataset=Broken(), augment=PLAIN)
    with pytest.raises(DataError, match=r"^image \d.jpg cannot be read$"):
        next(iter(batches(data, SCHEDULE, dataclasses.replace(options, workers=1), 0)))
