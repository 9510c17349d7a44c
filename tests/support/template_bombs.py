# ruff: noqa: E501 - templates stand on one line each
"""Chat templates made to take memory or time: by padding, repeating, nesting, doubling, copying, searching.

Run as a program, it renders each under measurement and prints how it ended, a JSON line for each.
"""

import json
import sys
import time
from pathlib import Path

LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
LONG = "{% set s = 'x' * 99000 %}"
WIDE = "{% set s = '\U0001f600' * 99000 %}"
LIST = "{% set l = range(99999) | list %}"
NEST = "{% set l = [1] * 1000 %}"


def many(statement: str, size: int = 60_000) -> str:
    """A statement again and again, as far as a template may go."""
    return statement * min(1400, size // len(statement))


PADDED = [
    "{{ '{:>900000000}'.format(1) }}", "{{ '{:900000000}'.format('a') }}", "{{ '{0:>{1}}'.format(1, 900000000) }}",
    "{{ '{:.900000000f}'.format(1.5) }}", "{{ '{:,}'.format(1) }}", "{{ '{!r:>999999999}'.format('') }}",
    "{{ ('{:>900000000}' | attr('format'))(1) }}", "{{ '{:>900000000}'.format_map({}) }}", "{{ ['{:>900000000}'] | map('format', 1) | list }}",
    "{{ '%900000000d' % 1 }}", "{{ '%-900000000s' % 'a' }}", "{{ '%.900000000f' % 1 }}", "{{ '%*d' % (900000000, 1) }}",
    "{{ '%900000000d' | format(1) }}", "{{ '%(a)900000000d' % {'a': 1} }}", "{{ '%0999999999d%s' % (1, 2) }}",
    "{{ 'a'.ljust(900000000) }}", "{{ 'a'.rjust(900000000) }}", "{{ 'a'.center(900000000) }}", "{{ 'a'.zfill(900000000) }}",
    "{{ '\t'.expandtabs(900000000) }}", "{{ 'a' | center(900000000) }}", "{{ 'a b' | wordwrap(1, wrapstring='x' * 9000) }}",
    "{{ 'a' | indent(900000000) }}", "{{ 'a\nb' | indent(900000000, true) }}", "{{ [1] | tojson(indent=900000000) }}",
    "{{ [1] | tojson(indent='x' * 90000) }}", "{{ range(9999) | list | tojson(separators=('x' * 90000, ':')) }}",
    "{{ strftime_now('%0900000000d') }}", "{{ strftime_now('%Y' * 9000) }}", "{{ 'a' | truncate(5, end='x' * 900000) }}",
    "{{ [1] | batch(900000000, 'x') | list }}", "{{ [1] | slice(900000000) | list }}", "{{ [1] | slice(900000000, 'x') | list }}",
    "{{ [1] | batch(99999999999999999999, 0) | list }}", "{{ 1 | round(-999999999) }}", "{{ 1.5 | round(999999999) }}",
    "{{ (10).to_bytes(900000000, 'big') }}", "{{ (1).from_bytes('a' * 9000, 'big') }}", "{{ 'a'.encode('utf-32') * 900000000 }}",
    "{{ 1 | filesizeformat }}", "{{ 'a' | pprint }}", "{{ lipsum(n=900000) }}", "{{ lipsum(html=false, min=900000000) }}",
]  # fmt: skip

NUMBERS = [
    "{{ 10 ** 10 ** 8 }}", "{{ 2 ** 999999999 }}", "{{ 9 ** 9 ** 9 ** 9 }}", "{{ 10 ** -99999999 }}", "{{ 1e400 | int }}",
    "{{ 1e400 }}", "{{ -1e400 | int }}", "{{ ('9' * 90000) | int }}", "{{ ('f' * 90000) | int(base=16) }}",
    "{{ ('z' * 90000) | int(base=36) }}", "{{ ('9' * 90000) | float }}", "{{ 99999999999999999999 * 99999999999999999999 }}",
    "{% set n = namespace(x=9) %}" + LOOP + "{% set n.x = n.x * n.x %}" + END + "{{ n.x }}",
    "{% set n = namespace(x=9) %}" + LOOP + "{% set n.x = n.x + n.x %}" + END + "{{ n.x }}",
    "{% set n = namespace(x=1) %}" + LOOP + "{% set n.x = n.x * 2 + n.x %}" + END + "{{ n.x }}",
    "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ " + "9" * 5000 + " }}", "{{ " + "9" * 4000 + " * 2 }}", "{{ (1).bit_length() }}",
    "{% set a = ('f' * 9000) | int(base=16) %}" + many("{% set b = a // 7 %}"), "{{ 1 << 999999999 }}",
    "{{ [1.5, 2] | sum(start=1e308) * 1e308 }}", "{{ range(99999999999) | sum }}", "{{ range(0, 10 ** 9) | list }}",
    "{{ range(-99999, 99999) | list }}", "{{ range(1, 0, 0) }}",
]  # fmt: skip

REPEATED = [
    "{{ 'a' * 10 ** 9 }}", "{{ 'a' * 999999999 }}", "{{ 999999999 * 'a' }}", "{{ ('a' * 99999) * 99999 }}", "{{ [1] * 999999999 }}",
    "{{ (1, 2) * 999999999 }}", "{{ [[1] * 9000] * 9000 }}", "{{ ([range(9999) | list] * 9999) | tojson }}",
    "{{ ([LONG] * 99999) | join(',' * 9999) }}", LONG + "{{ [s] * 99999 }}", LONG + "{{ ([s] * 9999) | join }}",
    LONG + "{{ s.join(s) }}", LONG + "{{ s.join(['a'] * 9999) }}", LONG + "{{ ['a'] * 9999 | join(s) }}", LONG + "{{ s | join(s) }}",
    LONG + "{{ s.replace('x', s) }}", LONG + "{{ s.replace('', s) }}", LONG + "{{ s | replace('x', s) }}", LONG + "{{ s | replace('', s) }}",
    LONG + "{{ '{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}'.format(s) * 99 }}", "{{ ('{a}' * 30000).format(a='x' * 90000) }}",
    "{{ ('%(a)s' * 19000) % {'a': 'x' * 90000} }}", "{{ ('%s' * 40000) % (('x' * 90000,) * 40000) }}", "{{ ('{}' * 30000).format([1] * 30000) }}",
    "{{ ('\n' * 90000) | indent('x' * 90000) }}", "{{ ('a\n' * 40000) | indent(100) }}", "{{ ('&' * 99000) | e | e | e | e | e | e }}",
    "{{ ('\u0390' * 99000) | upper | upper }}", "{{ ('\x01' * 99000) | tojson | tojson | tojson | tojson }}",
    "{{ [1] | tojson(indent=16) | tojson(indent=16) * 99999 }}", "{{ (['x'] * 99999) | tojson(indent=16) }}",
    "{% set ns = namespace(l=[1] * 9000) %}{% for i in range(900) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson(indent=16) }}",
    "{{ ([[1]] * 9000) | sum(start=[]) }}", "{{ ([range(99) | list] * 9999) | sum(start=[]) | length }}", "{{ (['a'] * 9000) | sum(start='') }}",
]  # fmt: skip

DOUBLED = [
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = n.x ~ n.x %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = n.x + n.x %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = '%s%s' % (n.x, n.x) %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = '{0}{0}'.format(n.x) %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = [n.x, n.x] | join %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = n.x.replace('a', n.x) %}" + END,
    "{% set n = namespace(x='ab') %}" + LOOP + "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}" + END,
    "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = n.x + n.x %}" + END,
    "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = [n.x, n.x] %}" + END + "{{ n.x }}",
    "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = (n.x, n.x) %}" + END + "{{ n.x | tojson }}",
    "{% set n = namespace(x={}) %}" + LOOP + "{% set n.x = {'a': n.x, 'b': n.x} %}" + END + "{{ n.x }}",
    "{% set n = namespace(x={}) %}" + LOOP + "{% set n.x = dict(a=n.x, b=n.x) %}" + END + "{{ n.x }}",
    "{% set n = namespace(x=1) %}" + LOOP + "{% set n.x = n %}" + END + "{{ n }}{{ n | string }}{{ [n] }}",
    "{% set n = namespace(x=1) %}{% set n.x = [n] %}{{ n.x | tojson }}", "{% set d = {} %}{{ dict.update(d, {'a': d}) }}{{ d }}",
    "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = n.x * 2 %}" + END,
    "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x * 9 %}" + END,
    "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x | tojson | tojson %}" + END,
    "{% set n = namespace(x='&') %}" + LOOP + "{% set n.x = n.x | escape %}" + END,
    "{% set n = namespace() %}" + LONG + many("{% set n.a = s.upper() %}{% set n.b = s.lower() %}") + "{{ n }}",
    "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = f(n.x) %}" + END,
    "{% macro f() %}{{ varargs }}{% endmacro %}" + LONG + "{{ f(" + "s," * 9000 + "s) }}",
    "{% macro f() %}{{ kwargs }}{% endmacro %}" + LIST + "{{ f(" + ",".join(f"a{i}=l" for i in range(900)) + ") }}",
    LONG + "{% set c = cycler(" + "s," * 9000 + "s) %}{{ c.items }}", "{% set j = joiner('x' * 99000) %}{% for i in range(9999) %}{{ j() }}{% endfor %}",
    LONG + "{% set n = namespace(" + ",".join(f"a{i}=s" for i in range(900)) + ") %}{{ n }}",
    LONG + "{{ dict(" + ",".join(f"a{i}=s" for i in range(900)) + ") }}", LONG + "{{ [" + "s," * 9000 + "] }}", LONG + "{{ (" + "s ~ " * 900 + "s) }}",
]  # fmt: skip

