"""The condition language: true, not true, and refused at compile time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinship.simulator.common.tokens import ExpressionError, tokenise
from twinship.simulator.routing.condition import ConditionParser, Predicate
from twinship.simulator.routing.functions import FUNCTIONS, INQUIRIES
from twinship.simulator.routing.lexer import RULES
from twinship.simulator.routing.message import RoutedMessage

BODY = {
    "n": 20,
    "half": 0.5,
    "text": "north",
    "yes": True,
    "no": False,
    "null": None,
    "list": [1, {"k": "v"}],
    "o": {"x": 1},
    "when": "2024-05-01T10:00:00Z",
}
MESSAGE = RoutedMessage(
    source="/messages/modules/inference/outputs/predictions",
    properties={
        "label": "seven",
        "temp": "21.5",
        "word": "abc",
        "$shadowed": "mine",
        "$body.half": "9",
        "to": "app",
    },
    system={
        "connectionModuleId": "inference",
        "shadowed": "theirs",
        "to": "sys",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
    },
    body=json.dumps(BODY).encode(),
)


def compile_condition(text: str, *, twin_source: bool = False) -> Predicate:
    """Compile the text of a condition."""
    parser = ConditionParser(tokenise(text, RULES))
    predicate = parser.predicate(twin_source=twin_source)
    parser.end("an operator")
    return predicate


def holds(condition: str, message: RoutedMessage = MESSAGE) -> bool:
    """Compile a condition and apply it to a message."""
    return compile_condition(condition)(message)


TRUE = """
    true
    label = 'seven'
    label = "seven" AND word != "x"
    LABEL = 'seven'
    'a' < 'b'
    'B' < 'a'
    label <> 'eight'
    3 = 3.0
    0x1F = 31
    0Xff = 255
    0xFFFFFFFFFFFFFFFF = -1
    -1 < 0
    .5 = 0.5
    1e3 = 1000
    - (3 + 4) = -7
    3 + 4 * 2 = 11
    (3 + 4) * 2 = 14
    7 % 4 = 3
    10 - 2 - 3 = 5
    12 / 2 / 3 = 2
    -7 % 4 = -3
    1 / 0 = 1e999
    -1 / 0 < 0
    1 / -0 < 0
    'a' || 'b' || word = 'ababc'
    NOT false
    not not true
    NOT false = true
    NOT (label = 'eight')
    true or false and false
    false and false or true
    true = true
    false < true
    null = null
    null <= null
    not null
    (null and true) = null
    null or true
    true or null
    true OR undefined
    undefined or true
    is_defined(undefined ?? undefined) = false
    true or none = 'x'
    NOT (false and none = 'x')
    (none ?? label) = 'seven'
    (none ?? none ?? 'z') = 'z'
    (label ?? 'z') = 'seven'
    (as_number(label) ?? 5) = 5
    (3 % 0 ?? 7) = 7
    as_number(temp) > 20
    as_number(temp) + 1 = 22.5
    $connectionModuleId = 'inference'
    {$connectionModuleId} = "inference"
    { $connectionModuleId } = 'inference'
    $CONNECTIONmoduleid = 'inference'
    $shadowed = 'mine'
    {$shadowed} = 'theirs'
    $to = 'app'
    {$to} = 'sys'
    to = 'app'
    $body.n = 20
    $BODY.n >= 20
    20 <= $body.n
    $body.n + $body.n = 40
    $body.n * 2 - 10 = 30
    $body.n / 4 = 5
    $body.half = '9'
    {$body.half} = 0.5
    $body.text = 'north'
    $body.n != '20'
    $body.n < '20'
    $body.text != label
    $body.list[0] = 1
    $body.list[1].k = 'v'
    $body.yes
    $body.yes = true
    $body.yes AND $body.yes
    $body.no OR $body.yes
    NOT $body.no
    $body.yes AND label = 'seven'
    $body.null = null
    $body.nothing = null
    $body.nothing <> 'x'
    $body.n != null
    ($body.o ?? 3) = 3
    as_number($body.n) % 7 = 6
    $body.n = 20 and label = 'seven' and as_number(temp) > 21
