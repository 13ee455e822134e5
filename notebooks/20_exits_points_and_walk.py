# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # EXITS: from four clicks to points
#
# Four clicks on the rim of an object, a transformer that knows what looks similar, and a short random walk: together they label
# a good part of a box.
#
# **Before this:** [what a transformer sees](02_vit_features.py). **After it:** [from points to
# masks](21_exits_masks.py). **Time:** at tiny scale about two minutes on a laptop, a third of them for a small
# transformer.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
from dataclasses import replace

import torch
from matplotlib import pyplot as plt

from wsis import evaluation, experiments, training, viz, weak
from wsis.core import changed, sources
from wsis.data import World, collate
from wsis.methods import exits
from wsis.methods.exits import labels
from wsis.methods.exits.crops import ObjectCrops, Window, object_crop
from wsis.methods.exits.model import build_extractor
from wsis.methods.exits.stages import quality, true_tokens
from wsis.models import load_weights, mean_affinity
from wsis.ops import components, patches, random_walk

plt.rcParams.update(viz.RC)

# %% [markdown]
# A fast way to draw a tight box is to click on the topmost, leftmost, bottom and rightmost pixel of an object
# {cite:p}`papadopoulos2017extreme`. Usually the box is kept and the clicks are discarded. EXITS {cite:p}`lee2024exits` keeps
# them: a box says where an object ends, but {term}`extreme points` lie *on* it.
#
# This chapter turns these four clicks into labels for dozens of places in the box. Only one part of it is learned, the
# *extractor*: a transformer with pretrained weights, which is trained a little on boxes and is then frozen.

# %%
datasets = weak.open_data(data, scale, clicks="extreme_points", seed=seed)
train, classes = datasets.train, datasets.train.classes
cfg = changed(getattr(exits, scale.upper()), classes=len(classes))
names = ("extractor", "thresholds")
reports, folder = training.chapter_run(
    exits, cfg, datasets, data, scale, seed, device, only=names
)

# %% [markdown]
# Tiny crops make small figures. For a closer look this page gives the same network larger crops, since a transformer takes any
# size, and reads a lower layer, for a reason that a figure below gives.

# %%
larger = {"size.crop": 128, "seeds.push": 8.0, "extractor.layer": 6}
view = changed(cfg, **larger) if scale == "tiny" else cfg
torch_device = training.make_accelerator(device).device
net = build_extractor(view.for_dry_run())
load_weights(net, folder / "extractor.safetensors")
net = net.to(torch_device).eval().requires_grad_(False)
patch, layers = net.encoder.patch, range(1, net.encoder.depth + 1)
side = view.size.crop // patch
objects = ObjectCrops(train, view.size.min_area)
crops = [object_crop(objects[i], view.size.crop) for i in range(min(len(objects), 128))]
batch, truth = collate(crops), true_tokens(crops, patch)
clicks = labels.clicks(batch)
seeds = labels.find_seeds(clicks, batch.valid, patch, view.seeds.push)


# %% [markdown]
# ## What four clicks tell


# %%
def tokens(ax, base):  # the patches of the transformer
    base(ax)
    lines = torch.arange(side + 1) * patch - 0.5
    ax.hlines(lines, lines[0], lines[-1], color="white", lw=0.5)
    ax.vlines(lines, lines[0], lines[-1], color="white", lw=0.5)


def overlay(i, seeds, targets, base, names=False):  # labels of a crop
    seed_mask = seeds.foreground[i] | seeds.background[i]
    return viz.draw_labelled(
        base, targets.target[i], targets.labeled[i], seed_mask, names=names
    )


no_walk = labels.select(torch.zeros(seeds.valid.shape), seeds, view.walk)  # without a walk
seed_targets = labels.token_targets(seeds, no_walk)
inner = int((truth.sum(1) * batch.valid.flatten(1).all(1)).argmax())
border = int((~batch.valid).flatten(1).sum(1).argmax())

