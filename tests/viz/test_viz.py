"""Pictures: what is drawn where, in which colour, and that a page needs neither kernel nor network."""

import ast
import base64
import io
import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import wsis
from tests.viz.eyes import oklab, search, views
from wsis import viz
from wsis.core.errors import DataError
from wsis.core.types import Instances, Points
from wsis.viz.maps import oklab_to_rgb

PACKAGE = Path(wsis.__file__).parent
CLASSES = ("cat", "dog", "bird")


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(0, 255, (3, 24, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def two() -> Instances:
    masks = torch.zeros(2, 24, 32, dtype=torch.bool)
    masks[0, 2:10, 2:10] = True
    masks[1, 12:22, 8:30] = True
    return Instances.make(masks, torch.tensor([0, 2]), scores=torch.tensor([1.0, 0.5]))


def drawn(panel) -> plt.Axes:
    """The axes of a figure with this panel only, after a real drawing."""
    figure = viz.show({"": panel})
    figure.canvas.draw()
    return figure.axes[0]


def texts(axes: plt.Axes) -> list[str]:
    return [t.get_text() for t in axes.texts]


BOOK_ONLY = {"plotly", "anywidget", "ipywidgets", "traitlets", "IPython"}


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that these statements import."""
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_only_figures_import_matplotlib_and_the_packages_of_the_book_wait():
    wrong = {}
    for path in PACKAGE.rglob("*.py"):
        tree, drawing = ast.parse(path.read_text()), path.parent == PACKAGE / "viz"
        names = {name.split(".")[0] for name in imported(tree.body if drawing else list(ast.walk(tree)))}
        if found := names & (BOOK_ONLY | (set() if drawing else {"matplotlib"})):
            wrong[path.name] = found
    assert wrong == {}


class TestColors:
    def test_oklab_and_back(self):
        rgb = np.random.default_rng(0).random((50, 3))
        np.testing.assert_allclose(oklab_to_rgb(oklab(rgb)), rgb, atol=1e-5)

    def test_white_has_lightness_one_and_no_chroma(self):
        np.testing.assert_allclose(oklab(np.ones(3)), [1, 0, 0], atol=1e-6)

    @pytest.mark.parametrize(("count", "least"), [(16, 0.075), (24, 0.065), (80, 0.03)])
    def test_colors_differ_for_every_kind_of_eye(self, count, least):
        seen = views(viz.class_colors(count))
        distances = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1) + 9 * np.eye(count)
        assert distances.min() > least

    def test_a_class_keeps_its_color(self):
        np.testing.assert_array_equal(viz.class_colors(5), viz.class_colors(80)[:5])

    def test_stored_colors_are_what_the_search_finds(self):
        np.testing.assert_allclose(viz.class_colors(80), search(viz.class_colors(7), 80), atol=0.5 / 255)

    def test_more_than_eighty_classes_have_colors(self):
        np.testing.assert_array_equal(viz.class_colors(133)[80:], viz.class_colors(53))

    def test_instance_colors_go_round(self):
        np.testing.assert_array_equal(viz.instance_colors(20)[12:], viz.instance_colors(8))


class TestShow:
    def test_titles_wrap_into_rows(self, image):
        figure = viz.show({str(i): image for i in range(5)}, columns=3)
        assert [a.get_title() for a in figure.axes] == ["0", "1", "2", "3", "4", ""]

    def test_one_legend_names_every_class_once(self):
        maps = [torch.tensor([[1, 2], [2, 2]]), torch.tensor([[2, 2], [255, 2]])]
        panels = {str(i): viz.draw_semantic(m, ("dog", "cat")) for i, m in enumerate(maps)}
        figure = viz.show(panels, one_legend=True)
        assert not any(ax.get_legend() for ax in figure.axes)
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "no label"]
        found = [handle.get_facecolor()[:3] for handle in legend.legend_handles]
        np.testing.assert_allclose(found[:2], viz.class_colors(2)[::-1])

    def test_only_the_first_row_of_a_grid_is_titled(self, image):
        figure = viz.show([{"a": image, "b": image}] * 2, rows=["one", "two"])
        assert [a.get_title() for a in figure.axes] == ["a", "b", "", ""]
        assert [texts(a) for a in figure.axes] == [["one"], [], ["two"], []]

    def test_figure_is_opaque_white_and_not_shown_twice(self, image):
        figure = viz.show({"a": image}, title="A claim")
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert plt.get_fignums() == []

    @pytest.mark.parametrize("kind", ["uint8", "float", "last", "numpy"])
    def test_images_of_all_layouts_look_the_same(self, image, kind):
        same = {
            "uint8": image,
            "float": image / 255,
            "last": image.permute(1, 2, 0),
            "numpy": image.permute(1, 2, 0).numpy(),
        }[kind]
        picture = drawn(same).images[0].get_array()
        np.testing.assert_allclose(picture, image.permute(1, 2, 0).numpy() / 255, atol=1e-6)

    def test_a_bare_map_is_refused(self):
        with pytest.raises(ValueError, match=r"\[24, 32\]; a map goes into draw_map"):
            viz.show({"a": torch.zeros(24, 32)})

    def test_pictures_are_equally_large_with_and_without_a_color_bar(self, image):
        figure = viz.show({"image": image, "map": viz.draw_map(torch.rand(24, 32), unit="px")})
        figure.canvas.draw()
        first, second = (a.get_window_extent() for a in figure.axes[:2])
        assert first.width == pytest.approx(second.width, rel=0.01)
        assert first.height == pytest.approx(second.height, rel=0.01)

    def test_map_has_its_unit_and_limits(self):
        axes = drawn(viz.draw_map(torch.rand(4, 4), unit="probability", limits=(0, 1)))
        assert axes.images[0].get_clim() == (0, 1)
        assert axes.child_axes[0].get_ylabel() == "probability"

    @pytest.mark.parametrize("values", [torch.zeros(4, 4), torch.full((4, 4), 3.0), torch.tensor([[0.0, 1e3]] * 2)])
    def test_lengths_take_zeros_and_constants(self, values):
        drawn(viz.draw_magnitude(values.expand(2, *values.shape)))


class TestOverlay:
    def test_masks_are_filled_and_the_rest_is_the_image(self, image, two):
        picture = drawn(viz.draw_instances(image, two, fill=0.5)).images[0].get_array()
        plain = image.permute(1, 2, 0).numpy() / 255
        outside = ~two.masks.any(0).numpy()
        np.testing.assert_allclose(picture[outside], plain[outside], atol=1e-6)
        expected = 0.5 * plain[15, 15] + 0.5 * viz.instance_colors(2)[1]
        np.testing.assert_allclose(picture[15, 15], expected, atol=1e-6)

    def test_instances_are_named_with_scores_below_one(self, image, two):
        assert texts(drawn(viz.draw_instances(image, two, CLASSES))) == ["cat", "bird .50"]

    def test_by_class_uses_the_colors_of_class_maps(self, image, two):
        picture = drawn(viz.draw_instances(image, two, by_class=True, fill=1)).images[0].get_array()
        np.testing.assert_allclose(picture[15, 15], viz.class_colors(3)[2], atol=1e-6)

    def test_no_instances_and_empty_masks_are_drawn(self, image, two):
        empty = Instances.make(torch.zeros_like(two.masks), two.labels)
        assert texts(drawn(viz.draw_instances(image, Instances.none(24, 32), CLASSES))) == []
        assert texts(drawn(viz.draw_instances(image, empty, CLASSES))) == []

    def test_outline_goes_round_the_mask_between_pixels(self, image, two):
        axes = drawn(viz.draw_instances(image, two[:1]))
        (outline,) = [c.get_paths()[0].get_extents() for c in axes.collections]
        assert (outline.x0, outline.y0, outline.x1, outline.y1) == (1.5, 1.5, 9.5, 9.5)

    def test_points_lie_at_their_pixels_over_a_class_map(self):
        points = Points.make(torch.tensor([[3.0, 4.0], [20.0, 10.0]]), torch.tensor([0, 2]))
        axes = drawn(viz.draw_points(viz.draw_semantic(torch.ones(24, 32)), points, CLASSES))
        where = {tuple(float(v[0]) for v in line.get_data()) for line in axes.lines}
        assert where == {(3, 4), (20, 10)}
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["cat", "bird"]

    def test_boxes_are_half_open(self, image):
        axes = drawn(viz.draw_boxes(image, torch.tensor([[2, 3, 10, 8]]), torch.tensor([1])))
        (box,) = axes.patches
        assert box.get_bbox().extents.tolist() == [1.5, 2.5, 9.5, 7.5]

    def test_class_map_has_class_colors_and_names_what_occurs(self):
        class_map = torch.zeros(24, 32, dtype=torch.uint8)
        class_map[:5, :5], class_map[10:, 10:], class_map[20:] = 1, 3, 255
        axes = drawn(viz.draw_semantic(class_map, CLASSES))
        np.testing.assert_allclose(axes.images[0].get_array()[12, 12], viz.class_colors(3)[2])
        np.testing.assert_array_equal(axes.images[0].get_array()[8, 8], [1, 1, 1])
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["cat", "bird", "no label"]

    def test_background_shows_the_image(self, image):
        axes = drawn(viz.draw_semantic(torch.zeros(24, 32, dtype=torch.uint8), CLASSES, image))
        np.testing.assert_allclose(axes.images[0].get_array(), image.permute(1, 2, 0) / 255, atol=1e-6)


class TestOffsets:
    def test_unlabelled_is_white(self):
        offsets = torch.full((2, 4, 4), 3.0)
        labelled = torch.zeros(4, 4, dtype=torch.bool)
        labelled[0, 0] = True
        picture = viz.offset_to_color(offsets, labelled.numpy(), 3)
        np.testing.assert_allclose(picture[1:], 1, atol=1e-3)
        assert picture[0, 0].min() < 0.8

    def test_hue_is_the_direction(self):
        angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        offsets = np.stack([-np.sin(angles), np.cos(angles)])[:, None]
        lab = oklab(viz.offset_to_color(0.2 * offsets, True, 1.0))[0]
        hue = np.arctan2(lab[:, 2], lab[:, 1])
        np.testing.assert_allclose(np.cos(hue - angles), 1, atol=0.01)

    def test_longer_is_darker_and_more_colorful_up_to_the_radius(self):
        offsets = np.stack([np.zeros(4), np.array([1.0, 2.0, 4.0, 8.0])])[:, None]
        lab = oklab(viz.offset_to_color(offsets, True, 4.0))[0]
        chroma = np.hypot(lab[:, 1], lab[:, 2])
        assert (np.diff(lab[:3, 0]) < -0.02).all() and (np.diff(chroma[:3]) > 0.02).all()
        np.testing.assert_allclose(lab[2], lab[3])

    def test_no_offsets_at_all_is_white(self):
        axes = drawn(viz.draw_offsets(torch.zeros(2, 4, 4), torch.ones(4, 4)))
        np.testing.assert_allclose(axes.images[0].get_array(), 1, atol=1e-3)

    def test_wheel_says_the_longest_labelled_offset(self):
        offsets, labelled = torch.full((2, 4, 4), 12.0), torch.zeros(4, 4)
        offsets[:, 0, 0], labelled[0] = 20 / 2**0.5, 1
        offsets[:, 3, 3] = 99
        assert drawn(viz.draw_offsets(offsets, labelled)).child_axes[0].get_title() == "20 px"

    def test_magnitude_is_the_length(self):
        axes = drawn(viz.draw_magnitude(torch.tensor([3.0, 4.0])[:, None, None].expand(2, 5, 6)))
        assert axes.images[0].get_array().tolist() == [[5.0] * 6] * 5

    def test_line_encloses_the_short_offsets(self):
        y, x = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
        axes = drawn(viz.draw_magnitude(torch.stack([10 - y, 10 - x])))
        extents = axes.collections[-1].get_paths()[0].get_extents()
        assert (extents.x0, extents.x1, extents.y0, extents.y1) == (7.5, 12.5, 7.5, 12.5)

    def test_nothing_below_the_threshold_has_no_line(self):
        assert len(drawn(viz.draw_magnitude(torch.full((2, 5, 5), 9.0))).collections) == 0

    def test_heat_is_clear_where_it_is_cold(self, image):
        heat = torch.zeros(24, 32)
        heat[3, 4] = 1
        alpha = drawn(viz.draw_heat(image, heat, unit="probability")).images[-1].get_alpha()
        assert alpha[3, 4] == 0.75 and alpha.sum() == 0.75

    def test_heat_of_nothing_is_drawn(self, image):
        drawn(viz.draw_heat(image, torch.zeros(24, 32)))


class Tags(HTMLParser):
    """The start tags of a page, by name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))


