"""Promptable models with tiny random weights: prompts reach the network and masks come back where they belong."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from book import pages
from wsis.__main__ import main
from wsis.baselines import promptable
from wsis.baselines.promptable import MODELS, PROMPTS_AT_ONCE, build, load_run, pseudo_labels
from wsis.core.config import changed
from wsis.core.errors import ConfigError, WeightsError
from wsis.core.types import ExtremePoints, Points, Sample
from wsis.data.coco import write_dataset
from wsis.data.transforms import collate
from wsis.data.world import World, WorldConfig
from wsis.experiments.runner import run_table
from wsis.experiments.table import Row
from wsis.experiments.tables import find

SIDE, HEIGHT, WIDTH = 64, 40, 80  # of the network's input, and of an image
DECODER = {
    "hidden_size": 16,
    "mlp_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
}
PROMPTS = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
GRIDS = [[16, 16], [8, 8], [4, 4]]
VIT = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16, "window_size": 2}
VIT |= {"hidden_size": 16, "global_attn_indexes": [0]}
HIERA = {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 24, 32], "global_attention_blocks": [3]}
HIERA |= {"num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [4, 2, 2, 2], "hidden_size": 8}
HIERA |= {"image_size": [SIDE, SIDE], "window_positional_embedding_background_size": [4, 4]}
HIERA["model_type"] = "sam2_hiera_det_model"
VISION = {
    "sam": VIT | {"output_channels": 16, "num_pos_feats": 8},
    "sam2": {"backbone_config": HIERA, "backbone_channel_list": [32, 24, 16, 8]},
    "sam3": {
        "backbone_config": VIT | {"model_type": "sam3_vit_model", "intermediate_size": 16, "pretrain_image_size": 32}
    },
}
SQUARE = {"height": SIDE, "width": SIDE}
PREPARED = {
    "sam": ("SamImageProcessor", {"size": {"longest_edge": SIDE}, "pad_size": SQUARE}),
    "sam2": ("Sam2ImageProcessor", {"size": SQUARE}),
    "sam3": ("Sam3ImageProcessor", {"size": SQUARE}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with a checkpoint of each model, as a download leaves it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, (network, processor, _) in MODELS.items():
        vision = (
            VISION[name] if name == "sam" else VISION[name] | {"fpn_hidden_size": 16, "backbone_feature_sizes": GRIDS}
        )
        config = getattr(transformers, network).config_class(
            vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER
        )
        torch.manual_seed(1)
        built = getattr(transformers, network)(config)
        for parameter in built.parameters():  # SAM's own first weights are nearly zero
            torch.nn.init.normal_(parameter, std=0.3)
        built.save_pretrained(folder / name)
        images, options = PREPARED[name]
        getattr(transformers, processor)(getattr(transformers, images)(**options)).save_pretrained(folder / name)
    return folder


def settings(checkpoints, name, prompt="point"):
    return changed(promptable.FULL, model=name, checkpoint=str(checkpoints / name), prompt=prompt)


def sample(count, image_id=1):
    """An image with a click and four clicks on each of some objects."""
    random = torch.Generator().manual_seed(count)
    xy = (torch.rand(count, 2, generator=random) * torch.tensor([60, 20]) + 10).floor()
    reach = torch.tensor([[0, -6], [-8, 0], [0, 6], [8, 0]])
    labels, ids = torch.arange(count) % 2, torch.arange(count) + 7
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=random)
    extreme = ExtremePoints(xy=xy[:, None] + reach, labels=labels, ids=ids)
    return Sample(image=image, image_id=image_id, points=Points.make(xy, labels, ids=ids), extreme_points=extreme)


@every_model
@pytest.mark.parametrize("prompt", ["point", "extreme_points", "extreme_box", "box"])
def test_every_prompt_has_its_mask_at_the_size_of_the_image(checkpoints, name, prompt):
    cfg, given = settings(checkpoints, name, prompt), sample(5)
    (found,) = pseudo_labels(build(cfg), collate([given]), cfg)
    assert len(found) == 5 and found.runs.size == (HEIGHT, WIDTH)
    assert torch.equal(found.ids, given.points.ids) and torch.equal(found.labels, given.points.labels)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    if prompt == "point":
        xy = given.points.xy.long()
        assert found.masks[torch.arange(5), xy[:, 1], xy[:, 0]].all()


@every_model
def test_a_click_reaches_the_input_of_the_network_at_its_pixel(checkpoints, name):
    cfg, given = settings(checkpoints, name), sample(3)
    model, seen = build(cfg), {}
    model.network.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    pseudo_labels(model, collate([given]), cfg)
    scale = SIDE / max(HEIGHT, WIDTH) if name == "sam" else torch.tensor([SIDE / WIDTH, SIDE / HEIGHT])
    torch.testing.assert_close(seen["input_points"], ((given.points.xy + 0.5) * scale)[None, :, None])
    assert seen["multimask_output"]


@every_model
def test_extreme_points_are_four_points_or_the_box_that_they_span(checkpoints, name):
    given, seen = sample(2), {}
    scale = torch.ones(2) * SIDE / WIDTH if name == "sam" else torch.tensor([SIDE / WIDTH, SIDE / HEIGHT])
    expected = {
        "extreme_points": ("input_points", (given.extreme_points.xy + 0.5) * scale),
        "extreme_box": ("input_boxes", given.extreme_points.boxes * scale.repeat(2)),
    }
    for prompt, (key, values) in expected.items():
        cfg = settings(checkpoints, name, prompt)
        model = build(cfg)
        seen.clear()
        model.network.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
        pseudo_labels(model, collate([given]), cfg)
        torch.testing.assert_close(seen[key][0], values)
        assert not seen["multimask_output"] and len({"input_points", "input_boxes"} & seen.keys()) == 1


@every_model
def test_a_mask_lies_in_the_image_where_the_network_draws_it(checkpoints, name):
    cfg, given = settings(checkpoints, name), sample(4)
    model = build(cfg)

    def disc(module, args, kwargs, output):
        """Masks on the network's grid: a disc about each point of its input, the best of the three."""
        cells = (torch.arange(16) + 0.5) * SIDE / 16
        grid = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1)
        points = kwargs["input_points"][0]  # [k, 1, 2]
        output.pred_masks = torch.full((1, len(points), 3, 16, 16), -1.0)
        output.pred_masks[0, :, 1] = 10 - (grid - points[:, :, None]).norm(dim=-1)
        output.iou_scores = torch.tensor([0.2, 0.9, 1.0e-3]).expand(1, len(points), 3)
        return output

    model.network.register_forward_hook(disc, with_kwargs=True)
    (found,) = pseudo_labels(model, collate([given]), cfg)
    for mask, (x, y) in zip(found.masks, given.points.xy, strict=True):
        rows, columns = mask.nonzero().float().unbind(1)
        middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        if 14 < x < 65 and 10 < y < 30:  # discs that no border cuts
            assert abs(middle[0] - x) <= 1.5 and abs(middle[1] - y) <= 1.5
        assert mask[int(y), int(x)]
    torch.testing.assert_close(found.scores, torch.full((4,), 0.9))


