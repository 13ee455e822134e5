# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # BESTIE: training on labels that are not all there
#
# One network, three maps, and a loss that ignores what is unknown.
#
# **Before this:** [from cues to labels](11_bestie_labels.py). **After it:** [the full-scale run](90_full_scale.py).

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import cross_entropy, one_hot, pad

from wsis import evaluation, experiments, training, viz, weak
from wsis.core import IGNORE, changed, read_json
from wsis.data import Subset, WithPseudoLabels, collate
from wsis.methods import bestie
from wsis.methods.bestie import labels
from wsis.methods.bestie.objective import guided, objective, regression, render
from wsis.ops import components
from wsis.viz.style import draw

# %% [markdown]
# The last two chapters turned {term}`image tags <image tag>` into {term}`pseudo labels <pseudo label>`: some objects have one,
# many have none. Now a network is trained on them. The whole run is one call ({term}`stages <stage>` that another chapter has
# finished are taken from disk), and the last lines ask the network for instances in new images.

# %%
datasets = weak.open_data(data, scale, seed=seed)
classes, val = datasets.train.classes, datasets.val
cfg = changed(getattr(bestie, scale.upper()), classes=len(classes))
names = ("classifier", "cues", "activation_maps", "semantic_maps", "network")
reports, folder = training.chapter_run(
    bestie, cfg, datasets, data, scale, seed, device, only=names
)
net = bestie.restore(cfg, folder).eval()
val_samples, outputs = [val[i] for i in range(min(len(val), 200))], []
with torch.no_grad():
    for sample in val_samples:
        outputs.append(bestie.infer(net, collate([sample]).images, cfg))
predicted = [bestie.decode(o, None, cfg).instances.unbind()[0] for o in outputs]
truth = [s.truth for s in val_samples]


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def balance(found, objects):  # per image: objects right, minus wrong, minus missed
    counts = evaluation.quality_by_image(found, objects)
    return counts["true_positive"] - counts["false_positive"] - counts["missed"]


def map_panel(name, out, image):
    class_map, heat = out.semantic[0].argmax(0), out.center[0].amax(0)
    if name == "offset":
        return viz.draw_offsets(out.offset[0], class_map > 0)
    center = viz.draw_heat(image, heat, limits=(0, 0.6))
    return center if name == "center" else viz.draw_semantic(class_map, image=image)


MAPS, score_of = ("semantic", "center", "offset"), balance(predicted, truth)
best = int(score_of.argmax())

# %% [markdown]
# ## One backbone, three heads
#
# The network is a good backbone and little else: HRNet {cite:p}`sun2019hrnet`, which keeps a fine grid all the way through,
# or ResNet {cite:p}`he2016resnet` with the decoder of Panoptic-DeepLab {cite:p}`cheng2020panopticdeeplab`. On its features
# sit three heads, one for each map of the last chapter.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def add_panel(ax, xy, title, panel):  # an image in the diagram below
    inset = ax.inset_axes((*xy, 1.25, 1.25), transform=ax.transData)
    draw(inset, panel)
    inset.set_title(title, fontsize=10, pad=3)


def arrow(ax, start, end, **style):
    look = {"arrowstyle": "->", "color": "0.35"} | style
    ax.annotate("", end, start, arrowprops=look)


def box(ax, xy, text):
    style = {"boxstyle": "round,pad=0.6", "facecolor": "#E6F0F7", "edgecolor": "0.6"}
    ax.text(*xy, text, ha="center", va="center", fontsize=9.5, bbox=style)


image, instances = val_samples[best].image, predicted[best]
instances = replace(instances, scores=torch.ones(len(instances)))  # not drawn
figure, ax = plt.subplots(figsize=(9.4, 4.6), layout="constrained")
for y, name in zip((3.6, 2.1, 0.6), MAPS, strict=True):
    arrow(ax, (2.5, 2.1), (2.95, y)), arrow(ax, (4.25, y), (4.6, y))
    arrow(ax, (6.5, y), (6.85, 2.1))
    size = getattr(outputs[best], name).shape[1]
    box(ax, (3.6, y), f"3 x 3 conv, ReLU\n1 x 1 conv to {size}")
    add_panel(ax, (4.7, y - 0.62), f"{name} map", map_panel(name, outputs[best], image))
