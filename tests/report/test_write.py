"""A report's companions of the page."""

import csv

from augcam.report.write import write_report
from tests.report.conftest import write_run


def test_the_table_has_a_line_for_every_run_also_of_those_left_out(tmp_path):
    right = write_run(tmp_path / "right", "aug=none", "seed=1")
    write_run(tmp_path / "stopped", "aug=none", "seed=2", status="interrupted")
    write_report([tmp_path], out=tmp_path / "out")
    with (tmp_path / "out" / "runs.csv").open() as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    assert set(rows) == {str(right.path), str(tmp_path / "stopped")}
    assert (rows[str(right.path)]["in_report"], rows[str(right.path)]["seed"]) == ("True", "1")
    assert float(rows[str(right.path)]["test_accuracy"]) == 1
    stopped = rows[str(tmp_path / "stopped")]
    assert (stopped["in_report"], stopped["state"]) == ("False", "interrupted")
    assert stopped["why_not"]
