# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Side by side
#
# Four methods and a rival of each label the same scenes, from the labels that they were made for. What does each of them make
# of its labels, and what did these labels cost?
#
# **Before this:** the chapters of the methods, or any one of them; the networks are theirs. **After it:** [your
# photographs](60_your_data.py).

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import math
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from wsis import evaluation, experiments, training, viz, weak
from wsis.baselines import irn, retab
from wsis.core import changed
from wsis.experiments.tables import TABLES
from wsis.methods import attentionshift, bestie, exits, load_run, simformer
from wsis.methods.simformer.labels import pseudo_maps
from wsis.training.apply import pseudo_instances
from wsis.viz.style import draw, panel

plt.rcParams.update(viz.RC)

# %% [markdown]
# ## Eight runs
#
# Each method opens the data with its own kind of labels. BESTIE learns from {term}`tags <image tag>`, AttentionShift from one
# click on each object, EXITS from four, and SimFormer from masks of its {term}`base classes <base class>` with tags of the
# others. Beside each of them stands a rival whose labels cost the same: IRN, the raw attention (AttentionShift's baseline),
# MAL, which takes the box of the four clicks, and RETAB. The images are the same. A run that a chapter has finished is not
# repeated.

# %%
methods = (bestie, attentionshift, exits, simformer, irn)
preset = {method: getattr(method, scale.upper()) for method in methods}
generator = changed(preset[exits], **{"final.schedule.steps": 0})  # no final segmenter
first = changed(preset[simformer], **{"final.steps": 0})  # no second network

# %%
METHODS = {
    "BESTIE": (bestie, preset[bestie]),
    "AttentionShift": (attentionshift, preset[attentionshift]),
    "EXITS": (exits, generator),
    "SimFormer": (simformer, first),
}
RIVALS = {
    "IRN": (irn, preset[irn]),
    "raw attention": (attentionshift, attentionshift.baseline(preset[attentionshift])),
    "MAL": (exits, exits.mal(generator)),
    "RETAB": (simformer, changed(first, **{"pseudo.source": "retab"})),
}

# %%
opened, runs = {}, {}
for name, (method, cfg) in (METHODS | RIVALS).items():
    datasets = weak.open_data(data, scale, clicks=preset[method].clicks, seed=seed)
    cfg, opened[name] = cfg.for_classes(datasets.train.classes), datasets.train
    made = {stage.name for stage in method.stages(cfg) if stage.artefact}
    only = tuple(made - {"labels", "final"})  # labels are made below, of few images
    _, folder = training.chapter_run(
        method, cfg, datasets, data, scale, seed, device, only=only
    )
    if name != "RETAB":
        runs[name] = load_run(folder, device)
# RETAB, the last of them, has three networks and no run that one could load.
walks = retab.restore(cfg.retab, len(opened[name].classes), cfg.backbone, folder)
walks.to(training.make_accelerator(device).device)

# %% [markdown]
# ## One scene
#
# The labels that a method makes of the *training* images are what a network learns from afterwards. The next picture shows them
# for the scene on which the worst of the four methods is best, among the first ones with several objects and one of a class
# without masks.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
objects = opened["EXITS"]
classes, number = objects.classes, min(len(objects), 60 if scale == "tiny" else 20)
novel = runs["SimFormer"].cfg.novel
hidden = [label for label in novel if label < len(classes)]  # objects without masks
SEMANTIC = ("SimFormer", "RETAB")  # class maps, no objects


def class_map(name, batch):
    if name == "SimFormer":
        return simformer.pseudo_labels(runs[name].model, batch, runs[name].cfg)
    scores = retab.scores(walks, batch, cfg.retab, novel)
    return pseudo_maps(scores, batch.semantic_maps, batch.tags, cfg)


def label(name, i):  # what is made of a training image
    s = opened[name][i]
    if name not in SEMANTIC:
        return pseudo_instances(runs[name], s).to("cpu")
    batch = runs["SimFormer"].batch(weak.with_base_masks(s, novel))
    return class_map(name, batch)[0].cpu()


