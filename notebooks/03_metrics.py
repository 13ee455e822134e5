# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Metrics
#
# How a pile of predicted masks becomes one number, step by step, and what that number does not see.
#
# **Before this:** nothing. [Weak labels](01_weak_labels.py) introduces the images.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import torch
from matplotlib import pyplot as plt
from torch.nn.functional import max_pool2d

from wsis import evaluation, viz, weak
from wsis.core import Instances, Points
from wsis.data import CocoFolder, World, WorldConfig, paint_semantic
from wsis.evaluation import matches, voc_ap

plt.rcParams.update(viz.RC)

# %% [markdown]
# ## Two masks, one number
#
# A predicted mask $P$ and a true one $T$ are compared by *intersection over union*, $\mathrm{IoU}(P, T) = |P \cap T| \, / \, |P
# \cup T|$: the pixels that both have, divided by those that either has. Below, the prediction is the true mask, moved to the
# right.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# The predictions below are drawn by hand for a scene of this seed.
world = World("val", 200, seed=0, config=WorldConfig(size=256))
sample = world[24]
image, truth, classes = sample.image, sample.truth, world.classes
robot = truth.masks[-1]
(top, left), (bottom, right) = robot.nonzero().amin(0) - 8, robot.nonzero().amax(0) + 30
panels = {}
for shift in (0, 4, 10, 24):
    shifted = robot.roll(shift, 1)
    iou = (shifted & robot).sum().item() / (shifted | robot).sum().item()
    crops = [v[..., top:bottom, left:right] for v in (image, shifted, robot)]
    panels[f"moved by {shift} px: IoU {iou:.2f}"] = viz.draw_overlap(*crops)
viz.show(panels, size=2.4, title="Both (green), only predicted (orange), only true (blue)")

# %% [markdown]
# **Takeaway.** IoU is strict. A mask that looks nearly right to the eye has lost a good part of its score, and one that covers
# half of its object and as much beside it is far below one half.
#
# ## One image, seven predictions
#
# To count objects, predictions must be matched with them. Here is a scene, and seven predictions drawn by hand: good ones, a
# second one for the same object, one that swallows two dogs, a right mask with the wrong class, half a bird, and a cat where
# there is none.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
bird, small_bird, dog, small_dog, robot = truth.masks
thin = ~(max_pool2d((~bird)[None].float(), 7, 1, 3)[0] > 0)
half = small_bird & (torch.arange(256) < small_bird.any(0).nonzero().float().mean())
blob = torch.zeros_like(bird)
blob[200:240, 120:190] = True
names = ("robot", "bird", "bird", "dog", "bird", "bird", "cat")
masks = [robot.roll(2, 1), bird.roll(5, 0), thin, dog | small_dog, small_dog, half, blob]
labels = torch.tensor([classes.index(name) for name in names])
scores = torch.tensor([0.97, 0.92, 0.88, 0.80, 0.70, 0.60, 0.40])
predicted = Instances.make(torch.stack(masks), labels, scores=scores)
overlays = [viz.draw_instances(image, i, classes) for i in (truth, predicted)]
viz.show(dict(zip(("ground truth", "predictions"), overlays, strict=True)), size=3.9)

# %% [markdown]
# **Takeaway.** Two predictions lie on the left bird, and one name hides the other. Count for yourself before reading on: how
# many of the seven are right?
#
# The rule of PASCAL VOC {cite:p}`everingham2010voc` goes through the predictions from the highest score to the lowest. Each one
# is assigned to the object *of its own class* with which its IoU is highest. It is right if the IoU reaches the threshold and
# the object is still free. If the object is taken, it is a duplicate and wrong: there is no second choice. In code, `assign`
# finds the object of each prediction, for all images at once, in order of score (a *crowd* is COCO's region of many objects,
# and no target). The threshold comes later, in `matches`:
#
# ```{literalinclude} ../../wsis/evaluation/instances.py
# :pyobject: assign
# ```