# %%
panels = []
for i in (inner, border):
    sample, crop = objects[i], crops[i]
    w = Window.around(sample.extreme_points.boxes[0])
    extremes = viz.draw_extreme_points(sample.image, sample.extreme_points)
    crop_extremes = viz.draw_extreme_points(crop.image, crop.extreme_points)
    valid = viz.draw_semantic(torch.where(crop.valid, 0, 255), image=crop.image)
    panels.append({
        "four clicks, a box, a window": viz.draw_boxes(extremes, torch.tensor([[w.x0, w.y0, w.x1, w.y1]])),
        "the crop and its tokens": lambda ax, b=crop_extremes: tokens(ax, b),
        "known labels": overlay(i, seeds, seed_targets, valid),
    })  # fmt: skip
viz.show(panels, size=2.8, title="From four clicks to seeds")

# %% [markdown]
# **Takeaway.** The box that the clicks span gets a margin, and this window becomes a square crop. The transformer cuts it into
# *tokens*. Clicks are moved inward a little, so that the object fills their token, and label it *object* (green). Tokens
# outside the box are *background* (gray). Where the window leaves the image, the crop shows it mirrored, and the tokens there
# (hatched) are ignored. A box gives all that is gray; the clicks add what is green.
#
# ## What looks similar to a transformer?
#
# In each layer, every token pays attention to all others, in shares that sum to one. It was never trained for it, yet parts of
# one object attend to each other more than to the ground behind them. Choose a layer, and see what the topmost click attends
# to; a value of one is an even spread.


# %%
def layer_affinities(images, model=net):  # for each layer, the affinity of tokens, [B, n, n]
    x = model.encoder.embed(images.to(torch_device))
    for layer in layers:
        yield layer, mean_affinity(*model.encoder.query_key(x, layer))[:, 1:, 1:].cpu()
        x = model.encoder.run(x, layer - 1, layer)


def page_affinity(images):  # at the layer of this page
    parts = [net.similarity(part.to(torch_device)) for part in images.split(32)]
    return torch.cat(parts).cpu()


# %%
picks = [i for i in range(len(crops)) if seeds.valid[i].all()][:3]
tops = labels.pushed(clicks.xy, view.seeds.push)[picks, :1]
tops = patches.point_patches(tops, patches.PatchGrid(side, side, patch))
frames = []
for _, shares in layer_affinities(batch.images[picks]):
    panels = {}
    for i, top, row in zip(picks, tops, side**2 * shares[tops], strict=True):
        heat = viz.draw_tokens(crops[i].image, row, limits=(0, 8))
        name = classes[int(crops[i].extreme_points.labels)]
        panels[name] = viz.draw_labelled(heat, top, top, top)
    frames.append(viz.show(panels, size=2.6))
layer = view.extractor.layer or len(layers)
viz.scrub(frames, [str(layer) for layer in layers], "layer", start=layer - 1)

# %% [markdown]
# **Takeaway.** In the first layer attention is nearly even. In the middle a click lights up its *part*: a shell, some petals,
# the roof of a car, and hardly any ground. The last layers look elsewhere. A part is not an object; the walk will connect the
# parts.
#
# ## A fair exchange
#
# A walk needs more than raw attention. Many tokens attend to the same few, and these would collect all walkers. *Sinkhorn
# scaling* fixes that: make the matrix symmetric, then find one factor per token, such that all rows and columns sum to one.
# Each token then sends as much as it receives. The result is the *transition matrix* $T$.
#
# ```{literalinclude} ../../wsis/ops/random_walk.py
# :pyobject: sinkhorn
# ```

# %%
affinity = page_affinity(batch.images)
i = max(picks, key=lambda i: affinity[i].sum(0).max())
steps, column_sums = range(1, labels.ITERATIONS + 1), {"received, before": affinity[i].sum(0)}
totals = [random_walk.sinkhorn(affinity[[i]], k).dense()[0].sum(0) for k in steps]
column_sums["received, after"] = totals[-1]
highest = float(affinity[i].sum(0).max())

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.4, 2.8), layout="constrained")
for ax, (name, sums) in zip(axes, column_sums.items(), strict=False):
    viz.draw_tokens(crops[i].image, sums, limits=(0, highest))(ax)
    ax.set(title=name, frame_on=False, xticks=[], yticks=[])
