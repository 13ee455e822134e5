"""The tables as data, verdicts against hand-computed intervals, and the runner with made-up trainings."""

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from book import pages
from wsis.baselines.promptable import MODELS
from wsis.core.config import changed, flatten
from wsis.core.errors import ConfigError, DataError
from wsis.core.files import read_json, write_json
from wsis.data.coco import write_dataset
from wsis.data.world import World, WorldConfig
from wsis.experiments import environment, runner, tables
from wsis.experiments.recipes import read_recipe
from wsis.experiments.results import as_text, comparisons, difference, in_words, other_figures, read_results
from wsis.experiments.runner import run_table
from wsis.experiments.table import COMPARISONS
from wsis.experiments.tables import TABLES, Row, find
from wsis.experiments.verdicts import Claim, best, compare, greater, half_width, judge, order, seeds_needed, similar
from wsis.methods import method
from wsis.methods.attentionshift.config import BASELINE
from wsis.weak import sources as data_module
from wsis.weak.sources import open_data

SCENES = WorldConfig(size=64, objects=(1, 2), classes=("cat", "car"))
TABLE1, TABLE2 = (find(f"bestie.{name}")[0] for name in ("table1", "table2"))


def test_rows_are_settings_that_exist_and_differ():
    for table in TABLES:
        for scale in table.scales:
            settings = [flatten(table.config(row, scale)) for row in table.rows]
            assert len({row.name for row in table.rows}) == len(table.rows), table.id
            assert len({json.dumps(s, sort_keys=True) for s in settings}) == len(settings), table.id


def test_rows_change_the_same_settings_at_both_scales():
    rows = [(table.id, row) for table in TABLES for row in table.rows]
    assert [(id, row.name) for id, row in rows if not row.settings("tiny").keys() <= row.settings("full").keys()] == []


def test_rows_name_the_baseline_and_the_checkpoints_of_their_methods():
    (baseline,) = [row for row in find("attentionshift.table2")[0].rows if row.name == "baseline, point"]
    assert baseline.changes == BASELINE
    rows = [row.changes for table in find("promptable") for row in table.rows if "model" in row.changes]
    assert all(changes["checkpoint"] == MODELS[changes["model"]][2] for changes in rows)


def test_rows_of_splits_are_compared_on_each_of_them():
    claims = {claim.id: claim for claim in find("simformer.table3")[0].claims}
    cells = [comparison.cells for comparison in claims["C34r"].comparisons]
    splits = [f"S{i}" for i in range(4, 10)]
    assert cells == [(("novel_mIoU", f"SimFormer, {s}"), ("novel_mIoU", f"RETAB*, {s}")) for s in splits]
    assert len(claims["C34"].comparisons) == 12 and len(claims["C35"].comparisons) == 5


def test_claims_compare_rows_and_metrics_of_their_table():
    for table in TABLES:
        rows = {row.name for row in table.rows}
        cells = {cell for claim in table.claims for comparison in claim.comparisons for cell in comparison.cells}
        assert {c for c in cells if c[0] not in table.metrics or c[1] not in rows} == set(), table.id


def test_every_claim_is_there_once():
    ids = [claim.id for table in TABLES for claim in table.claims]
    assert len(set(ids)) == len(ids)
    assert sorted(i for i in ids if i[1:].isdigit()) == [f"C{i:02}" for i in (*range(1, 29), *range(31, 36))]


def test_no_key_of_a_table_is_misspelt():
    """What `read_tables` does not know it would leave out without a word."""
    known = {"title", "metrics", "scales", "upper", "val_scenes", "splits", "full", "tiny", "rows", "claims"}
    rows = {"changes", "tiny", "method", "published"}
    claims = {"text", "published", "parts", "metric", "tolerance", *COMPARISONS}
    paths = sorted(Path(tables.__file__).parent.glob("*.yaml"))
    assert paths
    for table in (t for path in paths for t in yaml.safe_load(path.read_text()).values()):
        assert table.keys() <= known
        assert set().union(*(row or {} for row in table.get("rows", {}).values())) <= rows
        assert set().union(*table.get("claims", {}).values()) <= claims


