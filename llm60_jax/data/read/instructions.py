"""Questions and answers from the usual shapes of instruction records (playbook, section 5.2)."""

from typing import Any

SEPARATOR = "\n"  # between a question and its answer


def pairs(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(question, answer) pairs of one record; empty when it has no such shape.

    Accepted: `prompt` and `response`; `instruction`, perhaps `input`, and `output`; `instruction` and `instances`, a
    list of {input, output}. Where there is an input it stands below the instruction, a blank line between them.
    """
    if "prompt" in record:
        found = [(record["prompt"], record.get("response"))]
    else:
        instances = record.get("instances", [record])
        instances = instances if isinstance(instances, list) else []
        found = [
            (_joined(record.get("instruction"), one.get("input", "")), one.get("output"))
            for one in instances
            if isinstance(one, dict)
        ]
    return [(q, a) for q, a in found if isinstance(q, str) and isinstance(a, str) and q.strip() and a.strip()]


def _joined(instruction: Any, text: Any) -> str | None:
    text = "" if text is None else text
    if not isinstance(instruction, str) or not isinstance(text, str):
        return None
    return f"{instruction}\n\n{text}" if text.strip() else instruction
