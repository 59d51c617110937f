"""The house as a diagram: what each wing imports of the others, read from the sources."""

from __future__ import annotations

from tests.test_walls import WINGS, imports, sources, wing


def diagram() -> str:
    """A graph in Graphviz's language, without arrows that follow from others."""
    modules = sources()
    needs: dict[str, set[str]] = {name: set() for name in WINGS if name != "__init__"}  # which has the version only
    for name, text in modules.items():
        for target in imports(name, text, modules):
            if not target.startswith(".") and wing(name) != wing(target) and wing(target) in needs:
                needs[wing(name)].add(wing(target))
    lines = [f'  "{name}"' for name in needs]
    for name, targets in needs.items():
        through = {other for target in targets for other in _below(target, needs)}
        lines += [f'  "{name}" -> "{target}"' for target in WINGS if target in targets - through]
    body = "\n".join(lines)
    return f"digraph house {{\n  rankdir=BT\n  node [shape=box, fontname=sans]\n{body}\n}}"


def _below(name: str, needs: dict[str, set[str]]) -> set[str]:
    """All that a wing reaches by others."""
    return {further for target in needs[name] for further in {target, *_below(target, needs)}}