axes[2].semilogy(steps, [float((sums - 1).abs().max()) for sums in totals], color="#0072B2")
axes[2].set(title="farthest sum from one", xlabel="iteration", box_aspect=1, xticks=steps[4::5])
plt.show()

# %% [markdown]
# **Takeaway.** Before scaling, a few tokens receive several times their share, some of them empty ground. After scaling, all
# receive the same. Every iteration reduces the error by a fixed factor.
#
# ## The walk
#
# Put a walker on a click, and let it hop from token to token with the probabilities in $T$. With $u$ spread evenly over the
# clicks, the probabilities after $k$ hops are $T^k u$. A second walker starts outside the box. The *score* of a token is the
# probability of the first minus that of the second, in units of an even spread.
#
# No power of $T$ is ever computed. A hop is a product of $T$ with two columns:
#
# ```{literalinclude} ../../wsis/ops/random_walk.py
# :pyobject: walk_each
# ```
#
# Drag the number of hops. The last position is the *limit*: a walk that never ends, and before each hop returns to its
# start with probability $1 - \beta$.

# %%
score = labels.scores(affinity, seeds, view.walk)
contrast = (score * truth - score * ~truth).masked_fill(~seeds.open, 0).mean(1)
example = int((contrast * seeds.valid.all(1)).argmax())
graph = random_walk.sinkhorn(affinity[[example]], labels.ITERATIONS)
start = torch.stack([seeds.foreground[example], seeds.background[example]], -1).float()
start = (start / start.sum(0))[None]
states = list(random_walk.walk_each(graph, start, 8))
states.append(random_walk.walk_limit(graph, start, labels.BETA))

# %%
frames, image, peak = [], crops[example].image, float(score[example].abs().max())
for object_, outside in (side**2 * state[0].T for state in states):
    difference, limits = object_ - outside, (-peak, peak)
    frames.append(viz.show({
        "from the clicks": viz.draw_tokens(image, object_, limits=(0, peak)),
        "from outside": viz.draw_tokens(image, outside, limits=(0, peak)),
        "the difference": viz.draw_tokens(image, difference, signed=True, limits=limits),
    }, size=2.6))  # fmt: skip
names = [*(f"{k} hop{'s' * (k != 1)}" for k in range(9)), "limit"]
viz.scrub(frames, names, "walk", start=view.walk.hops)

# %% [markdown]
# **Takeaway.** After one hop the object is patchy: a click reaches what looks like itself. After two or three hops its parts
# are connected, since one part leads to the next. From then on every hop evens out what is left, and the difference fades. The
# limit is a mixture of all hops, in which the first weigh most. (This is a crop where it works well; many others follow.)
#
# ## How high is high enough?
#
# A token is *retrieved* as object if its score is above a threshold $\tau$, as background if below $-\tau$; others stay open.
# The value of $\tau$ is unpublished. The share of crops in which nothing is retrieved (`walk.empty_rate`) is published, and
# that determines it: a crop is empty if its largest magnitude is at most $\tau$, so $\tau$ is a quantile of these. The *true
# masks* below are used to evaluate, never to choose.


# %%
def retrieve(score, walk=view.walk):  # settings with the threshold, labels
    tau = labels.threshold(labels.peak(score, seeds), walk.empty_rate)
    walk = changed(walk, tau_fg=tau * walk.fg_factor, tau_bg=tau * walk.bg_factor)
    return walk, labels.select(score, seeds, walk)


walk, selection = retrieve(score)
by_hops = {}
for k in (*range(1, 9), "limit"):
    variant = changed(view.walk, limit=True) if k == "limit" else changed(view.walk, hops=k)
    variant, result = retrieve(labels.scores(affinity, seeds, variant), variant)
    by_hops[k] = {"tau": variant.tau_fg, **quality([(result, seeds.open, truth)])}


