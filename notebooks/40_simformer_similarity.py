# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SimFormer: what a mask can teach about other classes
#
# Masks for some classes, image tags for the others, and in the end a class for every pixel.
#
# **Before this:** [what a weak label is](01_weak_labels.py). **After it:** [a second network, and
# more novel classes](41_simformer_retraining.py). **Time:** at tiny scale some three minutes on a laptop, most of them for one
# network.
#
# ```{admonition} A small network, hardly trained
# :class: warning
# It sees twelve base classes in a few thousand crops, the published one 128 in half a million. One run, one seed; what
# several seeds say is in the next chapter.
# ```

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import torch
from matplotlib import pyplot as plt
from torch.nn.functional import avg_pool2d, interpolate

# %%
from wsis import evaluation, training, viz, weak
from wsis.core import Points, changed, sources
from wsis.data import collate
from wsis.methods import simformer
from wsis.methods.simformer.labels import semantic_scores
from wsis.methods.simformer.objective import focal, similarity_loss
from wsis.methods.simformer.pairs import at_points, draw_pairs
from wsis.methods.simformer.simnet import SimNet

plt.rcParams.update(viz.RC)

# %% [markdown]
# To draw the outline of a new class costs minutes a picture; to say that it is there costs a second. SimFormer
# {cite:p}`chen2022simformer` takes masks of {term}`base classes <base class>` that exist already, and of {term}`novel ones
# <novel class>` no more than tags. Two kinds of likeness carry over. What makes a region *one thing* is much the same
# for all classes, so a network that proposes masks can propose those of novel classes. And whether two pixels show *the
# same class* can be learned on base classes and asked of novel ones.

# %%
settings = changed(simformer.TINY if scale == "tiny" else simformer.FULL, **{"final.steps": 0})
opened = weak.open_data(data, scale, clicks="class_maps", seed=seed)
train, val, classes = opened.train, opened.val, opened.train.classes
cfg = settings.for_classes(classes)
novel = [classes[label] for label in cfg.novel]
print(f"{len(classes)} classes; novel: {', '.join(novel)}")

# %% [markdown]
# ## What is given
#
# A {term}`class map` of the base classes. All else is left open: a pixel of a novel class looks to the method just like one
# that nobody labelled. Beside it stands the list of the classes that are there: in training those of each crop, as in the release.

# %%
some = [train[i] for i in range(min(len(train), 60))]
given = [weak.with_base_masks(s, cfg.novel) for s in some]
mixed = [i for i, s in enumerate(some) if s.tags[list(cfg.novel)].sum() > 1][:4]
rows = [
    {f"image {i}": viz.draw_semantic(m(i), classes) if m else some[i].image for i in mixed}
    for m in (None, lambda i: some[i].true_semantic, lambda i: given[i].semantic_map)
]
viz.show(
    rows,
    rows=("image", "all classes", "given"),
    size=2.2,
    title="What the network may learn from",
    one_legend=True,
)

# %% [markdown]
# **Takeaway.** The last row is all that any loss sees of the middle one, besides the names of what is missing.
#
# ## Training
#
# The network is MaskFormer {cite:p}`cheng2021maskformer`: a few learned queries look at the picture, and each makes a
# {term}`proposal`, a class and a mask. Tags teach the class of all; masks teach the mask of base classes only. Which query
# answers for which class is matched anew in each step. At tiny scale masks weigh less there than published: with their full
# weight a query takes too long to settle on a class (decision 13, among the [decisions](../book/decisions/index.md)).
#
# What is minimized, with the weights that the settings at the end of this page give:
#
# $$\sum_{\text{layers}} \left( \mathcal{L}_{\text{label}} + \lambda_f \mathcal{L}_{\text{focal}}
# + \lambda_d \mathcal{L}_{\text{dice}} + \lambda_c \mathcal{L}_{\text{complement}} \right)
# + \lambda_s \mathcal{L}_{\text{similarity}} + \lambda_t \mathcal{L}_{\text{distillation}}$$

