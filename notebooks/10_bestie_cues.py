# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # BESTIE: from tags to cues
#
# A list of words per picture, and nothing else: how a classifier learns to point at objects, one by one.
#
# **Before this:** [weak labels](01_weak_labels.py). **After it:** [from cues to labels](11_bestie_labels.py). **Time:**
# at tiny scale about two minutes on a laptop, most of them for two small classifiers.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import avg_pool2d

from wsis import runs, viz
from wsis.backbones import load_weights
from wsis.components import connected_components
from wsis.config import changed, fingerprint, sources
from wsis.data.labelled import Labelled
from wsis.data.transforms import collate
from wsis.evaluate import cue_quality, label_quality
from wsis.experiments.data import open_data
from wsis.experiments.tables import find
from wsis.files import read_json
from wsis.grouping import max_pool
from wsis.methods import bestie
from wsis.methods.bestie import stages
from wsis.methods.bestie.cues import extract_cues
from wsis.methods.bestie.labels import tagged
from wsis.methods.bestie.model import PeakAttention, PeakSuppression

# %% [markdown]
# BESTIE {cite:p}`kim2022bestie` makes instance masks out of {term}`image tags <image tag>`. It asks two questions, and
# gives each to a network that is good at it. *Which pixels are cat?* is answered by a {term}`semantic map`. *How many
# cats, and where?* is answered by {term}`cues <cue>`: points that a network finds, in place of an annotator's clicks.
# This chapter is about the second answer.
#
# Both come from the same humble source, a classifier that was told which classes are in the picture. We train two of
# them here, equal but for one line: one is plain, the other has the *peak attention module*, {term}`PAM`.

# %%
opened = open_data(data, scale, seed=seed)
train, classes = opened.train, opened.train.classes
cfg = changed(bestie.TINY if scale == "tiny" else bestie.FULL, classes=len(classes))
variants = {"CAM": changed(cfg, **{"pam.layers": ()}), "PAM": cfg}
names, cache = ("classifier", "cues", "activation_maps", "semantic_maps"), Path("../build/stages")
folders, reports = {}, {}
for kind, variant in variants.items():
    folders[kind] = Path("../build/runs", fingerprint(variant, opened.description, seed))
    reports[kind] = runs.fit(
        "bestie", variant, train, opened.val, folders[kind],
        data=opened.description, seed=seed, device=device, cache=cache, only=names,
    )  # fmt: skip

# %%
columns = ("tag_mAP", "cues", "cue_precision", "cue_recall")
rows = [{"classifier": k, **r["classifier"], **r["cues"]} for k, r in reports.items()]
viz.table(
    [{k: row[k] for k in ("classifier", *columns)} for row in rows],
    digits=2,
    caption=opened.description,
)

# %% [markdown]
# `tag_mAP` says how well a classifier names what is in pictures that it has never seen, and the last two columns
# compare its cues with the true objects. Training never reads those objects; the table does, so that you can judge.
#
# ## Where does a classifier look?
#
# The network sees a picture through a grid of cells, one for every eight pixels. In each cell a last, tiny layer votes
# for every class; the mean of the votes is the answer that gets trained. Leave out the mean, and what remains is a
# picture of the evidence: the *class activation map*, {term}`CAM` {cite:p}`zhou2016cam`.
#
# Is a peak of this map an object? Look at scenes with several objects of one class. The crosses are the cues that a
# rule, explained below, reads from the map.

# %%
models, samples = {}, {}
for kind, variant in variants.items():
    plain = changed(variant, classifier_weights="random")
    models[kind] = stages.classifier(plain, PeakAttention(cfg.pam.alpha), variant.pam.layers)
    load_weights(models[kind], folders[kind] / "classifier.safetensors")
    models[kind].eval()
    stored = read_json(folders[kind] / "cues.json")
    labelled = Labelled(train, folders[kind] / "semantic_maps", stored)
    samples[kind] = [labelled[i] for i in range(min(len(labelled), 600))]