class TestScrub:
    @pytest.fixture
    def frames(self) -> list[np.ndarray]:
        return [np.full((20, 30, 3), 60 * i, np.uint8) for i in range(4)]

    def test_one_frame_is_visible_and_every_frame_is_named(self, frames):
        images = Tags(viz.scrub(frames, list("abcd"), "tau", start=2).data).found["img"]
        assert ["display:block" in i["style"] for i in images] == [False, False, True, False]
        assert [i["alt"] for i in images] == ["tau: a", "tau: b", "tau: c", "tau: d"]

    def test_slider_has_name_range_and_value_for_screen_readers(self, frames):
        (slider,) = Tags(viz.scrub(frames, list("abcd"), "tau", start=2).data).found["input"]
        assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "3", "2")
        assert (slider["aria-label"], slider["aria-valuetext"]) == ("tau", "c")

    def test_page_needs_no_script_file_no_network_and_no_ids(self, frames):
        page = viz.scrub(frames, list("abcd"), "tau").data
        tags = Tags(page).found
        assert "script" not in tags and "link" not in tags
        assert not re.search(r"https?:", page)
        assert not any("id" in attributes for tag in tags.values() for attributes in tag)

    def test_small_frames_are_embedded_exactly(self):
        frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        (tag,) = Tags(viz.scrub([frame], ["a"], "tau").data).found["img"]
        stored = Image.open(io.BytesIO(base64.b64decode(tag["src"].split(",")[1])))
        np.testing.assert_array_equal(np.array(stored.convert("RGB")), frame)

    def test_figures_become_opaque_frames(self, image):
        page = viz.scrub([viz.show({"a": image}), viz.show({"b": image})], ["1", "2"], "tau").data
        tag = Tags(page).found["img"][0]
        stored = Image.open(io.BytesIO(base64.b64decode(tag["src"].split(",")[1])))
        assert stored.mode == "RGB" and min(stored.getpixel((0, 0))) > 250

    def test_wide_frames_are_scaled_down(self):
        (tag,) = Tags(viz.scrub([np.zeros((50, 4000, 3), np.uint8)], ["a"], "tau").data).found["img"]
        assert Image.open(io.BytesIO(base64.b64decode(tag["src"].split(",")[1]))).width == 1100

    def test_text_is_escaped(self, frames):
        tags = Tags(viz.scrub(frames, ['<b>"', "b", "c", "d"], 'x < "y"').data).found
        assert "b" not in tags
        assert tags["img"][0]["data-label"] == '<b>"'
        assert tags["input"][0]["aria-label"] == 'x < "y"'

    @pytest.mark.parametrize(
        ("frames", "labels", "start"),
        [([], [], 0), ([(4, 4)], ["a", "b"], 0), ([(4, 4)], ["a"], 1), ([(4, 4), (4, 5)], ["a", "b"], 0)],
    )
    def test_what_does_not_fit_is_refused(self, frames, labels, start):
        with pytest.raises(ValueError, match="scrub 'tau'"):
            viz.scrub([np.zeros((*size, 3)) for size in frames], labels, "tau", start)

    @pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
    def test_moving_one_slider_in_a_browser_moves_its_pictures_only(self, frames, tmp_path):
        two_sliders = viz.scrub(frames, list("abcd"), "tau").data + viz.scrub(frames, list("wxyz"), "layer").data
        state = "[...document.querySelectorAll('figure')].map(f=>[f.querySelector('output').value,"
        state += "f.querySelector('input').getAttribute('aria-valuetext'),"
        state += "[...f.querySelectorAll('img')].findIndex(m=>m.offsetParent!==null)])"
        move = "const r=document.querySelectorAll('input')[1];r.value=2;r.dispatchEvent(new Event('input'));"
        script = f"<script>{move}document.body.innerHTML='<pre>'+JSON.stringify({state})+'</pre>'</script>"
        (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{two_sliders}{script}")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "page.html").as_uri()]
        page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert json.loads(re.search("<pre>(.*)</pre>", page)[1]) == [["a", "a", 0], ["y", "y", 2]]


def fake_shell(monkeypatch, **content) -> None:
    kernel = types.SimpleNamespace(get_parent=lambda channel: {"content": content})
    shell = types.SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


class TestWidgets:
    def test_a_script_is_not_live(self):
        assert not viz.live()

    @pytest.mark.parametrize(
        ("content", "expected"), [({"allow_stdin": True}, True), ({"allow_stdin": False}, False), ({}, False)]
    )
    def test_a_kernel_is_live_where_someone_can_answer(self, monkeypatch, content, expected):
        fake_shell(monkeypatch, **content)
        assert viz.live() is expected

    @pytest.mark.slow
    def test_a_notebook_run_without_a_person_is_not_live(self):
        nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
        pytest.importorskip("ipykernel")
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("from wsis import viz; print(viz.live())")]
        )
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
        assert notebook.cells[0].outputs[0].text.strip() == "False"

    def test_without_a_kernel_each_parameter_becomes_a_slider(self, image):
        calls = []

        def picture(tau: float, kernel: int) -> Figure:
            calls.append((tau, kernel))
            return viz.show({"a": image}, size=1)

        tags = Tags(viz.explore(picture, tau=[0.1, 0.2, 0.3], kernel=[3, 5]).data).found
        assert [s["aria-label"] for s in tags["input"]] == ["tau (kernel = 3)", "kernel (tau = 0.1)"]
        assert calls == [(0.1, 3), (0.2, 3), (0.3, 3), (0.1, 3), (0.1, 5)]

    def test_with_a_person_the_sliders_are_widgets(self, monkeypatch, image):
        ipywidgets = pytest.importorskip("ipywidgets")
        monkeypatch.setattr("wsis.viz.widgets.live", lambda: True)
        widget = viz.explore(lambda tau: viz.show({"a": image}), tau=[0.1, 0.2])
        assert isinstance(widget.children[0], ipywidgets.SelectionSlider)
        assert widget.children[0].value == 0.1

    def test_with_a_person_every_move_shows_a_picture(self, monkeypatch, image):
        interaction = pytest.importorskip("ipywidgets.widgets.interaction")
        monkeypatch.setattr("wsis.viz.widgets.live", lambda: True)
        shown = []
        monkeypatch.setattr(interaction, "display", shown.append)
        widget = viz.explore(lambda tau: viz.show({"a": image}), tau=[0.1, 0.2])
        widget.update()
        assert {type(figure) for figure in shown} == {Figure}
        shown.clear()
        widget.children[0].value = 0.2
        assert {type(figure) for figure in shown} == {Figure}

    def test_with_a_person_a_click_on_the_image_shows_the_figure_of_that_pixel(self, monkeypatch, image):
        interaction = pytest.importorskip("ipywidgets.widgets.interaction")
        monkeypatch.setattr("wsis.viz.widgets.live", lambda: True)
        shown = []
        monkeypatch.setattr(interaction, "display", shown.append)
        clicks = viz.Clicks(image, {"corner": [(0, 0)]})
        widget = viz.explore(lambda pixel, tau: f"{pixel} {tau}", pixel=clicks, tau=[0.1, 0.2])
        widget.children[0]._handle_custom_msg({"do": "click", "xy": [3, 4], "start": [3, 4]}, [])
        widget.children[1].value = 0.2
        assert shown == ["[[0, 0]] 0.1", "[[3, 4]] 0.1", "[[3, 4]] 0.2"]
        assert widget.children[0].state["objects"][0]["point"] == [3, 4]

    def test_without_a_kernel_places_are_frames_and_what_has_one_value_is_held(self, image):
        calls = []

        def picture(pixel, tau):
            calls.append((pixel, tau))
            return viz.show({"a": image}, size=1)

        places = {"left": [(1, 2)], "right": torch.tensor([[5.0, 2.0]])}
        tags = Tags(viz.explore(picture, pixel=viz.Clicks(image, places), tau=[0.1]).data).found
        assert [s["aria-label"] for s in tags["input"]] == ["pixel (tau = 0.1)"]
        assert [i["data-label"] for i in tags["img"]] == ["left", "right"]
        assert calls == [([[1, 2]], 0.1), ([[5, 2]], 0.1)]

    def test_the_nearest_extreme_point_is_dragged_while_each_stays_on_its_side(self, image):
        clicks = viz.Clicks(image, {"all": [(4, 0), (0, 4), (4, 7), (7, 4)]})
        clicks.receive({"do": "click", "xy": [2, 3], "start": [1, 4]})
        assert clicks.value == [[4, 0], [2, 3], [4, 7], [7, 4]] and not clicks.state["error"]
        clicks.receive({"do": "click", "xy": [6, 3], "start": [2, 3]})  # no longer left of the others
        assert clicks.value[1] == [2, 3] and "left" in clicks.state["message"] and clicks.state["error"]


