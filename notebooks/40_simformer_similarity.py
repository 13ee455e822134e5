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
# classes](41_simformer_retraining.py). **Time:** at tiny scale about three minutes on a laptop, most of them for one network.
#
# ```{admonition} A small network, hardly trained
# :class: warning
# It sees twelve base classes in a few thousand crops, the published one 128 in half a million. This is one run with one seed;
# results over several seeds are in the next chapter.
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
# To draw the outline of a new class costs minutes per image; to say that it is there costs a second. SimFormer
# {cite:p}`chen2022simformer` takes masks of {term}`base classes <base class>` that exist already, and no more than tags of
# {term}`novel ones <novel class>`. Two kinds of similarity carry over. What makes a region *one thing* is much the same for all
# classes, so a network that proposes masks can propose those of novel classes. And whether two pixels show *the same class* can
# be learned on base classes and predicted for novel ones.

# %%
settings = changed(simformer.TINY if scale == "tiny" else simformer.FULL, **{"final.steps": 0})
datasets = weak.open_data(data, scale, clicks="class_maps", seed=seed)
train, val, classes = datasets.train, datasets.val, datasets.train.classes
cfg = settings.for_classes(classes)
novel = [classes[label] for label in cfg.novel]
print(f"{len(classes)} classes; novel: {', '.join(novel)}")

# %% [markdown]
# ## What is given
#
# The input is a {term}`class map` of the base classes. All else is left open: for the method a pixel of a novel class is just
# like an unlabeled one. With it comes the list of the classes that are present: in training those of each crop, as in the
# release.

# %%
samples = [train[i] for i in range(min(len(train), 60))]
weak_samples = [weak.with_base_masks(s, cfg.novel) for s in samples]
picks = [i for i, s in enumerate(samples) if s.tags[list(cfg.novel)].sum() > 1][:4]
rows = [
    {f"image {i}": viz.draw_semantic(m(i), classes) if m else samples[i].image for i in picks}
    for m in (None, lambda i: samples[i].true_semantic, lambda i: weak_samples[i].semantic_map)
]
viz.show(
    rows,
    rows=("image", "all classes", "given"),
    size=2.2,
    title="The labels of the network",
    one_legend=True,
)

# %% [markdown]
# **Takeaway.** The last row is all that any loss sees of the middle one, besides the names of the missing classes.
#
# ## Training
#
# The network is MaskFormer {cite:p}`cheng2021maskformer`: a few learned queries look at the image, and each makes a
# {term}`proposal`, a class and a mask. Tags supervise the classes of all proposals; masks supervise the masks of base classes
# only. Queries and classes are matched anew in each step. At tiny scale masks weigh less in this match than published: with
# their full weight a query takes too long to settle on a class (decision 13, among the
# [decisions](../book/decisions/index.md)).
#
# This is the loss, with the weights from the settings at the end of this page:
#
# $$\sum_{\text{layers}} \left( \mathcal{L}_{\text{label}} + \lambda_f \mathcal{L}_{\text{focal}}
# + \lambda_d \mathcal{L}_{\text{dice}} + \lambda_c \mathcal{L}_{\text{complement}} \right)
# + \lambda_s \mathcal{L}_{\text{similarity}} + \lambda_t \mathcal{L}_{\text{distillation}}$$

# %%
_, folder = training.chapter_run(
    simformer, cfg, datasets, data, scale, seed, device, only=("network",)
)
dev = training.make_accelerator(device).device
net = simformer.restore(cfg, folder).to(dev).eval()

# %%
log, terms = viz.read_log(folder / "network.csv"), ("label", "dice", "complement", "similarity")
viz.training_curves({"SimFormer": log}, terms, title="Training")

# %% [markdown]
# **Takeaway.** *label* is the loss on the classes of all proposals. *dice* is the loss on masks of base classes, which take
# longer (it is a sum over the decoder's layers, hence above one). *complement* and *similarity* belong to the two ideas below.
#
# ## Proposals
#
# Here are the proposals for one validation image, those with the most confident classes, and the prediction of all of them
# together: at each pixel $x$ the class $c$ with the largest sum of class times mask, $\sum_n p_n(c)\, m_n(x)$.

# %%
scenes = [val[i] for i in range(min(len(val), 100))]
shares = [[float((s.true_semantic == v + 1).float().mean()) for v in cfg.novel] for s in scenes]
i = max(range(min(len(scenes), 20)), key=lambda i: sum(share > 0.04 for share in shares[i]))
image = collate([scenes[i]]).images.to(dev)
with torch.no_grad():
    out = net.network(image)
