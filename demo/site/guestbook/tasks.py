import os

from celery import shared_task

from .models import Entry


@shared_task
def count_words(entry_id):
    """Counts an entry's words and writes the count into its row."""
    entry = Entry.objects.get(pk=entry_id)
    entry.words = len(entry.text.split())
    entry.counted_by = f"celery process {os.getpid()}"
    entry.save(update_fields=["words", "counted_by"])
    return entry.words