def painted(instances, size):  # instances as a class map, the surest on top
    class_map = torch.zeros(size, dtype=torch.uint8)
    for k in instances.scores.argsort().tolist():
        class_map[instances.masks[k]] = int(instances.labels[k]) + 1
    return class_map


def as_maps(instances):
    return [painted(m, s.size) for m, s in zip(instances, scenes, strict=True)]


def score(name, i):  # mean IoU of the objects' classes in one image, in %
    metric = evaluation.MeanIoU(len(classes) + 1)
    metric.update(maps[name][i], truth[i])
    return 100 * float(metric.result()["IoU"][1:].nanmean().nan_to_num(0))


scenes = [objects[i] for i in range(number)]
truth = as_maps([s.truth for s in scenes])
labels = {name: [label(name, i) for i in range(number)] for name in opened}
maps = {name: as_maps(made) for name, made in labels.items() if name not in SEMANTIC}
for name in SEMANTIC:  # without the ground
    maps[name] = [torch.where(m > len(classes), 0, m).byte() for m in labels[name]]
shown = [set(s.truth.labels.tolist()) for s in scenes]
several = [i for i in range(number) if len(scenes[i].truth) > 1 and shown[i] & set(hidden)]
ranked = sorted(
    several or range(number), key=lambda i: -min(score(name, i) for name in METHODS)
)

# %% jupyter={"source_hidden": true} tags=["hide-input", "cover"]
GIVEN = {
    "BESTIE": "tags",
    "AttentionShift": "one point per object",
    "EXITS": "four clicks per object",
    "SimFormer": "masks of some classes,\ntags of the others",
}


@panel
def draw_tags(axes, image, words):
    draw(axes, image)
    box = {"facecolor": "white", "edgecolor": "0.3", "boxstyle": "round,pad=0.25"}
    place = {"ha": "center", "va": "bottom", "transform": axes.transAxes}
    axes.text(0.5, 0.05, ", ".join(words), fontsize=8, bbox=box, **place)


def clicked(name, s):
    if name == "BESTIE":
        return draw_tags(s.image, [classes[k] for k in s.tags.nonzero()[:, 0]])
    if name == "EXITS":
        return viz.draw_extreme_points(s.image, s.extreme_points)
    return viz.draw_points(s.image, s.points, size=7)


def given(name, s):
    if name != "SimFormer":
        return clicked(name, s)
    return viz.draw_semantic(weak.with_base_masks(s, novel).semantic_map, (), s.image)


def column(name, i):  # what is made of it, and the truth
    s, made = opened[name][i], labels[name][i]
    if name in SEMANTIC:
        return [viz.draw_semantic(m, (), s.image) for m in (made, s.true_semantic)]
    made = replace(made, scores=torch.ones_like(made.scores))  # as labels, all count alike
    return [viz.draw_instances(s.image, m, classes, by_class=True) for m in (made, s.truth)]


columns = {}
for name in METHODS:
    sample = opened[name][ranked[0]]
    columns[f"{name}\n{GIVEN[name]}"] = [given(name, sample), *column(name, ranked[0])]
rows = [{title: panels[k] for title, panels in columns.items()} for k in range(3)]
viz.show(rows, rows=("given", "made of it", "truth"), size=2.1)

