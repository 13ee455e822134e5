# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Weak labels
#
# What an annotator gives when nobody draws outlines, how it is stored, and how it travels with its image.
#
# **Before this:** nothing; [the tour](00_tour.py) shows where it leads.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import tempfile
import textwrap
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from wsis import viz, weak
from wsis.core import AnnotationError, Points, read_json, write_json
from wsis.data import Augment, Cached, CocoFolder, near_object, write_dataset
from wsis.data.world import PARTS, STUFF, World, WorldConfig

plt.rcParams.update(viz.RC)

# %% [markdown]
# ## A world to annotate
#
# This book needs images of which everything is known, that anybody may copy, and that are hard in the right ways. So the
# package draws them: a {term}`world` of picture-book scenes, lit and textured, the same for everyone and never downloaded.

# %%
drawn = World("val", 200, seed=seed, config=WorldConfig(size=256))
world = Cached(drawn)
indices = (18, 24, 26, 49, 23, 35)
viz.show({f"scene {i}": world[i].image for i in indices}, columns=3, size=3)

# %% [markdown]
# **Takeaway.** Look for what makes a scene hard: things of one class that touch, a fence that cuts a cat into pieces, a
# flower in the sea, a bird in the colors of the sky behind it.
#
# A scene knows more than any annotator would mark: every object, every *part* of it, and every surface behind it.

# %%
scene = drawn.scene(18)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
names = (*world.classes, *STUFF)
panels = {
    "what the camera sees": scene.image,
    "instances": viz.draw_instances(scene.image, world[18].truth, world.classes),
    "parts": viz.draw_semantic(scene.part_map, PARTS, scene.image, fill=0.8),
    "things and stuff": viz.draw_semantic(scene.semantic, names, scene.image, fill=0.8),
}
viz.show(panels, columns=2, size=3.6, title="One image and three exact maps")

# %% [markdown]
# **Takeaway.** The instance map tells the two cats behind the fence apart; the semantic map does not. These maps serve the
# simulated annotator, and the evaluation. Only SimFormer trains on a piece of them: on the masks of its base classes.
#
# ### The knobs
#
# Each difficulty is one number of `WorldConfig`, mostly a probability. The slider sets one of them to its hard end at a time:
# move it, and follow one column, such as the second one, in which the dog keeps its place.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
knobs = ("contact", "occlusion", "nested", "camouflage", "context", "texture")
hard = dict(zip(knobs, (1, 1, 1, 1, 0, 0), strict=True))
easy = {name: 1 - value for name, value in hard.items()}
frames, labels = [], ["all easy", *(f"{name} = {value}" for name, value in hard.items())]
for label in labels:
    knobs = {**easy, label.split()[0]: hard[label.split()[0]]} if "=" in label else easy
    hard_world = World("val", 40, config=WorldConfig(size=256, objects=(1, 4), **knobs))
    samples = {f"scene {i}": hard_world[i] for i in (7, 12, 18, 27)}
    images = {name: s.image for name, s in samples.items()}
    masks = {name: viz.draw_instances(s.image, s.truth) for name, s in samples.items()}
    frames.append(viz.show([images, masks], rows=("image", "instances"), size=2.4))
viz.scrub(frames, labels, "knob", start=1)

# %% [markdown]
# **Takeaway.** `contact` makes two objects one region of the semantic map; `occlusion` makes one object several regions;
# `nested` puts a second object into the first one's box; `camouflage` takes away color as a clue. Without `context` an object
# may be anywhere, so the surroundings are no clue either, and without `texture` all surfaces are smooth.
#
# ## Four ways to say where things are
#
# Here are the labels themselves, from the cheapest to the one that nobody wants to pay for. `wsis.weak` is the annotator: it
# looks at the true masks and returns what a person would have clicked. The parameter `data` of this chapter replaces the images
# from here on by a folder of your own in COCO format.

# %%
dataset = world if data == "world" else Cached(CocoFolder(data, "val"))
samples = [dataset[i] for i in range(min(len(dataset), 120))]
samples = [s for s in samples if len(s.truth) and not s.truth.crowd.any()]
sample = dataset[26] if data == "world" else max(samples, key=lambda s: len(s.truth))
sample = weak.with_extreme_points(weak.with_points(sample, "mask_random", seed=3))
image, classes = sample.image, dataset.classes

