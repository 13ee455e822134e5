# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SimFormer: what masks tell about other classes
#
# Masks for some classes, image tags for the others, and in the end a class for every pixel.
#
# **Before this:** [what a weak label is](01_weak_labels.py). **After it:** [a second network, and more novel
# classes](41_simformer_retraining.py).
#
# ```{image} ../book/generated/method_simformer.svg
# :alt: SimFormer as a drawing, from class maps and tags by way of proposals, complement and pairs of pixels to a class map
# :width: 480px
# ```
#
# *SimFormer in one drawing, dashed where one thing supervises another. This chapter leads down to the similarity of pairs, the
# next one from there to a second network.*

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import avg_pool2d, interpolate

# %%
from wsis import evaluation, experiments, training, viz, weak
from wsis.core import Points, changed, read_json
from wsis.data import collate
from wsis.evaluation import is_novel
from wsis.methods import simformer
from wsis.methods.simformer.labels import proposed_masks, semantic_scores
from wsis.methods.simformer.objective import distill, focal, match, similarity_loss
from wsis.methods.simformer.pairs import at_points, draw_pairs
from wsis.methods.simformer.simnet import SimNet

plt.rcParams.update(viz.RC)

# %% [markdown]
# Drawing the outline of a new class costs minutes per image; saying that it is there costs a second. SimFormer
# {cite:p}`chen2022simformer` takes masks of {term}`base classes <base class>` that exist already, and no more than tags of
# {term}`novel ones <novel class>`. Two kinds of similarity carry over. What makes a region *one thing* is much the same for
# all classes, so a network that proposes masks of base classes can also propose those of novel ones. And whether two pixels
# show *the same class* can be learned on base classes and asked about novel ones.

# %%
datasets = weak.open_data(data, scale, clicks="class_maps", seed=seed)
train, val, classes = datasets.train, datasets.val, datasets.train.classes
preset = getattr(simformer, scale.upper()).for_classes(classes)
cfg = changed(preset, **{"final.steps": 0})  # the second network is in the next chapter
novel = [classes[label] for label in cfg.novel]
print(f"{len(classes)} classes; novel: {', '.join(novel)}")

# %% [markdown]
# ## What is given
#
# The label of an image is a {term}`class map` of the base classes. All else is left open: a pixel of a novel class looks like
# an unlabeled one. With it comes the list of the classes that are present, in training those of each crop.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
samples = [train[i] for i in range(min(len(train), 60))]
weak_samples = [weak.with_base_masks(s, cfg.novel) for s in samples]
picks = [i for i, s in enumerate(samples) if s.tags[list(cfg.novel)].sum() > 1][:4]
rows = [{f"image {i}": samples[i].image for i in picks}]
maps = {i: (samples[i].true_semantic, weak_samples[i].semantic_map) for i in picks}
rows += [{str(i): viz.draw_semantic(maps[i][k], classes) for i in picks} for k in (0, 1)]
names, title = ("image", "all classes", "given"), "The labels of the network"
viz.show(rows, rows=names, size=2.2, title=title, one_legend=True)

# %% [markdown]
# **Takeaway.** The last row is all that any loss sees of the middle one, besides the names of the missing classes.
#
# ## Proposals: one query, one class, one mask
#
# ```{admonition} MaskFormer's queries, and Hungarian matching
# :class: tip
# MaskFormer {cite:p}`cheng2021maskformer` has a fixed number of learned vectors, the *queries*. In a transformer each of them
# looks at the image and at the other queries, and comes out as a {term}`proposal`: probabilities of the classes, among them *no
# object*, and a vector, whose product with the embedding of a pixel, squashed to $[0, 1]$, says whether the pixel is in its mask.
#
# Which query answers for which class of an image? In each step queries and targets are {term}`matched <matching>`: every couple
# has a cost, low if class and mask fit already, and the Hungarian algorithm finds the one-to-one assignment with the least sum.
# Then each query learns from its own target, and all others learn to say *no object*.
# ```
#
# With $N$ queries, class probabilities $p_n(c)$ and masks $m_n(x)$, the score of class $c$ at pixel $x$ is
#
# $$s_c(x) = \sum_{n=1}^{N} p_n(c)\, m_n(x),$$
#
# and the prediction is the class with the largest score:
#
# ```{literalinclude} ../../wsis/methods/simformer/labels.py
# :pyobject: semantic_scores
# ```

