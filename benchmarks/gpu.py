"""python -m benchmarks.gpu [--out FILE] [--quick]: all cases on the GPU, against the plain versions there."""

import argparse
import sys

import torch

from benchmarks.__main__ import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", default="benchmarks-gpu.json", help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="three small sizes, three runs each")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU found: `python -m benchmarks` measures on the CPU")
        return 1
    return 0 if run("cuda", options.quick, options.out).agrees else 1


if __name__ == "__main__":
    sys.exit(main())
