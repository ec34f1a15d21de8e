"""Pages from templates."""

import jinja2
import pytest

from llm60_jax.machine import pages


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "page.html"
    path.write_text('{% extends "base.html" %}{% block body %}<p title="{{ value }}">{{ value }}</p>{% endblock %}')
    return path


def test_a_page_escapes_what_it_shows(template):
    page = pages.render(template, value='<b>"bold"</b>')
    assert page.startswith("<!doctype html>")
    assert '<p title="&lt;b&gt;&#34;bold&#34;&lt;/b&gt;">&lt;b&gt;&#34;bold&#34;&lt;/b&gt;</p>' in page


def test_a_page_fetches_nothing(template):
    page = pages.render(template, value="x")
    assert "--grid:" in page  # the style is inside
    assert not [word for word in ("http", "<link", "<script", "@import", "url(") if word in page]


def test_a_value_that_is_missing_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="'value' is undefined"):
        pages.render(template)
