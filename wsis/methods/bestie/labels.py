"""BESTIE's label generation: pseudo labels from cues, refined labels from the network's own maps, and decoding.

    supp. Listing 4   component_labels: one component, one cue
    supp. Listing 3   wsis.ops.grouping.cluster_centers, called by decode
    supp. Listing 5   refined_labels; with points: point_labels

Class maps hold 0 for the background and 1..C for the classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import pad

from wsis.core.masks import RunLengths
from wsis.core.types import IGNORE, Instances, Points, Sample
from wsis.data.masks import paint
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.model import Outputs
from wsis.models.classifier import ClassMaps, Maps, Tags
from wsis.ops import grouping
from wsis.ops.components import connected_components, table

LINE = 2  # pixels


@dataclass(frozen=True)
class InstanceMap:
    """Disjoint instances of a whole batch: one id map (0 = no instance, i + 1 = row i), and one row per instance.

    image: index within the batch. labels: 0..C-1. centers: (y, x). scores: of labels in [0, 1], of `decode` about so.
    """

    ids: ClassMaps
    image: Int64[Tensor, " K"]
    labels: Int64[Tensor, " K"]
    centers: Float32[Tensor, "K 2"]
    scores: Float32[Tensor, " K"]

    def __len__(self) -> int:
        return len(self.labels)

    def unbind(self, clicks: Points | None = None) -> list[Instances]:
        """One `Instances` per image of the batch, by falling score; rows without a pixel are dropped.

        clicks: one for each row. Rows stay in order then; a mask contains its click's pixel and has the id of its annotation.
        """
        images, ids, order = [], self.ids, self.scores.argsort(descending=True, stable=True)
        if clicks is not None:
            x, y = clicks.xy.round().long().unbind(1)
            ids, order = ids.clone(), torch.arange(len(clicks), device=ids.device)
            ids[clicks.image, y, x] = order + 1
        for b in range(len(ids)):
            rows = order[self.image[order] == b]
            runs = RunLengths.of_regions(ids[b], rows.tolist())
            if clicks is None:
                filled = runs.areas > 0
                runs, rows = runs[filled], rows[filled.to(rows.device)]
            else:  # of several clicks on one pixel only one has it in the map
                runs = runs.with_pixels(clicks.xy[rows].round().long())
            annotations = None if clicks is None else clicks.ids[rows]
            images.append(Instances.make(runs, self.labels[rows], scores=self.scores[rows], ids=annotations))
        return images


def tagged(classes: ClassMaps, tags: Tags) -> ClassMaps:
    """The class map with background where it is ignored or shows a class that is not among the image's tags."""
    allowed = pad(tags, (1, IGNORE - tags.shape[1]))  # [B, 256], False for background and ignored
    return classes * allowed.gather(1, classes.flatten(1)).view_as(classes)


def class_probability(semantic: Maps, tags: Tags | None) -> Maps:
    """The softmax of the logits of C + 1 channels; the channels of classes that are not among the tags become 0."""
    allowed = 1 if tags is None else pad(tags, (1, 0), value=True)[:, :, None, None]
    return semantic.softmax(1) * allowed


def count_cues(classes: ClassMaps, points: Points, threshold: float) -> tuple[ClassMaps, Int64[Tensor, " count"]]:
    """The components of `tagged` maps, and how many cues of its class above `threshold` each holds; row 0 is the background."""
    ids, count = connected_components(classes)
    height, width = ids.shape[-2:]
    y, x = points.centers.round().long().unbind(1)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height) & (points.scores > threshold)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hit = inside & (classes[points.image, y, x] == points.labels + 1)
    cues = torch.zeros(count + 1, dtype=torch.long, device=ids.device)
    return ids, cues.scatter_add_(0, ids[points.image, y, x] * hit, hit.long())


def component_labels(
    classes: ClassMaps,  # 255 = ignore
    points: Points,  # those that score more than `cues.threshold` count
    tags: Tags,
    cfg: BestieConfig,
) -> InstanceMap:
    """The components that hold exactly one cue of their class (supp. Listing 4).

    The center is the truncated centroid, not the cue.
    """
    classes = tagged(classes, tags)
    ids, cues = count_cues(classes, points, cfg.cues.threshold)
    rows = table(ids, len(cues) - 1)
    accepted = (cues[1:] == 1) & (rows.area >= cfg.min_area)
    kept = accepted.nonzero()[:, 0]  # one wait for the device, not one for each column
    _, center, image, first = (column[kept] for column in rows)
    labels, scores = classes.flatten()[first] - 1, torch.ones(len(first), device=ids.device)
    return InstanceMap(_renumbered(ids, accepted), image, labels, center.float(), scores)


