"""Which addresses are asked for D4RL's files, and in which order."""

import pytest

from erdp_core.data.download import HUGGING_FACE, OFFICIAL, Downloader, find_mirrors
from erdp_core.errors import UserError


def test_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERDP_D4RL_MIRRORS", raising=False)
    assert find_mirrors() == (OFFICIAL, HUGGING_FACE)
    monkeypatch.setenv("ERDP_D4RL_MIRRORS", f" http://a.example/x,https://b.example\n{OFFICIAL.rstrip('/')} ")
    assert find_mirrors() == ("http://a.example/x/", "https://b.example/", OFFICIAL, HUGGING_FACE)
    first = find_mirrors(["https://c.example/d", "http://a.example/x/"])
    assert first == ("https://c.example/d/", "http://a.example/x/", "https://b.example/", OFFICIAL, HUGGING_FACE)
    wrongs = ("ftp://a.example/", "a.example/x", "/data", "http://", "http://a:b/", "http://a@c/", "file:///data")
    for wrong in (*wrongs, "http://a.example/?x", "http://a.example/#x", ""):
        with pytest.raises(UserError, match="is no http or https address of a folder") as raised:
            Downloader([wrong])
        assert repr(wrong) in str(raised.value)