add_panel(ax, (0, 1.48), "image", image)
box(ax, (1.98, 2.1), f"backbone\n{cfg.backbone}")
box(ax, (7.35, 2.1), "centers\ngrouping")
add_panel(ax, (8.2, 1.48), "instances", viz.draw_instances(image, instances))
arrow(ax, (1.28, 2.1), (1.5, 2.1)), arrow(ax, (7.85, 2.1), (8.15, 2.1))
arrow(ax, (8.8, 1.4), (6.1, 0.3), color="#D55E00", connectionstyle="arc3,rad=-0.3")
ax.text(8.0, 0.3, "in training:\nrefined labels", color="#D55E00")
ax.set(xlim=(0, 9.5), ylim=(-0.05, 4.5), aspect="equal")
ax.set_axis_off()

# %% [markdown]
# **Takeaway.** The heads share everything but their last two layers, and none of them knows of instances: these appear only in
# the grouping on the right, which has nothing to learn.
#
# ## The objective, and what it leaves out
#
# The semantic head has a cross entropy, taken over its hardest pixels {cite:p}`shrivastava2016ohem`; the center map has a
# squared error, and the offset map an absolute one. The last two occur twice: against the pseudo labels, and against the
# {term}`refined labels <self-refinement>`, which come from the network's own outputs in the same step.
#
# The idea of the paper is how these errors are averaged. An object without a label is *not* background: nobody knows what it
# is. So each error $e(p)$ is multiplied by the {term}`weight map` $w$, which is 0 where there is no label, and divided by the
# number of pixels that have a weight. The paper calls this instance-aware guidance, {term}`IAG`:
#
# $$L(e, w) = \frac{\sum_p w(p)\, e(p)}{|\{p : w(p) > 0\}|}.$$
#
# ```{literalinclude} ../../wsis/methods/bestie/objective.py
# :pyobject: guided
# ```
#
# ```{literalinclude} ../../wsis/methods/bestie/objective.py
# :pyobject: regression
# ```
#
# The total (Listing 6) is the semantic term plus the center and offset terms, $L_c$ and $L_o$ over pseudo labels and $L_c'$ and
# $L_o'$ over refined labels, with the weights $\lambda_c$ and $\lambda_o$:
#
# $$L = L_\text{semantic} + \lambda_c \tfrac{1}{2} (L_c + L_c') + \lambda_o \tfrac{1}{2} (L_o + L_o').$$
#
# ```{literalinclude} ../../wsis/methods/bestie/objective.py
# :pyobject: objective
# ```

# %%
points = read_json(folder / "cues.json")
stored = WithPseudoLabels(datasets.train, folder / "semantic_maps", points)
samples = [stored[i] for i in range(min(len(stored), 200))]
pseudo, refined, train_outputs = [], [], []
for sample in samples:
    batch = collate([sample])
    with torch.no_grad():
        out = bestie.infer(net, batch.images, cfg)
    train_outputs.append(out)
    pseudo.append(bestie.targets(net, batch, cfg))
    refined.append(labels.refined_labels(out, batch.semantic_maps, batch.tags, cfg))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
true_masks = [s.truth for s in samples]
counts, refined_counts = (
    evaluation.quality_by_image([p.unbind()[0] for p in found], true_masks)
    for found in (pseudo, refined)
)
right, refined_right = counts["true_positive"], refined_counts["true_positive"]
clean = (right > 0) & (counts["false_positive"] + refined_counts["false_positive"] == 0)
gain = 10_000 * clean + 100 * (refined_right - right) + refined_right
ranking = gain.argsort(descending=True, stable=True).tolist()
m = ranking[0]  # without a wrong label, and with the largest gain

