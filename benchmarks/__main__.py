"""python -m benchmarks [--out FILE] [--quick] [--device cpu|cuda]: all cases; exit 1 if outputs differ."""

import argparse
import sys
from itertools import product

import torch

from benchmarks import attentionshift, bestie, bestie_labels, exits_crf, exits_crops, exits_walk, grid_walk, simformer
from benchmarks.measure import Report, Size, measure
from wsis.core.files import write_json

FULL = [Size(pixels=p, batch=b, instances=n) for p, b, n in product((416, 1024), (1, 4, 16), (1, 5, 20, 100))]
QUICK = [Size(pixels=416, batch=b, instances=n) for b, n in ((1, 5), (1, 20), (4, 20))]
SETS = [  # cases, all sizes, a few sizes
    ([*bestie.CASES, *bestie_labels.CASES], FULL, QUICK),
    (exits_walk.CASES, exits_walk.FULL, exits_walk.QUICK),
    (grid_walk.CASES, grid_walk.SIZES, grid_walk.SIZES[:1]),
    (exits_crf.CASES, exits_crf.SIZES, exits_crf.SIZES[:1]),
    (exits_crops.CASES, exits_crops.SIZES, exits_crops.SIZES[:1]),
    (attentionshift.ROLLOUT_CASES, attentionshift.ROLLOUT, attentionshift.ROLLOUT[:1]),
    (attentionshift.SAMPLE_CASES, attentionshift.SAMPLED, attentionshift.SAMPLED[:1]),
    (attentionshift.SHIFT_CASES, attentionshift.SHIFT, attentionshift.SHIFT[:1]),
    (simformer.REGION_CASES, simformer.REGIONS, simformer.REGIONS),
    (simformer.PAIR_CASES, simformer.PAIRED, simformer.PAIRED),
    (simformer.COST_CASES, simformer.COSTS, simformer.COSTS),
]


def run(device: str, quick: bool, out: str | None) -> Report:
    """Measure on `device`, print the rows, write them to `out` where given."""
    parts = [
        measure(cases, few if quick else sizes, torch.device(device), runs=3 if quick else 7)
        for cases, sizes, few in SETS
    ]
    report = parts[0]
    report.rows += [row for part in parts[1:] for row in part.rows]
    torch_version = report.versions["torch"]
    print(f"{len(report.rows)} rows on {report.device}, {report.threads} threads, torch {torch_version}")
    if out:
        write_json(out, report.to_dict(), indent=1)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="few small sizes, three runs each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    return 0 if run(options.device, options.quick, options.out).agrees else 1


if __name__ == "__main__":
    sys.exit(main())