# %%
matching = matches(predicted, truth, threshold=0.5)
print(*matching._fields)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows, panels = [], {}
for k, target, iou, right in zip(*(v.tolist() for v in matching), strict=True):
    name, score = classes[predicted.labels[k]], predicted.scores[k].item()
    verdict = "right" if right else "no such object" if target < 0 else "IoU too small"
    verdict = "duplicate" if not right and iou >= 0.5 else verdict
    iou_text = f"{iou:.2f}" if target >= 0 else "none"
    rows.append({"prediction": f"{name} {score:.2f}", "IoU": iou_text, "verdict": verdict})
    true = truth.masks[target] if target >= 0 else torch.zeros_like(blob)
    title = f"{name} {score:.2f}: {verdict}"
    panels[title] = viz.draw_overlap(image, predicted.masks[k], true)
viz.show(panels, columns=4, size=2.3, title="Each prediction and its object")

# %% [markdown]
# **Takeaway.** The thin bird lies on its object, yet it is wrong: the object was taken. The small dog's outline is exact, yet
# it is wrong: its class is *bird*, so it is assigned to a bird. The mask that swallowed two dogs is right all the same, and so,
# barely, is half a bird.

# %%
viz.table(rows, caption="In order of falling score")

# %% [markdown]
# ## From verdicts to average precision
#
# One image is not enough for a curve, so let us damage the true masks of many scenes: every mask is moved a little, some get
# another class, some objects are predicted twice. Scores are higher where the mask moved less, as with a decent network. The
# parameter `data` replaces the scenes by a folder in COCO format.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
source = World("val", 60, seed=seed) if data == "world" else CocoFolder(data, "val")
scenes = [s for s in (source[i] for i in range(min(60, len(source)))) if len(s.truth)]
total, truths, predictions = len(source.classes), [s.truth for s in scenes], []
chance = torch.Generator().manual_seed(seed)
for t in truths:
    duplicates = (torch.rand(len(t), generator=chance) < 0.3).nonzero()[:, 0]
    copies = torch.cat([torch.arange(len(t)), duplicates])
    moves = (3 * torch.randn(len(copies), 2, generator=chance)).round().int().tolist()
    masks = [t.masks[k].roll(m, (0, 1)) for k, m in zip(copies, moves, strict=True)]
    noise = torch.randint(total, (len(copies),), generator=chance)
    labels = noise.where(torch.rand(len(copies), generator=chance) < 0.1, t.labels[copies])
    distance = torch.tensor(moves).float().norm(dim=1)
    scores = torch.sigmoid(2 - 0.3 * distance + torch.randn(len(copies), generator=chance))
    predictions.append(Instances.make(torch.stack(masks), labels, scores=scores))

# %% [markdown]
# For one class, take all its predictions in all images, in order of falling score. After each, *precision* is the share of
# right ones so far, *recall* the share of the objects that were matched so far. The area under the curve of precision over
# recall, made monotone first, is the *average precision*:
#
# $$\mathrm{AP} = \sum_k (r_k - r_{k-1}) \max_{j \ge k} p_j,$$
#
# with recall $r_k$ and precision $p_k$ after $k$ predictions. An older rule takes the mean of the curve at eleven recalls
# instead.
#
# ```{literalinclude} ../../wsis/evaluation/instances.py
# :pyobject: average_precision
# ```
#
# In the figure each dot is a prediction, the shaded area is the average precision, and the squares are the eleven readings.
# Drag the IoU that counts as right:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
counts = torch.cat([t.labels for t in truths]).bincount()
label = int(counts.argmax())
subset = [p[p.labels == label] for p in predictions]
subset = [p[p.scores.argsort(descending=True)] for p in subset]
order = torch.cat([p.scores for p in subset]).argsort(descending=True)
thresholds, frames = (0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9), []
aps = voc_ap(predictions, truths, total, thresholds)["AP"][:, label]
for threshold, ap in zip(thresholds, aps, strict=True):
    right = [matches(p, t, threshold).right for p, t in zip(subset, truths, strict=True)]
    figure, ax = plt.subplots(figsize=(6, 3.3), layout="constrained")
    viz.draw_precision_recall(torch.cat(right)[order], int(counts[label]))(ax)
    ax.set_title(f"{source.classes[label]}: average precision {ap:.2f}")
    plt.close(figure)
    frames.append(figure)
