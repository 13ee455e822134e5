# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your photographs
#
# Four clicks per object turn a folder of photographs into masks in COCO format, and into a network that draws masks by itself.
#
# **Before this:** [EXITS](20_exits_points_and_walk.py) explains what is trained here, though you can begin with this
# page. A folder of your own takes longer than the photographs here, since training then has more steps.

# %% tags=["parameters"]
scale = "small"
data = "photographs"
method = "exits"
seed = 0
device = "auto"

# %%
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from PIL import Image
from pycocotools.coco import COCO
from skimage import data as skimage

# %%
from wsis import methods, training, viz, weak
from wsis.core import changed, read_json
from wsis.data import ImageFolder
from wsis.training import apply

plt.rcParams.update(viz.RC)

# %% [markdown]
# ## Ten photographs
#
# Two packages that are installed with this one contain photographs: most come from scikit-image, one from matplotlib. Seven are
# taken as they are, and a picture of coins is cut into four parts. Three parts are for training, so that there are ten
# photographs with one to six objects each; the fourth is kept aside, together with the second view of a stereo pair.
#
# | photograph | by | license |
# |---|---|---|
# | astronaut | NASA | public domain |
# | camera | Lav Varshney | CC0 |
# | chelsea | Stefan van der Walt | CC0 |
# | coffee | Rachel Michetti | CC0 |
# | coins | Brooklyn Museum | no known restrictions |
# | hopper | U.S. Navy, James S. Davis | public domain |
# | motorcycle | Middlebury stereo data {cite:p}`scharstein2014stereo` | published for research, to be cited |
# | rocket | SpaceX | public domain |


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def save(name, pixels, split="train"):
    place = folder / "images" / split
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place / f"{name}.png")


def first(images, count):
    return [images[i] for i in range(min(count, len(images)))]


