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
# One network, three maps, and a loss that ignores what is unknown: how the network learns, what it finds by itself, and where
# it fails.
#
# **Before this:** [from cues to labels](11_bestie_labels.py). **After it:** [the full-scale run](90_full_scale.py).
# **Time:** at tiny scale about two minutes on a laptop, if the chapters before this one were run there.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import copy
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import cross_entropy, one_hot, pad

# %%
from wsis import evaluation, experiments, training, viz, weak
from wsis.core import IGNORE, changed, read_json, sources
from wsis.data import Subset, WithPseudoLabels, collate
from wsis.experiments.tables.bestie import TABLES
from wsis.methods import bestie
from wsis.methods.bestie import labels
from wsis.methods.bestie.objective import guided, regression, render
from wsis.ops import components
from wsis.viz.style import draw

# %% [markdown]
# The two chapters before this one turned {term}`image tags <image tag>` into {term}`pseudo labels <pseudo label>`: some objects
# have one, many have none. Now a network is trained on them.
#
# The run is one call. {term}`Stages <stage>` that other chapters have finished are taken from disk. At full scale the same
# stages first run as a process of their own, on all GPUs of the machine, and the call finds them finished.

# %%
datasets = weak.open_data(data, scale, seed=seed)
classes, val = datasets.train.classes, datasets.val
cfg = changed(getattr(bestie, scale.upper()), classes=len(classes))
names = ("classifier", "cues", "activation_maps", "semantic_maps", "network")
_, folder = training.chapter_run(bestie, cfg, datasets, data, scale, seed, device, only=names)
net = bestie.restore(cfg, folder).eval()


def balance(predicted, truth):  # per image: objects right, minus wrong, minus missed
    counts = evaluation.quality_by_image(predicted, truth)
    return counts["true_positive"] - counts["false_positive"] - counts["missed"]


# %%
val_samples, outputs = [val[i] for i in range(min(len(val), 200))], []
with torch.no_grad():
    for sample in val_samples:
        outputs.append(bestie.infer(net, collate([sample]).images, cfg))
predicted = [bestie.decode(o, None, cfg).instances.unbind()[0] for o in outputs]
truth = [s.truth for s in val_samples]
score_of = balance(predicted, truth)
best = int(score_of.argmax())

# %% [markdown]
# ## One backbone, three heads
#
# The network is a good backbone and little else: HRNet {cite:p}`sun2019hrnet`, which keeps a fine grid all the way through, or
# ResNet {cite:p}`he2016resnet` with the decoder of Panoptic-DeepLab {cite:p}`cheng2020panopticdeeplab`. On its features sit
# three heads, and each predicts one of the maps of the last chapter. Here they are at work on an image that the network has
# never seen.

# %%
MAPS = ("semantic", "center", "offset")


def map_panel(name, out, image):
    if name == "center":
        return viz.draw_heat(image, out.center[0].amax(0), limits=(0, 0.6))
    class_map, offset = out.semantic[0].argmax(0), out.offset[0]
    image_and_map = viz.draw_semantic(class_map, image=image)
    return viz.draw_offsets(offset, class_map > 0) if name == "offset" else image_and_map


def add_panel(ax, xy, title, panel):  # an image in the diagram below
    inset = ax.inset_axes((*xy, 1.25, 1.25), transform=ax.transData)
    draw(inset, panel)
    inset.set_title(title, fontsize=9, pad=3)


# %%
def arrow(ax, start, end, **style):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "0.35"} | style)


def box(ax, xy, text):
    style = {"boxstyle": "round,pad=0.6", "facecolor": "#E6F0F7", "edgecolor": "0.6"}
    ax.text(*xy, text, ha="center", va="center", fontsize=9, bbox=style)


def head(ax, y, name, out, image):
    for start, end in (((2.5, 2.1), (2.95, y)), ((4.25, y), (4.6, y)), ((6.5, y), (6.85, 2.1))):
        arrow(ax, start, end)
    box(ax, (3.6, y), f"3 x 3 conv, ReLU\n1 x 1 conv to {getattr(out, name).shape[1]}")
    add_panel(ax, (4.7, y - 0.62), f"{name} map", map_panel(name, out, image))


