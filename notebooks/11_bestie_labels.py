# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # BESTIE: from cues to labels
#
# A class map says which pixels, a cue says how many: together they make instance labels, and a network that is trained on the
# easy ones labels the hard ones itself.
#
# **Before this:** [from tags to cues](10_bestie_cues.py). **After it:** [training](12_bestie_training.py). **Time:** at
# tiny scale about two minutes on a laptop, most of them for the network.

# %% tags=["parameters"]
scale = "tiny"
data = "world"
seed = 0
device = "auto"

# %%
from dataclasses import replace

import torch
from matplotlib import pyplot as plt

from wsis import evaluation, training, viz, weak
from wsis.core import IGNORE, Points, changed, read_json, sources
from wsis.data import WithPseudoLabels, collate
from wsis.methods import bestie
from wsis.methods.bestie import cues, labels, model
from wsis.methods.bestie.cues import image_maps
from wsis.methods.bestie.objective import render
from wsis.models import load_weights
from wsis.ops import components, grouping

# %% [markdown]
# From the last chapter we have {term}`cues <cue>`, which say how many objects of a class there are and about where. They
# do not say which pixels. That is the job of a {term}`semantic map`, and it too must come from nothing but
# {term}`image tags <image tag>`.
#
# The run resumes where the last chapter stopped: finished {term}`stages <stage>` are taken from disk.

# %%
datasets = weak.open_data(data, scale, seed=seed)
train, classes = datasets.train, datasets.train.classes
cfg = changed(getattr(bestie, scale.upper()), classes=len(classes))
names = ("classifier", "cues", "activation_maps", "semantic_maps", "network")
stages_of = {cfg: names, changed(cfg, **{"pam.layers": ()}): ("classifier",)}
folders, reports = [], []
for variant, only in stages_of.items():
    report_and_folder = training.chapter_run(
        bestie, variant, datasets, data, scale, seed, device, only=only
    )
    reports.append(report_and_folder[0])
    folders.append(report_and_folder[1])
(folder, other), report = folders, reports[0]
net = bestie.restore(cfg, folder).eval()

# %% [markdown]
# ## The weak semantic map
#
# A plain classifier, applied to the image at several sizes, gives a first class map: each pixel takes the class with the most
# evidence, or background, where no class beats a constant. Such a map knows the place of objects and nothing of their outline.
# So neighboring pixels of similar color are made to agree, step after step, which pulls the borders of the map to the borders
# in the image. At full scale a segmentation network is then trained on these maps and predicts new ones for the same images;
# minutes are too few for that step, and at tiny scale it is left out.

# %%
stored = WithPseudoLabels(train, folder / "semantic_maps", read_json(folder / "cues.json"))
samples = [stored[i] for i in range(min(len(train), 200))]
truth = [s.truth for s in samples]
plain = model.Classifier(changed(cfg, classifier_weights="random", pam={"layers": ()}))
load_weights(plain.eval(), other / "classifier.safetensors")
cam_samples, cam_settings = [], changed(cfg.semantic, sharpen=0, uncertain=0.0)
for sample in samples:
    heat = image_maps(plain, sample, cfg, cam_settings.scales)
    image = collate([sample]).images
    class_map = cues.semantic_map_from_activations(heat, image, cam_settings)[0]
    cam_samples.append(replace(sample, semantic_map=class_map.byte()))
oracle = [replace(s, semantic_map=s.true_semantic) for s in samples]
sample_sets = {"CAM": cam_samples, "weak map": samples, "oracle": oracle}

# %%
multi = [i for i, t in enumerate(truth) if len(t) > 1]
panels = []
for i in multi[:3]:
    row = {"ground truth": viz.draw_instances(samples[i].image, truth[i])}
    for kind, group in sample_sets.items():
        row[kind] = viz.draw_semantic(group[i].semantic_map, image=samples[i].image)
    panels.append(row)
viz.show(panels, size=2.5, title="The same images, three class maps")

# %% [markdown]
# **Takeaway.** The first map is a blob around what is typical of a class. The second follows the outlines of the image,
# sometimes the wrong ones, and leaves open (hatched) what is too close to call. Neither tells two touching objects apart. Nor
# does the third, which is the ground truth: for that we have the cues.
#
# How much does the quality of the map matter? The *oracle* takes the true class map, with the same cues and the same rule. It
# is not a result of the method, but shows what better maps would bring:

# %%
pseudo, rows = {}, []
for kind, group in sample_sets.items():
    pseudo_labels = [bestie.pseudo_labels(None, collate([s]), cfg)[0] for s in group]
    meter = evaluation.MeanIoU(len(classes) + 1)
    for s in group:
        meter.update(s.semantic_map * (s.semantic_map != IGNORE), s.true_semantic)
    metrics = {
        "mIoU": float(meter.result()["mIoU"]),
        **evaluation.label_quality(pseudo_labels, truth),
    }
    rows.append({"map": kind, **metrics})
    pseudo[kind] = pseudo_labels
viz.table(
    rows, digits=2, caption=f"{len(samples)} training images: their maps, their pseudo labels"
)

# %% [markdown]
# A pseudo label counts as right (`true_positive`) when it overlaps an object by at least one half. It may still cover a second
# one: `covers_several` counts the labels, right or wrong, with half or more of two objects of their class. The weak map here is
# that of the whole run; this is its report:

# %%
viz.table([{k: round(report["semantic_maps"][k], 3) for k in ("mIoU", "minutes")}], digits=3)

# %% [markdown]
# ## One component, one cue
#
# Here is the rule that turns both into labels (Listing 4). Cut the map of each class into connected
# {term}`components <component>`. A component that holds *exactly one* cue of its class is very likely one object: accept it as
# a whole. If it holds none, or more than one, we do not know and give no label.
#
# ```{literalinclude} ../../wsis/methods/bestie/labels.py
# :pyobject: component_labels
# ```


# %%
def strong_cues(sample):
    return sample.points[sample.points.scores > cfg.cues.threshold]


def verdict(sample):  # the verdict on each pixel: 1 several cues, 2 no cue, 3 accepted
    class_map = labels.tagged(sample.semantic_map[None].long(), sample.tags[None])
    ids, cues = labels.count_cues(class_map, sample.points, cfg.cues.threshold)
    status = torch.where(cues == 1, 3, torch.where(cues == 0, 2, 1))
    return status[ids[0]] * (ids[0] > 0)


# %%
maps = [verdict(s) for s in samples]
sizes = [m.flatten().bincount(minlength=4)[1:] for m in maps]  # pixels of each verdict
share = torch.stack(sizes).minimum(torch.stack(sizes)[:, 2:])  # beside an accepted region
mixed = [*share[:, 0].topk(2).indices.tolist(), *share[:, 1].topk(2).indices.tolist()]
panels = [{}, {}]
for i in mixed:
    sample = samples[i]
    status = viz.draw_semantic(maps[i], ("several cues", "no cue", "accepted"), sample.image)
    panels[0][f"scene {i}"] = viz.draw_instances(sample.image, truth[i])
    panels[1][f"scene {i}"] = viz.draw_points(status, strong_cues(sample))
viz.show(panels, rows=("ground truth", "components"), title="Accepted, or left alone")

# %% [markdown]
# **Takeaway.** Green components become labels. Orange ones are most often objects that touch, blue ones lack a cue, or have it
# just beside them. Leaving them unlabeled costs little: in the loss, *unlabeled* will not mean *background*.
#
# ## What the network predicts
#
# An instance cannot be a class, since nobody knows how many there will be. So it becomes geometry. Each accepted object
# is drawn into three maps: a {term}`center map` with a little hill at its centroid, an {term}`offset map` in which
# every pixel points to that centroid, and a {term}`weight map` that says where anything is known at all.

# %%
rule_labels = pseudo["weak map"]
counts = evaluation.quality_by_image(rule_labels, truth)
i = int(
    (2 * counts["true_positive"] + (counts["missed"] > 0)).argmax()
)  # right labels, and a missed object
image = samples[i].image
trace = bestie.explain(None, collate([samples[i]]), cfg)
center, offset, weight = (value[0] for value in trace.steps.values())
panels = {
    "pseudo labels": viz.draw_instances(image, rule_labels[i], classes),
    "center map": viz.draw_heat(image, center.amax(0), limits=(0, 1)),
    "offset map": viz.draw_offsets(offset, weight[0] > 0),
    "weight map": viz.Map(values=weight[0], limits=(0, 1)),
}
viz.show(panels, size=2.5, title="Instances as geometry")