viz.scrub(frames, [f"{t:g}" for t in thresholds], "IoU threshold", start=1)

# %% [markdown]
# **Takeaway.** Each wrong prediction is a step down, each right one a step to the right. A stricter threshold turns right ones
# into wrong ones. Recalls that are never reached count as precision zero.
#
# The mean over the classes that occur is *mAP*, written with its threshold: mAP50 asks for an IoU of at least a half. COCO's AP
# {cite:p}`lin2014coco` averages over ten thresholds from 0.5 to 0.95, reads the curve at 101 recalls, and knows crowds and
# sizes (an AP is `nan` where no object has that size); its AR is a mean recall. `wsis` computes both, the second through
# `pycocotools`:

# %%
area, points = (
    voc_ap(predictions, truths, total, interpolation=i) for i in ("area", "11point")
)
names = ("mAP25", "mAP50", "mAP70", "mAP75")
rows = [{"rule": "VOC, area", **{n: 100 * area[n] for n in names}}]
rows.append({"rule": "VOC, 11 points", **{n: 100 * points[n] for n in names}})
coco = evaluation.coco_ap(predictions, truths, total)
print({name: f"{100 * value:.1f}" for name, value in coco.items()})
viz.table(rows, caption="The same predictions under two rules, in %")

# %% [markdown]
# ## What a shift costs
#
# Now consider a single fault: all masks are perfect, but moved by a few pixels, as after a careless rescaling. Drag, and
# compare the picture with the metrics:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
shifts, first_truths = range(0, 13), truths[:30]
example = max(scenes, key=lambda s: len(s.truth))
curves = {name: [] for name in ("mAP25", "mAP50", "mAP75", "COCO AP")}
for shift in shifts:
    shifted = [Instances.make(t.masks.roll(shift, 2), t.labels) for t in first_truths]
    voc = voc_ap(shifted, first_truths, total)
    curves["COCO AP"].append(evaluation.coco_ap(shifted, first_truths, total)["AP"])
    for name in ("mAP25", "mAP50", "mAP75"):
        curves[name].append(voc[name])
frames, whole = [], example.truth.masks.any(0)
for shift in shifts:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
    viz.draw_overlap(example.image, whole.roll(shift, 1), whole)(left)
    left.set_axis_off()
    for name, values in curves.items():
        right.plot(shifts, [100 * v for v in values], label=name)
    right.axvline(shift, color="0.6", linewidth=1)
    right.set(xlabel="shift of all masks, px", ylabel="%", title="each at its own pace")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.close(figure)
    frames.append(figure)
viz.scrub(frames, [f"{s} px" for s in shifts], "shift", start=3)

# %% [markdown]
# **Takeaway.** mAP75 and COCO's AP react to single pixels; mAP25 forgives the first few. So mAP25 asks whether objects are
# *found*, mAP75 whether they are *outlined*, and one method may win by the first and lose by the second.
#
# ## Pixels without objects: mean IoU
#
# A semantic map has no objects to match. Here pixels are counted instead: a confusion matrix has a row for each true class and
# a column for each predicted one. The IoU of a class is its diagonal cell over its row and column together, and *mIoU* is the
# mean over classes. In the picture each row is divided by its sum.

