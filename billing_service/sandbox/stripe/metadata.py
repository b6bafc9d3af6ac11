"""Metadata: merged key by key; an empty value removes its key, an empty string all of them."""

from __future__ import annotations

from .problems import invalid


def merged(stored: dict, given) -> dict:
    if given == "":
        return {}
    answer = dict(stored)
    for key, value in given.items():
        if len(key) > 40:
            raise invalid(f"Metadata keys can be at most 40 characters long: {key[:40]}…", f"metadata[{key}]")
        if len(value) > 500:
            raise invalid(
                f"Metadata values can have up to 500 characters, but you passed in a value that is "
                f"{len(value)} characters. Invalid value: {value[:40]}…",
                f"metadata[{key}]",
            )
        if value == "":
            answer.pop(key, None)
        else:
            answer[key] = value
    if len(answer) > 50:
        raise invalid(f"Metadata can have at most 50 keys, but {len(answer)} keys were passed.", "metadata")
    return answer


def cleared(values: dict) -> dict:
    """Stripe takes an empty string for null."""
    return {name: None if value == "" else value for name, value in values.items()}
