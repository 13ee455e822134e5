# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # AttentionShift: from a click to parts
#
# One click per object: a learned token looks for the object under it, its attention becomes a box and a map, and a shift
# among features finds its parts.
#
# **Before this:** [what a transformer sees](02_vit_features.py). **After it:** [the training](31_attentionshift_training.py).

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
from dataclasses import replace

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import avg_pool2d, cosine_similarity, normalize, pad

from wsis import training, viz, weak
from wsis.core import Instances, Points, changed
from wsis.data import World, collate, resize, short_side
from wsis.data.world import PARTS

# %%
from wsis.methods import attentionshift
from wsis.methods.attentionshift.labels import (
    Labels,
    box_pixels,
    find_candidates,
    find_parts,
    mask_targets,
    match_tokens,
)
from wsis.methods.attentionshift.maps import FOREGROUND, at_pixels, cosine_maps
from wsis.methods.attentionshift.parts import ITERATIONS, part_maps
from wsis.ops.patches import patch_index
from wsis.viz import attentionshift as parts

plt.rcParams.update(viz.RC)

# %% [markdown]
# ```{image} ../book/generated/method_attentionshift.svg
# :alt: AttentionShift from clicks, over attention and features of a transformer, to boxes, maps and parts, and to a detector.
# :width: 480px
# ```
#
# *AttentionShift in one drawing, dashed where one thing supervises another. This chapter leads down to the parts, the next one
# from there to instances.*
#
# A click says what an object is and where, but not how far it extends. AttentionShift {cite:p}`liao2023attentionshift` asks
# the transformer for the rest. Beside the patches of the image, learned {term}`point tokens <point token>` go through all
# layers. Each learns to predict the class and the place of one object; for that it has to attend to the object, and its
# attention can be read off.
#
# This attention is a rough map. Six steps lead from it to a handful of points, which supervise a mask head in the [next
# chapter](31_attentionshift_training.py). They are computed anew in every step of the training; here we look after the last.
# These lines open the data, simulate the annotator, and train.

# %%
settings = getattr(attentionshift, scale.upper())
datasets = weak.open_data(data, scale, clicks=settings.clicks, seed=seed)
train, classes = datasets.train, datasets.train.classes
cfg = changed(settings, classes=len(classes))

# %%
_, folder = training.chapter_run(
    attentionshift, cfg, datasets, data, scale, seed, device, only=("network",)
)
net = attentionshift.restore(cfg, folder).eval().requires_grad_(False)
patch = net.encoder.patch
steps = f"{cfg.network.steps} steps of {cfg.network.batch_size} images"

# %% [markdown]
# We look at some dozens of training images. Their true masks serve to judge and to choose what to show; no label depends on
# them. (The network is small and hardly trained: look at what each step does more than at how well it does it.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
samples = [train[i] for i in range(min(len(train), 48 if scale == "tiny" else 6))]
limits = (cfg.size.test_short, cfg.size.test_long)
images = [resize(s, short_side(s.size, *limits)) for s in samples if len(s.points)]
batch = attentionshift.divisible(collate(images), 2 * patch)
clicks, size = attentionshift.targets(net, batch, cfg), batch.images.shape[2:]
img, row = clicks.present.nonzero(as_tuple=True)  # image of each object, and place in it


def true_mask(image, id):  # the true mask of an object on the padded image
    mask = images[image].truth.masks[images[image].truth.ids == id][0]
    return pad(mask, (0, size[1] - mask.shape[1], 0, size[0] - mask.shape[0]))


true = torch.stack([true_mask(*pair) for pair in zip(img, clicks.ids[img, row], strict=True)])
true_boxes = true.any(1)[:, None] & true.any(2)[..., None]

# %%
with torch.no_grad():
    outputs = net.encoder(batch.images)  # features, attention of the last layers, tokens
    torch.manual_seed(seed)
    labels, logits, place, scores = net.label(outputs, batch.valid, clicks, cfg)