# %%
def plot(ax, key, rows):
    for kind, color in (("foreground", "#009E73"), ("background", "#D55E00")):
        points = {str(k): r for k, r in rows.items() if r[f"{kind}_tokens"] > 0.5}
        ax.plot(list(points), [r[f"{kind}_{key}"] for r in points.values()], "o-", color=color)


def histogram(ax, bins):
    for mask, color, name in ((truth, "#009E73", "object"), (~truth, "#D55E00", "background")):
        ax.hist(score[seeds.open & mask], bins, color=color, alpha=0.5, label=name)
    ax.axvline(walk.tau_fg, color="0.2", ls="--", lw=1)
    ax.axvline(-walk.tau_bg, color="0.2", ls="--", lw=1)


# %%
figure, axes = plt.subplots(1, 3, figsize=(10.6, 3), layout="constrained")
histogram(axes[0], torch.linspace(-2.5 * walk.tau_fg, 4.5 * walk.tau_fg, 60).tolist())
axes[0].set(title=f"score of open tokens, {walk.hops} hops", xlabel="score", yticks=[])
axes[0].legend()
limit = {"limit": by_hops["limit"]}
for rows in ({k: v for k, v in by_hops.items() if k not in limit}, limit):
    plot(axes[1], "precision", rows)
    plot(axes[2], "tokens", rows)
axes[1].set(title="precision", xlabel="hops", ylim=(0.5, 1.02))
axes[2].set(title="retrieved in a crop", xlabel="hops")
plt.show()

# %% [markdown]
# **Takeaway.** Left: the two hills overlap, and the thresholds (dashed) take mostly what is beyond the overlap. Middle and
# right: one hop retrieves little. Each further hop retrieves more, also background, at the price of some errors, as the scores
# even out. (Points of less than half a token per crop are left out.)
#
# The scores shrink with every hop, so a threshold fits one number of hops only. That matters for Table a2 of the
# document, which does not say whether $\tau$ was set anew in each row:

# %%
published = experiments.find("exits.table_a2")[0].rows
columns, rows = ("tau", "foreground_tokens", "foreground_precision", "background_tokens"), []
for row, k in zip(published, (1, 2, 3, 4, "limit"), strict=True):
    ours = {key: by_hops[k][key] for key in columns}
    rows.append({"walk": row.name, "AP, published": row.published["AP"], **ours})
viz.table(rows, digits=2, caption=f"AP of the final model; our {len(crops)} crops")

# %% [markdown]
# ## The points
#
# Here is the first crop of each class, not the best:

# %%
targets = labels.token_targets(seeds, selection)
firsts = {int(c.extreme_points.labels): i for i, c in reversed([*enumerate(crops)])}
panels = {}
for label, i in sorted(firsts.items())[:8]:
    panels[classes[label]] = overlay(i, seeds, targets, crops[i].image, names=len(panels) == 4)
viz.show(panels, size=2.4, title="What four clicks retrieve")

# %% [markdown]
# **Takeaway.** Large green dots are clicks, light green is retrieved object, orange retrieved background. The dots stop at many
# outlines that no box could know. Errors occur where something else stands in the box, and at the outline, where tokens are
# half one and half the other.
#
# ## Which layer?
#
# Why does this page not use the published layer? Here are the same numbers for every layer, for the pretrained network and
# after its training on boxes, the *warm-up*.

# %%
pretrained = build_extractor(view).to(torch_device).eval().requires_grad_(False)
by_layer = {"after the warm-up": {}, "as pretrained": {}}
for rows, model in zip(by_layer.values(), (net, pretrained), strict=True):
    for layer, shares in layer_affinities(batch.images, model):
        result = retrieve(labels.scores(shares, seeds, view.walk))[1]
        rows[layer] = quality([(result, seeds.open, truth)])
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained", sharey=True)
for ax, (name, rows) in zip(axes, by_layer.items(), strict=True):
    plot(ax, "precision", rows)
    ax.axvline(str(cfg.extractor.layer), color="0.6", lw=1, zorder=0)
    ax.set(title=name, xlabel="layer", ylim=(0.5, 1.02))
