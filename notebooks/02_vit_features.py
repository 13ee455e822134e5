# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a transformer sees
#
# Two methods of this book read masks off the attention of a vision transformer. What does this attention contain before a
# method starts, and where does it come from?
#
# **Before this:** [weak labels](01_weak_labels.py).

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import copy
from collections import defaultdict
from dataclasses import replace
from functools import partial
from importlib import resources

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import avg_pool2d, layer_norm, normalize, one_hot, pixel_unshuffle

# %%
from wsis import training, viz
from wsis.core import Points, read_json
from wsis.data import CLASSES, Augment, CocoFolder, World, collate
from wsis.evaluation import linear_probe, pair_auc
from wsis.experiments.pretraining.vit import SCENES
from wsis.methods import exits
from wsis.models import build_vit, mean_affinity
from wsis.models.vit import PUBLISHED, SHIPPED

plt.rcParams.update(viz.RC)

# %% [markdown]
# ## Patches that attend to each other
#
# A vision transformer ([Dosovitskiy et al. 2021](https://arxiv.org/abs/2010.11929)) cuts an image into square *patches* and
# turns each into a vector, its {term}`token`. One more token, the *class token*, belongs to no patch. Then come its layers, in
# which tokens exchange what they know.
#
# ```{admonition} Attention
# :class: tip
# In each layer a linear map makes three vectors of every token: a *query* (what it looks for), a *key* (what it offers) and a
# *value* (what it hands over). The query of one token is multiplied with the keys of all; a softmax makes the products shares
# that sum to one. These shares are the {term}`attention` of that token, one row of a square matrix. It takes the values of the
# others in these shares and adds them to itself. Several *heads* do that side by side, each with maps of its own, so that one
# can look for color and another for what is near.
# ```
#
# For the queries $Q$ and keys $K$ of a head, vectors of length $d$, the attention is
# $A = \mathrm{softmax}(Q K^\top / \sqrt d)$, row by row. Its mean over the heads is what EXITS reads; values are not needed for
# it:
#
# ```{literalinclude} ../../wsis/models/vit.py
# :pyobject: mean_affinity
# ```
#
# Nobody trains attention to find objects. But a patch of a cat has reasons to attend to the rest of the cat, and two methods
# build on that: [EXITS](20_exits_points_and_walk.py) lets an annotator's points spread along the attention of one layer, and
# [AttentionShift](30_attentionshift_points.py) {cite:p}`liao2023attentionshift` follows it through all layers.
#
# ```{admonition} Attention rollout
# :class: tip
# One layer's attention says from where a token takes something *in this layer*; but what it takes there had itself been mixed in
# the layers below. Rollout ([Abnar and Zuidema 2020](https://arxiv.org/abs/2005.00928)) follows that back. A token keeps itself
# and adds what it attends to, so count both as half: $(A + I) / 2$ is how a layer mixes. The product of these matrices, from the
# last layer down to the first, says how much of each input patch is in a token at the end. A row of the product is a map over
# the image. It needs no training and no gradient, and it blurs: each factor spreads a little more.
# ```
#
# The networks of the papers are large; this page also has one that is small enough for a laptop.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
torch.manual_seed(seed)
sizes = {name: build_vit(name, "random") for name in ("vit_tiny", *reversed(PUBLISHED))}
rows = []
for size, net in sizes.items():
    pixels = net.backbone.patch_embed.img_size[0]
    rows.append({"network": size, "layers": net.depth, "heads": net.heads, "width": net.width})
    rows[-1] |= {"trained at, px": pixels, "patch, px": net.patch}
    rows[-1] |= {"patches": (pixels // net.patch) ** 2}
    rows[-1] |= {"parameters, M": sum(p.numel() for p in net.parameters()) / 1e6}
viz.table(rows, caption="The same network in three sizes")

# %% [markdown]
# ## Three ways to learn without a mask
#
# Large networks bring weights from a million photographs. The tiny one learns from scenes of the embedded {term}`world`
# that no other page uses, in three ways:
#
# - `mae`: reconstruct most of the patches from the few that are visible {cite:p}`he2022mae`.
# - `supervised`: name the one object in the image; the target is its tag.
# - `dino`: predict for one view of an image what a slow average of the network predicts for another one
#   {cite:p}`caron2021dino`.
#
# The table lists these weights. The rest of this page compares them with untrained ones, `random`.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
name, cards = "vit_tiny" if scale == "tiny" else "vit_base", {}
for kind in SHIPPED[name] if scale == "tiny" else PUBLISHED[name]:
    card = resources.files("wsis.models") / "shipped" / f"{name}_{kind}.json"
    if scale == "tiny" and card.is_file():
        cards[kind] = read_json(card)
    elif scale != "tiny":
        cards[kind] = {"published as": PUBLISHED[name][kind]}
columns = ("published as", "trained_on", "steps", "minutes", "hardware")
viz.table([{"weights": k, **{n: c[n] for n in columns if n in c}} for k, c in cards.items()])

# %%
torch.set_grad_enabled(False)
torch.manual_seed(seed)
torch_device, first = training.make_accelerator(device).device, next(iter(cards))
nets = {kind: build_vit(name, kind).to(torch_device).eval() for kind in ("random", *cards)}
net, layers = nets[first], range(1, nets[first].depth + 1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
palette = dict(zip(("mean color", *nets), ("0.2", "0.6", "C0", "C1", "C2", "C3"), strict=False))
side = 24 * net.patch
resized = Augment(square=side, crop=side, scale=(1, 1), flip=0, shift=0, color_probability=0)
if data == "world":
    sample = World("val", 20, seed=seed, config=replace(SCENES, size=side))[11]
else:
    sample = resized(CocoFolder(data, "val")[0], seed=0)
batch = collate([sample]).images.to(torch_device)

# %% [markdown]
# Attention does not know where a patch is, so a table of *positions*, one row for each patch, is added at the input. It has the
# size of the training images; for others it is resampled like an image. Show the network an empty image, and only positions are
# left. Here is how similar all of them are to one:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
position_maps = {}
for grid in (net.backbone.patch_embed.grid_size[0], 24):
    position = net.embed(net.mean.expand(1, 3, grid * net.patch, grid * net.patch))[0, 1:]
    position = normalize(position - position.mean(0), dim=1)
    query = grid * (9 * grid // 24) + 10 * grid // 24
    cosine = (position @ position[query]).view(grid, grid)
    position_maps[f"{grid} x {grid} positions"] = cosine.cpu()


def patches(ax):
    ax.imshow(sample.image.permute(1, 2, 0))
    for k in range(net.patch, side, net.patch):
        ax.axhline(k - 0.5, color="white", lw=0.4), ax.axvline(k - 0.5, color="white", lw=0.4)


options = {"limits": (-1, 1), "unit": "cosine with one of them", "colormap": "RdBu_r"}
panels = {title: viz.draw_map(values, **options) for title, values in position_maps.items()}
viz.show({"an image and its patches": patches, **panels}, size=2.9)

# %% [markdown]
# **Takeaway.** Neighbors have similar positions. A larger image gets a finer grid over the same places, so the network works at
# other sizes too. The pattern is strong, and it comes back as a failure at the end of this page.
#
# ## What does a patch attend to?
#
# Here is one patch, on the wall of the house (the orange mark), and what it attends to in every second layer; 1 on the color
# bar is the share that each patch would have if all had the same. One slider changes how the network was trained, the other one
# moves the mark. With a kernel (`make lab`) you click on the image: every patch can be asked. The parameter `data` of this
# chapter changes the image.

# %%
maps = net.head_attention(batch, layer=6)  # one image: [1, heads, patches, patches]
print(f"{maps.shape[1]} heads, {maps.shape[2]} x {maps.shape[3]} patches")


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def middle(row, column):  # the pixel in the middle of a patch
    return [[net.patch * place + net.patch // 2 for place in (column, row)]]


def heat(ax, values, row, column):
    ax.imshow(values, vmin=0, vmax=6)
    ax.plot(column, row, "s", ms=4, mfc="none", color="#D55E00", mew=1.3)


def attention_panels(maps, *place):  # [layers, patches] of a head
    maps = 24**2 * maps.cpu().view(-1, 24, 24)  # times an equal share
    panels = [partial(heat, values=m, row=place[0], column=place[1]) for m in maps]
    return {f"layer {k}": panel for k, panel in zip(shown, panels, strict=True)}


def attend(pixel, weights):  # of one patch: a row for each head, a column for each layer
    column, row = (v // net.patch for v in pixel[0])
    maps = [nets[weights].head_attention(batch, k)[0, :, 24 * row + column] for k in shown]
    rows = [attention_panels(head, row, column) for head in torch.stack(maps, 1)]
    return with_bar(viz.show(rows, size=1.2, rows=[f"head {k}" for k in heads]))


def with_bar(figure):
    look = {"ax": figure.axes, "extend": "max", "pad": 0.01, "label": "times an equal share"}
    figure.set_figwidth(1.12 * figure.get_figwidth())
    figure.colorbar(figure.axes[0].images[0], **look)
    return figure


shown, heads, wall = layers[1::2], range(1, net.heads + 1), (9, 10)
places = {f"row {r}, column {c}": middle(r, c) for r, c in (wall, (7, 9), (2, 20), (19, 16))}
clicks = viz.Clicks(sample.image, places)
viz.explore(attend, pixel=clicks, weights=[*cards, "random"])

# %% [markdown]
# **Takeaway.** Without training a patch attends to all others, in most heads hardly more to one than to another. With `mae` the
# heads divide the work: some find the house, some its wall alone, some a band at the height of the mark. A few point elsewhere,
# at the sky for instance, as if the mark did not matter. With `supervised` many heads look at a few patches far from the mark,
# and with `dino` late heads look at the sky. Move the mark to the roof (row 7) and the sky (row 2): most heads of layer 6
# follow it, while one of layer 8 shows the sky wherever the mark is. No head shows the whole robot (row 19).
#
# ## Three kinds of similarity
#
# EXITS takes the mean over the heads. There are two simpler measures of how similar two patches are: the cosine of their keys,
# and of their tokens. The half of all patches that is most similar to the mark is colored, by rank. Drag through the layers;
# with a kernel, click on the image to move the mark.


# %%
def cosines(vectors):  # [B, n, d] -> [B, n, n]
    vectors = normalize(vectors, dim=-1)
    return vectors @ vectors.mT


def similarities(net, x, layer):  # three times [B, n, n], from the input of the layer
    query, key = net.query_key(x, layer)
    keys, tokens = key.transpose(1, 2).flatten(2), net.run(x, layer - 1, layer)
    attention = mean_affinity(query, key)[:, 1:, 1:]  # without the class token
    return attention, cosines(keys[:, 1:]), cosines(tokens[:, 1:])


# %% jupyter={"source_hidden": true} tags=["hide-input"]
names = "attention", "cosine of keys", "cosine of tokens"


def overlay(values, xy):
    rank = values.argsort().argsort().cpu() / (len(values) - 1)
    tokens = viz.draw_tokens(sample.image, rank, limits=(0.5, 1), unit="rank")
    return viz.draw_points(tokens, Points.make(xy, torch.tensor([3])), size=8)


def overlays(net, layer, row, column):
    maps = similarities(net, net.run(net.embed(batch), 0, layer - 1), layer)
    xy = net.patch * (torch.tensor([column, row]) + 0.5) - 0.5
    return {k: overlay(m[0, 24 * row + column], xy) for k, m in zip(names, maps, strict=True)}


def compare(layer, pixel):
    column, row = (v // net.patch for v in pixel[0])
    panels = [overlays(n, layer, row, column) for n in nets.values()]
    return viz.show(panels, rows=list(nets), size=1.8)


if viz.live():
    mark = viz.Clicks(sample.image, {"wall": middle(*wall)})
    widget = viz.explore(compare, pixel=mark, layer=layers)
else:
    frames = [compare(k, middle(*wall)) for k in layers]
    widget = viz.scrub(frames, [str(k) for k in layers], "layer", start=5)
widget

# %% [markdown]
# **Takeaway.** Tokens of the untrained network find colors like that of the mark, wherever they are, on the sand too: patches
# of one color are similar before anything is learned. `mae` adds *where*: what is similar stays together, and the wall comes
# out as one piece. In a middle layer the attention and the keys of `dino` find wall and roof, nearly the whole house.
#
# ## The same numbers, and fewer of them
#
# None of this needs a changed network. The package computes queries and keys alone, one head at a time. Is that the attention
# which the network itself uses? We compare our result with what hooks record in its own code:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
reference, hooks = [], []
for block in net.backbone.blocks:
    block.attn.fused_attn = False  # the fused kernel never forms the matrix
    hook = block.attn.attn_drop.register_forward_hook
    hooks.append(hook(lambda module, args, out: reference.append(out.mean(1)[:, 1:, 1:])))
net(batch)
for hook, block in zip(hooks, net.backbone.blocks, strict=True):
    hook.remove()
    block.attn.fused_attn = True
errors = [
    (a - net.attention(batch, k)).abs().max() for k, a in zip(layers, reference, strict=True)
]
print(f"{len(reference)} layers: differ by {max(errors):.0e} at most")
print(f"the largest attention is {max(a.max() for a in reference):.2f}")

# %% [markdown]
# What is not needed is not run: no values and no MLP in the layer that is read, and no layer after it. For the layer that EXITS
# reads this saves:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
exits_layer, rows = exits.FULL.extractor.layer, []
for size, network in sizes.items():
    block = network.backbone.blocks[exits_layer - 1]
    total = sum(p.numel() for p in network.parameters())
    modules = [block.attn.proj, block.norm2, block.mlp, network.backbone.norm]
    modules += [*network.backbone.blocks[exits_layer:]]
    skipped = sum(p.numel() for part in modules for p in part.parameters())
    skipped += sum(p.numel() for p in block.attn.qkv.parameters()) // 3  # those of the values
    rows.append({"network": size, "parameters, M": total / 1e6, "not run, M": skipped / 1e6})
    rows[-1] |= {"not run, %": 100 * skipped / total}
viz.table(rows, caption=f"The attention of layer {exits_layer}")

# %% [markdown]
# ## Do these two patches belong to one object?
#
# Figures convince too easily, so let us count, in new scenes. Take pairs of patches, the first one on an object, and ask how
# often a pair within one object is more similar than a pair that leaves it. That is the area under the ROC curve, AUC; guessing
# gets one half.
#
# One rival needs no network: *nearness*. To see what is known beyond it, we also count *level* pairs alone, which are all about
# equally far apart. There the rival is the mean color.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def patch_map(maps):  # int [B, H, W] -> the id that fills half of a patch [B, n], else -1
    share = avg_pool2d(one_hot(maps.long()).permute(0, 3, 1, 2).float(), net.patch).flatten(2)
    return share.argmax(1).where(share.amax(1) > 0.5, -1)


def load_scenes(count, **knobs):  # scenes, their images, and the object in each patch
    config = replace(SCENES, size=16 * net.patch, **knobs)
    scenes = [World("val", count, seed=seed, config=config).scene(i) for i in range(count)]
    images = torch.stack([s.image for s in scenes]).to(torch_device) / 255
    return scenes, images, patch_map(torch.stack([s.instance_map for s in scenes]))


def by_color(images):
    color = avg_pool2d(images, net.patch).flatten(2).mT
    return -torch.cdist(color, color)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
count, split_at = 130, 90  # scenes; probes are fitted to the first ones and tested on the rest
scenes, images, objects = load_scenes(count)
objects, colors = objects[split_at:], by_color(images[split_at:])
distance = torch.cartesian_prod(torch.arange(16.0), torch.arange(16.0))
distance = torch.cdist(distance, distance)  # in patches
level = (distance >= 3) & (distance <= 4)
nearness = pair_auc(-distance, objects, distance > 0)
values = patch_map(torch.stack([s.semantic for s in scenes])) - 1
is_thing = values < len(CLASSES)
targets = {"things": values.where(is_thing, -1)}
targets["surfaces"] = (values - len(CLASSES)).where(~is_thing, -1)


def split(x, valid):  # the valid patches: of the scenes to fit, and of those to evaluate
    return x[:split_at][valid[:split_at]], x[split_at:][valid[split_at:]]


def probe(tokens, target):  # the share of patches that the probe names right
    x = layer_norm(tokens, tokens.shape[-1:]).cpu()
    (valid, test), (names, truth) = split(x, target >= 0), split(target, target >= 0)
    predicted = linear_probe(valid, names, int(target.max()) + 1, test, ridge=1e-3)
    return (predicted == truth).float().mean().item()


results = defaultdict(list)  # one number for each layer
for kind, n in nets.items():
    x = n.embed(images)
    for k in layers:
        maps, x = similarities(n, x[split_at:], k), n.run(x, k - 1, k)
        for target, target_map in targets.items():
            results[kind, target].append(probe(x[:, 1:], target_map))
        results[kind, "all pairs"].append(pair_auc(maps[0], objects, distance > 0))
        for measure, values in zip(names, maps, strict=True):
            results[kind, measure].append(pair_auc(values, objects, level))


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def curves(ax, measure, title, baseline, label):
    for kind in nets:
        ax.plot(layers, results[kind, measure], "o-", ms=3, c=palette[kind], label=kind)
    ax.axhline(baseline, color="0.2", lw=1, ls="--")
    ax.set(title=f"{title}\ndashed: {label}", xlabel="layer", xticks=layers[1::2])


figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained", sharey=True)
curves(axes[0], "all pairs", "attention, all pairs", nearness, "nearness")
for ax, measure in zip(axes[1:], names, strict=True):
    color_auc = pair_auc(colors, objects, level)
    curves(ax, measure, f"{measure}, level pairs", color_auc, "mean color")
axes[0].set(ylim=(0.4, 1), ylabel="AUC of one object")
axes[-1].legend()
plt.show()

# %% [markdown]
# **Takeaway.** On all pairs the attention of `mae` looks impressive, until it is compared with the dashed line: *near* is a
# better answer than that of any layer of any network here. On level pairs attention is mostly below color, and jumps from
# layer to layer; tokens of `mae` are steady, and above it. The tokens of `dino`, whose picture of the house looked best, are
# no better than mean color: one picture is not a measurement. Tokens and keys of `supervised` hardly say what belongs
# together. The attention of `mae` is best in a middle layer, before the one that EXITS reads in a large network.
#
# Nearness is not cheating: a method that spreads points through a box may use it. But it is available without a network.
#
# What does a single token know? A *linear probe* is the simplest reader: one linear map, fitted by ridge regression to the tokens
# of some scenes, names what is in the patches of others. One probe names things (cat, boat), the other one surfaces (grass,
# brick).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for ax, (measure, target_map) in zip(axes, targets.items(), strict=True):
    raw = probe(pixel_unshuffle(images, net.patch).flatten(2).mT, target_map)
    curves(ax, measure, f"naming {measure}", raw, "pixels alone")
axes[0].set(ylim=(0, 1), ylabel="share of patches named right")
axes[0].legend()
plt.show()

# %% [markdown]
# **Takeaway.** Training on tags teaches the names of things best, and even so most patches are named wrong. Surfaces are
# easier: even random layers make them readable, `mae` more so. `supervised`, whose tags never mention them, reads them worst.
# *What is it* and *what belongs together* are different lessons, and no network here has learned both.
#
# ## What would break this?
#
# **Attention that does not look.** How much of a head's attention can be predicted without the image, from the positions alone?
# And how much without knowing which patch asks? Each dot is a head: the share of the variance of its attention that is
# explained by the mean over all images, and by the mean over all patches that ask.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained", sharey=True)
for place, (kind, n) in enumerate(nets.items()):
    for k in layers:
        maps = n.head_attention(images[-20:], k).transpose(0, 1)  # [heads, B, n, n]
        total, x = maps.flatten(1).var(1), torch.full((n.heads,), k + (place - 1.5) / 6)
        for ax, part in zip(axes, (maps.mean(1), maps.mean(2)), strict=True):
            share = (part.flatten(1).var(1) / total).cpu()
            ax.plot(x, share, "o", ms=3.5, c=palette[kind], label=kind if k == 1 else None)
for ax, measure in zip(axes, ("in every image", "whichever patch asks"), strict=True):
    ax.set(title=f"the same {measure}", xlabel="layer", xticks=layers, ylim=(0, 1))
axes[0].set_ylabel("share of the variance")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# **Takeaway.** Left: much of what the heads of `mae` do is position, most of all in late layers. (A little remains by chance,
# as the mean is over few images.) Right: most heads of `supervised`, and late ones of `dino`, send every patch to the same
# places; look at them again in the slider of heads. Something related is known of large networks, which use a few patches of
# the background as a store for their own computations ([Darcet et al. 2024](https://arxiv.org/abs/2309.16588)).
#
# **Color and texture.** The {term}`world` has knobs. `camouflage` gives objects the color of the ground, `texture` can be
# turned off. What remains of the similarity of tokens?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
variants = {"as trained": {}, "camouflage": {"camouflage": 1}, "no texture": {"texture": 0}}
examples, scores = {}, {}
for variant, knobs in variants.items():
    _, variant_images, variant_objects = load_scenes(40, **knobs)
    examples[variant] = variant_images[18].cpu()
    scores[variant] = {"mean color": pair_auc(by_color(variant_images), variant_objects, level)}
    for kind, n in nets.items():
        tokens = n.run(n.embed(variant_images), 0, exits_layer)[:, 1:]
        scores[variant][kind] = pair_auc(cosines(tokens), variant_objects, level)


def lines(ax):
    for kind in scores["as trained"]:
        style = "--" if kind == "mean color" else "o-"
        ax.plot([s[kind] for s in scores.values()], style, c=palette[kind], ms=4, label=kind)
    ax.set(xticks=range(3), xticklabels=scores, ylabel="AUC of one object")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


figure, axes = plt.subplots(
    1, 4, figsize=(11, 2.4), layout="constrained", width_ratios=(1, 1, 1, 1.3)
)
for ax, (variant, image) in zip(axes, examples.items(), strict=False):
    ax.imshow(image.permute(1, 2, 0))
    ax.set_title(variant)
    ax.set_axis_off()
lines(axes[3])
plt.show()

# %% [markdown]
# **Takeaway.** Camouflage hurts every network, and `dino` most: part of what they know is color. Without texture `mae` gets a
# little better, and the others get worse. These are a few dozen scenes of one seed, so small steps of a line mean little.
#
# **Little training.** These weights come from minutes of training. Compare them with each other, not with published ones. With
# `scale="full"` this page compares published weights.
#
# ## Exercises
#
# ```{exercise}
# :label: vit-twins
# *Predict.* Two cats stand side by side. Among level pairs whose patches both belong to cats, are pairs of one cat more similar
# than pairs of two?
# ```
#
# ```{solution-start} vit-twins
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
cats = targets["things"][split_at:]
twin_pairs = level & (cats[:, :, None] == cats[:, None]) & (cats >= 0)[:, :, None]
print(f"mean color {pair_auc(colors, objects, twin_pairs):.2f}")
for kind, n in nets.items():
    maps = similarities(n, n.run(n.embed(images[split_at:]), 0, exits_layer - 1), exits_layer)
    values = zip(names, (pair_auc(m, objects, twin_pairs) for m in maps), strict=True)
    print(kind, ", ".join(f"{measure} {value:.2f}" for measure, value in values))

# %% [markdown]
# Cosines do no better than guessing: a patch of one cat is as similar to the other cat as to its own. Similarity finds what is
# of one kind, not what is one object. Another clue is needed to tell twins apart, such as a box.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: vit-blind
# *Change one parameter.* Take away the position table: multiply it by zero. What happens to attention on all pairs, and to
# tokens on level pairs?
# ```
#
# ```{solution-start} vit-blind
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
no_positions = copy.deepcopy(nets[first])
no_positions.backbone.pos_embed.zero_()
for kind, n in ((first, nets[first]), ("without positions", no_positions)):
    maps = similarities(n, n.run(n.embed(images[split_at:]), 0, exits_layer - 1), exits_layer)
    attention = pair_auc(maps[0], objects, distance > 0)
    tokens = pair_auc(maps[2], objects, level)
    print(f"{kind}: attention {attention:.2f} on all pairs, tokens {tokens:.2f} on level pairs")

# %% [markdown]
# Nearness is lost, and with it most of what attention scored above one half. Tokens hardly notice: what they know beyond
# nearness does not come from the table.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: vit-rollout
# *Implement* the rollout of the box at the top of this page: multiply $(A + I) / 2$ over all layers. Is the product better than
# its last factor?
# ```
#
# ```{solution-start} vit-rollout
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
x = net.embed(images[split_at:])
rollout = torch.eye(x.shape[1], device=torch_device).expand(len(x), -1, -1)
for k in layers:
    attention = mean_affinity(*net.query_key(x, k))  # with the class token: rows sum to one
    rollout, x = (rollout + attention @ rollout) / 2, net.run(x, k - 1, k)
for measure, matrix in (("last layer", attention), ("rollout", rollout)):
    values = [pair_auc(matrix[:, 1:, 1:], objects, pairs) for pairs in (distance > 0, level)]
    print(f"{measure}: all pairs {values[0]:.2f}, level pairs {values[1]:.2f}")

# %% [markdown]
# No: here the product is no better than guessing. Each factor is an average over tokens, so the rows of the product become
# more and more similar, whatever the image shows. Look at a rollout before you use it.
#
# ```{solution-end}
# ```
#
# **Next:** [how good is a mask?](03_metrics.py)