@every_model
def test_many_prompts_are_decoded_in_turns_of_one_embedding(checkpoints, name, monkeypatch):
    cfg, given, calls = settings(checkpoints, name), sample(5), []
    model = build(cfg)
    monkeypatch.setattr(promptable, "PROMPTS_AT_ONCE", 2)
    embed = model.network.get_image_embeddings
    monkeypatch.setattr(model.network, "get_image_embeddings", lambda pixels: (calls.append("image"), embed(pixels))[1])
    model.network.register_forward_pre_hook(lambda *_: calls.append("prompts"))
    (in_turns,) = pseudo_labels(model, collate([given]), cfg)
    assert calls == ["image", "prompts", "prompts", "prompts"] and PROMPTS_AT_ONCE > 5
    monkeypatch.setattr(promptable, "PROMPTS_AT_ONCE", 5)
    (at_once,) = pseudo_labels(model, collate([given]), cfg)
    assert in_turns.runs.entries == at_once.runs.entries
    torch.testing.assert_close(in_turns.scores, at_once.scores)


def test_images_of_a_batch_are_labeled_as_alone(checkpoints):
    cfg, images = settings(checkpoints, "sam2"), [sample(2), sample(3, 2), sample(0, 3)]
    model = build(cfg)
    together = pseudo_labels(model, collate(images), cfg)
    alone = [pseudo_labels(model, collate([image]), cfg)[0] for image in images]
    assert [len(found) for found in together] == [2, 3, 0]
    assert [found.runs.entries for found in together] == [found.runs.entries for found in alone]


def test_a_checkpoint_that_is_not_here_says_what_to_download(tmp_path):
    for name in MODELS:
        with pytest.raises(WeightsError, match=rf"model\.safetensors .* {name}:FOLDER"):
            load_run(f"{name}:{tmp_path}")


@pytest.mark.parametrize("other", ["sam2", "sam3"])
def test_a_checkpoint_of_another_model_is_refused(checkpoints, other):
    with pytest.raises(WeightsError, match="SamModel"):
        build(changed(promptable.FULL, checkpoint=str(checkpoints / other)))


def test_published_files_of_sam3_hold_the_tracker_beside_a_detector(checkpoints, tmp_path):
    """One file and one configuration for both, in which the tracker has the backbone of the detector."""
    shutil.copytree(checkpoints / "sam3", tmp_path / "sam3")
    path, config = tmp_path / "sam3" / "model.safetensors", tmp_path / "sam3" / "config.json"
    weights = {"detector_model.other": torch.ones(1)}
    for key, value in load_file(path).items():  # transformers writes all of them below tracker_model
        inner = key.removeprefix("tracker_model.")
        weights[inner if inner.startswith(("detector_model.vision_encoder.", "tracker_neck.")) else key] = value
    parts = {".".join(key.split(".")[:2]) for key in weights}
    assert {"detector_model.vision_encoder", "tracker_neck.fpn_layers", "tracker_model.mask_decoder"} <= parts
    save_file(weights, path, {"format": "pt"})
    config.write_text(json.dumps({"model_type": "sam3_video", "tracker_config": json.loads(config.read_text())}))
    cfg, batch = settings(checkpoints, "sam3"), collate([sample(3)])
    found, expected = (pseudo_labels(build(c), batch, c)[0] for c in (changed(cfg, checkpoint=str(path.parent)), cfg))
    assert found.runs.entries == expected.runs.entries and torch.equal(found.scores, expected.scores)