# %%
_, folder = training.chapter_run(
    simformer, cfg, opened, data, scale, seed, device, only=("network",)
)
where = training.make_accelerator(device).device
net = simformer.restore(cfg, folder).to(where).eval()

# %%
log, terms = viz.read_log(folder / "network.csv"), ("label", "dice", "complement", "similarity")
viz.training_curves({"SimFormer": log}, terms, title="Training")

# %% [markdown]
# **Takeaway.** *label*: the classes of all proposals. *dice*: masks of base classes, which take longer (a sum over the decoder's
# layers, hence above one). *complement* and *similarity* belong to the two ideas below.
#
# ## Proposals
#
# The proposals of one picture of the validation set, those with the surest classes, and what all of them say together: at
# each pixel $x$ the class $c$ with the largest sum of class times mask, $\sum_n p_n(c)\, m_n(x)$.

# %%
scenes = [val[i] for i in range(min(len(val), 100))]
shares = [[float((s.true_semantic == v + 1).float().mean()) for v in cfg.novel] for s in scenes]
i = max(range(min(len(scenes), 20)), key=lambda i: sum(share > 0.04 for share in shares[i]))
image = collate([scenes[i]]).images.to(where)
with torch.no_grad():
    out = net.network(image)
size, chance = image.shape[2:], out.logits[-1, 0].softmax(1)[:, :-1].cpu()
masks = interpolate(out.masks[-1], size, mode="bilinear")[0].sigmoid().cpu()
sure = chance.amax(1).argsort(descending=True)[:6].tolist()
together = semantic_scores(out.logits[-1], out.masks[-1], tuple(size)).argmax(1)[0].cpu() + 1

# %%
mark = {k: classes[k] + (" (novel)" if k in cfg.novel else "") for k in range(len(classes))}
names = [
    f"{k}: {mark[int(chance[n].argmax())]} {chance[n].max():.2f}" for k, n in enumerate(sure, 1)
]
panels = {
    name: viz.draw_heat(image[0].cpu(), masks[n], limits=(0, 1))
    for name, n in zip(names, sure, strict=True)
}
panels["all"] = viz.draw_semantic(together, classes)
panels["truth"] = viz.draw_semantic(scenes[i].true_semantic, classes)
viz.show(panels, columns=4, size=2.3, title="Proposals and what they say together")

# %% [markdown]
# **Takeaway.** A class may be sure without being in the picture; then its mask is hardly there. No mask of a novel class was ever
# shown. Their proposals keep mostly to what base masks leave, which the complement below asks of them. Which takes which part
# is another matter: two may share one region.
#
# Does mask ability carry over? For every class region of the pictures, the best IoU that *any* proposal has with it,
# whatever the proposal calls itself, and the IoU of the final map.

# %%
best, metric = {True: [], False: []}, evaluation.MeanIoU(len(classes) + 1)
for s in scenes:
    picture = collate([s]).images.to(where)
    with torch.no_grad():
        seen = net.network(picture)
    made = interpolate(seen.masks[-1], size, mode="bilinear")[0].cpu() > 0
    metric.update(simformer.predict(net, picture, cfg)[0].cpu(), s.true_semantic)
    for value in s.true_semantic.unique().tolist():
        region = s.true_semantic == value
        iou = (made & region).sum((1, 2)) / (made | region).sum((1, 2)).clamp(min=1)
        best[value - 1 in cfg.novel].append(float(iou.max()))

# %%
figures = evaluation.grouped_iou(metric, cfg.novel)
rows = []
for name, ious in (("base", best[False]), ("novel", best[True])):
    line = {"classes": name, "regions": len(ious)}
    line["best proposal: mean over regions, IoU (%)"] = 100 * sum(ious) / len(ious)
    rows.append(
        {**line, "of the map: mean over classes, mIoU (%)": 100 * figures[f"{name}_mIoU"]}
    )
