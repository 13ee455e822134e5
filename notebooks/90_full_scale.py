# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The full-scale run
#
# One parameter, `scale`, turns a chapter of this book, or a command that trains, into the run of the paper, given data and GPUs.
#
# **Before this:** [the tour](00_tour.py). Reading needs nothing; running needs GPUs and the data. This page itself only tries
# what a long run would do.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from wsis import viz
from wsis.core import ConfigError, changed, flatten, read_json
from wsis.methods import bestie
from wsis.weak.sources import LENGTHS

# %% [markdown]
# ## What the scale changes
#
# A method has three presets. `FULL` holds the values of the paper, each with its source. `SMALL` is the same algorithm on
# photographs and two processor cores, with a pretrained backbone that stays frozen; `TINY` is the same on the scenes of
# this book, with a smaller network and fewer steps. What is not in this table is equal in all three, but for the settings of
# IRN, whose class maps BESTIE can take in place of its own; a test ensures that presets differ only in settings that are
# marked to depend on the scale.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
full, small, tiny = (flatten(preset) for preset in (bestie.FULL, bestie.SMALL, bestie.TINY))
rows = [
    {"setting": k, "full": str(v), "small": str(small[k]), "tiny": str(tiny[k])}
    for k, v in full.items()
    if not v == tiny[k] == small[k] and not k.startswith("semantic.irn.")
]
viz.table(rows, caption="BESTIE: what the scale changes")

# %% [markdown]
# Lengths in pixels shrink with the images: the kernel of the center search, the width of a center's Gaussian, the smallest
# component. Steps, batches and learning rates follow the time that is available. Weights of losses and thresholds of maps were
# chosen again where a small network needs others, and at the scale `small` semantic maps come from another source. What the
# other methods change is among [all settings](../book/settings.md).
#
# A run goes through stages, and each but the evaluation leaves an artefact. A stage whose artefact exists is not run again, so
# a run that was killed resumes, and one that only changes the last stage shares the others.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = [
    {"stage": s.name, "leaves": s.artefact, "needs": s.needs.replace(" ", ", ")}
    for s in bestie.stages(bestie.FULL)
]
viz.table(rows, caption="the stages of BESTIE")

# %% [markdown]
# ## A chapter at full scale
#
# A recipe is a file of parameters. The book comes with one for each method and data set; this one is BESTIE's for PASCAL VOC:

# %%
print(*sorted(p.name for p in Path("recipes").glob("*.yaml")))
print("\n" + Path("recipes/bestie-voc.yaml").read_text())

# %% [markdown]
# `data` is a folder in COCO format, with `annotations/instances_train.json`, `annotations/instances_val.json` and the images in
# `images/train` and `images/val`. This command converts PASCAL VOC 2012 with SBD to such a folder, once:
#
# ```bash
# python -m wsis convert voc --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset \
#   --out /data/voc12
# ```
#
# Write your folder into a copy of the recipe, then run in the repository:
#
# ```bash
# python -m book.execute 12_bestie_training -f notebooks/recipes/bestie-voc.yaml \
#   -o runs/bestie-voc.ipynb
# ```
#
# This is papermill with one addition: a parameter that the chapter does not have is an error, where papermill would ignore it
# and run the defaults. Papermill itself works as well, on a notebook:
#
# ```bash
# jupytext --to ipynb -o runs/chapter.ipynb notebooks/12_bestie_training.py
# papermill -f notebooks/recipes/bestie-voc.yaml --cwd notebooks \
#   runs/chapter.ipynb runs/bestie-voc.ipynb
# ```
#
# The chapter starts the training as a process of its own, on all GPUs of the machine, shows its output while it runs, and draws
# its figures from the files that it leaves.
#
# What would papermill fill? With `--prepare-only` it does all but the running: it puts the parameters of the recipe into the
# notebook, in a cell of their own right below the chapter's defaults, and leaves every other cell without an output.

# %%
work = Path(tempfile.mkdtemp())
to_notebook = f"jupytext --quiet --to ipynb -o {work}/chapter.ipynb 12_bestie_training.py"
fill_in = "papermill --prepare-only --no-progress-bar -f recipes/bestie-voc.yaml"
for command in (to_notebook, f"{fill_in} {work}/chapter.ipynb {work}/bestie-voc.ipynb"):
    words = [sys.executable, "-m", *shlex.split(command)]
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
cells = read_json(work / "bestie-voc.ipynb")["cells"]
injected = [c for c in cells if "injected-parameters" in c["metadata"].get("tags", [])]
print("".join(injected[0]["source"]))