# %% jupyter={"source_hidden": true} tags=["hide-input"]
tags = ", ".join(classes[i] for i in sample.tags.nonzero()[:, 0])
panels = {
    f"image tags: {tags}": image,
    "one point per object": viz.draw_points(image, sample.points, classes),
    "four extreme points": viz.draw_extreme_points(image, sample.extreme_points, classes),
    "full masks": viz.draw_instances(image, sample.truth, classes),
}
viz.show(panels, columns=2, size=3.6, title="The same scene, four times annotated")

# %% [markdown]
# **Takeaway.** Tags say *what*, and neither where nor how many. A point adds *where* and *how many*. Extreme points add *how
# large*, exactly: they span the box. Only masks say which pixels; what a cheaper label leaves open, a method must find out by
# itself.
#
# For extreme points the simulated annotator looks for the first and last row and column of a mask, and clicks in the middle of
# what it finds there:
#
# ```{literalinclude} ../../wsis/weak/simulate.py
# :pyobject: extreme_points_from_masks
# ```
#
# Here is what the annotation studies measured:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
seconds = {
    "tags, per image": (20.0, "Bearman et al. 2016"),
    "a point per class, per image": (22.1, "Bearman et al. 2016"),
    "full masks, per image": (239.7, "Bearman et al. 2016"),
    "extreme points, per object": (7.0, "Papadopoulos et al. 2017"),
    "box by its corners, per object": (35.0, "Papadopoulos et al. 2017"),
    "outline, per object": (79.2, "Lin et al. 2014"),
}
_, ax = plt.subplots(figsize=(7.6, 2.6), layout="constrained")
heights, colors = [s for s, _ in seconds.values()], ["C0"] * 3 + ["C1"] * 3
bars = ax.barh(list(seconds), heights, color=colors)
annotations = [f"{s:g} s  {source}" for s, source in seconds.values()]
ax.bar_label(bars, annotations, padding=4, fontsize=8.5)
ax.set(title="Clicks cost seconds, outlines cost minutes", xlabel="seconds", xlim=(0, 345))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# **Takeaway.** Compare only bars of one color. For a whole image of PASCAL VOC, a point for each class costs hardly
# more than its tags, and a fraction of its masks {cite:p}`bearman2016point`. For one object, four extreme clicks cost a
# fraction of a box drawn by its corners {cite:p}`papadopoulos2017extreme`, and of an outline {cite:p}`lin2014coco`.
#
# ## Where does the one point go?
#
# "A point on each object" leaves open which. The released labels of AttentionShift are the center of the object's box;
# one could also take the centroid of the mask, or any pixel of it. Where the first two fall beside the object, the
# nearest pixel of it is clicked. Look at what happens to objects that are hollow, bent, or cut.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
kinds = ("box_center", "mask_centroid", "mask_random")
clicks = {k: [weak.with_points(s, k, seed=3).points.xy for s in samples] for k in kinds}
corners = [weak.extreme_points_from_masks(s.truth.masks) for s in samples]
pairs = zip(clicks["box_center"], clicks["mask_centroid"], strict=True)
distances = torch.cat([(a - b).norm(dim=1) for a, b in pairs])
rows = torch.tensor([(i, k) for i, s in enumerate(samples) for k in range(len(s.truth))])
panels = {}
for i, k in rows[distances.argsort(descending=True)[:6]].tolist():
    xy = torch.stack([clicks[kind][i][k] for kind in kinds])
    triple = Points.make(xy, torch.arange(3))
    object_ = viz.draw_instances(samples[i].image, samples[i].truth[[k]], fill=0.3)
    name = f"{classes[samples[i].truth.labels[k]]}, scene {i}"
    panels[name] = viz.zoom(viz.draw_points(object_, triple, size=14), corners[i][k])
where = "box center (orange), mask centroid (blue), random pixel (green)"
viz.show(panels, columns=3, size=2.9, title=f"One object, three clicks: {where}")

# %% [markdown]
# **Takeaway.** These are the objects on which the first two clicks are farthest apart. Where something in front cuts the
# object, both may fall beside it, and the stored click sits at the edge of the piece that was nearest. A thin part, such as a
# trunk or a mast, moves the center of the box, but hardly the centroid. The random click is anywhere on the object.
#
# That matters for a network that learns from the clicks. In the world we know which part each click hit:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
parts = torch.stack([drawn.scene(i).part_map for i in range(120)])
index = torch.cat([torch.full((len(world[i].truth),), i) for i in range(120)])
hits = {}
for kind in kinds:
    xy = [weak.with_points(world[i], kind).points.xy for i in range(120)]
    x, y = torch.cat(xy).long().T
    hits[kind] = parts[index, y, x].bincount(minlength=len(PARTS) + 1)[1:] / len(x)
