from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=40)),
                ("text", models.CharField(max_length=200)),
                ("written", models.DateTimeField(auto_now_add=True)),
                ("words", models.PositiveIntegerField(null=True)),
                ("counted_by", models.CharField(blank=True, max_length=80)),
            ],
            options={"ordering": ["-id"], "verbose_name_plural": "entries"},
        ),
    ]
