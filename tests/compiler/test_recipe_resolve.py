"""What a recipe means for layers: order, "none", shared weights, fallbacks, and rules that miss."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.compiler.plan import LayerInfo, Plan
from qcc.compiler.recipe import load_recipe
from qcc.compiler.resolve import resolve
from qcc.dialects.errors import UnsupportedError, UsageError
from qcc.dialects.formats import format

EMBED = LayerInfo("embed", "embedding", "embed.weight", (100, 576))
Q = LayerInfo("blocks.0.q", "linear", "blocks.0.q.weight", (576, 576))
V = LayerInfo("blocks.0.v", "linear", "blocks.0.v.weight", (192, 576))
ATTENTION = LayerInfo("blocks.0.attention", "attention", None, ())
SCORES = LayerInfo("blocks.0.scores", "matmul", None, ())
CONV = LayerInfo("stem", "conv2d", "stem.weight", (16, 3, 3, 3))
TIED_HEAD = LayerInfo("head", "linear", "embed.weight", (100, 576), is_head=True)
OWN_HEAD = LayerInfo("head", "linear", "head.weight", (100, 576), is_head=True)
DECODER = [EMBED, Q, V, ATTENTION, SCORES, OWN_HEAD]


def unseen(symbol: str) -> tuple[float, float]:
    raise AssertionError(f"statistics of {symbol} were read without need")


def planned(default, *rules, layers=DECODER, stats=unseen):
    plan = resolve(load_recipe({"default": default, "rule": list(rules)}), layers, stats)
    return {layer.name: layer for layer in plan.layers}


def refused(default, *rules, layers=DECODER):
    with pytest.raises(UsageError) as caught:
        planned(default, *rules, layers=layers)
    assert caught.value.exit_code == 2
    return caught.value


def test_defaults_reach_linear_conv_and_attention_only():
    found = planned(
        {"weights": "int8", "activations": "int8", "kv": "int8"}, layers=[*DECODER, CONV]
    )
    assert found["blocks.0.q"].weights == found["stem"].weights == format("int8")
    assert found["blocks.0.q"].activations == format("int8")
    assert found["embed"].weights is None
    assert "only by `embeddings` or a rule" in found["embed"].reason
    assert found["blocks.0.scores"].activations is None
    attention = found["blocks.0.attention"]
    assert (attention.keys, attention.values) == (format("int8"), format("int8"))
    assert {layer.rule for layer in found.values()} == {"default"}


def test_a_later_rule_wins_key_by_key():
    found = planned(
        {"weights": "int8", "activations": "int8"},
        {"match": "blocks.*", "op": "linear", "weights": "int4"},
        {"match": "*.q", "activations": "none"},
        {"match": "*.v", "weights": "mxfp4"},
    )
    q, v = found["blocks.0.q"], found["blocks.0.v"]
    assert (q.weights, q.activations) == (format("int4"), None)
    assert q.rule == 'rule 1: match="blocks.*" op="linear"; activations: rule 2: match="*.q"'
    assert (v.weights, v.activations) == (format("mxfp4"), format("int8"))
    assert v.rule == 'rule 3: match="*.v"'


def test_none_is_a_value_that_only_a_later_rule_changes():
    found = planned(
        {"weights": "int8"},
        {"match": "blocks.*", "op": "linear", "weights": "none"},
        {"match": "*.v", "weights": "int4"},
    )
    assert found["blocks.0.q"].weights is None
    assert found["blocks.0.q"].reason == 'the recipe says "none"'
    assert found["blocks.0.v"].weights == format("int4")


KEYS = ("weights", "activations", "calibration")
VALUES = {
    "weights": ["none", "int8", "int4"],
    "activations": ["none", "int8", "mxfp8_e4m3"],
    "calibration": ["static", "dynamic", {"percent": 99.9}],
}


@st.composite
def rules_for_linears(draw):
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
        rule = {key: draw(st.sampled_from(VALUES[key])) for key in keys}
        rules.append({**rule, "match": draw(st.sampled_from(["*", "blocks.*", "*.q", "*.v"]))})
    return rules


@settings(deadline=None, max_examples=150)
@given(rules_for_linears())
def test_each_key_has_the_value_of_its_last_matching_rule(rules):
    suffixes = {"*": ("q", "v"), "blocks.*": ("q", "v"), "*.q": ("q",), "*.v": ("v",)}
    found = planned({}, *rules, layers=[Q, V])
    for layer in (Q, V):
        last = {"weights": "none", "activations": "none", "calibration": "dynamic"}
        for rule in rules:
            if layer.name[-1] in suffixes[rule["match"]]:
                last.update({key: rule[key] for key in KEYS if key in rule})
        plan = found[layer.name]
        assert (plan.weights.spelling if plan.weights else "none") == last["weights"]
        assert (plan.activations.spelling if plan.activations else "none") == last["activations"]
        percents = {"dynamic": None, "static": 100.0}
        calibration = last["calibration"]
        percent = percents[calibration] if isinstance(calibration, str) else calibration["percent"]
        assert plan.static_percent == (None if last["activations"] == "none" else percent)


def test_keys_and_values_are_set_apart():
    found = planned({"kv": "int8"}, {"op": "attention", "kv": {"v": "fp8_e4m3"}})
    attention = found["blocks.0.attention"]
    assert (attention.keys, attention.values) == (format("int8"), format("fp8_e4m3"))
    assert attention.rule == 'default; values: rule 1: op="attention"'


def test_the_head_and_embeddings_have_keys_of_their_own():
    found = planned(
        {"weights": "int4", "activations": "int8", "head": "int8", "embeddings": "mxfp8_e4m3"}
    )
    assert found["head"].weights == format("int8")
    assert found["head"].rule == "default head"
    assert found["head"].activations is None
    assert found["embed"].weights == format("mxfp8_e4m3")
    assert planned({"weights": "int4"})["head"].weights == format("int4")
    both = planned({"head": "int8"}, {"match": "head", "weights": "int4", "activations": "int8"})
    assert both["head"].weights == format("int4")
    assert both["head"].activations == format("int8")


def test_matmul_operands_by_rule():
    found = planned({}, {"op": "matmul", "activations": "int8"})
    assert found["blocks.0.scores"].activations == format("int8")


TIED = [EMBED, Q, TIED_HEAD]


def test_tied_weights_follow_the_first_layer_without_other_words():
    found = planned({"weights": "int8"}, layers=TIED)
    assert found["head"].weights is None
    assert found["head"].reason == "shares its weight with embed, which decides"


@pytest.mark.parametrize(
    ("default", "rules"),
    [
        ({"head": "int8"}, []),
        ({"embeddings": "int8"}, []),
        ({"head": "int8", "embeddings": "int8"}, []),
        ({"head": "int4"}, [{"op": "embedding", "weights": "int8"}]),
        ({"weights": "int4"}, [{"match": "head", "weights": "int8"}]),
    ],
)
def test_tied_weights_follow_the_most_specific_voice(default, rules):
    found = planned(default, *rules, layers=TIED)
    assert found["embed"].weights == found["head"].weights == format("int8")
    assert found["embed"].rule == found["head"].rule != "default"


def test_storage_shared_under_two_symbols_is_tied():
    head = replace(TIED_HEAD, weight="head.weight", tied_to="embed.weight")
    found = planned({"head": "int8"}, layers=[EMBED, head])
    assert found["embed"].weights == format("int8")


@pytest.mark.parametrize(
    ("default", "rules"),
    [
        ({"head": "int8", "embeddings": "none"}, []),
        ({}, [{"match": "head", "weights": "int4"}, {"match": "embed", "weights": "int8"}]),
    ],
)
def test_explicit_words_on_a_tied_weight_must_agree(default, rules):
    error = refused(default, *rules, layers=TIED)
    assert error.code == "recipe-tied-conflict"
    assert "embed" in error.what
    assert "head" in error.what


def test_fallbacks_are_tried_in_order_and_reported():
    default = {
        "weights": {"format": "int4", "group": 128},
        "fallback": ["int4<group=96>", "int4<group=5>", "int8"],
    }
    found = planned(default, layers=[Q, CONV])
    assert found["blocks.0.q"].weights == format("int4", group=96)
    assert found["blocks.0.q"].reason.endswith("groups of 128; took int4<group=96>")
    # K of a convolution is C * kh * kw = 27, which none of the groups divides.
    assert found["stem"].weights == format("int8")
    assert found["stem"].reason.count("do not divide") == 3


def test_without_a_fallback_the_layer_is_left_alone_and_reported():
    (plan,) = planned({"weights": "int4<group=128>"}, layers=[V]).values()
    assert plan.weights is None
    assert plan.reason.endswith("left in the model's own precision")


def test_a_rule_may_change_the_fallback():
    default = {"weights": "int4<group=128>", "fallback": "int8"}
    found = planned(default, {"match": "*.v", "fallback": "mxfp4"}, layers=[Q, V])
    assert found["blocks.0.q"].weights == format("int8")
    assert found["blocks.0.v"].weights == format("mxfp4")


def test_statistics_decide_where_a_format_asks_and_are_read_once():
    asked = []

    def stats(symbol):
        asked.append(symbol)
        return {Q.weight: (-1.0, 1.0), V.weight: (-9.0, 1.0)}[symbol]

    default = {"weights": "nestedfp16", "fallback": ["nestedfp16<threshold=1.8>", "fp16"]}
    found = planned(default, layers=[Q, V], stats=stats)
    assert found["blocks.0.q"].weights == format("nestedfp16")
    assert found["blocks.0.v"].weights == format("fp16")
    assert "largest magnitude 9" in found["blocks.0.v"].reason
    assert asked == [Q.weight, V.weight]


def test_activations_that_do_not_divide_stay_in_full_precision():
    (plan,) = planned({"activations": "int4<group=128>"}, layers=[V]).values()
    assert plan.activations is None
    assert "activations left in the model's precision" in plan.reason


def test_a_computed_weight_is_left_alone():
    (plan,) = planned({"weights": "int8"}, layers=[replace(Q, weight=None)]).values()
    assert plan.weights is None
    assert "computed" in plan.reason


def test_a_rule_that_matches_nothing_names_near_layers():
    error = refused({}, {"match": "block.0.q", "weights": "int8"})
    assert error.code == "recipe-rule-unmatched"
    assert "blocks.0.q" in error.why
    error = refused({}, {"op": "conv2d", "weights": "int8"})
    assert "attention, embedding, linear, matmul" in error.why
    assert refused({}, {"match": "zz", "weights": "int8"}, layers=[]).code == (
        "recipe-rule-unmatched"
    )


def test_an_optional_rule_may_match_nothing():
    found = planned({}, {"match": "nothing", "weights": "int8", "optional": True})
    assert all(layer.weights is None for layer in found.values())


@pytest.mark.parametrize(
    "rule",
    [
        {"match": "blocks.0.q", "kv": "int8"},
        {"op": "attention", "weights": "int8"},
        {"op": "embedding", "calibration": "static"},
        {"op": "matmul", "fallback": "int8"},
    ],
)
def test_a_rule_without_effect_is_an_error(rule):
    assert refused({}, rule).code == "recipe-rule-no-effect"


def full_plan() -> Plan:
    recipe = load_recipe(
        {
            "name": "mine",
            "default": {"weights": "int4<group=128>", "fallback": "int8", "kv": "int8"},
            "rule": [{"match": "*.q", "activations": "int8", "calibration": "static"}],
        }
    )
    return resolve(recipe, DECODER, unseen)


def test_compiling_from_the_resolved_plan_gives_the_same_plan():
    plan = full_plan()
    again = resolve(load_recipe(plan.as_json()), DECODER, unseen)
    assert again == plan
    assert again.as_json() == plan.as_json()


@pytest.mark.parametrize(
    "layers",
    [
        DECODER[:-1],
        [*DECODER[:-1], replace(OWN_HEAD, name="lm_head")],
        [*DECODER[:-1], replace(OWN_HEAD, op="conv2d")],
        [*DECODER[:-1], TIED_HEAD],
    ],
)
def test_a_plan_of_another_model_is_refused(layers):
    with pytest.raises(UsageError) as caught:
        resolve(load_recipe(full_plan().as_json()), layers, unseen)
    assert caught.value.code == "plan-other-model"


def test_a_plan_that_no_longer_fits_the_weights_is_refused():
    recipe = load_recipe({"default": {"weights": "nestedfp16"}})
    plan = resolve(recipe, [Q], lambda _: (-1.0, 1.0))
    with pytest.raises(UnsupportedError) as caught:
        resolve(load_recipe(plan.as_json()), [Q], lambda _: (-3.0, 1.0))
    assert "largest magnitude 3" in caught.value.why
