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
# One network, three maps, and a loss that keeps silent where nothing is known: how it learns, what it finds by itself,
# and where it fails.
#
# **Before this:** [from cues to labels](11_bestie_labels.py). **After it:** [the full-scale run](90_full_scale.py).
# **Time:** at tiny scale about two minutes on a laptop, most of them for the network.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch.nn.functional import cross_entropy, one_hot

from wsis import components, evaluate, runs, viz
from wsis.config import changed, fingerprint, sources
from wsis.data.labelled import Labelled, Subset

# %%
from wsis.data.transforms import collate
from wsis.experiments.data import open_data
from wsis.experiments.tables import TABLES
from wsis.files import read_json
from wsis.methods import bestie
from wsis.methods.bestie import labels, pipeline
from wsis.methods.bestie.objective import guided, regression, render
from wsis.train import Engine, make_accelerator, optimise
from wsis.types import IGNORE, InstanceMap
from wsis.viz.style import draw
from wsis.weak import with_points

# %% [markdown]
# The two chapters before this one turned {term}`image tags <image tag>` into {term}`pseudo labels <pseudo label>`: some
# objects have one, and it is mostly right; many have none. Now a network learns from them.
#
# The run is one call. {term}`Stages <stage>` that the other chapters have finished are taken from disk, and what is left
# to do is the network itself. At full scale the same stages run as a process of their own, on all GPUs of the machine.

# %%
opened = open_data(data, scale, seed=seed)
classes, val = opened.train.classes, opened.val
cfg = changed(bestie.TINY if scale == "tiny" else bestie.FULL, classes=len(classes))
folder = Path("../build/runs", fingerprint(cfg, opened.description, seed))
if scale == "full":
    launch = f"--standalone --nproc-per-node={max(torch.cuda.device_count(), 1)} -m wsis train bestie"
    options = ["--data", data, "--scale", scale, "--seed", seed, "--device", device, "--out", folder]
    command = [sys.executable, "-m", "torch.distributed.run", *launch.split(), *map(str, options)]
    with subprocess.Popen([*command, "--resume"], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="")
    assert process.returncode == 0, "the training stopped; its last lines say why"

# %%
names = ("classifier", "cues", "activation_maps", "semantic_maps", "network")
reports = runs.fit(
    "bestie", cfg, opened.train, val, folder, data=opened.description, seed=seed,
    device=device, cache=Path("../build/stages"), only=names,
)  # fmt: skip
net = bestie.restore(cfg, folder).eval()
viz.table([{"stage": k, "minutes": r["minutes"]} for k, r in reports.items()], digits=2)

# %%
pictures, outputs = [val[i] for i in range(min(len(val), 200))], []
with torch.no_grad():
    for sample in pictures:
        outputs.append(bestie.infer(net, collate([sample]).images, cfg))
predicted = [bestie.decode(o, None, cfg).unbind()[0] for o in outputs]
truth = [s.truth for s in pictures]
quality = [evaluate.label_quality([p], [t]) for p, t in zip(predicted, truth, strict=True)]
balance = [q["true_positive"] - q["false_positive"] - q["missed"] for q in quality]

# %% [markdown]
# ## One trunk, three heads
#
# The network is small talk around a good trunk: HRNet {cite:p}`sun2019hrnet`, which keeps a fine grid all the way
# through, or a ResNet {cite:p}`he2016resnet` with the decoder of Panoptic-DeepLab {cite:p}`cheng2020panopticdeeplab`.
# On its features sit three heads, and each draws one of the maps of the last chapter. Here they are at work on a
# picture that the network has never seen.

# %%
def stop(ax, at, title, panel):
    inset = ax.inset_axes((*at, 1, 1), transform=ax.transData)
    draw(inset, panel)
    inset.set_title(title, fontsize=9, pad=3)


def box(ax, at, text):
    look = {"boxstyle": "round,pad=0.6", "facecolor": "#E6F0F7", "edgecolor": "0.6"}
    ax.text(*at, text, ha="center", va="center", fontsize=9, bbox=look)


def arrow(ax, start, end):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "0.35"})


