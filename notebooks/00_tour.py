# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The tour
#
# From a list of words per image to a mask per object: one method, run from start to end on this page.
#
# **Before this:** nothing. Three small networks are trained before your eyes.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import torch

from wsis import evaluation, training, viz, weak
from wsis.core import Instances, changed, read_json
from wsis.data import WithPseudoLabels, World, WorldConfig, collate, result_records
from wsis.methods import bestie, load_run

# %% [markdown]
# ## One image, four bargains
#
# An outline around every object is what a segmentation network would like to learn from, and what nobody wants to draw. Each
# method of this book makes do with less. Look at what the annotator gives in each panel, and at what is missing.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
datasets = weak.open_data(data, scale, seed=seed)
if data == "world":
    world = World("val", 60, config=WorldConfig(size=256))
    sample, names = world[26], world.classes
else:
    candidates = (datasets.val[i] for i in range(40))
    sample = max(candidates, key=lambda s: len(s.truth.labels.unique()))
    names = datasets.val.classes
sample = weak.with_extreme_points(weak.with_points(sample, seed=3))
image, truth = sample.image, sample.truth
novel = int(truth.labels[-1])
base = truth[truth.labels != novel]
tags = ", ".join(names[i] for i in sample.tags.nonzero()[:, 0])
some_masks = viz.draw_instances(image, base, names)
panels = {
    f"image tags: {tags}": image,
    "one point per object": viz.draw_points(image, sample.points),
    "four extreme points per object": viz.draw_extreme_points(image, sample.extreme_points),
    f"masks of some classes, and a tag: {names[novel]}": some_masks,
}
viz.show(panels, columns=2, size=3.5)

# %% [markdown]
# **Takeaway.** From the first panel to the third the annotator says more and more about *where*. The fourth is another bargain:
# some classes come with full masks, the others only with the fact that they are there. [Weak labels](01_weak_labels.py) has the
# whole story, with prices.
#
# | what is given | method | what it predicts | in this book |
# |---|---|---|---|
# | image tags, or one point per object | BESTIE {cite:p}`kim2022bestie` | instance masks | below, then [in three chapters](10_bestie_cues.py) |
# | one point per object | AttentionShift {cite:p}`liao2023attentionshift` | instance masks | [from a click to parts](30_attentionshift_points.py) |
# | four extreme points per object | EXITS {cite:p}`lee2024exits` | instance masks | [from four clicks to points](20_exits_points_and_walk.py) |
# | masks of base classes, tags of novel ones | SimFormer {cite:p}`chen2022simformer` | a class per pixel | [what masks tell](40_simformer_similarity.py) |
#
# ## All that BESTIE is given
#
# These are training images of the embedded {term}`world`, with their complete annotation: the line above each.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
classes, panels = datasets.train.classes, {}
for i in range(8):
    tags = datasets.train[i].tags.nonzero()[:, 0]
    panels[f"{i}: {', '.join(classes[t] for t in tags)}"] = datasets.train[i].image
viz.show(panels, columns=4, size=2)

# %% [markdown]
# **Takeaway.** No position and no number: two robots and one robot have the same label. All that the networks of this page know
# about places in the end, they found in images like these.
#
# ## The run
#
# BESTIE goes through {term}`stages <stage>`. Two classifiers learn to name what is in an image. One of them is trained to
# point: its peaks become *cues*, one for each object if all goes well. The other one spreads out, and gives a *semantic map*:
# which pixels belong to a house? A piece of that map with one cue on it is a *pseudo label*. Then a network learns from these
# labels, and corrects them while it learns. All of this is one call, the same that `python -m wsis train bestie` makes.

# %%
datasets = weak.open_data(data, scale, seed=seed)
cfg = changed(getattr(bestie, scale.upper()), classes=len(classes))
if data != "world" and scale == "tiny":  # photographs are larger than the crops
    cfg = changed(cfg, size__long_side=128, size__test_long_side=128)
reports, folder = training.chapter_run(bestie, cfg, datasets, data, scale, seed, device)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = []
for stage, report in list(reports.items())[:-1]:
    numbers = {k: v for k, v in report.items() if k not in ("key", "minutes")}
    floats = {k: f"{v:.2f}" for k, v in numbers.items() if isinstance(v, float)}
    words = [f"{k} {v}" for k, v in (numbers | floats).items()]
    row = {"stage": stage, "minutes": report["minutes"], "result": ", ".join(words)}
    rows.append(row)
viz.table(rows, digits=2, caption=datasets.description)