size, chance = image.shape[2:], out.logits[-1, 0].softmax(1)[:, :-1].cpu()
masks = interpolate(out.masks[-1], size, mode="bilinear")[0].sigmoid().cpu()
ranking = chance.amax(1).argsort(descending=True)[:6].tolist()
class_map = semantic_scores(out.logits[-1], out.masks[-1], tuple(size)).argmax(1)[0].cpu() + 1

# %%
label_names = {
    k: classes[k] + (" (novel)" if k in cfg.novel else "") for k in range(len(classes))
}
names = [
    f"{k}: {label_names[int(chance[n].argmax())]} {chance[n].max():.2f}"
    for k, n in enumerate(ranking, 1)
]
panels = {
    name: viz.draw_heat(image[0].cpu(), masks[n], limits=(0, 1))
    for name, n in zip(names, ranking, strict=True)
}
panels["all"] = viz.draw_semantic(class_map, classes)
panels["ground truth"] = viz.draw_semantic(scenes[i].true_semantic, classes)
viz.show(panels, columns=4, size=2.3, title="Proposals and their joint prediction")

# %% [markdown]
# **Takeaway.** A class may be confident without being in the image; then its mask is nearly empty. The network was never
# trained on a mask of a novel class. Novel proposals mostly stay in what base masks leave, which the complement below asks of
# them. Which of them takes which part is not determined: two may share one region.
#
# Do proposals generalize to novel classes? The table has, for every class region of the images, the best IoU that *any*
# proposal has with it, whatever its class, and the IoU of the final map.

# %%
best, metric = {True: [], False: []}, evaluation.MeanIoU(len(classes) + 1)
for s in scenes:
    batch_images = collate([s]).images.to(dev)
    with torch.no_grad():
        outputs = net.network(batch_images)
    predicted = interpolate(outputs.masks[-1], size, mode="bilinear")[0].cpu() > 0
    metric.update(simformer.predict(net, batch_images, cfg)[0].cpu(), s.true_semantic)
    for value in s.true_semantic.unique().tolist():
        region = s.true_semantic == value
        iou = (predicted & region).sum((1, 2)) / (predicted | region).sum((1, 2)).clamp(min=1)
        best[value - 1 in cfg.novel].append(float(iou.max()))

# %%
scores = evaluation.grouped_iou(metric, cfg.novel)
rows = []
for name, ious in (("base", best[False]), ("novel", best[True])):
    line = {"classes": name, "regions": len(ious)}
    line["best proposal: mean over regions, IoU (%)"] = 100 * sum(ious) / len(ious)
    rows.append(
        {**line, "of the map: mean over classes, mIoU (%)": 100 * scores[f"{name}_mIoU"]}
    )
viz.table(rows, f"{len(scenes)} validation images")

# %% [markdown]
# So some proposal fits a novel region, though less well than a base region. How much of this carries over from base masks by
# itself? Little: trained without the complement, the next idea, a network finds few novel pixels (C32c in the [next
# chapter](41_simformer_retraining.py)).
#
# ## The complement
#
# What base masks leave of an image belongs to its novel classes, or to none. So the *union* of the masks of an image's novel
# proposals should be this {term}`complement`. At each pixel only the highest novel mask gets a gradient, so the loss does not
# decide which of them takes which part. Pixels of no class are in the complement, too. Therefore a constant logit joins the
# union: where all novel masks are below five per cent it wins, and there is no gradient.

# %%
figure, ax = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for target, name in ((1.0, "of the complement"), (0.0, "of a base mask")):
    logit = torch.linspace(-7, 4, 441, requires_grad=True)
    union = torch.maximum(logit, torch.tensor(cfg.loss.complement_floor))
    focal(union[:, None], torch.full((441, 1), target)).sum().backward()
    ax.plot(logit.detach(), -logit.grad, label=f"a pixel {name}")
ax.axvspan(-7, cfg.loss.complement_floor, color="0.92", zorder=0)
ax.axhline(0, color="0.7", lw=0.8)
ax.set(
    title="the gradient of the complement",
    xlabel="largest logit of the novel proposals",
    ylabel="negative gradient (focal loss)",
)
ax.legend()
plt.show()

# %% [markdown]
# **Takeaway.** Right of the gray zone pixels of the complement are pulled up, those of base masks down. In it there is no
# gradient at all, not even for pixels of the complement: this loss cannot recover a novel mask that is empty everywhere. How
# often does that happen? `ignored` in the log is the share of complement pixels where the constant wins.

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
# This is the second kind of similarity. {term}`SimNet` takes the features of two pixels and predicts whether they show one
# class. It is trained on pairs with at least one pixel of a base class; then it predicts pairs without a label. The novel
# scores of such pixels are pulled together where it predicts *one class* and apart where it predicts *two*, the harder the more
# confident it is: {term}`distillation`. The two pixels are of two images that share a novel class.
#
# Below SimNet compares one pixel of an image with all others. Drag through pixels, first of a base class, then of a novel one.