# %%
image, instances = val_samples[best].image, predicted[best]
instances = replace(instances, scores=torch.ones(len(predicted[best])))  # not drawn
figure, ax = plt.subplots(figsize=(10.4, 4.9), layout="constrained")
for y, name in zip((3.6, 2.1, 0.6), MAPS, strict=True):
    head(ax, y, name, outputs[best], image)
add_panel(ax, (0, 1.48), "image", image)
box(ax, (1.98, 2.1), f"backbone\n{cfg.backbone}")
box(ax, (7.35, 2.1), "centers\ngrouping")
add_panel(ax, (8.2, 1.48), "instances", viz.draw_instances(image, instances))
arrow(ax, (1.28, 2.1), (1.5, 2.1))
arrow(ax, (7.85, 2.1), (8.15, 2.1))
arrow(ax, (8.8, 1.4), (6.1, 0.3), color="#D55E00", connectionstyle="arc3,rad=-0.3")
ax.text(8.2, 0.35, "in training:\nrefined labels", color="#D55E00")
ax.set(xlim=(0, 9.5), ylim=(-0.05, 4.5), aspect="equal")
ax.set_axis_off()

# %% [markdown]
# **Takeaway.** The heads share everything but their last two layers, and none of them knows of instances. These appear only in
# the box on the right, which has nothing to learn. The orange arrow exists only while the network trains.
#
# ## What each term of the loss sees
#
# There are three heads and three errors. The semantic head has a cross entropy, the center map a squared error, the offset map
# an absolute one. The last two occur twice: against the pseudo labels, and against the {term}`refined labels <self-refinement>`
# that come from the network's own outputs in the same step. We take a training image in which the pseudo labels miss an object.

# %%
stored = WithPseudoLabels(
    datasets.train, folder / "semantic_maps", read_json(folder / "cues.json")
)
samples = [stored[i] for i in range(min(len(stored), 200))]
pseudo, train_outputs, refined = [], [], []
for sample in samples:
    batch = collate([sample])
    with torch.no_grad():
        train_outputs.append(bestie.infer(net, batch.images, cfg))
    pseudo.append(bestie.targets(net, batch, cfg))
    refined.append(
        labels.refined_labels(train_outputs[-1], batch.semantic_maps, batch.tags, cfg)
    )

# %%
true_masks = [s.truth for s in samples]
label_counts, refined_counts = (
    evaluation.quality_by_image([label_map.unbind()[0] for label_map in label_maps], true_masks)
    for label_maps in (pseudo, refined)
)
right, refined_right = label_counts["true_positive"], refined_counts["true_positive"]
clean = (right > 0) & (label_counts["false_positive"] + refined_counts["false_positive"] == 0)
gain = (
    10_000 * clean + 100 * (refined_right - right) + refined_right
)  # first clean ones, then the gain, then the number of right ones
ranking = gain.argsort(descending=True, stable=True).tolist()

# %%
m = ranking[0]
target, image, output = collate([samples[m]]).semantic_maps, samples[m].image, train_outputs[m]
error = cross_entropy(output.semantic, target, ignore_index=IGNORE, reduction="none")[0]
hard = error[target[0] != IGNORE].quantile(1 - cfg.loss.hard_fraction)
target_row = {"semantic": viz.draw_semantic(target[0], image=image)}
error_row = {"semantic": viz.Map(values=error * (error >= hard), unit="cross entropy")}
for kind, label_map in (("pseudo", pseudo[m]), ("refined", refined[m])):
    t = render(label_map, cfg)
    center = t.weight * (output.center - t.center).square()
    offset = t.weight * (output.offset - t.offset).abs()
    target_row[f"center, {kind}"] = viz.draw_heat(image, t.center[0].amax(0), limits=(0, 1))
    target_row[f"offset, {kind}"] = viz.draw_offsets(t.offset[0], t.weight[0, 0] > 0)
    error_row[f"center, {kind}"] = viz.Map(values=center.sum(1)[0], unit="squared error")
    error_row[f"offset, {kind}"] = viz.Map(values=offset.sum(1)[0], unit="px")

# %%
rows = ("target", "error")
viz.show([target_row, error_row], rows=rows, size=1.75, title="Three errors, two label sets")

