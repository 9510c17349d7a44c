# ruff: noqa: E501 - templates stand on one line each
"""Templates run as in transformers, texts keep their sources, and bombs are refused."""

from typing import Any

import pytest

from congling.core.errors import UserError
from congling.tokenizer.chat import sandbox
from congling.tokenizer.chat.traced import TEMPLATE, Traced, plain, sources_of

TEXT = "  Ab<|im_end|>\ncd</think>ef  "
SAID = [{"role": "user", "content": Traced(TEXT, "\2" * len(TEXT))}]

SAME = [
    "{{ messages[0].content.strip() }}", "{{ messages[0].content | trim | upper }}",
    "{{ messages[0].content.split('</think>')[-1].lstrip() }}", "{{ messages[0].content.split() | join('-') }}",
    "{{ messages[0].content.rsplit('c', 1)[0] }}", "{{ messages[0].content[2:9] }}",
    "{{ messages[0].content.partition('cd')[2] }}", "{{ messages[0].content | replace('Ab', '[x]') }}",
    "{{ '%s|%s' % (messages[0].content, 1) }}", "{{ '{}:{a}'.format(messages[0].content, a=2) }}",
    "{{ messages[0].content | indent(2) }}", "{{ messages[0].content.splitlines() | join('/') }}",
    "{{ messages[0].content ~ '!' ~ messages[0].content | length }}", "{{ messages[0] | tojson }}",
    "{{ messages[0].content | tojson(ensure_ascii=True) }}", "{{ messages[0].content.removeprefix('  ') * 2 }}",
    "{% set x %}<{{ messages[0].content }}>{% endset %}{{ x }}", "{{ messages[0].content | list | join }}",
    "{% macro f(t) %}[{{ t }}]{% endmacro %}{{ f(messages[0].content) }}", "{{ messages[0].content | reverse }}",
    "{% set ns = namespace(x='') %}{% set ns.x = ns.x + messages[0].content %}{{ ns.x }}",
    "{% if '</think>' in messages[0].content %}yes{% endif %}{{ messages[0].content.startswith(' ') }}",
    "{% generation %}{{ messages[-1].content }}{% endgeneration %}", "{{ messages[0].content | title }}",
    "{{ '=' * 3 }}{{ -2 | abs }}{{ '%03d' % 7 }}{{ '%s' | format('z') }}{{ 'a' if tools is defined else 'b' }}",
    "{{ [1, {'b': 'é', 'a': 2}] | tojson(indent=2, sort_keys=True) }}",
    "{% for k, v in messages[0] | items %}{{ k }}={{ v }}{% endfor %}{{ messages[0].get('x', 'd') }}",
    "{% for k, v in messages[0].items() %}{{ loop.index }}{{ k }}{{ loop.last }}{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}",
    "{{ messages[0].content.replace('', '.') | lower | capitalize }}", "{{ strftime_now('%Y') | length }}",
]  # fmt: skip


def run(source: str, **names: Any) -> str:
    return sandbox.run(source, SAID, add_generation_prompt=False, **names)


@pytest.mark.parametrize("source", SAME)
def test_templates_write_what_they_write_in_transformers(source: str):
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [{"role": "user", "content": TEXT}]
    (expected,), _ = utils.render_jinja_template([messages], chat_template=source)
    assert plain(run(source)) == expected


@pytest.mark.parametrize("source", SAME)
def test_no_character_of_a_text_passes_for_the_template_s(source: str):
    written = run(source)
    own = "".join(
        c for c, source in zip(plain(written), sources_of(written), strict=True) if source == TEMPLATE
    )
    assert "im_end" not in own.lower() and "think" not in own.lower() and "dne_mi" not in own


@pytest.mark.parametrize("source", [
    "{{ '{:>900000000}'.format(1) }}", "{{ (10).to_bytes(900000000, 'big') }}", "{{ 1 | round(-999999999) }}",
    "{% break %}", "{{ 1e400 | int }}", "{{ 'a' * 999999999 }}", "{{ 10 ** 99999999 }}", "{{ 'x' | indent(99999999) }}",
    "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}", "{{ strftime_now('%0999999999d') }}",
    "{% set x = range(99999) | list %}{% for i in range(99999) %}{{ 'a' in x }}{% endfor %}",
    "{{ [1] | tojson(indent=99999999) }}", "{{ '{0.__class__}'.format(1) }}", "{{ ''.__class__.__mro__ }}",
    "{{ 'a'.encode() }}", "{% include 'x' %}", "{{ nothing() }}", "{{ 'a' | nothing }}", "{% for x in %}",
    "{% set n = namespace(x=9) %}{% for i in range(999) %}{% set n.x = n.x * n.x %}{% endfor %}",
])  # fmt: skip
def test_bombs_are_one_error(source: str):
    with pytest.raises(UserError, match="the chat template"):
        run(source)


def test_long_texts_are_no_bombs():
    text = "字" * 400_000
    found = sandbox.run("{{ messages[0].content | trim }}", [{"role": "user", "content": text}])
    assert found == text


def test_a_date_can_be_fixed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400000")
    assert run("{{ strftime_now('%Y') }}") == "1972"
