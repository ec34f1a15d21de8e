"""The reader of LaTeX: what its prose becomes."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import read, texts

from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup.tex import latex

ESSAY = r"""\documentclass[12pt]{article}
\usepackage[utf8]{inputenc} % input
\newcommand{\ship}[1]{\emph{#1}}
\newcommand{\HMS}{H.M.S.\ }
\title[Short]{The \emph{Old} Ferry\thanks{To my sister.}}
\author{A. Writer}
\begin{document}
\maketitle
\tableofcontents
\section{The quay}\label{sec:quay}
The river had risen in the night, and the \emph{noise} of it
woke \textbf{everyone}. % nobody slept
She said: ``It's late,'' and then---slowly---sat down~\cite{berg}.
%
The \HMS \ship{Heron} lay at pages 10--12.\footnote{He said so twice to anyone who asked him.}

As I said in Section~\ref{sec:quay} (see \cite{berg}), it cost \$40 \& 5\,\%.\footnote{See Berg, p. 4.}
\end{document}
Not read.
"""


def prose(source: str) -> str:
    return latex.prose(source)[1]


def test_an_essay_is_read_without_its_commands(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "a.tex", ESSAY)
    assert isinstance(item, Document)
    assert item.title == "The Old Ferry"
    assert item.text.split("\n\n") == [
        "The quay",
        "The river had risen in the night, and the noise of it woke everyone. She said: \u201cIt\u2019s late,\u201d "
        "and then\u2014slowly\u2014sat down. The H.M.S. Heron lay at pages 10\u201312.",
        "As I said in Section 1, it cost $40 & 5 %.",
        "He said so twice to anyone who asked him.",
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            r"Zo\"e, caf\'{e}, \c{c}a, \v{S}\'{\i}, na\"{\i}ve, \AA{}s, stra\ss e, \oe uvre",
            "Zoë, café, ça, Ší, naïve, Ås, straße, œuvre",
        ),
        (r"{\em so} and {\itshape this \bfseries too}.", "so and this too."),
        (r"({\em so})", "(so)"),
        (r"\textcolor{red}{Red} \href{http://a.org/b%20c}{words} here", "Red words here"),
        (r"see \url{http://a.org/b%20c} now", "see http://a.org/b%20c now"),
        (r"\enquote{He said \enquote{no} twice}, she wrote", "\u201cHe said \u2018no\u2019 twice\u201d, she wrote"),
        (r"\lettrine{T}{he river} rose", "The river rose"),
        (r"It was \verb|a % b| there", "It was a % b there"),
        (r"It was \verb|| there", "It was there"),
        (r"\begin{description}\item[Boat]\end{description}", "- Boat:"),
        (r"\begin{description}\item[Boat]", "- Boat:"),
        (r"\begin{odd}\item[Boat] One.\end{even}\end{odd}\section*{Two}\cite", "[Boat] One.\n\nTwo"),
        (r"the 19\textsuperscript{th} century \ldots{} and \LaTeX", "the 19th century ... and LaTeX"),
        (r"a\index{word} b \label{x}c\vspace{2em} d\hspace*{3pt} e", "a b c\n\nd e"),
        (r"\paragraph{On boats.} They float.", "On boats. They float."),
        (r"\unknown[opt]{kept words} and \other{sec:x}{2cm} more", "kept words and more"),
        (r"as \citet{berg1911} says, and in \cite{smith2004} too \citep[p.~4]{x}.", "as Berg says, and in Smith too."),
        (r"as shown on page~\pageref{x} (see Figure~\ref{none}).", "as shown."),
        (r"\section{The quay}\label{q}As shown in \ref{q} on page~\pageref{q}.", "The quay\n\nAs shown in 1."),
        ("one\n% a remark\ntwo", "one two"),
        ("one%\ntwo", "onetwo"),
        ("one\n\n% a remark\n\ntwo", "one\n\ntwo"),
        ("one\r\n\r\ntwo\r\nthree", "one\n\ntwo three"),
        (r"one\par two\\three\\[2pt]four", "one\n\ntwo\nthree\nfour"),
        (r"\begin{quote}One\end{quote}Two", "One\n\nTwo"),
        (r"\begin{figure}[h]\includegraphics{a}\caption{A boat.}\end{figure}One", "One"),
        (r"\begin{multicols}{2}One\end{multicols}", "One"),
        (
            r"\begin{verse}[4cm] The river rose \\ and took the mill \\" "\n\n" r"The boat \\ was green \end{verse}",
            "The river rose\nand took the mill\n\nThe boat\nwas green",
        ),
        (
            r"\begin{itemize}\item[--] one \item two \begin{enumerate} \item in \item side \end{enumerate} \item three"
            r"\end{itemize}",
            "- one\n- two\n  1. in\n  2. side\n- three",
        ),
        (
            r"\begin{description}\item[Boat] It floats.\item[Oar:] It does not.\end{description}",
            "- Boat: It floats.\n- Oar: It does not.",
        ),
        ("\\begin{verbatim}\n% x\n\\y{z}\n\n  w\n\\end{verbatim}\nOne", "```\n% x\n\\y{z}\n  w\n```\n\nOne"),
        (r"\iffalse gone \fi here", "here"),
        (r"\def\mill#1{the #1 mill}We saw \mill{old}.", "We saw the old mill."),
        (r"\newcommand{\x}[2][deep]{#1 #2}\x{river} \x[wide]{sea}", "deep river wide sea"),
        (r"\parindent=0pt \vskip 12pt plus 2pt One \hskip 3em two", "One two"),
        (r"\letter{x}\opening{Dear Tom,} One. \closing{Yours,}", "x\n\nDear Tom, One.\n\nYours,"),
    ],
)
def test_commands_become_text(source: str, text: str) -> None:
    assert prose(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "If $n$ is $3 \\times 4$ m$^2$ at $30^\\circ$, the $n^{th}$ goes.",
            "If n is 3 \u00d7 4 m$^2$ at 30°, the nth goes.",
        ),
        (r"So $\frac{a}{b}$ and \(\alpha\) stay.", r"So $\frac{a}{b}$ and $\alpha$ stay."),
        (r"We paid $5 for it.", "We paid $5 for it."),
        (r"It is true. \[ \int f = 1 \] Then it rained.", "It is true. Then it rained."),
        (r"It is true. So $$\int f$$ where $f$ is odd. Then it rained.", "It is true. Then it rained."),
        (r"It holds: \begin{align} a &= b \\ c &= \int d \end{align} Then it rained.", ""),
        (r"So \[ E = mc^2 \] holds.", "So E = mc² holds."),
    ],
)
def test_formulas(source: str, text: str) -> None:
    assert prose(source) == text


def test_a_maths_book_carries_the_evidence_that_the_rules_look_for() -> None:
    from llm60_jax.config import Exclude
    from llm60_jax.data.clean import screening

    paragraph = (
        r"Let $\alpha_{n}$ be a sequence with $\lim_{n\to\infty} \alpha_n = \beta$, so that $\sum \alpha_n^2$ exists."
    )
    assert screening.screen(prose("\n\n".join([paragraph] * 10)), Exclude()).reason == "math"


def test_a_source_without_a_preamble_and_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "a.tex", "\\chapter{One}\nThe caf\u00e9 of Zo\u00eb was shut.".encode("mac_roman"))
    assert isinstance(item, Document)
    assert (item.title, item.text, item.repaired) == ("a.tex", "One\n\nThe café of Zoë was shut.", True)
    assert read(tmp_path / "b.tex", bytes(range(256)) * 4) == [Broken("b.tex", "not_text")]


def test_plain_tex_is_read() -> None:
    source = (
        "\\hsize=5in\n\\centerline{\\bf The Boat}\n\\medskip\nOne river, ``two'' mills."
        "\\footnote*{Only {\\it one} of them still grinds.}\n\\bye\n"
    )
    assert prose(source) == "The Boat\n\nOne river, “two” mills.\n\nOnly one of them still grinds."


@pytest.mark.parametrize(
    "mark",
    [
        "{",
        "[",
        "}",
        "\\",
        "$",
        "$$",
        "\\[",
        "\\(",
        "\\cite{",
        "\\footnote{",
        "\\section{",
        "\\begin{verbatim}",
        "\\begin{a}",
        "\\end{a}",
        "\\item[",
        "\\enquote{",
        "\\iffalse",
        "%",
        "\\verb|",
        "\\href{",
        "\\begin{equation}",
        "\\def\\a#1{",
        "~\\ref{a}",
        "\\\\[",
        "\\'",
        "\\begin{itemize}\\item ",
        "(\\cite{a} ",
        "\\lettrine{",
        "`",
        "\n\n\\title{",
        "\\hskip",
        "\\newcommand{\\a}[",
    ],
)
def test_long_runs_of_a_mark_end_soon(mark: str) -> None:
    prose(mark * 20_000)
    prose("One " + mark * 5_000 + " two.\n" + "}" * 5_000)


def test_macros_cannot_grow_without_end() -> None:
    names = "abcdefghij"
    bomb = "".join(
        rf"\newcommand{{\{a}}}{{\{b}\{b}\{b}\{b}\{b}\{b}\{b}\{b}\{b}\{b}}}" for a, b in itertools.pairwise(names)
    )
    assert len(prose(bomb + r"\newcommand{\j}{word }" + r"\a " * 1000)) < 5_000_000
    assert prose(r"\def\x{\x\x}\x") == ""


PIECES = (
    *"ab {}[]$\\%~`'-&\n",
    "\\emph{",
    "\\item ",
    "\\begin{itemize}",
    "\\end{itemize}",
    "\\footnote{",
    "\\[",
    "\\]",
    "\\section{",
    "\\def\\a#1{",
    "\\a",
    "\\cite{x}",
    "\\verb|",
    "\\begin{verse}",
    "\\end{verse}",
    "\\begin{verbatim}",
    "\\title{",
    "\\begin{figure}",
    "\\end{figure}",
    "\\enquote{",
)


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_source_becomes_tidy_text(source: str) -> None:
    title, text = latex.prose(source)
    assert "\n\n\n" not in text
    assert text == text.strip()
    assert not any(mark in title + text for mark in "\x00\x01\x02\x03\x04\x05")
    if "verbatim" not in source:
        assert "  " not in text.replace("\n  ", "\n")


def test_a_book_on_mathematics_is_dropped_as_such() -> None:
    case = Path(__file__).resolve().parents[2] / "shared" / "data" / "dirty" / "math_41568.tex"
    if not case.is_file():
        pytest.skip("the data is not here")
    from llm60_jax.config import Exclude
    from llm60_jax.data.clean import screening
    from llm60_jax.data.read import kinds

    (document,) = texts(list(kinds.read(case, case.name, "text", "title")))
    assert screening.screen(document, Exclude()).reason == "math"
