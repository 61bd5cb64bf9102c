"""Decides, before anything is changed, which operators of a float graph become int8 and with which scale each tensor is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import number_of
from edgeannot_tools.graph.graph import Graph, Op, Operator
from edgeannot_tools.quantize.calibrate import Calibration
from edgeannot_tools.quantize.rules import RULES, Rule, Scales
from edgeannot_tools.quantize.scales import Recipe, ScaleZero, choose_scales, is_real, touches_real

__all__ = ["Assignment", "assign"]

FEW_WEIGHTS = 64
"""A convolution with no more weights is part of box decoding (the sum over bins of a DFL head) rather than of the network."""
UNLIKE = 8.0
"""Tensors whose ranges differ by this factor do not share a scale without harm: three of eight bits would be lost to one of them."""
MOVES = frozenset({Op.RESHAPE, Op.SQUEEZE, Op.EXPAND_DIMS, Op.TRANSPOSE, Op.SLICE, Op.STRIDED_SLICE, Op.SPLIT, Op.SPLIT_V, Op.UNPACK})
"""Operators that give numbers of their one real-valued input again, in another order or fewer."""


@dataclass(slots=True)
class Assignment:
    """The decisions; operators are known by their position."""

    float_positions: set[int] = field(default_factory=set)
    """These operators stay as they are."""
    scales: dict[int, ScaleZero] = field(default_factory=dict)
    """For every computed real-valued tensor."""
    requantized: set[tuple[int, int]] = field(default_factory=set)
    """(operator, input slot) where an input is brought to the output's scale by an operator of its own."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""


def assign(graph: Graph, calibration: Calibration, recipe: Recipe) -> Assignment:
    """Return the plan for a float graph. Raises InputError, naming operators and their places, for what cannot be int8."""
    plan = Assignment()
    tail = _tail(graph)
    unsupported = {i for i, operator in enumerate(graph.operators) if touches_real(graph, operator) and _rule(graph, operator) is None}
    mixed = _mixed_joins(graph, calibration, tail)
    use_tail = recipe.float_tail
    if use_tail is None:
        use_tail = recipe.output_type != "int8" and bool((unsupported | mixed) & tail)
    if use_tail:
        plan.float_positions |= tail
        unlike = [graph.place(graph.operators[i]) for i in sorted(mixed & tail)]
        reason = f"; it joins values of unlike ranges ({unlike[0]})" if unlike else ""
        plan.notes.append(f"{number_of(len(tail), 'operator')} after the last weights kept in float{reason}")
    elif mixed:
        place = graph.place(graph.operators[min(mixed)])
        raise InputError(
            f"{graph.where}: {place} joins values of unlike ranges, such as boxes and scores, which would share one int8 step; "
            "ask for float32 outputs (--output float), or cut the graph before it"
        )
    elif recipe.float_outputs:
        plan.float_positions |= _only_for(graph, tail, recipe.float_outputs)
    plan.float_positions -= _leading_moves(graph, plan.float_positions)
    plan.float_positions |= _giving(graph, recipe.float_tensors)
    left = unsupported - plan.float_positions
    if left and not recipe.allow_float:
        places = "; ".join(graph.place(graph.operators[i]) for i in sorted(left)[:5])
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise InputError(f"{graph.where}: no int8 kernel for {places}{more}; allow float operators, or cut the graph before them")
    if left:
        plan.notes.append(f"{number_of(len(left), 'operator')} without int8 kernel kept in float: {_kinds(graph, left)}")
        plan.float_positions |= left
    plan.scales, plan.requantized = choose_scales(graph, calibration, recipe, float_positions=plan.float_positions, tail=tail)
    return plan


def _rule(graph: Graph, operator: Operator) -> Rule | None:
    """Return the rule by which this operator can be int8, or None."""
    rule = RULES.get(graph.code(operator))
    if rule is None or rule.weights is None:
        return rule
    slots = (rule.weights.weights, rule.weights.bias)
    computed = any(slot < len(operator.inputs) and is_real(graph, operator.inputs[slot]) for slot in slots)
    return None if computed else rule


def _kinds(graph: Graph, positions: Iterable[int]) -> str:
    names = [graph.code_name(graph.operators[i]) for i in sorted(positions)]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _tail(graph: Graph) -> set[int]:
    """Return the positions of the operators that no operator with weights follows."""
    feeds_weights: set[int] = set()
    tail = set()
    for position in reversed(range(len(graph.operators))):
        operator = graph.operators[position]
        if _has_weights(graph, operator) or feeds_weights & set(operator.outputs):
            feeds_weights |= {t for t in operator.inputs if t >= 0}
        elif touches_real(graph, operator):
            tail.add(position)
    return tail


def _only_for(graph: Graph, tail: set[int], names: Collection[str]) -> set[int]:
    """Return the positions in the tail whose results reach only the outputs of these names."""
    others = {t for t in graph.outputs if graph.name(t) not in names}
    wanted = set()
    for position in sorted(tail, reverse=True):
        operator = graph.operators[position]
        if others & set(operator.outputs):
            others |= {t for t in operator.inputs if t >= 0}
        else:
            wanted.add(position)
    return wanted


def _giving(graph: Graph, names: Collection[str]) -> set[int]:
    """Return the positions of the operators that give the tensors of these names. Raises InputError for a name that there is not."""
    wanted = {graph.find(name) for name in names}
    return {i for i, operator in enumerate(graph.operators) if wanted & set(operator.outputs)}


def _leading_moves(graph: Graph, positions: set[int]) -> set[int]:
    """Return those at the front of a float part that move numbers of one tensor and change none: int8 loses nothing there and is
    smaller."""
    made = {t for i in positions for t in graph.operators[i].outputs}
    found = set()
    for position in sorted(positions):
        operator = graph.operators[position]
        if graph.code(operator) in MOVES and not made & set(operator.inputs):
            found.add(position)
            made -= set(operator.outputs)
    return found


def _has_weights(graph: Graph, operator: Operator) -> bool:
    code = graph.code(operator)
    rule = RULES.get(code)
    if rule is None or rule.weights is None:
        return bool(code == Op.BATCH_MATMUL)
    weights = operator.inputs[rule.weights.weights]
    return not graph.is_constant(weights) or int(np.prod(graph.shape(weights))) > FEW_WEIGHTS


def _mixed_joins(graph: Graph, calibration: Calibration, tail: set[int]) -> set[int]:
    """Return operators of the tail that join tensors which should not share a scale."""
    producers = graph.producers()
    found = set()
    for position in tail:
        operator = graph.operators[position]
        if graph.code(operator) not in (Op.CONCATENATION, Op.PACK):
            continue
        inputs = [t for t in operator.inputs if is_real(graph, t)]
        spans = [max(1e-6, *map(abs, calibration.widest(t))) for t in inputs]
        scored = {_is_scored(graph, producers, t) for t in inputs}
        if len(scored) > 1 or (spans and max(spans) > UNLIKE * min(spans) and True in scored):
            found.add(position)
    return found


def _is_scored(graph: Graph, producers: dict[int, Operator], tensor: int) -> bool:
    """Tell whether a tensor comes from a logistic or softmax through nothing but moves."""
    while (operator := producers.get(tensor)) is not None:
        rule = RULES.get(graph.code(operator))
        if rule is None or rule.scales is Scales.FIXED:
            return rule is not None
        if rule.scales is not Scales.SHARED:
            return False
        tensor = next((t for t in operator.inputs if is_real(graph, t)), -1)
    return False