# %%
accelerator = training.make_accelerator(device)
reports, folder = training.chapter_run(
    simformer, cfg, datasets, data, scale, seed, device, only=("network",)
)
net = simformer.restore(cfg, folder).to(accelerator.device).eval()


def propose(samples):  # the proposals of the trained network for a batch of images
    with torch.no_grad():
        return net.network(collate(samples).images.to(accelerator.device))


# %% jupyter={"source_hidden": true} tags=["hide-input"]
scenes = [val[i] for i in range(min(len(val), 100))]


def right(s):  # the share of correct novel pixels; 0 without two large novel classes
    counts = s.true_semantic.flatten().long().bincount(minlength=256)
    predicted = simformer.predict(net, collate([s]).images.to(accelerator.device), cfg)
    correct = (predicted[0].cpu() == s.true_semantic)[is_novel(s.true_semantic, cfg.novel)]
    large = [counts[v + 1] > 0.05 * counts.sum() for v in cfg.novel]
    return float(correct.float().mean()) if sum(large) > 1 else 0.0


scene = max(scenes, key=right)
out, size = propose([scene]), tuple(scene.image.shape[1:])
chance = out.logits[-1, 0].softmax(1)[:, :-1].cpu()
masks = interpolate(out.masks[-1], size, mode="bilinear")[0].sigmoid().cpu()
strongest = (chance.amax(1)[:, None, None] * masks).argmax(0).flatten()
ranking = strongest.bincount(minlength=len(masks)).argsort(descending=True)[:6].tolist()
predicted = semantic_scores(out.logits[-1], out.masks[-1], size)[0].argmax(0).cpu() + 1
label_names = [f"{c} (novel)" if c in novel else c for c in classes]
panels = {}
for n in ranking:
    name = f"query {n}: {label_names[int(chance[n].argmax())]} {chance[n].max():.2f}"
    panels[name] = viz.draw_heat(scene.image, masks[n], limits=(0, 1))
panels["all"] = viz.draw_semantic(predicted, classes)
panels["ground truth"] = viz.draw_semantic(scene.true_semantic, classes)
viz.show(panels, columns=4, size=2.2, title="Six proposals, and the prediction of all")

# %% [markdown]
# **Takeaway.** Here are the six proposals that win the most pixels of one validation image, the best of those with two large
# novel classes (the worst stand at the end of this page). The network was never trained on a mask of a novel class. Novel
# queries may claim the same pixels, as those of wood and grass do here; the sum over all, class times mask, decides.
#
# ## Matching
#
# The targets of an image are its classes. A base class has a mask; a novel class has only its name, as the tag is all that
# was given. So the cost of query $n$ for a target of class $c$ is
#
# $$-p_n(c) + \lambda_m\, [c \text{ is base}]\, \bigl(\lambda_f \mathcal{L}_{\text{focal}}(m_n, y_c) + \lambda_d
# \mathcal{L}_{\text{dice}}(m_n, y_c)\bigr),$$
#
# where $y_c$ is the true mask and each $\lambda$ a weight. Focal loss and dice loss are two ways to say how far one mask is from
# another; their weighted sum is the `mask_costs` of the listing:
#
# ```{literalinclude} ../../wsis/methods/simformer/objective.py
# :pyobject: match
# ```
#
# At tiny scale $\lambda_m$ is smaller than published, so that queries settle on a class sooner ([decision
# 13](../book/decisions/13_simformer_tiny.md)).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
many = min(picks, key=lambda i: abs(int(samples[i].tags.sum()) - 4))
batch = collate([weak_samples[many]]).to(accelerator.device)
given, seen = simformer.targets(net, batch, cfg), propose([samples[many]])
queries = match(seen.logits, seen.masks, given, cfg.loss)[-1, 0].tolist()
drawn = interpolate(seen.masks[-1], size, mode="bilinear")[0].sigmoid().cpu()
rows, image = [{}, {}], samples[many].image
for t, (label, n) in enumerate(zip(given.labels[0].tolist(), queries, strict=True)):
    p, name = seen.logits[-1, 0, n].softmax(0)[label], label_names[label]
    has_mask = bool(given.has_mask[0, t])
    mask = viz.draw_heat(image, given.masks[0, t].cpu(), limits=(0, 1))
    rows[0][name if has_mask else f"{name}: a name"] = mask if has_mask else image
    rows[1][f"query {n}: p = {p:.2f}"] = viz.draw_heat(image, drawn[n], limits=(0, 1))