def test_published_numbers_bear_out_the_published_claims():
    """A row that was copied wrongly shows: each comparison is true of the paper's own numbers."""
    for table in (t for t in TABLES if any(row.published for row in t.rows)):
        numbers = {(metric, row.name): row.published.get(metric) for metric in table.metrics for row in table.rows}
        for claim in table.claims:
            for comparison in claim.comparisons:
                cells = [numbers[cell] for cell in comparison.cells]
                if None in cells:  # a claim of ours
                    assert claim.published == "-"
                else:
                    value = comparison.measure(*cells)
                    assert comparison.judge(value, value) == "holds", claim.id


def test_stored_verdicts_are_those_of_the_stored_numbers():
    paths = sorted((Path(__file__).parents[2] / "book" / "results").glob("*.json"))
    assert paths
    for stored in map(read_json, paths):
        (table,) = find(stored["table"])
        of = {
            m: {r["name"]: dict(enumerate(r["ours"].get(m, {}).get("values", []))) for r in stored["rows"]}
            for m in stored["metrics"]
        }
        assert stored["claims"] == table.judged(of, stored["scale"]), table.id


def test_only_tables_that_were_run_have_results(tmp_path):
    claim = TABLE1.claims[0]
    entry = {"id": claim.id, "seeds": 3, "mean": 1.25, "low": -0.5, "high": 3.0, "verdict": "needs seeds", "needed": 5}
    write_json(tmp_path / f"{TABLE1.id}.tiny.world.json", {"claims": [entry]})
    results = read_results([TABLE1, TABLE2], tmp_path)
    assert list(results) == [TABLE1.id]
    (stored,) = results[TABLE1.id]["claims"]
    assert (difference(stored), in_words(stored)) == ("+1.2 [-0.5, +3.0]", "needs 2 more seeds")


def test_preset_is_the_row_that_the_paper_recommends():
    """So that tables share its run: alpha .5, layer 6, class-wise centers, threshold .5."""
    default = flatten(method("bestie").TINY)
    chosen = {
        "table1": "PAM + IAG + refine",
        "table2": "alpha 0.5",
        "table3": "{6}",
        "center_map": "class-wise",
        "backbone": "HRNet-48",
        "cue_threshold": "threshold 0.5",
    }
    for name, row_name in chosen.items():
        (table,) = find(f"bestie.{name}")
        (row,) = [r for r in table.rows if r.name == row_name]
        assert flatten(table.config(row, "tiny")) == default


def test_unknown_table_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no table 'bestie.tabel1'; choose all or one of bestie.table1"):
        find("bestie.tabel1")


def test_interval_is_students():
    assert half_width(1.0, 3) == pytest.approx(4.302653 / math.sqrt(3))  # t(.975, 2) = 4.302653


def values(**rows):
    return {"mAP50": {name: dict(enumerate(of)) for name, of in rows.items()}}


@pytest.mark.parametrize(
    ("a", "verdict"),
    [((12, 13, 12), "holds"), ((8, 7, 8), "contradicted"), ((9, 10, 12), "needs seeds"), ((12, 12), "not run")],
)
def test_verdict_on_greater(a, verdict):
    found = compare(greater("mAP50", "a", "b"), values(a=a, b=(10, 10, 10)))
    assert found["verdict"] == verdict and found["seeds"] == len(a)
    assert (found["mean"] is None) == (verdict == "not run")


def test_differences_are_paired_by_seed():
    """Seeds differ by ten points, rows within a seed by one: only the pairing can tell."""
    found = compare(greater("mAP50", "a", "b"), values(a=(11.0, 21.1, 30.9), b=(10, 20, 30)))
    assert found["verdict"] == "holds" and found["mean"] == pytest.approx(1.0)


def test_only_seeds_that_all_rows_have_count():
    rows = {"a": {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0}, "b": {1: 1.0, 2: 1.0}}
    assert compare(greater("mAP50", "a", "b"), {"mAP50": rows})["seeds"] == 2


