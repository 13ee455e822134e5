"""BESTIE's label generation: pseudo labels from cues, refined labels from the network's own maps, and decoding.

    supp. Listing 4   component_labels: one component, one cue
    supp. Listing 3   wsis.grouping.cluster_centers, called by find_instances
    supp. Listing 5   refined_labels; with points: point_labels

Everything works on whole batches; class maps have 0 = background and 1..C.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.core.types import IGNORE, InstanceMap, Points
from wsis.methods.bestie.config import BestieConfig
from wsis.methods.bestie.model import Outputs
from wsis.ops.components import connected_components, table
from wsis.ops.grouping import (
    Centers,
    RegionStatistics,
    cluster_centers,
    find_centers,
    group_pixels,
    merge_centers,
    region_statistics,
)


def tagged(classes: Tensor, tags: Tensor) -> Tensor:
    """`classes` [B, H, W] with what is ignored or not among the image's tags [B, C] set to background."""
    allowed = torch.cat([tags.new_zeros(len(tags), 1), tags], dim=1)  # [B, C + 1]
    image = torch.arange(len(tags), device=tags.device)[:, None, None]
    inside = classes != IGNORE
    return classes * (inside & allowed[image, classes * inside])


def foreground_probability(semantic: Tensor, tags: Tensor | None) -> Tensor:
    """Softmax of logits [B, C + 1, H, W]; channels of classes that are not among the tags [B, C] become 0."""
    probability = semantic.softmax(1)
    if tags is None:
        return probability
    return probability * torch.cat([torch.ones_like(tags[:, :1]), tags], dim=1)[:, :, None, None]


def count_cues(classes: Tensor, points: Points, threshold: float) -> tuple[Tensor, Tensor]:
    """The components of class maps, int64 [B, H, W], and how many cues of its class each holds, int64 [count + 1].

    classes: see `tagged`. A cue counts inside the image and with a score above `threshold`. Row 0 is the background.
    """
    ids, count = connected_components(classes)
    height, width = ids.shape[-2:]
    x, y = points.xy.round().long().unbind(1)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height) & (points.scores > threshold)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hit = inside & (classes[points.image, y, x] == points.labels + 1)
    cues = torch.zeros(count + 1, dtype=torch.long, device=ids.device)
    return ids, cues.scatter_add_(0, ids[points.image, y, x] * hit, hit.long())


def component_labels(classes: Tensor, points: Points, tags: Tensor, cfg: BestieConfig) -> InstanceMap:
    """Components of the semantic map that hold exactly one cue of their class (supp. Listing 4).

    classes: int64 [B, H, W], 255 = ignore. points: cues or clicks of the batch. tags: bool [B, C].
    The center is the component's centroid cut to whole pixels, not the cue. Cues at or below `cues.threshold` do not
    count. What is not accepted stays unlabelled.
    """
    classes = tagged(classes, tags)
    ids, cues = count_cues(classes, points, cfg.cues.threshold)
    rows = table(ids, len(cues) - 1)
    accepted = (cues[1:] == 1) & (rows.area >= cfg.min_area)
    number = torch.cat([accepted.new_zeros(1).long(), accepted.cumsum(0) * accepted])
    return InstanceMap(
        ids=number[ids],
        image=rows.image[accepted],
        labels=classes.flatten()[rows.first[accepted]] - 1,
        centers=rows.center[accepted].float(),
        scores=torch.ones(int(accepted.sum()), device=ids.device),
    )


class Decoded(NamedTuple):
    """Instances found in a network's maps, with what led to them.

    regions: int64 [B, H, W], 0 or 1 + row of `centers`. components: int64 [B, H, W], 0 or 1 + row of `middles`.
    middles: float32 [M, 2], the components' centroids cut to whole pixels. centers: see grouping.Centers.
    heat: [B, H, W], the center map of each pixel's class, 1 at clustered centres. statistics: of heat per region.
    labels: int64 [N], majority class of the region. semantic_score: [N], mean probability of the class.
    """

    regions: Tensor
    components: Tensor
    middles: Tensor
    centers: Centers
    heat: Tensor
    statistics: RegionStatistics
    labels: Tensor
    semantic_score: Tensor