# %%
image, output = samples[m].image, train_outputs[m]
target = collate([samples[m]]).semantic_maps
first, second = render(pseudo[m], cfg), render(refined[m], cfg)
terms = objective(output, target, first, second, cfg)
viz.table([{name: float(value) for name, value in terms.items()}], digits=4)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
error = cross_entropy(output.semantic, target, ignore_index=IGNORE, reduction="none")[0]
hard = error[target[0] != IGNORE].quantile(1 - cfg.loss.hard_fraction)
goals = {"semantic": viz.draw_semantic(target[0], image=image)}
errors = {"semantic": viz.draw_map(error * (error >= hard), unit="cross entropy")}
for name, t in (("center", first), ("offset", first), ("center, refined", second)):
    if name == "offset":
        goals[name] = viz.draw_offsets(t.offset[0], t.weight[0, 0] > 0)
        value, unit = (output.offset - t.offset).abs(), "px"
    else:
        goals[name] = viz.draw_heat(image, t.center[0].amax(0), limits=(0, 1))
        value, unit = (output.center - t.center).square(), "squared error"
    errors[name] = viz.draw_map((t.weight * value).sum(1)[0], unit=unit)
title = "What each term of the loss sees"
viz.show([goals, errors], rows=("target", "error"), size=1.9, title=title)

# %% [markdown]
# **Takeaway.** Of the semantic error only the hardest pixels are left, many of them along outlines. The other errors are zero
# outside of labeled objects. The refined labels (right) include an object without a pseudo label, weighted by how sure the
# network is of it.
#
# What does the network learn where there is no label? The gradient shows it: with guidance, and without, where every pixel
# counts and the target of an unlabeled pixel is *no center here*.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
leaf = type(output)(*(x.clone().requires_grad_() for x in output))
panels = {
    "ground truth": viz.draw_instances(image, samples[m].truth),
    "labels": viz.draw_instances(image, pseudo[m].unbind()[0]),
}
for kind, iag in (("with IAG", True), ("without", False)):
    values = regression(leaf, first, changed(cfg, **{"loss.iag": iag}))
    gradient = torch.autograd.grad(sum(values), leaf.center)[0].abs().sum(1)[0]
    share = gradient / gradient.max()
    panels[kind] = viz.draw_map(share, unit="of the largest", limits=(0, 1))
viz.show(panels, size=2.1, title="Gradient of the center loss")

# %% [markdown]
# **Takeaway.** With guidance the gradient outside of the labels is exactly zero: the object that the labels missed is left
# alone. Without it the network sees something there, its labels say that there is nothing, and each step lowers the center
# map a little.
#
# ## Semantic drift, in slow motion
#
# What does such a gradient do over time? We train the network for a few more steps on images in which some object has no
# label, with guidance and without, all else equal and without refinement.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
found = [p.unbind()[0] for p in pseudo]
incomplete = [i for i, t in enumerate(true_masks) if len(found[i]) < len(t)][:80]
scenes, nets = Subset(stored, incomplete), {"before": net}
short = {"steps": 40, "batch_size": 8, "warmup": 0, "decay": "constant", "lr": 3e-4}
short = {f"network.{name}": value for name, value in short.items()}
short |= {"loss.unguided_norm": "matched", "refine.enabled": False}
accelerator = training.make_accelerator(device)
options = {"accelerator": accelerator, "seed": seed, "resume": False}
drift = training.LoopOptions(folder=folder / "drift", **options)


def step_loss(network, batch, step):
    return bestie.loss(network, batch, bestie.targets(network, batch, variant), variant)


for kind, iag in (("with IAG", True), ("without", False)):
    variant, start = changed(cfg, **short, **{"loss.iag": iag}), copy.deepcopy(net)
    crops = bestie.training_data(scenes, variant)
    nets[kind] = training.train(
        f"drift_{iag}", start, step_loss, crops, variant.network, drift, ""
    ).cpu()

# %% jupyter={"source_hidden": true} tags=["hide-input"]
heatmaps, peaks = {kind: [] for kind in nets}, []
with torch.no_grad():
    for kind, trained in nets.items():
        for i in incomplete:
            images = collate([samples[i]]).images
            heatmaps[kind].append(bestie.infer(trained, images, cfg).center[0])
for k, i in enumerate(incomplete):  # has each object a label, and how high is its heat?
    labeled = (pseudo[i].ids[0] > 0).float()
    for mask, label in zip(true_masks[i].masks, true_masks[i].labels, strict=True):
        plane = int(label) if cfg.center_mode == "class_wise" else 0
        heights = [float(heatmaps[kind][k][plane][mask].max()) for kind in nets]
        peaks.append((k, bool(labeled[mask].mean() > 0.5), *heights))
