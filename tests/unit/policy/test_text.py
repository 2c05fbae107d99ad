"""SPEC 2: YAML by its 1.2 core schema, or JSON; and texts that are neither, or too much."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from dataplane.policy import Policy, PolicyError
from dataplane.policy.reading.composer import ALIASED_MAX, DEPTH_MAX, compose_json, compose_yaml
from dataplane.policy.reading.source import read

from .conftest import Finds


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12:34:56:00:00:01", "12:34:56:00:00:01"),
        ("12:30", "12:30"),
        ("22,25", "22,25"),
        ("80-82", "80-82"),
        ("2024-12-28", "2024-12-28"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("<<", "<<"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("-.inf", float("-inf")),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ('"5"', "5"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ('!!int "5"', 5),
        ("!!float 5", 5),
        ("|\n  text\n", "text\n"),
        ("fa163e000e01", "fa163e000e01"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_by_the_core_schema(written: str, value: Any) -> None:
    """YAML 1.2.2, section 10.3.2."""
    read_value = compose_yaml(f"a: {written}", "x").value["a"]
    assert (read_value, type(read_value)) == (value, type(value))


def test_block_and_flow() -> None:
    text = "a:\n- b: {c: [1, two]}\n  d: 'e'\n- []\nf: {}\n"
    assert compose_yaml(text, "x").value == {"a": [{"b": {"c": [1, "two"]}, "d": "e"}, []], "f": {}}


def test_anchors_and_aliases() -> None:
    text = """
        security_groups:
          - id: a
            security_group_rules: &rules
              - &r {direction: ingress, protocol: tcp}
              - {direction: egress}
          - {id: b, security_group_rules: *rules}
          - {id: c, security_group_rules: [*r]}
        """
    groups = Policy.parse(text).security_groups
    assert [[rule.direction for rule in group.security_group_rules] for group in groups] == [
        ["ingress", "egress"],
        ["ingress", "egress"],
        ["ingress"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("§", "the document is empty: write security_groups and instances"),
        ("# nothing\n---\n§", "the document is empty: write security_groups and instances"),
        ("§null", "the document is empty: write security_groups and instances"),
        ("§[]", "the document is a list: write a mapping"),
        ("§text", 'the document "text" is not allowed: write a mapping'),
        ("region: a\n§---\nregion: b\n", "a second document begins here: one document a file is allowed"),
        ("a: 1\nregion: §*x", "alias *x has no anchor before it"),
        ("region: &x [§*x]", "alias *x stands inside of what it refers to"),
        ("region: §!!binary aGk=", 'the tag tag:yaml.org,2002:binary is not allowed for "aGk="'),
        ("region: §!!int five", 'the tag tag:yaml.org,2002:int is not allowed for "five"'),
        (
            "region: §!!python/object:os.system x",
            'the tag tag:yaml.org,2002:python/object:os.system is not allowed for "x"',
        ),
        ("region: §!!set {a}", "the tag tag:yaml.org,2002:set is not allowed here"),
        (
            "instances: [{id: a, addresses: [§::1]}]",
            'the YAML cannot be read: text with a colon is quoted within {} and []: write "::1"',
        ),
        (
            "instances: [{id: a, addresses: [fd00:§:]}]",
            'the YAML cannot be read: text with a colon is quoted within {} and []: write "fd00::"',
        ),
        (
            "instances: [{id: a\n§",
            "the YAML cannot be read: did not find expected ',' or '}' while parsing a flow mapping: write what is"
            " missing, or quote the text before it",
        ),
        (
            "region: §@x",
            "the YAML cannot be read: found character that cannot start any token while scanning for the next token:"
            " quote text that begins with it",
        ),
        (
            "region: a§: b",
            "the YAML cannot be read: mapping values are not allowed in this context: begin a new line, or quote text"
            " in which a colon and a space stand",
        ),
        ("region: a\ninstances:\n§\t- id: a", "the YAML cannot be read: a tab cannot stand here: indent with spaces"),
        ("region: §\x01", "the YAML cannot be read: control characters are not allowed"),
        ("§5: a", "key 5 is not text: keys are the names of fields"),
        ("region: a\n§region: b", 'key "region" is given twice: it stands on line 1 already'),
        ("conntrack:\n  timeouts: {icmp: 1, §icmp: 2}", 'key "icmp" is given twice: it stands on line 2 already'),
    ],
)
def test_what_is_no_document(finds: Finds, text: str, message: str) -> None:
    finds(text, message)


def test_duplicate_keys_do_not_hide_other_mistakes(finds: Finds) -> None:
    finds(
        "region: a\n§region: b\n? §[x]\n: 1\ninstances: [{id: a, §id: b, addresses: [§x]}]\n",
        'key "region" is given twice: it stands on line 1 already',
        "key a list is not text: keys are the names of fields",
        'key "id" is given twice: it stands on line 5 already',
        'addresses[0] "x" is no IPv4 or IPv6 address',
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"region": §}', "the JSON cannot be read: expecting value"),
        ('{"region": "a"\n§"x": 1}', "the JSON cannot be read: expecting ',' delimiter"),
        ('{"region": "a",\n\t§"region": "b"}', 'key "region" is given twice: it stands on line 1 already'),
        ('{"conntrack": {"max_entries": §NaN}}', "max_entries NaN is not allowed: write a whole number 1..2147483647"),
        (
            '{"conntrack": {"max_entries": §1e3}}',
            "max_entries 1e3 is not allowed: write a whole number 1..2147483647",
        ),
        ('{"region": §"\\ud800"}', 'region "\\ud800" has a space at its end or a character that does not print'),
    ],
)
def test_json_that_cannot_be_read(finds: Finds, text: str, message: str) -> None:
    finds(text, message, name="policy.json")
    finds(text, message, name="policy.yaml")


def test_a_file_named_json_must_be_json(finds: Finds) -> None:
    finds("§region: a", "the JSON cannot be read: expecting value", name="policy.json")
    finds(
        '{"region": "a", §}',
        "the JSON cannot be read: expecting property name enclosed in double quotes",
        name="p.json",
    )
    assert Policy.parse("{region: a}", "policy.yaml").region == "a"


def test_byte_order_mark_and_line_ends() -> None:
    for text in ("\ufeffregion: a\r\n", '\ufeff{"region":\r\n"a"}'):
        assert Policy.parse(text).region == "a"
        assert Policy.parse(text.encode()).region == "a"


def test_text_that_is_not_utf_8() -> None:
    for data, place in (
        (b"region: a\nname: \xff", "2:7: the text is not UTF-8: byte 0xff"),
        ("é: \udc80", "1:4: half of a"),
    ):
        with pytest.raises(PolicyError) as caught:
            Policy.parse(data, "p")
        assert str(caught.value).startswith(f"p:{place}")
    with pytest.raises(PolicyError, match="not UTF-8"):
        Policy.parse("region: a".encode("utf-16"))


def test_columns_count_characters() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse('{région: "é", region: 5}', "p")
    assert [mistake.column for mistake in caught.value.mistakes] == [2, 23]


@pytest.mark.parametrize(
    "text",
    [
        "region: " + "[" * 200_000,
        "\n".join(f"{' ' * n}a:" for n in range(DEPTH_MAX + 1)) + " 1",
        "- " * (DEPTH_MAX + 1) + "1",
        '{"region": ' + "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1) + "}",
        '{"region": ' + "[" * 200_000 + "]" * 200_000 + "}",
    ],
    ids=["flow", "block", "list", "json", "json, very deep"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match=f"nested more than {DEPTH_MAX} deep"):
        Policy.parse(text)


def test_an_alias_bomb_is_refused() -> None:
    """Ten references on each of nine levels would be a thousand million values."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    with pytest.raises(PolicyError, match=f"aliases repeat more than {ALIASED_MAX} values"):
        Policy.parse("\n".join(lines))


