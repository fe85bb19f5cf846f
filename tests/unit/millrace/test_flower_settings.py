"""Flower's settings: nobody on the network gets in without a password, and the password is never repeated."""

import pytest

from millrace.settings import FlowerSettings, ServeSettings
from shared.model_config import ConfigurationError

SECRET = "ada:never-say-this"
each_command = pytest.mark.parametrize("settings", [FlowerSettings, ServeSettings])


def _set(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MILLRACE_FLOWER_{name}", value)


@each_command
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_the_machine_itself_no_password_is_needed(
    monkeypatch: pytest.MonkeyPatch, settings: type[FlowerSettings], host: str
) -> None:
    _set(monkeypatch, HOST=host)

    assert settings.load().flower_host == host


@each_command
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "box.internal", ""])
def test_where_others_can_ask_it_does_not_start_without_one(
    monkeypatch: pytest.MonkeyPatch, settings: type[FlowerSettings], host: str
) -> None:
    _set(monkeypatch, HOST=host)

    with pytest.raises(ConfigurationError) as refused:
        settings.load()

    assert str(refused.value).startswith("MILLRACE_FLOWER_PASSWORD: ")
    assert f"because MILLRACE_FLOWER_HOST={host} lets others than this machine in" in str(refused.value)


def test_where_flower_is_turned_off_its_address_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, HOST="0.0.0.0", PORT="0")

    assert ServeSettings.load().flower_port == 0


def test_with_a_password_it_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, HOST="0.0.0.0", PASSWORD=SECRET, URL_PREFIX="/flower/")
    settings = FlowerSettings.load()

    assert settings.flower_password.get_secret_value() == SECRET
    assert settings.flower_url_prefix == "flower"
    assert "never-say-this" not in repr(settings)


@pytest.mark.parametrize(
    "wrong", ["never-say-this", ":never-say-this", "never-say-this:", "a b:never-say-this", "ä:never-say-this"]
)
def test_what_is_no_user_and_password_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    _set(monkeypatch, PASSWORD=wrong)

    with pytest.raises(ConfigurationError, match="a user and a password with a colon between") as refused:
        FlowerSettings.load()

    assert "never-say-this" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_prefix_that_is_no_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, URL_PREFIX="a b")

    with pytest.raises(ConfigurationError, match="MILLRACE_FLOWER_URL_PREFIX"):
        FlowerSettings.load()
