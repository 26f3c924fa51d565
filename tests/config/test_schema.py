"""Values that only fail in the middle of a run, or never end, are refused at its beginning."""

import pytest

from augcam.config.schema import validate
from augcam.errors import UserError
from tests.conftest import compose


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["aug=rotate", "aug.rotate.limit=nan"], "aug.rotate.limit=nan: must be a finite number"),
        (["aug=rotate", "aug.rotate.limit=[0,inf]"], "aug.rotate.limit.1=inf: must be a finite"),
        (["optim.lr=inf"], "optim.lr=inf: must be a finite number"),
        (
            ["mix=mixup", "data.batch_size=1"],
            "data.batch_size=1: mix=mixup mixes the images of a batch",
        ),
        (
            ["mix=cutmix", "data.batch_size=1"],
            "data.batch_size=1: mix=cutmix mixes the images of a",
        ),
        (["loss.l1=nan"], "loss.l1=nan: must be a finite number"),
        (["+optim.betas=[nan,0.9]"], "optim.betas.0=nan: must be a finite number"),
        (["aug=rotate", "aug.rotate.limit=1e300"], "1,000,000 is the most"),
        (["trainer.precision=bf16-true"], "trainer.precision=bf16-true"),
        (["trainer.precision=16-true"], "trainer.precision=16-true"),
        (["trainer.precision=64-true"], "trainer.precision=64-true"),
        (
            ["scheduler=step", "scheduler.step_size=0"],
            "scheduler.step_size=0: must be a whole number",
        ),
        (["scheduler=cosine", "scheduler.eta_min=null"], "scheduler.eta_min=None: must be 0 or a"),
        (["scheduler.div_factor=0"], "scheduler.div_factor=0: must be greater than 0"),
        (["scheduler.final_div_factor=0"], "scheduler.final_div_factor=0"),
        (["data.root=''"], "data.root=: "),
        (["name=" + "x" * 3000], r"name=x{60}\[\.\.\.\]x{15}: "),
        (["data=cifar100", "data.holdout=49901"], r"holdout=49901: .* 0 to 49,900 can be held out"),
        (["data.holdout=49991"], "holdout=49991: .* 0 to 49,990 can be held out"),
        (
            ["callbacks=[early_stopping]", "data.holdout=0"],
            "callbacks.early_stopping.monitor=val/accuracy: with data.holdout=0 nothing is validated",
        ),
        (
            ["callbacks=[early_stopping]", "trainer.limit_val_batches=0"],
            "early_stopping.monitor=val/accuracy: with trainer.limit_val_batches=0 nothing",
        ),
        (["+callbacks.x._target_=torch.load"], "callbacks.x._target_=torch.load: only what"),
        (["+logger.x._target_=os.system"], "logger.x._target_=os.system: only what"),
    ],
)
def test_refused(overrides, problem):
    with pytest.raises(UserError, match=problem):
        validate(compose(overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["callbacks=[early_stopping]"], {"early_stopping"}),
        (["+callbacks=early_stopping"], {"early_stopping"}),
        (
            [
                "callbacks=[early_stopping]",
                "callbacks.early_stopping.monitor=train/loss",
                "data.holdout=0",
            ],
            {"early_stopping"},
        ),
        ([], set()),
    ],
)
def test_callbacks_are_chosen_by_name(overrides, expected):
    assert set(validate(compose(overrides)).callbacks) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["tensorboard"]),
        (["logger=csv"], ["csv"]),
        (["logger=[tensorboard,csv,wandb,mlflow]"], ["tensorboard", "csv", "wandb", "mlflow"]),
        (["logger=[]"], []),
    ],
)
def test_loggers_are_chosen_by_name_several_at_once(overrides, expected):
    config = validate(compose(overrides))
    assert list(config.logger) == expected
    assert all("_target_" in logger for logger in config.logger.values())


@pytest.mark.parametrize(("data", "most"), [("cifar10", 49_990), ("cifar100", 49_900)])
def test_as_many_can_be_held_out_as_leave_every_class_an_image(data, most):
    assert validate(compose([f"data={data}", f"data.holdout={most}"])).data.holdout == most


def test_numbers_may_be_names():
    config = validate(compose(["name=7", "sweep.name=2026"]))
    assert (config.name, config.sweep.name) == ("7", "2026")


def test_plain_values_are_never_interpolated(monkeypatch):
    monkeypatch.setenv("AUGCAM_SECRET", "hunter2")
    tree = {"name": "${oc.env:AUGCAM_SECRET}"}
    with pytest.raises(UserError) as refused:
        validate(tree)
    assert "hunter2" not in str(refused.value)
