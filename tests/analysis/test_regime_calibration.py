"""The benchmark that asks how often regimes are judged wrong: its runs and its table."""

from benchmarks.regime_calibration import KNOWN, TESTED, confusion, report, set_ups, table


def test_it_has_two_hundred_runs_over_all_regimes():
    runs = [request for one in set_ups() for request in one.requests(1.0)]
    assert len(runs) == 200
    assert len({(repr(r.settings), r.elr, r.seed) for r in runs}) == 200


def test_horizons_are_shares_of_the_epochs():
    (own, *_), (quarter, *_) = (set_ups()[0].requests(share) for share in (1.0, 0.25))
    assert quarter.settings.epochs * 4 == own.settings.epochs
    assert max(TESTED) < KNOWN


def test_a_wrong_verdict_is_counted_as_wrong_and_an_open_one_is_not():
    known, judged = [1, 1, 1, 2, 3, 3, None], [1, 2, None, 2, 3, None, 1]
    rows = table(confusion(known, judged))
    assert rows[2] == "| 1 | 1 | 1 | 0 | 1 | 1 of 3 |"
    assert rows[3] == "| 2 | 0 | 1 | 0 | 0 | 0 of 1 |"
    assert rows[4] == "| 3 | 0 | 0 | 1 | 1 | 0 of 2 |"
    names = ["a"] * 7
    lines = report({KNOWN: (names, known), **dict.fromkeys(TESTED, (names, judged))})
    assert "7 runs; at 4 times the horizon 1 stay undecided." in lines[0]
    assert any("1 of 6 judged wrong, 2 left undecided" in line for line in lines)
