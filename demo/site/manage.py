"""Django's command line for the demo's site."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "origin_site.settings")
execute_from_command_line(sys.argv)