grid, extents = outputs.grid, attentionshift.image_extents(batch.valid)
tokens = match_tokens(logits, place, clicks, extents)
print(f"{len(img)} objects in {len(images)} images of {grid.height} x {grid.width} patches")


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def iou(a, b):  # of masks [..., H, W]
    return (a & b).sum((-2, -1)) / (a | b).sum((-2, -1)).clamp(min=1)


def relabel(c):  # the labels of the batch with other settings, from the same features
    torch.manual_seed(seed)
    with torch.no_grad():
        return net.label(outputs, batch.valid, clicks, c)


box_iou = iou(box_pixels(labels.boxes, size)[img, row], true_boxes)  # of the boxes

# %% [markdown]
# ## Step 1: from a click to a token
#
# Each token predicts the class and the place of an object. Clicks and tokens are matched one to one, at the least total cost;
# tokens without a click have to predict *nothing here*.
#
# ```{admonition} Matching one to one
# :class: tip
# Several predictions, several targets, and a table of costs for each pair: which assignment of one prediction to each target
# has the least sum? The *Hungarian algorithm* finds it exactly. Networks that predict sets are trained so: no two outputs can
# claim the same target.
# ```
#
# The cost is a focal loss of the class plus the distance:
#
# ```{literalinclude} ../../wsis/methods/attentionshift/labels.py
# :pyobject: match_tokens
# ```


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def token_marks(axes, i):  # all tokens of an image, and those that are matched with clicks
    places = place[i] * extents[i]
    axes.scatter(*places.T, s=14, c="white", edgecolor="0.2", lw=0.6)
    token_xy, xy = places[tokens[i][clicks.present[i]]], clicks.xy[i][clicks.present[i]]
    axes.plot(*torch.stack([token_xy, xy]).permute(2, 0, 1), color="white", lw=1.6)


def image_panel(i):  # the image, its clicks, its tokens
    points = Points.make(*(v[i][clicks.present[i]] for v in (clicks.xy, clicks.labels)))
    panel = viz.draw_points(batch.images[i], points)
    return lambda axes: (panel(axes), token_marks(axes, i))


picks = clicks.present.sum(1).argsort(descending=True, stable=True)[:4].tolist()
viz.show({f"image {i}": image_panel(i) for i in picks}, size=2.6, title="Places of the tokens")

# %% [markdown]
# **Takeaway.** Dots are the places that tokens predict, crosses are clicks, lines join the two. Every click gets a token from
# nearby; the others are spread around. How far are the matched tokens, and how often is their class right?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
index = tokens.clamp(min=0)[..., None]
correct = logits.take_along_dim(index, 1).argmax(2)[img, row] == clicks.labels[img, row]
error = (place.take_along_dim(index, 1) - clicks.xy / extents[:, None]).abs().sum(2)[img, row]
nearest = torch.cdist(clicks.xy / extents[:, None], place, p=1).amin(2)[img, row]
summary = {"objects": len(img), "class is right": float(correct.float().mean())}
summary |= {"L1 to its token": float(error.mean()), "to the nearest one": float(nearest.mean())}
viz.table([summary], digits=2, caption=f"after {steps}; distances in sides of the image")

# %% [markdown]
# ## Step 2: where a token attends
#
# In each layer a token takes in what it attends to, and keeps half of what it had. With $A_l$, the attention of layer $l$, and
# the identity $I$, that is followed back from the last layer $L$: $R_0 = (A_L + I)/2$ and $R_k = R_{k-1}(A_{L-k} + I)/2$. The
# row of the token in $R_k$ says how much of it comes from each patch $k + 1$ layers before the end: the {term}`rollout`. How
# many layers are best is not known, so the last $K$ layers give $K$ {term}`candidates <candidate>`.
#
# ```{literalinclude} ../../wsis/methods/attentionshift/labels.py
# :pyobject: find_candidates
# ```
#
# The box is put around the large regions where the map is above a share of its range (white lines), and *mirrored*: it is
# extended until it reaches equally far to both sides of the click. Drag the slider.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
maps, boxes = find_candidates(outputs, tokens, clicks, batch.valid, cfg)
i, g = img[box_iou.argmax()], row[box_iou.argmax()]
parts.rollout_figure(
    batch.images[i], maps[i, :, g], boxes[i, :, g], int(labels.chosen[i, g]),
    clicks.xy[i, g], threshold=cfg.boxes.threshold,
)  # fmt: skip

