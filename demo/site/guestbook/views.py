import os

from celery.result import AsyncResult
from django.http import HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from .models import Entry
from .tasks import count_words

SHOWN = 10


@require_GET
def page(request):
    entries = list(Entry.objects.all()[:SHOWN])
    return render(
        request,
        "guestbook/page.html",
        {"entries": entries, "total": Entry.objects.count(), "worker": os.getpid()},
    )


@require_POST
def sign(request):
    name = request.POST.get("name", "").strip()[:40]
    text = request.POST.get("text", "").strip()[:200]
    if not name or not text:
        return HttpResponseBadRequest("name and text must not be empty\n")
    entry = Entry.objects.create(name=name, text=text)
    task = count_words.delay(entry.id)
    return redirect(reverse("entry", args=[entry.id]) + f"?task={task.id}")


@require_GET
def entry(request, entry_id):
    """The row as the database has it, and the task's result as Redis has it."""
    row = get_object_or_404(Entry, pk=entry_id)
    task = request.GET.get("task")
    return JsonResponse(
        {
            "id": row.id,
            "name": row.name,
            "text": row.text,
            "words": row.words,
            "counted_by": row.counted_by,
            "task_state": AsyncResult(task).state if task else None,
        }
    )


@require_GET
def health(request):
    """Fails if the database does."""
    return JsonResponse(
        {"ok": True, "entries": Entry.objects.count(), "worker": os.getpid(), "master": os.getppid()}
    )