example = max((t for t in peaks if not t[1]), key=lambda t: t[3] - t[4])[0]
scene = samples[incomplete[example]]
figure, axes = plt.subplots(1, 4, figsize=(9.4, 2.6), layout="constrained")
colors = ("0.6", "#0072B2", "#D55E00")
for x, (kind, color) in enumerate(zip(nets, colors, strict=True)):
    groups = ([t[2 + x] for t in peaks if t[1] == has] for has in (True, False))
    means = [sum(heights) / max(len(heights), 1) for heights in groups]
    place = [x / 4 - 0.25, x / 4 + 0.75]
    axes[0].bar(place, means, 0.22, color=color, label=kind)
axes[0].set_title("heat in objects")
axes[0].set_xticks((0, 1), ("labeled", "unlabeled"))
axes[0].legend(fontsize=8), axes[0].margins(y=0.45)
draw(axes[1], viz.draw_instances(scene.image, found[incomplete[example]]))
axes[1].set_title("labels")
for ax, kind in zip(axes[2:], ("with IAG", "without"), strict=True):
    heat = heatmaps[kind][example].amax(0)
    draw(ax, viz.draw_heat(scene.image, heat, limits=(0, 0.6)))
    ax.set_title(kind)
plt.show()

# %% [markdown]
# **Takeaway.** A bar is the highest value of the center map inside an object, averaged over the objects of these images; the
# scene is the one with the largest difference. Compare gray and orange over *unlabeled*: the network had learned to see these
# objects from others of their kind, and is now trained to ignore them. That is {term}`semantic drift`. Labeled objects, which
# look like them, fade, too.
#
# ## Watch it learn
#
# Now we train from the beginning, with fewer steps. A training of your own needs no more than the next cell.

# %%
quick = changed(cfg, **{"network.steps": 120, "network.batch_size": 8})
snapshot_steps, snapshots = (0, 5, 10, 15, 20, 30, 40, 50, 60, 75, 90, 119), {}


def snapshot_loss(network, batch, step):
    if step in snapshot_steps:
        snapshots[step] = copy.deepcopy(network.state_dict())
    return bestie.loss(network, batch, bestie.targets(network, batch, quick), quick)


torch.manual_seed(seed)
student, crops = bestie.build(quick), bestie.training_data(stored, quick)
loop = training.LoopOptions(folder=folder / "watched", **options)
schedule = quick.network
student = training.train("watched", student, snapshot_loss, crops, schedule, loop, "").cpu()

# %% jupyter={"source_hidden": true} tags=["hide-input"]
frames, batch = [], collate([samples[m]])
for state in snapshots.values():
    student.load_state_dict(state)
    with torch.no_grad():
        out = bestie.infer(student.eval(), batch.images, quick)
    masks = labels.refined_labels(out, batch.semantic_maps, batch.tags, quick)
    panels = {f"{name} map": map_panel(name, out, image) for name in MAPS}
    panels["refined labels"] = viz.draw_instances(image, masks.unbind()[0])
    frames.append(viz.show(panels, size=2.1))
viz.scrub(frames, [f"step {k}" for k in snapshots], "training", start=len(frames) - 1)

# %% [markdown]
# **Takeaway.** Go from step 0 to the right. Classes begin as noise; then everything is background, the cheapest answer; then
# patches of a class come and go, some of a wrong class, and in them the color wheel opens around a center. Where a hill on the
# center map is high enough, a refined label appears, with the confidence that becomes its weight.
#
# ## Loss weights for a smaller crop
#
# The weights $\lambda_c$ and $\lambda_o$ of the paper belong to large crops. In a smaller one a Gaussian covers a larger
# share of the area and offsets are shorter: the center term grows, the offset term shrinks, and our presets undo both. Here
# is how strongly each term pulls at the shared backbone in the training above.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
batch, pulls, steps = collate(samples[:8]), {}, (10, 119)
goal = bestie.targets(None, batch, quick)
for step in steps:
    student.load_state_dict(snapshots[step])
    terms = bestie.loss(student.train(), batch, goal, quick)
    trunk = list(student.backbone.parameters())
    for name in MAPS:
        keep = {"retain_graph": True, "allow_unused": True}
        gradient = torch.autograd.grad(terms[name], trunk, **keep)
        squares = [g.square().sum() for g in gradient if g is not None]
        pulls[step, name] = float(sum(squares)) ** 0.5
