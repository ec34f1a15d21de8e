"""Exports of blogs: WordPress, Blogger, RSS and Atom."""

import html
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document

pytest.importorskip("trafilatura")

HEAD = '<?xml version="1.0" encoding="UTF-8" ?>\n<!-- This is a WordPress eXtended RSS file. -->\n<!-- More. -->\n'
SPACES = 'xmlns:content="c" xmlns:excerpt="e" xmlns:wp="w" xmlns:blogger="b"'


def post(content: str, kind: str = "post", status: str = "publish", title: str = "Ice") -> str:
    return (
        f"<item><title>{title}</title><content:encoded><![CDATA[{content}]]></content:encoded>"
        f"<excerpt:encoded><![CDATA[An excerpt.]]></excerpt:encoded><wp:status>{status}</wp:status>"
        f"<wp:post_type>{kind}</wp:post_type><wp:comment><wp:comment_content>Lovely!</wp:comment_content>"
        f"<wp:comment_type>comment</wp:comment_type></wp:comment></item>"
    )


def wordpress(*posts: str) -> str:
    return f'{HEAD}<rss version="2.0" {SPACES}><channel><title>Blog</title>{"".join(posts)}</channel></rss>'


def entry(content: str, kind: str = "", more: str = "") -> str:
    term = f'<category scheme="s#kind" term="http://schemas.google.com/blogger/2008/kind#{kind}"/>' if kind else ""
    return f"<entry><title>Ice</title>{term}{more}<content type='html'>{html.escape(content)}</content></entry>"


def atom(*entries: str) -> str:
    return f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" {SPACES}>{"".join(entries)}</feed>'


def test_wordpress_yields_posts_pages_and_drafts_alone(tmp_path: Path) -> None:
    data = wordpress(
        post(f"<!-- wp:paragraph --><p>{ONE}</p><!-- /wp:paragraph --><!-- wp:list --><ul><li>skates</li></ul>"),
        post("", "attachment", "inherit"),
        post("old", status="trash"),
        post("menu", "nav_menu_item"),
        post(f"<p>{TWO}</p>", "page", "draft", "Snow"),
    )
    expected = [Document("a.xml:1", "Ice", f"{ONE}\n\n- skates"), Document("a.xml:2", "Snow", TWO)]
    assert read(tmp_path / "a.xml", data) == expected


def test_blank_lines_divide_a_post_without_paragraphs(tmp_path: Path) -> None:
    content = f'[caption id="a" width="1"]A lock[/caption]\n\n{ONE}\n\n<em>{TWO}</em>\r\n\r\none,\ntwo,\nthree.'
    (text,) = texts(read(tmp_path / "a.xml", wordpress(post(content))))
    assert text.split("\n\n")[:3] == ["A lock", ONE, TWO]


def test_blogger_yields_posts_without_comments_and_settings(tmp_path: Path) -> None:
    data = atom(
        entry("template", "template"),
        entry(f"<div>{ONE}<br/><br/>{TWO}</div>", "post"),
        entry("Nice post!", "comment"),
        entry("Nice post!", more="<blogger:type>COMMENT</blogger:type>"),
        entry(TWO, more="<blogger:type>POST</blogger:type><blogger:status>LIVE</blogger:status>"),
    )
    assert texts(read(tmp_path / "a.xml", data)) == [f"{ONE}\n\n{TWO}", TWO]
    assert texts(read(tmp_path / "feed.atom", data)) == [f"{ONE}\n\n{TWO}", TWO]


def test_a_feed_of_headlines_holds_no_posts(tmp_path: Path) -> None:
    data = f"<rss><channel><item><title>T</title><description>{ONE}</description></item></channel></rss>"
    assert read(tmp_path / "a.rss", data) == []


def test_broken_and_large_posts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wordpress(post(f"<p>{ONE}</p>"), post(f"<p>{TWO}</p>"))
    results = read(tmp_path / "a.xml", whole[:-60])
    assert texts([item for item in results if isinstance(item, Document)])[0] == ONE
    assert results[-1] == Broken("a.xml", "unreadable")
    monkeypatch.setattr(items, "LARGEST", 300)
    assert read(tmp_path / "a.xml", wordpress(post("x" * 400), post(ONE)))[:1] == [Broken("a.xml:1", "too_large")]
    entity = '<!DOCTYPE rss [<!ENTITY b "x">]>' + whole.removeprefix(HEAD)
    assert read(tmp_path / "b.rss", entity) == [Broken("b.rss", "unreadable")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*"<>&[]\n", "<p>", "</div>", "[caption]", "word ", "<![CDATA["]), max_size=30))
def test_any_content_keeps_the_posts_beside_it(tmp_path: Path, parts: list[str]) -> None:
    content = "".join(parts)
    results = read(tmp_path / "a.atom", atom(entry(ONE), entry(content), entry(TWO)))
    found = texts([item for item in results if isinstance(item, Document)])
    assert (found[0], found[-1]) == (ONE, TWO)