def test_chance_alone_does_not_contradict():
    """Rows that differ by seeds only: their range is far from nothing in each seed."""
    of = values(a=(10, 13, 16), b=(13, 16, 10), c=(16, 10, 13))
    for claim in (similar("mAP50", "abc", 1.0), best("mAP50", "abc")):
        assert judge(Claim("X", "", "", claim), of, "tiny")["verdict"] in ("needs seeds", "cannot show")


def test_what_is_shown_of_a_claim_of_several_parts():
    of = values(a=(12, 12.1, 12), b=(10, 10, 10), c=(13, 11, 12))
    entry = judge(Claim("X", "a is best", "", best("mAP50", "abc")), of, "tiny")
    assert difference(entry) == "1 of 2 hold"
    assert difference(judge(Claim("X", "", "", order("mAP50", "bab")), of, "tiny")) == "1 of 2 hold, 1 contradicted"


@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        ((10.2, 10.3, 10.2), "holds"),
        ((13, 13.1, 12.9), "contradicted"),
        ((7, 7.1, 6.9), "contradicted"),
        ((10, 11, 12), "needs seeds"),
    ],
)
def test_verdict_on_similar(b, verdict):
    found = compare(similar("mAP50", "ab", 1.0)[0], values(a=(10, 10, 10), b=b))
    assert found["verdict"] == verdict


def test_noise_and_the_seeds_that_would_decide():
    """Differences -1, 0, 2: mean 1/3, standard deviation 1.5275; half of 83 seeds' interval is .3335."""
    entry = compare(greater("mAP50", "a", "b"), values(a=(9, 10, 12), b=(10, 10, 10)))
    assert entry["noise"] == pytest.approx(1.527525)
    assert entry["needed"] == 84 and in_words(entry) == "needs over 20 seeds"
    assert half_width(entry["noise"], 84) < 1 / 3 < half_width(entry["noise"], 83)
    assert seeds_needed(0.01, 5.0) is None and in_words(entry | {"needed": None}) == "needs over 20 seeds"
    assert in_words(entry | {"needed": 20}) == "needs 17 more seeds"


@pytest.mark.parametrize(("top", "verdict"), [(10.5, "cannot show"), (12.0, "needs seeds")])
def test_room_below_what_twenty_seeds_resolve_cannot_show_a_claim(top, verdict):
    """Noise 1.5275: half of twenty seeds' interval is .715."""
    of = values(a=(9, 10, 12), b=(10, 10, 10), c=(top, top, top))
    entry = judge(Claim("X", "", "", (greater("mAP50", "a", "b"),)), of, "tiny", "c")
    assert entry["room"] == top - 10 and entry["verdict"] == verdict


@pytest.mark.parametrize(("published", "verdict"), [(0.5, "cannot show"), (2.0, "needs seeds")])
def test_published_difference_below_what_twenty_seeds_resolve_cannot_be_shown(published, verdict):
    """Noise 1.5275, for which 84 seeds are needed; twenty resolve .715."""
    numbers = {"mAP50": {"a": 40 + published, "b": 40.0}}
    entry = compare(greater("mAP50", "a", "b"), values(a=(9, 10, 12), b=(10, 10, 10)), published=numbers)
    assert entry["effect"] == published and entry["verdict"] == verdict
    assert ("published difference of 0.5 points is less than the 0.7" in entry["reason"]) == (verdict == "cannot show")


def test_small_published_difference_does_not_hide_one_that_few_seeds_would_decide():
    numbers = {"mAP50": {"a": 40.5, "b": 40.0}}
    entry = compare(greater("mAP50", "a", "b"), values(a=(11, 12, 16), b=(10, 10, 10)), published=numbers)
    assert entry["needed"] == 6 and entry["verdict"] == "needs seeds"


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, "cannot show"), (1.0, "needs seeds")])
def test_margin_below_what_twenty_seeds_resolve_cannot_be_shown(margin, verdict):
    (pair,) = similar("mAP50", "ab", margin)
    assert compare(pair, values(a=(9, 10, 12), b=(10, 10, 10)))["verdict"] == verdict


def test_decided_claims_ask_for_no_room():
    of = values(a=(12, 13, 12), b=(10, 10, 10), c=(10.1, 10.1, 10.1))
    entry = judge(Claim("X", "", "", (greater("mAP50", "a", "b"),)), of, "tiny", "c")
    assert entry["verdict"] == "holds" and entry["needed"] is None


