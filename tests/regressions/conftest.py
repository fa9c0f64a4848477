"""The runner of commands, as the tests of the command line have it."""

from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
from tests.cli.conftest import toy_tagger as toy_tagger