# %% [markdown]
# **Takeaway.** For the object with the best box, attention is highest on one part. With more layers it spreads, and in the last
# frames it is highest beside the object. The thin boxes are the other candidates.
#
# ## Step 3: which candidate?
#
# {term}`MIL` chooses: a head reads the features in each of the $K$ boxes, and scores class and candidate. It is supervised by
# the class alone. Does it choose good boxes? Below is the IoU of each candidate with the true box; *mirror* is the published
# rule, *tight* is without the mirror.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def overlap(mode, threshold=cfg.boxes.threshold):  # IoU of all candidates with the true box
    c = changed(cfg, **{"boxes.mode": mode, "boxes.threshold": threshold})
    boxes = find_candidates(outputs, tokens, clicks, batch.valid, c)[1][img, :, row]
    return iou(box_pixels(boxes, size), true_boxes[:, None])


full_iou = iou(batch.valid[img], true_boxes).mean()  # for a box that is the whole image
colors, rows = {"mirror": "#0072B2", "tight": "#D55E00"}, []
thresholds = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
for mode in colors:
    ious = overlap(mode)
    k = relabel(changed(cfg, **{"boxes.mode": mode}))[0].chosen[img, row]
    choices = (ious.mean(), ious.gather(1, k[:, None]).mean(), ious.amax(1).mean())
    by_threshold = [overlap(mode, t).mean() for t in thresholds]
    rows.append({"layers": ious.mean(0), "taken": choices, "threshold": by_threshold})


figure, axes = plt.subplots(1, 3, figsize=(10.4, 3), layout="constrained", sharey=True)
for x, (r, (mode, color)) in enumerate(zip(rows, colors.items(), strict=True)):
    axes[0].plot(range(1, cfg.boxes.layers + 1), r["layers"], "o-", color=color, label=mode)
    axes[1].bar(torch.arange(3) + 0.4 * x - 0.2, r["taken"], 0.38, color=color)
    axes[2].plot(thresholds, r["threshold"], "o-", color=color)
    axes[x].axhline(float(full_iou), color="0.5", ls="--", lw=1)
axes[0].set(title="each candidate", xlabel="layers rolled out", ylabel="IoU, true box", ylim=0)
axes[0].set_xticks(range(1, cfg.boxes.layers + 1))
axes[0].legend()
names = ["any", "MIL's choice", "the best"]
axes[1].set(title="the choice", xticks=range(3), xticklabels=names)
axes[2].set(title="all candidates", xlabel="threshold, of the map's range")
axes[2].axvline(cfg.boxes.threshold, color="0.8", lw=1, zorder=0)
plt.show()

# %% [markdown]
# **Takeaway.** Left: mirrored boxes are far above a box of the whole image (dashed), and best with few layers. Middle: MIL
# beats a random choice (*any*) by about half of what the best one would. Right: at the published threshold, a fifth of the
# range, all boxes overlap little with the true one. The tiny preset has a higher one (gray line, [decision
# 11](../book/decisions/11_attention_threshold.md)).

