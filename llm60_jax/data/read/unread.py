"""The kinds of files that are not read, and how to convert them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

# What to do: extensions. A file of these kinds is read after all if its content shows another kind:
# many a .doc is RTF or a web page.
_DOCUMENTS = {
    "save as .docx": ".doc .dot .wps .wri .sxw .hwp .lwp .sdw",
    "export as .docx in Pages": ".pages",
    "save as .docx in LibreOffice": ".wpd .wp .wp5 .cwk .abw",
    "export the pages as .docx in OneNote": ".one .onetoc2 .onepkg",
    "convert to .epub with Calibre": ".mobi .azw .azw3 .azw4 .kfx .prc .lit .pdb .chm .lrf",
    "convert to .pdf": ".djvu .djv .ps .eps .xps .oxps .dvi",
    "export as .docx or .rtf": ".scriv .ulysses .fdx .fadein .celtx .papers",
    "export the messages as .mbox or .eml": ".pst .ost .msg .olm .dbx .nsf",
    "export as .enex, .html or .md": ".note .notes .nb .jex .textbundle .textpack .bear2bk .goodnotes .notability",
    "open in a browser and save as .html": ".mht .mhtml .webarchive .maff .warc",
    "save as .pdf if they hold prose": ".ppt .pptx .pps .ppsx .odp .key",
}
# These never hold prose that is read, whatever their content.
_DATA = {
    "a table: put its prose into .jsonl, one text a line": ".csv .tsv .tab .xls .xlsx .xlsm .ods .numbers .dbf .sav",
    "subtitles, which are not prose": ".srt .vtt .sub .ssa .ass .sbv .ttml .lrc",
    "a database: export its texts": ".sqlite .sqlite3 .db .mdb .accdb .realm .sql",
    "unpack it": ".zip .tar .tgz .gz .bz2 .xz .zst .7z .rar .lz .lz4 .cab .iso .dmg .jar",
    "an image: run OCR if it shows a page": (
        ".png .jpg .jpeg .gif .bmp .tif .tiff .webp .heic .heif .svg .ico .psd .ai .raw .cr2 .nef .avif .jp2 .xcf"
    ),
    "sound or film: transcribe it": (
        ".mp3 .m4a .wav .flac .ogg .oga .opus .aac .wma .aiff .amr .mp4 .m4v .mov .avi .mkv .webm .wmv .mpg .mpeg .3gp"
    ),
    "a program or its settings": (
        ".js .mjs .cjs .ts .tsx .jsx .css .scss .sass .less .c .h .cc .cpp .hpp .cs .java .kt .swift .go .rs "
        ".rb .php .pl "
        ".lua .r .m .mm .scala .hs .ml .el .lisp .clj .sh .bash .zsh .fish .bat .cmd .ps1 .vbs .vb .asm .s "
        ".f90 .f .pas "
        ".yaml .yml .toml .ini .cfg .conf .properties .env .plist .lock .map .json5 .proto .graphql .wasm .o "
        ".a .so .dll "
        ".dylib .exe .bin .dat .pyc .class .pyd .whl .vue .svelte .xsl .xslt .xsd .dtd .url "
        ".webloc .desktop .lnk"
    ),
    "written by TeX or for it, with no prose": ".aux .bbl .bib .blg .bst .cls .sty .toc .lof .lot .idx .ind .fls",
    "a list of addresses, dates or keys": ".vcf .ics .ical .ldif .pem .crt .sig .gpg .pgp .kdbx",
    "a copy that an editor or a mail program keeps": ".bak .tmp .temp .swp .swo .orig .old .part .crdownload .msf ~",
    "a font": ".ttf .otf .woff .woff2 .eot .pfb",
    "data for a model": ".npy .npz .pt .pth .safetensors .ckpt .onnx .h5 .pkl .pickle .arrow .feather .avro .orc",
}
CONVERTED = frozenset(end for ends in _DOCUMENTS.values() for end in ends.split())
PASSED_OVER = frozenset(end for ends in _DATA.values() for end in ends.split())
_ADVICE = {end: advice for table in (_DOCUMENTS, _DATA) for advice, ends in table.items() for end in ends.split()}
_UNKNOWN = "not text: convert to .docx, .pdf or .txt"


def is_passed_over(name: str) -> bool:
    """Whether a file's name says that it never holds prose."""
    return _extension(name) in PASSED_OVER or name.endswith("~") or name.startswith("#")


def is_lock(name: str) -> bool:
    """Whether a file only says that an office program has a document open, as `~$essay.docx`."""
    return name.startswith("~$")


def advice(names: Iterable[str]) -> list[str]:
    """Return a line for each kind of these files, the most frequent first: count, kind, what to do.

    Kinds with the same advice share a line.
    """
    counts = Counter(_extension(name) for name in names)
    lines: dict[str, list[str]] = {}
    for end, count in counts.most_common():
        lines.setdefault(_ADVICE.get(end, _UNKNOWN), []).append(f"{count:,} {end or 'without extension'}")
    return [f"{', '.join(found)}: {what}" for what, found in lines.items()]


def _extension(name: str) -> str:
    return "~" if name.endswith("~") else PurePosixPath(name.lower()).suffix