def _renumbered(ids: Tensor, chosen: Tensor) -> Tensor:
    """`ids` with the chosen rows numbered 1, 2, ... and all others set to 0."""
    number = torch.cat([chosen.new_zeros(1).long(), chosen.cumsum(0) * chosen])
    return number.index_select(0, ids.flatten()).view(ids.shape)


def component_instances(semantic: Maps, cfg: BestieConfig) -> InstanceMap:
    """Each component of the predicted class map as one instance, without centers and offsets; scores: mean probabilities."""
    certainty, classes = semantic.softmax(1).max(1)
    ids, count = connected_components(classes)
    rows = table(ids, count)
    large = rows.area >= cfg.min_area
    ids = _renumbered(ids, large)
    score = grouping.region_statistics(ids, int(large.sum()), certainty, certainty).mean
    labels = classes.flatten()[rows.first[large]] - 1
    return InstanceMap(ids, rows.image[large], labels, rows.center[large].float(), score)


def kept_apart(sample: Sample) -> Tensor:
    """The true class map, uint8 [H, W], with 255 along the line on which two objects touch: one component, one object.

    The line is `LINE` pixels wide on each side, so that it still divides a map that was shrunk to a third.
    """
    truth, true_semantic = sample.truth, sample.true_semantic
    assert truth is not None and true_semantic is not None
    if not len(truth):
        return true_semantic
    ids = paint(truth.runs, range(1, len(truth) + 1)).float()[None]
    highest = grouping.max_pool(ids, 2 * LINE + 1)
    lowest = -grouping.max_pool(-ids.masked_fill(ids == 0, len(truth) + 1), 2 * LINE + 1)
    return true_semantic.masked_fill(((ids > 0) & (lowest < highest))[0], IGNORE)


class Decoded(NamedTuple):
    """The instances in a network's maps, and what led to them.

    instances: a score, not clamped, is center score x class probability, for a clustered center the latter squared. components:
    0 or 1 + row of `centroids`, cut to integers. heat: the center map of each pixel's class, 1 at clustered centers.
    statistics: of each instance: the heat, and the probability of its pixels for their classes.
    """

    instances: InstanceMap
    classes: ClassMaps
    components: ClassMaps
    centroids: Float32[Tensor, "M 2"]
    heat: Float[Tensor, "B H W"]
    centers: grouping.Centers
    statistics: grouping.RegionStatistics


@torch.no_grad()
def decode(
    outputs: Outputs, tags: Tags | None, cfg: BestieConfig, *, classes: ClassMaps | None = None, refining: bool = False
) -> Decoded:
    """Find the centers inside each component of the class map, and the pixels that vote for them.

    tags: restrict the classes; None allows all. classes: a class map in place of the predicted one. refining: take the
    threshold of self-refinement, and make no instance of a component without a center. With class-agnostic centers a component
    is any connected foreground.
    """
    outputs = Outputs(*(x.detach().float() for x in outputs))
    probability = class_probability(outputs.semantic, tags)
    classes = probability.argmax(1) if classes is None else classes
    agnostic, k = cfg.center_mode == "class_agnostic", cfg.cluster
    components, count = connected_components((classes > 0).long() if agnostic else classes)
    rows = table(components, count)
    large = torch.cat([rows.area.new_zeros(1).bool(), rows.area >= cfg.min_area])
    components = components * large[components]
    channel = torch.zeros_like(classes) if agnostic else (classes - 1).clamp_min(0)
    heat = outputs.center.gather(1, channel[:, None])[:, 0]
    threshold = cfg.refine.threshold if refining else cfg.center_threshold
    peaks = grouping.find_centers(heat, components, threshold, cfg.center_kernel)
    clustered = grouping.cluster_centers(outputs.offset, components, k.threshold, k.area, k.tolerance)
    centers = grouping.merge_centers(peaks, clustered, heat, components, k.min_heat, k.min_distance)
    marks = torch.zeros_like(heat)
    marks[(centers.image, *centers.position.long().unbind(1))] = centers.clustered.float()
    heat = torch.where(marks > 0, marks, heat)  # the area check makes a clustered center certain
    if cfg.keep_centerless and not refining:  # the centroid stands for the center
        empty = large[1:].index_fill(0, centers.component, False).nonzero()[:, 0]
        score = torch.zeros(len(empty), device=empty.device)
        added = (empty, rows.image[empty], rows.center[empty].float(), score, score > 0)
        centers = grouping.Centers(*(torch.cat(pair) for pair in zip(centers, added, strict=True)))
    ids, count = grouping.group_pixels(outputs.offset, components, centers), len(centers.component)
    statistics = grouping.region_statistics(ids, count, heat, probability.gather(1, classes[:, None])[:, 0])
    score = torch.where(centers.clustered, statistics.mean, statistics.max) * statistics.mean
    # The label is the most frequent class of an instance's pixels.
    votes = torch.zeros((count + 1) * (cfg.classes + 1), dtype=torch.long, device=ids.device)
    index = (ids * (cfg.classes + 1) + classes).flatten()
    labels = votes.scatter_add_(0, index, torch.ones_like(index)).view(count + 1, -1)[1:, 1:].argmax(1)
    instances = InstanceMap(ids, centers.image, labels, centers.position, score)
    return Decoded(instances, classes, components, rows.center.float(), heat, centers, statistics)