def test_a_run_folder_is_none_of_them(tmp_path):
    assert load_run(str(tmp_path)) is None
    with pytest.raises(ConfigError, match="sam2 needs its checkpoint: write sam2:FOLDER"):
        load_run("sam2")
    with pytest.raises(ConfigError, match="--prompt is for sam, sam2, sam3"):
        load_run(str(tmp_path), "box")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes of each split with clicks, extreme points, boxes and masks."""
    folder = tmp_path_factory.mktemp("scenes")
    for split in ("train", "val"):
        write_dataset(World(split, 2, 0, WorldConfig(size=64, objects=(1, 2), classes=("cat", "car"))), folder, split)
    return folder


def label(checkpoints, scenes, out, *words):
    return main(
        ["label", f"sam:{checkpoints / 'sam'}", "--data", str(scenes), "--out", str(out), "--device", "cpu", *words]
    )


@pytest.mark.parametrize("prompt", ["point", "extreme_points", "extreme_box", "box"])
def test_label_writes_a_mask_for_every_annotation(checkpoints, scenes, tmp_path, prompt):
    source, weak = scenes / "annotations" / "instances_val.json", tmp_path / "weak.json"
    assert main(["weak", str(source), "--points", "mask_random", "--extreme", "--out", str(weak)]) == 0
    assert label(checkpoints, scenes, tmp_path / "masks.json", "--weak", str(weak), "--prompt", prompt) == 0
    given, found = json.loads(weak.read_text()), json.loads((tmp_path / "masks.json").read_text())
    assert found["categories"] == [{k: c[k] for k in ("id", "name")} for c in given["categories"]]
    categories = {a["id"]: a["category_id"] for a in given["annotations"]}
    assert {a["id"]: a["category_id"] for a in found["annotations"]}.items() <= categories.items()
    assert prompt != "point" or len(found["annotations"]) == len(categories)


def test_label_resumes_where_it_stopped(checkpoints, scenes, tmp_path, monkeypatch):
    labels, images = promptable.pseudo_labels, []

    def counted(model, batch, cfg):
        images.append(batch.image_ids[0])
        if len(images) == 2:
            raise MemoryError
        return labels(model, batch, cfg)

    monkeypatch.setattr(promptable, "pseudo_labels", counted)
    with pytest.raises(MemoryError):
        label(checkpoints, scenes, tmp_path / "masks.json")
    assert not (tmp_path / "masks.json").exists()
    assert label(checkpoints, scenes, tmp_path / "masks.json") == 0
    assert images == [images[0], images[1], images[1]]
    shutil.copy(tmp_path / "masks.json", tmp_path / "resumed.json")
    monkeypatch.setattr(promptable, "pseudo_labels", labels)
    assert label(checkpoints, scenes, tmp_path / "masks.json") == 0
    assert (tmp_path / "masks.json").read_text() == (tmp_path / "resumed.json").read_text()


def test_rows_of_a_table_compare_masks_and_the_one_without_a_checkpoint_stays_blank(
    checkpoints, scenes, tmp_path, capsys
):
    here = {"checkpoint": str(checkpoints / "sam"), "prompt": "box"}
    rows = (Row("box", here, method="promptable"), Row("absent", {"checkpoint": str(tmp_path)}, method="promptable"))
    table = replace(find("promptable.points")[0], rows=rows)
    results = run_table(table, "small", str(scenes), [0], tmp_path, tmp_path / "runs", device="cpu")
    measured, absent = results["rows"]
    assert 0 <= measured["ours"]["mIoU"]["mean"] <= 100 and measured["also"]["labels.seconds_per_object"] > 0
    assert absent["n"] == 0 and absent["ours"] == {}
    assert f"absent: not run; {tmp_path} holds no SamModel" in capsys.readouterr().out


def test_page_has_a_line_with_a_command_for_every_row(tmp_path):
    pages.write(tmp_path, tmp_path)
    text = (tmp_path / "promptable.md").read_text()
    for row in (row for table in find("promptable") for row in table.rows):
        assert f">{row.name}<" in text
    assert "wsis label sam2:facebook/sam2.1-hiera-large --prompt extreme_box --data DIR" in text
    assert "wsis train exits --set=supervision=boxes" in text and "mIoU (not run)" in text


def test_a_dry_run_says_that_nothing_is_trained(capsys):
    assert main(["train", "promptable", "--dry-run"]) == 2
    assert "wsis label sam:FOLDER" in capsys.readouterr().err
