"""Settings: defaults < file < environment < arguments, and where a wrong one came from."""

from orchestrator.settings.loading import load, nearly_settings
from orchestrator.settings.model import Log, Settings, SettingsArguments

__all__ = ["Log", "Settings", "SettingsArguments", "load", "nearly_settings"]