def find_instances(
    outputs: Outputs, classes: Tensor, probability: Tensor, threshold: float, cfg: BestieConfig, keep_centerless: bool
) -> Decoded:
    """Centers inside each component of `classes` [B, H, W], and the pixels that vote for them.

    probability: [B, C + 1, H, W]. threshold: of the center map. keep_centerless: a component without a center
    becomes one instance. With class-agnostic centers a component is any connected foreground.
    """
    agnostic = cfg.center_mode == "class_agnostic"
    components, count = connected_components((classes > 0).long() if agnostic else classes)
    rows = table(components, count)
    large = torch.cat([rows.area.new_zeros(1).bool(), rows.area >= cfg.min_area])
    components = components * large[components]
    channel = torch.zeros_like(classes) if agnostic else (classes - 1).clamp_min(0)
    heat = outputs.center.gather(1, channel[:, None])[:, 0]
    centers = find_centers(heat, components, threshold, cfg.center_kernel)
    if cfg.cluster.enabled:
        k = cfg.cluster
        clustered = cluster_centers(outputs.offset, components, k.threshold, k.area, k.tolerance, k.inclusive)
        centers = merge_centers(centers, clustered, heat, k.min_heat, k.min_distance)
        heat = _marked(heat, centers)
    if keep_centerless:
        centers = _with_centerless(centers, rows.center, rows.image, large[1:])
    regions = group_pixels(outputs.offset, components, centers)
    count = len(centers.component)
    statistics = region_statistics(regions, count, heat)
    return Decoded(
        regions=regions,
        components=components,
        middles=rows.center.float(),
        centers=centers,
        heat=heat,
        statistics=statistics,
        labels=_majority(regions, count, classes, cfg.classes),
        semantic_score=_mean(probability.gather(1, classes[:, None]), regions, statistics.area),
    )


def _marked(heat: Tensor, centers: Centers) -> Tensor:
    """`heat` with 1 at clustered centres: their score is the certainty of the area check."""
    y, x = centers.position.long().unbind(1)
    marks = torch.zeros_like(heat)
    marks[centers.image, y, x] = centers.clustered.float()
    return torch.where(marks > 0, marks, heat)


def _with_centerless(centers: Centers, position: Tensor, image: Tensor, wanted: Tensor) -> Centers:
    """Add the centroid of every wanted component that holds no center, with score 0."""
    empty = wanted.clone()
    empty[centers.component] = False
    rows = empty.nonzero()[:, 0]
    added = Centers(
        rows, image[rows], position[rows].float(), heat0 := torch.zeros(len(rows), device=rows.device), heat0 > 0
    )
    return Centers(*(torch.cat(pair) for pair in zip(centers, added, strict=True)))


def _mean(values: Tensor, regions: Tensor, area: Tensor) -> Tensor:
    """Mean of values [B, 1, H, W] in each region, by float64 sums."""
    total = torch.zeros(len(area) + 1, dtype=torch.float64, device=values.device)
    total.scatter_add_(0, regions.flatten(), values.flatten().double())
    return (total[1:] / area.clamp_min(1)).float()


def _majority(regions: Tensor, count: int, classes: Tensor, num_classes: int) -> Tensor:
    """The most frequent class (0..C-1) of each region."""
    votes = torch.zeros((count + 1) * (num_classes + 1), dtype=torch.long, device=regions.device)
    index = (regions * (num_classes + 1) + classes).flatten()
    votes.scatter_add_(0, index, torch.ones_like(index))
    return votes.view(count + 1, num_classes + 1)[1:, 1:].argmax(1)