# %%
guess, true = paint_semantic(predicted).long(), sample.true_semantic.long()
metric = evaluation.MeanIoU(len(classes) + 1)
metric.update(guess, true)
present = torch.cat([guess, true]).unique()
class_names = [("background", *classes)[i] for i in present]
result = metric.result()
print({w: f"{v:.2f}" for w, v in zip(class_names, result["IoU"][present], strict=True)})
print(f"mIoU {result['mIoU']:.2f}, pixel accuracy {result['pixel_accuracy']:.2f}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.9), layout="constrained")
for ax, values, name in ((axes[0], true, "ground truth"), (axes[1], guess, "prediction")):
    viz.draw_semantic(values, classes, image)(ax)
    ax.set_title(name)
    ax.set_axis_off()
viz.draw_confusion(metric.confusion[present][:, present], class_names)(axes[2])
axes[2].set_title("% of the true pixels")
plt.show()

# %% [markdown]
# **Takeaway.** Two dogs in one region are no mistake here, and the one with the wrong class is a mistake twice: it is missing
# from its row and an intruder in another column. A class that only the prediction has counts as zero. Pixel accuracy is high
# all the same, because most pixels are background.
#
# ## Labels before training: cues and pseudo labels
#
# The labels of a weakly supervised method are guesses, so this book measures them, too, with the same matching: a *cue* (a
# predicted point) is right if it lies on an object of its class that has no better cue; a *pseudo label* is right if its IoU
# reaches the threshold.

# %%
clicks = weak.points_from_masks(truth.masks, "mask_centroid")
xy = torch.cat([clicks[[0, 2, 4]], clicks[[0]] - 14, torch.tensor([[40.0, 230.0]])])
cues = Points.make(xy, torch.cat([truth.labels[[0, 2, 4]], truth.labels[[0, 1]]]))
quality = evaluation.cue_quality([cues], [truth])
print("precision {precision:.2f}, recall {recall:.2f}".format(**quality))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
levels = torch.linspace(0.1, 0.95, 18)
qualities = [
    evaluation.label_quality(predictions, truths, iou=float(level)) for level in levels
]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.3), layout="constrained")
viz.draw_points(viz.draw_instances(image, truth, fill=0.3), cues, classes)(left)
left.set_title("five cues for five objects")
left.set_axis_off()
for name, color in zip(qualities[0], ("C2", "C1", "C0", "C3"), strict=True):
    curve = [f[name] for f in qualities]
    right.plot(levels, curve, label=name.replace("_", " "), color=color)
right.set(title="pseudo labels", xlabel="IoU that counts as right", ylabel="count")
right.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# **Takeaway.** Left: two cues on one bird count once, one hits nothing, and two objects have none. Right: the damaged masks
# from above, taken as pseudo labels, are mostly right or mostly wrong, depending on the threshold, so a count without its IoU
# says nothing. A label that *covers several* holds half or more of each of two objects; it may well count as right, for the
# larger of them. None of these masks does.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# {ref}`bestie-model-selection <fidelity:bestie-model-selection>`: a metric that chooses the weights is no longer a measurement
# on that set. The release of BESTIE evaluates often and reports the best; this book reports the last.
# ```
#
# ## What would break this?
#
# **Small objects.** Here are the same few pixels of shift for objects of three sizes:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
objects = sorted((m for t in truths for m in t.masks), key=lambda m: m.sum() / m.numel())
third = len(objects) // 3
_, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for i, name in enumerate(("smallest", "middle", "largest")):
    group, ious = objects[i * third : (i + 1) * third], []
    for shift in shifts:
        shifted = [m.roll(shift, 1) for m in group]
        pairs = zip(shifted, group, strict=True)
        ious.append(sum(((p & m).sum() / (p | m).sum()).item() for p, m in pairs) / third)
    ax.plot(shifts, ious, "o-", markersize=3, label=f"{name} third")
