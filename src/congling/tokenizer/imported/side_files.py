"""What the files beside a vocabulary say of its tokens and templates, taken together as by transformers 5."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.tokenizer import library
from congling.tokenizer.base import CHATML, IM_START, Roles, is_text
from congling.tokenizer.chat.encode import bare_template
from congling.tokenizer.chat.turns import PLAIN

ADDED = "added_tokens"
TEMPLATES = "chat_templates"
"""Our key for all chat templates by name; without a name they are called ``default``."""
_LARGEST = 2**24  # bytes of a configuration
_MOST_TEMPLATES = 64


def settings_of(folder: Path) -> dict[str, Any]:
    """All settings in one dictionary.

    ``generation_config.json`` wins over ``config.json`` (ends of a text alone); ``special_tokens_map.json``
    over ``tokenizer_config.json``, unless that has an ``added_tokens_decoder``: then it is not read.

    Raises:
        UserError: a file is no JSON object, no text or far too large.
    """
    ends = model_settings(folder).get("eos_token_id")
    settings: dict[str, Any] = {} if ends is None else {"eos_token_id": ends}
    tokenizer = _side_file(folder / "tokenizer_config.json")
    named = {} if "added_tokens_decoder" in tokenizer else _side_file(folder / "special_tokens_map.json")
    for values in (_side_file(folder / "generation_config.json"), tokenizer, named):
        settings |= {key: value for key, value in values.items() if value is not None}
    settings[ADDED] = _side_file(folder / f"{ADDED}.json")
    settings[TEMPLATES] = _templates(folder, tokenizer.get("chat_template"))
    return settings


def model_settings(folder: Path) -> dict[str, Any]:
    """``config.json``; empty where there is none."""
    return _side_file(folder / "config.json")


def template_of(settings: Mapping[str, Any], special: Mapping[str, int], roles: Roles) -> str:
    """The chat template called ``default``, or the only one."""
    named = settings[TEMPLATES]
    found = named.get("default") or (next(iter(named.values())) if len(named) == 1 else None)
    if isinstance(found, str) and found:
        if not is_text(found):
            raise UserError("the chat template is no text")
        return bare_template(found, roles)
    return CHATML if IM_START in special else PLAIN


def template_notes(folder: Path) -> list[str]:
    """Which chat templates of a folder are not used, in a sentence."""
    named = sorted(settings_of(folder)[TEMPLATES])
    if len(named) < 2:
        return []
    others = ", ".join(name for name in named if name != "default")
    if "default" in named:
        return [f"of the chat templates the one called default is used; left out: {others}"]
    return [f"none of the chat templates is called default, so none is used: {others}"]


def named(token: Any) -> str:
    """Text of a token, which files give as a string or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def with_added(text: str, settings: Mapping[str, Any]) -> str:
    """A ``tokenizer.json`` with the tokens that the files beside it add, behind its own."""
    listed = settings.get("added_tokens_decoder")
    rows = sorted(listed.items(), key=lambda row: str(row[0]).zfill(12)) if isinstance(listed, dict) else []
    tokens = [token for _, token in rows if isinstance(token, dict)]
    if not isinstance(listed, dict):
        tokens = [
            {"content": name}
            for name, _ in sorted(settings[ADDED].items(), key=lambda row: str(row[1]).zfill(12))
        ]
    if not tokens:
        return text
    try:
        content = json.loads(text)
        vocabulary = content["model"]["vocab"]
        known = set(vocabulary) if isinstance(vocabulary, dict) else {entry[0] for entry in vocabulary}
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        added: list[dict[str, Any]] = list(content.get("added_tokens") or ())
        known |= {token["content"] for token in added}
        following = 1 + max([*ids, *(token["id"] for token in added)])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text  # whoever parses it says what is wrong
    new = [token for token in tokens if named(token) and is_text(named(token)) and named(token) not in known]
    for index, token in enumerate(new, following):
        flags = {
            key: bool(token.get(key, False)) for key in ("single_word", "lstrip", "rstrip", "normalized")
        }
        added.append(
            {"id": index, "content": named(token), **flags, "special": bool(token.get("special", False))}
        )
    return json.dumps(content | {"added_tokens": added}, ensure_ascii=False) if new else text


def _templates(folder: Path, stated: Any) -> dict[str, Any]:
    """Chat templates by name: files win over ``tokenizer_config.json``, where one or several may stand."""
    found: dict[str, Any] = {}
    if isinstance(stated, list):
        found = {str(each.get("name")): each.get("template") for each in stated if isinstance(each, dict)}
    elif isinstance(stated, dict):
        found = {str(name): template for name, template in stated.items()}
    elif stated is not None:
        found = {"default": stated}
    files = {"default": folder / "chat_template.jinja"}
    further = folder / "additional_chat_templates"
    listed = sorted(further.glob("*.jinja"))[:_MOST_TEMPLATES] if further.is_dir() else []
    files |= {file.stem: file for file in listed}
    return found | {
        name: library.read_text(file) for name, file in files.items() if file.is_file() and _small(file)
    }


def _side_file(file: Path) -> dict[str, Any]:
    if not file.is_file() or not _small(file):
        return {}
    try:
        content = json.loads(library.read_text(file))
    except (ValueError, RecursionError):
        raise UserError("this is no JSON", where=file) from None
    if not isinstance(content, dict):
        raise UserError("this should be a JSON object", where=file)
    return content


def _small(file: Path) -> bool:
    if file.stat().st_size > _LARGEST:
        raise UserError("this file is too large for a configuration", where=file, value=file.stat().st_size)
    return True