# %% [markdown]
# **Takeaway.** Below *semantic* only the hardest fifth of the pixels is left, most of them along outlines
# {cite:p}`shrivastava2016ohem`. The other errors are always dark outside of labeled objects. The refined labels light up more
# of the image, as strongly as the network is sure of them.
#
# The sum of it all is Listing 6:
#
# ```{literalinclude} ../../wsis/methods/bestie/objective.py
# :pyobject: objective
# ```
#
# ## No loss where nothing is known
#
# The dark parts are the point of the paper. An object without a label is *not* background; we only do not know. So the errors
# are multiplied by the {term}`weight map` and divided by the number of pixels that have a weight. The paper calls this
# instance-aware guidance, {term}`IAG`. Without it every pixel counts, and where there is no label the target is zero: *no
# center here*. What does the network learn in both cases? The gradient shows it exactly.

# %%
leaf = type(output)(*(x.clone().requires_grad_() for x in output))
targets, gradients = render(pseudo[m], cfg), {}
for kind, iag in (("with IAG", True), ("without", False)):
    terms = regression(leaf, targets, changed(cfg, **{"loss.iag": iag}))
    gradient = torch.autograd.grad(sum(terms), (leaf.center, leaf.offset))
    gradients[kind] = gradient[0].abs().sum(1)[0]
    unlabeled = targets.weight[0, 0] == 0
    nonzero = int((torch.cat(gradient, 1).abs().sum(1)[0][unlabeled] > 0).sum())
    print(f"{kind}: a gradient at {nonzero} of {int(unlabeled.sum())} unlabeled pixels")

# %%
panels = {
    "ground truth": viz.draw_instances(image, samples[m].truth),
    "labels": viz.draw_instances(image, pseudo[m].unbind()[0]),
    "weight map": viz.Map(values=targets.weight[0, 0], limits=(0, 1)),
}
for kind, x in gradients.items():
    panels[kind] = viz.Map(values=x / x.max(), unit="of the largest", limits=(0, 1))
viz.show(panels, columns=5, size=1.9, title="Gradient of the center loss")

# %% [markdown]
# **Takeaway.** With IAG the gradient outside of the labels is zero, not small: objects that the labels missed are left alone.
# Without it the missed object has a gradient, too, and often the largest of all: the network sees something there, its labels
# say that there is nothing, and the labels win.
#
# ## Semantic drift, in slow motion
#
# What does such a gradient do over time? Take the trained network and train it for a few more steps on images in which some
# object has no label: once with IAG, once without, all else equal and without refinement. Then look at the heat of its center
# map inside the objects.

# %%
incomplete = [
    i for i in range(len(samples)) if len(pseudo[i].unbind()[0]) < len(samples[i].truth)
][:80]
scenes = Subset(stored, incomplete)
short_cfg = {"steps": 40, "batch_size": 8, "warmup": 0, "decay": "constant", "lr": 3e-4}
short_cfg = changed(cfg, **{f"network.{name}": value for name, value in short_cfg.items()})
accelerator, nets = training.make_accelerator(device), {"before": net}
options = {"accelerator": accelerator, "seed": seed, "resume": False}
drift = training.LoopOptions(folder=folder / "drift", **options)


def fine_tune(c):  # the network after a few more steps
    def step_loss(n, batch, step):
        return bestie.loss(n, batch, bestie.targets(n, batch, c), c)

    start, crops = copy.deepcopy(net), bestie.training_data(scenes, c)
    return training.train(f"drift_{c.loss.iag}", start, step_loss, crops, c.network, drift, "")


# %%
unguided = {"loss.unguided_norm": "matched", "refine.enabled": False}
for kind, iag in (("with IAG", True), ("without", False)):
    nets[kind] = fine_tune(changed(short_cfg, **unguided, **{"loss.iag": iag}))

# %%
heatmaps = {kind: [] for kind in nets}
with torch.no_grad():
    for kind, model in nets.items():
        for i in incomplete:
            images = collate([samples[i]]).images
            heatmaps[kind].append(bestie.infer(model, images, cfg).center[0])