# %% [markdown]
# ## Step 4: from attention to maps
#
# Attention marks a few places. What else is similar? The mean feature of some patches with high attention is a
# {term}`prototype` of the object, that of some with low attention one of its background. In a *refinement* the patches that are
# most similar to a prototype by cosine give the next one. In *competition* each patch belongs to the most similar object, or
# to none.
#
# ```{literalinclude} ../../wsis/methods/attentionshift/maps.py
# :pyobject: refined
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
multi = clicks.present.sum(1) > 1
lowest = torch.zeros(len(images)).scatter_reduce(0, img, box_iou, "amin", include_self=False)
i = int((lowest * multi).argmax())
panels = []
for g in range(2):
    maps = {"attention": labels.attention[i, g]}
    maps |= {
        f"cosine, {t}": m
        for t, m in enumerate(at_pixels(labels.steps["cosine"][:, i, g], patch))
    }
    maps |= {"foreground": labels.foreground[i, g], "background": labels.background[i, g]}
    panels.append(
        {k: viz.draw_heat(batch.images[i], v, limits=(0, 1)) for k, v in maps.items()}
    )
viz.show(panels, columns=6, size=1.6, title="Two objects of an image")

# %% [markdown]
# **Takeaway.** Each row is one object: its attention, the cosines after zero, one and two refinements, and the two maps that
# result. A cosine is zero outside of the pseudo box, and where the other object or the background is more similar. Attention
# is often highest at the rim of an object or beside it; the maps cover most of both objects, and some ground. (Of the images with
# several objects this is the one whose worse box is best.)
#
# Is the refined map better than the attention? The table has the IoU with the true mask, and the share of *other* objects that
# the map claims; the last row is without competition.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
others = torch.stack([true[img == i].any(0) for i in img]) & ~true
crowded = others.flatten(1).any(1)


def single_maps(g):  # the maps of the g-th objects, one at a time
    present = clicks.present & (torch.arange(clicks.present.shape[1]) == g)
    rest = clicks._replace(present=present), labels.boxes, batch.valid
    return cosine_maps(outputs.features, labels.attention, *rest)[0]


def evaluate(name, masks):  # IoU, and the share of other objects that is claimed
    claims = (masks & others).sum((1, 2))[crowded] / others.sum((1, 2))[crowded]
    values = float(iou(masks, true).mean()), float(claims.mean())
    return dict(zip(("map", "IoU", "of other objects"), (name, *values), strict=True))


box_masks = box_pixels(labels.boxes, size)[img, row]
single = sum(single_maps(g) for g in range(clicks.present.shape[1]))
rows = [evaluate("the box", box_masks)]
rows += [evaluate("attention", box_masks & (labels.attention[img, row] >= FOREGROUND))]
for name, maps in (("foreground", labels.foreground), ("foreground, alone", single)):
    high = maps > cfg.mask.positive * maps.amax((2, 3), keepdim=True)
    rows.append(evaluate(name, box_masks & high[img, row]))
viz.table(rows, digits=2, caption=f"{len(img)} objects, masks within the box")

# %% [markdown]
# Competition does what it should: alone, an object claims more of its neighbors. The IoU with the object itself hardly
# depends on it, and in the mean no map in the box is better than the box.

