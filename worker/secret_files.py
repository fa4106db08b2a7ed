"""Reads secrets from files: `NAME_FILE` names one file, and FAKESWEEP_SECRETS_DIR a folder with a file for each name.

A secret is a setting of the type SecretStr. If several places have it, NAME or NAME_FILE wins over the folder. It is an
error to set both NAME and NAME_FILE. The content of a file never appears in an error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from worker.errors import ConfigurationError
from worker.named_files import expanded, unreadable

SECRETS_DIR = "FAKESWEEP_SECRETS_DIR"
MAX_BYTES = 2**16
"""The longest file that is read. A larger one is not a secret: somebody named the wrong file."""


def read_secret(name: str, environment: Mapping[str, str]) -> str | None:
    """Returns the secret that the variable `name`, a file or the folder gives, or None if there is none.

    An empty variable counts as not set. Raises ConfigurationError when NAME and NAME_FILE are both set, and when the
    file or the folder cannot be read.
    """
    direct, file = environment.get(name), environment.get(f"{name}_FILE")
    if direct and file:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: remove one of them")
    if direct:
        return direct
    if file:
        return _content(Path(file), f"{name}_FILE")
    folder = environment.get(SECRETS_DIR)
    return _in_folder(expanded(SECRETS_DIR, Path(folder)), name) if folder else None


def variable_of(settings: type[BaseSettings], field_name: str) -> str:
    """Returns the environment variable of a field."""
    alias = settings.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{field_name}".upper()


def secret_fields(settings: type[BaseSettings]) -> dict[str, str]:
    """Returns the environment variable of each field that is a secret, by the field's name."""
    fields = settings.model_fields
    return {name: variable_of(settings, name) for name in fields if fields[name].annotation is SecretStr}


class SecretFiles(PydanticBaseSettingsSource):
    """Gives pydantic-settings the secrets that are in files. `variables` is the source that has the environment.

    It raises ConfigurationError like read_secret().
    """

    def __init__(self, settings: type[BaseSettings], variables: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        # The other source makes all names lower case.
        given = variables.env_vars if isinstance(variables, EnvSettingsSource) else {}
        self._environment = {name.upper(): value for name, value in given.items() if value is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Returns the secret, the name under which the settings take it, and False: it is not JSON."""
        secret = read_secret(variable_of(self.settings_cls, field_name), self._environment)
        return secret, field.validation_alias if isinstance(field.validation_alias, str) else field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns all secrets that are set."""
        fields = self.settings_cls.model_fields
        found = [self.get_field_value(fields[name], name) for name in secret_fields(self.settings_cls)]
        return {key: value for value, key, _ in found if value is not None}


def _in_folder(folder: Path, name: str) -> str | None:
    try:
        if not folder.is_dir():
            raise ConfigurationError(f"{SECRETS_DIR}: {folder} is not a folder: name the folder that holds the secrets")
        (folder / name).lstat()  # a link to nowhere is an error, and not a secret that is not set
        there = True
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise unreadable(SECRETS_DIR, folder, error) from None
    return _content(folder / name, SECRETS_DIR) if there else None


def _content(path: Path, setting: str) -> str:
    try:
        with expanded(setting, path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")  # programs on Windows begin a file with a mark
    except OSError as error:
        raise unreadable(setting, path, error) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ConfigurationError(f"{setting}: {path} is not UTF-8 text: write the secret alone into it") from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{setting}: {path} has more than {MAX_BYTES} bytes: name a file with a secret in it")
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise ConfigurationError(f"{setting}: {path} is empty: write the secret into it")
    return secret