ax.set(title="A pixel is dear to a small object", xlabel="shift, px", ylabel="mean IoU")
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** A metric that thresholds IoU asks for a finer outline, in pixels, where the object is smaller. So compare
# methods per size, too: `coco_ap` returns AP for small, medium and large objects.
#
# **Junk and rare classes.** Some changes mAP does not see, and some it overrates:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rare = int(counts.where(counts > 0, counts.max()).argmin())
quota = int(counts[rare])  # as many objects as the rarest class has
junk, no_rare, no_common = [], [], []
for p in predictions:
    displaced = p.masks.roll(p.masks.shape[2] // 2, 2)
    scores = torch.cat([p.scores, torch.full((len(p),), 1e-4)])
    pair = torch.cat([p.masks, displaced]), torch.cat([p.labels, p.labels])
    junk.append(Instances.make(*pair, scores=scores))
    no_rare.append(p[p.labels != rare])
    keep = (p.labels != label) | (quota <= 0)
    quota -= int((~keep).sum())
    no_common.append(p[keep])
cases = {"as above": predictions, "with as many junk masks, of lowest score": junk}
cases[f"rarest class lost: {source.classes[rare]}"] = no_rare
cases[f"about as many lost of the commonest: {source.classes[label]}"] = no_common
rows = []
for name, p in cases.items():
    quality = evaluation.label_quality(p, truths)
    row = {"predictions": name, "mAP50": 100 * voc_ap(p, truths, total)["mAP50"]}
    counted = {"right": quality["true_positive"], "wrong": quality["false_positive"]}
    rows.append(row | counted)
viz.table(rows, caption="Four sets of predictions of the same objects")

# %% [markdown]
# Junk of low score is free: mAP needs an order, not a decision, so *using* the masks requires a score threshold. And a handful
# of objects of a rare class weighs as much as all those of a common one, because classes are averaged: with few images, mAP is
# a noisy number.
#
# **Void.** Outlines in PASCAL VOC have a band of pixels that belong to no object. Whether predictions may cover it is a matter
# of convention; in published numbers it counts against them. Here the outlines of the true masks become such a band:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
voids = []
for t in truths:
    solid = t.masks[:, None].float()
    band = max_pool2d(solid, 3, 1, 1) + max_pool2d(-solid, 3, 1, 1) > 0
    voids.append(band.any(0)[0])
true_interiors = [
    Instances.make(t.masks & ~v, t.labels) for t, v in zip(truths, voids, strict=True)
]
pairs = zip(predictions, voids, strict=True)
interiors = [Instances.make(g.masks & ~v, g.labels, scores=g.scores) for g, v in pairs]
for counts_against, masks in ((True, predictions), (False, interiors)):
    ap = voc_ap(masks, true_interiors, total)
    print(f"void counts: {counts_against}", {n: f"{100 * ap[n]:.1f}" for n in names})

# %% [markdown]
# The stricter the threshold, the more the convention decides. Compare only numbers of one convention.
#
# ## Exercises
#
# ```{exercise}
# :label: metrics-half
# *Predict.* A square mask is moved by half of its side. What is its IoU with itself? By which fraction of the side may it move
# before mAP50 counts it as wrong?
# ```
#
# ```{solution-start} metrics-half
# :class: dropdown
# Moved by a share $s$ of its side, the square has $1 - s$ in common with itself, out of $1 + s$ in all: half a side
# leaves a third. The IoU is a half at $s = 1/3$.
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
square = torch.zeros(1, 90, 200, dtype=torch.bool)
square[:, :, 20:110] = True
for shift in (30, 45):
    shifted = square.roll(shift, 2)
    common = (square & shifted).sum().item()
    print(shift / 90, common / (square | shifted).sum().item())

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: metrics-thresholds
# *Change one parameter.* Give `voc_ap` the thresholds 0.5, 0.55, ... 0.95 and take the mean. How near does it come to
# COCO's AP, and why not nearer?
# ```
#
# ```{solution-start} metrics-thresholds
# :class: dropdown
# COCO reads the curve at 101 recalls, and a prediction whose best object is taken may take another one.
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
ten = voc_ap(predictions, truths, total, [0.5 + 0.05 * i for i in range(10)])["AP"]
coco = evaluation.coco_ap(predictions, truths, total)["AP"]
print(f"VOC rule {100 * ten.nanmean():.2f}, COCO {100 * coco:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: metrics-panoptic
# *Implement* panoptic quality for one image: the mean IoU of the right predictions, times the right ones over
# (predictions + objects) / 2. Use `matches`.
# ```
#
# ```{solution-start} metrics-panoptic
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for name, p in (("seven predictions", predicted), ("the ground truth", truth)):
    matching = matches(p, truth, threshold=0.5)
    quality = matching.iou[matching.right].mean()
    recognition = matching.right.sum() / ((len(p) + len(truth)) / 2)
    print(f"{name}: {quality:.2f} x {recognition:.2f} = {quality * recognition:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next:** [cues from image tags](10_bestie_cues.py), the first step of BESTIE.