# %%
clear = max(range(len(balance)), key=balance.__getitem__)
image, out, grid = pictures[clear].image, outputs[clear], (2.9, 1.5, 0.1)
heads = {
    f"semantic map, {len(classes) + 1} channels": viz.draw_semantic(out.semantic[0].argmax(0)),
    f"center map, {out.center.shape[1]} channels": viz.draw_heat(image, out.center[0].amax(0), limits=(0, 1)),
    "offset map, 2 channels": viz.draw_offsets(out.offset[0], out.semantic[0].argmax(0) > 0),
}


def row(ax, y, title, panel):
    arrow(ax, (2.3, 2), (2.75, y + 0.5))
    box(ax, (3.2, y + 0.5), "3 x 3 conv\nReLU\n1 x 1 conv")
    arrow(ax, (3.65, y + 0.5), (4.1, y + 0.5))
    stop(ax, (4.15, y), title, panel)
    arrow(ax, (5.6, y + 0.5), (6.1, 2))


# %%
figure, ax = plt.subplots(figsize=(10.2, 4.9), layout="constrained")
for y, (title, panel) in zip(grid, heads.items(), strict=True):
    row(ax, y, title, panel)
stop(ax, (0.1, 1.5), "picture", image)
box(ax, (1.85, 2), f"trunk\n{cfg.backbone}")
box(ax, (6.6, 2), "centers\ngrouping")
stop(ax, (7.5, 1.5), "instances", viz.draw_instances(image, predicted[clear], classes))
for start, end in (((1.12, 2), (1.35, 2)), ((7.08, 2), (7.45, 2))):
    arrow(ax, start, end)
back = {"arrowstyle": "->", "color": "#D55E00", "connectionstyle": "arc3,rad=-0.35"}
ax.annotate("", (4.65, 0.02), (8, 1.42), arrowprops=back)
ax.text(7.35, 0.12, "in training: refined labels", color="#D55E00", ha="left")
ax.set(xlim=(0, 8.9), ylim=(-0.1, 4.15), aspect="equal")
ax.set_axis_off()

# %% [markdown]
# **Takeaway.** The heads share everything but their last two layers, and none of them knows of instances. Those appear
# only in the rightmost box, which has nothing to learn. The orange arrow exists only while the network trains.
#
# ## What each term of the loss sees
#
# Three heads, three errors. The semantic head gets a cross entropy; the center map a squared error; the offset map an
# absolute one. The last two come twice, against the pseudo labels and against the {term}`refined labels
# <self-refinement>` that the network's own outputs gave in this very step. We take a training picture in which the
# labels miss something.

# %%
stored = Labelled(opened.train, folder / "semantic_maps", read_json(folder / "cues.json"))
used = [stored[i] for i in range(min(len(stored), 200))]
pseudo, own, refined, gain = [], [], [], []
for sample in used:
    batch = collate([sample])
    with torch.no_grad():
        own.append(bestie.infer(net, batch.images, cfg))
    pseudo.append(bestie.pseudo_labels(None, batch, cfg))
    refined.append(labels.refined_labels(own[-1], batch.semantic_maps, batch.tags, cfg)[0])
    found = [evaluate.label_quality(m.unbind(), [sample.truth]) for m in (pseudo[-1], refined[-1])]
    right = [q["true_positive"] - q["false_positive"] for q in found]
    gain.append((right[1] - right[0], len(pseudo[-1]) > 0, right[1]))

# %%
mixed = sorted(range(len(used)), key=gain.__getitem__, reverse=True)
mixed = [i for i in mixed if len(pseudo[i])] or mixed
m = mixed[0]
target = collate([used[m]]).semantic_maps
error = cross_entropy(own[m].semantic, target, ignore_index=IGNORE, reduction="none")[0]
hardest = error * (error >= error[target[0] != IGNORE].quantile(1 - cfg.loss.hard_fraction))
shown = [{"semantic": viz.draw_semantic(target[0], image=used[m].image)}, {}]
shown[1]["semantic"] = viz.Map(values=hardest, unit="cross entropy")
for kind, made in (("pseudo", pseudo[m]), ("refined", refined[m])):
    t = render(made, cfg)
    center, offset = (own[m].center - t.center).square(), (own[m].offset - t.offset).abs()
    shown[0][f"center, {kind}"] = viz.draw_heat(used[m].image, t.center[0].amax(0), limits=(0, 1))
    shown[1][f"center, {kind}"] = viz.Map(values=(t.weight * center).sum(1)[0], unit="squared error")
    shown[0][f"offset, {kind}"] = viz.draw_offsets(t.offset[0], t.weight[0, 0] > 0)
    shown[1][f"offset, {kind}"] = viz.Map(values=(t.weight * offset).sum(1)[0], unit="px")

