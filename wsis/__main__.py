"""The command line: each verb is a function whose signature lists its options; `-h` after a verb explains them."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

# Verbs import the rest themselves, since `--help` should not wait for torch.
from wsis.core import next_step
from wsis.core.config import Scale, changed, read_options
from wsis.core.errors import ConfigError, WsisError
from wsis.core.files import digest, refuse_to_replace, write_json
from wsis.core.report import is_first_process, one_line, report

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Segmentation from cheap labels: train, apply and evaluate BESTIE, EXITS, AttentionShift and SimFormer.",
)
convert = typer.Typer(rich_markup_mode=None, help="Convert a published data set, once, to our formats.")
app.add_typer(convert, name="convert")

DATA = "world, or a folder in COCO format; for simformer a folder with class maps"
POINTS = Literal["box_center", "mask_centroid", "mask_random"]
TOOL = Literal["labelme", "label-studio", "cvat", "via", "coco"]
MASKS = Literal["coco", "polygons", "labelme", "yolo"]
PROMPT = Literal["point", "extreme_points", "extreme_box", "box"]
Out = Annotated[Path, Option(help="File or folder to write.")]
Device = Annotated[str, Option(help="auto, cpu or cuda.")]
DropInvalid = Annotated[bool, Option("--drop-invalid", help="Leave out annotations with unusable shapes.")]
Format = Annotated[MASKS, Option(help="COCO JSON (run lengths or polygons), or a folder with a file for each image.")]
Settings = Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change a setting (repeatable).")]
Workers = Annotated[int, Option(min=0, help="Processes that load images.")]
WeakFile = Annotated[Path | None, Option(help="COCO JSON whose weak labels replace those of the data.")]
Source = Annotated[Path, Argument(metavar="SRC", help="Folder of the unpacked data.")]
Target = Annotated[Path, Argument(metavar="OUT", help="Folder to write.")]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status is 1 if doctor finds something missing, and 2 for a mistake of the user."""
    try:
        return typer.main.get_command(app)(arguments, prog_name="python -m wsis", standalone_mode=False) or 0
    except (WsisError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else error
        print(f"error: {message}", file=sys.stderr)
        return 2


@app.command()
def doctor() -> int:
    """Check the environment; where something is missing, name the remedy and exit with status 1."""
    from wsis.experiments.environment import examine

    return examine()


@app.command()
def world(
    out: Out,
    train: Annotated[int, Option(help="Number of scenes.")] = 2000,
    val: Annotated[int, Option(help="Number of scenes.")] = 200,
    size: Annotated[int | None, Option(help="Side of the images in pixels (default: that of a tiny run).")] = None,
    seed: int = 0,
    class_maps: Annotated[bool, Option("--class-maps", help="Write a class for every pixel, for simformer.")] = False,
) -> None:
    """Write the embedded world as a data set."""
    from dataclasses import replace

    from wsis.data import World, write_dataset
    from wsis.data.semantic import SemanticWorld, write_semantic
    from wsis.weak.sources import WORLDS

    config = WORLDS["tiny"] if size is None else replace(WORLDS["tiny"], size=size)
    for split, length in (("train", train), ("val", val)):
        scenes = World(split, length, seed, config)
        write_semantic(SemanticWorld(scenes), out, split) if class_maps else write_dataset(scenes, out, split)
        report(f"{out}: {length} scenes of {config.size} px in the split {split}")
    next_step.after_world(out, class_maps)


@app.command()
def weak(
    source: Annotated[Path, Argument(metavar="SRC.json", help="COCO JSON with masks.")],
    out: Out,
    points: Annotated[POINTS | None, Option(help="Where to click on each object.")] = None,
    extreme: Annotated[bool, Option("--extreme", help="Click each object's top, left, bottom and right.")] = False,
    tags: Annotated[bool, Option("--tags", help="List the classes of each image.")] = False,
    seed: int = 0,
    drop_invalid: DropInvalid = False,
) -> None:
    """Simulate an annotator: add clicks, extreme points or tags to a copy of a JSON with masks."""
    from wsis.weak import simulate_file

    counts = simulate_file(source, out, points=points, extreme=extreme, tags=tags, seed=seed, drop_invalid=drop_invalid)
    report(f"{out}: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in counts.items()))
    next_step.after_weak(out, bool(points), extreme)


@app.command()
def train(
    method: Annotated[str, Argument(help="bestie, exits, attentionshift or simformer.")],
    out: Annotated[Path | None, Option(help="Folder of the run.")] = None,
    scale: Annotated[Scale | None, Option(help="Preset of the settings (default: tiny).")] = None,
    data: Annotated[str | None, Option(metavar="world|DIR", help=f"{DATA} (default: world).")] = None,
    seed: Annotated[int | None, Option(help="Seed of the run and of the world (default: 0).")] = None,
    device: Annotated[str | None, Option(help="auto, cpu or cuda (default: auto).")] = None,
    set_: Settings = None,
    recipe: Annotated[Path | None, Option(help="YAML or JSON file: scale, data, seed, device and settings.")] = None,
    weak: WeakFile = None,
    stage: Annotated[list[str] | None, Option(metavar="NAME", help="Run only this stage (repeatable).")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Estimate time and memory from a few steps on noise.")] = False,
    workers: Workers = 0,
    drop_invalid: DropInvalid = False,
) -> None:
    """Train a method: run all of its stages, or some."""
    from wsis.experiments.recipes import read_recipe
    from wsis.methods import trainable
    from wsis.training import fit
    from wsis.training.dry_run import dry_run as estimate
    from wsis.weak import open_data

    package = trainable(method)
    chosen = read_recipe(recipe, scale=scale, data=data, seed=seed, device=device)
    cfg = changed(getattr(package, chosen["scale"].upper()), **chosen["settings"] | read_options(set_))
    if dry_run:
        return report(estimate(package, cfg, chosen["device"], workers))
    if out is None:
        raise ConfigError("--out is missing; name the folder of the run")
    if (out / "run.json").exists() and not resume and is_first_process():
        raise ConfigError(f"{out} holds a run already; continue it with --resume, or choose another --out")
    annotations = {"clicks": cfg.clicks, "weak": weak, "drop_invalid": drop_invalid}
    opened = open_data(chosen["data"], chosen["scale"], seed=chosen["seed"], **annotations)
    for note in opened.notes:
        report(note)
    options = {"data": opened.description, "seed": chosen["seed"], "device": chosen["device"], "workers": workers}
    for name, figures in fit(package, cfg, opened.train, opened.val, out, only=tuple(stage or ()), **options).items():
        report(f"{name}: {one_line(figures)}")
    if not stage:
        next_step.after_train(out, chosen["data"], weak, cfg.clicks == "class_maps")


@app.command()
def label(
    folder: Annotated[str, Argument(metavar="RUN", help="A finished run, or sam, sam2 or sam3:FOLDER.")],
    data: Annotated[Path, Option(metavar="DIR", help="A folder in COCO format or with class maps.")],
    out: Out,
    split: str = "val",
    weak: WeakFile = None,
    drop_invalid: DropInvalid = False,
    prompt: Annotated[PROMPT | None, Option(help="What a MODEL is prompted with (default: point).")] = None,
    device: Device = "auto",
    format: Format = "coco",
) -> None:
    """Turn clicks, boxes or tags into masks in COCO JSON or another format, or into label PNGs."""
    from wsis import methods
    from wsis.baselines import promptable
    from wsis.data.coco import CocoFolder
    from wsis.data.export import check_maps
    from wsis.data.semantic import open_semantic
    from wsis.training import apply
    from wsis.weak.sources import clicked

    run = promptable.load_run(folder, prompt, device) or methods.load_run(Path(folder), device)
    clicks = run.cfg.clicks
    if clicks == "class_maps":
        check_maps(format)
        maps = open_semantic(data, split, weak, drop_invalid)
        counts = apply.class_maps(run, maps, out, f"{data} {split} {digest(maps.label_files)}", tags=True)
        return report(f"{out}: {one_line(counts)}")
    dataset: Any = CocoFolder(data, split, weak, drop_invalid=drop_invalid, boxes=clicks == "boxes")
    refuse_to_replace(out, *dataset.label_files)
    images, labels, state = dataset.image_folder, dataset.weak_path, f"{data} {split} {digest(dataset.label_files)}"
    for message in dataset.dropped:
        report(f"left out: {message}")
    if clicks:
        dataset, note = clicked(dataset, split, clicks)
        kind = clicks.replace("_", " ") if clicks in ("extreme_points", "boxes") else "points"
        report(note or f"{kind} of {weak or data}")
    report(f"{out}: {one_line(apply.label(run, dataset, out, state, format, images))}")
    if format == "coco":
        next_step.after_label(out, images, labels)


@app.command()
def predict(
    folder: Annotated[Path, Argument(metavar="RUN", help="Folder of a finished run.")],
    images: Annotated[Path, Option(metavar="DIR", help="A folder of images.")],
    out: Out,
    device: Device = "auto",
    format: Format = "coco",
) -> None:
    """Predict scored masks in COCO results or another format, or label PNGs, for images without labels."""
    from wsis import methods
    from wsis.data.export import check_maps
    from wsis.data.images import ImageFolder
    from wsis.training import apply

    run = methods.load_run(folder, device)
    if run.cfg.clicks == "class_maps":
        check_maps(format)
        counts, ids = apply.class_maps(run, ImageFolder(images), out, tags=False), None
    else:
        counts, ids = apply.predict(run, images, out, format), dict(zip(run.classes, run.category_ids, strict=True))
    report(f"{out}: {one_line(counts)}")
    if format == "coco":
        next_step.after_predict(out, images, ids)


@app.command()
def evaluate(
    predicted: Annotated[Path, Argument(help="COCO results, COCO JSON, or a folder of label PNGs.")],
    truth: Annotated[Path, Argument(help="COCO JSON, or a folder of label PNGs of the same names.")],
    metric: Annotated[Literal["coco", "voc", "pseudo", "separated", "semantic"], Option(help="What to measure.")],
    objects: Annotated[Path | None, Option(help="separated: JSON list of objects (default: those in pieces).")] = None,
    split: Annotated[str | None, Option(help="semantic: novel classes (S4, random:SHARE:SEED or names:A,B).")] = None,
    out: Annotated[Path | None, Option(help="Also write the figures to this JSON file.")] = None,
    drop_invalid: DropInvalid = False,
) -> None:
    """Compare masks or label maps with the ground truth."""
    from wsis.core.table import table as text_table
    from wsis.evaluation import files

    refuse_to_replace(out, predicted, truth, objects)
    figures = files.measure(metric, predicted, truth, objects=objects, split=split, drop_invalid=drop_invalid)
    figures = {k: v for k, v in figures.items() if isinstance(v, float) and v == v}
    report(repr(text_table([{"metric": k, "percent": 100 * v} for k, v in figures.items() if k != "objects"])))
    if "objects" in figures:
        report(f"of {figures['objects']:.0f} objects")
    if out:
        write_json(out, figures, indent=1)


@app.command()
def table(
    id: Annotated[str, Argument(help="bestie.table1, ..., bestie, ..., or all.")],
    scale: Annotated[Scale, Option(help="Preset of the settings.")] = "tiny",
    data: Annotated[str, Option(metavar="world|DIR", help=f"{DATA}.")] = "world",
    seeds: Annotated[int, Option(min=1, help="Number of seeds, from 0 on.")] = 3,
    out: Annotated[Path, Option(help="Folder of the results files.")] = Path("book/results"),
    folder: Annotated[Path, Option("--runs", help="Folder of the runs; finished ones are reused.")] = Path("runs"),
    row: Annotated[list[str] | None, Option(metavar="NAME", help="Run this row only (repeatable).")] = None,
    set_: Settings = None,
    device: Device = "auto",
    workers: Workers = 0,
    drop_invalid: DropInvalid = False,
) -> None:
    """Run a published table and print its verdicts."""
    from wsis.experiments.results import as_text
    from wsis.experiments.runner import run_table
    from wsis.experiments.tables import find

    options = {"device": device, "workers": workers, "drop_invalid": drop_invalid}
    options |= {"rows": row or (), "settings": read_options(set_)}
    tables = find(id)
    for one in (t for t in tables if scale in t.scales or len(tables) == 1):
        report(f"\n{as_text(run_table(one, scale, data, range(seeds), out, folder, **options))}\n")


@app.command()
def pretrain(
    name: Annotated[str, Argument(help="vgg_tiny, vit_tiny_mae, ... or vit_hybrid_points.")],
    out: Annotated[Path, Option(help="Folder of the weights.")] = Path("wsis/models/shipped"),
) -> None:
    """Pretrain a small backbone; write its weights and card."""
    from wsis.experiments.pretraining.recipes import pretrain

    report(pretrain(name, out))


@app.command("import")
def import_(
    format: Annotated[TOOL, Argument(metavar="FORMAT", help="labelme, label-studio, cvat, via or coco.")],
    source: Annotated[Path, Argument(metavar="SRC", help="The export: a JSON, CVAT's XML, or labelme's folder.")],
    out: Out,
    images: Annotated[Path | None, Option(metavar="DIR", help="Folder of the images (default: that of SRC).")] = None,
    split: str = "train",
    drop_invalid: DropInvalid = False,
) -> None:
    """Turn clicks, boxes, masks and tags of an annotation tool into a folder that `train` reads."""
    from wsis.data.convert.readers import import_annotations

    counts = import_annotations(format, source, out, images, split, drop_invalid)
    report(f"{out}: {one_line(counts)}")
    next_step.after_import(out, counts)


@convert.command("voc")
def convert_voc(
    voc: Annotated[Path, Option(help="Folder VOCdevkit/VOC2012.")],
    out: Out,
    sbd: Annotated[Path | None, Option(help="Folder benchmark_RELEASE/dataset, for trainaug.")] = None,
) -> None:
    """PASCAL VOC 2012, with SBD or without."""
    from wsis.data.convert.published import convert_voc

    report(f"{out}: {one_line(convert_voc(voc, out, sbd))} images")


@convert.command("coco-stuff")
def convert_coco_stuff(source: Source, out: Target) -> None:
    """COCO-Stuff-10K, version 1.0."""
    from wsis.data.convert.published import convert_coco_stuff

    report(f"{out}: {one_line(convert_coco_stuff(source, out))} images")


@convert.command("ade")
def convert_ade(source: Source, out: Target) -> None:
    """ADE20K as in the scene parsing challenge."""
    from wsis.data.convert.published import convert_ade

    report(f"{out}: {one_line(convert_ade(source, out))} images")


if __name__ == "__main__":
    sys.exit(main())