names = ("target", "matched query")
figure = viz.show(rows, rows=names, size=2.1, title="Classes and queries")
for ax, name in zip(figure.axes[len(rows[0]) :], rows[1], strict=False):
    ax.set_title(name)
figure

# %% [markdown]
# **Takeaway.** Each column is a class of one training image, with masks of the trained network. A query's mask is pulled
# toward that of its target. Where the target is only a name, matching does not say where the mask should be; the complement
# and the pairs of pixels fill this gap.
#
# ## The objective
#
# Classes learn from all targets, masks from base classes only, and three terms are SimFormer's own: the complement, the
# similarity of pixels, and its distillation.
#
# $$\sum_{\text{layers}} \left( \mathcal{L}_{\text{label}} + \lambda_f \mathcal{L}_{\text{focal}}
# + \lambda_d \mathcal{L}_{\text{dice}} + \lambda_c \mathcal{L}_{\text{complement}} \right)
# + \lambda_s \mathcal{L}_{\text{similarity}} + \lambda_t \mathcal{L}_{\text{distillation}}$$
#
# ```{literalinclude} ../../wsis/methods/simformer/objective.py
# :pyobject: objective
# ```

# %%
log = viz.read_log(folder / "network.csv")
terms = ("label", "dice", "complement", "similarity")
viz.training_curves({"SimFormer": log}, terms, title="Training")

# %% [markdown]
# **Takeaway.** All four fall. *label* is the loss on the classes of all proposals; *dice*, on the masks of base classes,
# takes longer. The first three are sums over the decoder's layers, so they can be far above one.
#
# ## The complement
#
# What base masks leave of an image belongs to its novel classes, or to none. So the *union* of the masks of the image's novel
# queries should be this {term}`complement`. At pixel $x$, with mask logits $M_n$ and a constant $\theta$,
#
# $$u(x) = \max\bigl(\theta, \max_{n \text{ novel}} M_n(x)\bigr), \qquad \mathcal{L}_{\text{complement}} = \lambda_f
# \mathcal{L}_{\text{focal}}(u, y) + \lambda_d \mathcal{L}_{\text{dice}}(u, y),$$
#
# where $y$ is 1 on the pixels that no base mask covers. Only the highest novel mask of a pixel gets a gradient, so the loss
# does not decide which class takes which part. Some of these pixels are of no class: where all novel masks are below five per
# cent, the constant wins, and nothing is learned.
#
# ```{literalinclude} ../../wsis/methods/simformer/objective.py
# :pyobject: complement_loss
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for target, name in ((1.0, "of the complement"), (0.0, "of a base mask")):
    logit = torch.linspace(-7, 4, 441, requires_grad=True)
    union = torch.maximum(logit, torch.tensor(cfg.loss.complement_floor))
    focal(union[:, None], torch.full((441, 1), target)).sum().backward()
    ax.plot(logit.detach(), -logit.grad, label=f"a pixel {name}")
ax.axvspan(-7, cfg.loss.complement_floor, color="0.92", zorder=0)
ax.axhline(0, color="0.7", lw=0.8)
ax.set(title="the pull of the complement", xlabel="largest logit of the novel proposals")
ax.set_ylabel("negative gradient (focal loss)")
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** Right of the gray zone pixels of the complement are pulled up, and those of base masks down. Inside it there
# is no gradient at all, so this loss cannot recover a novel mask that is empty everywhere. In the log `ignored` says how
# often that happens: the share of complement pixels where the constant wins.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
parts = [float(part.mean()) for part in torch.tensor(log["ignored"]).tensor_split(3)]
thirds = zip(("first", "second", "last"), parts, strict=True)
viz.table([{"third of the steps": n, "ignored (%)": 100 * part} for n, part in thirds])