# %%
viz.show(shown, rows=("target", "what counts"), size=1.75, title="Three errors, two teachers")

# %% [markdown]
# **Takeaway.** Below *semantic* only the hardest fifth of the pixels is left, mostly outlines {cite:p}`shrivastava2016ohem`.
# Below the others everything is dark, and cannot be otherwise, except inside labelled objects. The refined labels light
# up more of the picture, as strongly as the network is sure of them.
#
# The sum of it all is Listing 6:
#
# ```{literalinclude} ../../wsis/methods/bestie/objective.py
# :pyobject: objective
# ```
#
# ## Silence where nothing is known
#
# The dark parts are the point of the paper. An object without a label is *not* background; we only do not know. The
# regressions are therefore multiplied by the {term}`weight map`, and divided by the number of pixels that have a weight.
# The paper calls this instance-aware guidance, {term}`IAG`. Without it every pixel counts, and where no label is, the
# target is zero: no center here.
#
# What does the network feel in both cases? The gradient says it exactly.

# %%
leaf = type(own[m])(*(x.clone().requires_grad_() for x in own[m]))
known, pull = render(pseudo[m], cfg), {}
for kind, iag in (("with IAG", True), ("without", False)):
    terms = regression(leaf, known, changed(cfg, **{"loss.iag": iag}))
    gradient = torch.autograd.grad(sum(terms), (leaf.center, leaf.offset))
    pull[kind] = torch.cat(gradient, 1).abs().sum(1)[0]
    outside = pull[kind][known.weight[0, 0] == 0]
    print(f"{kind}: {int((outside > 0).sum())} of {len(outside)} unlabelled pixels have a gradient")

# %%
panels = {
    "what is there": viz.draw_instances(used[m].image, used[m].truth),
    "what is labelled": viz.draw_instances(used[m].image, pseudo[m].unbind()[0]),
    "weight map": viz.Map(values=known.weight[0, 0], limits=(0, 1)),
}
for kind, strength in pull.items():
    panels[f"gradient {kind}"] = viz.Map(values=strength / strength.max(), unit="of the largest", limits=(0, 1))
viz.show(panels, columns=5, size=1.9, title="Where the center and offset losses pull")

# %% [markdown]
# **Takeaway.** With IAG the gradient is zero outside of the labels, not small: the objects that the labels missed are
# left in peace. Without it they are pulled hardest of all, because that is where the network, which sees an object,
# contradicts its teacher, who saw none.
#
# ## Semantic drift, in slow motion
#
# What does such a pull do over time? Take the trained network and let it learn for a few more steps from pictures in
# which an object has no label: once with IAG, once without, with all else equal and no refinement to help. We watch
# the center map.

# %%
lacking = [i for i in range(len(used)) if len(pseudo[i].unbind()[0]) < len(used[i].truth)]
short = replace(cfg.network, steps=40, batch_size=8, warmup=0, decay="constant", lr=cfg.network.lr / 3)
drifted, place = {"before": net}, folder / "drift"
engine = Engine(accelerator=make_accelerator(device), seed=seed, folder=place, resume=False)
for kind, iag in (("with IAG", True), ("without", False)):
    k = changed(cfg, **{"loss.iag": iag, "loss.unguided_norm": "matched", "refine.enabled": False})
    drifted[kind] = optimise(
        f"drift_{iag}", copy.deepcopy(net),
        lambda network, batch, step, k=k: bestie.loss(network, batch, bestie.pseudo_labels(None, batch, k), k),
        Subset(stored, lacking), pipeline.network_augment(cfg), short, engine, key="",
    )  # fmt: skip