class TestTables:
    def test_what_was_not_run_reads_so(self):
        assert viz.table([{"a": None, "b": float("nan")}, {"b": 1.25}]).rows == (("not run",) * 2, ("not run", "1.2"))
        assert viz.table([{"a": "-", "b": "-"}, {"b": 1.25}]).numeric == (False, True)

    def test_text_is_aligned(self):
        expected = "name  mAP50\n----  -----\na      29.3\nbc      1.0"
        assert repr(viz.table([{"name": "a", "mAP50": 29.3}, {"name": "bc", "mAP50": 1.0}])) == expected

    def test_cells_are_escaped(self):
        assert "&lt;b&gt;" in viz.table([{"<i>": "<b>"}])._repr_html_()
        assert "b" not in Tags(viz.table([{"<i>": "<b>"}])._repr_html_()).found

    def test_no_rows_is_an_empty_table(self):
        assert viz.table([]).rows == ()
        assert repr(viz.table([], "nothing")).startswith("nothing")


class TestCurves:
    @pytest.fixture
    def log(self, tmp_path):
        lines = ["step,seconds,lr,center,total"] + [f"{i},{i},0.1,{i},{2 * i}" for i in range(50)]
        (tmp_path / "network.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "network.csv"

    def test_log_is_read_by_column(self, log):
        columns = viz.read_log(log)
        assert list(columns) == ["step", "seconds", "lr", "center", "total"]
        np.testing.assert_array_equal(columns["total"], 2.0 * np.arange(50))

    def test_line_is_the_mean_of_the_last_steps(self, log):
        figure = viz.training_curves({"a": viz.read_log(log)}, ["center"], window=4)
        line = figure.axes[0].lines[0].get_ydata()
        assert line[:4].tolist() == [0, 0.5, 1, 1.5]
        assert line[-1] == pytest.approx(np.mean([46, 47, 48, 49]))

    def test_a_run_shorter_than_the_window_is_drawn(self, log):
        figure = viz.training_curves({"a": {k: v[:3] for k, v in viz.read_log(log).items()}}, ["center"], window=20)
        assert figure.axes[0].lines[0].get_ydata().tolist() == [0, 0.5, 1]

    def test_damaged_line_is_named(self, log):
        log.write_text(log.read_text() + "50,50,0.1\n")
        with pytest.raises(DataError, match=r"network\.csv: line 52 is damaged: '50,50,0\.1'"):
            viz.read_log(log)

    def test_missing_and_empty_logs_are_named(self, tmp_path):
        with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
            viz.read_log(tmp_path / "none.csv")
        (tmp_path / "empty.csv").write_text("step,total\n")
        with pytest.raises(DataError, match=r"empty\.csv: holds no steps"):
            viz.read_log(tmp_path / "empty.csv")


def test_room_and_noise_have_one_line_for_each_comparison():
    entry = {"mean": 3.0, "low": 1.0, "high": 5.0, "unresolved": 0.5, "room": 8.0, "verdict": "holds"}
    rows = [{"claim": "C1", "comparison": "AP: a - b > 0"} | entry]
    rows.append({"claim": "C2", "comparison": "AP: c - d > 0"} | entry | {"room": None, "verdict": "contradicted"})
    ax = viz.room_and_noise(rows).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C1  a - b > 0", "C2  c - d > 0"]
    assert ax.get_xlabel() == "points of AP"
    other = viz.room_and_noise([rows[0], rows[1] | {"comparison": "mIoU: c - d > 0"}]).axes[0]
    assert [label.get_text() for label in other.get_yticklabels()] == ["C1  AP: a - b > 0", "C2  mIoU: c - d > 0"]
    assert other.get_xlabel() == "points"
    widths = sorted(bar.get_width() for bar in ax.patches)
    assert widths == [1.0, 1.0, 8.0], "the room is drawn where it is known"
    intervals = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] == 1.0]
    assert len({line.get_color() for line in intervals}) == 2, "verdicts have colors"