folder = Path("../build/photographs" if data == "photographs" else data)
clicks = folder / "annotations" / "instances_train.json"
if data == "photographs":
    for name in ("astronaut", "camera", "chelsea", "coffee", "rocket"):
        save(name, getattr(skimage, name)())
    save(
        "hopper",
        plt.imread(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")),
    )
    left, right, _ = skimage.stereo_motorcycle()
    save("motorcycle_left", left)
    save("motorcycle_right", right, "val")
    coins = skimage.coins()
    save("coins_1", coins[:150, :183])
    save("coins_2", coins[:150, 183:])
    save("coins_3", coins[150:, :136])
    save("coins_4", coins[150:, 136:], "val")
    clicks.parent.mkdir(exist_ok=True)
    shutil.copy("60_your_data.json", clicks)
photographs = ImageFolder(folder / "images" / "train")
panels = {photo.file_name: photo.image for photo in first(photographs, 10)}
viz.show(panels, columns=5, size=1.7, title="The photographs to learn from")

# %% [markdown]
# **Takeaway.** Ten photographs of six classes are very few. Expect what is learned from them to know these coins and
# this motorcycle, rather than coins and motorcycles.
#
# For your own photographs, make a folder like this one, and give its full path as `data` in the first cell:
#
# ```text
# mine/images/train/    the photographs to click on, JPEG or PNG, of any size
# mine/images/val/      photographs to try the network on, if you like
# ```
#
# ## Four clicks per object
#
# The canvas below shows one photograph at a time. Choose a class, then click the topmost, leftmost, lowest and rightmost
# pixel of an object, in any order; these are its {term}`extreme points`. Click every object of your classes, since what is
# left out is taken for background later. *Save* writes a COCO JSON beside the images, which the canvas reads again when you
# come back.

# %%
classes = ["person", "cat", "cup", "coin", "motorcycle", "rocket"]
if data != "photographs":
    classes = []  # the names of yours, as long as the JSON has none
canvas = viz.annotate(folder / "images" / "train", clicks, classes)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
shown = ("coffee.png", "coins_1.png")


def steps(name):  # what a hand does to give the objects of an image their clicks
    yield {"do": "go", "value": canvas.labels.names.index(name)}
    yield {"do": "tool", "value": "extreme_points"}
    for clicked in canvas.labels.annotations(name):
        yield {"do": "category", "value": clicked["category_id"]}
        yield from ({"do": "click", "xy": xy} for xy in clicked["extreme_points"])


if data == "photographs":
    scratch = Path(tempfile.mkdtemp()) / "clicks.json"
    blank = viz.annotate(folder / "images" / "train", scratch, classes)
    recorded = [step for name in shown for step in steps(name)]
    output = viz.record(blank, recorded, "click", start=22)  # amid the third coin
output if data == "photographs" else canvas

# %% [markdown]
# **Takeaway.** This is a recording, whose slider moves from click to click. In a notebook with a kernel the canvas is live:
# write `canvas` in a cell of its own, or set `data` to your folder. *Keys* below the image lists what the keyboard does.
#
# The clicks of all ten photographs come with this page. In the JSON an object looks like this; `point`, a single click, is
# there for the methods that need no more:

# %%
labels = read_json(clicks)  # once it is saved
print(len(labels["images"]), "photographs,", len(labels["annotations"]), "objects")
for key, value in labels["annotations"][0].items():
    print(f"{key:15}", value)

# %% [markdown]
# ## From clicks to masks
#
# [EXITS](20_exits_points_and_walk.py) looks at one object at a time, in a crop around its four clicks. A network that knows
# ImageNet tells which parts of the crop look alike. The clicks are on the object, and what lies outside their box is not:
# these labels spread to parts that look similar, and wherever they do not arrive, the question stays open. A second, small
# network, the *generator*, learns to draw a mask that agrees with the labels, with the box, and with the borders between
# colors. It learns from all objects together, so that the coins, say, teach it about each other. Nobody has drawn a mask for
# it.
#
# A third network, the *segmenter*, is trained on the generator's masks as if a person had drawn them. It is the one that
# needs no clicks.
#
# The preset `small` is made for some hundred photographs. For ten the page shortens both trainings; a folder of yours
# is trained with the preset as it is.

# %%
package = methods.method(method)
preset, short = getattr(package, scale.upper()), {}
if (data, method, scale) == ("photographs", "exits", "small"):
    short = {"network.steps": 60, "network.batch_size": 4, "network.warmup": 10}
    short["final.schedule"] = {"steps": 150, "batch_size": 2, "warmup": 10, "lr": 2e-3}
cfg = changed(preset, classes=len(canvas.labels.categories), **short)

# %%
opened = weak.open_data(str(folder), scale, clicks=cfg.clicks, seed=seed)
reports, run_folder = training.chapter_run(
    package, cfg, opened, str(folder), scale, seed, device
)
minutes = [{"stage": name, "minutes": r["minutes"]} for name, r in reports.items()]
viz.table(minutes, "what was trained, and how long it took")

# %% [markdown]
# On the command line the same training is one line:
#
# ```bash
# python -m wsis train exits --scale small --data mine --out runs/mine
# ```
#
# ## Masks in COCO format
#
# Now every object gets its mask. `label` writes them into a COCO JSON, with the ids of the clicks. It is the file that
# detectors are trained from, and COCO's own tools open it:

# %%
run = methods.load_run(run_folder, device)
masks_json = run_folder / "masks.json"
print(apply.label(run, opened.train, masks_json))
coco = COCO(masks_json)
mask = coco.annToMask(coco.loadAnns(coco.getAnnIds())[0])
print(mask.shape, mask.dtype, int(mask.sum()), "pixels")

# %% [markdown]
# ## A network that needs no clicks
#
# `predict` takes any folder of images. Here it is the folder of the two photographs that were kept aside:

# %%
others = folder / "images" / "val"
others = others if others.exists() else folder / "images" / "train"
print(apply.predict(run, others, run_folder / "predictions.json"))


# %% jupyter={"source_hidden": true} tags=["hide-input", "photographs"]
def segment(sample, least=0.3):  # what the segmenter is rather sure of
    batch = run.batch(sample)
    found = run.method.predict(run.model, batch.images, run.cfg)[0].to("cpu")
    return found[found.scores >= least]


def clicked(sample):
    if run.cfg.clicks == "extreme_points":
        return viz.draw_extreme_points(sample.image, sample.extreme_points)
    points = sample.points
    return sample.image if points is None else viz.draw_points(sample.image, points)


def masked(sample, found):  # without scores, which would crowd the picture
    certain = replace(found, scores=torch.ones_like(found.scores))
    return viz.draw_instances(sample.image, certain)


samples = first(opened.train, 10)
wanted = ("coffee.png", "camera.png", "chelsea.png", "coins_1.png")
chosen = [s for s in samples if s.file_name in wanted] or samples[:4]
rows = {
    "photograph": lambda s: s.image,
    "clicks": clicked,
    "masks": lambda s: masked(s, apply.pseudo_instances(run, s).to("cpu")),
    "no clicks": lambda s: masked(s, segment(s)),
}
grid = [{s.file_name: row(s) for s in chosen} for row in rows.values()]
title = "From clicks to masks, and to a network"
viz.show(grid, rows=tuple(rows), size=2.2, title=title)

# %% [markdown]
# **Takeaway.** The masks of the third row follow the outlines of the coins closely and those of the man and the cat
# roughly, though four points of each is all that was given. The mask of the cup is wrong: it leaves out the lower half,
# which has the color of the saucer, and takes a piece of the spoon. The last row is the segmenter's, from the
# photographs alone. It finds the same things, but takes a whole row of coins for one object.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
panels = {}
for sample in first(ImageFolder(others), 4):
    panels[sample.file_name] = sample.image
    found = viz.draw_instances(sample.image, segment(sample), run.classes)
    panels[f"found in {sample.file_name}"] = found
viz.show(panels, columns=2, size=3.2, title="Photographs that nobody has clicked on")

# %% [markdown]
# **Takeaway.** The segmenter finds the motorcycle as seen from another place, with some of the garage around it. Of the coins
# that it has never seen it finds some, and again not one by one. It had one motorcycle and three pictures of coins to learn
# from, in a short training.
#
# ## Look at the masks, and click again
#
# The canvas shows masks on top of the photographs, each to be accepted or answered by another click:
#
# ```python
# viz.annotate(folder / "images" / "train", clicks, masks=masks_json)
# ```
#
# An accepted mask becomes the mask of its object in the JSON, which is then a data set for any detector; another click
# replaces the old one for the next training. So one can work in a loop: click on some photographs, train, accept what
# is right, click again where it is not, and let `predict` propose masks for those that follow.
#
# ## What would break this?
#
# - **Objects left out.** The segmenter learns that what nobody clicked on is background. Click every object of your
#   classes, or leave the whole photograph out.
# - **Objects like their surroundings.** The walk spreads over what looks alike. A cup on a saucer of its color, or the
#   wires of a lattice mast, have no edge that it could stop at.
# - **Thin and tiny objects.** A mask is drawn on a grid that is coarser than the crop; spokes and whiskers fall between its
#   cells. Objects smaller than `size.min_area` are not learned from, and get masks all the same.
# - **Too few photographs.** With one example of a class the segmenter may learn that one by heart. The masks of `label`
#   depend less on it, since they start from clicks.
#
# ## Other labels, other methods
#
# The parameter `method` takes other methods, too. `attentionshift` needs one click per object, and `bestie` the classes of an
# image; both read them from the same JSON, and train with their preset `small`, which takes longer than this page may. For boxes
# in place of clicks EXITS has `supervision="boxes"`. What you have clicked elsewhere, in labelme, Label Studio, CVAT
# or VIA, becomes such a folder with `python -m wsis import`; [how to run it](../book/how_to_run.md) has a table of all of
# these.
#
# ## Exercises
#
# ```{exercise}
# :label: your-data-boxes
# What do the masks know that a box does not? Compare the generator's masks of the coins with the filled boxes of their
# clicks: what share of its box does a mask cover? What is the share of a disk in its box?
# ```
#
# ```{solution-start} your-data-boxes
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
shares = {}
for a in coco.loadAnns(coco.getAnnIds()):
    name = coco.loadCats(a["category_id"])[0]["name"]
    shares.setdefault(name, []).append(a["area"] / (a["bbox"][2] * a["bbox"][3]))
for name, values in shares.items():
    print(f"{name:10} {sum(values) / len(values):.2f}")
print(f"a disk     {torch.pi / 4:.2f}")

# %% [markdown]
# Coins are disks, and their masks cover about that share; nobody told the generator so. The masks of other classes
# cover other shares of their boxes, while a filled box always covers all of it.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: your-data-formats
# Write the masks of the photographs once more, as text files for YOLO. What does a line hold?
# ```
#
# ```{solution-start} your-data-formats
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
place = Path(tempfile.mkdtemp()) / "yolo"
apply.label(run, opened.train, place, format="yolo", folder=folder / "images" / "train")
text = sorted(place.rglob("*.txt"))[0]
print(text.name, text.read_text()[:90], "...")

# %% [markdown]
# A line is an object: the number of its class, and the corners of its polygon as shares of the image's width and height. A
# polygon has no holes, so that the outline of a hole is joined to the outer one by a line that is walked twice.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: your-data-sure
# The figures show what the segmenter is at least 30 % sure of. Which classes does it find on the photographs that it has not
# seen if you ask for 10 % or for 60 %?
# ```
#
# ```{solution-start} your-data-sure
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for least in (0.1, 0.3, 0.6):
    for sample in first(ImageFolder(others), 4):
        names = [run.classes[i] for i in segment(sample, least).labels.tolist()]
        print(least, sample.file_name, {name: names.count(name) for name in names})

# %% [markdown]
# A lower threshold finds more, and more that is not there. `predict` writes everything above 5 %, so that you can choose
# afterwards.
#
# ```{solution-end}
# ```