LOOPED = [
    LOOP * 2 + END * 2, LOOP * 5 + "x" + END * 5, LOOP + "{{ 'x' * 9999 }}" + END, LOOP + "x" * 9000 + END, LOOP + "{{ range(99999) | sum }}" + END,
    LOOP + "{{ range(99999) | list | length }}" + END, LIST + LOOP + "{{ 'a' in l }}" + END, LIST + LOOP + "{{ l | sort | first }}" + END,
    LIST + LOOP + "{{ l | unique | list | length }}" + END, LIST + LOOP + "{{ l | map('string') | join | length }}" + END,
    LIST + LOOP + "{{ l | select('odd') | list | length }}" + END, LIST + LOOP + "{{ l | reject('in', l) | list }}" + END,
    LIST + LOOP + "{{ l | max }}{{ l | min }}" + END, LIST + LOOP + "{{ l | groupby(0) }}" + END, LIST + LOOP + "{{ l[::-1] | length }}" + END,
    LIST + LOOP + "{{ l | reverse | list | length }}" + END, LIST + LOOP + "{{ l == l[:] }}" + END, LIST + LOOP + "{{ l.index(99998) }}" + END,
    LIST + LOOP + "{{ l | tojson | length }}" + END, LIST + LOOP + "{{ l ~ '' }}" + END, LIST + LOOP + "{{ l | string | length }}" + END,
    LONG + LOOP + "{{ s.upper() | length }}" + END, LONG + LOOP + "{{ s.count('x') }}" + END, LONG + LOOP + "{{ s.split('x') | length }}" + END,
    LONG + LOOP + "{{ s | list | length }}" + END, LONG + LOOP + "{{ s == s ~ '' }}" + END, LONG + LOOP + "{{ s | title | length }}" + END,
    WIDE + LOOP + "{{ s.strip('a' * 9000) | length }}" + END, "{{ ('\u0416' * 90000).strip('\u0417' * 90000 ~ '\u0416') }}",
    LONG + LOOP + "{{ s.find('x' * 4000 ~ 'y') }}" + END, LONG + LOOP + "{{ s | wordcount }}" + END, LONG + LOOP + "{{ s | trim | length }}" + END,
    "{% for x in [1] | slice(999999999) %}{% endfor %}", "{% for c in 'x' * 99999 %}" + LOOP + END + END, LOOP + "{{ loop.length }}{{ loop.revindex }}" + END * 1,
    "{% for x in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}", "{% for x in [1, 1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(999) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}", "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{% set x = f(40) %}",
    "{% macro f() %}" + LOOP + "{{ 'x' * 900 }}" + END + "{% endmacro %}{{ f() | length }}", "{% set x %}" + LOOP + "xxxxxxxxx" + END + "{% endset %}{{ x | length }}",
    LONG + "{% set x %}" + many("{{ s }}") + "{% endset %}", WIDE + "{% set x %}" + many("{{ s }}") + "{% endset %}",
    "{% call f() %}{% endcall %}", "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call f() %}{% call f() %}{{ 'x' * 90000 }}{% endcall %}{% endcall %}",
    "{% block a %}{{ self.a() }}{% endblock %}", "".join(f"{{% block b{i} %}}{{{{ self.b{i + 1}() }}}}{{{{ self.b{i + 1}() }}}}{{% endblock %}}" for i in range(30)) + "{% block b30 %}x{% endblock %}",
    "{% filter upper %}" + LOOP + "xxxxxxxxxx" + END + "{% endfilter %}", "{% set n = namespace(f=range(9) | map('string')) %}" + LOOP + "{% set n.f = n.f | map('string') %}" + END + "{{ n.f | list }}",
]  # fmt: skip