presets = {
    "this crop": (cfg.loss, "#0072B2"),
    "the paper's crop": (bestie.FULL.loss, "#D55E00"),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for ax, step in zip(axes, steps, strict=True):
    for k, (name, (loss, color)) in enumerate(presets.items()):
        weights = (1.0, loss.center_weight, loss.offset_weight)
        heights = [w * pulls[step, n] for w, n in zip(weights, MAPS, strict=True)]
        place = [x + 0.36 * k - 0.18 for x in range(3)]
        ax.bar(place, heights, 0.34, label=f"weights of {name}", color=color)
    ax.set(title=f"step {step}", xticks=range(3), xticklabels=MAPS, yscale="log")
axes[0].set_ylabel("gradient in the backbone")
handles = axes[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# **Takeaway.** The axis is logarithmic. With either choice the center term pulls harder than the semantic one, and much
# harder with the weights of the paper's crop, under which the offset term hardly counts. Whether masks suffer was not
# measured yet (`bestie.units`).
#
# ## On new images
#
# Now the network works without any label. The score of an instance, which ranks the masks, is the height of its center on
# the center map times the mean probability of its class. A center that was found by clustering alone counts as 1.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
order = score_of.argsort(descending=True, stable=True).tolist()
panels = [{}, {}]
for place in (0, 0.25, 0.5, 0.75):
    i = order[int(place * (len(order) - 1))]
    title = f"better than {1 - place:.0%}" if place else "the best"
    panels[0][title] = viz.draw_instances(val_samples[i].image, truth[i])
    panels[1][title] = viz.draw_instances(val_samples[i].image, predicted[i], classes)
rows = ("ground truth", "predicted")
viz.show(panels, rows=rows, size=2.1, title="From good to bad")

# %% [markdown]
# **Takeaway.** Images are ranked by objects right minus objects wrong or missed. Masks are rounder than the objects, and
# touching objects can end in one.
#
# Which map causes the remaining errors? Replace one map at a time by the true one, and measure again ({term}`mAP` has [its
# own chapter](03_metrics.py)).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
true_outputs, true_centers = [], []
for sample in val_samples:
    n, masks = len(sample.truth), sample.truth.masks
    layers = masks * torch.arange(1, n + 1)[:, None, None]
    ids = pad(layers, (0, 0, 0, 0, 0, 1)).amax(0)[None]
    middle, zero = components.table(ids, n).center.float(), torch.zeros(n).long()
    true_centers.append(middle)
    rows = {"image": zero, "labels": sample.truth.labels, "centers": middle}
    t = render(bestie.InstanceMap(ids=ids, scores=torch.ones(n), **rows), cfg)
    semantic = sample.true_semantic.long()
    semantic = one_hot(semantic * (semantic != IGNORE), len(classes) + 1)
    semantic = 20.0 * semantic.permute(2, 0, 1)[None]
    true_outputs.append(type(outputs[0])(semantic, t.center, t.offset))

# %%
decodings = {"as it is": predicted}
for name in MAPS:
    pairs = zip(outputs, true_outputs, strict=True)
    hybrids = [o._replace(**{name: getattr(t, name)}) for o, t in pairs]
    found = [bestie.decode(o, None, cfg).instances.unbind()[0] for o in hybrids]
    decodings[f"true {name} map"] = found
found = [bestie.decode(o, None, cfg).instances.unbind()[0] for o in true_outputs]
decodings["all three true"] = found
scores = {k: evaluation.voc_ap(v, truth, len(classes)) for k, v in decodings.items()}
metrics = ("mAP25", "mAP50", "mAP75")
viz.table([{"maps": k, **{n: 100 * v[n] for n in metrics}} for k, v in scores.items()])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
values = [100 * v["mAP50"] for v in scores.values()]
colors = ["#0072B2"] + ["#9CC5DF"] * 4
ax.bar_label(ax.barh(list(scores), values, color=colors), fmt="%.0f", padding=3)
ax.set(title="What a perfect map would bring", xlabel="mAP50 (%)", xlim=(0, 112))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# **Takeaway.** The longer a bar beyond the first one, the more errors its map causes, and no map causes more than the
# semantic one. The last bar shows what decoding loses with perfect maps.
#
# Does the score know how good a mask is? Each mark is one prediction. Move over it (or touch it) to see the mask on its
# image.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
matchings = [evaluation.matches(p, t) for p, t in zip(predicted, truth, strict=True)]
ranked = [p[g.prediction] for p, g in zip(predicted, matchings, strict=True)]
score = torch.cat([p.scores for p in ranked])
correct = torch.cat([g.right for g in matchings])
overlap = torch.cat([g.iou for g in matchings]).clamp_min(0)


def crop(image, mask):  # what is around a mask, dark outside of it
    spans = [mask.any(axis).nonzero()[[0, -1], 0].tolist() for axis in (1, 0)]
    rows, columns = (slice(max(0, low - 4), high + 5) for low, high in spans)
    return (image * (0.35 + 0.65 * mask))[:, rows, columns].byte()


pairs = list(zip(val_samples, ranked, strict=True))
crops = [crop(s.image, mask) for s, p in pairs for mask in p.masks]
names = [f"{classes[k]}, image {i}" for i, (_, p) in enumerate(pairs) for k in p.labels]
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for kind, color, mark, group in (
    ("right", "#0072B2", "o", correct), ("wrong", "#D55E00", "x", ~correct)
):  # fmt: skip
    look = {"c": color, "marker": mark, "s": 16, "alpha": 0.6, "label": kind}
    ax.scatter(score[group], overlap[group], **look)
ax.set(title="Does the score predict the IoU?", xlabel="score", ylabel="IoU")
ax.legend(loc="lower right")
plt.close(figure)
plot = viz.score_plot(score, overlap, correct, crops, names)
viz.interactive(plot, figure, "The score of each prediction against its IoU")

# %% [markdown]
# **Takeaway.** A good score would rise with the overlap. Crosses far to the right are the costly errors, confident and wrong;
# those at the bottom have the wrong class or lie on no object. The column at the left edge holds regions without a center,
# which are kept with the low heights that they have.
#
# ## A click in place of a tag
#
# One click per object, the next cheapest label ([weak labels](01_weak_labels.py)), replaces the classifier that points, and its
# cues. One setting changes; the weights below are still those of the run with tags.

# %%
clicks = changed(cfg, supervision="points")
click_batches = [collate([weak.with_points(sample)]) for sample in samples]
label_sets = {
    "tags: one component, one cue": [p.unbind()[0] for p in pseudo],
    "clicks: one component, one click": [
        bestie.pseudo_labels(None, batch, clicks)[0] for batch in click_batches
    ],
    "tags, refined": [p.unbind()[0] for p in refined],
    "clicks, refined": [bestie.pseudo_labels(net, b, clicks)[0] for b in click_batches],
}
rows = []
for name, made in label_sets.items():
    rows.append({"labels": name, **evaluation.label_quality(made, true_masks)})
viz.table(rows, f"{len(samples)} training images")

# %% [markdown]
# By the rule alone, clicks may even label fewer objects, since a touching pair now has two clicks and is rejected. With
# refinement each click has a label: more objects are right than with tags, and more labels are wrong, since outlines still
# come from the same class map. To train with clicks, give `clicks` to `training.fit`, and `clicks="points"` to `open_data`.
#
# ## Where it fails
#
# The authors name four failures (their Fig. 6). Here are ours: first the two nearest objects of one class of which at least one
# was missed; then, for each map, the validation image that gains most from the true one compared with the other two.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
center_distance = []
for g, t, xy in zip(matchings, truth, true_centers, strict=True):
    missed = ~torch.isin(torch.arange(len(t)), g.target[g.right])
    rivals = (t.labels[:, None] == t.labels) & (missed[:, None] | missed)
    distances = torch.cdist(xy, xy)[rivals & ~torch.eye(len(t), dtype=torch.bool)]
    center_distance.append(float(distances.min()) if len(distances) else float("inf"))
gains = [balance(decodings[f"true {name} map"], truth) - score_of for name in MAPS]
gains = torch.stack(gains)
lead = (10 * gains - gains.sum(0)).float()  # a map's gain, minus that of the others
nearest = center_distance.index(min(center_distance))
cases = {"close centers": (nearest, "center", "all three true")}
for name in ("center", "offset", "semantic"):
    lead[:, [i for i, *_ in cases.values()]] = -torch.inf
    i = int(lead[MAPS.index(name)].argmax())
    cases[f"noisy {name} map"] = (i, name, f"true {name} map")
panels = []
for i, name, cure in cases.values():
    picture = val_samples[i].image
    row = {"ground truth": viz.draw_instances(picture, truth[i])}
    row["predicted"] = viz.draw_instances(picture, predicted[i], classes)
    row["its map"] = map_panel(name, outputs[i], picture)
    row["corrected"] = viz.draw_instances(picture, decodings[cure][i], classes)
    panels.append(row)
viz.show(panels, rows=list(cases), size=2.1, title="How BESTIE fails")

# %% [markdown]
# **Takeaway.** The last column has the true map instead, in the first row all three. *Close centers*: only true maps tell the
# two neighbors apart. *Noisy center map*: there is a hill too many. *Noisy offset map*: votes land at the neighbor's center.
# *Noisy semantic map*: the region of the class reaches beyond the objects and misses parts of them, which no grouping can fix.
#
# ## What guidance brings, and what hides it
#
# The paper's Table 1 adds guidance and refinement one by one. Two tables of ours repeat it with one cue for every object: from
# clicks (`bestie.point_cues`), and from one pixel of each object in true class maps (`bestie.true_maps`, an oracle). Each line
# is a comparison that has been measured: a difference in mAP50 with its interval over seeds.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ids = ("bestie.table1", "bestie.point_cues", "bestie.true_maps")
tables, store = [t for t in experiments.find("bestie") if t.id in ids], Path("../book/results")
shown = experiments.comparisons(tables, experiments.read_results(tables, store))
verdicts = Counter(c["verdict"] for c in shown)
title = ", ".join(f"{verdict}: {count}" for verdict, count in verdicts.items())
viz.room_and_noise(shown, title=f"{len(shown)} comparisons: {title}")

# %% [markdown]
# **Takeaway.** C12 to C14 are the paper's own comparisons, with tags; lines named *ours* have one cue per object. A line
# right of zero supports the paper, one left of it contradicts it, and one across zero leaves the question open.
#
# With tags guidance brings no gain here, and we suspect that cues merge. Two touching objects often share one cue ([chapter
# 10](10_bestie_cues.py) counts them), the rule labels the pair as *one* object, and guidance, which looks at nothing but
# labels, teaches exactly that. Without guidance labels count for less, since errors are averaged over all pixels and classes
# ({ref}`fidelity:bestie-unguided`). Guidance forgives missing labels, not wrong ones. Where each object has a cue of its own,
# labels of pairs should be rare: the lines named *ours* test the suspicion. In true class maps guidance helps, and refinement
# without it harms, as published. With clicks the class maps still join neighbors, and few seeds decide nothing.
#
# ## On photographs: which stage loses what
#
# The table follows BESTIE's stages on photographs of seven animals, with features that were learned on ImageNet. True masks are
# the upper bound: class maps that keep touching objects apart.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
table = experiments.find("bestie.supervision")
results, rows = experiments.read_results(table, store, "small.animals7"), []
for r in results["bestie.supervision"]["rows"] if results else []:
    if r["n"]:
        stage = {name.split(".")[-1]: value for name, value in r["also"].items()}
        maps = r["also"].get("semantic_maps.mIoU", r["also"].get("labels.mIoU"))
        row = {"labels from": r["name"], "seeds": r["n"], "mIoU of class maps": 100 * maps}
        row |= {"% of objects labeled": "-", "labels of several": "-"}
        if "pseudo_missed" in stage:
            right, missed = stage["pseudo_true_positive"], stage["pseudo_missed"]
            row["% of objects labeled"] = 100 * right / (right + missed)
            row["labels of several"] = stage["pseudo_covers_several"]
        row["mAP50"] = r["ours"]["mAP50"]["mean"]
        components = 100 * stage["components_mAP50"] if "components_mAP50" in stage else "-"
        rows.append(row | {"mAP50 of components": components})
viz.table(rows, "seven animals, small scale")

# %% [markdown]
# The class maps of tags and of points come from a classifier's activations, which a random walk spreads between similar patches
# ([decision 6](../book/decisions/06_semantic_maps.md)). Though most objects get no right label, tags bring mAP50 most of the way
# to the upper bound; IRN, from the same tags, is far lower.
#
# The last column takes each component of the predicted class map for one instance, which is right wherever an animal is alone.
# Grouping does better with true masks and with points, and about as well with tags, since centers are as wide as their place is
# uncertain. The clicks are the middles of the masks, as released. Random pixels, whose place is hardly known, would make low,
# wide hills that cut animals in two ([decision 17](../book/decisions/17_small.md)). Small differences say nothing.
#
# The paper's best rows take one more step: a Mask R-CNN {cite:p}`he2017maskrcnn` is trained on the masks that BESTIE finds in
# the *training* images. It is left out unless it gets steps (`--set final.steps=60000`).
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:bestie-unguided`: how the loss without IAG is scaled; the slow motion above uses `matched`.
# - {ref}`fidelity:bestie-cross-entropy`, {ref}`fidelity:bestie-hard-pixels`: which pixels supervise the semantic map.
# - {ref}`fidelity:bestie-region-mask`: a weight map in place of "the offset is not zero".
# - {ref}`fidelity:bestie-refine-foreground`: refined labels live inside the weak class map.
# - {ref}`fidelity:bestie-clustered-score`: the score of a center without a hill.
# - {ref}`fidelity:bestie-offset-scale`, {ref}`fidelity:bestie-flip-offsets`: defects of inference, fixed.
# - {ref}`fidelity:bestie-model-selection`: the last weights are evaluated, not the best ones.
# ```
#
# ## Exercises
#
# ```{exercise}
# :label: guided-by-hand
# *Predict.* Four pixels have errors 1, 2, 3 and 4. What is the guided loss with weights 1, 1, 0, 0? With
# .5, .5, 0, 0? With 1, 0, 0, 0? And when all weights are zero?
# ```
#
# ```{solution-start} guided-by-hand
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
errors = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
for weights in ((1, 1, 0, 0), (0.5, 0.5, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0)):
    print(weights, float(guided(errors, torch.tensor(weights).view(1, 1, 1, 4))))

# %% [markdown]
# The divisor counts pixels, not weights. A network that is half sure of its refined labels learns from them half as fast, and a
# batch without any label does no harm.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: center-threshold
# *Change one parameter.* At inference a center must be higher than 0.1. What do you expect at 0.01 and at 0.5? And what if
# components without a center are dropped (`keep_centerless=False`)?
# ```
#
# ```{solution-start} center-threshold
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
rows = []
for threshold in (0.01, 0.1, 0.5):
    for keep in (True, False):
        variant = changed(cfg, center_threshold=threshold, keep_centerless=keep)
        maps = [bestie.decode(o, None, variant).instances for o in outputs]
        instances = [instance_map.unbind()[0] for instance_map in maps]
        ap = evaluation.voc_ap(instances, truth, len(classes))
        row = {"threshold": threshold, "keep": keep}
        rows.append(row | {n: 100 * ap[n] for n in metrics})
viz.table(rows, digits=2)

# %% [markdown]
# Low hills have low scores, so a low threshold costs little. A high one leaves components without a center.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: flip-average
# *Implement.* Average the offset map over an image and its mirror image. What has to happen to the second one, besides
# mirroring it back? Compare with `flip=True`.
# ```
#
# ```{solution-start} flip-average
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
x = collate([val_samples[best]]).images
with torch.no_grad():
    there = bestie.infer(net, x, cfg).offset
    mirrored = bestie.infer(net, x.flip(3), cfg).offset.flip(3)
    library = bestie.infer(net, x, changed(cfg, flip=True)).offset
mirrored[:, 1] *= -1  # what pointed left points right
difference = (there + mirrored) / 2 - library
print(f"largest difference: {float(difference.abs().max()):.6f} px")

# %% [markdown]
# The release does not average the mirrored offsets.
#
# ```{solution-end}
# ```