def test_numbers_of_thousands_of_digits() -> None:
    digits = "9" * 5000
    for text in (f"conntrack: {{max_entries: {digits}}}", f'{{"conntrack": {{"max_entries": {digits}}}}}'):
        with pytest.raises(PolicyError, match=r"max_entries .* is not allowed: write a whole number"):
            Policy.parse(text)


def test_places_of_json_and_yaml_agree() -> None:
    """JSON is YAML too: what finds places in a JSON text must find those that the YAML events have."""
    text = json.dumps({"a": [1, {"b": None, "c d": ["x", [], {}]}], "e": 'f,[]{}:"', "g": {"h": -1.5e3}}, indent=1)

    def flat(place: Any) -> Any:
        return (place.line, place.column, place.keys, {key: flat(part) for key, part in place.parts.items()})

    assert flat(compose_json(text, "x").root) == flat(compose_yaml(text, "x").root)


def test_values_agree_with_pyyaml_where_the_schemas_do() -> None:
    text = yaml.safe_dump({"a": [1, {"b": None, "c": ["x", [], {}, True]}], "d": "text\nof lines", "e": 1.5, "f": "5"})
    assert compose_yaml(text, "x").value == yaml.safe_load(text)
    assert read(text, "x").value == yaml.safe_load(text)
