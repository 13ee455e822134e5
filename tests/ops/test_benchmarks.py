"""The benchmarks call the functions that they time as these are."""

import inspect

from benchmarks.__main__ import SETS


def test_cases_name_parameters_that_exist():
    cases = [case for cases, *_ in SETS for case in cases]
    assert cases
    wrong = {}
    for case in cases:
        for function in (case.prepare, case.fast, case.plain):
            try:
                inspect.signature(function)
            except ValueError as error:  # a partial whose arguments the function does not take
                wrong[case.name] = str(error)
    assert not wrong