axes[0].set_ylabel("precision")
plt.show()

# %% [markdown]
# **Takeaway.** In this small network the middle is best, with or without a warm-up; the published layer (gray line) gains more
# from it than lower ones. The large network has good similarities in higher layers, and the choice matters little there (Table
# a1, below). In Table a3 the warm-up is worth more than a point of AP.

# %%
rows = [
    {"similarity of": r.name, **r.published} for r in experiments.find("exits.table_a1")[0].rows
]
viz.table(rows, caption="Table a1, final model")

# %% [markdown]
# The run itself uses the published layer and small crops. This is its report:

# %%
columns = ("tau_fg", "empty", "foreground_precision", "background_precision")
report = {k: reports["thresholds"][k] for k in columns}
viz.table([report], digits=2, caption=f"{datasets.description}, layer {cfg.extractor.layer}")

# %% [markdown]
# ## Objects in pieces
#
# A post in front of a cat makes two half cats. The box holds both and the post, and a rule that asks for one {term}`component`
# loses one half. A walk does not depend on distance. In the next world something cuts every object.


# %%
def world_crops(count, **knobs):  # the objects of another world, and their crops
    base = weak.WORLDS[scale]
    scenes = World("train", count, seed, replace(base, objects=(1, 2), **knobs))
    clicked_scenes, _ = weak.clicked(scenes, "train", "extreme_points")
    items = ObjectCrops(clicked_scenes, view.size.min_area)
    return items, [object_crop(items[i], view.size.crop) for i in range(len(items))]


_, cuts = world_crops(80, occlusion=1.0, contact=0.0)
cuts = [c for c in cuts if evaluation.separated(c.truth.masks).all()]
cut_batch, cut_true = collate(cuts), true_tokens(cuts, patch)
cut_seeds = labels.find_seeds(labels.clicks(cut_batch), cut_batch.valid, patch, view.seeds.push)
cut_score = labels.scores(page_affinity(cut_batch.images), cut_seeds, walk)
cut_selection = labels.select(cut_score, cut_seeds, walk)
cut_targets = labels.token_targets(cut_seeds, cut_selection)

