"""Short runs end in the numbers that are stored: see `tests.golden`."""

import json

import pytest

from tests import golden


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_short_runs_end_as_stored():
    stored = json.loads(golden.STORED.read_text())
    if golden.machine() != stored["machine"]:
        pytest.skip(f"digests are of {stored['machine']}; write them anew with python -m tests.golden --write")
    assert golden.differences(golden.digests(list(golden.RUNS)), stored["digests"]) == []
