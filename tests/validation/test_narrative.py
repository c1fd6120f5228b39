"""Narrative: well-formed XHTML of basic formatting, without anything that runs.

https://hl7.org/fhir/R4/narrative.html (txt-1, txt-2; "The XHTML content SHALL NOT contain a head, a body element, external stylesheet
references, deprecated elements, scripts, forms, base/link/xlink, frames, iframes, objects or event related attributes")
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.judge import issues_of, patient, verdict


def told(content: str, root: str = '<div xmlns="http://www.w3.org/1999/xhtml">') -> dict[str, Any]:
    return patient(text={"status": "generated", "div": f"{root}{content}</div>"})


@pytest.mark.parametrize(
    "content",
    [
        "x",
        "王小明 &amp; Söhne &#160; &#x4e2d; &lt;b&gt;",
        "<p>a<br/>b</p><hr/><h1>t</h1><h6>u</h6>",
        '<table border="1"><caption>c</caption><thead><tr><th>h</th></tr></thead><tbody><tr><td colspan="2">a</td></tr></tbody></table>',
        "<ul><li>a</li></ul><ol><li>b</li></ol><dl><dt>t</dt><dd>d</dd></dl>",
        '<a name="here"/><a href="#here">x</a><a href="http://example.org/?a=1&amp;b=2">y</a><a href="Patient/1">z</a>',
        '<img src="#i"/><img src="http://example.org/a.png" alt="a"/>',
        '<img src="data:image/png;base64,AA=="/>',
        '<p style="color: red" class="c" id="i" title="t" lang="zh" xml:lang="zh" dir="ltr">x</p>',
        "<b>a</b><i>b</i><tt>c</tt><code>d</code><pre>e</pre><sub>f</sub><sup>g</sup><span>h</span><blockquote>i</blockquote><q>j</q>",
        "<!-- a comment --><p>x</p>",
        "<p><![CDATA[a < b]]></p>",
    ],
)
def test_basic_formatting_is_taken(content: str) -> None:
    assert verdict(told(content)) == (200, [])


@pytest.mark.parametrize(
    "content",
    [
        "x<script>alert(1)</script>",
        "x<SCRIPT>alert(1)</SCRIPT>",
        '<p onclick="alert(1)">x</p>',
        '<img src="x" onerror="alert(1)"/>',
        '<p onMouseOver="x">x</p>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" JavaScript:alert(1)">x</a>',
        '<a href="&#106;avascript:alert(1)">x</a>',
        '<a href="java&#9;script:alert(1)">x</a>',
        '<a href="java&#10;script:alert(1)">x</a>',
        '<a href="vbscript:x">x</a>',
        '<a href="data:text/html;base64,PHNjcmlwdD4=">x</a>',
        '<a href="data:image/svg+xml,x">x</a>',
        '<img src="data:text/html,x"/>',
        '<img src="javascript:x"/>',
        '<iframe src="http://x"/>x',
        '<object data="http://x"/>x',
        '<embed src="http://x"/>x',
        '<form action="http://x"><input name="a"/></form>x',
        "<button>x</button>",
        '<link rel="stylesheet" href="http://x"/>x',
        "<style>p {color: red}</style>x",
        '<base href="http://x"/>x',
        "<head><title>x</title></head>",
        "<body>x</body>",
        '<meta http-equiv="refresh" content="0"/>x',
        '<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>',
        '<math xmlns="http://www.w3.org/1998/Math/MathML"/>x',
        '<p xmlns="urn:other">x</p>',
        '<x:script xmlns:x="http://www.w3.org/1999/xhtml">x</x:script>',
        '<video src="x"/>x',
        '<p formaction="x">x</p>',
        '<p srcdoc="x">x</p>',
        "<font>x</font>",
        "<marquee>x</marquee>",
        "<div><custom-tag/>x</div>",
    ],
)
def test_what_runs_or_leads_outside_is_refused(content: str) -> None:
    """txt-1"""
    (issue,) = issues_of(told(content))
    assert (issue.code, issue.expression, issue.severity, issue.syntax) == ("invariant", ("Patient.text.div",), "error", False)
    assert "txt-1" in issue.diagnostics


@pytest.mark.parametrize(
    "content", ["", " ", "<p/>", "<p> </p>", "<br/>", '<img alt="no source"/>', "<p>\n</p>", "<!-- x -->", "&#32;&#10;"]
)
def test_there_is_some_content(content: str) -> None:
    """txt-2: text that is not white space, or an image with a source."""
    (issue,) = issues_of(told(content))
    assert (issue.code, issue.expression, issue.severity) == ("invariant", ("Patient.text.div",), "error")
    assert "txt-2" in issue.diagnostics


def test_an_empty_div_printed_over_two_lines_is_a_warning() -> None:
    """As in the official example eventdefinition-example (docs/decisions/0011-flawed-examples.md)."""
    (issue,) = issues_of(told("\n    "))
    assert issue.severity == "warning" and "txt-2" in issue.diagnostics


@pytest.mark.parametrize(
    "div",
    [
        "x",
        "<div",
        '<div xmlns="http://www.w3.org/1999/xhtml">x',
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>x</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><b><i>x</b></i></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">a & b</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">a < b</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">a ]]> b</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><p class=x>x</p></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><br>x</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">a&nbsp;b</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">x</div><div xmlns="http://www.w3.org/1999/xhtml">y</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">\u0001</div>',
        '<!DOCTYPE div [<!ENTITY x "y">]><div xmlns="http://www.w3.org/1999/xhtml">&x;</div>',
        '<!DOCTYPE div SYSTEM "file:///etc/passwd"><div xmlns="http://www.w3.org/1999/xhtml">x</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><p a="1" a="2">x</p></div>',
    ],
)
def test_what_is_no_xhtml_cannot_be_read(div: str) -> None:
    status, found = verdict(patient(text={"status": "generated", "div": div}))
    assert (status, found) == (400, [("value", "Patient.text.div")])


@pytest.mark.parametrize(
    "root", ["<div>", '<div xmlns="urn:x">', '<div xmlns="http://www.w3.org/1999/xhtml/">', '<p xmlns="http://www.w3.org/1999/xhtml">']
)
def test_the_root_is_a_div_of_the_xhtml_namespace(root: str) -> None:
    close = "</p>" if root.startswith("<p") else "</div>"
    assert verdict(patient(text={"status": "generated", "div": f"{root}x{close}"})) == (422, [("invariant", "Patient.text.div")])


def test_a_narrative_has_status_and_div() -> None:
    assert verdict(patient(text={"status": "generated"})) == (422, [("required", "Patient.text.div")])
    assert verdict(told("x") | {"text": {"div": told("x")["text"]["div"]}}) == (422, [("required", "Patient.text.status")])
    assert verdict(patient(text={"status": "made", "div": told("x")["text"]["div"]})) == (422, [("code-invalid", "Patient.text.status")])


@pytest.mark.parametrize("value", [1, None, True, {}, ["x"], ""])
def test_a_div_is_a_string(value: Any) -> None:
    assert verdict(patient(text={"status": "generated", "div": value})) == (400, [("structure", "Patient.text.div")])


def test_entities_that_would_grow_are_not_read() -> None:
    bomb = '<!DOCTYPE div [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><div xmlns="http://www.w3.org/1999/xhtml">&b;</div>'
    assert verdict(patient(text={"status": "generated", "div": bomb}))[0] == 400


def test_narratives_of_contained_resources_and_sections_are_judged_too() -> None:
    bad = told("<script/>x")["text"]
    section = {
        **{
            "resourceType": "Composition",
            "status": "final",
            "type": {"text": "x"},
            "date": "2024",
            "author": [{"display": "x"}],
            "title": "t",
        },
        "section": [{"title": "s", "text": bad}],
    }
    assert verdict(section) == (422, [("invariant", "Composition.section[0].text.div")])