# %%
pieces, _ = components.connected_components(torch.cat([c.truth.masks for c in cuts]).long())
pieces = pieces[:, patch // 2 :: patch, patch // 2 :: patch].flatten(1) * cut_true  # per token
labeled_tokens = {"a click": cut_seeds.foreground, "any label": cut_targets.target > 0}
total = len(pieces[pieces > 0].unique())
shares = {k: len(pieces[m & (pieces > 0)].unique()) / total for k, m in labeled_tokens.items()}
row = {"objects": len(cuts), "pieces": total, **{f"with {k}": v for k, v in shares.items()}}
viz.table(
    [row | quality([(cut_selection, cut_seeds.open, cut_true)])],
    digits=2,
    caption="Pieces with a label, retrieved tokens",
)

# %%
right = (cut_selection.foreground & cut_true).sum(1).clamp_max(side)
right += (cut_selection.background & ~cut_true).sum(1)
wrong = (cut_selection.foreground & ~cut_true) | (cut_selection.background & cut_true)
panels = [{}, {}]
for i in (right - 3 * wrong.sum(1)).topk(5).indices.tolist():
    panels[0][f"crop {i}"] = viz.draw_instances(cuts[i].image, cuts[i].truth)
    panels[1][f"crop {i}"] = overlay(i, cut_seeds, cut_targets, cuts[i].image)
viz.show(panels, rows=("the object", "points"), size=2.1, title="Objects in pieces")

# %% [markdown]
# **Takeaway.** Object tokens are found on several sides of the occluder, also in pieces without a click. The occluder becomes
# background, if it also stands outside of the box, or stays open. These are the clearest cases; the table shows what is usual:
# thin pieces share their tokens with their surroundings.
#
# ## What would break this?
#
# **Another object of the class, inside the box.** The walk cannot know that there are two: objects of one class attract the
# same attention. The document shows it (Fig. a4), and suggests a fix: the neighbor has been clicked, too. With
# `seeds.other_objects` its clicks are background. Here is a world of such pairs.


# %%
def neighbors(items, k):  # the crop, with the masks of its neighbors of the same class
    (image, row), crop = items.index[k], items[k]
    sample = items.dataset[image]
    e, t = sample.extreme_points, sample.truth
    same_class = t[(t.labels == e.labels[row]) & (t.ids != e.ids[row])]
    return object_crop(replace(crop, truth=same_class), view.size.crop)


items, pairs = world_crops(120, nested=1.0, contact=1.0, occlusion=0.0)
twin_crops = [neighbors(items, k) for k in range(len(pairs))]
twins = torch.stack([crop.truth.masks.any(0) for crop in twin_crops])
twins = twins[:, patch // 2 :: patch, patch // 2 :: patch].flatten(1)

# %%
pair_batch, true = collate(pairs), true_tokens(pairs, patch)
pair_clicks, shift = labels.clicks(pair_batch), view.seeds.push
others = labels.other_clicks(pair_batch, patch, shift)
pair_affinity = page_affinity(pair_batch.images)
results, rows = {}, []
for switch, rivals in ((False, None), (True, others)):
    s = labels.find_seeds(pair_clicks, pair_batch.valid, patch, shift, rivals)
    m = labels.token_targets(s, labels.select(labels.scores(pair_affinity, s, walk), s, walk))
    results[switch], box = (s, m), s.in_box & s.valid
    kinds = {"object": m.target > 0, "background": m.labeled & (m.target == 0)}
    row, regions = {"other_objects": str(switch)}, {"neighbor": twins & box, "itself": true}
    for name, mask in regions.items():
        row |= {f"{name}: {k}": float((v & mask).sum() / mask.sum()) for k, v in kinds.items()}
    rows.append(row)
viz.table(rows, digits=2, caption=f"share of tokens with each label, {len(pairs)} crops")

# %%
(s, before), (_, after) = results.values()
repaired = ((before.target - after.target) * (twins & s.in_box)).sum(1)
points = (after.target * true).sum(1)
panels = [{}, {}, {}]
for i in (repaired * points).topk(5).indices.tolist():
    crop, name = pairs[i], f"crop {i}"
    panels[0][name] = viz.draw_extreme_points(crop.image, crop.extreme_points)
    for panel, (s, m) in zip(panels[1:], results.values(), strict=True):
        panel[name] = overlay(i, s, m, crop.image)
names = ("clicks", "without", "with other_objects")
viz.show(panels, rows=names, size=2.1, title="Two of a kind")

# %% [markdown]
# **Takeaway.** Second row: the other one is taken for a part, and will be in the mask. Third row: it is background or open now.
# These five are the best; in the table the object itself loses many points, too, as the walk from the neighbor also reaches
# this similar object. The switch is off by default.
#
# - **A click beside the object.** It labels ground as object, and moves the box. Try it below (`slip`).
# - **Thin and bent objects.** The push moves a click toward the center of the box, which may lie off the object.
# - **An object that fills its crop.** Without tokens outside of the box there is no second walker, and only the box is left.
#
# ## Play
#
# With a kernel, all sliders act together; in the book each one moves alone. `slip` moves the left click off the object, in
# tokens.


# %%
def walk_from(i, hops, push, slip):
    xy = clicks.xy[[i]] - slip * patch * torch.tensor([[0.0, 0], [1, 0], [0, 0], [0, 0]])
    s = labels.find_seeds(replace(clicks[[i]], xy=xy), batch.valid[[i]], patch, push)
    return s, labels.scores(affinity[[i]], s, changed(view.walk, hops=hops))


def play(crop, hops, push, slip):
    tau, (s, d) = by_hops[hops]["tau"], walk_from(crop, hops, push, slip)
    points = labels.token_targets(s, labels.select(d, s, changed(walk, tau_fg=tau, tau_bg=tau)))
    heat = viz.draw_tokens(crops[crop].image, d[0], signed=True, limits=(-peak, peak))
    return viz.show({"score": heat, "points": overlay(0, s, points, crops[crop].image)}, size=3)


pushes = [factor * view.seeds.push for factor in (1.0, 0.0, 0.5, 2.0, 4.0)]
viz.explore(
    play, crop=[example, *picks], hops=[view.walk.hops, 1, 2, 5, 8], push=pushes, slip=[0, 1, 2]
)

# %% [markdown]
# **Takeaway.** Without a push the clicks sit on the rim, on tokens that are half ground, and less is retrieved. A long push
# does no harm to an object as compact as the first. One slipped click weakens the score, but three others outvote it.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:exits-fill`: what a crop shows beyond the border of its image.
# - {ref}`fidelity:exits-push`: in which direction clicks are moved.
# - {ref}`fidelity:exits-similarity` and {ref}`fidelity:exits-sinkhorn`: which part of attention is used, and how it is scaled.
# - {ref}`fidelity:exits-score` and {ref}`fidelity:exits-thresholds`: the unit of the score, and $\tau$.
# - {ref}`fidelity:exits-warmup`: how the extractor is trained.
# ```
#
# ## Settings

# %%
settings = [
    r for r in sources(view) if r["name"].split(".")[0] in ("seeds", "extractor", "walk")
]
viz.table([{k: r[k] for k in ("name", "value", "unit", "source")} for r in settings])

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: two-rooms
# *Predict.* There are two rooms with equally many tokens. A hop stays in its room with probability $p$ and changes to the other
# with $q = 1 - p$. After $k$ hops, how much more probable is the room of the start than the other? What happens with a
# threshold that was set for one hop?
# ```
#
# ```{solution-start} two-rooms
# :class: dropdown
# ```

# %% tags=["solution"]
p = 0.8
rooms = random_walk.sinkhorn(torch.tensor([[[p, 1 - p], [1 - p, p]]]), 20)
for k, state in enumerate(random_walk.walk_each(rooms, torch.tensor([[[1.0], [0.0]]]), 4)):
    room, other = state[0, :, 0].tolist()
    print(f"{k} hops: {room - other:.4f}, (p - q)^k = {(2 * p - 1) ** k:.4f}")

# %% [markdown]
# Each hop multiplies the difference by $p - q$, so it shrinks exponentially; a fixed threshold soon retrieves nothing.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: how-far-to-push
# *Change one parameter.* How far should clicks be pushed? Count the clicked tokens that are not on the object, and how many of
# the tokens that the walk then retrieves are right.
# ```
#
# ```{solution-start} how-far-to-push
# :class: dropdown
# ```

# %% tags=["solution"]
rows = []
for push in sorted(pushes):
    s = labels.find_seeds(clicks, batch.valid, patch, push)
    result = labels.select(labels.scores(affinity, s, walk), s, walk)
    share = float((s.foreground & truth).sum() / s.foreground.sum())
    rows.append(
        {"push": push, "clicks on the object": share, **quality([(result, s.open, truth)])}
    )
viz.table(rows, digits=2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: limit-by-solving
# *Implement.* The limit is $(1 - \beta)(I - \beta T)^{-1} u$. Compute it for one crop with `torch.linalg.solve`. Is it equal to
# the result of `walk_limit`? How many hops does that take, if every hop reduces the error by a factor of $\beta$?
# ```
#
# ```{solution-start} limit-by-solving
# :class: dropdown
# ```

# %% tags=["solution"]
beta, T = labels.BETA, graph.dense()[0]
solution = torch.linalg.solve(torch.eye(len(T)) - beta * T, (1 - beta) * start[0])
print("largest difference:", float((solution - states[-1][0]).abs().max()))
hops = torch.tensor(torch.finfo(torch.float32).eps).log() / torch.tensor(beta).log()
print("hops to the last digit:", int(hops.ceil()))

# %% [markdown]
# ```{solution-end}
# ```