# %%
tops = {(kind, known): [] for known in (True, False) for kind in drifted}
for i in lacking:
    covered = (used[i].truth.masks & (pseudo[i].ids > 0)).sum((1, 2)) > used[i].truth.masks.sum((1, 2)) / 2
    for kind, model in drifted.items():
        with torch.no_grad():
            heat = bestie.infer(model, collate([used[i]]).images, cfg).center[0]
        for mask, label, known in zip(used[i].truth.masks, used[i].truth.labels, covered.tolist(), strict=True):
            tops[kind, known].append(float(heat[label if len(heat) > 1 else 0][mask].max()))

# %%
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained", width_ratios=(1.35, 1, 1, 1, 1))
for known, color in ((True, "#0072B2"), (False, "#D55E00")):
    level = [sum(tops[kind, known]) / max(len(tops[kind, known]), 1) for kind in drifted]
    axes[0].plot(list(drifted), level, "o-", color=color, label="labelled" if known else "unlabelled")
axes[0].set(title="highest heat in an object", ylim=(0, 1), xlim=(-0.25, 2.25))
axes[0].legend(loc="lower left")
draw(axes[1], viz.draw_instances(used[m].image, pseudo[m].unbind()[0]))
axes[1].set_title("labels")
for ax, (kind, model) in zip(axes[2:], drifted.items(), strict=True):
    with torch.no_grad():
        heat = bestie.infer(model, collate([used[m]]).images, cfg).center[0].amax(0)
    draw(ax, viz.draw_heat(used[m].image, heat, limits=(0, 1)))
    ax.set_title(kind)

# %% [markdown]
# **Takeaway.** Compare the last two pictures at the object without a label, and the orange line with the blue one. The
# network *had* learned to see such objects, from others of their kind; without IAG it is taught to look away. This is
# {term}`semantic drift`. The paper's Table 1 adds the second half of the story: refinement, which lives on the network's
# own eyes, then has nothing left to refine.
#
# ## The run
#
# Back to the whole run. Its log has one row per step.

# %%
log = viz.read_log(folder / "network.csv")
again = {k: log[f"refined_{k}"] for k in ("center", "offset") if f"refined_{k}" in log}
logs = {"pseudo labels": log, "refined labels": {"step": log["step"], **again}}
viz.training_curves(logs, ("semantic", "center", "offset", "total"), title="The terms of the loss")

# %% [markdown]
# **Takeaway.** The refined terms start at zero. Nothing forbids refinement early on; there is nothing to refine, since
# the center map begins far below the threshold for a center. Once the first hills rise above it, the network gets a
# second teacher: itself.
#
# ## Watch it learn
#
# To see that happen, we train once more, for fewer steps on fewer pictures, and keep the network at some of them. This
# cell is also all there is to a training of your own: labels, loss, loop.

# %%
quick = changed(cfg, **{"network.steps": 120, "network.batch_size": 8})
moments, kept = (0, 5, 10, 15, 20, 30, 40, 50, 60, 75, 90, 105, 119), {}


def watched(network, batch, step):
    if step in moments:
        kept[step] = copy.deepcopy(network.state_dict())
    return bestie.loss(network, batch, bestie.pseudo_labels(None, batch, quick), quick)


torch.manual_seed(seed)
engine = replace(engine, folder=folder / "watched")
young, crop = bestie.build(quick), pipeline.network_augment(quick)
young = optimise("watched", young, watched, stored, crop, quick.network, engine, key="")

# %%
frames, batch = [], collate([used[m]])
for state in kept.values():
    young.load_state_dict(state)
    with torch.no_grad():
        out = bestie.infer(young, batch.images, quick)
    made = labels.refined_labels(out, batch.semantic_maps, batch.tags, quick)[0].unbind()[0]
    panels = {
        "semantic map": viz.draw_semantic(out.semantic[0].argmax(0), image=used[m].image),
        "center map": viz.draw_heat(used[m].image, out.center[0].amax(0), limits=(0, 1)),
        "offset map": viz.draw_offsets(out.offset[0], torch.ones(used[m].size), radius=20),
        "refined labels": viz.draw_instances(used[m].image, made),
    }
    frames.append(viz.show(panels, size=2.4))
viz.scrub(frames, [f"step {step}" for step in kept], "training", start=len(frames) - 1)

