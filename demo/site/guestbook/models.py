from django.db import models


class Entry(models.Model):
    """What a visitor wrote, and what a Celery worker added later."""

    name = models.CharField(max_length=40)
    text = models.CharField(max_length=200)
    written = models.DateTimeField(auto_now_add=True)
    words = models.PositiveIntegerField(null=True)
    counted_by = models.CharField(max_length=80, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"

    def __str__(self):
        return f"{self.name}: {self.text}"