# %% [markdown]
# ## Step 5: the key-point shift
#
# An object is made of {term}`parts <part>`, and a network needs points on all of them. Prototypes $q_j$ start at patches
# spread over the {term}`core` of the foreground, as seeds, and then move among the features $F_i$ of the box. The *kernel* of
# the shift is the weight $\mathrm{softmax}_i(\cos(q_j, F_i) / \theta \tau_j)$: patch $i$ goes to the prototype with the
# largest one, and each prototype becomes the weighted sum of its patches, whose length later weighs it. Its {term}`bandwidth`
# $\tau_j$ is the mean cosine distance to them; the temperature $\theta$ sets how wide the kernel is.
#
# ```{literalinclude} ../../wsis/methods/attentionshift/parts.py
# :start-at: "logits = similarity"
# :end-at: "history.append(q)"
# :dedent: 8
# ```
#
# Look first at features where parts *do* exist. The {term}`world` knows the part of each pixel. Give every kind of part a
# direction of its own, mix in the surroundings of a patch and some noise, and the shift has something to find, above with the
# published temperature $\theta = 0.1$, below with a kernel ten times as wide.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
world = weak.WORLDS[scale] if scale != "full" else weak.WORLDS["tiny"]
one_car = replace(world, size=384, objects=(1, 1), object_size=(0.55, 0.7), occlusion=0.0)
one_car = replace(one_car, contact=0.0, nested=0.0, classes=("car",))
scene = World("train", 1, seed, one_car).scene(0)
ground = (scene.stuff_map + len(PARTS)) * (scene.instance_map == 0)
kinds = torch.nn.functional.one_hot(scene.part_map + ground).movedim(2, 0).float()
torch.manual_seed(seed)
known = torch.einsum("khw,kd->dhw", avg_pool2d(kinds, 16), torch.randn(len(kinds), 64))
shared = 0.7 * torch.randn(64, 1, 1)  # by all parts
known += shared * avg_pool2d(scene.masks.float(), 16)
known += 0.6 * torch.randn(known.shape)
mask, (y, x) = scene.masks[None].float(), scene.masks[0].nonzero().mT
box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])[None, None].float()
maps = {"attention": mask, "foreground": mask, "background": 1 - mask}
exact = Labels(boxes=box, chosen=torch.zeros(1, 1).long(), **maps)
panels = []
for temperature in (0.1, 1.0):
    c = changed(attentionshift.FULL, **{"parts.temperature": temperature})
    found = find_parts(known[None], exact, c)
    moved = {t: found.steps["prototypes"][t] for t in (0, 2, ITERATIONS)}
    cosines = {t: part_maps(q, known.flatten(1).mT[None])[0, 0] for t, q in moved.items()}
    cosines = {t: v.unflatten(1, known.shape[1:]) for t, v in cosines.items()}
    xy = found.key_points.xy[0, 0][found.key_points.present[0, 0]]
    panels.append(parts.parts_panels(scene.image, cosines, xy, box[0, 0]))
viz.show(
    panels,
    rows=("published kernel", "ten times as wide"),
    size=2.1,
    title="A shift that finds parts",
)

# %% [markdown]
# **Takeaway.** Colors are prototypes, rings their best patches, numbers the key-points. With the wide kernel one prototype
# takes the windows and one the wheels, and key-points stand on wheels, windows and body. With the published one each prototype
# keeps to patches nearly equal to its own.
#
# Now the features of the network that was trained on this page. Drag the iterations.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
masks = mask_targets(labels, cfg)[0]
point_counts = labels.key_points.present.sum(2)
best = int((iou(masks[img, row], true) * point_counts[img, row].clamp(max=3)).argmax())
i, g = int(img[best]), int(row[best])
history = labels.steps["prototypes"][:, i, g]
parts.shift_figure(batch.images[i], outputs.features[i], history, labels.boxes[i, g])

# %% [markdown]
# **Takeaway.** Left: each patch has the color of the most similar prototype. Right: patches and prototypes in the two
# directions in which features of this object vary most. Such an object's core has hardly more patches than there are
# prototypes, so little is left to cluster: few patches change their prototype.
#
# ## The narrow kernel
#
# How far do prototypes move? With $\theta = 0.1$ a patch at a cosine distance of one bandwidth weighs $e^{-10}$ times as much as
# one that is equal to the prototype, which hardly sees any patch but its first. Here are wider kernels, and k-means, in which
# all patches of a prototype weigh the same. The counts on the right go through the filter and the merging of step 6.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
variants = {f"shift, {t:g}": {"parts.temperature": t} for t in (0.1, 1.0, 10.0)}
variants["k-means"] = {"parts.shift": "kmeans"}
variants["k-means, no filter"] = {"parts.shift": "kmeans", "parts.filter": False}
results = {
    name: find_parts(outputs.features, labels, changed(cfg, **change))
    for name, change in variants.items()
}