# %% [markdown]
# ## Do proposals transfer?
#
# For every region, that is, all pixels of one class in one image, take the proposal that fits best, whatever its class. The
# share of regions whose best IoU reaches a level is the *recall* of the proposals:

# %%
regions = []
for s in scenes:
    images = collate([s]).images.to(accelerator.device)
    found = proposed_masks(net.network, images, cfg)[0].cpu()
    regions.append(evaluation.region_coverage(found, s.true_semantic, cfg.novel))
recall = evaluation.proposal_recall(torch.cat(regions))

# %% [markdown]
# The second row of the table is a trivial bound, whose only proposal is the whole image. The others are from
# `simformer.transfer`, a table of ours: networks compared in this way over seeds, among them an oracle that learns from masks
# of all classes.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
RESULTS = Path("../book/results")


def measured(path):  # the means of a results file by row
    stored = read_json(path) if path.exists() else {"rows": [], "trivial": {}}
    rows = {r["name"]: {k: v["mean"] for k, v in r["ours"].items()} for r in stored["rows"]}
    return {"trivial": stored["trivial"], **rows}


def row(name, prefix=""):  # recalls of this page's network, or of the whole image
    return {"proposals": name} | {
        k: 100 * recall[prefix + k] for k in recall if "trivial" not in k
    }


rows = [row("the network of this page"), row("trivial: the whole image", "trivial_")]
stored = measured(RESULTS / "simformer.transfer.tiny.world.json")
del stored["trivial"]  # of all runs; the row above is of this page
rows += [{"proposals": f"{name}, over seeds", **r} for name, r in stored.items()]
viz.table(
    rows, "share of regions of base and novel classes with an IoU of 50, 75 (%)", digits=0
)

# %% [markdown]
# So a good part of the novel regions has a proposal that fits, though a smaller one than of the base regions. The rows over
# seeds show that this takes the complement: base masks alone leave nearly all novel regions without a proposal. Pairs of pixels
# change little here: they are for the names of regions, not their outlines.
#
# ## Pairs of pixels
#
# The complement says where the novel classes of an image are *together*. To tell them apart, images are compared. Each has a
# partner that shares exactly one novel class with it, so that two open pixels which look alike are probably of that class.
# Most of the pixels drawn from both are of one base class that both show, so that there are enough pairs of one class:
#
# ```{literalinclude} ../../wsis/methods/simformer/pairs.py
# :pyobject: sample_mixed
# ```
#
# The target of a pair of pixels is *one class* or *two classes*, if at least one of them is of a base class:
#
# ```{literalinclude} ../../wsis/methods/simformer/pairs.py
# :pyobject: pair_targets
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
pair_data = simformer.training_data(train, cfg)
two = (picks[0], *pair_data.companions(picks[0], seed))
crops = collate([pair_data[i, seed, 0] for i in two])
torch.manual_seed(seed)
pairs, width = draw_pairs(crops, cfg), crops.images.shape[3] // 4
values = crops.semantic_maps[:, ::4, ::4].flatten(1).gather(1, pairs.points).long()
labels = (values - 1).where((values > 0) & (values < 255), len(classes))
xy = 4.0 * torch.stack([pairs.points % width, pairs.points // width], 2) + 1.5
order = labels.argsort(1)  # by class
kind = torch.where(pairs.counted, 1 + pairs.same.long(), 0)[0][order[0]][:, order[1]]
marks = [Points.make(xy[k], labels[k]) for k in (0, 1)]
panels = [viz.draw_points(crops.images[k], marks[k], size=6) for k in (0, 1)]
colors = plt.matplotlib.colors.ListedColormap(["0.85", "#D55E00", "#1b7f4b"])
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3), layout="constrained")
titles = ("an image", "its partner", "their pairs")
for ax, panel, title in zip(axes, (*panels, kind), titles, strict=True):
    ax.imshow(panel, cmap=colors) if panel is kind else panel(ax)
    ax.set(title=title, xticks=[], yticks=[])
axes[2].set(xlabel="pixels of the partner, by class", ylabel="of the image, by class")
names = ("no target", "two classes", "one class")
for color, name in zip(colors.colors, names, strict=True):
    axes[2].plot([], [], "s", color=color, label=name)