@torch.no_grad()
def refined_labels(
    outputs: Outputs,
    semantic_maps: ClassMaps,  # the foreground
    tags: Tags,
    cfg: BestieConfig,
) -> InstanceMap:
    """Labels from the network's own maps (Listing 5); scores: center x class probability.

    A region whose center was grouped elsewhere gets the component's centroid.
    """
    decoded = decode(outputs, tags, cfg, classes=tagged(semantic_maps, tags), refining=True)
    instances, statistics = decoded.instances, decoded.statistics
    holds_center = statistics.max >= cfg.refine.threshold
    score = torch.where(holds_center, statistics.max * statistics.mean, statistics.mean)
    centroids = decoded.centroids[decoded.centers.component]
    centers = torch.where(holds_center[:, None], statistics.position, centroids)
    # A center without a pixel would only draw its Gaussian.
    valid = (statistics.area > 0) & (crowd(decoded, cfg) <= cfg.refine.max_instances)
    ids = _renumbered(instances.ids, valid)
    rows = (instances.image, instances.labels, centers, score.clamp(0, 1))
    kept = valid.nonzero()[:, 0]
    return InstanceMap(ids, *(values[kept] for values in rows))


def crowd(decoded: Decoded, cfg: BestieConfig) -> Int64[Tensor, " N"]:
    """For each center the number of centers in its component."""
    component = decoded.centers.component
    sizes = torch.zeros(len(decoded.centroids), dtype=torch.long, device=component.device)
    if cfg.compat == "official":  # the largest number that won a pixel counts, not the number of centers
        number = (component[:, None] == component).tril().sum(1)
        sizes.scatter_reduce_(0, component, number * (decoded.statistics.area > 0), "amax")
    else:
        sizes.scatter_add_(0, component, torch.ones_like(component))
    return sizes[component]


@torch.no_grad()
def point_labels(
    outputs: Outputs, semantic_maps: ClassMaps | None, points: Points, cfg: BestieConfig, *, refining: bool = False
) -> InstanceMap:
    """One instance per click, in order: the pixels of its class (predicted without `semantic_maps`) that vote nearest to it.

    A score is the mean class probability; `refining` has full weight, 1, instead.
    """
    outputs = Outputs(*(x.detach().float() for x in outputs))
    if refining and cfg.compat == "official":  # the release's table is filled with zeros: it loses points on the border
        points = points[(points.xy.round() >= 1).all(1)]
    tags = torch.zeros(len(outputs.offset), cfg.classes, dtype=torch.bool, device=outputs.offset.device)
    tags[points.image, points.labels] = True
    if semantic_maps is None:
        classes = class_probability(outputs.semantic, tags).argmax(1)
    else:
        classes = tagged(semantic_maps, tags)
    image = torch.arange(len(classes), device=classes.device)[:, None, None]
    one_per_class = (image * cfg.classes + classes) * (classes > 0)
    component, position = points.image * cfg.classes + points.labels, points.centers.round()
    clustered = torch.zeros(len(points), dtype=torch.bool, device=classes.device)
    centers = grouping.Centers(component, points.image, position, points.scores, clustered)
    ids = grouping.group_pixels(outputs.offset, one_per_class, centers)
    if refining:
        return InstanceMap(ids, points.image, points.labels, position, torch.ones_like(points.scores))
    certainty = class_probability(outputs.semantic, tags).gather(1, classes[:, None])[:, 0]
    statistics = grouping.region_statistics(ids, len(points), certainty, certainty)
    return InstanceMap(ids, points.image, points.labels, position, statistics.mean)