# %% [markdown]
# **Takeaway.** Start at step 0 and go right. First comes *where things are*; the colour wheel needs longer to open
# around each center; and only when hills stand on the center map do refined labels appear. Outside of objects the offset
# map does what it likes: nothing there is ever checked, in the loss or later.
#
# ## Teacher and pupil
#
# Fig. 4 of the document puts side by side what the network was told and what it says. The document's last column, the
# masks of IRN {cite:p}`ahn2019irn`, belongs to a method that this book does not run yet.

# %%
panels, rows = [], []
for i in mixed[1:3]:
    picture, given, said = used[i].image, render(pseudo[i], cfg), own[i]
    probability = labels.foreground_probability(said.semantic, used[i].tags[None])
    for who, classes_of, t, where, made in (
        ("labels", used[i].semantic_map, given, given.weight[0, 0] > 0, pseudo[i]),
        ("network", probability.argmax(1)[0], said, probability.argmax(1)[0] > 0, bestie.decode(said, used[i].tags[None], cfg)),
    ):
        line = {"": viz.draw_instances(picture, used[i].truth) if who == "network" else picture}
        line["semantic map"] = viz.draw_semantic(classes_of, image=picture)
        line["center map"] = viz.draw_heat(picture, t.center[0].amax(0), limits=(0, 1))
        line["offset map"] = viz.draw_offsets(t.offset[0], where)
        line["masks"] = viz.draw_instances(picture, made.unbind()[0])
        panels, rows = [*panels, line], [*rows, who]
# %%
viz.show(panels, rows=rows, size=1.8, title="What it was told, and what it says")

# %% [markdown]
# **Takeaway.** In each pair the upper row is the teaching, beside the picture; the lower row is the pupil, beside the
# truth. The pupil's maps are smoother, its outlines follow the picture, and it has an opinion on objects that the
# teacher skipped.
#
# ## On new pictures
#
# Now without any label. Each instance gets a score: the height of its center times the mean probability of its class.
# The score decides nothing about the mask; it says in which order to believe.

# %%
order = sorted(range(len(balance)), key=balance.__getitem__, reverse=True)
panels = [{}, {}]
for place in (0, 0.2, 0.4, 0.6, 0.8):
    i = order[int(place * (len(order) - 1))]
    title = "the best" if place == 0 else f"better than {1 - place:.0%}"
    panels[0][title] = viz.draw_instances(pictures[i].image, truth[i])
    panels[1][title] = viz.draw_instances(pictures[i].image, predicted[i], classes)
viz.show(panels, rows=("what is there", "predicted"), size=2, title="Pictures from good to bad")

# %% [markdown]
# **Takeaway.** The pictures are sorted by objects right minus objects wrong or missed, and taken from the list at equal
# steps, so the row is a fair sample, luck and all.
#
# How good is that in one number, and which of the three maps is to blame for the rest? Replace them by the truth, one at
# a time, and measure again. {term}`mAP` is explained in [its own chapter](03_metrics.py).

# %%
perfect = []
for sample in pictures:
    masks, number = sample.truth.masks, len(sample.truth)
    ids = torch.cat([torch.zeros(1, *sample.size), *(masks[[k]] * (k + 1.0) for k in range(number))]).amax(0)[None]
    middle = components.table(ids.long(), number).center.float()
    one = torch.ones(number)
    exact = InstanceMap(ids=ids.long(), image=0 * one.long(), labels=sample.truth.labels, centers=middle, scores=one)
    t, known = render(exact, cfg), sample.true_semantic.long() * (sample.true_semantic != IGNORE)
    semantic = 20.0 * one_hot(known, len(classes) + 1).permute(2, 0, 1)[None]
    perfect.append(type(outputs[0])(semantic, t.center, t.offset))
blame = {"as it is": predicted}
for name in ("semantic", "center", "offset"):
    swapped = [o._replace(**{name: getattr(p, name)}) for o, p in zip(outputs, perfect, strict=True)]
    blame[f"true {name} map"] = [bestie.decode(o, None, cfg).unbind()[0] for o in swapped]
blame["all three"] = [bestie.decode(p, None, cfg).unbind()[0] for p in perfect]

