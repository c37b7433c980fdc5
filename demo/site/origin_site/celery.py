"""The site's Celery: Redis carries the tasks and their results."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "origin_site.settings")
app = Celery("origin_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
