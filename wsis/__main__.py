"""The command line: each verb is one function call with a typed config.

python -m wsis {doctor,world,weak,train,label,predict,evaluate,table}        -h after a verb lists its options
"""

import argparse
import json
import os
import sys
from typing import Any

from wsis.command_options import verbs_parser
from wsis.core.config import changed
from wsis.core.errors import ConfigError, WsisError


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit status is 1 if doctor finds something missing, 2 for a mistake of the user."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except WsisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    return verbs_parser(
        {
            "doctor": doctor,
            "world": world,
            "weak": weak,
            "train": train,
            "label": label,
            "predict": predict,
            "evaluate": evaluate,
            "table": table,
        }
    )


def say(*words: object) -> None:
    """Print, in the first of several processes only."""
    if os.environ.get("RANK", "0") == "0":
        print(*words, flush=True)


def doctor(options: argparse.Namespace) -> int:
    from wsis.experiments.doctor import examine

    return examine()


def world(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from wsis.data.coco import write_dataset
    from wsis.data.semantic import SemanticWorld, write_semantic
    from wsis.data.world import World
    from wsis.weak.sources import TINY_WORLD

    config = TINY_WORLD if options.size is None else replace(TINY_WORLD, size=options.size)
    for split, length in (("train", options.train), ("val", options.val)):
        scenes = World(split, length, options.seed, config)
        if options.class_maps:
            write_semantic(SemanticWorld(scenes), options.out, split)
        else:
            write_dataset(scenes, options.out, split)
        say(f"{options.out}: {length} scenes of {config.size} px in the split {split}")


def weak(options: argparse.Namespace) -> None:
    from wsis.weak.files import simulate_file

    if not (options.points or options.extreme or options.tags):
        raise ConfigError("nothing to simulate; ask for --points KIND, --extreme or --tags")
    counts = simulate_file(
        options.source,
        options.out,
        points=options.points,
        extreme=options.extreme,
        tags=options.tags,
        seed=options.seed,
        drop_invalid=options.drop_invalid,
    )
    say(f"{options.out}: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in counts.items()))


def train(options: argparse.Namespace) -> None:
    from wsis import methods
    from wsis.experiments.recipes import read_recipe
    from wsis.training import runs
    from wsis.training.dry_run import dry_run
    from wsis.weak.sources import open_data

    recipe = read_recipe(options.recipe) if options.recipe else {}
    asked = {k: getattr(options, k) for k in ("scale", "data", "seed", "device") if getattr(options, k) is not None}
    chosen = {"scale": "tiny", "data": "world", "seed": 0, "device": "auto", **recipe, **asked}
    package = methods.method(options.method)
    cfg = changed(package.FULL if chosen["scale"] == "full" else package.TINY, **chosen.get("settings", {}))
    cfg = changed(cfg, **settings(options.set))
    if options.dry_run:
        say(dry_run(package, cfg, chosen["device"], options.workers))
        return
    if options.out is None:
        raise ConfigError("--out is missing; name the folder of the run")
    if (options.out / "run.json").exists() and not options.resume and os.environ.get("RANK", "0") == "0":
        raise ConfigError(f"{options.out} holds a run already; go on with --resume, or choose another --out")
    data = open_data(
        chosen["data"],
        chosen["scale"],
        clicks=cfg.clicks,
        seed=chosen["seed"],
        weak=options.weak,
        drop_invalid=options.drop_invalid,
    )
    for note in data.notes:
        say(note)
    reports = runs.fit(
        package,
        cfg,
        data.train,
        data.val,
        options.out,
        data=data.description,
        seed=chosen["seed"],
        device=chosen["device"],
        only=tuple(options.stage),
        workers=options.workers,
    )
    for name, report in reports.items():
        say(f"{name}: {figures(report)}")


def label(options: argparse.Namespace) -> None:
    from wsis import methods
    from wsis.data.coco import CocoFolder
    from wsis.data.semantic import SemanticFolder
    from wsis.training import apply as annotate
    from wsis.weak.sources import clicked

    run = methods.load_run(options.folder, options.device)
    clicks, described = run.cfg.clicks, f"{options.data} {options.split} {options.weak}"
    if clicks == "class_maps":
        maps = SemanticFolder(options.data, options.split, options.weak)
        counts = annotate.class_maps(run, maps, options.out, described, annotate.labeled)
        say(f"{options.out}: {figures(counts)}")
        return
    dataset: Any = CocoFolder(options.data, options.split, options.weak, drop_invalid=options.drop_invalid)
    for message in dataset.dropped:
        say(f"left out: {message}")
    note = ""
    if clicks:
        dataset, note = clicked(dataset, options.split, clicks)
        say(note or f"{clicks.replace('_', ' ')} of {options.weak or options.data}")
    counts = annotate.label(run, dataset, options.out, described)
    say(f"{options.out}: {figures(counts)}")


def predict(options: argparse.Namespace) -> None:
    from wsis import methods
    from wsis.data.images import ImageFolder
    from wsis.training import apply as annotate

    run = methods.load_run(options.folder, options.device)
    if run.cfg.clicks == "class_maps":
        maps, folder = ImageFolder(options.images), str(options.images)
        counts = annotate.class_maps(run, maps, options.out, folder, annotate.predicted)
    else:
        counts = annotate.predict(run, options.images, options.out)
    say(f"{options.out}: {figures(counts)}")


def evaluate(options: argparse.Namespace) -> None:
    from wsis.core.files import write_json
    from wsis.core.table import table as draw
    from wsis.core.types import IGNORE
    from wsis.data.semantic import read_categories
    from wsis.data.splits import find_split
    from wsis.evaluation.files import coco_ap_files, pseudo_files, semantic_files, separated_files, voc_ap_files

    for option, metric in (("split", "semantic"), ("objects", "separated")):
        if getattr(options, option) is not None and options.metric != metric:
            raise ConfigError(f"--{option} belongs to --metric {metric}; with {options.metric} leave it out")
    match options.metric:
        case "coco":
            found: dict[str, Any] = coco_ap_files(options.predicted, options.truth)
        case "voc":
            found = voc_ap_files(options.predicted, options.truth)
        case "pseudo":
            found = pseudo_files(options.predicted, options.truth)
        case "separated":
            found = separated_files(options.predicted, options.truth, options.objects)
        case _:  # classes that occur in neither folder do not count, so any number above the values will do
            values, novel = [str(i) for i in range(1, IGNORE)], None
            if options.split:
                classes, ids = read_categories(options.truth.parent / "categories.json")
                novel = [ids[label] - 1 for label in find_split(options.split, classes)]
            found = semantic_files(options.predicted, options.truth, values, novel=novel)
    known = {k: v for k, v in found.items() if isinstance(v, float) and v == v}
    say(repr(draw([{"metric": k, "percent": 100 * v} for k, v in known.items() if k != "objects"])))
    if "objects" in known:
        say(f"of {known['objects']:.0f} objects")
    if options.out:
        write_json(options.out, known, indent=1)


def table(options: argparse.Namespace) -> None:
    from wsis.experiments import costs
    from wsis.experiments.results import as_text
    from wsis.experiments.runner import run_table, write
    from wsis.experiments.tables import find

    if options.id in (costs.ID, "all"):
        result = costs.run_costs(options.scale, options.seeds, options.device)
        write(options.out, result)
        say(f"\n{as_text(result)}\n")
    for one in find(options.id):
        result = run_table(
            one,
            options.scale,
            options.data,
            range(options.seeds),
            options.out,
            options.runs,
            settings=settings(options.set),
            device=options.device,
            workers=options.workers,
            drop_invalid=options.drop_invalid,
        )
        say(f"\n{as_text(result)}\n")


def settings(pairs: list[str]) -> dict[str, str]:
    """`["a.b=1"]` as `{"a.b": "1"}`; `config.changed` reads the values.

    Raises:
        ConfigError: a pair without `=`.
    """
    wrong = [p for p in pairs if "=" not in p]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: write it as key=value")
    return dict(p.split("=", 1) for p in pairs)


def figures(report: dict[str, Any]) -> str:
    """A report in one line."""
    plain = {k: v for k, v in report.items() if k != "key"}
    return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {json.dumps(v)}" for k, v in plain.items())


if __name__ == "__main__":
    sys.exit(main())