# %%
scores = {k: evaluate.voc_ap(v, truth, len(classes)) for k, v in blame.items()}
metrics = ("mAP25", "mAP50", "mAP70", "mAP75")
viz.table([{"maps": k, **{n: 100 * v[n] for n in metrics}} for k, v in scores.items()])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3), layout="constrained")
bars = left.barh(list(scores), [100 * v["mAP50"] for v in scores.values()], color=["#0072B2"] + ["#9CC5DF"] * 4)
left.bar_label(bars, fmt="%.0f", padding=3)
left.set(title="What a perfect map would bring", xlabel="mAP50 (%)", xlim=(0, 108))
left.invert_yaxis()
pairs = [(p, evaluate.matches(p, t)) for p, t in zip(predicted, truth, strict=True)]
score = torch.cat([p.scores[got.prediction] for p, got in pairs])
overlap = torch.cat([got.iou for _, got in pairs]).clamp_min(0)
hit = torch.cat([got.right for _, got in pairs])
for kind, color, marker, at in (("right", "#0072B2", "o", hit), ("wrong", "#D55E00", "x", ~hit)):
    right.scatter(score[at], overlap[at], color=color, marker=marker, s=18, alpha=0.7, label=kind)
right.set(title="Does the score know?", xlabel="score", ylabel="IoU with its object", xlim=(0, 1), ylim=(-0.03, 1))
right.legend(loc="lower right")

# %% [markdown]
# **Takeaway.** Left: the longer a bar beyond the first, the more its map is to blame; the last one shows what the decoding
# itself loses with perfect maps. Right: a good score would rise with the overlap. Crosses far to the right are the costly
# errors: confident and wrong. Those at the bottom have the wrong class or lie on nothing.
#
# ## A click in place of a tag
#
# One point per object costs an annotator little more than a list of tags ([weak labels](01_weak_labels.py)). In BESTIE it
# replaces the classifier and its cues, and tells the network how many objects there are and where. One setting changes;
# the weights below are still those of the run with tags.

# %%
clicks = changed(cfg, supervision="points")
clicked = [with_points(sample) for sample in used]
by_rule = [bestie.pseudo_labels(None, collate([s]), clicks).unbind()[0] for s in clicked]
by_network = [bestie.pseudo_labels(net, collate([s]), clicks).unbind()[0] for s in clicked]
true = [s.truth for s in used]
made = {
    "tags: one component, one cue": [p.unbind()[0] for p in pseudo],
    "clicks: one component, one click": by_rule,
    "tags: refined by the network": [r.unbind()[0] for r in refined],
    "clicks: refined by the network": by_network,
}
viz.table([{"labels": k, **evaluate.label_quality(v, true)} for k, v in made.items()], f"{len(used)} training images")

# %%
crowded = sorted(range(len(used)), key=lambda i: len(by_network[i]) - len(refined[i]), reverse=True)
panels = [{}, {}, {}]
for i in crowded[:4]:
    panels[0][f"scene {i}"] = viz.draw_points(viz.draw_instances(used[i].image, true[i], fill=0.3), clicked[i].points)
    panels[1][f"scene {i}"] = viz.draw_instances(used[i].image, refined[i].unbind()[0])
    panels[2][f"scene {i}"] = viz.draw_instances(used[i].image, by_network[i])
viz.show(panels, rows=("clicks", "from tags", "from clicks"), size=2, title="Clicks find what tags miss")

# %% [markdown]
# **Takeaway.** A click says for certain that there is an object, so none is missed for lack of a center; what clicks do
# not mend is the outline, which still comes from the same class map. To train with them, give `clicks` to `runs.fit`: the
# stages of the classifier fall away.
#
# ## What would break this?
#
# Fig. 6 of the document names four failures. The page finds them in its own validation pictures: for three of them it
# takes the picture that gains most when that one map is replaced by the truth, and for the first the pair of objects that
# is closest, among the pictures in which something was missed.

# %%
closest = []
for i, t in enumerate(truth):
    middle = components.table((t.masks * torch.arange(1, len(t) + 1)[:, None, None]).amax(0)[None], len(t)).centroid
    apart = torch.cdist(middle, middle) + 1e6 * (torch.eye(len(t)) + (t.labels[:, None] != t.labels))
    closest.append((-float(apart.min()), i) if quality[i]["missed"] else (-1e9, i))