viz.table(rows, f"{len(scenes)} validation pictures")

# %% [markdown]
# So some proposal fits a novel region, though less well than a base region. How much of this carries over from base masks by
# itself? Little: trained without the complement, the next idea, a network finds few novel pixels (C32c in the [next
# chapter](41_simformer_retraining.py)).
#
# ## The complement
#
# What base masks leave of a picture belongs to its novel classes, or to nothing. So the *union* of the masks of a picture's
# novel proposals should be this {term}`complement`. At each pixel only the novel mask that says most is pulled, so that which of
# them takes which part is left to them. Pixels of no class are in the complement, too. Therefore a constant logit joins the
# union: where all novel masks are below five per cent it wins, and nothing is taught.

# %%
figure, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for wanted, name in ((1.0, "of the complement"), (0.0, "of a base mask")):
    logit = torch.linspace(-7, 4, 441, requires_grad=True)
    union = torch.maximum(logit, torch.tensor(cfg.loss.complement_floor))
    focal(union[:, None], torch.full((441, 1), wanted)).sum().backward()
    ax.plot(logit.detach(), -logit.grad, label=f"a pixel {name}")
ax.axvspan(-7, cfg.loss.complement_floor, color="0.92", zorder=0)
ax.axhline(0, color="0.7", lw=0.8)
ax.set(
    title="what the complement pulls at",
    xlabel="largest logit of the novel proposals",
    ylabel="pull (focal loss)",
)
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** Right of the gray zone pixels of the complement are pulled up, those of base masks down. In it there is no pull
# at all, not even for pixels of the complement: a novel mask that says nothing anywhere is not called back by this
# loss. How often does that happen? `ignored` in the log is the share of complement pixels where the constant wins.

# %%
thirds = zip(
    ("first", "second", "last"), torch.tensor(log["ignored"]).tensor_split(3), strict=True
)
viz.table(
    [{"third of the steps": n, "ignored (%)": 100 * float(part.mean())} for n, part in thirds]
)

# %% [markdown]
# ## Pairs of pixels
#
# The second likeness. {term}`SimNet` looks at two pixels' features and says whether they show one class. It is taught on pairs
# of which at least one is of a base class; then it is asked about pairs of which nothing is known. The novel scores of such
# pixels are pulled together where it says *one class* and apart where it says *two*, the harder the surer it is:
# {term}`distillation`. The two pixels are of two images that share a novel class.
#
# Below SimNet compares one pixel of a picture with all others. Drag through pixels, first of a base class, then of a novel one.


# %%
def small(class_map):  # at the size of the pixels' features, in rows
    at_size = interpolate(class_map[None, None].float(), out.pixels.shape[2:], mode="nearest")
    return at_size.flatten().long()


side, all_ = out.pixels.shape[3], torch.arange(out.pixels[0, 0].numel(), device=where)
every, values, chosen = at_points(out.pixels, all_[None]), small(scenes[i].true_semantic), []
for value in sorted(values.unique().tolist(), key=lambda v: v - 1 in cfg.novel):
    of_class = (values == value).float()
    around = avg_pool2d(of_class.view(1, -1, side), 7, 1, 3).flatten()
    chosen.append((int((of_class * around).argmax()), mark[value - 1]))  # far from the border