peaks = []  # image, has a label, highest heat in the object before, with IAG, without
for k, i in enumerate(incomplete):
    labeled_pixels = pseudo[i].ids[0] > 0
    for mask, label in zip(samples[i].truth.masks, samples[i].truth.labels, strict=True):
        plane = int(label) if cfg.center_mode == "class_wise" else 0
        heights = [float(heatmaps[kind][k][plane][mask].max()) for kind in nets]
        peaks.append((k, bool(labeled_pixels[mask].float().mean() > 0.5), *heights))

# %%
example = max((t for t in peaks if not t[1]), key=lambda t: t[3] - t[4])[0]
scene = samples[incomplete[example]]
has_label = {True: "labeled", False: "unlabeled"}
figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
for x, (kind, color) in enumerate(zip(nets, ("0.6", "#0072B2", "#D55E00"), strict=True)):
    level = [torch.tensor([t[2 + x] for t in peaks if t[1] is has]).mean() for has in has_label]
    axes[0].bar([x / 4 - 0.25, x / 4 + 0.75], level, 0.22, color=color, label=kind)
    heatmap = heatmaps[kind][example].amax(0)
    draw(axes[2 + x], viz.draw_heat(scene.image, heatmap, limits=(0, 0.6)))
    axes[2 + x].set_title(kind)
axes[0].set(title="heat in objects", xticks=(0, 1), xticklabels=has_label.values())
axes[0].legend(fontsize=8), axes[0].margins(y=0.4)
axes[1].set_title("labels")
draw(axes[1], viz.draw_instances(scene.image, pseudo[incomplete[example]].unbind()[0]))

# %% [markdown]
# **Takeaway.** The scene is the one with the largest difference, the bars are the mean of all. Compare gray and orange over
# *unlabeled*: the network had learned to see these objects, from others of their kind, and is now trained to ignore them. That
# is {term}`semantic drift`. Labeled objects fade, too, since both share the same features. Refinement then has little left to
# work with.
#
# ## The run
#
# Back to the whole run. Its log has one row per step.

# %%
log = viz.read_log(folder / "network.csv")
refined_terms = {k: log[f"refined_{k}"] for k in MAPS[1:] if f"refined_{k}" in log}
logs = {"pseudo labels": log, "refined labels": {"step": log["step"], **refined_terms}}
terms = ("semantic", "total", "center", "offset")
viz.training_curves(logs, terms, title="The terms of the loss")

# %% [markdown]
# **Takeaway.** The refined terms start at zero: the center map begins far below the threshold for a center, so there is nothing
# to refine yet. Once the first hills rise above it the network has a second source of labels, itself. The refined terms stay
# lower than the others, as a network rarely disagrees with itself.
#
# ## Watch it learn
#
# To see that happen we train once more, with fewer steps and images, and save the network at some of the steps. The next cell
# is also all that you need for a training of your own: labels, loss, loop.

# %%
quick_cfg = changed(cfg, **{"network.steps": 120, "network.batch_size": 8})
snapshot_steps, snapshots = (0, 5, 10, 15, 20, 30, 40, 50, 60, 75, 90, 119), {}


def snapshot_loss(network, batch, step):
    if step in snapshot_steps:
        snapshots[step] = copy.deepcopy(network.state_dict())
    return bestie.loss(network, batch, bestie.targets(network, batch, quick_cfg), quick_cfg)


torch.manual_seed(seed)
crops = bestie.training_data(stored, quick_cfg)
loop = training.LoopOptions(folder=folder / "watched", **options)
student = bestie.build(quick_cfg)
student = training.train("watched", student, snapshot_loss, crops, quick_cfg.network, loop, "")

# %%
frames, batch = [], collate([samples[m]])
for state in snapshots.values():
    student.load_state_dict(state)
    with torch.no_grad():
        out = bestie.infer(student, batch.images, quick_cfg)
    masks = labels.refined_labels(out, batch.semantic_maps, batch.tags, quick_cfg).unbind()[0]
    panels = {f"{name} map": map_panel(name, out, image) for name in MAPS}
    panels["refined labels"] = viz.draw_instances(image, masks)
    frames.append(viz.show(panels, size=2.4))