def test_claim_of_two_parts_is_as_good_as_its_worse_one():
    parts = (greater("mAP50", "a", "b"), greater("mAP50", "b", "a", tolerance=1.5))
    entry = judge(Claim("X", "a > b, but not by 1.5", "", parts), values(a=(12, 12.1, 12), b=(10, 10, 10)), "tiny")
    assert [p["verdict"] for p in entry["parts"]] == ["holds", "contradicted"]
    assert entry["verdict"] == "contradicted" and entry["mean"] == entry["parts"][1]["mean"]


def test_other_figures_are_by_stage():
    evaluation = {"mAP50": 0.5, "mIoU": math.nan}
    cues = {seed: {"recall": r, "key": "k", "minutes": 1.0} for seed, r in ((0, 0.2), (1, 0.4))}
    reports = {seed: {"cues": cues[seed], "evaluation": evaluation | {"x": [seed]}} for seed in cues}
    also, curves = other_figures(reports, ("mAP50",))
    assert also == {"cues.recall": pytest.approx(0.3)} and curves == {"evaluation.x": {"0": [0], "1": [1]}}


class Trainings:
    """Stands in for `runs.fit`: remembers what was asked for, and dies after `limit` trainings."""

    def __init__(self, limit=1000):
        self.asked, self.limit = [], limit

    def __call__(self, name, cfg, train, val, out, *, data, seed, device, cache, workers):
        if len(self.asked) == self.limit:
            raise KeyboardInterrupt
        self.asked.append((seed, cfg.loss.iag, cfg.refine.enabled, cfg.pam.alpha))
        figures = {"mAP50": 0.1 + 0.2 * cfg.loss.iag + 0.01 * seed, "mIoU": 0.5, "trivial_mAP50": 0.05}
        return {"evaluation": {**figures, "key": str(out), "minutes": 2.0}}


@pytest.fixture
def trainings(monkeypatch):
    def start(limit=1000):
        made_up = Trainings(limit)
        monkeypatch.setattr(runner.runs, "fit", made_up)
        return made_up

    return start


def test_killed_sweep_goes_on_at_the_first_missing_row(trainings, tmp_path):
    first = trainings(limit=6)
    with pytest.raises(KeyboardInterrupt):
        run_table(TABLE1, "tiny", out=tmp_path / "out", folder=tmp_path)
    assert [seed for seed, *_ in first.asked] == [0, 0, 0, 0, 1, 1], "seeds are outermost"
    partial = pages.load(tmp_path / "out" / "bestie.table1.tiny.world.json")
    assert [row["n"] for row in partial["rows"]] == [2, 2, 1, 1]
    second = trainings()
    result = run_table(TABLE1, "tiny", out=tmp_path / "out", folder=tmp_path)
    assert len(second.asked) == 6 and not set(first.asked) & set(second.asked)
    assert [row["n"] for row in result["rows"]] == [3, 3, 3, 3]


def test_rows_run_apart_meet_in_one_results_file(trainings, tmp_path):
    where = {"seeds": [0, 1], "out": tmp_path / "out", "folder": tmp_path}
    for names, seeds in ((["PAM"], [2, 0]), (["PAM", "PAM + IAG"], [2, 2])):
        trainings()
        result = run_table(TABLE1, "tiny", rows=names, **where)
        assert [row["n"] for row in result["rows"]] == [*seeds, 0, 0]
    with pytest.raises(ConfigError, match=r"bestie\.table1 has no row 'PEM'; it has PAM, PAM \+ IAG, "):
        run_table(TABLE1, "tiny", rows=["PEM"], **where)


def test_processes_that_share_a_sweep_meet_in_its_file(trainings, tmp_path, monkeypatch):
    where = {"seeds": [0], "out": tmp_path / "out", "folder": tmp_path}

    def fit(*given, **options):
        trainings()
        run_table(TABLE1, "tiny", rows=["PAM"], **where)  # of another process, meanwhile
        return runner.runs.fit(*given, **options)

    monkeypatch.setattr(runner.runs, "fit", fit)
    result = run_table(TABLE1, "tiny", rows=["PAM + IAG"], **where)
    assert [row["n"] for row in result["rows"]] == [1, 1, 0, 0]


