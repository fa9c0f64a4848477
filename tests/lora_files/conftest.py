"""The runner of commands, for the tests of `dsk lora`."""

from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