truth = [s.truth for s in samples["PAM"]]

# %%
def activation(kind, i):  # float [C, H, W] in [0, 1]
    return stages.image_maps(models[kind], samples[kind][i], cfg, (1.0,), torch.device("cpu"))[0]


def strong(kind, i, threshold=cfg.cues.threshold):
    points = samples[kind][i].points
    return points[points.scores > threshold]


def hits(kind, i):  # objects with a cue, minus cues too many
    quality = cue_quality([strong(kind, i)], [truth[i]])
    return quality["recall"] * len(truth[i]) * 2 - len(strong(kind, i))


# %%
several = [i for i, t in enumerate(truth) if len(t) > 1 and len(t.labels.unique()) == 1]
several.sort(key=lambda i: len(truth[i]) - len(strong("CAM", i)), reverse=True)
panels = [{}, {}]
for i in several[:4]:
    image, label = samples["CAM"][i].image, int(truth[i].labels[0])
    title = f"{len(truth[i])} x {classes[label]} ({i})"
    panels[0][title] = viz.draw_instances(image, truth[i])
    heat = viz.draw_heat(image, activation("CAM", i)[label], limits=(0, 1))
    panels[1][title] = viz.draw_points(heat, strong("CAM", i))
viz.show(panels, rows=("what is there", "CAM and its cues"), title="Several objects, too few peaks")

# %% [markdown]
# **Takeaway.** The map is warm where the class is, and that is all it was asked for. One striking object outshines its
# neighbour, or two neighbours melt into one hill with a single top. The classifier names all of these scenes correctly,
# so its training has nothing to complain about.
#
# ## PAM: leave only the peaks
#
# Where does the blur come from? In every channel many cells say "a little, maybe", and the sum of these murmurs buries
# the few places where a channel is sure. PAM silences the murmur: in each channel it keeps what comes close to that
# channel's own maximum, and sets the rest to zero,
#
# $$y = \begin{cases} x & \text{where } x \ge \alpha \max x \\ 0 & \text{elsewhere.} \end{cases}$$
#
# That is all of it (Listing 1 of the supplement). The lines that run on this page:
#
# ```{literalinclude} ../../wsis/methods/bestie/model.py
# :pyobject: PeakAttention
# ```
#
# There is no parameter to learn. PAM takes the place of a ReLU, and is one at $\alpha = 0$. Gradients flow only through
# what it keeps, so training makes each channel sure of something instead of lukewarm about everything. Its mirror image
# is the suppression of DRS {cite:p}`kim2021drs`, by the same first author, which clips the peaks so that the lukewarm
# places catch up. That is what a *semantic map* wants, and the opposite of what a cue wants.
#
# Drag $\alpha$ from 0 to 1. On the left a channel made by hand: a strong object, a weaker one, and a murmur. In the
# middle a channel of the trained network, on the right its map for the class, with this $\alpha$ in all its PAMs.

# %%
better = max(several, key=lambda i: hits("PAM", i) - hits("CAM", i))
image, label = samples["PAM"][better].image, int(truth[better].labels[0])
batch = collate([stages.classifier_input(samples["PAM"][better], cfg)])
net, x = models["PAM"], torch.arange(96.0)
with torch.no_grad():
    trunk = net.trunk(batch.images)[-1]
    features = [trunk, *(net.layer6[:k](trunk) for k in (2, 4, 6))]
    before = net.layer6[:5](trunk)  # not yet through the last PAM
channel = int((net.head.weight[label, :, 0, 0] * features[-1].amax((0, 2, 3))).argmax())
hand = torch.exp(-((x - 26) ** 2) / 70) + 0.7 * torch.exp(-((x - 68) ** 2) / 110)
hand = (hand + 0.2 * (x / 4).sin() ** 2)[None, None, None]  # one image, one channel, one row
clipped = PeakSuppression(cfg.semantic.drs_delta)(hand)[0, 0, 0]


