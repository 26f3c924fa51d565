"""What the audits of a study's runs say of its augmentations."""

from augcam.report.analysis import find
from augcam.report.audits import shortcut_point
from augcam.report.load import read_study
from tests.report.make import make_sweep
from tests.report.sections.test_shortcuts import audit_as


def test_the_page_begins_with_which_augmentation_leaves_which_class_a_shortcut(tmp_path):
    runs = make_sweep(tmp_path, augs=("none", "flip"), seeds=(1, 2), evaluated=0)

    def points():
        return shortcut_point(find(read_study([tmp_path]), tmp_path / "report"))

    assert points() == []
    by_name = {run.path.name: run for run in runs}
    for name in by_name:
        audit_as(by_name[name])
    assert points() == []
    audit_as(by_name["aug=none,seed=1"], star="shortcut", ring="look")
    audit_as(by_name["aug=none,seed=2"], star="shortcut", arrow="shortcut")
    (point,) = points()
    assert point.endswith(
        "under `none` (star 2 and arrow 1 of 2 runs); under `flip` no class. Each "
        "run was tested by itself: augmentations are not compared."
    )
    audit_as(by_name["aug=flip,seed=1"], heart="shortcut")
    (point,) = points()
    assert "`flip` (heart 1 of 2 runs)" in point
    assert ";" not in point
