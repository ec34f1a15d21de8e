"""Questions and answers from the common forms of instruction records (playbook, section 5.2)."""

from typing import Any

SEPARATOR = "\n"  # between a question and its answer


def pairs(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the (question, answer) pairs of a record; empty if it has none of the accepted forms.

    Accepted are `prompt` and `response`; `instruction`, `output` and perhaps `input`; `instruction`
    and `instances`, a list of {input, output}. An input follows its instruction after a blank line.
    """
    if "prompt" in record:
        candidates = [(record["prompt"], record.get("response"))]
    else:
        instances = record.get("instances", [record])
        instances = instances if isinstance(instances, list) else []
        candidates = [
            (_question(record.get("instruction"), instance.get("input", "")), instance.get("output"))
            for instance in instances
            if isinstance(instance, dict)
        ]
    return [(q, a) for q, a in candidates if isinstance(q, str) and isinstance(a, str) and q.strip() and a.strip()]


def _question(instruction: Any, text: Any) -> str | None:
    text = "" if text is None else text
    if not isinstance(instruction, str) or not isinstance(text, str):
        return None
    return f"{instruction}\n\n{text}" if text.strip() else instruction
