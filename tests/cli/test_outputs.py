"""Finding, naming and saving the files of an output."""

import json
from pathlib import Path

import pytest

from falrpc import v1
from falrpc_server.cli.outputs import FileReference, file_name, files_in, save_files

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def test_files_in_order() -> None:
    """Every object with a url and every data: URI is a file, each URL once; a plain link is none."""
    output = {
        "images": [
            {"url": "https://a/1.png", "file_name": "one.png"},
            {"url": PIXEL, "content_type": "image/png"},
        ],
        "same": {"url": "https://a/1.png"},
        "bare": PIXEL.replace("iVB", "AAA"),
        "video": {"url": "http://a/2.mp4", "file_name": None, "content_type": 7},
        "page": "https://fal.ai",
        "odd": {"url": 5, "other": {"url": "ftp://a/3"}},
        "seed": 15860307465884635512,
    }
    assert files_in(json.dumps(output)) == [
        FileReference("https://a/1.png", "one.png"),
        FileReference(PIXEL, content_type="image/png"),
        FileReference(PIXEL.replace("iVB", "AAA")),
        FileReference("http://a/2.mp4"),
    ]


@pytest.mark.parametrize("text", ["", "null", "5", '"text"', "[]", "not JSON"])
def test_no_files(text: str) -> None:
    """An output without files, of whatever form, has none."""
    assert files_in(text) == []


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        pytest.param(FileReference("https://a/b/c.png"), "c.png", id="from the URL"),
        pytest.param(FileReference("https://a/b/c.png?sig=1#f"), "c.png", id="without the query"),
        pytest.param(FileReference("https://a/c.png", "cat.png"), "cat.png", id="fal's name wins"),
        pytest.param(FileReference("https://a/%2e%2e%2fc%20d.png"), "c d.png", id="escaped"),
        pytest.param(FileReference("https://a/c.png", "../../etc/passwd"), "passwd", id="climbing name"),
        pytest.param(FileReference("https://a/c.png", "..\\..\\x.exe"), "x.exe", id="climbing in Windows"),
        pytest.param(FileReference("https://a/c.png", ".bashrc"), "bashrc", id="hidden file"),
        pytest.param(FileReference("https://a/c.png", "..", "image/png"), "output.png", id="only dots"),
        pytest.param(FileReference("https://a/c.png", "a\x1b[2J\n.png"), "a[2J.png", id="control characters"),
        pytest.param(
            FileReference("https://a/b", content_type="video/mp4"), "b.mp4", id="extension from type"
        ),
        pytest.param(FileReference("https://a"), "output", id="no name at all"),
        pytest.param(FileReference(PIXEL), "output.png", id="data URI"),
        pytest.param(FileReference("https://a/" + "n" * 500 + ".png"), "n" * 56 + ".png", id="long name"),
    ],
)
def test_file_name(reference: FileReference, name: str) -> None:
    """A file's name is sensible, short, and can't leave the directory or steer a terminal."""
    assert file_name(reference) == name


def test_names_are_unique(tmp_path: Path) -> None:
    """Files of one name get numbers, and a file that was there before is not overwritten."""
    (tmp_path / "a.txt").write_text("mine")
    files = [{"url": f"data:text/plain,{n}", "file_name": "a.txt"} for n in range(2)]
    saved = save_files(v1.Output(json=json.dumps(files)), tmp_path)
    assert [path.name for path in saved.paths] == ["a-2.txt", "a-3.txt"]
    assert [path.read_text() for path in saved.paths] == ["0", "1"]
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_binary_output(tmp_path: Path) -> None:
    """An output that is no JSON is saved itself."""
    output = v1.Output(binary=v1.BinaryOutput(content_type="image/png", data=b"\x89PNG\0"))
    saved = save_files(output, tmp_path / "new" / "directory")
    assert [path.name for path in saved.paths] == ["output.png"]
    assert saved.paths[0].read_bytes() == b"\x89PNG\0"


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    """A file that can't be had is named, leaves nothing behind, and the others are saved."""
    files = [
        {"url": "http://127.0.0.1:1/a.png"},
        {"url": "data:;base64,!", "file_name": "b"},
        {"url": "data:,c"},
    ]
    saved = save_files(v1.Output(json=json.dumps(files)), tmp_path)
    assert [path.read_text() for path in saved.paths] == ["c"]
    assert len(saved.problems) == 2
    assert "http://127.0.0.1:1/a.png" in saved.problems[0]
    assert list(tmp_path.iterdir()) == saved.paths


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    """A directory that can't be made is a problem in words, not a traceback."""
    (tmp_path / "file").write_text("")
    saved = save_files(v1.Output(json=json.dumps({"url": "data:,c"})), tmp_path / "file" / "x")
    assert not saved.paths
    assert len(saved.problems) == 1