figure.legend(loc="outside lower right", ncols=3)
plt.show()

# %% [markdown]
# **Takeaway.** A cross has the color of its base class; pixels without a mask share one more. The green block holds the pairs
# of the common class. The gray ones are pairs of two pixels without a mask, which have no target: SimNet will be asked.
#
# ## SimNet
#
# {term}`SimNet` is a small network $f(e_i, e_j)$ that reads the embeddings of two pixels and predicts whether they are of one
# class. Its loss is the cross entropy over the pairs with a target, in which the rarer kind of pair weighs more:
#
# ```{literalinclude} ../../wsis/methods/simformer/simnet.py
# :pyobject: SimNet
# :end-before: def balance
# ```
#
# Below it compares one pixel of a validation image with all others, beside the strongest proposal there. Drag through pixels,
# first of base, then of novel classes; with a kernel you click on any other.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
side, all_ = out.pixels.shape[3], torch.arange(out.pixels[0, 0].numel())


def pixel_labels(class_map):  # labels at the size of the pixels' features, flat
    size, values = out.pixels.shape[2:], class_map[None, None].float()
    return interpolate(values, size, mode="nearest").flatten().long()


vectors = at_points(out.pixels, all_[None].to(out.pixels.device))
values = pixel_labels(scene.true_semantic)
places = {}  # the name of a class, a pixel of it
for value in sorted(values.unique().tolist(), key=lambda v: v - 1 in cfg.novel):
    members = (values == value).float()  # the pixel has most of its class around it
    density = avg_pool2d(members.view(1, -1, side), 7, 1, 3).flatten()
    index = int((members * density).argmax())
    places[label_names[value - 1]] = [(4 * (index % side) + 2, 4 * (index // side) + 2)]


def same_class(x, y):  # what SimNet says of each pixel: of one class with this one?
    index = side * (y // 4) + x // 4
    values = net.simnet.teach(vectors[:, index : index + 1], vectors).view(1, 1, -1, side)
    return interpolate(values, size, mode="bilinear")[0, 0].cpu()


def answers(x, y):
    n = int((masks[:, y, x] * chance.amax(1)).argmax())  # the strongest there
    maps = {"the proposal there": masks[n], "SimNet: one class with it": same_class(x, y)}
    heat = {k: viz.draw_heat(scene.image, v, limits=(0, 1)) for k, v in maps.items()}
    return {"a pixel": scene.image, **heat}


def ask(pixel):
    spot = Points.make(torch.tensor(pixel).float(), torch.zeros(1))
    panels = {k: viz.draw_points(v, spot) for k, v in answers(*pixel[0]).items()}
    return viz.show(panels, size=2.7)


viz.explore(ask, pixel=viz.Clicks(scene.image, places))

# %% [markdown]
# **Takeaway.** Proposal and SimNet answer different questions: where this *thing* is, and which pixels look like its *class*.
# For the pixel of a base class SimNet lights up over the class. For those of novel classes its maps are empty, and even the
# pixel's neighbors are *two classes*: in training it had no labels of what belongs together there. The proposals at
# these pixels are those of grass and of wood, and each of them covers a part of the other, too.
#
# ## Distillation
#
# What SimNet, as the {term}`teacher`, says about two open pixels, $t_{ij}$, should hold for the scores that the proposals
# give them. With $z_i$ the scores of the novel classes at pixel $i$, the student is $s_{ij} = \max(0, \cos(z_i, z_j))$. The
# loss pulls scores together where the teacher says *one class*, and apart where it says *two*, the harder the surer it is,
# with $\tau$ = one half and $[a]_+ = \max(0, a)$:
#
# $$\mathcal{L}_{\text{distillation}} = -\bigl[t_{ij} - \tau\bigr]_+ \log(1 + s_{ij}) - \bigl[\tau - t_{ij}\bigr]_+ \log(2 -
# s_{ij})$$
#
# ```{literalinclude} ../../wsis/methods/simformer/objective.py
# :pyobject: distillation_loss
# ```
#
# ```{literalinclude} ../../wsis/methods/simformer/objective.py
# :pyobject: distill
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
student = torch.linspace(0, 1, 101)
figure, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for sure in (0.95, 0.75, 0.5, 0.25, 0.05):
    loss = distill(torch.tensor(sure), student)
    ax.plot(student, loss, label=f"{sure:g}")
ax.set(title="what the scores of two pixels learn", ylabel="loss of the pair")
ax.set_xlabel("how similar the scores are")
ax.legend(title="SimNet says", loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# **Takeaway.** Where SimNet is sure of one class, the loss falls as the scores become alike; where it is sure of two, it
# rises. At one half it is flat: a teacher that does not know teaches nothing.
#
# ### What SimNet knows about novel classes
#
# Pixels of novel classes do appear in SimNet's training, and always in pairs of two classes
# ({ref}`fidelity:simformer-labelled`). What does that do? Here two new SimNets learn from the pixels of the trained network:
# one from the pairs as published (*either* pixel of a base class), one from pairs of two base pixels only (*both*).

# %%
apart = changed(cfg, **{"loss.distillation": 0.0})
KINDS = {kind: changed(apart, **{"pairs.labeled": kind}) for kind in ("either", "both")}
simnets = torch.nn.ModuleDict({kind: SimNet(cfg.decoder.width) for kind in KINDS})


def pair_loss(simnet, embeddings, batch, c, step):  # the loss on random pairs
    torch.manual_seed(seed + step)  # the same random numbers for both
    return similarity_loss(simnet.compare(embeddings, draw_pairs(batch, c)))


def step_loss(simnets, batch, step):  # the losses of both
    with torch.no_grad():
        embeddings = net.network(batch.images).pixels
    terms = {k: pair_loss(simnets[k], embeddings, batch, c, step) for k, c in KINDS.items()}
    return {**terms, "total": sum(terms.values())}


# %%
schedule = changed(cfg.network, steps=200 if scale == "tiny" else 5000, warmup=0)
options = {"seed": seed, "folder": folder / "simnets", "resume": False}
options = training.LoopOptions(accelerator=accelerator, **options)
parts = ("simnets", simnets, step_loss, pair_data, schedule, options)
simnets = training.train(*parts, key="")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
generator, judged = torch.Generator().manual_seed(seed), scenes[:50]
points = torch.randint(len(all_), (1, 200), generator=generator)
drawn = [at_points(propose([s]).pixels, points.to(accelerator.device)) for s in judged]


def judge(simnet, x, s):  # of 200 pixels of an image, which pairs are right
    same = simnet.teach(x, x)[0].cpu() > 0.5
    return evaluation.pair_counts(same, pixel_labels(s.true_semantic)[points[0]], cfg.novel)


rows = []
for name, simnet in {"of the network": net.simnet, **dict(simnets.items())}.items():
    counts = sum(judge(simnet, x, s) for x, s in zip(drawn, judged, strict=True))
    shares = 100 * counts[..., 1] / counts.sum(2)
    for kind, (two, one) in zip(("base", "novel"), shares.tolist(), strict=True):
        line = {"SimNet": name, "pairs": kind, "one class: right (%)": one}
        rows.append({**line, "two: right (%)": two, "balanced (%)": (one + two) / 2})
viz.table(rows, f"{len(judged)} validation images; 50 is chance")

# %% [markdown]
# Trained as published, SimNet seldom says *one class* of two novel pixels: it saw pixels without a mask in pairs of two
# classes only, and its distillation pushes their scores apart. Without those pairs it says *one class* for most pixels of one
# novel class, and often for those of two; on balance it is right more often. What SimNet predicts with the same rule and the
# 128 base classes of the release, we do not know.
#
# ## What each part brings
#
# Here are the differences, in points, that single parts of the objective make, each with its interval over seeds. The gray
# band is what even twenty seeds could not tell from zero.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
shown = [
    t
    for t in experiments.find("simformer")
    if t.id in ("simformer.parts", "simformer.transfer")
]
results = experiments.read_results(shown, RESULTS)
title = "Differences that the parts make, and their noise"
viz.room_and_noise(experiments.comparisons(shown, results), title=title)

# %% [markdown]
# **Takeaway.** The complement makes the masks of novel classes, by far more than the noise. (*images in pairs* draws images
# by twos, but compares no pixels.) To see what pairs of pixels or the choice of SimNet's pairs add takes more seeds. All rows
# are on [the results page](../book/results.md), and those of photographs in the [next chapter](41_simformer_retraining.py).
#
# ## Where it fails

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results = []
for s in scenes:
    images = collate([s]).images.to(accelerator.device)
    predicted = simformer.predict(net, images, cfg)[0].cpu()
    mask = is_novel(s.true_semantic, cfg.novel)
    share = float((predicted == s.true_semantic)[mask].float().mean())
    if mask.float().mean() > 0.05:
        results.append((share, s, predicted))
worst = sorted(results, key=lambda row: row[0])[:5]
names = [f"{k}: {100 * share:.0f} % found" for k, (share, *_) in enumerate(worst, 1)]
grid = [[s.image for _, s, _ in worst]]
grid += [[viz.draw_semantic(s.true_semantic, classes) for _, s, _ in worst]]
grid += [[viz.draw_semantic(predicted, classes) for _, _, predicted in worst]]
rows = [dict(zip(names, row, strict=True)) for row in grid]
titles, title = ("image", "ground truth", "predicted"), "Novel classes that were missed"
viz.show(rows, rows=titles, size=1.9, title=title, one_legend=True)

# %% [markdown]
# **Takeaway.** These images have the lowest share of correct novel pixels. Novel things break into pieces of several classes,
# or are taken for another class; in the last image even the grass is.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:simformer-crop-tags`: whose tags are known, the crop's or the image's.
# - {ref}`fidelity:simformer-matcher` and {ref}`fidelity:simformer-complement`: how queries are matched; the constant.
# - {ref}`fidelity:simformer-student`: the release compares scores within one image, and its teacher pixels of two.
# - {ref}`fidelity:simformer-teacher-norm`, {ref}`fidelity:simformer-padding`, {ref}`fidelity:simformer-balance`: SimNet's pairs.
# - {ref}`fidelity:simformer-reference`: which image is paired with which.
# - What is smaller here than published, and why, is among [all settings](../book/settings.md).
# ```
#
# ## Exercises
#
# ```{exercise}
# :label: dead-zone
# *Predict.* At which probability does the constant logit stop the gradient? Which logit would stop it at one per cent?
# ```
#
# ```{solution-start} dead-zone
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
floor = torch.tensor(cfg.loss.complement_floor)
print(f"{floor.sigmoid():.3f}; {torch.tensor(0.01).logit():.2f}")

# %% [markdown]
# The smaller this probability is, the emptier a mask may be and still recover, and the more pixels of no class are pushed
# into one.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: other-pairs
# *Change one parameter.* Let `pairs.labeled` be *both*. Which share of the pairs of the picture above still has a target, and
# which share of those is of one class?
# ```
#
# ```{solution-start} other-pairs
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
for kind, c in KINDS.items():
    torch.manual_seed(seed)
    pairs = draw_pairs(crops, c)
    same = pairs.same[pairs.counted].float().mean()
    print(f"{kind}: {pairs.counted.float().mean():.2f} have a target, {same:.2f} one class")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: strongest-proposal
# *Implement* another way to read proposals: each pixel takes the class of the single proposal with the largest $p_n(c)\, m_n(x)$,
# in place of the sum over all. How does the novel mIoU change?
# ```
#
# ```{solution-start} strongest-proposal
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
metrics = {name: evaluation.MeanIoU(len(classes) + 1) for name in ("sum", "strongest")}
for s in scenes:
    proposals = propose([s])
    p = proposals.logits[-1, 0].softmax(-1)[:, :-1]
    m = interpolate(proposals.masks[-1], s.image.shape[1:], mode="bilinear")[0].sigmoid()
    scores = p[:, :, None, None] * m[:, None]
    for name, score in zip(metrics, (scores.sum(0), scores.amax(0)), strict=True):
        metrics[name].update(score.argmax(0).cpu() + 1, s.true_semantic)
for name, metric in metrics.items():
    print(name, f"{100 * evaluation.grouped_iou(metric, cfg.novel)['novel_mIoU']:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next:** [a second network, and more novel classes](41_simformer_retraining.py).
