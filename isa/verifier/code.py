"""Structure of a role's text: labels, loops, code size. What the walk through the text takes for granted."""

from __future__ import annotations

from isa import instructions as t
from isa.instruction import INSTRUCTION_BYTES
from isa.program import Program, Role

from .report import Report


def check_code(program: Program, role: Role, report: Report) -> None:
    """Report labels that do not lie ahead, loops that do not nest or are too deep, and text beyond the target's."""
    size = len(role.code) * INSTRUCTION_BYTES
    capacity = int(program.target.tile.code.si)
    if size > capacity:
        message = f"the text takes {size} bytes; the target's instruction memory has {capacity}"
        report.thing(f"role {role.name}", "E0408", message)
    if _labels_lie_ahead(role, report):
        _check_loops(program, role, report)


def _labels_lie_ahead(role: Role, report: Report) -> bool:
    fine = True
    for index, inst in enumerate(role.code):
        for field in inst.layout:
            if not field.is_label:
                continue
            target = getattr(inst, field.name)
            if not index < target <= len(role.code):
                message = f"`{field.name}` is instruction {target}; it must lie ahead, within the text"
                report.instruction(role, index, "E0407", message)
                fine = False
            elif isinstance(inst, t.Loop) and target == index + 1:
                report.instruction(role, index, "E0407", "the loop's body is empty")
    return fine


def _check_loops(program: Program, role: Role, report: Report) -> None:
    depth = int(program.target.tile.loop_depth.value)
    around: list[int] = []  # the loops around the instruction
    for index, inst in enumerate(role.code):
        while around and _end(role, around[-1]) <= index:
            around.pop()
        if isinstance(inst, t.Halt) and around:
            report.instruction(role, index, "E0407", "`halt` inside a loop; loops run to their count")
        for field in inst.layout:
            if field.is_label:
                _check_target(role, index, getattr(inst, field.name), around, report)
        if isinstance(inst, t.Loop):
            around.append(index)
            if len(around) > depth:
                report.instruction(
                    role, index, "E0407", f"loops nest {len(around)} deep; the target has {depth}"
                )


def _end(role: Role, loop: int) -> int:
    inst = role.code[loop]
    assert isinstance(inst, t.Loop)
    return inst.end


def _check_target(role: Role, index: int, target: int, around: list[int], report: Report) -> None:
    """A label may not leave the loops around it (its end is allowed: the next pass), nor enter another one."""
    if around and target > _end(role, around[-1]):
        message = f"goes to instruction {target}, out of the loop at instruction {around[-1]}"
        report.instruction(role, index, "E0407", message, "a loop's end is as far as its body can go")
        return
    inside = range(index + 1, target)
    for loop in inside:
        inst = role.code[loop]
        if isinstance(inst, t.Loop) and loop < target < inst.end and not isinstance(role.code[index], t.Loop):
            message = f"goes to instruction {target}, into the loop at instruction {loop}"
            report.instruction(role, index, "E0407", message)
            return
