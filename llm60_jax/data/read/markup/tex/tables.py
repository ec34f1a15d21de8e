"""What the commands and environments of LaTeX mean for its text."""

# Commands by their arguments: "d" drops one, "k" keeps one. Options in brackets are dropped.
ARGUMENTS = {
    name: form
    for form, names in {
        "d": (
            "usepackage RequirePackage documentclass documentstyle label input include includeonly subfile "
            "bibliography bibliographystyle addbibresource nocite index glossary pagestyle thispagestyle "
            "pagenumbering "
            "vspace hspace includegraphics graphicspath color pagecolor selectlanguage hyphenation "
            "date author "
            "thanks marginpar todo institute address email affil keywords hypersetup geometry captionsetup lstset "
            "tikz "
            "usetikzlibrary newcounter stepcounter refstepcounter newlength bibitem phantom hphantom "
            "vphantom "
            "linespread enlargethispage needspace stretch setstretch caption captionof footnotemark nomenclature "
            "signature location telephone pdfbookmark gdef xdef edef newif arabic roman Roman alph Alph value "
            "usefont "
            "citeauthoryear typeout special write message definecolorscheme theoremstyle pgfplotsset sisetup "
            "lhead rhead "
            "chead lfoot rfoot cfoot fancyhead fancyfoot fancyhf newacronym makeglossaries ProvidesPackage tag "
            "includepdf "
            "setmainfont setsansfont setmonofont setmainlanguage setotherlanguage setdefaultlanguage markright"
        ),
        "dd": (
            "setlength addtolength setcounter addtocounter rule markboth definecolor newtheorem fontsize "
            "raggedbottom "
            "DeclareMathOperator newfontfamily setlist counterwithin numberwithin settowidth titlespacing "
            "bookmarksetup "
            "newcolumntype substitutefont"
        ),
        "ddd": "addcontentsline DeclareFontShape titleformat definecolour newenvironment renewenvironment glsentry",
        "dk": "textcolor href foreignlanguage parbox raisebox scalebox colorbox hyperlink hypertarget rotatebox",
        "ddk": "multicolumn multirow fcolorbox resizebox ifthenelse",
    }.items()
    for name in names.split()
}  # fmt: skip

HEADINGS = {
    "part": 0, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "poemtitle": 3, "addchap": 1,
    "addsec": 2, "chapterstyle": 4, "minisec": 4, "scene": 2, "act": 1, "frametitle": 3, "PoemTitle": 3,
}  # fmt: skip
NOTES = frozenset("footnote footnotetext endnote sidenote marginnote pagenote tablefootnote".split())
QUOTES = frozenset("enquote textquote say foreignquote blockquote textquotedbl q".split())
CITES = frozenset(
    "cite citep parencite autocite footcite supercite smartcite citealp citenum citeyear citeyearpar fullcite "
    "footfullcite textsuperscriptcite cites parencites autocites citetitle".split()
)
NAMED_CITES = frozenset("citet textcite citeauthor citealt Citet Textcite textcites Citeauthor".split())
REFERENCES = frozenset("ref eqref nameref subref".split())
NAMED_REFERENCES = frozenset("autoref cref Cref vref Vref".split())
PAGE_REFERENCES = frozenset("pageref vpageref autopageref cpageref".split())
# Commands that end a paragraph.
BREAKS = frozenset(
    "par newpage clearpage cleardoublepage pagebreak bigskip medskip smallskip vspace vskip vfill maketitle "
    "tableofcontents hrule hline centerline opening closing encl cc ps bye".split()
)

