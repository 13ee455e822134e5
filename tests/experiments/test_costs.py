"""The table of costs with made-up rehearsals: ratios, parameters, verdicts."""

import pytest

from wsis.experiments import costs
from wsis.experiments.runner import run_table
from wsis.methods import exits
from wsis.training.dry_run import Cost
from wsis.training.dry_run import measure as rehearse

HOURS = {"extractor": 0.04, "network": 1.0, "final": 3.0}


@pytest.fixture
def results(monkeypatch, tmp_path):
    """The table after some repeats; the network of EXITS costs `extra` hours more than that of MAL."""

    def run(extra=0.1, repeats=3, measure=None):
        def rehearsed(method, cfg, device, stages):
            known = [s.name for s in exits.stages(cfg) if s.name in HOURS and s.name in stages]
            hours = {**HOURS, "network": HOURS["network"] + extra * (cfg.supervision == "extreme_points")}
            steps, batch = cfg.network.steps, cfg.network.batch_size
            values = {k: 3600 * hours[k] / steps for k in known}
            return [
                Cost(name=k, schedule=cfg.network, batch_size=batch, memory=0, seconds=v) for k, v in values.items()
            ]

        costs.final_hours.cache_clear()
        monkeypatch.setattr(costs.dry_run, "measure", measure or rehearsed)
        return run_table(
            costs.TABLE_A5, "tiny", seeds=range(repeats), out=tmp_path, folder=tmp_path / "runs", device="cpu"
        )

    return run


@pytest.mark.parametrize(("extra", "verdict"), [(0.1, "holds"), (0.5, "contradicted")])
def test_ratios_decide(results, extra, verdict):
    cheap, counts = results(extra)["claims"]
    assert cheap["verdict"] == verdict and cheap["parts"][0]["mean"] == pytest.approx(100 * (extra + 0.04))
    whole = (0.04 + 1 + extra + 3 + costs.MAKING_MASKS) / (1 + 3 + costs.MAKING_MASKS)
    assert cheap["parts"][1]["mean"] == pytest.approx(100 * (whole - 1))
    assert counts["id"] == "C27" and counts["verdict"] == "not run", "tiny models are not those of the paper"


def test_one_repeat_judges_nothing_and_its_numbers_have_a_source(results):
    table = results(repeats=1)
    assert [c["verdict"] for c in table["claims"]] == ["not run", "not run"] and table["data"] == "noise"
    assert set(table["provenance"]["weights"].values()) == {"random"}


def test_mal_has_no_extractor(results):
    rows = {r["name"]: r["ours"] for r in results(repeats=1)["rows"]}
    assert "warm-up, h" not in rows["MAL"] and "extractor, M" not in rows["MAL"]
    assert rows["EXITS"]["warm-up, h"]["mean"] == pytest.approx(0.04)
    assert rows["MAL"]["generator, M"] == rows["EXITS"]["generator, M"]


def test_the_final_model_is_rehearsed_once_and_without_a_generator(results):
    calls = []

    def measure(method, cfg, device, stages):
        calls.append(stages)
        if "final" in stages:
            return rehearse(method, cfg, device, stages=stages)
        return [Cost(name="network", schedule=cfg.network, batch_size=1, memory=0, seconds=1)]

    rows = results(repeats=2, measure=measure)["rows"]
    assert rows[0]["ours"]["final model, h"] == rows[1]["ours"]["final model, h"]
    assert rows[0]["ours"]["final model, h"]["mean"] > 0 and sum("final" in stages for stages in calls) == 1