def seed_cosines(m):  # cosine of each prototype with its seed, and which are alive
    seeds_, ends = m.steps["prototypes"][[0, -1]]
    return cosine_similarity(seeds_, ends, dim=-1)[img, row], ends.any(-1)[img, row]


names, rows = ("alive", "kept", "merged", "key-points"), []
number = torch.arange(len(img))[:, None]
for name, m in results.items():
    (cosines, alive), present = seed_cosines(m), m.key_points.present[img, row]
    stages = [m.steps[step][img, row] for step in ("filtered", "merged")]
    counts = [float(v.sum(1).float().mean()) for v in (alive, *stages, present)]
    x, y = (m.key_points.xy[img, row] + 0.5).long().unbind(-1)
    on_object = float(true[number, y, x][present].float().mean())
    line = {"prototypes": name, "cosine with seed": float(cosines[alive].mean())}
    rows.append(line | dict(zip(names, counts, strict=True)) | {"on the object": on_object})


figure, axes = plt.subplots(1, 2, figsize=(9.6, 3), layout="constrained")
for k, (name, m) in enumerate([*results.items()][:4]):
    cosines, alive = seed_cosines(m)
    ends = cosines[alive].sort().values
    axes[0].plot(ends, torch.linspace(0, 1, len(ends)), label=name)
    counts = [rows[k][n] for n in names]
    axes[1].bar(torch.arange(4) + 0.2 * k - 0.3, counts, 0.2, label=name)
axes[0].set(
    title="how far prototypes move", xlabel="cosine with the seed", ylabel="share below"
)
axes[1].set(title="prototypes left, per object", xticks=range(4), xticklabels=names)
axes[0].legend()
plt.show()

# %% [markdown]
# **Takeaway.** With the published kernel most prototypes end where they start: it is hardly a *shift*. With wider ones some
# take the patches of others, which vanish (*alive*).

# %%
viz.table(rows, digits=2, caption="means over objects; last, the share of key-points on it")

# %% [markdown]
# For a mask head the last column matters: the share of key-points on the object. It is less than half in every row, with the
# filter or without it.

# %% [markdown]
# ## Step 6: filter, merging, key-points
#
# Two steps turn twenty prototypes into a few parts. The *filter* keeps a part only if nearly all patches of the image that
# look like it are in the core: elsewhere they are ground, or another object. *Merging* joins similar prototypes. The
# {term}`key-point <part>` of a part is its most similar patch.
#
# ```{literalinclude} ../../wsis/methods/attentionshift/parts.py
# :pyobject: filter_parts
# ```
#
# Can a cosine tell an object from its ground? Below all patches are compared with the patch under the click.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
unit = normalize(outputs.features.flatten(2), dim=1)
index = patch_index(clicks.xy, grid)[img, row]
cosine = (unit[img, :, index][:, None] @ unit[img])[:, 0]  # [objects, patches]
on_object, on_other = (
    avg_pool2d(m[:, None].float(), patch).flatten(1) > 0.5 for m in (true, others)
)
regions = {
    "of the object": on_object,
    "of other objects": on_other,
    "of the ground": ~on_object & ~on_other,
}
figure, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
bins, inks = torch.linspace(-0.4, 1, 57), ("#009E73", "#CC79A7", "0.4")
for (name, mask), ink in zip(regions.items(), inks, strict=True):
    ax.hist(cosine[mask], bins, density=True, histtype="step", lw=1.8, color=ink, label=name)
