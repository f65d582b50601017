"""What the host's work costs: counts by hand, the roofline, energy, and that a step is the sum of its parts."""

from __future__ import annotations

from base64 import b64encode

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isa.diagnostics import CimError
from isa.events import Bound, Event, Resource
from isa.hardware import load_target
from runtime.energy import energy_of
from runtime.hostwork import Work, cost_of, count, work_of
from runtime.timing.result import merged

TARGET = load_target("tiny")


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], constants: dict[str, np.ndarray]
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    out = onnx.ValueInfoProto(name=nodes[-1].output[0])
    weights = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", given, [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _node(kind: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["y"], name="n", **attributes)


def _floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("node", "inputs", "constants", "flops", "bytes_"),
    [
        # out [1, 8, 3, 3] = 72, each a sum of 3 x 2 x 2: 2 x 72 x 12; 3 x 4 x 4 in, 96 of weights
        (_node("Conv", "x", "w"), {"x": [1, 3, 4, 4]}, {"w": _floats(8, 3, 2, 2)}, 1728, 4 * (48 + 96 + 72)),
        (_node("MatMul", "x", "w"), {"x": [5, 6]}, {"w": _floats(6, 7)}, 2 * 35 * 6, 4 * (30 + 42 + 35)),
        (
            _node("Gemm", "x", "w", transA=1),
            {"x": [6, 5]},
            {"w": _floats(6, 7)},
            2 * 35 * 6,
            4 * (30 + 42 + 35),
        ),
        (_node("Add", "x", "w"), {"x": [5, 6]}, {"w": _floats(6)}, 30, 4 * (30 + 6 + 30)),
        (_node("ReduceSum", "x", keepdims=0), {"x": [5, 6]}, {}, 30, 4 * (30 + 1)),
        (_node("Transpose", "x"), {"x": [5, 6]}, {}, 0, 4 * 60),
        (_node("Flatten", "x"), {"x": [5, 2, 3]}, {}, 0, 0),
        (_node("Gather", "x", "i"), {"x": [50, 6]}, {"i": np.array([1, 2])}, 0, 8 * 2 + 2 * 4 * 12),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_counts(
    node: onnx.NodeProto,
    inputs: dict[str, list[int | str]],
    constants: dict[str, np.ndarray],
    flops: int,
    bytes_: int,
) -> None:
    assert list(count(_model([node], inputs, constants))) == [Work("n", flops, bytes_)]


def test_a_branch_costs_what_the_dearer_one_does() -> None:
    def branch(*kinds: str) -> onnx.GraphProto:
        names = ["x", *(f"{kind}_out" for kind in kinds)]
        nodes = [helper.make_node(k, [i], [o]) for k, i, o in zip(kinds, names, names[1:], strict=False)]
        return helper.make_graph(
            nodes, "b", [], [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [10])]
        )

    node = _node("If", "c", then_branch=branch("Relu"), else_branch=branch("Neg", "Abs"))
    model = _model([node], {"x": [10]}, {"c": np.array(True)})
    works = list(count(model))
    assert [w.node for w in works] == ["n", "n", "n"]
    assert sum(w.flops for w in works) == 20


def test_a_scan_costs_all_its_steps() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Identity", ["t"], ["u"])],
        "b",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "sv"],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "tu"],
    )
    node = helper.make_node("Scan", ["s0", "x"], ["last", "y"], name="n", num_scan_inputs=1, body=body)
    works = list(count(_model([node], {"s0": [4], "x": [7, 4]}, {})))
    assert max(w.flops for w in works[1:]) == 7 * 4


def test_time_is_the_roofline_and_energy_is_power_times_time() -> None:
    host = TARGET.host
    busy, fed = Work("busy", 10**9, 8), Work("fed", 8, 10**8)
    assert busy.seconds(TARGET) == host.dispatch.si + 10**9 / host.flops.si
    assert fed.seconds(TARGET) == host.dispatch.si + 10**8 / host.bandwidth.si
    cost = cost_of([busy, fed], TARGET)
    seconds = busy.seconds(TARGET) + fed.seconds(TARGET)
    assert cost.cycles == pytest.approx(seconds * TARGET.clock.si, abs=1)
    assert cost.bound_by is Bound.HOST
    assert cost.busy == {Resource.HOST: cost.cycles}
    assert sum(cost.critical_nodes.values()) == cost.cycles
    spent = energy_of(TARGET, cost.events, {}, 0.0)
    assert spent.by_cause[Event.HOST_BUSY_NS] == pytest.approx(host.power.si * seconds, rel=1e-3)
    assert spent.by_cause[Event.HOST_MEMORY_BYTE] == pytest.approx((8 + 10**8) * host.memory_energy.si)
    assert set(spent.by_node) == {"busy", "fed"}


def test_a_step_is_the_sum_of_its_parts() -> None:
    one, two = cost_of([Work("a", 10**8, 0)], TARGET), cost_of([Work("a", 0, 10**8), Work("b", 0, 0)], TARGET)
    both = merged([one, two])
    assert both.cycles == one.cycles + two.cycles
    assert both.count(Event.HOST_BUSY_NS) == one.count(Event.HOST_BUSY_NS) + two.count(Event.HOST_BUSY_NS)
    assert sum(both.critical.values()) == both.cycles


def _definition(axes: list[int | str]) -> str:
    model = _model([_node("MatMul", "x", "w")], {"x": axes}, {"w": _floats(6, 7)})
    return b64encode(model.SerializeToString()).decode()


def test_a_sequence_is_as_long_as_the_step() -> None:
    (work,) = work_of(_definition(["batch", "sequence", 6]), 11)
    assert work.flops == 2 * 11 * 7 * 6
    (flat,) = work_of(_definition(["batch*sequence", 6]), 11)
    assert flat.flops == work.flops
    (longer,) = work_of(_definition(["past + sequence", 6]), 11, past=4)
    assert longer.flops == 2 * 15 * 7 * 6


def test_an_axis_of_unknown_size_is_named() -> None:
    with pytest.raises(CimError, match="height") as caught:
        work_of(_definition(["batch", "height", 6]), 11)
    assert caught.value.diagnostics[0].help == "compile with --dim height=SIZE"


@pytest.mark.parametrize("by_head", [False, True], ids=["features", "heads"])
def test_attention_reads_its_cache_once_and_appends_to_it(by_head: bool) -> None:
    """3 queries of 4 heads x 8 on 2 KV heads, 20 tokens in the cache: both products with 23 keys."""

    def rows(heads: int) -> list[int | str]:
        return [1, heads, 3, 8] if by_head else [1, 3, heads * 8]

    heads = {} if by_head else {"q_num_heads": 4, "kv_num_heads": 2}
    node = helper.make_node(
        "Attention", ["q", "k", "v", "", "pk", "pv"], ["y"], name="n", is_causal=1, **heads
    )
    inputs = {"q": rows(4), "k": rows(2), "v": rows(2), "pk": [1, 2, 20, 8], "pv": [1, 2, 20, 8]}
    model = _model([node], inputs, {})
    model.opset_import[0].version = 24
    (work,) = count(model)
    query, new, cached = 3 * 32, 3 * 16, 20 * 16
    assert work.flops == 2 * 2 * 23 * query
    assert work.bytes == 4 * (2 * query + 2 * cached + 2 * 2 * new)