# %%
def profile(ax, pam):
    ax.fill_between(x, pam(hand)[0, 0, 0], step="mid", color="#0072B2", alpha=0.4, label="PAM")
    ax.plot(x, hand[0, 0, 0], color="0.2", lw=1, label="ReLU")
    ax.plot(x, clipped, "--", color="#D55E00", label="DRS")
    ax.set(title="a channel by hand", xlabel="pixel", ylabel="activation", ylim=(0, 1.5))
    ax.legend(ncols=3, loc="upper right")


# %%
frames, alphas = [], [k / 10 for k in range(11)]
for alpha in alphas:
    net.layer6[1].alpha = alpha  # the three PAMs are one module
    figure, axes = plt.subplots(
        1, 3, figsize=(9.8, 3), layout="constrained", width_ratios=(1.7, 1, 1)
    )
    profile(axes[0], net.layer6[1])
    viz.Map(values=net.layer6[1](before)[0, channel], limits=(0, before.max()))(axes[1])
    viz.draw_heat(image, activation("PAM", better)[label], limits=(0, 1))(axes[2])
    axes[1].set(title="a channel of the network", xticks=[], yticks=[])
    axes[2].set(title=f"its map for {classes[label]}", xticks=[], yticks=[])
    frames.append(figure)
    plt.close(figure)
net.layer6[1].alpha = cfg.pam.alpha
viz.scrub(frames, [f"{alpha:.1f}" for alpha in alphas], "alpha", start=alphas.index(0.5))

# %% [markdown]
# **Takeaway.** At 0 everything passes, as in a ReLU. From a small $\alpha$ on the murmur is gone and two separate
# islands remain; soon after the weaker object drowns, and at 1 a single pixel per channel speaks. Over the range
# between, little changes, which is why the paper finds nearly the same accuracy for all its values of $\alpha$.
#
# ## The classifier, and what it is told
#
# The trunk is VGG {cite:p}`simonyan2015vgg` with its last pooling steps removed, so that cells stay small. Behind it
# stand three convolutions, together "layer 6", each followed by PAM. Here is the whole network with a picture running
# through it; each stop shows one of its channels.

# %%
with torch.no_grad():
    maps = [m[0, int(m[0].amax((1, 2)).argmax())] for m in features[:3]] + [features[3][0, channel]]
    logits = net.head(features[3])[0]
stops = ["picture", "VGG stages 1-5\nReLU", *["3 x 3 conv\nPAM"] * 3, f"1 x 1 conv\nmap of {classes[label]}"]
probability, tags = logits.mean((1, 2)).sigmoid(), samples["PAM"][better].tags.float()


def bars(ax, values):
    ax.barh(range(len(classes)), values, color=viz.class_colors(len(classes)))
    ax.set(xlim=(0, 1), xticks=(0, 1), yticks=range(len(classes)), ylim=(len(classes) - 0.4, -0.6))
    ax.set_yticklabels(classes, fontsize=5)
    ax.tick_params(labelsize=5, length=1)


# %%
figure, ax = plt.subplots(figsize=(11, 2.5), layout="constrained")
for i, picture in enumerate([image.permute(1, 2, 0), *maps, logits[label].clamp_min(0), probability, tags]):
    stop = ax.inset_axes((1.25 * i, 0, 1, 1), transform=ax.transData)
    stop.set_title((*stops, "mean, sigmoid", "image tags")[i], fontsize=8)
    if i < 6:
        stop.imshow(picture)
        stop.set(xticks=[], yticks=[])
    else:
        bars(stop, picture)
    if i < 7:
        ax.annotate("", (1.25 * i + 1.22, 0.5), (1.25 * i + 1.02, 0.5), arrowprops={"arrowstyle": "->"})
ax.annotate("", (1.3, -0.3), (9.7, -0.3), arrowprops={"arrowstyle": "->", "color": "#D55E00"})
ax.text(5.5, -0.55, "training signal: cross entropy of each class", color="#D55E00", ha="center")
ax.set(xlim=(0, 9.8), ylim=(-0.65, 1.1)).__class__ and ax.set_axis_off()
