"""When a goal of the benchmark is reached."""

from benchmarks.context import DEFAULT, FULL, QUICK, TINY
from benchmarks.figures import Figures
from benchmarks.goals import Goal, all_goals, evaluate


def figures_of(**samples: list[float]) -> Figures:
    figures = Figures()
    for target, values in samples.items():
        for value in values:
            figures.add("small", "put", target, value, "/s")
    return figures


def reached(goal: Goal, figures: Figures) -> bool | None:
    (outcome,) = evaluate([goal], figures)
    return outcome.reached


def test_a_ratio_is_compared_with_its_bound() -> None:
    goal = Goal("put", "put", 0.7, ("put", "null"))
    assert reached(goal, figures_of(fusefs=[70], null=[100])) is True
    assert reached(goal, figures_of(fusefs=[69], null=[100])) is False


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    assert reached(Goal("put", "put", 0.7, ("put", "rclone")), figures_of(fusefs=[70], null=[100])) is None


def test_the_median_decides() -> None:
    goal = Goal("put", "put", 0.7, ("put", "null"))
    assert reached(goal, figures_of(fusefs=[80, 10, 90], null=[100, 100, 100])) is True


def test_the_worst_decides_where_one_is_too_many() -> None:
    figures = Figures()
    for worst in (20, 101, 30):
        figures.add("processes", "put: worst", "fusefs", worst, "ms")
    assert reached(Goal("put", "put: worst", 100, at_most=True, worst=True), figures) is False
    assert reached(Goal("put", "put: worst", 100, at_most=True), figures) is True


def test_growth_is_the_time_of_the_large_store_over_that_of_the_small_one() -> None:
    goals = {goal.what: goal for goal in all_goals(FULL)}
    goal = goals["put, time at 1,000,000 over at 1,000 objects"]
    for cost, expected in ((125, True), (140, False)):
        figures = Figures()
        figures.add("growth", "put, 1,000 objects", "fusefs", 100, "µs")
        figures.add("growth", "put, 1,000,000 objects", "fusefs", cost, "µs")
        (outcome,) = evaluate([goal], figures)
        assert outcome.counted == cost / 100
        assert outcome.reached is expected


def test_every_goal_has_a_name_of_its_own() -> None:
    for sizes in (TINY, QUICK, DEFAULT, FULL):
        names = [goal.what for goal in all_goals(sizes)]
        assert len(names) == len(set(names))