def test_stored_runs_are_not_lost_to_a_folder_without_them(trainings, tmp_path):
    trainings()
    run_table(TABLE1, "tiny", seeds=[0, 1], out=tmp_path / "out", folder=tmp_path / "runs")
    again = trainings()
    for seeds, folder in (([0, 1], "elsewhere"), ([0], "runs")):
        with pytest.raises(ConfigError, match=r"would lose runs of PAM, .* choose another --out, or delete the file"):
            run_table(TABLE1, "tiny", seeds=seeds, out=tmp_path / "out", folder=tmp_path / folder)
    assert again.asked == []
    (row, *_) = pages.load(tmp_path / "out" / "bestie.table1.tiny.world.json")["rows"]
    assert row["n"] == 2


def test_tables_share_the_rows_that_they_have_in_common(trainings, tmp_path):
    trainings()
    run_table(TABLE1, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path)
    again = trainings()
    run_table(TABLE2, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path)
    assert sorted(alpha for *_, alpha in again.asked) == [0.2, 0.3, 0.7]


def test_results_file_holds_numbers_claims_and_where_they_come_from(trainings, tmp_path, capsys):
    trainings()
    result = run_table(TABLE1, "tiny", out=tmp_path / "out", folder=tmp_path)
    assert pages.load(tmp_path / "out" / "bestie.table1.tiny.world.json") == json.loads(json.dumps(result))
    row = result["rows"][2]
    assert row["ours"]["mAP50"]["values"] == pytest.approx([30, 31, 32])
    assert row["ours"]["mAP50"]["mean"] == pytest.approx(31)
    assert row["ours"]["mAP50"]["std"] == pytest.approx(1)
    assert (
        row["published"] == {"mAP50": 41.8}
        and row["also"]["evaluation.mIoU"] == 0.5
        and result["trivial"] == {"mAP50": 5.0}
    )
    verdicts = {claim["id"]: claim["verdict"] for claim in result["claims"]}
    assert verdicts == {"C12": "holds", "C13": "needs seeds", "C14": "needs seeds"}
    origin = result["provenance"]
    assert origin["seeds"] == [0, 1, 2] and origin["split"] == "val" and origin["minutes"] == 24
    assert origin["command"].startswith("python -m wsis table bestie.table1 --scale tiny --data world --seeds 3")
    assert set(origin["weights"]) == {"hrnet_tiny", "vgg_tiny", "resnet_tiny"} and origin["versions"]["torch"]
    drawn = comparisons([TABLE1], {"bestie.table1": result})
    assert [c["claim"] for c in drawn] == ["C12", "C13", "C14"] and drawn[0]["unresolved"] < drawn[0]["mean"]
    assert "PAM + IAG + refine" in as_text(result) and "holds" in as_text(result)
    assert capsys.readouterr().out.count("mAP50") == 12


@pytest.mark.parametrize(
    ("weights", "origin"),
    [
        ("imagenet", "efficientnet-lite0-57934424.pth 579344248a93"),
        ("timm:tf_x.in1k", "timm, tf_x.in1k"),
        ("random",) * 2,
    ],
)
def test_origin_of_weights_of_photographs(weights, origin):
    config = changed(method("simformer").TINY, backbone="efficientnet_lite0", weights=weights)
    assert environment.weights([config]) == {"efficientnet_lite0": origin}


def test_row_with_points_leaves_the_others_on_the_data_that_other_tables_use(trainings, tmp_path):
    trainings()
    run_table(TABLE1, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path)
    again = trainings()
    rows = (Row(name="tags"), Row(name="points", changes={"supervision": "points"}))
    both = replace(TABLE1, id="bestie.both", rows=rows, claims=())
    result = run_table(both, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path)
    assert len(again.asked) == 1 and "simulated from the masks" in result["provenance"]["images"]