# %% [markdown]
# **Takeaway.** The rows of each column are what an annotator gives, what the method makes of it, and the truth, in the same
# colors everywhere. Three methods end with separate objects. SimFormer ends with a map of classes, in which neighbors of one
# class are one region, and which has names for the ground as well; hatched pixels have no label.
#
# ## From good to bad
#
# These are three more scenes: a third and two thirds down the list that is sorted by the worst of the four, and its end.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
picks = [ranked[k * (len(ranked) - 1) // 3] for k in (1, 2, 3)]


def grid(names):  # the labels of three scenes
    rows = []
    for i in picks:
        panels = {"image": objects[i].image, **{name: column(name, i)[0] for name in names}}
        rows.append(panels | {"truth": column("EXITS", i)[1]})
    return viz.show(rows, rows=[f"image {i}" for i in picks], size=1.9, one_legend=True)


grid(METHODS)

# %% [markdown]
# **Takeaway.** Read the last row first. BESTIE has to find the objects, so that it can miss one, or take two for one.
# AttentionShift and EXITS are told where the objects are; their masks can be too large, too small, or reach into a neighbor.
# What SimFormer knows of base classes is right by construction, since their masks were given; of the others it leaves open
# (hatched) what it takes for none of the tags. Here are the rivals, in the same order:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
grid(RIVALS)

# %% [markdown]
# **Takeaway.** IRN takes what touches for one object, and what the raw attention marks need not be one. MAL, which has boxes
# alone, is hard to tell from EXITS. RETAB, too, leaves open what it takes for none of the tags.
#
# ## What the labels cost
#
# The papers that measured annotators report these times. To say whether an image shows a class takes a second for each class of
# the data set, or 2.4 seconds with a click on the first object of the class, and each further click 0.9
# {cite:p}`bearman2016point`; four clicks on an object take 7 seconds {cite:p}`papadopoulos2017extreme`; its outline takes 79.2
# {cite:p}`lin2014coco`.


# %%
PAIRS = [name for pair in zip(METHODS, RIVALS, strict=True) for name in pair]
KINDS = (*PAIRS, "filled boxes", "true masks")


def seconds(sample):  # of a patient annotator for one image, by what is labeled
    found, kinds = len(sample.truth), len(sample.truth.labels.unique())
    base = int((~torch.isin(sample.truth.labels, torch.tensor(novel))).sum())
    cheap = (0, 1.4 * kinds + 0.9 * (found - kinds), 7 * found, 79.2 * base)
    more = [t for t in cheap for _ in "ab"] + [7 * found, 79.2 * found]
    return {name: len(classes) + t for name, t in zip(KINDS, more, strict=True)}


# %% jupyter={"source_hidden": true} tags=["hide-input"]
batches, settings = [runs["EXITS"].batch(s) for s in scenes], runs["EXITS"].cfg
boxes = [exits.pseudo_labels(None, batch, settings)[0].to("cpu") for batch in batches]
maps["filled boxes"] = as_maps(boxes)
maps["true masks"] = truth
costs = [seconds(s) for s in objects]

table = []
for name in KINDS:
    metric = evaluation.MeanIoU(len(classes) + 1)
    for class_map, true in zip(maps[name], truth, strict=True):
        metric.update(class_map, true)
    iou = 100 * metric.result()["IoU"][1:]
    row = {"labels": name, "seconds per image": sum(c[name] for c in costs) / len(costs)}
    row |= {"mIoU": float(iou.nanmean())}
    table.append(row | {"of classes without masks": float(iou[hidden].nanmean())})
names = ", ".join(classes[label] for label in hidden)
caption = f"{number} training images, classes of objects; without masks for SimFormer: {names}"
viz.table(table, caption=caption)

# %% [markdown]
# The mean IoU is that of class maps, the only thing that all make: masks are painted, the surest on top, and the ground
# counts as background. Since SimFormer is given the masks of its base classes, the last column has the classes for which it is
# not. The seconds are for objects alone; SimFormer's masks of the ground would come on top.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
x, y = ([row[key] for row in table] for key in ("seconds per image", "mIoU"))
names = [row["labels"] for row in table]
PLACES = {  # of a name beside its mark: the shift in points, and what of the name is there
    "top center": ((0, 7), "center", "bottom"),
    "middle right": ((7, 0), "left", "center"),
    "middle left": ((-7, 0), "right", "center"),
}
above, beside, _ = PLACES
places = []
for own, rival in zip(y[:8:2], y[1:8:2], strict=True):  # the better of each pair is named above
    places += [above, beside] if own >= rival else [beside, above]
places += ["middle right", "middle left"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from plotly import graph_objects as go

chart, ax = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
colors = ["#0072B2", "#D55E00"] * len(METHODS) + ["#888888"] * 2
ax.scatter(x, y, s=60, color=colors)
for name, a, b, place in zip(names, x, y, places, strict=True):
    xytext, ha, va = PLACES[place]
    ax.annotate(name, (a, b), xytext, textcoords="offset points", ha=ha, va=va)
ax.set(xscale="log", xlabel="seconds of annotation per image", ylabel="mIoU of the labels")
ticks = [t for t in (5, 10, 20, 50, 100, 200, 500, 1000) if min(x) / 2 < t < 2 * max(x)]
ax.set_xticks(ticks, ticks)
ax.minorticks_off()
ax.set_xlim(min(x) / 2.5, 2.5 * max(x))
plt.close(chart)
known = [row["of classes without masks"] for row in table]
text = "%{text}<br>%{x:.0f} s per image<br>mIoU %{y:.1f}, without masks %{customdata:.1f}"
marks = {"mode": "markers+text", "text": names, "textposition": places}
look = {"marker": {"size": 12, "color": colors}}
points = go.Scatter(
    x=x, y=y, customdata=known, hovertemplate=text + "<extra></extra>", **marks, **look
)
axes = {"xaxis": {"type": "log", "title": "seconds of annotation per image"}}
axes["xaxis"] |= {"tickvals": ticks, "range": [math.log10(limit) for limit in ax.get_xlim()]}
axes |= {
    "yaxis": {"title": "mIoU of the labels", "range": [0, 108]},
    "margin": {"t": 40, "r": 10},
}
viz.interactive(
    go.Figure(points, axes), chart, "Quality of the labels against seconds of annotation"
)

# %% [markdown]
# **Takeaway.** Further right is dearer, further up is better. Methods are blue, rivals orange. The gray dots need no network:
# boxes that are filled, and outlines drawn by hand. A method earns its training where it lies well above the filled boxes for a
# fraction of the time that outlines take.
#
# ## On photographs
#
# What a network makes of such labels on new photographs, at the scale `small`, is in the tables of the methods. Each has its own
# metric, so each is compared with its own {term}`upper bound`: the same network trained on true masks.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
MAIN = {
    "bestie.supervision": ("mAP50", ("tags", "points", "IRN")),
    "attentionshift.bounds": ("mAP50", ("AttentionShift", "baseline")),
    "exits.baseline": ("AP", ("EXITS", "MAL")),
    "simformer.photographs": ("novel_mIoU", ("SimFormer*", "RIB*", "RETAB*")),
}
chosen = [t for t in TABLES if t.id in MAIN]
stored = experiments.read_results(chosen, Path("../book/results"), "small.animals7")
rows = []
for name, found in stored.items():
    metric, kinds = MAIN[name]
    values = {r["name"]: r["ours"][metric]["mean"] for r in found["rows"] if r["n"]}
    best = values.get(found["upper"])
    for kind in (k for k in kinds if k in values):
        row = {"table": name, "labels from": kind, "metric": metric, "here": values[kind]}
        row |= {
            "with true masks": best,
            "share (%)": 100 * values[kind] / best if best else None,
        }
        rows.append(row)
viz.table(rows, caption="seven animals, validation photographs")

# %% [markdown]
# **Takeaway.** The last column says how much of what true masks would bring is reached without them. It compares methods
# loosely at best: their networks, metrics and numbers of seeds differ. Which labels to buy depends on what is needed in the
# end, separate objects or classes, and on how many images there are to label.
#
# ## Exercises
#
# ```{exercise}
# :label: fixed-budget
# *Predict.* You have one hour of an annotator's time. How many images of this page does it buy with each kind of labels?
# ```
#
# ```{solution-start} fixed-budget
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
viz.table(
    [{"labels": r["labels"], "images per hour": 3600 / r["seconds per image"]} for r in table],
    digits=0,
)

# %% [markdown]
# It buys far more images with tags than with outlines. Whether more images with poorer labels train the better network is the
# question that {cite:t}`bearman2016point` asked first, and it has no answer that holds for all data.
#
# ```{solution-end}
# ```
#
# **Next:** [your photographs](60_your_data.py)
