"""Settings: typed, documented, and a bad value names its variable."""

from pathlib import Path

import pytest

from api.settings import ApiSettings
from shared.model_config import DEFAULT_MODEL, ConfigurationError
from shared.settings import PREFIX, Settings, load_or_exit
from workers.settings import WorkerSettings

ALL = [Settings, ApiSettings, WorkerSettings]
each_service = pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings.__name__)


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@each_service
def test_every_service_starts_without_any_variable(settings: type[Settings]) -> None:
    assert settings.load().models() == [DEFAULT_MODEL]


@each_service
def test_every_setting_is_documented_in_one_sentence(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert "\n" not in field.description, name


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        (Settings, "RESULT_TTL_S", "soon"),
        (Settings, "RESULT_TTL_S", "1"),
        (Settings, "DRAIN_S", "-1"),
        (Settings, "LOG_LEVEL", "loud"),
        (ApiSettings, "PORT", "99999"),
        (ApiSettings, "REQUEST_TIMEOUT_S", "0"),
        (ApiSettings, "ACCESS_LOG", "perhaps"),
        (WorkerSettings, "DTYPE", "float12"),
        (WorkerSettings, "BATCHES_IN_FLIGHT", "65"),
        (WorkerSettings, "THREADS", "all"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, settings: type[Settings], variable: str, value: str
) -> None:
    # Given
    monkeypatch.setenv(PREFIX + variable, value)

    # When
    with pytest.raises(ConfigurationError) as raised:
        settings.load()

    # Then
    message = str(raised.value)
    assert message.startswith(f"MILLRACE_{variable}: ")
    assert repr(value) in message
    assert "\n" not in message


def test_the_redis_address_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an address with a password
    monkeypatch.setenv("MILLRACE_REDIS_URL", "redis://:hunter2@redis:6379/0")

    # When
    settings = Settings.load()

    # Then
    assert "hunter2" not in repr(settings)
    assert settings.redis_url.get_secret_value() == "redis://:hunter2@redis:6379/0"


def test_variables_of_other_services_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PORT", "1234")

    assert WorkerSettings.load().model == ""


def test_an_entry_point_ends_with_one_sentence_when_a_value_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PORT", "none")

    with pytest.raises(SystemExit, match=r"^millrace: MILLRACE_PORT: "):
        load_or_exit(ApiSettings)


def test_an_entry_point_ends_with_one_sentence_when_the_models_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_MODELS_FILE", "/nowhere/models.yaml")

    with pytest.raises(SystemExit, match=r"^millrace: MILLRACE_MODELS_FILE names /nowhere/models.yaml"):
        load_or_exit(WorkerSettings)


def test_a_wrong_redis_address_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_REDIS_URL", "sentinel://:hunter2@redis:26379/0")

    with pytest.raises(ConfigurationError, match=r"MILLRACE_REDIS_URL: .*name of the primary") as raised:
        Settings.load()

    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_worker_may_serve_some_of_the_models_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_MODEL", "org/a,org/b,org/c")
    monkeypatch.setenv("MILLRACE_ONLY_MODELS", "org/c, org/a")

    assert [model.name for model in WorkerSettings.load().models()] == ["org/a", "org/c"]


def test_a_worker_that_is_to_serve_an_unknown_model_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_MODEL", "org/a,org/b")
    monkeypatch.setenv("MILLRACE_ONLY_MODELS", "org/a,nobody")

    with pytest.raises(SystemExit, match=r"^millrace: MILLRACE_ONLY_MODELS names nobody, .* models: org/a, org/b$"):
        load_or_exit(WorkerSettings)
