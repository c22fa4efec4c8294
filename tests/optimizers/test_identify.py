"""Optimizers from names and configs, and to configs."""

import json

import numpy as np
import pytest

from distopt import Variable, optimizers
from distopt.core.custom_objects import custom_object_scope
from distopt.optimizers import SGD, Adam, Nadam, RMSprop, schedules


class Mine(SGD):
    pass


class MySchedule(schedules.LearningRateSchedule):
    def __init__(self, top=1.0):
        self.top = top

    def __call__(self, step):
        return self.top

    def get_config(self):
        return {"top": self.top}


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamax", "nadam", "adagrad", "adadelta", "ftrl"])
def test_get_by_name_in_any_case(name):
    for form in (name, name.upper(), name.capitalize()):
        opt = optimizers.get(form)
        assert type(opt).__name__.lower() == name
        assert opt.get_config() == type(opt)().get_config()


def test_get_instances_and_configs():
    opt = Adam(0.5)
    assert optimizers.get(opt) is opt
    again = optimizers.get(optimizers.serialize(opt))
    assert type(again) is Adam
    assert again.get_config() == opt.get_config()


@pytest.mark.parametrize("identifier", [None, 3, Adam, lambda: 1])
def test_get_of_something_else(identifier):
    with pytest.raises(ValueError, match="Could not interpret optimizer identifier"):
        optimizers.get(identifier)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"Unknown optimizer: addam.*'adam'"):
        optimizers.get("addam")
    with pytest.raises(KeyError):
        optimizers.deserialize({"config": {}})
    with pytest.raises(ValueError, match="Improper config format"):
        optimizers.deserialize({"class_name": "adam"})


def test_serialize():
    assert optimizers.serialize(None) is None
    opt = SGD(schedules.ExponentialDecay(0.1, 3, 0.5), clipnorm=1.0)
    config = optimizers.serialize(opt)
    assert config == {
        "class_name": "SGD",
        "config": {
            "name": "SGD",
            "clipnorm": 1.0,
            "learning_rate": {
                "class_name": "ExponentialDecay",
                "config": {
                    "initial_learning_rate": 0.1,
                    "decay_steps": 3,
                    "decay_rate": 0.5,
                    "staircase": False,
                    "name": None,
                },
            },
            "decay": 0.0,
            "momentum": 0.0,
            "nesterov": False,
        },
    }
    again = optimizers.deserialize(json.loads(json.dumps(config)))
    assert again.get_config() == config["config"]


def test_configs_handed_in_are_not_changed():
    config = {"class_name": "ADAM", "config": {"lr": 0.5}}
    assert optimizers.deserialize(config).get_config()["learning_rate"] == 0.5
    assert config == {"class_name": "ADAM", "config": {"lr": 0.5}}


def test_custom_classes():
    config = optimizers.serialize(Mine(0.25))
    with pytest.raises(ValueError, match="Unknown optimizer: Mine"):
        optimizers.deserialize(config)
    assert type(optimizers.deserialize(config, custom_objects={"Mine": Mine})) is Mine
    with custom_object_scope({"Mine": Mine}):
        assert type(optimizers.get(config)) is Mine
    with pytest.raises(ValueError, match="Unknown optimizer: mine"):
        optimizers.deserialize({"class_name": "mine", "config": {}}, custom_objects={"Mine": Mine})


@pytest.mark.parametrize("cls", [SGD, Adam, RMSprop, optimizers.Adagrad, optimizers.Ftrl])
def test_custom_schedules(cls):
    config = cls(MySchedule(0.5)).get_config()
    assert config["learning_rate"] == {"class_name": "MySchedule", "config": {"top": 0.5}}
    again = cls.from_config(config, custom_objects={"MySchedule": MySchedule})
    v = Variable(0.0)
    again.apply_gradients([(1.0, v)])
    assert float(v) != 0
    assert again.get_config() == config
    with pytest.raises(ValueError, match="Unknown decay: MySchedule"):
        cls.from_config(config)


def test_unknown_key():
    with pytest.raises(TypeError, match="foo"):
        SGD.from_config({"foo": 1})


def test_config_of_a_used_optimizer_holds_what_is_in_force():
    opt = SGD(0.1)
    opt.apply_gradients([(1.0, Variable(0.0))])
    assert opt.get_config()["learning_rate"] == np.float32(0.1)
    opt.learning_rate = 0.5
    assert opt.get_config()["learning_rate"] == 0.5
    assert SGD(lambda: 0.3).get_config()["learning_rate"] == 0.3


def test_name_none_counts_the_uses_of_a_class():
    class SomeNewHTTPSub(SGD):
        pass

    names = [SomeNewHTTPSub(name=None).get_config()["name"] for _ in range(3)]
    assert names == ["some_new_http_sub", "some_new_http_sub_1", "some_new_http_sub_2"]


def test_nadam_keeps_its_schedule_decay():
    opt = Nadam(schedule_decay=0.01)
    assert optimizers.deserialize(optimizers.serialize(opt)).get_config() == opt.get_config()