def marker(at):  # where a pixel of the features, at a quarter of the size, is in the picture
    return Points.make(4.0 * torch.tensor([[at % side, at // side]]) + 1.5, torch.zeros(1))


# %%
frames = []
for at, name in chosen:
    with torch.no_grad():
        same = net.simnet.teach(every[:, at : at + 1], every)[0, 0].view(-1, side)
    large = interpolate(same[None, None], size, mode="bilinear")[0, 0].cpu()
    figure, axes = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
    viz.draw_points(viz.draw_heat(image[0].cpu(), large, limits=(0, 1)), marker(at))(axes)
    axes.set(title=name, xticks=[], yticks=[], frame_on=False)
    frames.append(figure)
    plt.close(figure)
viz.scrub(frames, [name for _, name in chosen], "pixel of")

# %% [markdown]
# **Takeaway.** For a pixel of a base class the map lights up over the class, and over other classes that look like it. Of novel ones
# it was never told what belongs together: grass is like nothing, the turtle like other things.
#
# How far does that go, and why? SimNet learns from pairs of which one pixel, or both, are of a base class
# ({ref}`fidelity:simformer-labelled`). So pixels of novel classes do appear, and always in pairs whose answer is *they
# differ*. To see what that teaches, two new SimNets look at the pixels of the trained network: one learns from the pairs
# as published (*either* pixel of a base class), one from those of two base pixels only (*both*).

# %%
alone = changed(cfg, **{"loss.distillation": 0.0})
KINDS = {kind: changed(alone, **{"pairs.labeled": kind}) for kind in ("either", "both")}
simnets = torch.nn.ModuleDict({kind: SimNet(cfg.decoder.width) for kind in KINDS})


def pair_loss(simnet, embeddings, batch, c):  # on pairs that are drawn for it
    return similarity_loss(simnet.compare(embeddings, draw_pairs(batch, c)))


def step_loss(simnets, batch, step):  # of both, from the same pixels
    with torch.no_grad():
        embeddings = net.network(batch.images).pixels
    terms = {k: pair_loss(simnets[k], embeddings, batch, c) for k, c in KINDS.items()}
    return {**terms, "total": sum(terms.values())}


# %%
short = changed(cfg.network, steps=200 if scale == "tiny" else 5000, warmup=0)
accelerator = training.make_accelerator(device)
options = {"seed": seed, "folder": folder / "simnets", "resume": False}
options = training.LoopOptions(accelerator=accelerator, **options)
pairs = simformer.training_data(train, cfg)
simnets = training.train("simnets", simnets, step_loss, pairs, short, options, key="")

# %% [markdown]
# Pairs of 200 pixels of a picture, drawn at random: two base pixels, or two novel ones. How often is each SimNet right?


# %%
def ask(simnet, s):  # what it says of pairs of pixels, and their true classes
    points = torch.randint(len(all_), (1, 200), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        seen = at_points(net.network(collate([s]).images.to(where)).pixels, points.to(where))
        alike = simnet.teach(seen, seen)[0].cpu() > 0.5
    return alike, small(s.true_semantic)[points[0]]


# %%
rows, asked = [], {"of the network": net.simnet, **dict(simnets.items())}
for name, simnet in asked.items():
    counts = sum(evaluation.pair_counts(*ask(simnet, s), cfg.novel) for s in scenes)
    for kind, right in zip(
        ("base", "novel"), 100 * counts[..., 1] / counts.sum(2), strict=True
    ):
        line = {"SimNet": name, "pairs": kind, "one class: right (%)": float(right[1])}
        line |= {"two: right (%)": float(right[0]), "balanced (%)": float(right.mean())}
        rows.append(line)
viz.table(rows, f"{len(scenes)} validation pictures; 50 is chance")

# %% [markdown]
# So, taught as published, SimNet does not compare pixels of novel classes: it learns that what no mask covers is never the
# same as anything. Without those pairs it calls pixels of one novel class the same, and many of two classes too; on balance it
# is right more often. What SimNet says is distilled, so that, taught as published, it asks the scores of novel pixels to
# differ. The release has the same rule with 128 base classes; what SimNet says there we cannot tell. Whether the maps are the
# worse for it is a row of `simformer.parts` in the [next chapter](41_simformer_retraining.py).
#
# Both likenesses of one pixel in a picture, of two base and two novel classes.


# %%
def heat(values):  # [h, w] of the pixels' features, over the picture
    large = interpolate(values[None, None], size, mode="bilinear")[0, 0].cpu()
    return viz.draw_heat(image[0].cpu(), large, limits=(0, 1))


def said(simnet, at):  # what it says of one pixel and all others
    with torch.no_grad():
        return heat(simnet.teach(every[:, at : at + 1], every)[0, 0].view(-1, side))


# %%
STEPS = ("a pixel", "its proposal", "SimNet, either", "SimNet, both")
columns = {}
for at, name in [*chosen[:2], *chosen[-2:]]:
    x, y = marker(at).xy[0].long().tolist()
    n = int((masks[:, y, x] * chance.amax(1)).argmax())  # the proposal that says most there
    columns[name] = [viz.draw_points(image[0].cpu(), marker(at))]
    columns[name] += [viz.draw_heat(image[0].cpu(), masks[n], limits=(0, 1))]
    columns[name] += [said(simnet, at) for simnet in simnets.values()]
rows = [{name: panels[k] for name, panels in columns.items()} for k in range(len(STEPS))]
viz.show(rows, rows=STEPS, size=2.1, title="What a pixel is alike to")

# %% [markdown]
# **Takeaway.** Second row, proposal and pixel: wide novel ground has a proposal of its own; others get one that fits something else
# better. Third and fourth row, pixel and pixel: with the published pairs grass is like nothing, not even like itself; with pairs
# of base pixels alone it is, and like much else.
#
# ## Where it fails

# %%
found = []
for s in scenes:
    made = simformer.predict(net, collate([s]).images.to(where), cfg)[0].cpu()
    hidden = evaluation.is_novel(s.true_semantic, cfg.novel)
    share = float((made == s.true_semantic)[hidden].float().mean())
    if hidden.float().mean() > 0.05:
        found.append((share, s, made))
worst = sorted(found, key=lambda row: row[0])[:5]

# %%
names = [f"{k}: {100 * share:.0f} % found" for k, (share, _, _) in enumerate(worst, 1)]
three = [[s.image for _, s, _ in worst]]
three += [[viz.draw_semantic(s.true_semantic, classes) for _, s, _ in worst]]
three += [[viz.draw_semantic(made, classes) for _, _, made in worst]]
rows = [dict(zip(names, row, strict=True)) for row in three]
titles = ("image", "truth", "found")
viz.show(rows, rows=titles, size=2, title="Novel classes that were missed", one_legend=True)

# %% [markdown]
# **Takeaway.** Pictures with the fewest novel pixels found. Small novel things fall to pieces of several classes, or become a base
# thing of their surroundings. Base classes in the same pictures are mostly right, things of theirs with soft outlines.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:simformer-crop-tags`: whose tags are known, the crop's or the image's.
# - {ref}`fidelity:simformer-matcher` and {ref}`fidelity:simformer-complement`: who answers for what; the constant.
# - {ref}`fidelity:simformer-student`: the release compares scores within one image, and its teacher pixels of two.
# - {ref}`fidelity:simformer-teacher-norm`, {ref}`fidelity:simformer-padding`, {ref}`fidelity:simformer-balance`: SimNet's pairs.
# - {ref}`fidelity:simformer-reference`: which image is paired with which.
# ```
#
# ## Settings

# %%
groups = ("backbone", "weights", "decoder", "matching", "loss", "pairs")
shown = [r for r in sources(cfg) if r["name"].split(".")[0] in groups]
viz.table([{k: r[k] for k in ("name", "value", "unit", "source")} for r in shown])

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: dead-zone
# *Predict.* At which probability does the constant logit stop the pull? Which logit would stop it at one per cent?
# ```
#
# ```{solution-start} dead-zone
# :class: dropdown
# ```

# %% tags=["solution"]
print(
    f"{torch.tensor(cfg.loss.complement_floor).sigmoid():.3f}; {torch.tensor(0.01).logit():.2f}"
)

# %% [markdown]
# The smaller the probability, the more quiet masks are called back, and the more pixels of no class are pushed to be something.
#
# ```{solution-end}
# ```