def test_settings_of_a_sweep_reach_every_row_but_do_not_undo_it(trainings, tmp_path):
    made_up = trainings()
    settings = {"pam.alpha": 0.3, "loss.iag": True}
    run_table(TABLE1, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path, settings=settings)
    assert [(iag, alpha) for _, iag, _, alpha in made_up.asked] == [(i, 0.3) for i in (False, True, True, False)]


def test_the_stored_command_can_be_given_again_and_names_no_folder(trainings, tmp_path):
    trainings()
    weights = tmp_path / "my weights.safetensors"
    weights.write_bytes(b"")
    settings = {"weights": str(weights), "semantic.scales": (0.5, 1.0)}
    results = run_table(TABLE1, "tiny", seeds=[0], out=tmp_path / "out", folder=tmp_path, settings=settings)
    *_, first, second = shlex.split(results["provenance"]["command"])
    assert [first, second] == ["--set=weights=my weights.safetensors", "--set=semantic.scales=[0.5, 1.0]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set on disk with masks only."""
    place = tmp_path_factory.mktemp("data") / "scenes"
    for split in ("train", "val"):
        write_dataset(World(split, 3, 0, SCENES), place, split)
    return place


def test_description_follows_the_annotations(folder):
    before = open_data(str(folder), "tiny")
    path = folder / "annotations" / "instances_val.json"
    path.write_text(path.read_text() + "\n")
    after = open_data(str(folder), "tiny")
    assert before.name == after.name == "scenes" and before.description != after.description
    assert str(folder) not in after.description, "no path of this computer"


def test_clicks_are_simulated_where_there_are_masks_only_and_it_says_so(folder):
    data = open_data(str(folder), "tiny", clicks="mask_random")
    assert "simulated from the masks" in data.notes[0] and data.notes[0] in data.description
    points, truth = data.train[0].points, data.train[0].truth
    x, y = points.xy.long().unbind(1)
    assert len(points) == len(truth) and truth.masks[range(len(truth)), y, x].all()
    assert points.ids.tolist() == truth.ids.tolist()


def test_folder_without_masks_and_clicks_cannot_be_used_with_points(folder, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(folder / "images")
    coco = json.loads((folder / "annotations" / "instances_train.json").read_text())
    coco["annotations"] = [{k: a[k] for k in ("id", "image_id", "category_id")} for a in coco["annotations"]]
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(coco))
    assert open_data(str(tmp_path), "tiny").val is None
    with pytest.raises(DataError, match="neither points nor masks"):
        open_data(str(tmp_path), "tiny", clicks="mask_random")


def test_seed_of_the_world_is_another_world(monkeypatch):
    monkeypatch.setattr(data_module, "LENGTHS", {"tiny": (1, 1), "full": (1, 1)})
    one, two = (open_data("world", "tiny", seed=s) for s in (0, 1))
    assert not (one.train[0].image == two.train[0].image).all() and one.description != two.description


def test_table_may_ask_for_more_validation_scenes(trainings, tmp_path):
    trainings()
    for number, used in ((None, 200), (7, 7)):
        table = replace(TABLE1, val_scenes=number)
        result = run_table(table, "tiny", seeds=[0], out=tmp_path / str(used), folder=tmp_path)
        assert result["provenance"]["images"].startswith(f"world, 500/{used} scenes at ")


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("r.yaml", "scale: huge", ConfigError, "scale 'huge'; choose tiny, small, full"),
        ("r.json", '{"sede": 1}', ConfigError, "'sede' is no key of a recipe"),
        ("r.yaml", "seed: one", ConfigError, "seed 'one' is not a whole number"),
        ("r.yaml", "- scale", ConfigError, "not a list of"),
        ("r.yaml", "settings: 3", ConfigError, "settings are"),
        ("r.yaml", "a: [", DataError, "cannot be read as YAML"),
    ],
)
def test_wrong_recipe_is_refused(tmp_path, name, text, error, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        read_recipe(tmp_path / name)


def test_recipe_sets_scale_data_and_settings(tmp_path):
    (tmp_path / "r.yaml").write_text("scale: full\ndata: world\nsettings:\n  network.steps: 7\n")
    recipe = read_recipe(tmp_path / "r.yaml")
    assert changed(method("bestie").FULL, **recipe["settings"]).network.steps == 7
