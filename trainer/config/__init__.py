"""Read a run's options from `[train]` of a dsk.toml, or translate the files of other trainers."""

from trainer.config.formats import SUFFIXES as SUFFIXES
from trainer.config.formats import Format as Format
from trainer.config.formats import read_file as read_file
from trainer.config.project import data_folder as data_folder
from trainer.config.project import of_project as of_project
from trainer.config.project import outside_lines as outside_lines
from trainer.config.project import outside_notices as outside_notices
from trainer.config.project import setting as setting
from trainer.config.translate import DEFAULTS as DEFAULTS
from trainer.config.translate import TranslatedConfig as TranslatedConfig
from trainer.config.translate import named_folders as named_folders
from trainer.config.translate import translate as translate