viz.scrub(frames, [f"step {step}" for step in snapshots], "training", start=len(frames) - 1)

# %% [markdown]
# **Takeaway.** Start at step 0 and go right. Classes begin as noise; then all is background, the cheapest answer; then patches
# of a class grow, and in them the color wheel opens around a center. Once a hill appears on the center map, a refined label
# appears, for an object that has no pseudo label. Its number is the confidence that becomes its weight.
#
# ## Labels and predictions
#
# Fig. 4 of the document compares the labels of the network with its predictions. The document's last column, the masks of IRN
# {cite:p}`ahn2019irn`, belongs to a method that this book does not run yet.

# %%
panels = []
for i in ranking[1:3]:
    image, targets = samples[i].image, render(pseudo[i], cfg)
    row = {"image, true masks": image}
    row["semantic map"] = viz.draw_semantic(samples[i].semantic_map, image=image)
    row["center map"] = viz.draw_heat(image, targets.center[0].amax(0), limits=(0, 1))
    row["offset map"] = viz.draw_offsets(targets.offset[0], targets.weight[0, 0] > 0)
    panels.append(row | {"masks": viz.draw_instances(image, pseudo[i].unbind()[0])})
    row = {"image, true masks": viz.draw_instances(image, samples[i].truth)}
    row |= {f"{name} map": map_panel(name, train_outputs[i], image) for name in MAPS}
    masks = bestie.decode(train_outputs[i], samples[i].tags[None], cfg).instances.unbind()[0]
    panels.append(row | {"masks": viz.draw_instances(image, masks)})
rows = ("labels", "network") * 2
viz.show(panels, rows=rows, size=1.8, title="Labels and predictions")

# %% [markdown]
# **Takeaway.** The upper row of each pair shows the labels, the lower row the network. The maps of the network are smoother,
# and it also predicts objects that its labels skip.
#
# ## On new images
#
# Now without any label. Each instance gets a score, the height of its center times the mean probability of its class. The score
# does not change the mask; it only ranks the masks.

# %%
order = score_of.argsort(descending=True, stable=True).tolist()
panels = [{}, {}]
for place in (0, 0.2, 0.4, 0.6, 0.8):
    i = order[int(place * (len(order) - 1))]
    title = f"better than {1 - place:.0%}" if place else "the best"
    panels[0][title] = viz.draw_instances(val_samples[i].image, truth[i])
    panels[1][title] = viz.draw_instances(val_samples[i].image, predicted[i], classes)
rows = ("ground truth", "predicted")
viz.show(panels, rows=rows, size=2, title="From good to bad")

# %% [markdown]
# **Takeaway.** The images are sorted by objects right minus objects wrong or missed, and taken at equal steps, so the row is a
# fair sample.
#
# How good is that in one number, and which of the three maps causes the remaining errors? Replace each by the true map, one at
# a time, and measure again ({term}`mAP` has [its own chapter](03_metrics.py)).

# %%
true_outputs, true_centers = [], []
for sample in val_samples:
    n, masks = len(sample.truth), sample.truth.masks
    layers = masks * torch.arange(1, n + 1)[:, None, None]
    ids = pad(layers, (0, 0, 0, 0, 0, 1)).amax(0)[None]
    true_centers.append(components.table(ids, n).center.float())
    zero, kinds = torch.zeros(n).long(), sample.truth.labels
    true_map = bestie.InstanceMap(
        ids=ids, image=zero, labels=kinds, centers=true_centers[-1], scores=torch.ones(n)
    )
    t, semantic = render(true_map, cfg), sample.true_semantic.long()
    semantic = one_hot(semantic * (semantic != IGNORE), len(classes) + 1).permute(2, 0, 1)
    true_outputs.append(type(outputs[0])(20.0 * semantic[None], t.center, t.offset))

# %%
decodings = {"as it is": predicted}
for name in MAPS:
    pairs = zip(outputs, true_outputs, strict=True)
    hybrids = [o._replace(**{name: getattr(p, name)}) for o, p in pairs]
    decodings[f"true {name} map"] = [
        bestie.decode(o, None, cfg).instances.unbind()[0] for o in hybrids
    ]