# %% [markdown]
# The row `activation_maps` includes the training of the second classifier. The last column compares each result with the truth:
# `tag_mAP` says how well the tags are predicted, `cue_precision` how many cues are right, `cue_recall` how many objects have
# one, and `mIoU` how well the maps overlap with the true ones ([Metrics](03_metrics.py) explains these numbers). The last row
# counts right and wrong pseudo labels. Training never reads the true masks; you may, to see where a chain of small errors
# begins.
#
# ## From words to masks, step by step
#
# The run has left its cues and semantic maps in a folder. With them each training image becomes labels, by the rule that the
# paper's supplement prints as Listing 4: a connected region of the semantic map is an object if exactly one cue of its class
# lies on it. In the package this is
#
# ```{literalinclude} ../../wsis/methods/bestie/labels.py
# :pyobject: component_labels
# ```

# %%
cues = read_json(folder / "cues.json")
pseudo_labeled = WithPseudoLabels(datasets.train, folder / "semantic_maps", cues)
batch = collate([pseudo_labeled[0]])
labels = bestie.pseudo_labels(None, batch, cfg)[0].labels
print("image 0 has pseudo labels of:", *(classes[label] for label in labels))

# %% [markdown]
# Here are four training images with several objects: the two with the best labels, one from the middle of the list, and the
# worst. From left to right you see where the first classifier points, what the second one covers (hatched where it is
# undecided), and the pseudo labels that remain when the two are combined. Colors stand for classes in the first two columns,
# and for single objects in the last two.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
numbers = [i for i in range(120) if len(datasets.train[i].truth) > 1]
several = [pseudo_labeled[i] for i in numbers]
pseudo = [bestie.pseudo_labels(None, collate([s]), cfg)[0] for s in several]
q = evaluation.quality_by_image(pseudo, [s.truth for s in several])
balance = q["true_positive"] - q["false_positive"]
order = balance.argsort(descending=True, stable=True).tolist()
grid, picks = [], (*order[:2], order[len(order) // 2], order[-1])
for i in picks:
    s = several[i]
    strong = s.points[s.points.scores > cfg.cues.threshold]
    panels = {"cues": viz.draw_points(s.image, strong)}
    panels["semantic map"] = viz.draw_semantic(s.semantic_map, image=s.image)
    panels["pseudo labels"] = viz.draw_instances(s.image, pseudo[i])
    panels["true masks (never shown)"] = viz.draw_instances(s.image, s.truth)
    grid.append(panels)
viz.show(grid, rows=[f"image {numbers[i]}" for i in picks])

# %% [markdown]
# **Takeaway.** Compare the third column with the fourth: the labels lie on the right objects, with ragged outlines, and parts
# such as legs and fins are missing, in the last image much of each object. Other images have regions without a cue, or with
# two. These become nothing: BESTIE would rather say *unknown* than be wrong, and its loss ignores their pixels. The table above
# counts what that costs: many objects are without a right label.
#
# ## Learning from labels with gaps
#
# A network learns three maps from these labels: the class of each pixel, how near it is to the center of an object, and the way
# to that center. Its own predictions fill the gaps during training; the term `refined_center` is a part of the loss on them.

# %%
log = viz.read_log(folder / "network.csv")
terms = ("semantic", "center", "refined_center", "total")
viz.training_curves({"network": log}, terms, title="The loss of the network", window=10)

# %% [markdown]
# **Takeaway.** The refined term is zero at first, as long as the network is sure of no center. Then it joins in: from there
# on, part of the supervision comes from the network itself.
#
# ## Images it has never seen
#
# Now there are no labels at all. The trained network gets validation images and returns masks, each with a class and a score.

# %%
run, val = load_run(folder, device), datasets.val
samples = [val[i] for i in range(min(len(val), 60))]
predictions = []
for s in samples:
    images = collate([s]).images.to(next(run.model.parameters()).device)
    predictions.append(bestie.predict(run.model, images, run.cfg)[0].to("cpu"))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
confident = [g[g.scores > 0.2] for g in predictions]
q = evaluation.quality_by_image(confident, [s.truth for s in samples])
balance = q["true_positive"] - q["false_positive"] - q["missed"]
order = balance.argsort(descending=True, stable=True).tolist()
best = order[:4]
truths = [s.truth for s in samples]


def panels_of(masks, scenes):  # a panel for each scene
    drawn = {i: viz.draw_instances(samples[i].image, masks[i], classes) for i in scenes}
    return {f"scene {i}": panel for i, panel in drawn.items()}


grid = [{f"scene {i}": samples[i].image for i in best}]
grid += [panels_of(confident, best), panels_of(truths, best)]
viz.show(grid, rows=("image", "prediction", "ground truth"), title="Four good ones")

# %% [markdown]
# **Takeaway.** These four are chosen to show what is possible: separate objects with names and rough outlines, from nothing but
# words.
#
# Each mask has a score, and the user must choose how confident is confident enough. Drag the threshold, in four scenes from the
# best one downwards:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
levels, frames = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5], []
examples = [order[len(order) * k // 4] for k in range(4)]
for level in levels:
    masks = [g[g.scores > level] for g in predictions]
    frames.append(viz.show(panels_of(masks, examples), size=3, columns=2))
viz.scrub(frames, [f"score > {level}" for level in levels], "confident enough", start=3)

# %% [markdown]
# **Takeaway.** In these four scenes the lowest thresholds add little, and the highest one leaves nothing. What a low threshold
# invents elsewhere is counted in the first exercise. *Average precision* sums up all score thresholds in one number; mAP50, for
# instance, counts a mask as right if its IoU with an object is at least 0.5. On all validation images:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
numbers = reports["evaluation"]
row = {k: 100 * numbers[k] for k in ("mAP25", "mAP50", "mAP70", "mAP75", "mIoU")}
row = {"data": datasets.name, "scale": scale, **row}
viz.table([row], caption=f"{len(val)} images, in %")

# %% [markdown]
# ## What *tiny* means
#
# The algorithm is that of the paper, and everything is shrunk that can be shrunk ([how far](../book/settings.md)). So these
# numbers say whether the mechanism works, and must not be compared with published ones. At the scale `small` the same algorithm
# runs on photographs, with features that were pretrained on ImageNet; what it reaches there is on [the results
# page](../book/results.md).
#
# The full run needs one changed word, `scale`, a data set, and GPUs: [the full-scale run](90_full_scale.py).
#
# ## Take it home
#
# Masks are written in COCO format, which any detector can be trained on. This is one of them; `python -m wsis label` and
# `python -m wsis predict` write files full of these:

# %%
image_id = samples[order[0]].image_id
record = result_records(predictions[order[0]], image_id, run.category_ids)[0]
record["segmentation"]["counts"] = record["segmentation"]["counts"][:40] + "..."
for key, value in record.items():
    print(f"{key}: {value}")

# %% [markdown]
# ```{admonition} Where paper, release and this page differ
# :class: note
# {ref}`bestie-semantic-source <fidelity:bestie-semantic-source>`: the authors' semantic maps come from another method,
# with more supervision than tags; those on this page come from tags alone. {ref}`bestie-model-selection
# <fidelity:bestie-model-selection>`: the last weights are shown, not the best ones.
# ```
#
# ## What would break this?
#
# Look at the other end of the list.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
worst = order[::-1][:4]
grid = [panels_of(confident, worst), panels_of(truths, worst)]
viz.show(grid, rows=("prediction", "ground truth"), title="Four bad ones")

# %% [markdown]
# **Takeaway.** Neighbors of one class are merged into one mask, objects behind others are missed, and so are some in plain
# sight. The next chapters look for the causes, stage by stage: [cues](10_bestie_cues.py), [labels](11_bestie_labels.py),
# [training](12_bestie_training.py).
#
# ## Exercises
#
# ```{exercise}
# :label: tour-threshold
# *Predict.* At which score threshold is the number of right masks minus wrong ones largest?
# ```
#
# ```{solution-start} tour-threshold
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for level in levels:
    q = evaluation.label_quality([g[g.scores > level] for g in predictions], truths)
    right, wrong = q["true_positive"], q["false_positive"]
    print(f"score > {level}: {right} right, {wrong} wrong, difference {right - wrong}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: tour-cues
# *Change one parameter.* Set `cues.threshold` to 0.3 and to 0.8. How many pseudo labels become right, how many wrong?
# ```
#
# ```{solution-start} tour-cues
# :class: dropdown
# Hardly anything changes. The supplement reports the same for VOC.
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
subset = [pseudo_labeled[i] for i in range(120)]
for threshold in (0.3, 0.5, 0.8):
    other = changed(cfg, **{"cues.threshold": threshold})
    pseudo = [bestie.pseudo_labels(None, collate([s]), other)[0] for s in subset]
    print(threshold, evaluation.label_quality(pseudo, [s.truth for s in subset]))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: tour-boxes
# *Implement* the laziest method for extreme points: the whole box that they span is the mask. How many objects does it
# get right at an IoU of 0.5, and at 0.75?
# ```
#
# ```{solution-start} tour-boxes
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
boxes = []
for t in truths:
    four = weak.extreme_points_from_masks(t.masks)
    (left, top), (right, bottom) = four.amin(1).T, four.amax(1).T
    y, x = (torch.arange(side)[None] for side in t.masks.shape[1:])
    rows = (y >= top[:, None]) & (y <= bottom[:, None])
    columns = (x >= left[:, None]) & (x <= right[:, None])
    boxes.append(Instances.make(rows[:, :, None] & columns[:, None], t.labels))
for iou in (0.5, 0.75):
    print(iou, evaluation.label_quality(boxes, truths, iou=iou))

# %% [markdown]
# ```{solution-end}
# ```