# %% [markdown]
# **Takeaway.** Read the color wheel as a compass: hue is the direction to the center, and it turns once around each
# object; at the center color fades, as there is nowhere left to go. White is unknown, not empty.
#
# ## Center clustering: centers without a center map
#
# Now take a network that was trained on such maps ([the next chapter](12_bestie_training.py) does it) and look at a new image.
# Its hills may be too low, or missing. But every object also has a second signature. At its center the offset is zero, and just
# around it nearly so: the *length* of the offsets, the {term}`magnitude map`, has a small dark hole there. {term}`Center
# clustering <center clustering>` (Listing 3) looks for holes of the right size.


# %%
def find_spots(offset, foreground, threshold):  # spots of short offsets, their table
    ids, table = grouping.find_spots(offset[None], foreground[None].long(), threshold)
    return ids[0], table


def is_center(table, k=cfg.cluster):
    return (table.area - k.area).abs() < k.tolerance


def areas(ax, table):
    for (y, x), area, right in zip(table.center, table.area, is_center(table), strict=True):
        color = "#007A55" if right else "#C04000"
        above = y - 2 - area**0.5 / 2
        ax.text(x, above, int(area), color=color, ha="center", va="bottom", weight="bold")


# %%
val_samples = [datasets.val[i] for i in range(min(len(datasets.val), 100))]
with torch.no_grad():
    outputs = [bestie.infer(net, collate([s]).images, cfg) for s in val_samples]
foreground = [o.semantic[0].argmax(0) > 0 for o in outputs]
clusters = [
    grouping.cluster_centers(o.offset, f[None].long())
    for o, f in zip(outputs, foreground, strict=True)
]


def score_of(i):  # a score: objects with a center in their middle, minus all other centers
    middle = torch.stack([m.nonzero().float().mean(0) for m in val_samples[i].truth.masks])
    near = torch.cdist(clusters[i].position, middle) < 6
    return int(near.any(0).sum()) - int((~near.any(1)).sum())


# %%
example = max(range(len(val_samples)), key=lambda i: (score_of(i), int(foreground[i].sum())))
image, objects = val_samples[example].image, val_samples[example].truth
number = torch.arange(1, len(objects) + 1)[:, None, None]
ids = (objects.masks * number).amax(0, keepdim=True)  # of the topmost object
true_map = bestie.InstanceMap(
    ids=ids,
    image=torch.zeros_like(objects.labels),
    labels=objects.labels,
    centers=components.table(ids, len(objects)).center.float(),
    scores=objects.scores,
)
offset, interior = outputs[example].offset[0], foreground[example]
fields = {"exact": (render(true_map, cfg).offset[0], ids[0] > 0), "network": (offset, interior)}


# %%
def draw_spots(ax, radius, field, only=False):
    spot_ids, table = find_spots(*field, radius)
    dark = torch.cat([torch.tensor([False]), is_center(table) | (not only)])[spot_ids]
    ax.imshow(0.88 + 0.12 * ~field[1] - 0.63 * dark, cmap="gray", vmin=0, vmax=1)
    areas(ax, table)


# %%
panels, limit = [], cfg.cluster.threshold
for field in fields.values():
    position = grouping.cluster_centers(field[0][None], field[1][None].long()).position
    clicks = Points.make(position.flip(1), torch.zeros(len(position)))
    row = {
        "1  offset map": viz.draw_offsets(*field),
        "2  magnitude map": viz.draw_magnitude(*field, threshold=limit),
        f"3  below {limit} px": lambda ax, f=field: draw_spots(ax, limit, f),
        f"4  about {cfg.cluster.area} px": lambda ax, f=field: draw_spots(
            ax, limit, f, only=True
        ),
        "5  centers": viz.draw_points(image, clicks),
    }
    panels.append(row)
viz.show(panels, rows=list(fields), size=2, title="Center clustering, step by step")

# %% [markdown]
# **Takeaway.** With exact offsets (upper row) each object has one spot, and all spots have the same area, even where two
# objects touch. The network of this page, after its few minutes, predicts the lower row: spots are smeared, and the area
# (green: accepted, red: rejected) tells the clean ones from the others.
#
# Why should an area tell a center from an accident? Drag the threshold, and watch the areas.