ax.axvline(cfg.parts.similarity, color="0.2", ls="--", lw=1)
ax.set(title="all patches, compared with the click's", xlabel="cosine", yticks=[])
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# **Takeaway.** Most patches of the object are beyond the filter's threshold (dashed), as the method needs. But some of the
# ground and of other objects is beyond it, too, so the filter removes most prototypes.
#
# Two objects, with the published shift above and k-means from the same seeds below:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
order = (iou(masks[img, row], true) * point_counts[img, row].clamp(max=3)).argsort(
    descending=True
)
times = (0, 1, 3, ITERATIONS)
panels = []
for j in order[:2].tolist():
    i, g = int(img[j]), int(row[j])
    for m in (results["shift, 0.1"], results["k-means"]):
        moved = m.steps["prototypes"][:, [i], g : g + 1]  # of each iteration
        maps = {t: part_maps(moved[t], outputs.features[[i]].flatten(2).mT) for t in times}
        maps = {t: v[0, 0].unflatten(1, grid[:2]) for t, v in maps.items()}
        xy = m.key_points.xy[i, g][m.key_points.present[i, g]]
        panels.append(parts.parts_panels(batch.images[i], maps, xy, labels.boxes[i, g]))
names = ["shift", "k-means"] * 2
viz.show(panels, rows=names, size=1.8, title="From seeds to key-points")

# %% [markdown]
# **Takeaway.** The shift leaves nearly all rings at their seeds; k-means moves some outward, to the means of larger regions. By
# the table above their key-points are as many, and as often on the object. The [next chapter](31_attentionshift_training.py)
# tests over seeds whether masks gain from the shift.
#
# ## What would break this?


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def failure_panel(j):  # the box, the true mask, the key-points
    i, g = int(img[j]), int(row[j])
    panel = viz.draw_instances(batch.images[i], Instances.make(true[[j]], torch.zeros(1)))
    xy = labels.key_points.xy[i, g][labels.key_points.present[i, g]]
    box_panel = viz.draw_boxes(panel, labels.boxes[i, g][None], torch.tensor([4]))
    return viz.draw_points(box_panel, Points.make(xy, torch.full((len(xy),), 2)), size=7)


worst = box_iou.argsort()[:8].tolist()
kinds = [classes[k] for k in clicks.labels[img, row].tolist()]
viz.show(
    {f"{kinds[j]} {j}": failure_panel(j) for j in worst}, size=2.3, title="The worst boxes"
)

# %% [markdown]
# **Takeaway.** The true object is outlined, the pseudo box is blue, key-points are green. Three mistakes are common:
#
# - **The mirror of a mistake.** One bright spot far from the click is enough: the box extends as far to the other side.
# - **A neighbor.** The box reaches to another object beside this one, or over it.
# - **Hidden objects.** Little is visible of what stands behind a fence.
#
# No later step fixes a wrong box: the object is searched within it, and the key-points are placed in it, often on ground.
#
# ## Play
#
# With a kernel you click on an image: the annotator's nearest click moves there, and its object is labeled anew with the
# settings of the sliders. In the book each slider moves alone.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def move(pixel):  # the object whose click is nearest; all clicks, that one at the pixel
    spot, xy = torch.tensor(pixel).float(), own.xy.clone()
    distance = (xy[0] - spot).norm(dim=1).masked_fill(~own.present[0], torch.inf)
    xy[0, distance.argmin()] = spot
    return int(distance.argmin()), own._replace(xy=xy)


def label(its, values):  # the labels of the image, with other settings
    torch.manual_seed(seed)
    valid, c = batch.valid[[scene_index]], changed(cfg, **values)
    return net.label(encoded, valid, its, c)[0]


def panels_at(pixel, values):  # the parts of the object
    g, its = move(pixel)
    found = label(its, values)
    xy = found.key_points.xy[0, g][found.key_points.present[0, g]]
    last = {ITERATIONS: found.steps["part_maps"][0, g].unflatten(1, grid[:2])}
    return parts.parts_panels(batch.images[scene_index], last, xy, found.boxes[0, g])


def play(click, **kernel_settings):
    values = {f"parts.{name}": value for name, value in kernel_settings.items()}
    figure, axes = plt.subplots(1, 3, figsize=(8, 3.1), layout="constrained")
    for ax, (name, panel) in zip(axes, panels_at(click, values).items(), strict=True):
        (panel(ax), ax.set(title=name, xticks=[], yticks=[], frame_on=False))
    return (plt.close(figure), figure)[1]


