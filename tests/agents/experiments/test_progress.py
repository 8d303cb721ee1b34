"""Times of a run as text."""

from agents.experiments.progress import format_times


def test_times_are_lines_by_stage_and_part() -> None:
    lines = format_times({"judge": 1.0, "fine-tuning": 3.0, "fine-tuning: environment steps": 0.6}).splitlines()
    assert [line.split() for line in lines] == [
        ["judge", "1.0", "s", "25.0", "%"],
        ["fine-tuning", "3.0", "s", "75.0", "%"],
        ["of", "which", "environment", "steps", "0.6", "s", "20.0", "%"],
        ["total", "4.0", "s"],
    ]