decodings["all three true"] = [
    bestie.decode(p, None, cfg).instances.unbind()[0] for p in true_outputs
]
scores = {k: evaluation.voc_ap(v, truth, len(classes)) for k, v in decodings.items()}
metrics = ("mAP25", "mAP50", "mAP70", "mAP75")
viz.table([{"maps": k, **{n: 100 * v[n] for n in metrics}} for k, v in scores.items()])

# %%
matchings = [evaluation.matches(p, t) for p, t in zip(predicted, truth, strict=True)]
score = torch.cat([p.scores[g.prediction] for p, g in zip(predicted, matchings, strict=True)])
overlap = torch.cat([g.iou for g in matchings]).clamp_min(0)
correct = torch.cat([g.right for g in matchings])
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3), layout="constrained")
values, colors = [100 * v["mAP50"] for v in scores.values()], ["#0072B2"] + ["#9CC5DF"] * 4
left.bar_label(left.barh(list(scores), values, color=colors), fmt="%.0f", padding=3)
left.set(title="What a perfect map would bring", xlabel="mAP50 (%)", xlim=(0, 110))
groups = ("right", colors[0], "o", correct), ("wrong", "#D55E00", "x", ~correct)
for kind, color, mark, mask in groups:
    right.scatter(score[mask], overlap[mask], c=color, marker=mark, s=16, alpha=0.6, label=kind)
right.set(title="Does the score predict the IoU?", xlabel="score", ylabel="IoU with its object")
right.legend(loc="lower right")
left.invert_yaxis()

# %% [markdown]
# **Takeaway.** Left: the longer a bar beyond the first one, the more errors its map causes; the last bar shows what decoding
# loses with perfect maps. Right: a good score would rise with the overlap. Crosses far to the right are the costly errors,
# confident and wrong; those at the bottom have the wrong class or lie on no object.
#
# ## A click in place of a tag
#
# One click per object costs an annotator little more than tags ([weak labels](01_weak_labels.py)). In BESTIE clicks
# replace the classifier and its cues. One setting changes; the weights below are still those of the run with tags.

# %%
clicks = changed(cfg, supervision="points")
click_batches = [collate([weak.with_points(sample)]) for sample in samples]
label_sets = {
    "tags: one component, one cue": [p.unbind()[0] for p in pseudo],
    "clicks: one component, one click": [
        bestie.pseudo_labels(None, b, clicks)[0] for b in click_batches
    ],
    "tags, refined": [r.unbind()[0] for r in refined],
    "clicks, refined": [bestie.pseudo_labels(net, b, clicks)[0] for b in click_batches],
}
true_masks = [s.truth for s in samples]
rows = [{"labels": k, **evaluation.label_quality(v, true_masks)} for k, v in label_sets.items()]
viz.table(rows, f"{len(samples)} training images")

# %%
click_gain = balance(label_sets["clicks, refined"], true_masks) - balance(
    label_sets["tags, refined"], true_masks
)
panels = [{}, {}, {}]
for i in click_gain.argsort(descending=True)[:4].tolist():
    outlines = viz.draw_instances(samples[i].image, true_masks[i], fill=0.3)
    panels[0][f"scene {i}"] = viz.draw_points(outlines, click_batches[i].points)
    panels[1][f"scene {i}"] = viz.draw_instances(
        samples[i].image, label_sets["tags, refined"][i]
    )
    panels[2][f"scene {i}"] = viz.draw_instances(
        samples[i].image, label_sets["clicks, refined"][i]
    )
rows = ("ground truth and clicks", "from tags", "from clicks")
viz.show(panels, rows=rows, size=2, title="Where clicks help most")

# %% [markdown]
# **Takeaway.** By the rule alone, clicks may even label fewer objects: every touching pair now has two, and is rejected. After
# refinement they label most objects, since none is missed for lack of a center. Clicks do not fix the outline, which still
# comes from the same class map. To train with them give `clicks` to `training.fit`, and `clicks="points"` to `open_data`; the
# stages of the classifier are not needed.
#
# ## What would break this?
#
# Fig. 6 of the document names four failures, and the page looks for them in its own validation images. *Close centers* shows
# the two nearest objects of one class of which one was missed. The other three show the image that gains most from one true
# map, compared with what the other true maps bring.