# %% [markdown]
# These are the figures and tables that stand empty in it, in order. After the run each is about PASCAL VOC:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows, section = [], ""
for cell in cells:
    text = "".join(cell["source"])
    section = (re.findall(r"^## (.*)", text, re.M) or [section])[-1]
    shows = re.findall(r"viz\.(show|scrub|table|training_curves|room_and_noise)\(", text)
    if cell["cell_type"] == "code" and shows and "solution" not in cell["metadata"]["tags"]:
        titles = re.findall(r'(?:title|caption) ?= ?"([^"]{3,})"', text)
        kind = "table" if shows[-1] == "table" else "figure"
        rows.append({"section": section, "shows": kind, "title": ", ".join(titles)})
viz.table(rows, "12_bestie_training: cells that a run would fill")

# %% [markdown]
# ## Only the training
#
# The same process can be started by hand. On one machine `torchrun` starts one process for each GPU:

# %%
gpus = max(torch.cuda.device_count(), 1)
python = shlex.quote(sys.executable)
launch = f"{python} -m torch.distributed.run --standalone --nproc-per-node={gpus}"
train = f"-m wsis train bestie --data {data} --scale full --out runs/bestie-full"
print("torchrun", *launch.split()[3:], "\\\n ", train)

# %% [markdown]
# On several machines, run the same line on each. All connect to the first one, whose address is `$FIRST`; `$RANK` counts machines
# from zero, and a cluster's scheduler sets it (`$SLURM_NODEID` under Slurm).
#
# ```bash
# torchrun --nnodes=4 --nproc-per-node=8 --node-rank=$RANK \
#   --master-addr=$FIRST --master-port=29500 \
#   -m wsis train bestie --recipe notebooks/recipes/bestie-voc.yaml \
#   --out /shared/runs/bestie-voc --resume
# ```
#
# The batch size of the settings is that of all processes together, so the number of GPUs changes the time and not the training.
# `--out` must be a folder that all machines see. With `--resume` the same line can be repeated when a machine was lost:
# finished stages stay, the current one resumes from its last checkpoint.
#
# ## Try it first
#
# `--dry-run` builds the network at its true size, takes a few steps on random numbers of the true shape, and reports what the
# run will cost on this machine. Here each network gets one image per step, because this page may have been built without a GPU:

# %%
trainings = ("classifier", "semantic_network", "network")
options = ["--dry-run", *(f"--set={name}.batch_size=1" for name in trainings)]
command = shlex.split(f"{launch} {train}") + (options if scale == "tiny" else [])
process = subprocess.run(command, text=True, capture_output=True)
print(process.stdout or process.stderr)
process.check_returncode()

# %% [markdown]
# A setting that does not exist is rejected before anything is built, with the most similar names:

# %%
try:
    changed(bestie.FULL, **{"network.batchsize": 32})
except ConfigError as error:
    print(error)

# %% [markdown]
# ## What a run leaves
#
# | file | content |
# |---|---|
# | `run.json` | method, data, seed and all settings: what the run is |
# | `<stage>.csv` | the loss terms of each logged step |
# | `<stage>.report.json` | numbers of the finished stage, and the minutes it took |
# | the artefacts above | weights as safetensors, cues as JSON, maps as PNG |
#
# From there on nothing depends on the scale: `label` and `predict` take the folder of a run, and `table` runs every row of a
# published table in this way and writes a file for [the results page](../book/results.md). There the numbers of a full-scale
# run will stand beside the published ones, with hardware and commit; none is stored yet.
#
# ## What would break this?
#
# - **Another batch size.** The published learning rates belong to the published batch.
# - **Other semantic maps.** The network learns from them, and the authors' maps are not part of the method; compare the mIoU of
#   your maps before the mAP of your masks. See [fidelity](../book/fidelity.md).
# - **Weights that did not load.** The run stops; the release would train from random ones.
#
# ## Exercises
#
# ```{exercise}
# :label: full-scale-epochs
# PASCAL VOC 2012 with SBD has 10,582 training images. How often does the full-scale training of the instance network
# see each of them? And the tiny training of this book the scenes of its world?
# ```
#
# ```{solution-start} full-scale-epochs
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for name, config, images in (
    ("full", bestie.FULL, 10_582),
    ("tiny", bestie.TINY, LENGTHS["tiny"][0]),
):
    print(f"{name}: {config.network.steps * config.network.batch_size / images:.1f} times")

# %% [markdown]
# ```{solution-end}
# ```
