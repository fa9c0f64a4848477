"""Read a run's options from `[train]` of a dsk.toml, or translate sd-scripts' config files."""

from trainer.config.keys import FIXED as FIXED
from trainer.config.keys import IGNORED as IGNORED
from trainer.config.keys import UNSUPPORTED as UNSUPPORTED
from trainer.config.project import data_folder as data_folder
from trainer.config.project import of_project as of_project
from trainer.config.project import outside_lines as outside_lines
from trainer.config.project import outside_notices as outside_notices
from trainer.config.project import setting as setting
from trainer.config.translate import DEFAULTS as DEFAULTS
from trainer.config.translate import TranslatedConfig as TranslatedConfig
from trainer.config.translate import named_folders as named_folders
from trainer.config.translate import translate as translate