SYMBOLS = {
    "ldots": "...", "dots": "...", "textellipsis": "...", "dotfill": " ", "hfill": " ", "quad": " ", "qquad": " ",
    "enspace": " ", "thinspace": " ", "space": " ", "textbackslash": "\\", "textasciitilde": "~",
    "textasciicircum": "^", "textbar": "|", "textless": "<", "textgreater": ">", "textunderscore": "_",
    "textbraceleft": "{", "textbraceright": "}", "textdollar": "$", "lbrace": "{", "rbrace": "}", "LaTeX": "LaTeX",
    "TeX": "TeX",
    "LaTeXe": "LaTeX2e", "XeLaTeX": "XeLaTeX", "XeTeX": "XeTeX", "BibTeX": "BibTeX", "S": "\u00a7", "P": "\u00b6",
    "pounds": "\u00a3", "textsterling": "\u00a3", "euro": "\u20ac", "texteuro": "\u20ac", "EUR": "\u20ac",
    "copyright": "\u00a9", "textcopyright": "\u00a9", "textregistered": "\u00ae", "texttrademark": "\u2122",
    "textdegree": "\u00b0", "degree": "\u00b0", "textendash": "\u2013", "textemdash": "\u2014",
    "textquoteleft": "\u2018", "textquoteright": "\u2019", "lq": "\u2018", "rq": "\u2019",
    "textquotedblleft": "\u201c", "textquotedblright": "\u201d", "textquotesingle": "'", "quotedblbase": "\u201e",
    "guillemotleft": "\u00ab", "guillemotright": "\u00bb", "textbullet": "\u2022", "textperiodcentered": "\u00b7",
    "textonehalf": "\u00bd", "textonequarter": "\u00bc", "textthreequarters": "\u00be", "textcent": "\u00a2",
    "dag": "", "ddag": "", "slash": "/", "nobreakspace": " ", "textasciiacute": "'", "textsection": "\u00a7",
}  # fmt: skip
LETTERS = {
    "ss": "\u00df", "ae": "\u00e6", "AE": "\u00c6", "oe": "\u0153", "OE": "\u0152", "o": "\u00f8", "O": "\u00d8",
    "aa": "\u00e5", "AA": "\u00c5", "l": "\u0142", "L": "\u0141", "i": "i", "j": "j", "dh": "\u00f0", "DH": "\u00d0",
    "th": "\u00fe", "TH": "\u00de", "dj": "\u0111", "DJ": "\u0110", "ng": "\u014b", "SS": "SS",
}  # fmt: skip
CHARACTERS = {" ": " ", "\n": " ", "\t": " ", ",": " ", ";": " ", ":": " ", "/": "", "-": "", "@": "", "!": ""}
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "H": "\u030b", "k": "\u0328", "u": "\u0306", "r": "\u030a", "d": "\u0323",
    "b": "\u0331",
}  # fmt: skip

GONE = frozenset(
    "equation align alignat flalign gather multline eqnarray displaymath subequations math dmath figure "
    "table tabular "
    "tabularx tabulary tabbing longtable supertabular sidewaystable sidewaysfigure wrapfigure wraptable "
    "thebibliography tikzpicture picture pspicture algorithm algorithmic array matrix CCSXML comment "
    "theindex thenomenclature "
    "filecontents titlepage prooftree forest axis tikzcd lilypond music references bibliography".split()
)
DISPLAYS = frozenset(
    "equation align alignat flalign gather multline eqnarray displaymath dmath subequations array math".split()
)
RAW = ("verbatim", "Verbatim", "lstlisting", "minted", "alltt", "comment", "filecontents", "listing", "code")
LISTS = {
    "itemize": "-",
    "enumerate": "1",
    "description": ":",
    "compactitem": "-",
    "compactenum": "1",
    "inparaenum": "1",
}
# Arguments after \begin{...} that are no text.
ENVIRONMENT_ARGUMENTS = {
    "multicols": 1, "minipage": 1, "adjustwidth": 2, "spacing": 1, "letter": 1, "list": 2, "otherlanguage": 1,
    "thebibliography": 1, "addmargin": 1, "longtable": 1, "tabular": 1, "changemargin": 2, "hangparas": 2,
}  # fmt: skip
COUNTED = {"figure": "Figure", "table": "Table", "equation": "Equation", "align": "Equation"}
# Lengths that plain TeX sets without brackets: \parindent=0pt.
SETTINGS = frozenset(
    "vskip hskip kern parindent parskip hsize vsize baselineskip leftskip rightskip topskip hoffset voffset "
    "textwidth textheight oddsidemargin evensidemargin topmargin lineskip raise lower moveleft moveright "
    "hangindent hangafter".split()
)
