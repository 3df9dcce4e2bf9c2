"""How files are named."""

from kconf.files import shown


def test_a_path_below_the_directory_is_shown_relative(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown(tmp_path / "here" / "a" / "b") == "a/b"
    assert shown(tmp_path / "hereafter") == str(tmp_path / "hereafter")