cases = {"close centers": (max(closest)[1], "center", "all three")}
for name in ("center", "offset", "semantic"):
    better = [evaluate.label_quality([p], [t]) for p, t in zip(blame[f"true {name} map"], truth, strict=True)]
    won = [q["true_positive"] - q["false_positive"] - q["missed"] - b for q, b in zip(better, balance, strict=True)]
    used_up = [i for i, *_ in cases.values()]
    best = max((w, -len(truth[i]), i) for i, w in enumerate(won) if i not in used_up)[2]
    cases[f"noisy {name} map"] = (best, name, f"true {name} map")

# %%
panels = []
for i, name, cure in cases.values():
    picture, own_map, inside = pictures[i].image, getattr(outputs[i], name)[0], outputs[i].semantic[0].argmax(0)
    draws = {
        "center": lambda h=own_map, p=picture: viz.draw_heat(p, h.amax(0), limits=(0, 1)),
        "offset": lambda h=own_map, where=inside: viz.draw_offsets(h, where > 0),
        "semantic": lambda h=own_map, p=picture: viz.draw_semantic(h.argmax(0), image=p),
    }
    line = {"what is there": viz.draw_instances(picture, truth[i])}
    line |= {"predicted": viz.draw_instances(picture, predicted[i], classes), "the map": draws[name]()}
    panels.append(line | {"with the true map": viz.draw_instances(picture, blame[cure][i], classes)})
viz.show(panels, rows=list(cases), size=2.2, title="How BESTIE fails")

# %% [markdown]
# **Takeaway.** *Close centers*: two hills within one window, of which one survives; its cure replaces all maps, and may
# still fail, since the rule itself is the limit. *Noisy center map*: a hill too many or too low. *Noisy offset map*: votes
# that land at the neighbour's door. *Noisy semantic map*: a wrong class, or half an object, that no grouping can mend.
#
# ## What the tables say
#
# Published numbers beside ours where they have been run, at tiny scale over several seeds. A {term}`verdict` says whether
# *our* interval lies on the published side of a claim; the rest of the tables stands on
# [the results page](../book/results.md).

# %%
files = {t.id: Path("../book/results", f"{t.id}.tiny.world.json") for t in TABLES}
results = {t.id: read_json(files[t.id]) for t in TABLES if files[t.id].exists()}
rows = []
for t in TABLES:
    measured = {r["name"]: r["ours"] for r in results[t.id]["rows"]} if t.id in results else {}
    for r in t.rows if t.id.split(".")[1] in ("table1", "center_map", "backbone") else ():
        ours = measured.get(r.name, {}).get("mAP50")
        cells = {"table": t.id, "row": r.name, "published mAP50": f"{r.published.get('mAP50', '-')}"}
        rows.append({**cells, "tiny": f"{ours['mean']:.1f} +- {ours['std']:.1f}" if ours else None})
viz.table(rows)

# %%
rows = []
for t in TABLES:
    judged = {c["id"]: c for c in results[t.id]["claims"]} if t.id in results else {}
    for claim in t.claims:
        c = judged.get(claim.id, {"mean": None, "verdict": "not run"})
        between = f"{c['mean']:+.1f} [{c['low']:+.1f}, {c['high']:+.1f}]" if c["mean"] is not None else "-"
        cells = {"claim": claim.id, "table": t.id, "says": claim.text, "published": claim.published}
        rows.append({**cells, "measured here": between, "verdict": c["verdict"]})
viz.table(rows, caption="mAP50; mean difference over seeds, and its 95 % interval")

