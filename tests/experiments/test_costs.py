"""The table of costs with made-up rehearsals: ratios, parameters, verdicts."""

import pytest

from wsis.experiments import costs
from wsis.methods import exits
from wsis.training.dry_run import Cost, rehearse

HOURS = {"extractor": 0.04, "network": 1.0, "segmenter": 3.0}


def rehearsed(extra):
    """Made-up hours; the generator of EXITS costs `extra` hours more than that of MAL."""

    def measure(name, cfg, device, stages):
        known = [s.name for s in exits.stages(cfg) if s.name in HOURS and s.name in stages]
        hours = {**HOURS, "network": HOURS["network"] + extra * (cfg.supervision == "extreme_points")}
        return [
            Cost(
                name=k,
                schedule=cfg.network,
                batch_size=cfg.network.batch_size,
                memory=0,
                seconds=3600 * hours[k] / cfg.network.steps,
            )
            for k in known
        ]

    return measure


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(costs, "parameters", lambda cfg: dict.fromkeys(costs.MODELS, 1_500_000))


@pytest.mark.parametrize(("extra", "verdict"), [(0.1, "holds"), (0.5, "contradicted")])
def test_ratios_decide(extra, verdict):
    found = costs.run_costs("tiny", 3, "cpu", rehearsed(extra))
    (claim,) = [c for c in found["claims"] if c["id"] == "C26"]
    assert claim["verdict"] == verdict
    assert claim["parts"][0]["mean"] == pytest.approx(100 * (extra + 0.04))


def test_the_final_model_is_rehearsed_without_a_generator():
    def measure(name, cfg, device, stages):
        return (rehearse if "segmenter" in stages else rehearsed(0.1))(name, cfg, device, stages=stages)

    rows = costs.run_costs("tiny", 1, "cpu", measure)["rows"]
    assert rows[0]["ours"]["final model, h"]["mean"] == rows[1]["ours"]["final model, h"]["mean"] > 0


def test_one_repeat_judges_nothing():
    found = costs.run_costs("tiny", 1, "cpu", rehearsed(0.1))
    assert [c["verdict"] for c in found["claims"]] == ["not run", "not run"]


def test_mal_has_no_extractor():
    rows = {r["name"]: r["ours"] for r in costs.run_costs("tiny", 1, "cpu", rehearsed(0.1))["rows"]}
    assert "warm-up, h" not in rows["MAL"] and "extractor, M" not in rows["MAL"]
    assert rows["EXITS"]["warm-up, h"]["mean"] == pytest.approx(0.04)