@torch.no_grad()
def refined_labels(
    outputs: Outputs, semantic_maps: Tensor | None, tags: Tensor, cfg: BestieConfig
) -> tuple[InstanceMap, Decoded]:
    """Instance labels from the network's own maps (supp. Listing 5): missing objects are recovered, weights say how sure.

    semantic_maps: int64 [B, H, W], the foreground; None, or `refine.foreground = "prediction"`, takes the predicted
    one. tags: bool [B, C]. A component with more than `refine.max_instances` centers is left out. Scores are center
    score x class probability; a region whose own center was grouped elsewhere points to the component's centroid.
    """
    outputs = Outputs(*(x.detach().float() for x in outputs))
    probability = foreground_probability(outputs.semantic, tags)
    if semantic_maps is None or cfg.refine.foreground == "prediction":
        classes = probability.argmax(1)
    else:
        classes = tagged(semantic_maps, tags)
    found = find_instances(outputs, classes, probability, cfg.refine.threshold, cfg, keep_centerless=False)
    sizes = torch.zeros(len(found.middles), dtype=torch.long, device=classes.device)
    if cfg.compat == "official":  # the largest number that won a pixel counts, not the number of centers
        rank = _rank(found.centers.component)
        won = torch.where(found.statistics.area > 0, rank + 1, 0)
        sizes.scatter_reduce_(0, found.centers.component, won, "amax")
    else:
        sizes.scatter_add_(0, found.centers.component, torch.ones_like(found.centers.component))
    crowded = sizes[found.centers.component] > cfg.refine.max_instances  # [N]
    own = found.statistics.max >= cfg.refine.threshold
    score = torch.where(own, found.statistics.max * found.semantic_score, found.semantic_score)
    kept = (found.statistics.area > 0) & ~crowded  # a center without a pixel, too, would only draw its Gaussian
    number = torch.cat([kept.new_zeros(1).long(), kept.cumsum(0) * kept])
    instances = InstanceMap(
        ids=number[found.regions],
        image=found.centers.image[kept],
        labels=found.labels[kept],
        centers=torch.where(own[:, None], found.statistics.position, found.middles[found.centers.component])[kept],
        scores=score[kept].clamp(0, 1),
    )
    return instances, found


def _rank(component: Tensor) -> Tensor:
    """For each entry how many earlier entries have the same value."""
    order = component.argsort(stable=True)
    _, counts = component[order].unique_consecutive(return_counts=True)
    begin = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(component)
    rank[order] = torch.arange(len(component), device=component.device) - begin
    return rank


@torch.no_grad()
def point_labels(outputs: Outputs, semantic_maps: Tensor | None, points: Points, cfg: BestieConfig) -> InstanceMap:
    """One instance per click: all pixels of the click's class, over the whole image, go to the nearest one's vote.

    semantic_maps: int64 [B, H, W] or None for the predicted map. Row i belongs to point i; the weight is 1.
    """
    outputs = Outputs(*(x.detach().float() for x in outputs))
    if cfg.compat == "official":  # the release fills its fixed table with zeros, and so loses points on the border
        points = points[(points.xy.round() >= 1).all(1)]
    tags = torch.zeros(len(outputs.offset), cfg.classes, dtype=torch.bool, device=outputs.offset.device)
    tags[points.image, points.labels] = True
    if semantic_maps is None:
        classes = foreground_probability(outputs.semantic, tags).argmax(1)
    else:
        classes = tagged(semantic_maps, tags)
    image = torch.arange(len(classes), device=classes.device)[:, None, None]
    one_per_class = (image * cfg.classes + classes) * (classes > 0)
    centers = Centers(
        component=points.image * cfg.classes + points.labels,
        image=points.image,
        position=points.xy.flip(1).round(),
        score=points.scores,
        clustered=torch.zeros(len(points), dtype=torch.bool, device=classes.device),
    )
    return InstanceMap(
        ids=group_pixels(outputs.offset, one_per_class, centers),
        image=points.image,
        labels=points.labels,
        centers=centers.position,
        scores=torch.ones_like(points.scores),
    )