top = torch.stack(list(hits.values())).amax(0).argsort(descending=True)[:14].tolist()
_, ax = plt.subplots(figsize=(8, 2.7), layout="constrained")
for i, (kind, share) in enumerate(hits.items()):
    places = torch.arange(len(top)) + 0.27 * (i - 1)
    ax.bar(places, 100 * share[top], width=0.26, label=kind, color=viz.class_colors(3)[i])
ax.set(title="Central clicks hit bodies", ylabel="% of clicks", xticks=range(len(top)))
ax.set_xticklabels([PARTS[t] for t in top], rotation=30, ha="right")
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** Look at *head* and *leg*: central clicks almost never hit them. A method trained on box centers sees the middle
# of things and must reach the rest from there; random clicks show every part in proportion to its size.
#
# And annotators vary: another one, or the same one tomorrow, clicks the same object elsewhere. The seed of `mask_random`
# simulates that. Drag it:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
frames = []
for annotator in range(10):
    points = weak.with_points(sample, "mask_random", seed=annotator).points
    frames.append(viz.show({"": viz.draw_points(image, points, classes)}, size=4.6))
viz.scrub(frames, [f"annotator {i}" for i in range(10)], "who clicks")

# %% [markdown]
# **Takeaway.** The image and the classes stay the same, and the clicked pixels differ. Results that change much from one
# annotator to the next are not yet results, which is why the tables of this book average over several seeds.
#
# ## How labels are stored
#
# There is one format, COCO's, with three more keys: `point` and `extreme_points` in an annotation, `tags` in an image. A real
# annotator's clicks take the place of simulated ones without a change in the code. What follows is what `python -m wsis world`
# and `python -m wsis weak` do:

# %%
folder = Path(tempfile.mkdtemp())
write_dataset(World("val", 8, seed=seed, config=WorldConfig(size=256)), folder, "val")
source, stored = folder / "annotations" / "instances_val.json", folder / "weak.json"
print(weak.simulate_file(source, stored, points="mask_random", extreme=True, tags=True))
record = read_json(stored)["annotations"][0]
record["segmentation"]["counts"] = record["segmentation"]["counts"][:40] + "..."
for key, value in record.items():
    print(f"{key}: {value}")

# %% [markdown]
# The mask stays in the file, run-length coded, because the evaluation needs it; without a drawn mask the key is left out.
# Reading the file gives the clicks back:

# %%
stored_dataset = CocoFolder(folder, "val", weak=stored)
for before, after in ((weak.with_points(s), s) for s in stored_dataset):
    assert torch.equal(before.points.xy, after.points.xy)
    extremes = weak.with_extreme_points(before).extreme_points.xy
    assert torch.equal(extremes, after.extreme_points.xy)
print(len(stored_dataset), "images read back, each click on its pixel")

# %% [markdown]
# ## Everything moves together
#
# Training crops, scales and flips. One call moves the image, the masks, the class map and all clicks. Watch the crosses stay on
# their objects, and those of cropped objects disappear:

# %%
augment = Augment(crop=224, long_side=None, contrast=0.3)
crop = augment(sample, seed=0)
print(f"{len(crop.points)} points and {len(crop.extreme_points)} boxes are left")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
frames = []
for k in range(8):
    crop = augment(sample, seed=k)
    masks = viz.draw_instances(crop.image, crop.truth, classes, by_class=True, fill=0.3)
    four = viz.draw_extreme_points(crop.image, crop.extreme_points)
    points = viz.draw_points(masks, crop.points)
    panels = {"masks and points": points, "extreme points": four}
    frames.append(viz.show(panels, size=3.7))
viz.scrub(frames, [f"crop {k}" for k in range(8)], "augmentation")