# %%
center_distance = []
for g, t, xy in zip(matchings, truth, true_centers, strict=True):
    missed = ~torch.isin(torch.arange(len(t)), g.target[g.right])
    rivals = (t.labels[:, None] == t.labels) & (missed[:, None] | missed)
    distances = torch.cdist(xy, xy)[rivals & ~torch.eye(len(t), dtype=torch.bool)]
    center_distance.append(float(distances.min()) if len(distances) else float("inf"))
gains = torch.stack([balance(decodings[f"true {name} map"], truth) for name in MAPS]) - score_of
lead = (10 * gains - gains.sum(0)).float()  # the gain of one true map, minus that of the others
nearest = center_distance.index(min(center_distance))
cases = {"close centers": (nearest, "center", "all three true")}
for name in ("center", "offset", "semantic"):
    lead[:, [i for i, *_ in cases.values()]] = -torch.inf
    i = int(lead[MAPS.index(name)].argmax())
    cases[f"noisy {name} map"] = (i, name, f"true {name} map")

# %%
panels = []
for i, name, cure in cases.values():
    row = {"ground truth": viz.draw_instances(val_samples[i].image, truth[i])}
    row["predicted"] = viz.draw_instances(val_samples[i].image, predicted[i], classes)
    row["its map"] = map_panel(name, outputs[i], val_samples[i].image)
    row["corrected"] = viz.draw_instances(val_samples[i].image, decodings[cure][i], classes)
    panels.append(row)
viz.show(panels, rows=list(cases), size=2.2, title="How BESTIE fails")

# %% [markdown]
# **Takeaway.** The last column replaces the map in question by the true one, in the first row all three. *Close centers*: two
# hills within one window, of which one survives, or one hill for both. *Noisy center map*: a hill too many or too low. *Noisy
# offset map*: votes that land at the neighbor's. *Noisy semantic map*: a wrong class or half an object, which no grouping can
# fix.
#
# ## What the tables say
#
# Here are the published numbers beside ours, where they have been run. A {term}`verdict` says whether *our* interval over seeds
# supports a claim; all rows are on [the results page](../book/results.md).

# %%
results = experiments.read_results(TABLES, Path("../book/results"))
rows = []
tables = [t for t in TABLES if t.id.split(".")[1] not in ("table2", "table3", "cue_threshold")]
for t in tables:
    ours = {r["name"]: r for r in results[t.id]["rows"] if r["n"]} if t.id in results else {}
    for r in t.rows:
        row = {"table": t.id, "row": r.name}
        row["published mAP50"] = str(r.published.get("mAP50", "-"))
        if r.name in ours:
            value, extra = ours[r.name]["ours"]["mAP50"], ours[r.name]["also"]
            row["tiny"] = f"{value['mean']:.1f} +- {value['std']:.1f}"
            row["tiny"] += f" (mIoU {100 * extra['evaluation.mIoU']:.0f})"
        rows.append({"tiny": None, **row})
viz.table(rows)

# %%
viz.table(
    experiments.claim_rows(TABLES, results),
    "mAP50: difference with its 95 % interval, or how many hold",
)

# %% [markdown]
# A claim can only be seen if the difference is larger than its noise. Here are the comparisons of Table 1 and of two tables of
# ours, each with its interval over seeds. The gray band is what even twenty seeds could not tell from zero.

# %%
shown = [
    t for t in TABLES if t.id in ("bestie.table1", "bestie.point_cues", "bestie.true_maps")
]
viz.room_and_noise(
    experiments.comparisons(shown, results),
    title="Differences of the components, and their noise",
)