COPIED = [
    LONG + many("{% set a = s.upper() %}"),
    *(
        start + "".join(f"{{% set a{i} = {made} %}}" for i in range(1400))
        for start in (LONG, WIDE)
        for made in (
            "s.lower()",
            "s[1:]",
            "s ~ ''",
            "s + 'a'",
            "s.replace('x', 'y')",
            "s | tojson",
            "'x' * 99000",
            "s | upper",
        )
    ),
    *(
        LIST + "".join(f"{{% set a{i} = {made} %}}" for i in range(1400))
        for made in (
            "l[1:]",
            "l + [1]",
            "[1] * 99000",
            "l | list",
            "range(99999) | list",
            "l | map('string') | list",
            "dict.fromkeys(l)",
            "l | batch(1) | list",
            "l | tojson",
        )
    ),
    *(
        LIST + many(f"{{% if {test} %}}{{% endif %}}")
        for test in ("l[1:] == l", "'a' in l", "l is in [l]", "1 is in l", "l == l", "l < l")
    ),
]

BROKEN = [
    "{% break %}", "{% continue %}", "{% for x in %}", "{% if %}", "{{ }}", "{% endfor %}", "{{ nothing() }}", "{{ 'a' | nothing }}", "{{ 1 is nothing }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% from 'x' import y %}", "{{ ''.__class__.__mro__ }}", "{{ ''['__class__'] }}",
    "{{ cycler.__init__.__globals__ }}", "{{ '{0.__class__}'.format(1) }}", "{{ self._TemplateReference__context }}", "{{ messages.append(1) }}", "{{ 'a'.encode() }}",
    "{% autoescape true %}{{ 1 }}{% endautoescape %}", "{% generation %}", "{% set a.b = 1 %}", "{{ raise_exception('x' * 99999) }}", "{{ raise_exception({}) }}", "{{ raise_exception() }}",
    "(" * 9000, "{{ " + "(" * 9000 + " }}", "{{ " + "[" * 400 + "]" * 400 + " }}", "{{ " + "-" * 9000 + "1 }}", "{{ " + "not " * 9000 + "1 }}", "{{ " + "1 + " * 9000 + "1 }}",
    "{{ a" + ".b" * 20_000 + " }}", "{{ a" + "[0]" * 9000 + " }}", "{{ a" + " | upper" * 9000 + " }}", "{{ a" + "()" * 9000 + " }}", "{% if 1 %}" * 900 + "{% endif %}" * 900,
    "{% if 1 %}{% elif 1 %}" + "{% elif 1 %}" * 2000 + "{% endif %}", "{{ a }}" * 14_000, "{{ [" + "a," * 40_000 + "] }}", "{{ 'a' " + "'a' " * 20_000 + "}}", "x" * 300_000,
    "{#" * 40_000, "{% raw %}" * 9000, "{%" + " " * 90_000, "{{" + " " * 90_000 + "}}", "\n" * 90_000 + "{%", "{%- " * 20_000, "{% for " + "a, " * 20_000 + "b in [] %}{% endfor %}",
    "{% macro f(" + ", ".join(f"a{i}" for i in range(9000)) + ") %}{% endmacro %}{{ f() }}", "{{ 1 if " * 3000 + "1", "{{ " + "a and " * 9000 + "a }}", "{{ " + "a == " * 9000 + "a }}",
    "{{ '" + "\\x00" * 20_000 + "' }}", "{{ 'a' ~ " * 9000, "{{ 1" + " is defined" * 9000 + " }}", "\ud800{{ 1 }}", "{{ '\ud800' | tojson }}", "{{ '\\ud800' * 9 }}",
]  # fmt: skip

BOMBS = [*PADDED, *NUMBERS, *REPEATED, *DOUBLED, *LOOPED, *COPIED, *BROKEN]


def resident(key: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since it was last reset)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def rendered(source: str) -> dict[str, object]:
    """How one template ended: outcome, processor seconds and memory."""
    from congling.core.errors import UserError
    from congling.tokenizer.chat import sandbox

    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    Path("/proc/self/clear_refs").write_text("5")
    before, started, outcome = resident("VmRSS"), time.process_time(), "used"
    try:
        sandbox.run(source, messages, add_generation_prompt=False, bos_token="", eos_token="")
    except UserError:
        outcome = "refused"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:300]
    seconds, growth = time.process_time() - started, resident("VmHWM") - before
    return {"source": source[:200], "outcome": outcome, "seconds": seconds, "growth": growth}


if __name__ == "__main__":
    import resource

    rendered("{{ 1 }}")
    resource.setrlimit(resource.RLIMIT_AS, (resident("VmSize") + 2**30, resource.RLIM_INFINITY))
    for bomb in BOMBS[int(sys.argv[1]) : int(sys.argv[2])] if len(sys.argv) > 1 else BOMBS:
        print(json.dumps(rendered(bomb)), flush=True)
