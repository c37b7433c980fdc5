from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.page, name="page"),
    path("sign", views.sign, name="sign"),
    path("entry/<int:entry_id>", views.entry, name="entry"),
    path("health", views.health, name="health"),
]