# %% [markdown]
# Where a claim *needs more seeds* or is *contradicted* here, these are the first places to look:
#
# - **Cues that merge (C12-C14).** The activation maps have 12 x 12 cells here and 40 x 40 in the paper. Two objects that touch
#   rarely have two peaks in so few cells, so that "one component, one cue" labels the pair as one object, and guidance teaches
#   exactly that. The network's report counts these labels (`covers_several`). In our tables `bestie.point_cues` and
#   `bestie.true_maps` every object has a cue of its own: there guidance has what the paper gives it.
# - **IAG (C12, C14).** The guided loss divides by few pixels, the other by all pixels and channels, so that its center term has
#   a far smaller gradient in the shared backbone ({ref}`fidelity:bestie-unguided`). In a short run more of the backbone is then
#   left for the semantic map: compare the mIoU above, and see in the bars what a better center map could bring here at all.
# - **Units (C12).** In a crop of a quarter of the side a Gaussian covers a larger share of the area, and offsets are shorter. With
#   the published weights the center term then starves the semantic map, so that the tiny preset scales them. `bestie.units`
#   compares both.
# - **Refinement (C13).** It begins when the first hills pass the threshold, late in a short training, and can only add what the
#   network already sees.
# - **PAM (C15-C17).** Few and large objects have one peak per component anyway, with or without it.
# - **Networks (C18, C19).** What separates HRNet-48 from ResNet-50 on photographs need not exist between their small versions,
#   in this world, after minutes.
# - **Cue threshold (C20).** The claim is about half a point, and seeds alone differ by more.
#
# ## One more network: Mask R-CNN
#
# The best rows of the paper have a dagger: their masks come from a Mask R-CNN {cite:p}`he2017maskrcnn` that is trained on the
# masks of BESTIE for the *training* images, where the known tags prevent wrong classes. A detector of boxes does not share the
# failures above, averages over many noisy masks, and any toolbox can run it. It is the last stage, and is left out unless it
# gets steps:

# %%
dagger = changed(cfg, **{"final.steps": 60_000 if scale == "full" else 400})
for stage in bestie.stages(dagger):
    print(f"{stage.name:16} {stage.artefact or 'numbers only':24} {' '.join(stage.needs)}")
print(
    f"\n  python -m wsis train bestie --data {data} --scale {scale} --out runs/dagger", end=" "
)
print(f"--set final.steps={dagger.final.steps}")

# %% [markdown]
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
# ## Settings

# %%
groups = ("backbone", "weights", "width", "center_mode", "sigma", "loss", "refine", "network")
rows = [r for r in sources(cfg) if r["name"].split(".")[0] in groups]
viz.table([{k: r[k] for k in ("name", "value", "unit", "source")} for r in rows])

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: guided-by-hand
# *Predict.* Four pixels have the errors 1, 2, 3 and 4. What is the guided loss with the weights 1, 1, 0, 0? With
# .5, .5, 0, 0? With 1, 0, 0, 0? And when all weights are zero?
# ```
#
# ```{solution-start} guided-by-hand
# :class: dropdown
# ```

# %% tags=["solution"]
errors = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
for weights in ((1, 1, 0, 0), (0.5, 0.5, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0)):
    print(weights, float(guided(errors, torch.tensor(weights).view(1, 1, 1, 4))))

# %% [markdown]
# The divisor counts pixels, not weights. So a network that is half sure of its refined labels learns from them half as
# fast, and a batch without any label does no harm.
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

# %% tags=["solution"]
rows = []
for threshold in (0.01, 0.1, 0.5):
    for keep in (True, False):
        variant = changed(cfg, center_threshold=threshold, keep_centerless=keep)
        instances = [bestie.decode(o, None, variant).instances.unbind()[0] for o in outputs]
        ap = evaluation.voc_ap(instances, truth, len(classes))
        rows.append({"threshold": threshold, "keep": keep, **{n: 100 * ap[n] for n in metrics}})
viz.table(rows, digits=2)

# %% [markdown]
# Low hills have low scores and are ranked last, so a low threshold costs little. A high one leaves components without a center,
# and then it matters whether they are kept.
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

# %% tags=["solution"]
x = collate([val_samples[best]]).images
with torch.no_grad():
    there = bestie.infer(net, x, cfg).offset
    mirrored = bestie.infer(net, x.flip(3), cfg).offset.flip(3)
    library = bestie.infer(net, x, changed(cfg, flip=True)).offset
mirrored[:, 1] *= -1  # what pointed left points right
print(f"largest difference: {float(((there + mirrored) / 2 - library).abs().max()):.6f} px")

# %% [markdown]
# The release leaves the mirrored offsets out altogether.
#
# ```{solution-end}
# ```