# %%
frames, radii = [], (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
for radius in radii:
    row = {}
    for name, field in fields.items():
        row[f"{name}: magnitude"] = viz.draw_magnitude(*field, threshold=radius)
        row[f"{name}: areas"] = lambda ax, f=field, r=radius: draw_spots(ax, r, f)
    frames.append(viz.show(row, size=2.3))
viz.scrub(frames, [f"{radius} px" for radius in radii], "threshold", start=radii.index(2.5))

# %% [markdown]
# **Takeaway.** On the left all areas grow equally: they depend on the threshold and on nothing else. So the area of a good
# center is known beforehand, and green (the published area) appears at one position of the slider only. On the right every spot
# grows in its own way, and neighbors merge.
#
# ## Why that area?
#
# If all offsets were exact, the spot would be the pixels within 2.5 pixels of the center: a disc on a grid, and one can count
# them. The count is what Listing 3 asks for. The tolerance around it decides how much noise is accepted; we can measure how
# much by adding noise to the offsets of a perfect disc.

# %%
y, x = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
perfect = torch.stack((20 - y, 20 - x))
disc = perfect.norm(dim=0) < 16
disc_ids, _ = components.connected_components(disc.long().repeat(200, 1, 1))
levels, random = [k / 10 for k in range(0, 21)], torch.Generator().manual_seed(seed)
rate = []
for level in levels:
    noise = level * torch.randn(200, 2, 41, 41, generator=random)
    center = grouping.cluster_centers(perfect + noise, disc_ids)
    near = (center.position - 20).norm(dim=1) < 3
    rate.append(len(center.image[near].unique()) / 200)

# %%
pairs = []
for d in range(1, 13):
    right = perfect + torch.tensor([0, d])[:, None, None]
    nearest = torch.where(perfect.norm(dim=0) < right.norm(dim=0), perfect, right)
    merged_table = find_spots(nearest, nearest.norm(dim=0) < 16, cfg.cluster.threshold)[1]
    pairs += [(d, area) for area in merged_table.area.tolist()]
grid = torch.cartesian_prod(*[torch.arange(-3, 4.0)] * 2)
near = grid.norm(dim=1) < cfg.cluster.threshold

# %%
figure, (a, b, c) = plt.subplots(1, 3, figsize=(10.4, 3.1), layout="constrained")
a.scatter(*grid.T, c=near, cmap="Blues", vmin=-0.3, s=90, edgecolors="0.5")
a.add_patch(plt.Circle((0, 0), cfg.cluster.threshold, fill=False, color="#D55E00"))
a.set(title=f"{int(near.sum())} pixels of a perfect center", aspect="equal")
b.plot(levels, rate, color="#0072B2")
b.set(title="Noise hides centers", xlabel="noise (px)", ylabel="share found", ylim=(0, 1.03))
c.scatter(*zip(*pairs, strict=True), color="#0072B2")
low, high = (cfg.cluster.area + side * cfg.cluster.tolerance for side in (-1, 1))
c.axhspan(low, high, alpha=0.2)
c.set(title="Two centers merge", xlabel="distance (px)", ylabel="area of spots", ylim=(0, 45))
plt.show()

# %% [markdown]
# **Takeaway.** Left: the disc on the grid. Middle: a filter so strict that noise of a single pixel hides most centers. This is
# a feature: early in training, when offsets are noise, clustering returns nothing instead of inventing objects. Right: two
# exact centers are separated down to a distance of about twice the threshold; if they are closer, their spot is too large
# (above the band) and both are lost.
#
# ## Grouping: every pixel votes
#
# Once the centers are known, masks are simple. Each pixel $p$ points to $p + O(p)$ and joins the center nearest to the place
# where it lands, among the centers of its own component.

# %%
instances = bestie.decode(outputs[example], None, cfg).instances
grid_points = torch.zeros_like(interior)
grid_points[1::4, 1::4] = True
y, x = (interior & grid_points & (instances.ids[0] > 0)).nonzero(as_tuple=True)
dy, dx = offset[:, y, x]
colors = viz.instance_colors(len(instances))[instances.ids[0, y, x] - 1]


def votes(ax):
    ax.imshow(image.permute(1, 2, 0).float() / 255 * 0.4 + 0.6)
    ax.quiver(x, y, dx, dy, color=colors, angles="xy", scale_units="xy", scale=1, width=0.007)


def landings(ax):
    ax.imshow(torch.where(interior, 0.9, 1.0), cmap="gray", vmin=0, vmax=1)
    ax.scatter(x + dx, y + dy, c=colors, s=6)
    ax.scatter(*instances.centers.flip(1).T, marker="*", s=130, c="white", edgecolors="black")


# %%
panels = {
    "votes": votes,
    "where they land, and the centers": landings,
    "nearest center": viz.draw_instances(image, instances.unbind()[0], classes),
}
viz.show(panels, size=3.2, title="Each pixel points to its object")

# %% [markdown]
# **Takeaway.** Arrows of one object meet in a small cloud, whatever the shape of the object. Where two clouds overlap,
# pixels go to the wrong object; the border between two objects is as sharp as the votes are.
#
# ## How close may two centers be?
#
# Most centers still come from the center map: a pixel above a threshold that is the highest within a window. A window has a
# price. Here are two hills, one a little lower than the other; drag them apart and see when the lower one is found.

# %%
a, k, positions = 0.9, cfg.center_kernel, torch.arange(96.0)
limit = k // 2 + cfg.sigma * float((-2 * torch.tensor(a).log()).sqrt())
frames, distances = [], range(2, 31, 2)
for d in distances:
    high, low = (torch.exp(-((positions - c) ** 2) / (2 * cfg.sigma**2)) for c in (30, 30 + d))
    heat = torch.maximum(high, a * low)[None, None]
    peaks = grouping.find_centers(heat, torch.ones(1, 1, 96).long(), cfg.center_threshold, k)
    figure, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
    ax.fill_between(positions, heat[0, 0], alpha=0.3)
    ax.plot(peaks.position[:, 1], peaks.score, "v", color="#D55E00", markersize=12)
    ax.axvspan(30 - k // 2, 30 + k // 2, color="0.5", alpha=0.15)
    ax.set(title=f"{len(peaks.score)} found; both beyond {limit:.1f} px", xlim=(5, 75))
    frames.append(figure)
    plt.close(figure)
viz.scrub(frames, [f"{d} px" for d in distances], "distance", start=3)

# %% [markdown]
# **Takeaway.** The gray band is the window around the higher hill. It is not enough that the lower top leaves the band:
# as long as the higher hill's *slope* at the edge of the window is above it, no pixel of the lower hill is a maximum.
# With window $k$, width $\sigma$ and heights $1$ and $a$ both survive when
#
# $$d > \lfloor k/2 \rfloor + \sigma \sqrt{2 \ln (1/a)}.$$
#
# This is the first failure of Fig. 6, *close centers*, and the reason to have a second source of centers.
#
# ## The network corrects its labels
#
# Now everything is in place for Listing 5. While the network trains, its own outputs are decoded: centers, clustering,
# grouping, inside the components of the class map. What comes out is a *refined label*, weighted by the network's confidence.
# Components that the rule had to reject, because two objects touched or a cue was missing, get a second chance. Below are the
# training images that gain most.

# %%
refined_labels = []
for sample in samples:
    batch = collate([sample])
    with torch.no_grad():
        out = bestie.infer(net, batch.images, cfg)
    refined = labels.refined_labels(out, batch.semantic_maps, batch.tags, cfg)
    refined_labels.append(refined.unbind()[0])
before, after = (evaluation.quality_by_image(v, truth) for v in (rule_labels, refined_labels))
right, wrong = (after[key] - before[key] for key in ("true_positive", "false_positive"))
rows = {"pseudo labels": rule_labels, "refined labels": refined_labels}
viz.table([{"": name, **evaluation.label_quality(v, truth)} for name, v in rows.items()])

# %%
panels = [{}, {}, {}]
for i in (right - wrong).argsort(descending=True, stable=True)[:4].tolist():
    image, title = samples[i].image, f"scene {i}"
    panels[0][title] = viz.draw_instances(image, truth[i])
    panels[1][title] = viz.draw_instances(image, rule_labels[i])
    panels[2][title] = viz.draw_instances(image, refined_labels[i])
names = ("ground truth", "pseudo labels", "refined labels")
viz.show(panels, rows=names, size=2.3, title="A second look at the same images")

# %% [markdown]
# **Takeaway.** Second row: two objects that the rule took for one, and bare ones that it rejected. Third row: they are
# separate, each with the confidence that becomes its weight in the loss. No label ever showed the network that there are two;
# it learned what one object looks like where the rule was right.
#
# ## What would break this?
#
# - **A wrong class map.** Refined labels live inside the components of the map, which is also the target of the semantic
#   output: what the map gets wrong is never corrected ({ref}`fidelity:bestie-refine-foreground`).
# - **One cue on two objects.** The rule accepts it, and the pair becomes one label with full weight. The oracle row of the
#   table above shows how much of this better maps cannot fix.
# - **Hollow and bent objects.** The centroid of a ring lies outside the ring, where neither the center map nor the
#   clustering ever looks.
# - **Crowds of one class.** A component with more than a handful of centers is left out of the refined labels.
# - **Smooth errors.** The area check catches noise from pixel to pixel. A whole field of offsets with a bias to one side keeps
#   its spot, at the wrong place.
#
# ```{admonition} Where paper, release and this page differ
# :class: note
# - {ref}`fidelity:bestie-semantic-source`: the class maps are ours, from tags alone.
# - {ref}`fidelity:bestie-centroid-center`: the center is the component's centroid, not the cue.
# - {ref}`fidelity:bestie-area-bounds` and {ref}`fidelity:bestie-merge-gates`: which clustered centers count.
# - {ref}`fidelity:bestie-no-label-0`: the release finds centers in the background, too.
# - {ref}`fidelity:bestie-crowded-components`: what a crowd is.
# ```
#
# ## Settings

# %%
groups = (
    "semantic",
    "cluster",
    "refine",
    "sigma",
    "center_kernel",
    "min_area",
    "center_threshold",
)
settings = [r for r in sources(cfg) if r["name"].split(".")[0] in groups]
viz.table([{k: r[k] for k in ("name", "value", "unit", "source")} for r in settings])

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: lattice-area
# *Predict.* You want to look for centers with offsets shorter than 3.5 pixels. Which `cluster.area` belongs to this threshold?
# Guess with $\pi r^2$ first, then count.
# ```
#
# ```{solution-start} lattice-area
# :class: dropdown
# ```

# %% tags=["solution"]
distance = torch.cartesian_prod(*[torch.arange(-9, 10.0)] * 2).norm(dim=1)
for radius in (1.5, 2.5, 3.5, 4.5):
    print(
        f"{radius} px: {int((distance < radius).sum())} pixels, pi r^2 = {torch.pi * radius**2:.1f}"
    )

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: area-tolerance
# *Change one parameter.* How much more noise does clustering accept with twice the tolerance? And what is the price? Count true
# centers in noisy discs, and false ones in fields of pure noise.
# ```
#
# ```{solution-start} area-tolerance
# :class: dropdown
# ```

# %% tags=["solution"]
random, rows = torch.Generator().manual_seed(seed), []
noise = torch.randn(200, 2, 41, 41, generator=random)
for tolerance in (2, cfg.cluster.tolerance, 2 * cfg.cluster.tolerance, 12):
    good = grouping.cluster_centers(perfect + 0.75 * noise, disc_ids, tolerance=tolerance)
    near = (good.position - 20).norm(dim=1) < 3
    false = grouping.cluster_centers(3 * noise, disc_ids, tolerance=tolerance)
    share, extra = len(good.image[near].unique()) / 200, len(false.image) / 200
    rows.append({"tolerance": tolerance, "share found": share, "false per field": extra})
viz.table(rows, digits=2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: grouping-by-distance
# *Implement.* `grouping.group_pixels` never holds a table of all pixels by all centers. Write the version that does, with
# `torch.cdist`, for one image whose foreground is a single component. Are the results equal?
# ```
#
# ```{solution-start} grouping-by-distance
# :class: dropdown
# ```

# %% tags=["solution"]
place = torch.stack(torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij"))
field = perfect + 4 * torch.randn(2, 41, 41, generator=random)
position = torch.tensor([[20.0, 14], [20, 26], [9, 20]])
table_of_all = torch.cdist((place + field).flatten(1).T, position)
expected = (table_of_all.argmin(1) + 1).view(41, 41) * disc
zeros = torch.zeros(3, dtype=torch.long)
centers = grouping.Centers(zeros, zeros, position, torch.ones(3), zeros.bool())
print(
    "equal:",
    bool((grouping.group_pixels(field[None], disc[None].long(), centers)[0] == expected).all()),
)
print(
    f"table: {table_of_all.numel()} numbers for {disc.numel()} pixels and {len(position)} centers"
)

# %% [markdown]
# ```{solution-end}
# ```