# %% [markdown]
# **Takeaway.** An object that loses one of its four extreme points loses all, since three span no box. One that loses its
# single point stays visible, but has no label. What lies beyond the image is filled with gray. The tags, which are not drawn
# here, stay, even where the crop has cut the object away.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# {ref}`bestie-cropped-cues <fidelity:bestie-cropped-cues>`: BESTIE crops first and makes labels afterwards, as its released
# code does, so cropped clicks do change its labels. {ref}`bestie-points-on-border <fidelity:bestie-points-on-border>`: the
# release loses clicks with a coordinate of zero; we do not. {ref}`bestie-padding <fidelity:bestie-padding>`: what lies beyond
# the image is ignored here, and is background there.
# ```
#
# ## What would break this?
#
# A simulated annotator is polite. It finds camouflaged things, never names a dog a cat, never clicks twice, and its hand does
# not shake. Let it shake: add noise to each click and count how many clicks are still on their object.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
noise = torch.arange(0, 13, 1.0)
generator = torch.Generator().manual_seed(seed)
_, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for kind, color in zip(kinds, viz.class_colors(3), strict=True):
    on_object = torch.zeros(len(noise))
    for s, xy in zip(samples, clicks[kind], strict=True):
        jitter = noise[:, None] * torch.randn(len(xy), len(noise), 2, generator=generator)
        on_object += near_object(s.truth.runs, xy[:, None] + jitter, tolerance=0).sum(0)
    ax.plot(noise, 100 * on_object / len(rows), label=kind, color=color)
ax.set(title="A shaking hand leaves the object", xlabel="spread of the hand, px")
ax.set(ylabel="% still on the object", ylim=(0, 102))
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** Random clicks leave their object sooner: many of them start near an outline. Central clicks survive more
# shaking, in return for always hitting the same part of an object.
#
# A click beside its object is not silently accepted. It raises an error with a message that says where:

# %%
broken = read_json(stored)
first = broken["annotations"][0]
first["point"] = [0, 0]
write_json(folder / "broken.json", broken)
try:
    CocoFolder(folder, "val", weak=folder / "broken.json")[0]
except AnnotationError as error:
    print(textwrap.fill(str(error).replace(str(folder), "DATA"), 72))

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: weak-box
# *Predict.* Extreme points span a box. On average, how much of that box is the object itself?
# ```
#
# ```{solution-start} weak-box
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
shares = []
for s, extremes in zip(samples, corners, strict=True):
    width, height = (extremes.amax(1) - extremes.amin(1) + 1).T
    shares += (s.truth.masks.sum((1, 2)) / (width * height)).tolist()
shares = torch.tensor(shares)
print(f"mean {shares.mean():.2f}, from {shares.min():.2f} to {shares.max():.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: weak-occlusion
# *Change one parameter.* Set `occlusion` to 1. How does the distance between box center and centroid change?
# ```
#
# ```{solution-start} weak-occlusion
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for occlusion in (0.0, 1.0):
    hidden = World("val", 60, seed=seed, config=WorldConfig(size=256, occlusion=occlusion))
    masks = [s.truth.masks for s in hidden]
    points = ([weak.points_from_masks(m, kind) for m in masks] for kind in kinds[:2])
    a, b = map(torch.cat, points)
    print(f"occlusion {occlusion:g}: {(a - b).norm(dim=1).mean():.1f} px apart on average")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: weak-deepest
# *Implement* a fourth kind of click: the pixel that has most of its object around it. Does it survive more shaking than the box
# center?
# ```
#
# ```{solution-start} weak-deepest
# :class: dropdown
# The blurred mask is highest where most of the object is near, so that is the pixel to take.
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
from torch.nn.functional import avg_pool2d

generator = torch.Generator().manual_seed(seed)
on_object = {"box_center": 0, "deepest": 0}
for s, center in zip(samples, clicks["box_center"], strict=True):
    masks = s.truth.masks
    density = avg_pool2d(masks.float()[:, None], (31, 1), 1, (15, 0))
    density = avg_pool2d(density, (1, 31), 1, (0, 15))[:, 0] * masks
    index = density.flatten(1).argmax(1)
    deepest = torch.stack([index % masks.shape[2], index // masks.shape[2]], 1).float()
    jitter = 8 * torch.randn(len(masks), 20, 2, generator=generator)
    for name, xy in (("box_center", center), ("deepest", deepest)):
        hits = near_object(s.truth.runs, xy[:, None] + jitter, tolerance=0)
        on_object[name] += hits.sum().item()
for name, count in on_object.items():
    print(f"{name}: {100 * count / (20 * len(rows)):.0f} % on the object")

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next:** [what a transformer sees](02_vit_features.py), or first [how good is a mask?](03_metrics.py)
