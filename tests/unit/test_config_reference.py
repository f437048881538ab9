"""docs/configuration.md is what Settings say."""

from pathlib import Path

from falrpc_server.config import SECRETS, Settings, reference, variable

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    """The committed page is the generated one."""
    assert PAGE.read_text() == reference.render()


def test_every_setting_has_one_row() -> None:
    """Each setting has exactly one row, with its variable, default and sentence."""
    rows = [
        line for line in reference.render().splitlines() if line.count("|") == 4 and line.startswith("| `")
    ]
    assert [row.split("`")[1] for row in rows] == [variable(name) for name in Settings.model_fields]
    for row, field in zip(rows, Settings.model_fields.values(), strict=True):
        assert row.count("|") == 4
        assert (field.description or "") in row


def test_defaults_choices_and_files_are_told() -> None:
    """Defaults are shown as they are typed, choices are listed, and secrets say that a file will do."""
    rows = {
        line.split("`")[1]: line
        for line in reference.render().splitlines()
        if line.count("|") == 4 and line.startswith("| `")
    }
    assert "| `5` |" in rows["FALRPC_CONNECT_SECONDS"]
    assert "| `12582912` |" in rows["FALRPC_INPUT_BYTES_MAX"]
    assert "| `fal.media` |" in rows["FALRPC_UPLOAD_HOSTS"]
    assert "One of `debug`, `info`, `warning`, `error`." in rows["FALRPC_LOG_LEVEL"]
    for name in SECRETS:
        assert f"`{variable(name)}_FILE`" in rows[variable(name)]
        assert "`" not in rows[variable(name)].split("|")[2]