"""
NOT_TRUE = """
    false
    3
    'text'
    label
    null
    undefined
    label = 'eight'
    none = 'x'
    none != 'x'
    NOT (none = 'x')
    none = 'x' or false
    none = 'x' and true
    true AND undefined
    undefined = undefined
    undefined < undefined
    (none ?? none) = 'x'
    as_number(label) = 3
    as_number(label) != 3
    null and null
    null or false
    0 / 0 = 0 / 0
    3 % 0 = 0
    1 / 0 % 2 = 0
    $none = 'x'
    {$none} != 'x'
    $body
    $body.o
    $body.o != null
    $body.list = null
    $body.when != 'x'
    $body.when = null
    $body.nothing
    $body.n
    $body.text
    $body.n = '20'
    $body.n > '20'
    $body.text + 1 = 1
    $body.yes AND 'x'
    $body.n AND true
    $body.yes OR null
    e5
    $ = 'x'
"""
REFUSED = """
    temp > 20
    20 < temp
    label = 3
    label = true
    true = 1
    null = 3
    label = null
    3 = undefined
    3 + undefined
    'a' + 'b'
    true + 1
    label * 2
    null + 1
    'a' || 3
    'a' || null
    NOT label
    NOT 3
    NOT undefined
    - label
    - $body.n
    - true
    label AND true
    true OR 'x'
    3 AND true
    true AND $body.yes
    label = 'x' OR $body.yes
    null AND undefined
    null OR undefined
    $body.yes AND null
    $body.n % 3 = 0
    $body.n = undefined
    label ?? 3
    label ?? null
    true ?? 'x'
    label ?? 'x' = 'y'
    $body[0] = 1
    $to[0] = 'x'
    3 4
    label = = 'x'
    label == 'x'
    = 'x'
    label =
    (label = 'x'
    label = 'x')
    label = 'x' label = 'y'
    3-1 = 2
    3 -1 = 2
    1+2 = 3
    a[0] = 'x'
    { label } = 'x'
    {$label = 'x'
    $body. = 1
    $body.a. = 1
    $body.a[] = 1
    $body.a[x] = 1
    $body.* = 1
    nosuch(1) = 1
    label() = 'x'
    is_defined(1,) = true
    is_defined(,) = true
    true and
    and true
    select = 'x'
    e5 = 'x'
    label && true
"""


def lines(text: str) -> list[str]:
    """The conditions of a text, one on each line."""
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("condition", lines(TRUE))
def test_true_conditions(condition: str) -> None:
    """The message passes."""
    assert holds(condition)


@pytest.mark.parametrize("condition", lines(NOT_TRUE))
def test_conditions_that_are_not_true(condition: str) -> None:
    """False, null, undefined or not a boolean: the condition compiles and no message passes (ref 4.6)."""
    assert not holds(condition)


@pytest.mark.parametrize("condition", lines(REFUSED))
def test_refused_conditions(condition: str) -> None:
    """A condition that edgeHub refuses for its types or grammar does not compile."""
    with pytest.raises(ExpressionError):
        compile_condition(condition)


TRUE_CALLS = """
    abs(-12) = 12
    ABS(as_number(temp)) = 21.5
    exp(0) = 1
    exp(4000) = 1 / 0
    abs(exp(1) - 2.718281828) < 1e-6
    power(2, 10) = 1024
    power(10, 4000) = 1 / 0
    power(-10, 4001) = -1 / 0
    power(0, -1) = 1 / 0
    square(-3) = 9
    square(1e300) = 1 / 0
    ceiling(2.1) = 3
    ceiling(-2.1) = -2
    ceiling(1 / 0) = 1 / 0
    floor(2.9) = 2
    floor(-2.1) = -3
    sign(-2) = -1
    sign(0) = 0
    sign(1 / 0) = 1
    sqrt(9) = 3
    as_number('12') = 12
    as_number(' -1.5e2 ') = -150
    as_number('1,234') = 1234
    as_number('(5)') = -5
    as_number('7-') = -7
    as_number('Infinity') = 1 / 0
    as_number(as_number('4')) = 4
    as_number($body.n) = 20
    concat('a', label, 'b') = 'asevenb'
    concat($body.text, '!') = 'north!'
    length('') = 0
    length(label) = 5
    length('😀') = 2
    lower('ÄB') = 'äb'
    upper(label) = 'SEVEN'
    substring('abcdef', 2) = 'cdef'
    substring('abc', 3) = ''
    substring('abcdef', 1, 3) = 'bcd'
    substring('abcdef', 1.9, 0) = ''
    substring(label, length(label) - 2) = 'en'
    index_of('abcdef', 'cd') = 2
    index_of('abc', 'x') = -1
    index_of('😀x', 'x') = 2
    starts_with(label, 'sev')
    ends_with(label, 'en')
    contains(label, 'eve')
    contains($body.text, 'ort')
    NOT contains(label, 'x')
    is_bool(true)
    is_bool($body.yes)
    NOT is_bool(label)
    NOT is_bool(none)
    NOT is_bool($body.n)
    is_defined(label)
    NOT is_defined(none)
    is_defined(null)
    NOT is_defined(undefined)
    NOT is_defined(undefined and true)
    is_defined($body.nothing)
    NOT is_defined($body.o)
    is_defined(3 / 0)
    NOT is_defined(3 % 0)
    NOT is_defined(-undefined)
    is_null(null)
    NOT is_null(label)
    NOT is_null(none)
    NOT is_null(3)
    is_null($body.null)
    is_null($body.n)
    NOT is_null($body.nothing)
    is_number(3)
    is_number(as_number(temp))
    is_number($body.n)
    NOT is_number(3 / 0)
    NOT is_number(temp)
    NOT is_number(as_number(label))
    NOT is_number($body.text)
    is_string(label)
    is_string('a' || 'b')
    is_string($body.text)
    NOT is_string(none)
    NOT is_string(3)
    NOT is_string($body.n)
"""
UNDEFINED_CALLS = """
    abs(as_number(label))
    abs($body.text)
    exp(3 % 0)
    power(-8, 0.5)
    power(as_number(label), 2)
    sqrt(-4)
    sign(3 % 0)
    floor(3 % 0)
    as_number('')
    as_number('1_000')
    as_number('0x10')
    as_number('1 2')
    as_number('(-5)')
    as_number(',5')
    as_number('NaN')
    as_number($body.yes)
    as_number($body.nothing)
    concat('a', none)
    concat($body.n, 'a')
    length(none)
    length($body.n)
    lower($body.null)
    upper(none)
    substring('abc', 4)
    substring('abc', -1)
    substring('abc', 3, 0)
    substring('abc', 1, 3)
    substring('abc', 1, -1)
    substring('abc', 3 % 0)
    substring('abc', 1 / 0)
    index_of(none, 'x')
    starts_with(none, 'x')
    ends_with(label, none)
    contains($body.n, 'x')
    is_bool(true and undefined)
    is_null($body.o)
"""
REFUSED_CALLS = """
    abs()
    abs(1, 2)
    abs(label)
    abs(null)
    abs(undefined)
    abs(true)
    power(2)
    power(2, label)
    sqrt('4')
    as_number(true)
    as_number(null)
    as_number()
    concat()
    concat('a')
    concat('a', 3)
    concat('a', 'b', null)
    length(3)
    lower(undefined)
    upper(true)
    substring('abc')
    substring('abc', 'a')
    substring('abc', 1, 'a')
    substring('abc', 1, 2, 3)
    substring(1, 1)
    index_of('a')
    index_of('a', 1)
    starts_with('a', null)
    ends_with(1, 'a')
    contains('a', 'b', 'c')
    is_bool()
    is_defined(1, 2)
    is_null()
    is_number()
    is_string(1, 2)
    twin_change_includes(tags.a)
"""


@pytest.mark.parametrize("condition", lines(TRUE_CALLS))
def test_functions(condition: str) -> None:
    """Each function, in any letter case, with strings, numbers and body values (ref 4.6)."""
    assert holds(condition)


@pytest.mark.parametrize("call", lines(UNDEFINED_CALLS))
def test_a_function_without_a_result_is_undefined(call: str) -> None:
    """An argument out of range, missing or of another type gives undefined, never an error."""
    assert holds(f"NOT is_defined({call})")


@pytest.mark.parametrize("call", lines(REFUSED_CALLS))
def test_a_call_without_a_matching_signature_is_refused(call: str) -> None:
    """Number and types of the arguments are checked at compile time."""
    with pytest.raises(ExpressionError):
        compile_condition(f"is_defined({call})")


TWIN = RoutedMessage(
    "/twinChangeNotifications",
    {},
    {"contentType": "application/json", "contentEncoding": "utf-8"},
    b'{"properties": {"reported": {"a": {"b": 1}, "gone": null}}}',
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("twin_change_includes(properties.reported.a)", True),
        ("Twin_Change_Includes(properties.reported.a.b) and true", True),
        ("twin_change_includes(properties.reported.gone)", True),
        ("twin_change_includes(properties.reported.c)", False),
        ("NOT twin_change_includes(properties.desired.a)", True),
    ],
)
def test_twin_change_includes(condition: str, expected: bool) -> None:
    """It is true if the notification has the path, also for an object or a removal."""
    assert compile_condition(condition, twin_source=True)(TWIN) is expected
    assert compile_condition(condition, twin_source=True)(RoutedMessage("/", {}, {}, b"")) is False


@pytest.mark.parametrize(
    "argument",
    ["", "'properties.reported.a'", "properties.", "properties.x", "tags.a[0]", "tags.a, 1", "123", "tags."],
)
def test_twin_change_includes_takes_one_path_below_a_section(argument: str) -> None:
    """Reported, desired or tags: a notification has no other sections."""
    with pytest.raises(ExpressionError):
        compile_condition(f"twin_change_includes({argument})", twin_source=True)


@pytest.mark.parametrize(
    ("condition", "column", "reason"),
    [
        ("temp > 20", 6, "as_number"),
        ("label = 'x' AND nosuch(1)", 17, "no function 'nosuch'"),
        ("true AND $body.yes", 6, "on the left"),
        ("abs('x') = 1", 1, r"abs takes \(number\), found \(string\)"),
        ("label = ", 9, "found the end"),
        ("twin_change_includes(tags.a)", 1, "twinChangeNotifications"),
        ("'a' || 3 = 'a3'", 5, r"\|\| takes"),
    ],
)
def test_a_refusal_names_the_column_and_the_remedy(condition: str, column: int, reason: str) -> None:
    """The message tells the user how to correct the route."""
    with pytest.raises(ExpressionError, match=reason) as refused:
        compile_condition(condition)
    assert refused.value.column == column


def test_a_long_text_is_converted_in_linear_time() -> None:
    """as_number reads a property of 250,000 digits and a letter in one pass."""
    long = RoutedMessage(
        "/", {"n": "1" * 250_000 + "x", "dots": "1." * 125_000, "commas": "1," * 125_000}, {}, b""
    )
    started = time.process_time()
    assert not holds("is_defined(as_number(n)) or is_defined(as_number(dots))", long)
    assert holds("is_number(as_number(commas)) or true", long)
    assert time.process_time() - started < 1.0  # quadratic: minutes


@pytest.mark.parametrize(
    "condition", ["(" * 900 + "1", "NOT " * 900 + "true", "abs(" * 300 + "1", "- " * 600 + "1"]
)
def test_deep_nesting_is_refused(condition: str) -> None:
    """A route of 4 KB could nest deeper than Python's recursion limit."""
    with pytest.raises(ExpressionError, match="nested deeper"):
        compile_condition(condition)


def test_the_length_of_a_chain_is_limited() -> None:
    """199 ORs compile and run; 800 would need 800 nested closures."""
    assert not holds(" or ".join(["false"] * 200))
    assert holds(" or ".join(["false"] * 199 + ["true"]))
    with pytest.raises(ExpressionError, match="in a chain"):
        compile_condition(" or ".join(["false"] * 800))


PIECES = """
    true false null undefined 1 -2.5 0x10 'a' "7" label none $to {$to} $x[0] as_number(temp) temp
    $body.n $body.yes $body.null $body.none $body.o $body.text
"""
values = st.sampled_from(PIECES.split())
operators = st.sampled_from([*"+-*/%=<>", "||", "??", "<=", ">=", "!=", "<>", "AND", "or"])
functions = st.sampled_from(sorted({*FUNCTIONS, *INQUIRIES}))
conditions = st.recursive(
    values,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("{} {} {}".format, inner, operators, inner),
        st.builds("NOT {}".format, inner),
        st.builds("{}({})".format, functions, st.lists(inner, max_size=3).map(", ".join)),
    ),
    max_leaves=8,
)
messages = st.builds(
    RoutedMessage,
    st.just("/messages/modules/m"),
    st.dictionaries(st.sampled_from(["label", "temp", "to", "$to"]), st.text(max_size=5) | st.just("1e400")),
    st.just(MESSAGE.system),
    st.binary(max_size=20) | st.just(MESSAGE.body) | st.just(b'{"n": NaN, "text": "\\ud800", "o": 1e999}'),
)


@settings(max_examples=400)
@given(conditions, messages)
def test_a_compiled_condition_never_raises(condition: str, message: RoutedMessage) -> None:
    """It returns true or false for every message."""
    try:
        predicate = compile_condition(condition)
    except ExpressionError:
        return
    assert predicate(message) in (True, False)


@given(st.text("()'\"$.{}ab1 =<>!|?,+-*/%[]\\", max_size=40) | conditions.map(lambda text: text[1:]))
def test_random_text_raises_only_condition_errors(text: str) -> None:
    """Random text is refused or compiles."""
    try:
        compile_condition(text)
    except ExpressionError as error:
        column = error.column
    else:
        return
    assert 1 <= column <= len(text) + 1