# %%
def pixel_labels(class_map):  # labels at the size of the pixels' features, flat
    at_size = interpolate(class_map[None, None].float(), out.pixels.shape[2:], mode="nearest")
    return at_size.flatten().long()


side, all_ = out.pixels.shape[3], torch.arange(out.pixels[0, 0].numel(), device=dev)
vectors, values = at_points(out.pixels, all_[None]), pixel_labels(scenes[i].true_semantic)
pixels = []  # the index of a pixel far from the border, the name of its class
for value in sorted(values.unique().tolist(), key=lambda v: v - 1 in cfg.novel):
    members = (values == value).float()
    density = avg_pool2d(members.view(1, -1, side), 7, 1, 3).flatten()
    pixels.append((int((members * density).argmax()), label_names[value - 1]))


def marker(index):  # the point in the image of a pixel of the features
    xy = torch.tensor([[index % side, index // side]])  # at a quarter of the size
    return Points.make(4.0 * xy + 1.5, torch.zeros(1))


# %%
frames = []
for index, name in pixels:
    with torch.no_grad():
        heatmap = net.simnet.teach(vectors[:, index : index + 1], vectors)[0, 0].view(-1, side)
    resized = interpolate(heatmap[None, None], size, mode="bilinear")[0, 0].cpu()
    figure, axes = plt.subplots(figsize=(3.4, 3.2), layout="constrained")
    viz.draw_points(viz.draw_heat(image[0].cpu(), resized, limits=(0, 1)), marker(index))(axes)
    axes.set(title=name, xticks=[], yticks=[], frame_on=False)
    frames.append(figure)
    plt.close(figure)
viz.scrub(frames, [name for _, name in pixels], "pixel of")

# %% [markdown]
# **Takeaway.** For a pixel of a base class the map lights up over the class, and over other classes that look like it. For
# novel classes it had no labels of what belongs together: grass is similar to nothing, the turtle to other things.
#
# How far does that go, and why? SimNet learns from pairs in which one pixel, or both, are of a base class
# ({ref}`fidelity:simformer-labelled`). So pixels of novel classes do appear, and always in pairs with the label *different*. To
# see the effect, we train two new SimNets on the pixels of the trained network: one learns from the pairs as published
# (*either* pixel of a base class), one from those of two base pixels only (*both*).

# %%
no_distillation = changed(cfg, **{"loss.distillation": 0.0})
KINDS = {
    kind: changed(no_distillation, **{"pairs.labeled": kind}) for kind in ("either", "both")
}
simnets = torch.nn.ModuleDict({kind: SimNet(cfg.decoder.width) for kind in KINDS})


def pair_loss(simnet, embeddings, batch, c):  # the loss on random pairs
    return similarity_loss(simnet.compare(embeddings, draw_pairs(batch, c)))


def step_loss(simnets, batch, step):  # the losses of both, on the same pixels
    with torch.no_grad():
        embeddings = net.network(batch.images).pixels
    terms = {k: pair_loss(simnets[k], embeddings, batch, c) for k, c in KINDS.items()}
    return {**terms, "total": sum(terms.values())}


# %%
schedule = changed(cfg.network, steps=200 if scale == "tiny" else 5000, warmup=0)
accelerator = training.make_accelerator(device)
options = {"seed": seed, "folder": folder / "simnets", "resume": False}
options = training.LoopOptions(accelerator=accelerator, **options)
pair_data = simformer.training_data(train, cfg)
simnets = training.train("simnets", simnets, step_loss, pair_data, schedule, options, key="")

# %% [markdown]
# We test pairs of 200 random pixels of each image: two base pixels, or two novel ones. How often is each SimNet right?


# %%
def predict_pairs(simnet, s):  # predictions for pairs of pixels, and their true classes
    points = torch.randint(len(all_), (1, 200), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        outputs = at_points(net.network(collate([s]).images.to(dev)).pixels, points.to(dev))
        same_class = simnet.teach(outputs, outputs)[0].cpu() > 0.5
    return same_class, pixel_labels(s.true_semantic)[points[0]]


# %%
rows, simnets_by_name = [], {"of the network": net.simnet, **dict(simnets.items())}
for name, simnet in simnets_by_name.items():
    counts = sum(evaluation.pair_counts(*predict_pairs(simnet, s), cfg.novel) for s in scenes)
    for kind, right in zip(
        ("base", "novel"), 100 * counts[..., 1] / counts.sum(2), strict=True
    ):
        line = {"SimNet": name, "pairs": kind, "one class: right (%)": float(right[1])}
        line |= {"two: right (%)": float(right[0]), "balanced (%)": float(right.mean())}
        rows.append(line)
viz.table(rows, f"{len(scenes)} validation images; 50 is chance")

# %% [markdown]
# So, trained as published, SimNet does not compare pixels of novel classes: it learns that pixels without a mask are never
# similar to others. Without those pairs it predicts one class for pixels of one novel class, and often for those of two; on
# balance it is right more often. Its predictions are distilled, so, trained as published, it pushes the scores of novel pixels
# apart. The release has the same rule with 128 base classes; we do not know what SimNet predicts there. Whether the maps suffer
# from it is a row of `simformer.parts` in the [next chapter](41_simformer_retraining.py).
#
# Here are both kinds of similarity for single pixels of an image, of two base and two novel classes.


# %%
def heat(values):  # [h, w] of the pixels' features, over the image
    resized = interpolate(values[None, None], size, mode="bilinear")[0, 0].cpu()
    return viz.draw_heat(image[0].cpu(), resized, limits=(0, 1))


def pixel_panel(simnet, index):  # the similarity of one pixel to all others
    with torch.no_grad():
        return heat(simnet.teach(vectors[:, index : index + 1], vectors)[0, 0].view(-1, side))


# %%
STEPS = ("a pixel", "its proposal", "SimNet, either", "SimNet, both")
columns = {}
for index, name in [*pixels[:2], *pixels[-2:]]:
    x, y = marker(index).xy[0].long().tolist()
    n = int((masks[:, y, x] * chance.amax(1)).argmax())  # the strongest proposal there
    columns[name] = [viz.draw_points(image[0].cpu(), marker(index))]
    columns[name] += [viz.draw_heat(image[0].cpu(), masks[n], limits=(0, 1))]
    columns[name] += [pixel_panel(simnet, index) for simnet in simnets.values()]
rows = [{name: panels[k] for name, panels in columns.items()} for k in range(len(STEPS))]
viz.show(rows, rows=STEPS, size=2.1, title="What a pixel is similar to")

# %% [markdown]
# **Takeaway.** Second row, proposal and pixel: wide novel ground has a proposal of its own; others get one that fits something
# else better. Third and fourth row, pixel and pixel: with the published pairs grass is similar to nothing, not even to itself;
# with pairs of base pixels alone it is similar to itself, and to much else.
#
# ## Where it fails

# %%
results = []
for s in scenes:
    predicted = simformer.predict(net, collate([s]).images.to(dev), cfg)[0].cpu()
    novel_mask = evaluation.is_novel(s.true_semantic, cfg.novel)
    share = float((predicted == s.true_semantic)[novel_mask].float().mean())
    if novel_mask.float().mean() > 0.05:
        results.append((share, s, predicted))
worst = sorted(results, key=lambda row: row[0])[:5]

# %%
names = [f"{k}: {100 * share:.0f} % found" for k, (share, _, _) in enumerate(worst, 1)]
grid_rows = [[s.image for _, s, _ in worst]]
grid_rows += [[viz.draw_semantic(s.true_semantic, classes) for _, s, _ in worst]]
grid_rows += [[viz.draw_semantic(predicted, classes) for _, _, predicted in worst]]
rows = [dict(zip(names, row, strict=True)) for row in grid_rows]
titles = ("image", "ground truth", "predicted")
viz.show(rows, rows=titles, size=2, title="Novel classes that were missed", one_legend=True)

# %% [markdown]
# **Takeaway.** These are the images with the lowest share of correct novel pixels. Small novel things break into pieces of
# several classes, or become a base class of their surroundings. Base classes in the same images are mostly right, their things
# with soft outlines.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:simformer-crop-tags`: whose tags are known, the crop's or the image's.
# - {ref}`fidelity:simformer-matcher` and {ref}`fidelity:simformer-complement`: how queries are matched; the constant.
# - {ref}`fidelity:simformer-student`: the release compares scores within one image, and its teacher pixels of two.
# - {ref}`fidelity:simformer-teacher-norm`, {ref}`fidelity:simformer-padding`, {ref}`fidelity:simformer-balance`: SimNet's pairs.
# - {ref}`fidelity:simformer-reference`: which image is paired with which.
# ```
#
# ## Settings

# %%
groups = ("backbone", "weights", "decoder", "matching", "loss", "pairs")
settings_rows = [r for r in sources(cfg) if r["name"].split(".")[0] in groups]
viz.table([{k: r[k] for k in ("name", "value", "unit", "source")} for r in settings_rows])

# %% [markdown]
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

# %% tags=["solution"]
print(
    f"{torch.tensor(cfg.loss.complement_floor).sigmoid():.3f}; {torch.tensor(0.01).logit():.2f}"
)

# %% [markdown]
# The smaller the probability, the more nearly empty masks are recovered, and the more pixels of no class are pushed into some
# class.
#
# ```{solution-end}
# ```