# %% [markdown]
# If a claim is *undecided* or *contradicted* here, these are the first places to look:
#
# - **IAG (C12, C14).** Semantic drift needs time and objects that stay unlabelled. A run of minutes over labels that cover
#   most objects has little of either. The loss without IAG is also a mean over far more numbers, so that it pulls less
#   ({ref}`fidelity:bestie-unguided`); to tell guidance from scale, run the row with `loss.unguided_norm=matched`.
# - **Refinement (C13).** It begins when the first hills pass the threshold, late in a short training, and it can only
#   return what the network already sees.
# - **PAM (C15-C17).** In a world of few and large objects one peak per component is common anyway, with or without it.
# - **Networks (C18, C19).** Both tiny trunks were trained on the same world for the same minutes; what separates their big
#   brothers on photographs may not exist here.
# - **Cue threshold (C20).** The claim is about a difference of half a point, and seeds alone differ by more.
#
# ## One more network: Mask R-CNN
#
# The best rows of the paper have a dagger: their masks come from a Mask R-CNN {cite:p}`he2017maskrcnn` that was trained on
# what BESTIE found in the *training* pictures, where the tags are known and keep it from wrong classes. A detector of boxes
# does not share the failures above, averages over many noisy masks, and gives you a model that any toolbox can run. It is
# the last stage, left out unless it gets steps:

# %%
final = changed(cfg, **{"maskrcnn.steps": 90_000 if scale == "full" else 400})
for stage in bestie.stages(final):
    print(f"{stage.name:16} {stage.artefact or 'figures only':24} {' '.join(stage.needs)}")
print(f"\npython -m wsis train bestie --data {data} --scale {scale} --out runs/dagger", end=" ")
print(f"--set maskrcnn.steps={final.maskrcnn.steps}")

# %% [markdown]
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:bestie-unguided`: how the loss without IAG is scaled; the slow motion above uses `matched`.
# - {ref}`fidelity:bestie-cross-entropy` and {ref}`fidelity:bestie-hard-pixels`: which pixels teach the semantic map.
# - {ref}`fidelity:bestie-region-mask`: an explicit weight map in place of "the offset is not zero".
# - {ref}`fidelity:bestie-refine-foreground`: refined labels live inside the weak class map.
# - {ref}`fidelity:bestie-clustered-score`: the score of a center without a hill.
# - {ref}`fidelity:bestie-offset-scale` and {ref}`fidelity:bestie-flip-offsets`: two defects of inference, mended.
# - {ref}`fidelity:bestie-model-selection`: the last weights are measured, not the best ones.
# ```
#
# ## Settings

# %%
groups = ("backbone", "weights", "width", "center_mode", "sigma", "loss", "refine", "network", "keep_centerless", "flip")
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
    weight = torch.tensor(weights).view(1, 1, 1, 4)
    print(weights, float(guided(errors, weight)))

# %% [markdown]
# The divisor counts pixels, not weights. So a network that is half sure of its refined labels learns from them half as
# fast, and a batch without any label does no harm.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: center-threshold
# *Change one parameter.* At inference a center must be higher than 0.1. What do you expect at 0.01 and at 0.5, at a low
# and at a high IoU? And what if components without a center are dropped (`keep_centerless=False`)?
# ```
#
# ```{solution-start} center-threshold
# :class: dropdown
# ```

# %% tags=["solution"]
rows = []
for threshold in (0.01, 0.1, 0.3, 0.5):
    for keep in (True, False):
        other = changed(cfg, center_threshold=threshold, keep_centerless=keep)
        instances = [bestie.decode(o, None, other).unbind()[0] for o in outputs]
        ap = evaluate.voc_ap(instances, truth, len(classes))
        rows.append({"threshold": threshold, "keep": keep, **{k: 100 * ap[k] for k in ("mAP25", "mAP50", "mAP75")}})
viz.table(rows, digits=2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: flip-average
# *Implement.* Average the offset map over a picture and its mirror image. What has to happen to the second one, besides
# mirroring it back? Compare with `flip=True`.
# ```
#
# ```{solution-start} flip-average
# :class: dropdown
# ```

# %% tags=["solution"]
x = collate([pictures[clear]]).images
with torch.no_grad():
    there = bestie.infer(net, x, cfg).offset
    mirrored = bestie.infer(net, x.flip(3), cfg).offset.flip(3)
    library = bestie.infer(net, x, changed(cfg, flip=True)).offset
mirrored[:, 1] *= -1  # what pointed left points right
print(f"largest difference: {float(((there + mirrored) / 2 - library).abs().max()):.6f} px")

# %% [markdown]
# The release forgets the sign and so leaves the mirrored offsets out altogether.
#
# ```{solution-end}
# ```