scene_index = int(img[order[0]])
encoded = net.encoder(batch.images[[scene_index]])
own = type(clicks)(*(v[[scene_index]] for v in clicks))
mine = [j for j in order.tolist() if int(img[j]) == scene_index]  # its objects, best first
places = {f"{kinds[j]} {int(row[j]) + 1}": clicks.xy[img[j], row[j]][None] for j in mine}
viz.explore(
    play, click=viz.Clicks(batch.images[scene_index], places), temperature=[0.1, 1.0, 10.0],
    similarity=[0.9, 0.8, 0.95], merge=[0.95, 0.85, 0.99],
)  # fmt: skip

# %% [markdown]
# **Takeaway.** The sliders of `similarity` and `merge` start at the preset's value, and the next one is the published value.
# With a stricter `similarity` less ground counts against a part, and more parts remain; with the published one none of this
# object does. A stricter `merge` leaves more parts of one object.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# The document is a supplement; the paper itself was not available.
# - {ref}`fidelity:attentionshift-point`, {ref}`fidelity:attentionshift-mirror` and {ref}`fidelity:attentionshift-box`: the
#   click, and the box about it.
# - {ref}`fidelity:attentionshift-rollout` and {ref}`fidelity:attentionshift-sampling`: which rows, which patches.
# - {ref}`fidelity:attentionshift-zero-patches` and {ref}`fidelity:attentionshift-tau`: what precision decides in the shift.
# - {ref}`fidelity:attentionshift-merge` and {ref}`fidelity:attentionshift-key-points`: parts, and how many.
# - {ref}`fidelity:attentionshift-kmeans`: our k-means.
# - {ref}`fidelity:attentionshift-weights`: from which weights the tokens start.
# ```

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: width-of-a-kernel
# *Predict.* A prototype is equal to one patch; another patch of the box has a cosine of $c$ with it. What share of the weight
# of the first does the second get, at the first bandwidth and temperatures 0.1, 1 and 10? Which cosine is needed for a tenth?
# ```
#
# ```{solution-start} width-of-a-kernel
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
cosines = torch.tensor([0.99, 0.95, 0.9, 0.8])
for t in (0.1, 1.0, 10.0):
    width = t * cfg.parts.tau
    shares = ((cosines - 1) / width).exp()
    needed = 1 + width * torch.tensor(0.1).log()
    print(f"{t:4g}:", *(f"{s:.4f}" for s in shares.tolist()), f"a tenth at {needed:.3f}")

# %% [markdown]
# The share is $e^{-(1 - c) / \theta \tau}$. At 0.1 only nearly equal patches count. At 10 even a patch that has nothing in
# common with the prototype would.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: mirror-and-random-clicks
# *Change one parameter.* The mirror assumes a click in the middle of the box. Let the annotator click anywhere on the object.
# How good are the boxes of both modes then?
# ```
#
# ```{solution-start} mirror-and-random-clicks
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
rows = []
for kind in ("box_center", "mask_random"):
    click_batch = collate([weak.with_points(s, kind) for s in images])
    shifted = attentionshift.targets(net, attentionshift.divisible(click_batch, 2 * patch), cfg)
    matches = match_tokens(logits, place, shifted, extents)
    for mode in ("mirror", "tight"):
        c = changed(cfg, **{"boxes.mode": mode})
        boxes = find_candidates(outputs, matches, shifted, batch.valid, c)[1][img, :, row]
        ious = iou(box_pixels(boxes, size), true_boxes[:, None])
        rows.append({"clicks": kind, "box": mode, "IoU, mean candidate": float(ious.mean())})
viz.table(rows, digits=2)

# %% [markdown]
# Mirrored boxes lose by it, and stay far above tight ones.
#
# ```{solution-end}
# ```
